"""Where recordings are: the one way from a recording's id to its paths."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.arrays import (
    ID_DTYPE,
    Ids,
    Integers,
    Mask,
    contains,
    id_bytes,
    ids_from_column,
    last_of_each,
)
from indexer.errors import NotAsWrittenError
from indexer.paths import local_path, text_from_bytes
from indexer.store.disk import map_own, own_size, sync_file
from indexer.store.part import Part, reading
from indexer.store.reader import Store
from indexer.store.schema import FILES_SCHEMA

#: Columns of the file, which are those of the ledger; the last is there if some recording needs it.
_COLUMNS = ("recording_id", "library_id", "path")
_ALIAS = "file_digest"
_TYPES = {name: FILES_SCHEMA.field(name).type for name in (*_COLUMNS, _ALIAS)}


class Recordings:
    """The places of each recording, sorted by recording_id, then by library and path."""

    def __init__(self, table: pa.Table) -> None:
        """Take a table with the columns of `table`, in that order of its rows."""
        self._table = table.combine_chunks()
        self._ids = ids_from_column(self._table["recording_id"])
        self._libraries, self._paths = self._table["library_id"], self._table["path"]

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map what `write` wrote.

        Raises:
            DamagedStoreError: If it is something else: Arrow would trust every offset in it.
        """
        with reading(path):
            table = pa.ipc.open_file(map_own(path)).read_all()
            types = dict(zip(table.schema.names, table.schema.types, strict=True))
            wanted = {name: _TYPES[name] for name in (*_COLUMNS, *types) if name in _TYPES}
            if types != wanted or table.nbytes > own_size(path):
                raise NotAsWrittenError("its columns, or their size, are not those of this format")
            table.validate(full=True)
            opened = cls(table)
            if (opened.ids[1:] < opened.ids[:-1]).any():  # they are looked up by halving
                raise NotAsWrittenError("its recordings are not in order")
            return opened

    @classmethod
    def of_parts(cls, store: Store, parts: Sequence[Part], live: Ids) -> Self:
        """Read from the ledger where some recordings are.

        Args:
            store: The store.
            parts: Oldest first.
            live: Sorted ids of the recordings.
        """
        rows = store.files(("path_id", "status", *_COLUMNS, _ALIAS), parts)
        latest = rows.take(last_of_each(rows["path_id"].to_numpy()))
        present = latest.filter(pc.equal(latest["status"], "ok"))
        chosen = present.filter(contains(live, ids_from_column(present["recording_id"])))
        ordered = chosen.sort_by([(name, "ascending") for name in _COLUMNS])
        has_aliases = ordered[_ALIAS].null_count < len(ordered)
        return cls(ordered.select([*_COLUMNS, *([_ALIAS] if has_aliases else [])]))

    def write(self, path: Path) -> None:
        """Write a file for `open`."""
        rows = max(1, len(self._table))
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, self._table.schema) as out:
            out.write_table(self._table, max_chunksize=rows)
        sync_file(path)

    @property
    def table(self) -> pa.Table:
        """Columns recording_id, library_id and path: a row for each place of a recording.

        And file_digest, if some files hold the samples of a recording under other bytes.
        """
        return self._table

    @property
    def ids(self) -> Ids:
        """(num_places,) the recording at each place."""
        return self._ids

    def recording_of(self, digest: bytes) -> bytes:
        """Return the recording that a file holds, by the digest of its bytes; itself if unknown."""
        if _ALIAS in self._table.column_names and not len(self.rows_of(digest)):
            at = pc.index(self._table[_ALIAS], pa.scalar(digest, self._table[_ALIAS].type)).as_py()
            if at >= 0:
                return id_bytes(self._ids[at])
        return digest

    def aliases(self) -> list[tuple[bytes, bytes]]:
        """Return (digest of a file, its recording) of files whose bytes are not the recording's."""
        if _ALIAS not in self._table.column_names:
            return []
        some = self._table.filter(pc.is_valid(self._table[_ALIAS]))
        return list(zip(some[_ALIAS].to_pylist(), some["recording_id"].to_pylist(), strict=True))

    def rows_of(self, recording_id: bytes) -> pa.Table:
        """Return the rows of `table` with a recording's places; none if it is unknown."""
        [places] = self._places_of(np.array([recording_id], ID_DTYPE))
        return self._table.slice(places.start, len(places))

    def paths_of(self, recording_ids: Ids) -> list[list[tuple[str, str]]]:
        """Return (library_id, path) of the places of each recording; none if it is unknown."""
        return [
            [(self._libraries[place].as_py(), self._paths[place].as_py()) for place in places]
            for places in self._places_of(recording_ids)
        ]

    def _places_of(self, recording_ids: Ids) -> Iterator[range]:
        first, end = (self._ids.searchsorted(recording_ids, side) for side in ("left", "right"))
        return map(range, first.tolist(), end.tolist())

    def first_rows(self, recording_ids: Ids) -> Integers:
        """Return (n,) the row of `table` with the first place of each recording; -1 if unknown."""
        at = np.searchsorted(self._ids, recording_ids)
        known = contains(self._ids, recording_ids)
        return np.where(known, at, -1)


@dataclass(frozen=True, slots=True)
class PlaceColumns:
    """The places of all recordings as columns: those of one recording one after the other.

    Attributes:
        paths: (num_places,) text, relative to the library, as stored.
        libraries: (num_places,) text: last known root of the library; null if there is none.
        starts: (num_recordings,) first place of each recording.
    """

    paths: pa.Array
    libraries: pa.Array
    starts: Integers

    def __len__(self) -> int:
        return len(self.paths)

    def absolute_paths(self) -> pa.Array:
        """Return (num_places,) absolute paths as text; null where the root is not known."""
        return pc.binary_join_element_wise(pc.utf8_rtrim(self.libraries, "/"), self.paths, "/")

    def anywhere(self, mask: Mask) -> Mask:
        """Return (num_places,) what holds at any place of the same recording."""
        if not len(self):
            return mask
        counts = np.diff(np.append(self.starts, len(self)))
        return np.repeat(np.logical_or.reduceat(mask, self.starts), counts)


class Places:
    """Where recordings are on this machine, if their libraries are where they were last seen."""

    def __init__(self, recordings: Recordings, roots: Mapping[str, Path]) -> None:
        """Join recordings with their libraries; nothing is computed yet.

        Args:
            recordings: Of a generation.
            roots: library_id → its last known root.
        """
        self._recordings = recordings
        self._roots = dict(roots)

    @property
    def roots(self) -> dict[str, Path]:
        """library_id → its last known root."""
        return self._roots

    def paths(self, recording_ids: Ids) -> list[tuple[Path, ...]]:
        """Return all paths of each recording, sorted; none if it is unknown.

        What is in a library whose root nobody knows is in "(library ID)".
        """
        return [
            each_once([self._root(library) / local_path(path) for library, path in places])
            for places in self._recordings.paths_of(recording_ids)
        ]

    def of(self, recording_ids: Iterable[bytes]) -> tuple[list[bytes], Places]:
        """Return those of some recordings that are known, in order, and the places of these."""
        each = [(one, self._recordings.rows_of(one)) for one in sorted(set(recording_ids))]
        known = [(one, rows) for one, rows in each if len(rows)]
        tables = [self._recordings.table.slice(0, 0), *(rows for _, rows in known)]
        places = Places(Recordings(pa.concat_tables(tables)), self._roots)
        return [one for one, _ in known], places

    def first_paths(self, recording_ids: Ids) -> pa.Array:
        """Return the first path of each recording as text; each is looked up once.

        Args:
            recording_ids: (n,) ids, all of them of known recordings.

        Returns:
            (n,) strings, as `path_text` writes paths.
        """
        distinct, which = np.unique(recording_ids, return_inverse=True)
        rows = self._recordings.table.take(pa.array(self._recordings.first_rows(distinct)))
        libraries = rows["library_id"].combine_chunks().dictionary_encode()
        roots = [path_text(self._root(one)).rstrip("/") for one in libraries.dictionary.to_pylist()]
        of_each = pa.array(roots, pa.string()).take(libraries.indices)
        paths = pc.binary_join_element_wise(of_each, rows["path"].combine_chunks(), "/")
        return paths.take(pa.array(which))

    @cached_property
    def columns(self) -> PlaceColumns:
        """The places of all recordings, for filters: computed when it is first asked for."""
        table, ids = self._recordings.table, self._recordings.ids
        texts = pa.array([path_text(root) for root in self._roots.values()], pa.string())
        known = pa.array(list(self._roots), pa.string())
        number = pc.index_in(table["library_id"].combine_chunks(), value_set=known)
        is_first = np.append(np.ones(len(ids[:1]), bool), ids[1:] != ids[:-1])
        return PlaceColumns(
            paths=table["path"].combine_chunks(),
            libraries=texts.take(number),
            starts=np.flatnonzero(is_first),
        )

    def _root(self, library_id: str) -> Path:
        root = self._roots.get(library_id)
        return Path(f"(library {library_id})") if root is None else root


def each_once(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return paths sorted, each once; nearly always there is one, and nothing to compare."""
    return tuple(sorted(set(paths)) if len(paths) > 1 else paths)


def path_text(path: Path) -> str:
    r"""Return a path as text: bytes that are not UTF-8, and the backslash, as `\xNN`."""
    return text_from_bytes(os.fsencode(path))


def hex_ids(recording_ids: Ids) -> pa.Array:
    """Return (n,) ids of recordings in hex, as strings."""
    distinct, which = np.unique(recording_ids, return_inverse=True)
    in_hex = pa.array([id_bytes(one).hex() for one in distinct], pa.string())
    return in_hex.take(pa.array(which))
