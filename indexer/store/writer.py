"""Writing to a store: parts that appear whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexer.arrays import ID_DTYPE, RECORDING_ID_BYTES, id_bytes
from indexer.store.disk import (
    TEMPORARY_PREFIX,
    is_temporary,
    read_sealed,
    remove_all,
    require_own_folder,
    seal,
    sha256_of,
    sync_file,
    sync_folder,
    write_whole,
    writing,
)
from indexer.store.parquet import FILES_FILE, FRAMES_FILE, SCENE_FILE
from indexer.store.part import MANIFEST_FILE, Part, part_names, reading
from indexer.store.reader import PARTS_FOLDER, Store
from indexer.store.schema import (
    FILES_SCHEMA,
    FORMAT_VERSION,
    FRAMES_ROW_GROUP,
    FRAMES_SCHEMA,
    SCENE_SCHEMA,
    STORE_FILE,
    FramesMode,
    LedgerRow,
    Origin,
    frame_shape,
)
from indexer.store.snapshot import Block

#: Rows in one row group, at most: 5 MB of scenes and tags.
_ROW_GROUPS = {SCENE_FILE: 1024, FRAMES_FILE: FRAMES_ROW_GROUP, FILES_FILE: 1 << 16}
#: Columns of the ledger that say the same few things again and again.
_FEW_VALUES = ["library_id", "status", "stage", "reason", "codec"]
#: Columns of the ledger that come from outside.
_FREE_TEXT = ("reason", "codec", "warnings")
#: What is kept of them: a sentence or a few.
_MOST_FREE_BYTES = 4096
_KEPT = "; what was committed is kept, and running again continues"


class PartWriter:
    """Collects windows and ledger rows in a temporary folder, and commits them as one part.

    Used as a context: leaving it by an error throws away what was not committed. Whoever uses it
    holds `indexer.store.lock.sole_writer`.
    """

    def __init__(self, store: Store, origin: Origin) -> None:
        """Prepare; nothing is written before the first row.

        Args:
            store: Where to.
            origin: How the rows were computed.
        """
        self._parts = store.path / PARTS_FOLDER
        self._origin = origin
        self._mode: FramesMode = store.identity.frames
        self._start_afresh()

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not (self.num_windows or self.num_ledger_rows)

    def add_windows(self, block: Block, frames: np.ndarray[Any, Any] | None) -> None:
        """Add embedded windows.

        Args:
            block: n windows with scene embeddings and tags.
            frames: (n, T, 768) or (n, T, 7, 768), as the store keeps them; None with "none".

        Raises:
            StoreError: If the disk is full or read-only.
        """
        with self._all_or_nothing():
            scene = _scene_table(block)
            if self._mode != "none":
                self._write(FRAMES_FILE, _frames_table(block, frames, self._mode))
            self._write(SCENE_FILE, scene)
            self._recordings.update(id_bytes(one) for one in np.unique(block.windows.recording_id))
            self.num_windows += scene.num_rows

    def add_ledger(self, rows: Sequence[LedgerRow]) -> None:
        """Add what happened to some paths."""
        self._ledger.extend(rows)
        self._finished.update(row.recording_id for row in rows if row.status == "ok")
        self.num_ledger_rows += len(rows)

    def add_rows(self, name: str, rows: pa.Table) -> None:
        """Add rows of a file of another part as they are.

        Args:
            name: Of the file. Where there are frames, they need the same rows as the scenes, in the
                same order.
            rows: With the columns of that file.

        Raises:
            StoreError: If the disk is full or read-only.
        """
        with self._all_or_nothing():
            self._write(name, rows)
        if name == SCENE_FILE:
            self._recordings.update(rows["recording_id"].unique().to_pylist())
            self.num_windows += len(rows)
        elif name == FILES_FILE:
            ok = rows.filter(pc.equal(rows["status"], "ok"))
            self._finished.update(ok["recording_id"].to_pylist())
            self.num_ledger_rows += len(rows)

    def commit(
        self,
        replaces: Sequence[str] = (),
        sequence: int | None = None,
        *,
        is_claim: bool = False,
    ) -> Part | None:
        """Publish everything that was added as one part, and start afresh.

        Args:
            replaces: Names of the parts that this one stands for.
            sequence: Its place in the order of parts; None for the one after all others.
            is_claim: Whether its words are on what others hold, see `Part`.

        Returns:
            The part, or None if nothing was added.
        """
        if self.is_empty:
            return None
        with self._all_or_nothing():
            self._seal(replaces, is_claim=is_claim)
            target = publish(self._folder, sequence)
            self._start_afresh()
        return Part.open(target)

    def _seal(self, replaces: Sequence[str], *, is_claim: bool) -> None:
        """Make the folder whole: from here on nothing in it changes."""
        self._write(FILES_FILE, _ledger_table(self._ledger))
        for name, table in self._pending.items():
            if len(table):
                self._write_rows(name, table)
        manifest = {
            "files": {name: self._close(name) for name in self._writers},
            "num_windows": self.num_windows,
            "origin": asdict(self._origin),
            "replaces": list(replaces),
            # Windows are here, but no word yet that they are all of their recording's.
            "unfinished": sorted(one.hex() for one in self._recordings - self._finished),
            **({"is_claim": True} if is_claim else {}),
        }
        write_whole(self._folder / MANIFEST_FILE, seal(manifest))

    def _close(self, name: str) -> tuple[int, str]:
        """Finish one of the files, and return its size in bytes and its SHA-256."""
        path = self._folder / name
        self._writers[name].close()
        sync_file(path)
        return path.stat().st_size, sha256_of(path)

    def abandon(self) -> None:
        """Throw away what was added since the last commit."""
        for writer in self._writers.values():
            with suppress(OSError, pa.ArrowException):  # the disk may be full: that is why
                writer.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._start_afresh()

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Throw everything away if a step breaks off: half of it must not be committed later."""
        try:
            with writing(self._parts.parent, _KEPT):
                yield
        except BaseException:
            self.abandon()
            raise

    def _start_afresh(self) -> None:
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._pending: dict[str, pa.Table] = {}
        self._ledger: list[LedgerRow] = []
        self._recordings: set[bytes] = set()  # that have windows here
        self._finished: set[bytes | None] = set()  # that have an "ok" row here
        self.num_windows = self.num_ledger_rows = 0
        self._uuid = uuid.uuid4().hex
        self._folder = self._parts / f"{TEMPORARY_PREFIX}{self._uuid}"

    def _write(self, name: str, table: pa.Table) -> None:
        """Write what fills row groups, and hold the rest until more rows or the commit come."""
        held = pa.concat_tables([self._pending.get(name, table.slice(0, 0)), table])
        num_whole = len(held) - len(held) % _ROW_GROUPS[name]
        if num_whole:
            self._write_rows(name, held.slice(0, num_whole))
        self._pending[name] = held.slice(num_whole)

    def _write_rows(self, name: str, table: pa.Table) -> None:
        if name not in self._writers:
            self._folder.mkdir(exist_ok=True)
            is_ledger = name == FILES_FILE
            # Embeddings do not compress; dictionaries and page statistics of them are wasted time.
            self._writers[name] = pq.ParquetWriter(
                self._folder / name,
                table.schema,
                compression="zstd" if is_ledger else "none",
                use_dictionary=_FEW_VALUES if is_ledger else False,
                write_statistics=["window_id", "path_id"],
            )
        self._writers[name].write_table(table.combine_chunks(), _ROW_GROUPS[name])


def _scene_table(block: Block) -> pa.Table:
    windows, scene, tags, _ = block
    recording_ids = np.ascontiguousarray(windows.recording_id, ID_DTYPE)
    columns = [
        pa.array(windows.window_id, pa.int64()),
        pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(RECORDING_ID_BYTES), len(recording_ids), [None, pa.py_buffer(recording_ids)]
        ),
        pa.array(windows.start_sample, pa.int64()),
        pa.array(windows.num_samples, pa.int32()),
        _fixed_lists(scene, np.float32),
        _fixed_lists(tags, np.float16),
        pa.array(block.levels, pa.float32(), from_pandas=True),  # NaN becomes null
    ]
    return pa.Table.from_arrays(columns, schema=SCENE_SCHEMA)


def _frames_table(block: Block, frames: np.ndarray[Any, Any] | None, mode: FramesMode) -> pa.Table:
    shape = None if frames is None else frames.shape
    if frames is None or frames.shape[1:] != frame_shape(mode, frames.shape[1]):
        raise ValueError(f"the store keeps {mode} frames, got shape {shape}")
    blobs = [np.ascontiguousarray(one, "<f2").tobytes() for one in frames]
    columns = [
        pa.array(block.windows.window_id, pa.int64()),
        pa.array([frames.shape[1]] * len(frames), pa.int32()),
        pa.array(blobs, pa.large_binary()),
    ]
    return pa.Table.from_arrays(columns, schema=FRAMES_SCHEMA)


def _ledger_table(rows: Sequence[LedgerRow]) -> pa.Table:
    columns = {name: [getattr(row, name) for row in rows] for name in FILES_SCHEMA.names}
    for name in _FREE_TEXT:
        columns[name] = [text and _encodable(text) for text in columns[name]]
    return pa.Table.from_pydict(columns, FILES_SCHEMA)


def _encodable(text: str) -> str:
    """Escape surrogates, since what a decoder says may quote a name; cut what is too long."""
    return text.encode("utf-8", "backslashreplace")[:_MOST_FREE_BYTES].decode(errors="ignore")


def _fixed_lists(values: np.ndarray[Any, Any], dtype: type[np.floating[Any]]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values, dtype).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _bring_up_to_date(path: Path) -> None:
    """Let a store say that it is of this version, before a part of this version is added.

    Raises:
        StoreError: If store.json is damaged.
        OSError: If it cannot be written.
    """
    with reading(path / STORE_FILE):
        document = read_sealed(path / STORE_FILE)
    if document["format_version"] != FORMAT_VERSION:
        now = {
            "format_version": FORMAT_VERSION,
            "written_by": f"soundalike {version('soundalike')}",
        }
        write_whole(path / STORE_FILE, seal({**document, **now}))


def publish(sealed: Path, sequence: int | None = None) -> Path:
    """Let a folder of which nothing is missing be a part of the store that it lies in.

    It takes one renaming: a reader sees all of it or nothing. Whoever calls this holds
    `indexer.store.lock.sole_writer`.

    Args:
        sealed: A folder among the parts, under a temporary name.
        sequence: Its place in the order of parts; None for the one after all others.

    Returns:
        Where the part is now.

    Raises:
        StoreError: If store.json is damaged.
        OSError: If the disk is full or read-only.
    """
    parts, name = sealed.parent, sealed.name.removeprefix(TEMPORARY_PREFIX)
    place = _next_sequence(parts) if sequence is None else sequence
    target = parts / f"{place:010d}-{name}"
    _bring_up_to_date(parts.parent)
    sealed.rename(target)
    sync_folder(parts)
    return target


def _next_sequence(parts: Path) -> int:
    return max((int(name.partition("-")[0]) for name in part_names(parts)), default=0) + 1


def remove_leftovers(store: Store) -> int:
    """Delete what processes left behind that ended in the middle of writing.

    Whoever calls this holds `indexer.store.lock.sole_writer`, so that nobody is writing now.

    Returns:
        How many there were.
    """
    parts = store.path / PARTS_FOLDER
    with reading(parts):
        require_own_folder(parts)
        found = [
            entry
            for folder in (store.path, parts)
            for entry in folder.iterdir()
            if is_temporary(entry.name)
        ]
    for entry in found:
        remove_all(entry)
    return sum(not entry.exists() for entry in found)
