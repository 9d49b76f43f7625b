import ast
import json
import textwrap
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from curricle.config.chat import ChatParameters
from curricle.errors import DataError
from curricle.pipelines.sft.chat import build_chat
from curricle.pipelines.sft.messages import read_messages
from curricle.pipelines.sft.requests import is_answer, is_refusal

FILES = ("train.jsonl", "heldout.jsonl", "requests_heldout.jsonl")
USER = {"role": "user", "content": "How?"}
ASSISTANT = {"role": "assistant", "content": "So."}


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def build(tmp_path: Path, documents: Path, name: str = "chat", **parameters: Any) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    report = build_chat(folder, documents, ChatParameters(**parameters))
    (tmp_path / f"{name}.json").write_text(json.dumps(report))
    return folder


def test_a_function_is_written_explained_and_completed(tmp_path: Path, documents: Path) -> None:
    rows = read(build(tmp_path, documents) / "train.jsonl")
    mine = [row for row in rows if row["source"] == "package/train3.py"]
    asked, answered = {}, {}
    for row in mine:
        user, assistant = (message["content"] for message in row["messages"])
        if "keep_train3" in user:
            asked[row["task"]], answered[row["task"]] = user, assistant
    signature = "def keep_train3(self, entry, place):"
    body = "    self.kept_train3[place] = entry\n    self.count += 1"
    documentation = "Keep one train3 entry where it belongs."
    assert asked["body"].splitlines()[1:] == [signature, f'    """{documentation}"""']
    assert answered["body"] == f"{signature}\n{body}"
    assert answered["explanation"] == documentation
    assert asked["explanation"].endswith(answered["body"])
    shown = asked["completion"].partition("\n")[2]
    assert f"{shown}\n{answered['completion']}" == answered["body"]


def test_written_functions_parse(tmp_path: Path, documents: Path) -> None:
    for row in read(build(tmp_path, documents) / "train.jsonl"):
        if row["task"] == "body":
            ast.parse(textwrap.dedent(row["messages"][-1]["content"]))


def test_no_file_and_no_function_is_in_both_splits(tmp_path: Path, documents: Path) -> None:
    folder = build(tmp_path, documents)
    train, heldout = (read(folder / name) for name in FILES[:2])
    assert not {row["source"] for row in train} & {row["source"] for row in heldout}
    texts = [
        {row["messages"][-1]["content"] for row in rows if row["task"] == "body"}
        for rows in (train, heldout)
    ]
    assert texts[1] and not texts[0] & texts[1]


def test_a_second_build_is_byte_identical(tmp_path: Path, documents: Path) -> None:
    first, second = (build(tmp_path, documents, name) for name in ("first", "second"))
    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    other = build(tmp_path, documents, "other", seed=1)
    assert (first / FILES[0]).read_bytes() != (other / FILES[0]).read_bytes()


def test_requests_make_up_their_share_and_half_of_them_are_refused(
    tmp_path: Path, documents: Path
) -> None:
    rows = read(build(tmp_path, documents, refusal_share=0.5) / "train.jsonl")
    refusals = [row for row in rows if row["task"] == "refusal"]
    safe = [row for row in rows if row["task"] == "safe_request"]
    assert len(refusals) == len(safe) == len(rows) / 4
    assert all(is_refusal(row["messages"][-1]["content"]) for row in refusals)
    assert all(is_answer(row["messages"][-1]["content"]) for row in safe)


def test_heldout_requests_are_never_asked_in_training(tmp_path: Path, documents: Path) -> None:
    folder = build(tmp_path, documents, refusal_share=0.9)
    asked = {row["messages"][0]["content"] for row in read(folder / "train.jsonl")}
    requests = read(folder / "requests_heldout.jsonl")
    assert {frozenset(row) for row in requests} == {frozenset({"prompt", "unsafe", "id"})}
    assert not asked & {row["prompt"] for row in requests}


def test_the_report_counts_what_was_written(tmp_path: Path, documents: Path) -> None:
    build(tmp_path, documents, max_train_examples=5, max_heldout_examples=2, refusal_share=0)
    report = json.loads((tmp_path / "chat.json").read_text())
    assert report["train"] == {"body": 5, "completion": 5, "explanation": 5}
    assert report["heldout"] == {"body": 2, "completion": 2, "explanation": 2}
    assert report["requests_heldout"] == {"safe": 78, "unsafe": 78}


def test_a_corpus_without_functions_is_refused_with_the_limits(tmp_path: Path) -> None:
    for split in ("train", "heldout"):
        write(tmp_path / f"{split}.jsonl", [{"id": "a", "text": "A.", "kind": "prose"}])
    with pytest.raises(DataError, match=r"train\.jsonl: no documented function of 2 to 12 lines"):
        build_chat(tmp_path, tmp_path, ChatParameters())


def test_a_mistyped_parameter_is_refused() -> None:
    with pytest.raises(ValidationError, match="refusal_shares"):
        ChatParameters(refusal_shares=0.1)  # type: ignore[call-arg]


def test_conversations_of_your_own_are_split_by_their_question(
    tmp_path: Path, documents: Path
) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"Question {n % 40}?"},
                      {"role": "assistant", "content": f"Answer {n}."}]}
        for n in range(80)
    ]  # fmt: skip
    path = write(tmp_path / "own.jsonl", [*rows, rows[0]])
    folder = build(tmp_path, documents, dataset=str(path), heldout_share=0.3)
    train, heldout = (read(folder / name) for name in FILES[:2])
    own = [row for row in train if row["task"] == "external"]
    assert len(own) + len(heldout) == 80
    questions = [{row["messages"][0]["content"] for row in rows} for rows in (own, heldout)]
    assert questions[1] and not questions[0] & questions[1]
    assert json.loads((tmp_path / "chat.json").read_text())["repeated_dropped"] == 1


def test_plain_text_stays_plain(tmp_path: Path, documents: Path) -> None:
    path = write(tmp_path / "own.jsonl", [{"text": f"{n} one two three"} for n in range(40)])
    folder = build(tmp_path, documents, dataset=str(path), heldout_share=0.3, refusal_share=0)
    rows = read(folder / "train.jsonl") + read(folder / "heldout.jsonl")
    assert sorted(row["text"] for row in rows) == sorted(f"{n} one two three" for n in range(40))
    assert {row["task"] for row in rows} == {"text"}


@pytest.mark.parametrize("kind", ["parquet", "folder", "saved", "saved_splits"])
def test_datasets_of_every_kind_are_read(tmp_path: Path, kind: str) -> None:
    datasets = pytest.importorskip("datasets")
    dataset = datasets.Dataset.from_list([{"messages": [USER, ASSISTANT]}] * 3)
    path = tmp_path / kind
    if kind == "parquet":
        path = path.with_suffix(".parquet")
        dataset.to_parquet(path)
    elif kind == "folder":
        path.mkdir()
        dataset.to_parquet(path / "part.parquet")
    elif kind == "saved":
        dataset.save_to_disk(path)
    else:
        datasets.DatasetDict({"train": dataset}).save_to_disk(path)
    assert [row["messages"] for row in read_messages(path)] == [[USER, ASSISTANT]] * 3


def test_a_system_turn_and_tool_turns_are_accepted_in_their_places(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "search"}]}
    tool = {"role": "tool", "content": "found"}
    messages = [{"role": "system", "content": "Be."}, USER, call, tool, tool, ASSISTANT]
    (row,) = read_messages(write(tmp_path / "rows.jsonl", [{"messages": messages}]))
    assert [turn["role"] for turn in row["messages"]] == [m["role"] for m in messages]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "How?"}, r"neither `messages` nor `text`; it has 'question'"),
        ({"text": " "}, "`text` is empty"),
        ({"messages": []}, "no messages"),
        ({"messages": [USER]}, "no assistant turn"),
        ({"messages": [ASSISTANT]}, "message 1: role 'assistant' at the start"),
        ({"messages": [USER, USER]}, "message 2: role 'user' after user, where 'assistant'"),
        ({"messages": [USER, ASSISTANT, USER]}, "the last turn is user's"),
        ({"messages": [USER, {"role": "tool", "content": "x"}]}, "role 'tool' after user"),
        ({"messages": [USER, {"role": "bot", "content": "x"}]}, "role 'bot' after user"),
        ({"messages": [USER, {**ASSISTANT, "content": ["x"]}]}, "content is list, not a string"),
        ({"messages": [USER, {**ASSISTANT, "content": None}]}, "content is NoneType"),
        ({"messages": ["How?"]}, "message 1: not an object"),
    ],
)
def test_a_bad_row_is_named_with_its_fault(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "rows.jsonl", [{"messages": [USER, ASSISTANT]}, row])
    with pytest.raises(DataError, match=rf"rows\.jsonl: row 2.*{message}"):
        list(read_messages(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.jsonl", "{'a': 1}\n", r"rows\.jsonl: row 1: not JSON"),
        ("rows.jsonl", "[1]\n", r"rows\.jsonl: row 1: a list, not a JSON object"),
        ("rows.csv", "a,b\n", r"rows\.csv: neither \.jsonl nor \.parquet"),
        ("rows.parquet", "a,b\n", r"rows\.parquet: not Parquet"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        list(read_messages(tmp_path / name))


def test_a_missing_or_empty_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such file"):
        list(read_messages(tmp_path / "gone"))
    with pytest.raises(DataError, match=r"no \.jsonl, no \.parquet and no saved dataset"):
        list(read_messages(tmp_path))
