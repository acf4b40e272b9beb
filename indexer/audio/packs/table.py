"""Parquet with a column of sounds, as `datasets` writes it: the bytes of a file in each row."""

from __future__ import annotations

import json
import threading
import weakref
from collections.abc import Iterator
from io import FileIO
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexer.audio.file import open_regular, read_at, unnamed_file
from indexer.audio.packs.members import (
    MAX_NAME_BYTES,
    MAX_ROWS,
    Members,
    made_up_name,
    require_short,
)
from indexer.audio.packs.pack import NotAPackError, Pack, not_read
from indexer.errors import AudioError, first_line

_MAGIC = b"PAR1"
#: Fields of the column (datasets.Audio, storage type), and the column itself, where there are
#: several, or nothing beside the schema says which columns are sounds.
_BYTES, _NAME, _COLUMN = "bytes", "path", "audio"
#: Bytes of a row group that are read at a time.
_BUFFER_BYTES = 1 << 20
#: Names that are unpacked at once, 16 MiB at most.
_NAMES_AT_A_TIME = 1 << 14
#: What names may be; they may be packed as dictionaries, too.
_TEXTS = (
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
    pa.types.is_dictionary,
)


class _Cursor(NamedTuple):
    """Where reading stands: the row group, its rows from here on, and which comes next."""

    group: int
    batches: Iterator[pa.RecordBatch]
    next_row: int


class AudioTable(Pack):
    """An open Parquet file with a column of sounds.

    Rows are unpacked one at a time, from the beginning of a row group to the one that is wanted:
    that costs nothing where they are asked for in order.
    """

    outlives_fork = False

    def __init__(self, path: Path, mtime_ns: int) -> None:
        """Open it.

        Args:
            path: The file.
            mtime_ns: Its date.

        Raises:
            NotAPackError: If it is no Parquet, or without such a column.
            AudioError: If it cannot be read, or is damaged.
        """
        self._source = open_regular(path)
        weakref.finalize(self, self._source.close)
        self._lock = threading.Lock()
        self._cursor: _Cursor | None = None
        self._last: tuple[int, Any] | None = None  # the row that was read last, and its bytes
        self._broken: dict[int, tuple[int, str]] = {}  # row group → row that was not read, and why
        try:
            if read_at(self._source.fileno(), len(_MAGIC), 0) != _MAGIC:
                raise NotAPackError("it is no Parquet")
            self._file = pq.ParquetFile(
                self._source,
                buffer_size=_BUFFER_BYTES,
                pre_buffer=False,
                page_checksum_verification=True,
            )
            self._column = _column_of(self._file.schema_arrow)
            self._ends, sizes = self._look_at_groups()
            dates = np.broadcast_to(np.int64(mtime_ns), len(sizes))
            self.members = Members(self._names(), sizes, dates)
        except (pa.ArrowException, OSError, MemoryError) as error:
            raise AudioError("open", f"damaged: {first_line(error)}") from error

    def _look_at_groups(self) -> tuple[Any, Any]:
        """Return where each row group ends, and of each row the mean of the sizes in its group.

        How large each is could only be told by unpacking all of them.
        """
        rows, sizes, num_name_bytes = [], [], 0
        for number in range(self._file.metadata.num_row_groups):
            group = self._file.metadata.row_group(number)
            columns = [group.column(one) for one in range(group.num_columns)]
            size, of_names = (
                sum(
                    max(one.total_uncompressed_size, 0)
                    for one in columns
                    if one.path_in_schema == at
                )
                for at in (f"{self._column}.{_BYTES}", f"{self._column}.{_NAME}")
            )
            num_name_bytes += of_names
            rows.append(group.num_rows)
            sizes.append(size // max(group.num_rows, 1))
        if min(rows, default=0) < 0 or sum(rows) > MAX_ROWS:
            raise AudioError("open", f"{sum(rows):,} rows, {MAX_ROWS:,} at most")
        require_short(num_name_bytes)
        return np.cumsum(rows, dtype=np.int64), np.repeat(np.array(sizes, np.int64), rows)

    def _names(self) -> Iterator[bytes]:
        """Yield the name of each row; an empty one where there is none."""
        if not _holds_names(self._file.schema_arrow.field(self._column).type):
            yield from repeat(b"", self._file.metadata.num_rows)
            return
        wanted = f"{self._column}.{_NAME}"
        # A long name that stands for many rows is there once.
        file = pq.ParquetFile(
            self._source,
            metadata=self._file.metadata,
            read_dictionary=[wanted],
            buffer_size=_BUFFER_BYTES,
            pre_buffer=False,
            page_checksum_verification=True,
        )
        for group in range(file.metadata.num_row_groups):
            for batch in file.iter_batches(
                _NAMES_AT_A_TIME, row_groups=[group], columns=[wanted], use_threads=False
            ):
                yield from _short_names(batch.column(0).flatten()[0])

    def content(self, row: int) -> Iterator[memoryview]:
        """Yield the bytes of a row; see `Pack`."""
        with self._lock:
            content = self._content(row)
        if content is None:
            raise AudioError("open", self._without_bytes(row))
        if not len(content):
            raise AudioError("open", "empty file (0 bytes)")
        yield memoryview(content)

    def open(self, row: int, max_duration_s: float) -> FileIO:
        """Open a row; see `Pack`."""
        content = list(self.content(row))
        return unnamed_file(content, sum(map(len, content)))

    def _without_bytes(self, row: int) -> str:
        """Say what a row has that has no bytes."""
        if self.members[row].name == made_up_name(row):
            return f"{_BYTES} is null, and the row names no file either"
        return f"{_BYTES} is null: the pack only names a file, which is not followed"

    def _content(self, row: int) -> Any:
        """Return the bytes of a row; None if there are none."""
        if self._last is None or self._last[0] != row:
            group = int(np.searchsorted(self._ends, row, "right"))
            first_broken, why = self._broken.get(group, (row + 1, ""))
            if row >= first_broken:
                raise AudioError("decode", why)
            self._last = row, self._advance(group, row)
        return self._last[1]

    def _advance(self, group: int, row: int) -> Any:
        cursor = self._cursor
        self._cursor = self._last = None  # let go of what is not needed any more
        if cursor is None or cursor.group != group or cursor.next_row > row:
            wanted = [f"{self._column}.{_BYTES}"]
            batches = self._file.iter_batches(
                1, row_groups=[group], columns=wanted, use_threads=False
            )
            cursor = _Cursor(group, batches, int(self._ends[group - 1]) if group else 0)
        at = cursor.next_row
        try:
            for at in range(cursor.next_row, row + 1):  # noqa: B007 - the last one is told
                batch = next(cursor.batches)
        except (pa.ArrowException, OSError, MemoryError, StopIteration) as error:
            broken = not_read(error, "the row group")
            if broken.stage != "access":  # what the system refused may be had another time
                self._broken[group] = at, broken.reason
            raise broken from error
        self._cursor = cursor._replace(next_row=row + 1)
        return batch.column(0).flatten()[0][0].as_buffer()


def _column_of(schema: pa.Schema) -> str:
    """Return the column of sounds: the one of that name, or the only one that is marked as such.

    Raises:
        NotAPackError: If there is none, or several of other names.
    """
    marked = _marked(schema)
    found: list[str] = [field.name for field in schema if _holds_files(field.type)]
    sounds = [name for name in found if name == _COLUMN] or [one for one in found if one in marked]
    if len(sounds) != 1:
        which = f"several columns of sounds, none of them {_COLUMN!r}" if sounds else "no column"
        raise NotAPackError(f"it has {which} of bytes and path")
    return sounds[0]


def _holds_files(given: pa.DataType) -> bool:
    at = given.get_field_index(_BYTES) if pa.types.is_struct(given) else -1
    return at >= 0 and (
        pa.types.is_binary(given.field(at).type) or pa.types.is_large_binary(given.field(at).type)
    )


def _holds_names(given: pa.DataType) -> bool:
    at = given.get_field_index(_NAME)
    return at >= 0 and any(is_text(given.field(at).type) for is_text in _TEXTS)


def _short_names(names: pa.DictionaryArray) -> Iterator[bytes]:
    """Yield names; an empty one in the place of one that is too long, or missing."""
    texts = names.dictionary.cast(pa.large_binary())
    is_short = pc.less_equal(pc.binary_length(texts), MAX_NAME_BYTES)
    short = pc.if_else(is_short, texts, pa.scalar(b"", pa.large_binary()))
    return (name or b"" for name in short.take(names.indices).to_pylist())


def _marked(schema: pa.Schema) -> set[str]:
    """Return the columns that `datasets` calls Audio, in what it writes beside a schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name for name, kind in features.items() if kind["_type"] == "Audio"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()
