"""Columns that a file adds to recordings: CSV or Parquet, joined by path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from indexer.arrays import Integers
from indexer.errors import QueryError, first_line
from indexer.library.tables import (
    KEYS,
    Header,
    find_column,
    is_parquet,
    read_content,
    read_header,
    read_parquet,
)
from search.filters.columns import BUILT_IN, Column, Kind, Value
from search.generation.recordings import Places

#: What a number does not keep: zeros before it, and more digits than a float64 has.
_ZEROS = r"^\s*[-+]?0[0-9]"
_DIGITS = r"^\s*[-+]?[0-9]{17,}\s*$"
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
        shown: The same and the hidden ones, as they are shown: days are dates, and times with a
            zone have it.
        hidden: Columns that cannot be used: a built-in one has the name.
        unusable: Columns that cannot be used: their values are of no kind that can be compared.
    """

    path: Path
    keys: pa.Array
    table: pa.Table
    shown: pa.Table
    hidden: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Args:
            path: CSV with a header, separated by commas, semicolons or tabs, in UTF-8, or in UTF-16
                with its mark; or Parquet. A column `path`, `file` or `filename` says which file a
                row is about: its path relative to the library, or absolute.

        Raises:
            QueryError: If it is missing, cannot be read, is too large, has no such column, or two
                rows or columns of a name.
        """
        table, texts = _read(path)
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
        shown = {
            name: texts[name] if name in texts else _as_shown(table[name], values)
            for name, values in columns.items()
            if values is not None
        }
        return cls(path, keys, pa.table(usable), pa.table(shown), hidden, unusable)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that an expression may name."""
        return tuple(Column(one.name, _kind(one.type), "metadata") for one in self.table.schema)

    def rows(self, places: Places) -> Integers:
        """Return (num_places,) the row that belongs to each place; -1 where there is none.

        Raises:
            QueryError: If two rows belong to a place, by its relative path and its absolute one, or
                by two ways to write its accents.
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
        plain = _plain(paths)
        ways = (paths,) if plain.equals(paths) else (paths, plain)
        found = pc.coalesce(
            *(pc.index_in(one, value_set=self.keys, skip_nulls=True) for one in ways)
        )
        if not pc.all(pc.string_is_ascii(self.keys)).as_py():
            found = pc.coalesce(found, self._find_letters(plain, pc.is_null(found)))
        return np.asarray(pc.fill_null(found, -1).to_numpy(zero_copy_only=False), np.int64)

    def _find_letters(self, paths: pa.Array, wanted: pa.Array) -> pa.Array:
        """Return (n,) the row for each wanted path if only accents are written in another way."""
        keys = pc.utf8_normalize(self.keys, "NFC")
        letters = pc.if_else(wanted, pc.utf8_normalize(paths, "NFC"), None)
        counts = pc.value_counts(keys.drop_null())
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        unclear = pc.filter(paths, pc.is_in(letters, value_set=twice, skip_nulls=True))
        if len(unclear):
            raise QueryError(
                f"{self.path} has two rows that may be for {unclear[0].as_py()}: they differ in "
                f"how accents are written (NFC, NFD), and neither is as the file is called; remove "
                f"one"
            )
        return pc.index_in(letters, value_set=keys, skip_nulls=True)

    def values(self, name: str, rows: Integers) -> pa.Array:
        """Return (n,) values of a column, null where a row is -1."""
        return self.table[name].combine_chunks().take(pa.array(rows, mask=rows < 0))

    def facts(self, places: Places) -> list[dict[str, Value]]:
        """Return what the file says of some recordings, by column.

        Args:
            places: Where these recordings are.

        Returns:
            (num_recordings,) the row of the first place of each that has one; None throughout where
            none has.
        """
        some = self._of(places)
        rows, starts = some.rows(places), places.columns.starts
        of_each = [one[one >= 0] for one in np.split(rows, starts[1:])] if len(starts) else []
        first = np.array([one[0] if len(one) else -1 for one in of_each], np.int64)
        chosen = pa.array(first, mask=first < 0)
        values = {
            name: column.combine_chunks().take(chosen).to_pylist()
            for name, column in zip(some.shown.column_names, some.shown.columns, strict=True)
        }
        return [{name: values[name][at] for name in values} for at in range(len(first))]

    def _of(self, places: Places) -> Self:
        """Return the rows that may belong to some places: these few are then looked up quickly."""
        columns = places.columns
        ways = (columns.paths, _plain(columns.paths), columns.absolute_paths())
        texts = pc.utf8_normalize(pa.concat_arrays([*ways, _plain(ways[-1])]), "NFC")
        is_ascii = pc.all(pc.string_is_ascii(self.keys)).as_py()
        keys = self.keys if is_ascii else pc.utf8_normalize(self.keys, "NFC")
        mask = pc.is_in(keys, value_set=texts.drop_null())
        # Nothing but what is shown is asked of them; and what has no columns cannot be filtered.
        shown = self.shown.filter(mask) if self.shown.column_names else self.shown
        return replace(self, keys=self.keys.filter(mask), table=pa.table({}), shown=shown)

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


def _plain(paths: pa.Array) -> pa.Array:
    """Return stored paths with the backslash as it is on disk."""
    return pc.replace_substring(paths, r"\x5c", "\\")


def _read(path: Path) -> tuple[pa.Table, dict[str, pa.ChunkedArray]]:
    """Return the columns of a file; and as text those with times that name a zone in CSV."""
    try:
        content = read_content(path)
        given = (read_parquet(content), {}) if is_parquet(content) else _read_csv(path, content)
        _ = given[0].column_names  # an error if one is not UTF-8
        return given
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = first_line(error).rstrip(".")
        raise QueryError(
            f"cannot read metadata from {path}: {reason}; it takes CSV in UTF-8 or UTF-16, or "
            f"Parquet"
        ) from error


def _read_csv(path: Path, content: bytes) -> tuple[pa.Table, dict[str, pa.ChunkedArray]]:
    header = read_header(content)
    key = find_column(header.names)
    table = _parse(content, header, [key] if key else [])
    zoned = {}
    if len(set(table.column_names)) == len(table.column_names):
        for name, texts in _ids(content, header, table).items():
            table = table.set_column(table.column_names.index(name), name, texts)
        # Times are in UTC from here on: the text alone has the zone.
        names = [one.name for one in table.schema if getattr(one.type, "tz", None)]
        given = _parse(content, header, names, names) if names else pa.table({})
        zoned = {name.strip(): _text(path, name, given[name]) for name in names}
    columns = [_text(path, *one) for one in zip(table.column_names, table.columns, strict=True)]
    if len(table):
        _require_closed(path, content, columns[-1][-1].as_py())
    stripped = [name.strip() for name in table.column_names]
    while stripped and not stripped[-1]:
        stripped.pop()
    return pa.table(columns[: len(stripped)], stripped), zoned


def _parse(
    content: bytes, header: Header, texts: Sequence[str], wanted: Sequence[str] = ()
) -> pa.Table:
    return pyarrow.csv.read_csv(
        pa.BufferReader(content),
        # In one block, so that the kind of a column is told from all of its values.
        read_options=pyarrow.csv.ReadOptions(block_size=len(content) + 1),
        parse_options=pyarrow.csv.ParseOptions(delimiter=header.delimiter, newlines_in_values=True),
        # A file may be called 7, or NA.
        convert_options=pyarrow.csv.ConvertOptions(
            null_values=[""],
            column_types=dict.fromkeys(texts, pa.binary()),
            include_columns=list(wanted),
        ),
    )


def _ids(content: bytes, header: Header, table: pa.Table) -> dict[str, pa.ChunkedArray]:
    """Return as text the columns of numbers that are none: 007 is not 7."""
    numbers = [one for one in table.schema if _kind(one.type) == "number"]
    if not numbers:
        return {}
    names = [one.name for one in numbers]
    texts = _parse(content, header, names, names)
    return {
        one.name: texts[one.name]
        for one in numbers
        if _has(texts[one.name], _ZEROS)
        or (pa.types.is_floating(one.type) and _has(texts[one.name], _DIGITS))
    }


def _has(texts: pa.ChunkedArray, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())


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


def _require_closed(path: Path, content: bytes, last: object) -> None:
    """Make sure that no quote swallows the rest of a CSV file: its last value must end in one."""
    if not isinstance(last, str) or not {"\n", "\r"} & set(last):
        return
    doubled = last.replace('"', '""')
    if not content.rstrip().endswith(f'"{doubled}"'.encode()):
        begins = last.splitlines()[0][:_MAX_SHOWN]
        raise QueryError(
            f"cannot read metadata from {path}: the quote before {begins!r} is never closed; "
            f"close it, or double it if it is part of the value"
        )


def _key(path: Path, table: pa.Table) -> str:
    key = find_column(table.column_names)
    if key is not None:
        return key
    raise QueryError(
        f"{path} has no column {', '.join(map(repr, KEYS[:-1]))} or {KEYS[-1]!r} that says which "
        f"file a row is about; its columns are {', '.join(map(repr, table.column_names))}"
    )


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


def _as_shown(given: pa.ChunkedArray, normalised: pa.Array) -> pa.Array:
    """Return a column as it is shown, see `Metadata`."""
    if pa.types.is_date(given.type):
        return given.cast(pa.date32()).combine_chunks()
    zone = getattr(given.type, "tz", None)
    return normalised.cast(pa.timestamp("us", zone)) if zone else normalised


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
