"""Writing segments: live rows from the parts, with vectors of length 1 and a byte for each tag."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float16, Float32, Integers, Mask
from indexer.progress import Listen, Step
from indexer.store.disk import replacing, sync_file, sync_folder
from indexer.store.schema import NUM_TAGS
from indexer.store.snapshot import Block, Snapshot
from indexer.tags import TagVocabulary
from search.generation.manifest import SegmentEntry, SketchEntry, describe_files
from search.generation.segments import (
    CODES,
    SEGMENT_ARRAYS,
    TEMPORARY_PREFIX,
    array_file,
    code_of,
    map_array,
)

_BLOCK_ROWS = 4096
#: Given the folder of a segment that is not there yet, its (n, 768) vectors and (n, 527) tags,
#: writes a sketch of them there, and returns it with the order that its rows are to have; None
#: leaves them as they are.
Arrange = Callable[[Path, Float32, Float16], tuple[SketchEntry, Integers] | None]


def write_segments(
    folder: Path,
    snapshot: Snapshot,
    wanted: Mask,
    max_segment_rows: int,
    listen: Listen,
    arrange: Arrange,
) -> list[SegmentEntry]:
    """Write rows as segments.

    Args:
        folder: Of all segments.
        snapshot: Live rows.
        wanted: (len(snapshot),) which of them.
        max_segment_rows: Rows of a segment, at most.
        listen: Hears how many rows are written.
        arrange: Puts the rows of each segment in order.

    Returns:
        What a manifest says of each segment.
    """
    total, done = int(wanted.sum()), 0
    written: list[SegmentEntry] = []
    segment: _SegmentWriter | None = None
    for block in snapshot.blocks(_BLOCK_ROWS, wanted):
        at = 0
        while at < len(block.scene):
            if segment is None:
                segment = _SegmentWriter(folder, min(max_segment_rows, total - done))
            at += segment.add(block, at)
            if segment.is_full:
                done += segment.num_rows
                written.append(segment.publish(arrange))
                segment = None
        listen(Step("indexing", done + (segment.filled if segment else 0), total, "window"))
    return written


class _SegmentWriter:
    """One segment on its way to disk: its rows as they come, and its codes at the end.

    Files are written, not mapped: on a full disk, writing is an error and a mapping is a crash.
    """

    def __init__(self, segments: Path, num_rows: int) -> None:
        self._groups = [list(indices) for _, indices in TagVocabulary.audioset().groups]
        self._segments = segments
        self._name = uuid.uuid4().hex
        self._folder = self._segments / f"{TEMPORARY_PREFIX}{self._name}"
        self._folder.mkdir()
        self._codes = np.empty((NUM_TAGS + len(self._groups), num_rows), np.uint8)  # 176 MB at most
        self.num_rows, self.filled = num_rows, 0

    @property
    def is_full(self) -> bool:
        return self.filled == self.num_rows

    def add(self, block: Block, start: int) -> int:
        """Take as many rows of a block, from `start` on, as there is room for."""
        stop = min(len(block.scene), start + self.num_rows - self.filled)
        rows = slice(start, stop)
        columns: dict[str, npt.NDArray[Any]] = block.windows.take(rows)._asdict()
        columns |= {"vectors": normalise(block.scene[rows]), "tags": block.tags[rows]}
        columns["level_db"] = block.levels[rows]
        for name, (dtype, _) in SEGMENT_ARRAYS.items():
            with array_file(self._folder, name).open("ab") as file:
                file.write(np.ascontiguousarray(columns[name], dtype).data)
        to = slice(self.filled, self.filled + stop - start)
        codes = code_of(block.tags[rows]).T  # (527, n)
        self._codes[:NUM_TAGS, to] = codes
        for number, indices in enumerate(self._groups):
            self._codes[NUM_TAGS + number, to] = codes[indices].max(0)
        self.filled = to.stop
        return stop - start

    def publish(self, arrange: Arrange) -> SegmentEntry:
        """Put its rows in order, make it appear, and return what a manifest says of it."""
        sketch = None
        if arranged := arrange(self._folder, self._map("vectors"), self._map("tags")):
            sketch, order = arranged
            self._reorder(order)
        array_file(self._folder, CODES).write_bytes(np.ascontiguousarray(self._codes).data)
        for file in self._folder.iterdir():
            sync_file(file)
        sync_folder(self._folder)
        files = describe_files(self._folder.iterdir())
        entry = SegmentEntry(self._name, self.num_rows, len(self._codes), files, sketch)
        self._folder.rename(self._segments / self._name)
        sync_folder(self._segments)
        return entry

    def _map(self, name: str) -> npt.NDArray[Any]:
        dtype, shape = SEGMENT_ARRAYS[name]
        return map_array(array_file(self._folder, name), dtype, (self.num_rows, *shape))

    def _reorder(self, order: Integers) -> None:
        for name in SEGMENT_ARRAYS:
            array = self._map(name)
            with replacing(array_file(self._folder, name)) as file:
                for first in range(0, len(order), _BLOCK_ROWS):
                    file.write(array[order[first : first + _BLOCK_ROWS]].data)
        for column in self._codes:
            column[:] = column[order]


def normalise(scene: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return vectors of length 1, so that their dot product is the cosine similarity.

    Args:
        scene: (n, 768) float32 scene embeddings.

    Returns:
        (n, 768) float32; a vector of zeros stays as it is.
    """
    length = np.sqrt(np.square(scene, dtype=np.float64).sum(1, keepdims=True))
    return np.asarray(scene / np.maximum(length, np.finfo(np.float32).tiny), np.float32)
