"""Messages, tools, trajectories, and the loop between a generator and a workspace."""
