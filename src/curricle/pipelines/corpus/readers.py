"""Documents from files and datasets that users bring.

A file that cannot be what it claims is an error that names it: a corpus with a silent hole trains a
model with one. Reading is streamed: one text file, one JSONL line, one Parquet batch at a time.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curricle.config.corpus import SourceParameters
from curricle.errors import DataError
from curricle.pipelines.corpus.documents import Document, in_seeded_order

_PROSE_SUFFIXES = {".md", ".txt", ".rst", ".adoc", ".tex", ""}
_PARQUET_BATCH_ROWS = 256


def list_files(source: SourceParameters) -> list[str]:
    """The files of a folder source as sorted relative POSIX paths.

    Raises:
        DataError: the folder does not exist or no file matches.
    """
    root = _root(source)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Correct `path` of the corpus source.")
    names = {
        path.relative_to(root).as_posix()
        for pattern in source.patterns
        for path in root.glob(pattern)
        if path.is_file()
    }
    if not names:
        raise DataError(
            f"{root}: no file matches {list(source.patterns)}. Correct `path` or `patterns`."
        )
    return sorted(names)


def check_folder(source: SourceParameters) -> None:
    """Look at every file's first bytes or schema, so that a wrong one is known at once.

    Raises:
        DataError: as `folder_groups` would, for what the beginning of a file shows.
    """
    for name in list_files(source):
        file = _root(source) / name
        if file.suffix == ".jsonl":
            number, row = next(_jsonl_rows(file, source))
            row_document(row, source, id="", path=name, where=f"{file}: row {number}")
        elif file.suffix == ".parquet":
            _open_parquet(file, source)
        else:
            with file.open("rb") as content:
                _refuse_binary(file, content.read(4096))


def folder_groups(
    source: SourceParameters, label: str, seed: int, skipped: Counter[str]
) -> Iterator[tuple[str, list[Document]]]:
    """Yield (split key, documents) of a folder, file by file in seeded order.

    Args:
        source: the folder, its patterns and the text field of rows.
        label: the name of the source, for the documents.
        seed: decides the order of files, so that a cap takes a sample.
        skipped: counts text files that hold only whitespace (an empty `__init__.py` is no fault).

    Raises:
        DataError: a binary or undecodable file, a row that is no document; names file and row.
    """
    root = _root(source)
    for name in in_seeded_order(list_files(source), seed):
        file = root / name
        if file.suffix in (".jsonl", ".parquet"):
            rows = _jsonl_rows(file, source) if file.suffix == ".jsonl" else _parquet(file, source)
            for number, row in rows:
                where, id = f"{file}: row {number}", f"{label}:{name}#{number}"
                document = row_document(row, source, id=id, path=name, where=where)
                yield row_key(row, source, f"{name}#{number}"), [document]
            continue
        text = _read_text(file)
        if not text.strip():
            skipped["empty_files"] += 1
            continue
        kind = "prose" if file.suffix.lower() in _PROSE_SUFFIXES else "code"
        document = {"id": f"{label}:{name}", "text": text, "kind": kind}
        yield name, [document | {"path": name, "source": label}]


def row_document(
    row: dict[str, Any], source: SourceParameters, *, id: str, path: str, where: str
) -> Document:
    """Make a document of a row.

    Args:
        row: the fields of the row.
        source: says which field holds the text, and of which kind.
        id: the document's, which begins with the source's name and a colon.
        path: the file or split that the row is in.
        where: names the row in errors.

    Raises:
        DataError: the row has no such field, or it holds no text.
    """
    if source.text_field not in row:
        raise DataError(
            f"{where} has no field {source.text_field!r}; it has {sorted(row)}. "
            "Set `text_field` to the one that holds the text."
        )
    text = row[source.text_field]
    if not isinstance(text, str):
        raise DataError(
            f"{where}: field {source.text_field!r} is {type(text).__name__}, not text. "
            "Set `text_field` to the one that holds the text."
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: field {source.text_field!r} holds half a surrogate pair at character "
            f"{error.start}, which is no Unicode text. Write the row again as UTF-8."
        ) from None
    return {
        "id": id,
        "text": text,
        "kind": source.row_kind,
        "path": path,
        "source": id.partition(":")[0],
    }


def row_key(row: dict[str, Any], source: SourceParameters, default: str) -> str:
    """What decides a row's side of the split: its group where one is named, else its place."""
    group = row.get(source.group_field) if source.group_field else None
    return default if group is None else str(group)


def _root(source: SourceParameters) -> Path:
    return Path(source.path or "").expanduser()


def _refuse_binary(file: Path, content: bytes) -> None:
    offset = content.find(b"\0")
    if offset >= 0:
        raise DataError(
            f"{file}: a binary file (NUL at byte {offset}). Take it out of the folder, or narrow "
            "`patterns` of the corpus source."
        )


def _decode(file: Path, content: bytes, offset: int = 0) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: not UTF-8 (byte 0x{content[error.start]:02x} at offset "
            f"{offset + error.start}). Convert it (iconv -f latin-1 -t utf-8), or narrow "
            "`patterns` of the corpus source."
        ) from None


def _read_text(file: Path) -> str:
    content = file.read_bytes()
    _refuse_binary(file, content)
    return _decode(file, content)


def _jsonl_rows(file: Path, source: SourceParameters) -> Iterator[tuple[int, dict[str, Any]]]:
    offset = rows = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            _refuse_binary(file, line)
            text = _decode(file, line, offset)
            offset += len(line)
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except ValueError as error:
                raise DataError(
                    f"{file}: row {number} is no JSON ({error}). Correct or remove the row."
                ) from None
            if not isinstance(row, dict):
                raise DataError(
                    f"{file}: row {number} is {type(row).__name__}, not a JSON object. Write it as "
                    f'{{"{source.text_field}": ...}}.'
                )
            rows += 1
            yield number, row
    if not rows:
        raise DataError(f"{file}: empty. Remove the file, or narrow `patterns`.")


def _open_parquet(file: Path, source: SourceParameters) -> Any:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"{file}: no Parquet file ({error}). Write or fetch it again.") from None
    if source.text_field not in table.schema_arrow.names:
        raise DataError(
            f"{file}: no column {source.text_field!r}; it has {table.schema_arrow.names}. "
            "Set `text_field` to the one that holds the text."
        )
    if not table.metadata.num_rows:
        raise DataError(f"{file}: empty. Remove the file, or narrow `patterns`.")
    return table


def _parquet(file: Path, source: SourceParameters) -> Iterator[tuple[int, dict[str, Any]]]:
    table = _open_parquet(file, source)
    columns = [source.text_field]
    if source.group_field and source.group_field in table.schema_arrow.names:
        columns.append(source.group_field)
    number = 0
    for batch in table.iter_batches(batch_size=_PARQUET_BATCH_ROWS, columns=columns):
        for row in batch.to_pylist():
            number += 1
            yield number, row
