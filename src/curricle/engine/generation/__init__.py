"""Generation: many conversations at once, each with a cache that lives as long as it does."""

from curricle.engine.generation.answers import greedy_answers

__all__ = ["greedy_answers"]
