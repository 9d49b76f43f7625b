import ast
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from curricle.config.chat import ChatParameters, PairParameters
from curricle.errors import DataError
from curricle.pipelines.dpo.external import read_pairs
from curricle.pipelines.dpo.pairs import build_pairs
from curricle.pipelines.sft.chat import build_chat
from curricle.pipelines.sft.requests import is_answer, is_refusal

FILES = ("train.jsonl", "heldout.jsonl", "requests_heldout.jsonl")
PAIR = {"prompt": "How?", "chosen": "So.", "rejected": "Not so."}


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def chat(tmp_path: Path, documents: Path) -> Path:
    folder = tmp_path / "chat"
    folder.mkdir()
    build_chat(folder, documents, ChatParameters(refusal_share=0.5))
    return folder


class Pairs:
    """Pairs that were built, with their report."""

    def __init__(self, folder: Path, documents: Path, chat: Path, **parameters: Any) -> None:
        folder.mkdir()
        self.folder = folder
        self.report = build_pairs(folder, documents, chat, PairParameters(**parameters))
        self.train, self.heldout = (read(folder / name) for name in FILES[:2])

    @property
    def of_functions(self) -> list[dict[str, Any]]:
        return [p for p in self.train if not p["source"].startswith("requests.yml:")]

    @property
    def of_requests(self) -> list[dict[str, Any]]:
        return [p for p in self.train if p["source"].startswith("requests.yml:")]


@pytest.fixture
def pairs(tmp_path: Path, documents: Path, chat: Path) -> Pairs:
    return Pairs(tmp_path / "pairs", documents, chat)


def said(pair: dict[str, Any], column: str) -> str:
    (message,) = pair[column]
    return str(message["content"])


def test_the_real_function_stands_before_another_that_compiles(pairs: Pairs) -> None:
    assert pairs.of_functions
    for pair in pairs.of_functions + pairs.heldout:
        chosen, rejected = said(pair, "chosen"), said(pair, "rejected")
        compile(rejected, "rejected", "exec")
        assert ast.dump(ast.parse(chosen)) != ast.dump(ast.parse(rejected))


def test_both_answers_keep_the_signature_that_the_prompt_shows(pairs: Pairs) -> None:
    for pair in pairs.of_functions:
        signature = said(pair, "prompt").splitlines()[1]
        assert {said(pair, name).splitlines()[0] for name in ("chosen", "rejected")} == {signature}


def test_messages_have_the_roles_of_a_conversation(pairs: Pairs) -> None:
    for pair in pairs.train + pairs.heldout:
        roles = [[message["role"] for message in pair[name]] for name in PAIR]
        assert roles == [["user"], ["assistant"], ["assistant"]]


def test_no_operator_makes_more_than_a_fifth(pairs: Pairs) -> None:
    counts = Counter(pair["operator"] for pair in pairs.of_functions)
    assert len(counts) >= 5
    assert max(counts.values()) <= 0.2 * len(pairs.of_functions)
    assert pairs.report["largest_operator_share"]["train"] <= 0.2


def test_heldout_pairs_are_of_heldout_files_alone(pairs: Pairs) -> None:
    assert {pair["source"].startswith("package/heldout") for pair in pairs.heldout} == {True}
    assert {pair["source"].startswith("package/train") for pair in pairs.of_functions} == {True}
    chosen = [{said(p, "chosen") for p in side} for side in (pairs.train, pairs.heldout)]
    assert not chosen[0] & chosen[1]


def test_lengths_are_reported_so_that_a_shortcut_shows(pairs: Pairs) -> None:
    differences = [
        len(said(pair, "chosen")) - len(said(pair, "rejected")) for pair in pairs.heldout
    ]
    reported = pairs.report["length"]["heldout"]
    mean = sum(differences) / len(differences)
    assert reported["mean_chosen_minus_rejected_chars"] == pytest.approx(mean, abs=0.01)
    assert 0.2 < reported["prefer_the_longer_accuracy"] < 0.8


def test_unsafe_requests_prefer_refusal_and_safe_ones_prefer_the_answer(pairs: Pairs) -> None:
    requests = pairs.of_requests
    assert len(requests) == pytest.approx(len(pairs.train) / 4, abs=2)
    for pair in requests:
        refusal, answer = said(pair, "chosen"), said(pair, "rejected")
        if pair["operator"] == "refusal":
            refusal, answer = answer, refusal
        assert is_refusal(refusal) and is_answer(answer)
    assert len({pair["operator"] for pair in requests}) == 2


def test_heldout_requests_are_passed_on_and_never_trained(pairs: Pairs, chat: Path) -> None:
    passed = (pairs.folder / FILES[2]).read_bytes()
    assert passed == (chat / FILES[2]).read_bytes()
    prompts = {json.loads(line)["prompt"] for line in passed.splitlines()}
    assert not prompts & {said(pair, "prompt") for pair in pairs.train}


def test_a_second_build_is_byte_identical(
    tmp_path: Path, documents: Path, chat: Path, pairs: Pairs
) -> None:
    second = Pairs(tmp_path / "second", documents, chat)
    for name in FILES:
        assert (pairs.folder / name).read_bytes() == (second.folder / name).read_bytes()
    assert second.report == pairs.report


def test_the_number_of_pairs_is_bounded(tmp_path: Path, documents: Path, chat: Path) -> None:
    few = Pairs(tmp_path / "few", documents, chat, max_train_pairs=6, refusal_share=0)
    assert 0 < len(few.train) <= 6


def test_pairs_of_your_own_may_be_text_or_messages(
    tmp_path: Path, documents: Path, chat: Path
) -> None:
    texts = [{**PAIR, "prompt": f"Question {n}?"} for n in range(40)]
    messages = {
        "prompt": [{"role": "system", "content": "Be."}, {"role": "user", "content": "How?"}],
        "chosen": [{"role": "assistant", "content": "So."}],
        "rejected": [{"role": "assistant", "content": "Not so."}],
    }
    path = write(tmp_path / "own.jsonl", [messages, *texts])
    own = Pairs(tmp_path / "own", documents, chat, dataset=str(path), heldout_share=0.3)
    assert len(own.of_functions) + len(own.heldout) == 41
    assert next(iter(read_pairs(path))) == messages
    assert {pair["operator"] for pair in own.heldout} == {"external"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**PAIR, "rejected": "So."}, "row 2: chosen and rejected are identical"),
        (
            {**PAIR, "rejected": [{"role": "assistant", "content": "So."}]},
            "row 2: chosen and rejected are identical",
        ),
        ({"prompt": "How?", "chosen": "So."}, "row 2: no `rejected`"),
        ({"chosen": "So.", "rejected": "No."}, "row 2: no `prompt`"),
        ({**PAIR, "prompt": None, "chosen": None}, "row 2: no `prompt` and no `chosen`"),
        ({**PAIR, "prompt": []}, "row 2, prompt: no messages"),
        ({**PAIR, "chosen": 3}, "row 2, chosen: no messages"),
        (
            {**PAIR, "chosen": [{"role": "user", "content": "So."}]},
            "row 2, chosen, message 1: role 'user' after user",
        ),
        (
            {**PAIR, "prompt": [{"role": "user", "content": "How?"},
                                {"role": "assistant", "content": "So."}]},
            "row 2, prompt: ends with assistant's turn",
        ),
    ],
)  # fmt: skip
def test_a_bad_pair_is_named_with_its_fault(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "own.jsonl", [PAIR, row])
    with pytest.raises(DataError, match=rf"own\.jsonl: {message}"):
        list(read_pairs(path))


def test_chat_data_without_heldout_requests_is_refused(
    tmp_path: Path, documents: Path, chat: Path
) -> None:
    (chat / FILES[2]).unlink()
    with pytest.raises(DataError, match=r"requests_heldout\.jsonl: no such file"):
        Pairs(tmp_path / "pairs", documents, chat)


def test_a_request_that_is_no_longer_authored_is_refused(
    tmp_path: Path, documents: Path, chat: Path
) -> None:
    write(chat / "train.jsonl", [{"source": "requests.yml:unsafe/gone/photos/0"}])
    with pytest.raises(DataError, match=r"row 1: .* is no request any more"):
        Pairs(tmp_path / "pairs", documents, chat)
