"""A Parquet file of a part, whoever wrote it: the columns of this format, and bounded in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexer.errors import NotAsWrittenError
from indexer.store.disk import own_size
from indexer.store.schema import (
    EMBEDDING_DIM,
    FILES_SCHEMA,
    MOST_TEXT_BYTES,
    NUM_TAGS,
    OLD_SCHEMAS,
    SCHEMAS,
)

SCENE_FILE = "scene.parquet"
FRAMES_FILE = "frames.parquet"
FILES_FILE = "files.parquet"

#: Bytes of a column of the ledger that are read at a time.
_BUFFER_BYTES = 1 << 16
#: Texts of the ledger; they are read as dictionaries, so that none is unpacked many times.
_TEXTS = [one.name for one in FILES_SCHEMA if one.type == pa.string()]
#: What a row of the ledger may unpack to, and what is allowed beyond that for a few rows, in bytes.
_LEDGER_ROW_BYTES, _LEDGER_SLACK_BYTES = 4 * MOST_TEXT_BYTES, 1 << 20
#: Bytes that a row has at least, where nothing is compressed: one frame, if there are frames.
_ROW_BYTES = {SCENE_FILE: 4 * EMBEDDING_DIM + 2 * NUM_TAGS, FRAMES_FILE: 2 * EMBEDDING_DIM}

_Rows = TypeVar("_Rows", pa.RecordBatch, pa.Table)


@contextmanager
def open_parquet(path: Path, *, mapped: bool) -> Iterator[pq.ParquetFile]:
    """Open one of a part's files, if columns and size are what this format says.

    Texts of a ledger come as dictionaries: `with_columns` makes strings of them.

    Args:
        path: Of the file, under the name that it has in a part.
        mapped: Whether it is memory-mapped.

    Raises:
        DamagedStoreError: If it is no regular file.
        NotAsWrittenError: If its columns are others, or it claims to hold more than its size, or
            its rows, can account for.
        OSError, pa.ArrowException: If it cannot be read, or is no Parquet file.
    """
    size_bytes = own_size(path)
    is_ledger = path.name == FILES_FILE  # read a little at a time, not a whole row group at once
    how = {"buffer_size": _BUFFER_BYTES, "pre_buffer": False} if is_ledger else {}
    texts = _TEXTS if is_ledger else None
    with pq.ParquetFile(path, memory_map=mapped, read_dictionary=texts, **how) as file:
        if _plain(file.schema_arrow) not in (SCHEMAS[path.name], OLD_SCHEMAS[path.name]):
            raise NotAsWrittenError("its columns are not those of this format")
        if is_ledger:
            _require_proportion(file)
        elif file.metadata.num_rows * _ROW_BYTES[path.name] > size_bytes:
            raise NotAsWrittenError(
                f"it claims {file.metadata.num_rows:,} rows in {size_bytes:,} bytes"
            )
        yield file


def with_columns(rows: _Rows, name: str, columns: Sequence[str] | None = None) -> _Rows:
    """Return rows of a part's file with some columns, null where an older version lacks them.

    Args:
        rows: As they were read.
        name: Of the file.
        columns: Which; None for all that this format has.

    Raises:
        NotAsWrittenError: If a text is longer than `MOST_TEXT_BYTES`.
    """
    schema = SCHEMAS[name]
    fields = [schema.field(one) for one in (schema.names if columns is None else columns)]
    arrays = [
        _column(rows, field) if field.name in rows.schema.names else pa.nulls(len(rows), field.type)
        for field in fields
    ]
    return type(rows).from_arrays(arrays, schema=pa.schema(fields))


def _column(rows: pa.RecordBatch | pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    column = rows[field.name]
    if not pa.types.is_dictionary(column.type):
        return column
    # One that is long, and named by many rows, would fill the memory.
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        longest = pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0
        if longest > MOST_TEXT_BYTES:
            raise NotAsWrittenError(f"a text of {longest:,} bytes in the column {field.name}")
    return column.cast(field.type)


def _require_proportion(file: pq.ParquetFile) -> None:
    """Raise if a ledger, which is compressed, unpacks to more than its rows can need."""
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    beyond = [one.total_byte_size - one.num_rows * _LEDGER_ROW_BYTES for one in groups]
    if max(beyond, default=0) > _LEDGER_SLACK_BYTES:
        raise NotAsWrittenError("it unpacks to far more than its rows can need")


def _plain(schema: pa.Schema) -> pa.Schema:
    """Return a schema with the types that dictionaries stand for."""
    for at, field in enumerate(schema):
        if pa.types.is_dictionary(field.type):
            schema = schema.set(at, field.with_type(field.type.value_type))
    return schema
