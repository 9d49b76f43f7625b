"""Hugging Face datasets, from a hub or from a folder on this machine, read row by row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curricle.config.corpus import SourceParameters
from curricle.errors import DataError
from curricle.pipelines.corpus.documents import Document
from curricle.pipelines.corpus.readers import row_document, row_key


def open_rows(source: SourceParameters, column: str) -> Any:
    """Open a dataset's split for streaming and make sure that it has `column`.

    Raises:
        DataError: it cannot be opened, has no such split or no such column.
    """
    import datasets

    path = Path(source.path or "").expanduser()
    where = f"dataset {source.path}"
    if source.is_local and not path.exists():
        raise DataError(f"{path}: no such dataset. Correct `path` of the corpus source.")
    saved = (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()
    try:
        if saved:
            rows = datasets.load_from_disk(str(path))
            if isinstance(rows, dict):
                if source.split not in rows:
                    raise DataError(
                        f"{where}: no split {source.split!r}; it has {sorted(rows)}. Set `split`."
                    )
                rows = rows[source.split]
        else:
            rows = datasets.load_dataset(
                str(path) if source.is_local else source.path,
                name=source.name,
                split=source.split,
                revision=None if source.is_local else source.revision,
                streaming=True,
            )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"{where}: cannot be opened ({error}). Check `path`, `name`, `split` and `revision`."
        ) from error
    columns = rows.column_names or list(next(iter(rows), {}))
    if column not in columns:
        key = "input_ids_field" if source.input_ids_field else "text_field"
        raise DataError(f"{where}: no column {column!r}; it has {columns}. Set `{key}`.")
    return rows


def hub_groups(source: SourceParameters, label: str) -> Iterator[tuple[str, list[Document]]]:
    """Yield (split key, [document]) for every row.

    Raises:
        DataError: as `open_rows`, and for a row without text; names the row.
    """
    for number, row in enumerate(open_rows(source, source.text_field), start=1):
        where = f"dataset {source.path}: row {number}"
        id = f"{label}:{source.split}#{number}"
        document = row_document(row, source, id=id, path=source.split, where=where)
        yield row_key(row, source, id), [document]
