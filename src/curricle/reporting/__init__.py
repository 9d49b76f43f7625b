"""What the stages show: their state, curves, tables and the curriculum report."""
