import json
from pathlib import Path

import pytest

CLASSES = '''\
def visible_{name}(entries, limit):
    """Return the {name} entries up to a limit."""
    found = [entry for entry in entries if not entry.hidden == "{name}"]
    if len(found) > limit:
        raise ValueError("{name}")
    return found[:limit]


class Keeper_{name}:
    def keep_{name}(self, entry, place):
        """Keep one {name} entry where it belongs."""
        self.kept_{name}[place] = entry
        self.count += 1

    def walk_{name}(self):
        """Yield every {name} entry that was kept."""
        for entry in self.kept_{name}:
            yield entry

    def ask_{name}(self, question, default=None):
        """Answer a question about the {name} entries."""
        if question in self.answers_{name} and not self.closed:
            return self.answers_{name}[question]
        return default
'''


def document(path: str, text: str, kind: str = "code") -> dict[str, str]:
    return {"id": path, "text": text, "kind": kind, "path": path, "source": "test"}


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """A corpus of twelve training files and four held-out ones, four functions in each."""
    folder = tmp_path / "documents"
    folder.mkdir()
    for split, count in (("train", 12), ("heldout", 4)):
        names = [f"{split}{number}" for number in range(count)]
        rows = [document(f"package/{name}.py", CLASSES.format(name=name)) for name in names]
        rows.append(document("notes.txt", "Prose.", "prose"))
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
