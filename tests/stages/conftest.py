"""A stage needs a model and a corpus: the ones that the engine is tested with."""

from tests.engine.conftest import documents, packed, tokenizer_folder

__all__ = ["documents", "packed", "tokenizer_folder"]
