"""Columns that a file adds to recordings: CSV or Parquet, joined by path."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from indexer.arrays import Integers
from indexer.errors import QueryError
from search.filters.columns import BUILT_IN, Column, Kind
from search.generation.recordings import Places

#: Names of the column that says which file a row is about, in this order.
KEYS = ("path", "file", "filename")
#: A larger file is refused: it is read as a whole.
_MAX_BYTES = 1 << 30
_PARQUET_MAGIC = b"PAR1"
#: What a CSV file may have between its values.
_DELIMITERS = ",;\t"
_MAX_HEADER_BYTES = 1 << 16
#: Rows of a Parquet file that are unpacked before they are counted.
_PARQUET_ROWS = 1024
#: Characters of a value that a message shows.
_MAX_SHOWN = 40


class Coverage(NamedTuple):
    """How a file and the recordings fit together.

    Attributes:
        path: The file.
        num_unused_rows: Rows of the file that belong to no recording.
        num_bare_recordings: Recordings that no row belongs to.
        hidden: Columns that cannot be used: a built-in one has the name.
        unusable: Columns that cannot be used: their values are of no kind that can be compared.
    """

    path: Path
    num_unused_rows: int
    num_bare_recordings: int
    hidden: tuple[str, ...]
    unusable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says of recordings.

    Attributes:
        path: The file.
        keys: (num_rows,) text: which file each row is about; null for none.
        table: The other columns; each int64, float64, string, bool, timestamp in microseconds
            (in UTC, without a zone) or null.
        hidden: Columns that cannot be used: a built-in one has the name.
        unusable: Columns that cannot be used: their values are of no kind that can be compared.
    """

    path: Path
    keys: pa.Array
    table: pa.Table
    hidden: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Args:
            path: CSV with a header, separated by commas, semicolons or tabs, in UTF-8; or Parquet.
                A column `path`, `file` or `filename` says which file a row is about: its path
                relative to the library, or absolute.

        Raises:
            QueryError: If it is missing, cannot be read, is too large, has no such column, or two
                rows or columns of a name.
        """
        table = _read(path)
        twice = [name for name, number in Counter(table.column_names).items() if number > 1]
        if twice:
            raise QueryError(f"{path} has more than one column {twice[0]!r}; rename one")
        key = _key(path, table)
        keys = _keys(path, table[key])
        columns = {
            name: _normalised(path, name, table[name]) for name in table.column_names if name != key
        }
        names = {column.name for column in BUILT_IN}
        usable = {
            name: values
            for name, values in columns.items()
            if values is not None and name not in names
        }
        hidden = tuple(sorted(names & set(columns)))
        unusable = tuple(name for name in columns if name not in {*usable, *hidden})
        return cls(path, keys, pa.table(usable), hidden, unusable)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that an expression may name."""
        return tuple(Column(one.name, _kind(one.type), "metadata") for one in self.table.schema)

    def rows(self, places: Places) -> Integers:
        """Return (num_places,) the row that belongs to each place; -1 where there is none.

        Raises:
            QueryError: If two rows belong to a place, by its relative path and its absolute one.
        """
        columns = places.columns
        relative, absolute = (self._find(one) for one in (columns.paths, columns.absolute_paths()))
        both = (relative >= 0) & (absolute >= 0) & (relative != absolute)
        if both.any():
            path = columns.paths[int(np.argmax(both))].as_py()
            raise QueryError(
                f"{self.path} has two rows for {path}: one by its relative path, one by its "
                f"absolute path; remove one"
            )
        return np.maximum(relative, absolute)

    def _find(self, paths: pa.Array) -> Integers:
        """Return (n,) the row with each path, as stored or as it is on disk; -1 for none."""
        plain = pc.replace_substring(paths, r"\x5c", "\\")
        found = pc.coalesce(
            *(pc.index_in(one, value_set=self.keys, skip_nulls=True) for one in (paths, plain))
        )
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64)

    def values(self, name: str, rows: Integers) -> pa.Array:
        """Return (n,) values of a column, null where a row is -1."""
        return self.table[name].combine_chunks().take(pa.array(rows, mask=rows < 0))

    def coverage(self, stores: Sequence[Places]) -> Coverage:
        """Say how much of the file and of the stores belong together.

        Raises:
            QueryError: If nothing does.
        """
        used, num_bare = np.zeros(len(self.keys), bool), 0
        paths: list[str] = []
        for places in stores:
            rows, columns = self.rows(places), places.columns
            used[rows[rows >= 0]] = True
            num_bare += int(np.count_nonzero(~columns.anywhere(rows >= 0)[columns.starts]))
            paths += columns.paths[:1].to_pylist()
        if paths and not used.any():
            ours = next((repr(key) for key in self.keys.drop_null().to_pylist()), "no path at all")
            raise QueryError(
                f"no row of {self.path} belongs to a recording: it has {ours} where the store has "
                f"{paths[0]!r}; give paths relative to the library, or absolute ones"
            )
        num_unused = int(np.count_nonzero(~used))
        return Coverage(self.path, num_unused, num_bare, self.hidden, self.unusable)


def _read(path: Path) -> pa.Table:
    try:
        if not path.is_file():
            reason = "not a file" if path.exists() else "no such file"
            raise QueryError(f"cannot read metadata from {path}: {reason}")
        if path.stat().st_size > _MAX_BYTES:
            raise QueryError(
                f"cannot read metadata from {path}: {path.stat().st_size:,} bytes, at most "
                f"{_MAX_BYTES:,}; leave out rows and columns that no filter needs"
            )
        with path.open("rb") as file:
            start = file.read(_MAX_HEADER_BYTES)
        is_parquet = start.startswith(_PARQUET_MAGIC)
        table = _read_parquet(path) if is_parquet else _read_csv(path, start)
        _ = table.column_names  # an error if one is not UTF-8
        return table
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise QueryError(
            f"cannot read metadata from {path}: {reason}; it takes CSV in UTF-8, or Parquet"
        ) from error


def _read_csv(path: Path, start: bytes) -> pa.Table:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise QueryError(f"cannot read metadata from {path}: it is UTF-16; save it as UTF-8")
    names, delimiter = _header(path, start)
    key = _find_key(names)
    table = pyarrow.csv.read_csv(
        path,
        # In one block, so that the kind of a column is told from all of its values.
        read_options=pyarrow.csv.ReadOptions(block_size=path.stat().st_size + 1),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        # A file may be called 7, or NA.
        convert_options=pyarrow.csv.ConvertOptions(
            null_values=[""], column_types=dict.fromkeys([key] if key else [], pa.binary())
        ),
    )
    columns = [_text(path, *one) for one in zip(table.column_names, table.columns, strict=True)]
    if len(table):
        _require_closed(path, columns[-1][-1].as_py())
    stripped = [name.strip() for name in table.column_names]
    while stripped and not stripped[-1]:
        stripped.pop()
    return pa.table(columns[: len(stripped)], stripped)


def _header(path: Path, start: bytes) -> tuple[list[str], str]:
    """Return the names of the columns of a CSV file, and what stands between its values."""
    text = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape").decode(start)
    lines = text.lstrip("\r\n")
    first = lines.splitlines()[0] if lines else ""
    delimiter = max(_DELIMITERS, key=first.count)
    names = next(csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter), [])
    for number, name in enumerate(names, 1):
        if re.search("[\udc80-\udcff]", name):  # bytes that could not be decoded
            raise QueryError(
                f"cannot read metadata from {path}: the name of column {number} is not UTF-8; save "
                f"the file as UTF-8"
            )
    return names, delimiter


def _text(path: Path, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column; what may not be UTF-8 comes as bytes, and has to be text."""
    if not pa.types.is_binary(column.type):
        return column
    try:
        return column.cast(pa.string())
    except pa.ArrowException as error:
        raise QueryError(
            f"cannot read metadata from {path}: column {name!r} is not UTF-8; save the file as "
            f"UTF-8"
        ) from error


def _require_closed(path: Path, last: object) -> None:
    """Make sure that no quote swallows the rest of a CSV file: its last value must end in one."""
    if not isinstance(last, str) or not {"\n", "\r"} & set(last):
        return
    doubled = last.replace('"', '""')
    if not path.read_bytes().rstrip().endswith(f'"{doubled}"'.encode()):
        begins = last.splitlines()[0][:_MAX_SHOWN]
        raise QueryError(
            f"cannot read metadata from {path}: the quote before {begins!r} is never closed; "
            f"close it, or double it if it is part of the value"
        )


def _read_parquet(path: Path) -> pa.Table:
    """Read a file as far as the limit allows: a few encoded bytes may stand for gigabytes."""
    with pyarrow.parquet.ParquetFile(path) as file:
        schema = pa.schema([(one.name, _plain(one.type)) for one in file.schema_arrow])
        batches, num_bytes = [], 0
        for batch in file.iter_batches(_PARQUET_ROWS):
            batches.append(batch.cast(schema))
            num_bytes += batches[-1].nbytes
            if num_bytes > _MAX_BYTES:
                raise QueryError(
                    f"cannot read metadata from {path}: more than {_MAX_BYTES:,} bytes unpacked; "
                    f"leave out rows and columns that no filter needs"
                )
        return pa.Table.from_batches(batches, schema)


def _plain(given: pa.DataType) -> pa.DataType:
    return given.value_type if pa.types.is_dictionary(given) else given


def _key(path: Path, table: pa.Table) -> str:
    key = _find_key(table.column_names)
    if key is not None:
        return key
    raise QueryError(
        f"{path} has no column {', '.join(map(repr, KEYS[:-1]))} or {KEYS[-1]!r} that says which "
        f"file a row is about; its columns are {', '.join(map(repr, table.column_names))}"
    )


def _find_key(names: Sequence[str]) -> str | None:
    folded = {name.strip().casefold(): name for name in reversed(names)}
    return next((folded[key] for key in KEYS if key in folded), None)


def _keys(path: Path, column: pa.ChunkedArray) -> pa.Array:
    values = _normalised(path, "", column)
    if values is None or _kind(values.type) not in {"text", "empty"}:
        raise QueryError(
            f"the column of paths in {path} holds {column.type}; it takes paths as text in UTF-8"
        )
    keys = pc.replace_substring_regex(values.cast(pa.string()), r"^(\./+)+", "")
    counts = pc.value_counts(keys.drop_null())
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise QueryError(f"{path} has more than one row for {twice.field('values')[0].as_py()!r}")
    return keys


def _kind(data_type: pa.DataType) -> Kind:
    if pa.types.is_null(data_type):
        return "empty"
    if pa.types.is_boolean(data_type):
        return "truth"
    if pa.types.is_timestamp(data_type):
        return "time"
    return "text" if pa.types.is_string(data_type) else "number"


def _normalised(path: Path, name: str, column: pa.ChunkedArray) -> pa.Array | None:
    """Return a column in the type for its kind, with nulls for what is missing; None if of none."""
    wanted = _type_for(column.type)
    if wanted is None:
        return None
    try:
        # Fractions of a microsecond, and digits that a float64 does not have, may go.
        rounding = pc.CastOptions(wanted, allow_time_truncate=True, allow_float_truncate=True)
        values = column.cast(options=rounding).combine_chunks()
    except pa.ArrowException as error:
        raise QueryError(f"{path}: column {name!r} cannot be read: {error}") from error
    if pa.types.is_string(wanted):
        return pc.if_else(pc.equal(values, ""), None, values)
    if pa.types.is_floating(wanted):
        return pc.if_else(pc.is_nan(values), None, values)
    return values


def _type_for(given: pa.DataType) -> pa.DataType | None:
    types = pa.types
    if types.is_null(given) or types.is_boolean(given):
        return given
    if types.is_integer(given):
        return pa.float64() if types.is_uint64(given) else pa.int64()
    if types.is_floating(given) or types.is_decimal(given):
        return pa.float64()
    if types.is_timestamp(given) or types.is_date(given):
        return pa.timestamp("us")
    is_text = types.is_string(given) or types.is_large_string(given) or types.is_string_view(given)
    return pa.string() if is_text or types.is_time(given) else None
