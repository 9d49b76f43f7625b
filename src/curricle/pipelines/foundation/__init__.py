"""The foundation: the model that the agent curricula start from."""
