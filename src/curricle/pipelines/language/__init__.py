"""The curriculum of one language, from the coding agent on; the same for every language."""
