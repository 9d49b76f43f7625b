"""What a run needs, and what cannot end well: said before any node runs."""
