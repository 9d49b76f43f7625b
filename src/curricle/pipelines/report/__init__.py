"""The curriculum report."""
