"""curricle: a gated curriculum for language models, as a Kedro project."""

__version__ = "0.1.0"
