"""The live windows of a store as one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from indexer.arrays import (
    Float16,
    Float32,
    Ids,
    Integers,
    Mask,
    contains,
    id_bytes,
    ids_from_column,
)
from indexer.errors import StoreError
from indexer.store.lock import Hold
from indexer.store.parquet import FRAMES_FILE
from indexer.store.part import Part
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS, FramesMode
from indexer.tags import DEFAULT_THRESHOLD, Threshold, reaches
from indexer.windows import SAMPLE_RATE_HZ, Decibels, Window


class WindowTable(NamedTuple):
    """Windows as columns.

    Attributes:
        window_id: (n,) int64.
        recording_id: (n,) 16-byte ids.
        start_sample: (n,) int64, at 32 kHz.
        num_samples: (n,) int32, at 32 kHz.
    """

    window_id: Integers
    recording_id: Ids
    start_sample: Integers
    num_samples: npt.NDArray[np.int32]

    @property
    def audio_s(self) -> float:
        """Seconds of audio in them; what several windows of a recording share counts once."""
        if not len(self.window_id):
            return 0.0
        _, number = np.unique(self.recording_id, return_inverse=True)
        order = np.lexsort((self.start_sample, number))
        # Recordings are laid one behind the other, so that none reaches into the next.
        length = int((self.start_sample + self.num_samples).max())
        start = self.start_sample[order] + number[order] * length
        reached = np.maximum.accumulate(start + self.num_samples[order])
        before = np.append(start[:1], reached[:-1])
        return float((reached - np.maximum(start, before)).sum()) / SAMPLE_RATE_HZ

    def take(self, rows: Any) -> WindowTable:
        """Return the windows of some rows: an index array, a mask or a slice."""
        return WindowTable(*(column[rows] for column in self))

    def window(self, row: int) -> Window:
        """Return one row as a Window."""
        recording = id_bytes(self.recording_id[row])
        return Window(recording, int(self.start_sample[row]), int(self.num_samples[row]))

    def each(self) -> list[Window]:
        """Return every row as a Window."""
        columns = (column.tolist() for column in self[1:])
        return [Window(id_bytes(one), *span) for one, *span in zip(*columns, strict=True)]


class Block(NamedTuple):
    """Consecutive rows of a snapshot.

    Attributes:
        windows: n rows.
        scene: (n, 768) float32, as the network gave them, not normalised.
        tags: (n, 527) float16 probabilities.
        level_db: (n,) float32, the highest peak of each window's own audio, in dBFS; -inf of
            digital silence, and NaN where it is not known. None if it is known of none.
    """

    windows: WindowTable
    scene: Float32
    tags: Float16
    level_db: Decibels | None = None

    @property
    def levels(self) -> Decibels:
        """(n,) `level_db`, be it known or not."""
        return (
            np.full(len(self.scene), np.nan, np.float32) if self.level_db is None else self.level_db
        )


class Snapshot:
    """The live windows of an ordered list of parts; a row is a position in it.

    Attributes:
        parts: Oldest first.
        window_ids: (len(self),) int64 ids of the windows; the first of several with one id counts.
        recordings: (n,) 16-byte ids of the recordings that they are of, sorted, each once.
        hold: What keeps the parts on disk, if whoever made the snapshot wants that.
    """

    def __init__(self, parts: Sequence[Part], live: Ids, frames: FramesMode) -> None:
        """Find the live windows.

        Args:
            parts: Oldest first.
            live: Sorted ids of live recordings.
            frames: How the store keeps frame embeddings.

        Raises:
            StoreError: If two different windows have one id.
        """
        self.parts = tuple(parts)
        self.hold: Hold | None = None
        self._frames = frames
        self._intact: set[str] = set()  # parts whose frames were held against their digest
        sizes = [part.num_windows for part in self.parts]
        starts = np.cumsum([0, *sizes])
        ids, counts = np.empty(starts[-1], np.int64), np.empty(starts[-1], bool)
        recordings = [_NO_WINDOWS.recording_id]
        for part, start, size in zip(self.parts, starts.tolist(), sizes, strict=False):
            table, here = part.windows(("window_id", "recording_id")), slice(start, start + size)
            of = ids_from_column(table["recording_id"])
            ids[here], counts[here] = table["window_id"], contains(live, of)
            recordings.append(np.unique(of[counts[here]]))
        self.recordings: Ids = np.unique(np.concatenate(recordings))
        counts[self._again(ids, starts)] = False
        each = [np.flatnonzero(some) for some in np.split(counts, starts[1:-1])]
        self._bounds = np.cumsum([0, *map(len, each)])[: len(sizes) + 1]
        self._row_in_part = np.concatenate([_NO_ROWS, *(one.astype(np.int32) for one in each)])
        self.window_ids: Integers = ids[counts] if not counts.all() else ids

    def __len__(self) -> int:
        return len(self.window_ids)

    def _again(self, ids: Integers, starts: Integers) -> Integers:
        """Return the rows, of all in the parts, whose windows are in rows before them already.

        Args:
            ids: (n,) of all windows of the parts.
            starts: (num_parts + 1,) the first row of each part.

        Raises:
            StoreError: If two different windows have one id.
        """
        ordered = np.sort(ids)
        several = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        del ordered
        rows = np.flatnonzero(contains(several, ids)) if len(several) else _NO_WINDOWS.window_id
        part_of = np.searchsorted(starts, rows, side="right") - 1
        tables = [_NO_WINDOWS]
        for number in np.unique(part_of).tolist():
            table = _window_table(self.parts[number].windows(WindowTable._fields))
            tables.append(table.take(rows[part_of == number] - starts[number]))
        first = _first_of_each(_joined(tables))
        return np.delete(rows, first)

    @cached_property
    def windows(self) -> WindowTable:
        """One row per live window: read when it is first asked for, 36 bytes each."""
        tables = [_NO_WINDOWS]
        for part, low, high in self._spans():
            table = _window_table(part.windows(WindowTable._fields))
            tables.append(table.take(self._row_in_part[low:high]))
        return _joined(tables)

    def blocks(self, num_rows: int = 4096, wanted: Mask | None = None) -> Iterator[Block]:
        """Read rows in order, at most `num_rows` at a time, in bounded memory.

        Args:
            num_rows: In one block, at most.
            wanted: (len(self),) which rows; None for all. Parts without any are not read.
        """
        rows = np.arange(len(self)) if wanted is None else np.flatnonzero(wanted)
        for part, low, high in self._spans():
            here = rows[np.searchsorted(rows, low) : np.searchsorted(rows, high)]
            if len(here):
                yield from self._part_blocks(part, here, num_rows)

    def _part_blocks(self, part: Part, rows: Integers, num_rows: int) -> Iterator[Block]:
        in_part, seen = self._row_in_part[rows], 0
        for batch, scene, tags, levels in part.blocks(num_rows):
            first, last = np.searchsorted(in_part, [seen, seen + len(scene)])
            if last > first:
                at = in_part[first:last] - seen
                yield Block(_window_table(batch).take(at), scene[at], tags[at], levels[at])
            seen += len(scene)

    def by_part(self, wanted: Mask | None = None) -> Iterator[tuple[Part, Integers]]:
        """Yield each part with the positions in it of the rows that are wanted, if any are.

        Args:
            wanted: (len(self),) which rows; None for all.
        """
        for part, low, high in self._spans():
            rows = self._row_in_part[low:high]
            rows = rows if wanted is None else rows[wanted[low:high]]
            if len(rows):
                yield part, rows

    def places(self, window_ids: Integers) -> tuple[Integers, Integers]:
        """Return where some windows are stored.

        Args:
            window_ids: (n,) of any windows.

        Returns:
            (n,) numbers of their parts, in the order of `parts`, and (n,) rows in these; -1 for
            what is not live.
        """
        if not len(self):
            nowhere = np.full(len(window_ids), -1)
            return nowhere, nowhere
        ids, order = self.window_ids, self._in_order_of_ids
        rows = order[np.minimum(np.searchsorted(ids, window_ids, sorter=order), len(ids) - 1)]
        is_live = ids[rows] == window_ids
        parts = np.searchsorted(self._bounds, rows, side="right") - 1
        return np.where(is_live, parts, -1), np.where(is_live, self._row_in_part[rows], -1)

    @cached_property
    def _in_order_of_ids(self) -> Integers:
        return np.argsort(self.window_ids)

    def part_of(self, row: int) -> Part:
        """Return the part that holds a row."""
        return self.parts[int(np.searchsorted(self._bounds, row, side="right")) - 1]

    def scene(self, rows: Integers) -> Float32:
        """Return (n, 768) float32 scene embeddings of some rows, in the order asked for."""
        found: Float32 = self._gather(rows, "scene", np.dtype(np.float32), EMBEDDING_DIM)
        return found

    def tags(self, rows: Integers) -> Float16:
        """Return (n, 527) float16 probabilities of some rows, in the order asked for."""
        found: Float16 = self._gather(rows, "tags", np.dtype(np.float16), NUM_TAGS)
        return found

    def count_tags(self, threshold: Threshold = DEFAULT_THRESHOLD) -> Integers:
        """Return in how many windows each tag's probability reaches a threshold: (527,) int64."""
        counts = np.zeros(NUM_TAGS, np.int64)
        for block in self.blocks():
            counts += reaches(block.tags, threshold).sum(0)
        return counts

    def frames(self, rows: Integers, *, published_layout: bool = False) -> list[Float16]:
        """Return the frame embeddings of some rows, in the order asked for.

        Args:
            rows: Positions in the snapshot.
            published_layout: Return (768, T, 7) or (768, T) as the published code does, rather
                than the stored (T, 7, 768) or (T, 768).

        Returns:
            One float16 array per row: T differs with the length of the window.

        Raises:
            StoreError: If the store was made without frames.
            DamagedStoreError: If those of one of the parts are not as they were written.
        """
        if self._frames == "none":
            raise StoreError(
                "this store has no frame embeddings, for it was made without; another store, with "
                "them, can be made",
                about="frames",
                value="pooled",
            )
        result: dict[int, Float16] = {}
        for part, places, in_part in self._locate(rows):
            if part.name not in self._intact:
                part.require_intact(FRAMES_FILE)
                self._intact.add(part.name)
            result.update(zip(places, part.frames(in_part, self._frames), strict=True))
        ordered = [result[place] for place in range(len(result))]
        return [np.moveaxis(one, -1, 0) for one in ordered] if published_layout else ordered

    def _spans(self) -> Iterator[tuple[Part, int, int]]:
        """Parts that have live rows, each with its first row and the one after its last."""
        for part, low, high in zip(self.parts, self._bounds[:-1], self._bounds[1:], strict=True):
            if high > low:
                yield part, int(low), int(high)

    def _gather(self, rows: Integers, column: str, dtype: np.dtype[Any], width: int) -> Any:
        result = np.empty((len(rows), width), dtype)
        for part, places, in_part in self._locate(rows):
            result[places] = part.floats(column, in_part)
        return result

    def _locate(self, rows: Integers) -> Iterator[tuple[Part, Integers, Integers]]:
        """Group rows by part: (part, their positions in `rows`, their rows in the part)."""
        rows = np.asarray(rows, np.int64)
        if np.any((rows < 0) | (rows >= len(self))):
            raise IndexError(f"rows are 0 to {len(self) - 1}, got {rows.min()} to {rows.max()}")
        for part, low, high in self._spans():
            places = np.flatnonzero((rows >= low) & (rows < high))
            if len(places):
                yield part, places, self._row_in_part[rows[places]]


_NO_WINDOWS = WindowTable(
    np.empty(0, np.int64), np.empty(0, "S16"), np.empty(0, np.int64), np.empty(0, np.int32)
)


_NO_ROWS = np.empty(0, np.int32)


def _joined(tables: Sequence[WindowTable]) -> WindowTable:
    return WindowTable(*(np.concatenate(column) for column in zip(*tables, strict=True)))


def _window_table(table: pa.Table | pa.RecordBatch) -> WindowTable:
    return WindowTable(
        table["window_id"].to_numpy(),
        ids_from_column(table["recording_id"]),
        table["start_sample"].to_numpy(),
        table["num_samples"].to_numpy(),
    )


def _first_of_each(windows: WindowTable) -> Integers:
    """Return the first row of every window id, in row order; one id for two is an error."""
    _, first, inverse = np.unique(windows.window_id, return_index=True, return_inverse=True)
    require_same(windows, windows.take(first[inverse]))
    return np.sort(first)


def require_same(windows: WindowTable, others: WindowTable) -> None:
    """Raise unless windows are the same as others with the same ids.

    Raises:
        StoreError: If one of them is not.
    """
    for column, other in zip(windows, others, strict=True):
        if np.any(column != other):
            clash = windows.window_id[np.flatnonzero(column != other)[0]]
            raise StoreError(
                f"two different windows have the id {clash}; rebuild the store: a window id is 63 "
                f"bits of a digest, so this is damage or extraordinary bad luck"
            )
