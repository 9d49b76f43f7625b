"""Runs a job: in this process, or in a child that dies with us."""
