"""Runs of equal characters."""


def encode_runs(text: str) -> list[tuple[str, int]]:
    """Each run of equal characters, with its length."""
    runs: list[tuple[str, int]] = []
    for letter in text:
        if runs and runs[-1][0] == letter:
            runs[-1] = (letter, runs[-1][1] + 1)
        else:
            runs.append((letter, 1))
    return runs


def decode_runs(runs: list[tuple[str, int]]) -> str:
    """The text of some runs."""
    return "".join(letter * count for letter, count in runs if count > 0)


def longest_run(text: str) -> tuple[str, int]:
    """The longest run; of several, the first. An empty text has the run `("", 0)`."""
    best = ("", 0)
    for letter, count in encode_runs(text):
        if count > best[1]:
            best = (letter, count)
    return best
