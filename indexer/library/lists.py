"""Lists of files, or of spans of files, that people write: one name a line, or a table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from indexer.audio.times import FOREVER_S, seconds_of
from indexer.errors import LibraryError, QueryError, first_line
from indexer.library.tables import (
    KEYS,
    find_column,
    is_parquet,
    read_content,
    read_header,
    read_parquet,
    read_rows,
)
from indexer.paths import Span
from indexer.windows import SAMPLE_RATE_HZ

#: Endings of lists that are tables.
_TABLES = {".csv", ".tsv", ".parquet"}


def read_names(path: Path) -> Iterator[tuple[str, Span | None]]:
    """Yield each name of a list, as the system opens it, and the span of the file that is meant.

    Args:
        path: A text file with one path a line (or zero bytes between them). Or a .csv, .tsv or
            .parquet with a column path, file or filename, and if there are spans columns start and
            end (seconds, or as in 31:10; an empty start is 0, an empty end is the end of the file):
            read as metadata is, in whatever case the names of columns are.

    Raises:
        LibraryError: If it cannot be read, or a row is wrong; names the line.
    """
    try:
        content = read_content(path)
        if is_parquet(content):
            yield from _entries(path, *_parquet_rows(content))
        elif path.suffix.lower() in _TABLES:
            names = [name.strip() for name in read_header(content).names]
            yield from _entries(path, names, read_rows(content, "surrogateescape"))
        else:
            yield from _lines(content)
    except OSError as error:
        raise LibraryError(f"cannot read the list {path}: {error.strerror}") from error
    except (ValueError, pa.ArrowException) as error:
        raise LibraryError(f"cannot read the list {path}: {first_line(error)}") from error


def _lines(content: bytes) -> Iterator[tuple[str, None]]:
    # No path holds a zero byte; it stands between names where a list comes from `find -print0`.
    for line in content.replace(b"\0", b"\n").splitlines():
        if line.strip():
            yield os.fsdecode(line), None


def _parquet_rows(content: bytes) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    table = read_parquet(content)
    rows = (row for batch in table.to_batches(1000) for row in batch.to_pylist())
    texts = ({name: _as_text(cell) for name, cell in row.items()} for row in rows)
    return table.column_names, enumerate(texts, start=1)


def _as_text(cell: object) -> str:
    if isinstance(cell, bytes):
        return os.fsdecode(cell)
    return "" if cell is None else str(cell)


def _entries(
    path: Path, names: list[str], rows: Iterator[tuple[int, dict[str, str]]]
) -> Iterator[tuple[str, Span | None]]:
    key, start, end = (find_column(names, wanted) for wanted in (KEYS, ("start",), ("end",)))
    if key is None:
        raise LibraryError(
            f"{path} has no column {', '.join(map(repr, KEYS[:-1]))} or {KEYS[-1]!r}; its columns "
            f"are {', '.join(map(repr, names))}"
        )
    for line, row in rows:
        name = row[key]
        if not name or "\0" in name:
            raise LibraryError(f"{path}, line {line}: need a path, got {name!r}")
        yield name, _span(path, line, row.get(start or "", ""), row.get(end or "", ""))


def _span(file: Path, line: int, start: str, end: str) -> Span | None:
    if not start and not end:
        return None
    try:
        start_s, end_s = seconds_of(start or 0.0), seconds_of(end or FOREVER_S)
    except QueryError as error:
        raise LibraryError(f"{file}, line {line}: {error}") from error
    if start_s >= end_s:
        raise LibraryError(f"{file}, line {line}: need start < end, got {start!r}, {end!r}")
    first = round(start_s * SAMPLE_RATE_HZ)
    return first, max(1, round(end_s * SAMPLE_RATE_HZ) - first)
