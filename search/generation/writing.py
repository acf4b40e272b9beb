"""Writing segments: live rows from the parts, with vectors of length 1 and a byte for each tag."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float16, Float32, Integers, Mask
from indexer.progress import Listen, Step
from indexer.store.disk import remove_all, sync_file, sync_folder
from indexer.store.schema import NUM_TAGS
from indexer.store.snapshot import Snapshot
from indexer.tags import TagVocabulary
from search.generation.codes import code_of
from search.generation.manifest import FileEntry, SegmentEntry, SketchEntry, describe_files
from search.generation.mapped import Lookup, array_file, number_of
from search.generation.segments import (
    CODES,
    SEGMENT_ARRAYS,
    TEMPORARY_PREFIX,
    Segment,
)

_BLOCK_ROWS = 4096
#: Given the folder of a segment that is not there yet, its (n, 768) vectors and (n, 527) tags,
#: writes a sketch of them there if one is wanted, and returns it with the order of its rows.
Arrange = Callable[[Path, Float32, Float16], tuple[SketchEntry | None, Integers]]


#: Some rows: name → (n, …) of each of `SEGMENT_ARRAYS`.
Columns = dict[str, npt.NDArray[Any]]


def rows_of_parts(snapshot: Snapshot, wanted: Mask) -> Iterator[Columns]:
    """Read rows from the parts, with vectors of length 1.

    Args:
        snapshot: Live rows.
        wanted: (len(snapshot),) which of them.
    """
    for block in snapshot.blocks(_BLOCK_ROWS, wanted):
        columns: Columns = block.windows._asdict()
        columns |= {"vectors": normalise(block.scene), "tags": block.tags}
        yield columns | {"level_db": block.levels}


def rows_of_segment(segment: Segment, wanted: Mask) -> Iterator[Columns]:
    """Read rows of a segment as they are.

    Args:
        segment: Whose.
        wanted: (num_rows,) which of them.
    """
    rows = np.flatnonzero(wanted)
    for first in range(0, len(rows), _BLOCK_ROWS):
        some = rows[first : first + _BLOCK_ROWS]
        yield {name: segment.rows_of(name, some) for name in SEGMENT_ARRAYS}


def write_segments(
    folder: Path,
    rows: Iterable[Columns],
    total: int,
    max_segment_rows: int,
    listen: Listen,
    arrange: Arrange,
) -> list[SegmentEntry]:
    """Write rows as segments, of about as many rows each.

    Args:
        folder: Of all segments.
        rows: The rows, some at a time.
        total: How many these are.
        max_segment_rows: Rows of a segment, at most.
        listen: Hears how many rows are written.
        arrange: Puts the rows of each segment in order.

    Returns:
        What a manifest says of each segment.
    """
    num_segments = -(-total // max_segment_rows)
    each = -(-total // max(1, num_segments))
    done, shelf = 0, uuid.uuid4().hex
    written: list[SegmentEntry] = []
    segment: _SegmentWriter | None = None
    try:
        for columns in rows:
            at = 0
            while at < len(columns["window_id"]):
                if segment is None:
                    segment = _SegmentWriter(folder, shelf, min(each, total - done))
                at += segment.add(columns, at)
                if segment.is_full:
                    done += segment.num_rows
                    written.append(segment.publish(arrange))
                    segment = None
            listen(Step("indexing", done + (segment.filled if segment else 0), total, "window"))
    finally:
        if segment is not None:  # on a full disk, what is left of it would keep it full
            segment.discard()
    return written


class _SegmentWriter:
    """One segment on its way to disk: held in memory until its rows can be put in order.

    Files are written, not mapped: on a full disk, writing is an error and a mapping is a crash.
    """

    def __init__(self, segments: Path, shelf: str, num_rows: int) -> None:
        self._groups = [list(indices) for _, indices in TagVocabulary.audioset().groups]
        self._segments, self._shelf = segments, shelf
        self._name = uuid.uuid4().hex
        self._folder = self._segments / f"{TEMPORARY_PREFIX}{self._name}"
        self._folder.mkdir()
        self._arrays = {
            name: np.empty((num_rows, *shape), dtype)
            for name, (dtype, shape) in SEGMENT_ARRAYS.items()
        }
        self._codes = np.empty((NUM_TAGS + len(self._groups), num_rows), np.uint8)
        self.num_rows, self.filled = num_rows, 0

    @property
    def is_full(self) -> bool:
        return self.filled == self.num_rows

    def add(self, columns: Columns, start: int) -> int:
        """Take as many rows, from `start` on, as there is room for."""
        stop = min(len(columns["window_id"]), start + self.num_rows - self.filled)
        rows, to = slice(start, stop), slice(self.filled, self.filled + stop - start)
        for name, array in self._arrays.items():
            array[to] = columns[name][rows]
        codes = code_of(columns["tags"][rows]).T  # (527, n)
        self._codes[:NUM_TAGS, to] = codes
        for number, indices in enumerate(self._groups):
            self._codes[NUM_TAGS + number, to] = codes[indices].max(0)
        self.filled = to.stop
        return stop - start

    def discard(self) -> None:
        """Delete what is written of it."""
        remove_all(self._folder)

    def publish(self, arrange: Arrange) -> SegmentEntry:
        """Put its rows in order, make it appear, and return what a manifest says of it."""
        sketch, order = arrange(self._folder, self._arrays["vectors"], self._arrays["tags"])
        files = describe_files(self._folder.iterdir())
        for name, array in self._arrays.items():
            file = array_file(self._folder, name)
            blocks = range(0, self.num_rows, _BLOCK_ROWS)
            files[file.name] = _write(file, (array[order[at : at + _BLOCK_ROWS]] for at in blocks))
        file = array_file(self._folder, CODES)
        files[file.name] = _write(file, (column[order] for column in self._codes))
        ids, recordings = (self._arrays[one][order] for one in ("window_id", "recording_id"))
        for name, numbers in (("id", ids), ("recording", number_of(recordings))):
            lookup = Lookup.of(numbers)
            both: list[npt.NDArray[Any]] = [lookup.keys, lookup.rows]
            for one, in_order in zip(Lookup.array_names(name), both, strict=True):
                file = array_file(self._folder, one)
                files[file.name] = _write(file, [in_order])
        for file in self._folder.iterdir():
            sync_file(file)
        sync_folder(self._folder)
        entry = SegmentEntry(
            self._name, self._shelf, self.num_rows, len(self._codes), files, sketch
        )
        self._folder.rename(self._segments / self._name)
        sync_folder(self._segments)
        return entry


def _write(path: Path, blocks: Iterable[npt.NDArray[Any]]) -> FileEntry:
    """Write arrays one after the other, and return what a manifest says of the file."""
    digest, num_bytes = hashlib.sha256(), 0
    with path.open("wb") as file:
        for block in blocks:
            digest.update(block.data)
            file.write(block.data)
            num_bytes += block.nbytes
    return FileEntry(num_bytes, digest.hexdigest())


def normalise(scene: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return vectors of length 1, so that their dot product is the cosine similarity.

    Args:
        scene: (n, 768) float32 scene embeddings.

    Returns:
        (n, 768) float32; a vector of zeros stays as it is.
    """
    length = np.sqrt(np.square(scene, dtype=np.float64).sum(1, keepdims=True))
    return np.asarray(scene / np.maximum(length, np.finfo(np.float32).tiny), np.float32)
