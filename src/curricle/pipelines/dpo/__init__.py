"""Preference optimisation: real functions beside mutants of them."""
