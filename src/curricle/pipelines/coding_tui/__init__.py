"""The coding agent that every language starts from: tools, repairs, preferences, rewards."""
