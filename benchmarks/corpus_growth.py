"""Does building a corpus cost ten times the time, and no more memory, for ten times the text?

Writes a synthetic folder of about 3 MB and one of ten times that, builds each corpus (ingest,
clean, tokenizer, pack) in a process of its own with default parameters, and compares. Usage:

    python benchmarks/corpus_growth.py [--megabytes 3]

Time is compared per byte; memory is the peak resident size of the process, interpreter and
libraries included. Exit status 1 when either ratio is above its goal.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GOAL = 1.25
GROWTH = 10
FILE_LINES = 120


def write_corpus(folder: Path, size: int) -> None:
    """Write files of random code and prose, and rows of JSONL, until `size` bytes are there.

    The vocabulary of words grows with the corpus, as that of real text does.
    """
    generator = random.Random(7)
    letters = "etaoinshrdlucmfwypvbgk"

    def word() -> str:
        # A Pareto rank: few words are everywhere, and there is always a new one.
        rank = int(generator.paretovariate(0.8)) + 20
        name = ""
        while rank:
            rank, letter = divmod(rank, len(letters))
            name += letters[letter]
        return name

    def code() -> str:
        lines = [f"def {word()}_{word()}({word()}, {word()}):"]
        while len(lines) < FILE_LINES:
            indent = "    " * generator.randint(1, 3)
            lines.append(f"{indent}{word()} = {word()}({word()}, {word()}[{word()}])  # {word()}")
        return "\n".join(lines) + "\n"

    def prose() -> str:
        return ".\n".join(
            " ".join(word() for _ in range(generator.randint(6, 14))) for _ in range(FILE_LINES)
        )

    written = number = 0
    while written < size:
        folder.joinpath(f"part{number % 50}").mkdir(parents=True, exist_ok=True)
        place = folder / f"part{number % 50}"
        texts = [code() for _ in range(4)], [prose() for _ in range(2)]
        for index, text in enumerate(texts[0]):
            place.joinpath(f"file{number}_{index}.py").write_text(text)
        for index, text in enumerate(texts[1]):
            place.joinpath(f"page{number}_{index}.md").write_text(text)
        rows = "".join(json.dumps({"text": prose()}) + "\n" for _ in range(4))
        place.joinpath(f"rows{number}.jsonl").write_text(rows)
        written += sum(len(text) for group in texts for text in group) + len(rows)
        number += 1


def build(corpus: Path, work: Path) -> dict[str, float]:
    """Build the corpus in this process; return seconds and peak memory in MB."""
    from curricle.config.corpus import (
        CleanParameters,
        IngestParameters,
        PackParameters,
        TokenizerParameters,
    )
    from curricle.pipelines.corpus.cleaning import clean
    from curricle.pipelines.corpus.packing import pack
    from curricle.pipelines.corpus.sources import ingest
    from curricle.pipelines.corpus.tokenizer import train_tokenizer

    stages = [{"seq_length": length, "share": share} for length, share in ((128, 0.5), (512, 0.5))]
    raw, cleaned, tokenizer, packed = (work / name for name in ("raw", "clean", "tok", "pack"))
    for folder in (raw, cleaned, tokenizer, packed):
        folder.mkdir(parents=True)
    sources = [{"kind": "folder", "path": str(corpus)}]
    steps = {
        "ingest": lambda: ingest(raw, IngestParameters.model_validate({"sources": sources})),
        "clean": lambda: clean(cleaned, raw, CleanParameters()),
        "tokenizer": lambda: train_tokenizer(
            tokenizer, cleaned, TokenizerParameters(vocab_size=4096)
        ),
        "pack": lambda: pack(
            packed, cleaned, tokenizer, PackParameters.model_validate({"curriculum": stages})
        ),
    }
    result: dict[str, float] = {}
    begun = time.perf_counter()
    for name, step in steps.items():
        step_begun = time.perf_counter()
        step()
        result[f"{name}_s"] = time.perf_counter() - step_begun
        result[f"{name}_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result["seconds"] = time.perf_counter() - begun
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def measure(corpus: Path, work: Path) -> dict[str, float]:
    """Build in a child process, so that neither time nor memory is shared."""
    command = [sys.executable, __file__, "--build", str(corpus), "--work", str(work)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> int:
    """Run the comparison; 0 when both ratios reach the goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=3.0)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        print(json.dumps(build(arguments.build, arguments.work)))
        return 0
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for growth in (1, GROWTH):
            corpus = Path(folder) / f"corpus{growth}"
            write_corpus(corpus, int(arguments.megabytes * growth * 1e6))
            results.append(measure(corpus, Path(folder) / f"work{growth}"))
            numbers = " ".join(f"{key}={value:.1f}" for key, value in results[-1].items())
            print(f"{arguments.megabytes * growth:g} MB: {numbers}", flush=True)
    small, large = results
    time_ratio = large["seconds"] / (GROWTH * small["seconds"])
    memory_ratio = large["peak_mb"] / small["peak_mb"]
    print(f"corpus_growth_time ratio={time_ratio:.2f} goal={GOAL}")
    print(f"corpus_growth_memory ratio={memory_ratio:.2f} goal={GOAL}")
    return int(max(time_ratio, memory_ratio) > GOAL)


if __name__ == "__main__":
    sys.exit(main())
