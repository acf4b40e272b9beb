"""Tables that are written as they are made: a whole file or none, Parquet or JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from indexer.errors import OutputError
from search.output import require_file, writing

#: Takes some rows of a table.
Write = Callable[[pa.RecordBatch], None]
#: Rows of JSON lines that are made at a time.
_JSON_ROWS = 10_000


def require_table(path: Path, *, force: bool = False) -> None:
    """Make sure that a table can be written to a path, as far as can be told before.

    Raises:
        OutputError: If its name says no format, or its folder is not there, or `require_file`.
    """
    if path.suffix.lower() not in _WRITERS:
        raise OutputError(
            f"{path} says no format; call it something.parquet or something.jsonl (JSON lines)"
        )
    require_file(path, path.suffix.lower(), force=force)


@contextmanager
def writing_table(path: Path, schema: pa.Schema, *, force: bool = False) -> Iterator[Write]:
    """Write a table in pieces; nothing appears at its path until it is complete.

    Args:
        path: Where to. Its suffix says how: see `require_table`.
        schema: Of every piece.
        force: Whether what is there is replaced.

    Yields:
        What takes the pieces, in order.

    Raises:
        OutputError: If it cannot be written.
    """
    with writing(path, force=force) as file:
        writer = _WRITERS[path.suffix.lower()](file, schema)
        try:
            yield writer.write_batch
        finally:
            writer.close()


class _JsonLines:
    """Writes an object for each row, as `pyarrow.parquet.ParquetWriter` writes columns."""

    def __init__(self, file: BinaryIO, _: pa.Schema) -> None:
        self._file = file

    def write_batch(self, rows: pa.RecordBatch) -> None:
        for first in range(0, len(rows), _JSON_ROWS):  # a row takes kilobytes as Python objects
            some = rows.slice(first, _JSON_ROWS).to_pylist()
            self._file.writelines(f"{json.dumps(row)}\n".encode("ascii") for row in some)

    def close(self) -> None:
        """Nothing is left to be written."""


#: Suffix → what writes such a file.
_WRITERS = {".parquet": pq.ParquetWriter, ".jsonl": _JsonLines}
