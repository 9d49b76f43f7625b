import random
from pathlib import Path

import pytest
from corpus_files import document, sentence, write_jsonl


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    return folder


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A folder as `ingest` and `clean` write it: 60 documents of prose, 6 held out."""
    generator = random.Random(0)
    folder = tmp_path / "documents"
    for side, count in (("train", 60), ("heldout", 6)):
        texts = [sentence(generator, generator.randrange(30, 400)) for _ in range(count)]
        rows = [document(f"{side}{number}", text) for number, text in enumerate(texts)]
        write_jsonl(folder / f"{side}.jsonl", rows)
    return folder
