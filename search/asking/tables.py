"""Tables that are written as they are made: a whole file or none, Parquet or JSON lines."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.errors import QueryError
from indexer.store.disk import TEMPORARY_PREFIX, sync_file, sync_folder

#: Takes some rows of a table.
Write = Callable[[pa.RecordBatch], None]
#: Rows of JSON lines that are made at a time.
_JSON_ROWS = 10_000


def require_table(path: Path) -> None:
    """Make sure that a table can be written to a path, as far as can be told before.

    Raises:
        QueryError: If its name says no format, or its folder is not there.
    """
    if path.suffix not in _WRITERS:
        raise QueryError(
            f"{path} says no format; call it something.parquet or something.jsonl (JSON lines)"
        )
    if not path.parent.is_dir():
        raise QueryError(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise QueryError(f"cannot write {path}: a folder has that name")


@contextmanager
def writing_table(path: Path, schema: pa.Schema) -> Iterator[Write]:
    """Write a table in pieces; nothing appears at its path until it is complete.

    Args:
        path: Where to; what is there is replaced. Its suffix says how: see `require_table`.
        schema: Of every piece.

    Yields:
        What takes the pieces, in order.

    Raises:
        QueryError: If it cannot be written.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}")  # also for a long name
    try:
        with _explained(path):
            writer = _WRITERS[path.suffix](temporary, schema)

        def write(rows: pa.RecordBatch) -> None:
            with _explained(path):
                writer.write_batch(rows)

        try:
            yield write
        finally:
            with _explained(path):
                writer.close()
        with _explained(path):
            sync_file(temporary)
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):  # what went wrong before is what matters
            temporary.unlink(missing_ok=True)


class _JsonLines:
    """Writes an object for each row, as `pyarrow.parquet.ParquetWriter` writes columns."""

    def __init__(self, path: Path, _: pa.Schema) -> None:
        self._file = path.open("w", encoding="ascii")

    def write_batch(self, rows: pa.RecordBatch) -> None:
        for first in range(0, len(rows), _JSON_ROWS):  # a row takes kilobytes as Python objects
            some = rows.slice(first, _JSON_ROWS).to_pylist()
            self._file.writelines(f"{json.dumps(row)}\n" for row in some)

    def close(self) -> None:
        self._file.close()


#: Suffix → what writes such a file.
_WRITERS = {".parquet": pq.ParquetWriter, ".jsonl": _JsonLines}


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise QueryError(f"cannot write {path}: {reason}") from error
