"""Generation: many conversations at once, each with a cache that lives as long as it does.

Callers see ``curricle.agents.generator.Generator``; this package makes one from parameters.
"""

from curricle.engine.generation.answers import greedy_answers
from curricle.engine.generation.opening import decoder_of, generator_of, open_generator

__all__ = ["decoder_of", "generator_of", "greedy_answers", "open_generator"]
