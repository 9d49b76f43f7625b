"""Runs what plugins declare: sandboxes, workspaces, executors, and the grader."""
