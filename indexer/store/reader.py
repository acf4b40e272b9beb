"""Reading a store: its identity, its parts, its ledger, and its live windows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from safetensors.numpy import load as load_safetensors

from indexer.arrays import (
    ID_DTYPE,
    Ids,
    Integers,
    contains,
    id_bytes,
    ids_from_column,
)
from indexer.errors import DamagedStoreError, NotAsWrittenError, StoreError
from indexer.paths import address_of, as_place
from indexer.store.disk import read_own, read_sealed
from indexer.store.head import Head
from indexer.store.ledger import LEDGER_COLUMNS, Ledger
from indexer.store.lock import Hold
from indexer.store.parquet import SCENE_FILE
from indexer.store.part import Part, part_names, reading
from indexer.store.schema import (
    FILES_SCHEMA,
    READABLE_VERSIONS,
    STORE_FILE,
    Identity,
    LedgerRow,
    is_text,
)
from indexer.store.snapshot import Snapshot
from indexer.store.words import last_words, ledger_schema, words_on
from indexer.tags import Threshold

LIBRARIES_FILE = "libraries.json"
HEAD_FILE = "head.safetensors"
PARTS_FOLDER = "parts"
#: Where the workers of a run embed shards that it publishes, see `indexer.store.staging`.
STAGING_FOLDER = "staging"

#: What to do where the files are damaged that are not in a part.
_STORE_REMEDY = (
    f"bring {STORE_FILE} and {HEAD_FILE} back from a copy, or from another store that was made "
    f"with the same checkpoint and options"
)
_LIBRARIES_REMEDY = (
    "bring it back from a copy; without one, remove it, and index the libraries again, which "
    "embeds nothing that is in the store"
)
_PARTS_REMEDY = (
    "bring it back from a copy; without one, put an empty folder there, and index the libraries "
    "again, which embeds everything anew"
)

#: Reading is tried this often while parts are replaced and deleted meanwhile.
_ATTEMPTS = 5
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Store:
    """A directory of embeddings.

    Attributes:
        path: The directory.
        identity: How everything in it was computed.
        checkpoint: Name or file of the checkpoint, as it was given when the store was made.
        head_digest: SHA-256 of head.safetensors.
        known: Name of the published checkpoint that its weights are of, by whoever made the store.
    """

    path: Path
    identity: Identity
    checkpoint: str
    head_digest: str
    known: str | None = None

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a store for reading.

        Raises:
            StoreError: If there is none at `path`, or one of a version that this code cannot read.
            DamagedStoreError: If store.json is not what was written.
        """
        with reading(path / STORE_FILE, _STORE_REMEDY):
            try:
                document = read_sealed(path / STORE_FILE)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise _no_store(path) from error
            if document["format_version"] not in READABLE_VERSIONS:
                readable = " and ".join(map(str, READABLE_VERSIONS))
                raise StoreError(
                    f"{path} has format {document['format_version']}, this version reads "
                    f"{readable}; install the version of soundalike that wrote it: "
                    f"{document['written_by']}"
                )
            identity = Identity.from_dict(document["identity"])
            checkpoint, digest = document["checkpoint"], document["head_sha256"]
            known = document.get("known")
            if not all(
                is_text(one) for one in (checkpoint, digest, "" if known is None else known)
            ):
                raise NotAsWrittenError(
                    "what it says of its checkpoint, or of its head, is no short text"
                )
            return cls(path, identity, checkpoint, digest, known)

    def part_names(self) -> list[str]:
        """Return the names of all committed parts, oldest first, replaced ones included."""
        with reading(self.path / PARTS_FOLDER, _PARTS_REMEDY):
            return part_names(self.path / PARTS_FOLDER)

    def parts(self) -> list[Part]:
        """Return the parts that count, oldest first: those that no other part replaces.

        Raises:
            DamagedStoreError: If one of them is not as it was written.
        """
        return self.from_parts(list)

    def from_parts(self, read: Callable[[list[Part]], _T]) -> _T:
        """Read from the parts that count; again, if some were replaced and deleted meanwhile.

        Args:
            read: Called with the parts, oldest first.

        Raises:
            DamagedStoreError: If a part that counts is not as it was written.
            StoreError: If parts are replaced faster than they can be read.
        """
        for _ in range(_ATTEMPTS):
            names = self.part_names()
            # A list that was taken while one part took the place of others may have none of them.
            while (again := self.part_names()) != names:
                names = again
            try:
                return read(self._counting(names))
            except DamagedStoreError:
                if set(names) <= set(self.part_names()):  # none was deleted, so it is damage
                    raise
        raise StoreError(f"the parts of {self.path} change faster than they can be read; try again")

    def _counting(self, names: Sequence[str]) -> list[Part]:
        """Return the parts that no other replaces; what became of the others does not matter."""
        parts: list[Part] = []
        errors: dict[str, StoreError] = {}
        for name in names:
            try:
                parts.append(Part.from_manifest(self.path / PARTS_FOLDER / name))
            except StoreError as error:
                errors[name] = error
        replaced = {name for part in parts for name in part.replaces}
        for name in sorted(errors.keys() - replaced):
            raise errors[name]
        counting = [part for part in parts if part.name not in replaced]
        for part in counting:
            part.require_sizes()
        return counting

    def ledger(self, parts: Sequence[Part] | None = None) -> Ledger:
        """Return the last word on every path."""
        if parts is None:
            return self.from_parts(self.ledger)
        return Ledger(batch for part in parts for batch in part.ledger(LEDGER_COLUMNS))

    def count_tags(self, threshold: Threshold) -> Integers:
        """Return in how many live windows each tag's probability reaches a threshold: (527,)."""
        return self.snapshot().count_tags(threshold)

    def files(
        self, columns: Iterable[str] = FILES_SCHEMA.names, parts: Sequence[Part] | None = None
    ) -> pa.Table:
        """Return ledger rows of all parts, oldest first: the history, not only the last word."""
        names = list(columns)
        if parts is None:
            return self.from_parts(lambda parts: self.files(names, parts))
        batches = (batch for part in parts for batch in part.ledger(names))
        return pa.Table.from_batches(batches, ledger_schema(names)).combine_chunks()

    def latest_files(
        self, columns: Sequence[str] = FILES_SCHEMA.names, parts: Sequence[Part] | None = None
    ) -> pa.Table:
        """Return the last ledger row of every path, ordered by path_id."""
        if parts is None:
            return self.from_parts(lambda parts: self.latest_files(columns, parts))
        names = list(dict.fromkeys(["path_id", *columns]))
        table = pa.Table.from_batches(last_words(parts, names), ledger_schema(names))
        return table.sort_by("path_id").select(list(columns))

    def live_files(self) -> list[tuple[str, bytes]]:
        """Return each path with the recording that it holds, sorted.

        A path is there more than once if several libraries have it, with different content.
        """
        table = self.latest_files(("path", "recording_id", "status"))
        rows = zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
        return sorted({(path, recording) for path, recording, status in rows if status == "ok"})

    def files_at(self, path_ids: Integers, parts: Sequence[Part] | None = None) -> list[LedgerRow]:
        """Return the last ledger row of some paths, as objects, ordered by path_id."""
        if not len(path_ids):
            return []
        rows = self.rows_at(path_ids, FILES_SCHEMA.names, parts)
        return [LedgerRow(**row) for row in rows.to_pylist()]

    def rows_at(
        self, path_ids: Integers, columns: Sequence[str], parts: Sequence[Part] | None = None
    ) -> pa.Table:
        """Return columns of the last ledger row of some paths, ordered by path_id."""
        if parts is None:
            return self.from_parts(lambda parts: self.rows_at(path_ids, columns, parts))
        return words_on(parts, np.unique(path_ids), columns)

    def describe(self, rows: Sequence[LedgerRow]) -> list[LedgerRow]:
        """Return rows of known content with what an earlier "ok" row says of it.

        Length, beginning, rate, channels, codec and warnings are those of the content, whatever its
        path is.
        """
        if not rows:
            return []
        wanted = np.unique(np.array([row.recording_id for row in rows], ID_DTYPE))
        known = self.from_parts(lambda parts: _descriptions(parts, wanted))
        keys = ((row.recording_id, row.span_start, row.span_samples) for row in rows)
        return [replace(row, **known.get(key, {})) for row, key in zip(rows, keys, strict=True)]

    def extents(self, parts: Sequence[Part] | None = None) -> tuple[Ids, Integers, Integers]:
        """Return where the recordings begin and how long they are that were embedded whole.

        Returns:
            Their ids, sorted, as many int64 places where they begin on their time line, and as many
            int64 lengths, all in samples at 32 kHz.
        """
        if parts is None:
            return self.from_parts(self.extents)
        ids, firsts, lengths = [_NO_RECORDINGS], [_NO_IDS], [_NO_IDS]
        for batch in (one for part in parts for one in part.ledger(_OF_EXTENT)):
            is_whole = pc.and_(pc.equal(batch["status"], "ok"), pc.is_null(batch["span_start"]))
            whole = batch.filter(pc.and_(is_whole, pc.is_valid(batch["num_samples"])))
            ids.append(ids_from_column(whole["recording_id"]))
            firsts.append(whole["first_sample"].fill_null(0).to_numpy())
            lengths.append(whole["num_samples"].to_numpy())
        distinct, at = np.unique(np.concatenate(ids), return_index=True)
        return distinct, np.concatenate(firsts)[at], np.concatenate(lengths)[at]

    def audio_ids(self, parts: Sequence[Part] | None = None) -> tuple[Ids, Ids]:
        """Return what is known of the samples of recordings that were embedded whole.

        Returns:
            Digests of samples, sorted, and as many recordings that hold them.
        """
        if parts is None:
            return self.from_parts(self.audio_ids)
        audio_ids, recordings = [_NO_RECORDINGS], [_NO_RECORDINGS]
        columns = ("status", "audio_id", "recording_id")
        for batch in (one for part in parts for one in part.ledger(columns)):
            is_known = pc.and_(pc.equal(batch["status"], "ok"), pc.is_valid(batch["audio_id"]))
            known = batch.filter(is_known)
            audio_ids.append(ids_from_column(known["audio_id"]))
            recordings.append(ids_from_column(known["recording_id"]))
        distinct, at = np.unique(np.concatenate(audio_ids), return_index=True)
        return distinct, np.concatenate(recordings)[at]

    def libraries(self) -> dict[str, Path]:
        """Return library_id → last known root."""
        file = self.path / LIBRARIES_FILE
        with reading(file, _LIBRARIES_REMEDY):
            try:
                roots = read_sealed(file)["roots"]
            except FileNotFoundError:
                return {}
            return {str(key): as_place(root) for key, root in roots.items()}

    def head(self) -> Head:
        """Return the classifier head and the final LayerNorm of the store's checkpoint.

        Raises:
            DamagedStoreError: If the file is not what was written.
        """
        file = self.path / HEAD_FILE
        with reading(file, _STORE_REMEDY):
            content = read_own(file)
            if hashlib.sha256(content).hexdigest() != self.head_digest:
                raise NotAsWrittenError(f"its digest is not that in {STORE_FILE}")
            tensors = load_safetensors(content)
            return Head(*(tensors[name] for name in Head._fields))

    def snapshot(self, parts: Sequence[Part] | None = None) -> Snapshot:
        """Return the live windows: those of recordings that some path still names.

        Args:
            parts: Those that count, oldest first; what is in them is believed. None if they are to
                be listed: then they stay on disk as long as the snapshot is used, whatever takes
                their place, and every scene.parquet is held against its digest before. It takes a
                second for 100,000 windows.

        Raises:
            DamagedStoreError: If a part is not as it was written.
        """
        if parts is None:
            hold = self.hold()  # before the parts are listed
            snapshot = self.from_parts(self._intact_snapshot)
            snapshot.hold = hold
            return snapshot
        return Snapshot(parts, self.ledger(parts).live_recordings(), self.identity.frames)

    def _intact_snapshot(self, parts: Sequence[Part]) -> Snapshot:
        for part in parts:
            if part.num_windows:
                part.require_intact(SCENE_FILE)
        return self.snapshot(parts)

    def hold(self) -> Hold:
        """Return what keeps all parts that count now, or from now on, as long as it is there."""
        return Hold(self.path)

    def partial_windows(self, parts: Sequence[Part], known: Ids) -> dict[bytes, Integers]:
        """Return the windows of recordings that a run began and did not finish.

        Args:
            parts: Of the store, oldest first.
            known: Sorted content ids of finished recordings (`Ledger.known`).

        Returns:
            Recording id → (num_windows,) int64, the sorted ids of its windows that are in the
            store.
        """
        recordings, windows = [_NO_RECORDINGS], [_NO_IDS]
        for part in parts:
            begun = np.array(part.unfinished, ID_DTYPE)
            begun = np.sort(begun[~contains(known, begun)])
            if len(begun):
                table = part.windows(("window_id", "recording_id"))
                ids = ids_from_column(table["recording_id"])
                chosen = contains(begun, ids)
                recordings.append(ids[chosen])
                windows.append(table["window_id"].to_numpy()[chosen])
        recording, window = np.concatenate(recordings), np.concatenate(windows)
        order = np.lexsort((window, recording))
        found, starts = np.unique(recording[order], return_index=True)
        pieces = np.split(window[order], starts[1:])
        return {id_bytes(one): np.unique(piece) for one, piece in zip(found, pieces, strict=False)}


#: What a row says of a content, and what tells one content from another.
_OF_SAMPLES = ("num_samples", "sample_rate", "channels", "codec", "audio_id", "first_sample")
_DESCRIPTION = (*_OF_SAMPLES, "warnings")
_CONTENT = ("recording_id", "span_start", "span_samples")
_OF_EXTENT = ("status", "recording_id", "span_start", "num_samples", "first_sample")


def _descriptions(parts: Sequence[Part], recordings: Ids) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return content → what its "ok" rows say of it, for sorted ids of recordings."""
    known: dict[tuple[Any, ...], dict[str, Any]] = {}
    columns = ("status", *_CONTENT, *_DESCRIPTION)
    for batch in (one for part in parts for one in part.ledger(columns)):
        is_wanted = contains(recordings, ids_from_column(batch["recording_id"]))
        for row in batch.filter(pa.array(is_wanted)).to_pylist():
            if row["status"] == "ok" and row["num_samples"] is not None:
                key = tuple(row[name] for name in _CONTENT)
                known[key] = {name: row[name] for name in _DESCRIPTION}
    return known


_NO_IDS = np.empty(0, np.int64)
_NO_RECORDINGS = np.empty(0, ID_DTYPE)


def _no_store(path: Path) -> StoreError:
    """Return an error that says where the store is, if a library was named in its place."""
    if address := address_of(path):
        return StoreError(f"a store lies on a disk here, not at {address}; copy it to one")
    whole = path.resolve()
    name = f"{whole.name}.soundalike"  # what it is called unless told otherwise
    if path.is_file():
        return StoreError(f"{path} is a file; a store is a folder")
    for beside in (path.parent / name, Path(name), whole.parent / name, *whole.parents[:3]):
        if (beside / STORE_FILE).is_file():
            return StoreError(f"no store at {path}; {beside} is one", about="stored", value=beside)
    if path.is_dir() and not (path / PARTS_FOLDER).exists():  # that would be a store, damaged
        message = f"{path} is a folder, and no store; index it to make one"
        return StoreError(message, about="library", value=path)
    return StoreError(f"no store at {path}; index a library to make one", about="index", value=path)
