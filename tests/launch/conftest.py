"""Real jobs need a model and a corpus: the ones that the engine is tested with."""

from tests.engine.conftest import documents, initial, packed, tokenizer_folder

__all__ = ["documents", "initial", "packed", "tokenizer_folder"]
