"""Evaluation on a language's held-out bug tasks, beside what needs no model."""
