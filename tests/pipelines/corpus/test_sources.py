import json
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus_files import contents, folder_source, read_jsonl, write_jsonl

from curricle.config.corpus import IngestParameters, SourceParameters
from curricle.errors import ConfigError, DataError
from curricle.pipelines.corpus.identity import source_identities
from curricle.pipelines.corpus.python_distribution import docstrings
from curricle.pipelines.corpus.sources import ingest


def parameters(*sources: SourceParameters, **more: object) -> IngestParameters:
    return IngestParameters.model_validate({"sources": sources, "heldout_share": 0.3, **more})


def both_sides(folder: Path) -> list[dict[str, str]]:
    return read_jsonl(folder / "train.jsonl") + read_jsonl(folder / "heldout.jsonl")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    for number in range(20):
        file = folder / f"package{number % 3}" / f"module{number}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"value = {number}\n")
    (folder / "README.md").write_text("# A project\n")
    return folder


def test_a_folder_becomes_documents_with_relative_paths_and_kinds(
    project: Path, output: Path
) -> None:
    report = ingest(output, parameters(folder_source(project)))
    rows = {row["path"]: row for row in both_sides(output)}
    assert len(rows) == 21
    assert rows["README.md"]["kind"] == "prose"
    assert rows["package0/module0.py"] == {
        "id": "project:package0/module0.py",
        "text": "value = 0\n",
        "kind": "code",
        "path": "package0/module0.py",
        "source": "project",
    }
    assert report["train"]["documents"] + report["heldout"]["documents"] == 21
    assert json.loads(json.dumps(report)) == report


def test_a_second_run_writes_the_same_bytes_over_leftovers(project: Path, output: Path) -> None:
    ingest(output, parameters(folder_source(project)))
    first = contents(output)
    (output / "train.jsonl").write_text("half a run")
    (output / "candidates.jsonl").write_text("half a run")
    ingest(output, parameters(folder_source(project)))
    assert contents(output) == first


def test_another_seed_holds_out_other_files(project: Path, output: Path) -> None:
    ingest(output, parameters(folder_source(project)))
    first = read_jsonl(output / "heldout.jsonl")
    ingest(output, parameters(folder_source(project), seed=1))
    assert read_jsonl(output / "heldout.jsonl") != first


def test_the_cap_on_held_out_documents_keeps_a_part_of_the_uncapped_side(
    project: Path, output: Path
) -> None:
    ingest(output, parameters(folder_source(project), heldout_share=0.6))
    uncapped = {row["id"] for row in read_jsonl(output / "heldout.jsonl")}
    ingest(output, parameters(folder_source(project), heldout_share=0.6, heldout_max_documents=3))
    capped = {row["id"] for row in read_jsonl(output / "heldout.jsonl")}
    assert len(capped) == 3
    assert capped < uncapped
    assert len(both_sides(output)) == 21


def test_caps_take_a_sample_of_files_and_are_never_exceeded(project: Path, output: Path) -> None:
    ingest(output, parameters(folder_source(project, max_documents=12), heldout_share=0.5))
    rows = both_sides(output)
    assert len(rows) == 12
    assert len({row["path"].split("/")[0] for row in rows}) > 1
    ingest(output, parameters(folder_source(project, max_bytes=95), heldout_share=0.5))
    assert 0 < sum(len(row["text"]) for row in both_sides(output)) <= 95


def test_jsonl_and_parquet_hold_one_document_a_row(tmp_path: Path, output: Path) -> None:
    folder = tmp_path / "tables"
    write_jsonl(folder / "a.jsonl", [{"body": f"line {number}"} for number in range(10)])
    table = pa.table({"body": [f"cell {number}" for number in range(600)], "other": [1] * 600})
    pq.write_table(table, folder / "b.parquet")
    ingest(output, parameters(folder_source(folder, text_field="body", row_kind="code")))
    rows = both_sides(output)
    assert sorted(row["text"] for row in rows) == sorted(
        [f"line {n}" for n in range(10)] + [f"cell {n}" for n in range(600)]
    )
    assert len({row["id"] for row in rows}) == 610
    assert {row["kind"] for row in rows} == {"code"}


def test_rows_of_one_group_stay_on_one_side(tmp_path: Path, output: Path) -> None:
    rows = [{"text": f"text {number}", "repo": f"repo{number % 7}"} for number in range(70)]
    write_jsonl(tmp_path / "tables" / "a.jsonl", rows)
    source = folder_source(tmp_path / "tables", group_field="repo")
    ingest(output, parameters(source, heldout_share=0.5, heldout_max_documents=30))
    sides = [
        {int(row["text"].split()[1]) % 7 for row in read_jsonl(output / f"{side}.jsonl")}
        for side in ("train", "heldout")
    ]
    assert sides[0] and sides[1] and not sides[0] & sides[1]


def test_a_dataset_saved_on_disk_is_read(tmp_path: Path, output: Path) -> None:
    rows = datasets.Dataset.from_dict({"text": [f"row {number}" for number in range(30)]})
    datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "saved")
    source = SourceParameters(kind="hub", path=str(tmp_path / "saved"))
    ingest(output, parameters(source))
    assert len(both_sides(output)) == 30
    wrong = source.model_copy(update={"text_field": "content"})
    with pytest.raises(DataError, match=r"no column 'content'; it has \['text'\]"):
        ingest(output, parameters(wrong))
    with pytest.raises(DataError, match=r"no split 'test'; it has \['train'\]"):
        ingest(output, parameters(source.model_copy(update={"split": "test"})))


def test_a_folder_of_parquet_is_streamed_as_a_dataset(tmp_path: Path, output: Path) -> None:
    (tmp_path / "hub").mkdir()
    table = pa.table({"text": [f"row {number}" for number in range(30)]})
    pq.write_table(table, tmp_path / "hub" / "train.parquet")
    ingest(output, parameters(SourceParameters(kind="hub", path=str(tmp_path / "hub"))))
    assert len(both_sides(output)) == 30


def test_a_dataset_on_a_hub_needs_a_revision() -> None:
    with pytest.raises(ConfigError, match="'someone/corpus' has no `revision`"):
        SourceParameters(kind="hub", path="someone/corpus")


def test_token_ids_are_no_text_to_ingest(tmp_path: Path, output: Path) -> None:
    source = SourceParameters(kind="hub", path=str(tmp_path), input_ids_field="input_ids")
    with pytest.raises(ConfigError, match="pack_input_ids"):
        ingest(output, parameters(source))


def test_the_python_distribution_has_code_docstrings_and_topics(output: Path) -> None:
    source = SourceParameters(kind="python_distribution", max_documents=250)
    ingest(output, parameters(source))
    rows = both_sides(output)
    assert {row["kind"] for row in rows} == {"code", "prose"}
    assert any(row["path"].startswith("pydoc_data/topics/") for row in rows)
    assert not any("/test/" in f"/{row['path']}" for row in rows)
    assert not any("site-packages" in row["path"] for row in rows)


def test_docstrings_are_on_the_side_of_their_source_file(output: Path) -> None:
    source = SourceParameters(kind="python_distribution", max_documents=250)
    ingest(output, parameters(source))
    sides = [
        {row["path"] for row in read_jsonl(output / f"{s}.jsonl")} for s in ("train", "heldout")
    ]
    assert not sides[0] & sides[1]
    assert any(row["id"].endswith("#docstrings") for row in read_jsonl(output / "heldout.jsonl"))


def test_docstrings_are_those_of_public_names() -> None:
    source = '"""A module."""\nclass A:\n    """A class."""\n    def f(self, x: int = 1):\n'
    source += '        """Do it."""\n    def _g(self):\n        """Hidden."""\n'
    assert docstrings(source, "pack/mod.py") == (
        "pack.mod\n\nA module.\n\npack.mod.A\n\nA class.\n\n"
        "pack.mod.A.f(self, x: int=1)\n\nDo it.\n"
    )
    assert docstrings(source, "pack/_private.py") == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.py", b"x = 1\n\0\0", r"a\.py: a binary file \(NUL at byte 6\)"),
        ("a.py", b"name = '\xe9'\n", r"a\.py: not UTF-8 \(byte 0xe9 at offset 8\)"),
        ("a.jsonl", b"", r"a\.jsonl: empty"),
        ("a.jsonl", b'{"text": "one"}\n{"text": \n', r"a\.jsonl: row 2 is no JSON"),
        ("a.jsonl", b'{"text": "one"}\n["two"]\n', r"a\.jsonl: row 2 is list, not a JSON object"),
        (
            "a.jsonl",
            b'{"text": "one"}\n{"body": "two"}\n',
            r"row 2 has no field 'text'; it has \['b",
        ),
        ("a.jsonl", b'{"text": "one"}\n{"text": 2}\n', r"row 2: field 'text' is int, not text"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', r"row 1: field 'text' holds half a surrogate pair"),
        ("a.jsonl", b'{"text": "one"}\n\xff\n', r"not UTF-8 \(byte 0xff at offset 16\)"),
        ("a.parquet", b"PAR", r"a\.parquet: no Parquet file"),
        ("a.log", b"text", r"no file matches"),
        ("a.py", b"  \n", r"files: no documents"),
    ],
)
def test_a_bad_file_is_named(
    tmp_path: Path, output: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        ingest(output, parameters(folder_source(tmp_path / "files")))


def test_a_parquet_file_without_the_column_is_named(tmp_path: Path, output: Path) -> None:
    (tmp_path / "files").mkdir()
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "files" / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: no column 'text'; it has \['body'\]"):
        ingest(output, parameters(folder_source(tmp_path / "files")))


def test_a_missing_folder_is_named(tmp_path: Path, output: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        ingest(output, parameters(folder_source(tmp_path / "nowhere")))


def test_empty_source_files_are_counted_not_refused(project: Path, output: Path) -> None:
    (project / "package0" / "__init__.py").write_text("")
    report = ingest(output, parameters(folder_source(project)))
    assert report["skipped"] == {"empty_files": 1}


def test_a_side_that_stays_empty_is_an_error(project: Path, output: Path) -> None:
    with pytest.raises(DataError, match=r"the heldout side is empty at heldout_share 1e-06"):
        ingest(output, parameters(folder_source(project), heldout_share=1e-6))


def test_the_identity_of_sources_changes_with_what_is_in_them(project: Path) -> None:
    wanted = parameters(
        folder_source(project),
        SourceParameters(kind="python_distribution"),
        SourceParameters(kind="hub", path="someone/corpus", revision="1234"),
    )
    first = source_identities(wanted)
    assert source_identities(wanted) == first
    assert first[2] == "someone/corpus@1234"
    (project / "ignored.log").write_text("not in the patterns")
    assert source_identities(wanted) == first
    (project / "README.md").write_text("# A Project\n")
    changed = source_identities(wanted)
    assert changed[0] != first[0]
    assert changed[1:] == first[1:]
