"""Word n-grams as 64-bit hashes, a whole document at a time.

Near-duplicates and decontamination both ask "which runs of n words are here?". Joining and hashing
every run in Python takes most of a cleaning run; hashing each word once and combining the hashes
with numpy takes a tenth of that.
"""

import re

import numpy as np
import numpy.typing as npt

UInt64s = npt.NDArray[np.uint64]

_WORD = re.compile(r"\w+")
_DIGITS = re.compile(r"\d+")
# Odd, so that multiplying modulo 2**64 loses nothing; the constants are splitmix64's.
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def words(text: str) -> list[str]:
    """The words of `text` for comparison: lower case, without punctuation, all numbers alike."""
    return _WORD.findall(_DIGITS.sub("0", text.lower()))


def ngram_hashes(text: str, n: int) -> UInt64s:
    """Hash every run of `n` words in `text`.

    Args:
        text: a document.
        n: words in a run. A shorter document is one run of all its words.

    Returns:
        Hashes in the order of the text, shape (words - n + 1,) or (1,), (0,) without words.
    """
    import xxhash

    digest = xxhash.xxh3_64_intdigest  # of bytes: xxhash 4 takes no text
    found = words(text)
    hashes = np.array([digest(word.encode()) for word in found], dtype=np.uint64)
    if not found:
        return hashes
    n = min(n, len(found))
    count = len(found) - n + 1
    mixed = np.zeros(count, dtype=np.uint64)
    for offset in range(n):
        mixed = mixed * _BASE + hashes[offset : offset + count]
    # Without this step, sums of words would be as regular as the words are.
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    return mixed ^ (mixed >> np.uint64(31))


class NgramIndex:
    """The n-grams of some documents, to ask how much of another document is among them.

    Sorted 64-bit hashes, 8 bytes each, looked up by bisection; which of them were ever marked is
    one byte each.
    """

    def __init__(self, hashes: UInt64s, n: int) -> None:
        self.n = n
        self.hashes = np.unique(hashes)
        self.marked = np.zeros(len(self.hashes), dtype=bool)

    def find(self, text: str) -> npt.NDArray[np.int64]:
        """Where the n-grams of `text` are in the index; -1 for those that are not."""
        hashes = ngram_hashes(text, self.n)
        if not len(self.hashes):
            return np.full(len(hashes), -1)
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[places] == hashes, places, -1)

    def share(self, places: npt.NDArray[np.int64]) -> float:
        """The share of a document's n-grams that are in the index, 0 to 1."""
        return float((places >= 0).mean()) if len(places) else 0.0

    def mark(self, places: npt.NDArray[np.int64]) -> None:
        """Remember that these n-grams were met again."""
        self.marked[places[places >= 0]] = True

    def marked_share(self, places: npt.NDArray[np.int64]) -> float:
        """The share of an indexed document's n-grams that were met again, 0 to 1."""
        return float(self.marked[places].mean()) if len(places) else 0.0
