"""Where the frame embeddings of rows are, in which part of a store and which row of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float16, Float32, Integers
from indexer.errors import DamagedStoreError
from indexer.store.disk import sync_file
from indexer.store.part import Part
from indexer.store.reader import PARTS_FOLDER, Store
from search.generation.mapped import map_array
from search.generation.segments import Generation

#: Number of the part among those of the generation, and row in it; -1 for a row that is dead.
PLACE_DTYPE = np.dtype([("part", "<i4"), ("row", "<i4")])


def write_places(folder: Path, segment: str, places: npt.NDArray[np.void]) -> None:
    """Write where the frames of a segment's rows are, into the folder of a generation.

    Parts are replaced by others while segments stay: this belongs to the generation.

    Args:
        folder: Of the generation.
        segment: Name of the segment.
        places: (num_rows,) `PLACE_DTYPE` of its rows, dead ones too.
    """
    path = places_file(folder, segment)
    path.write_bytes(places.tobytes())
    sync_file(path)


def open_places(generation: Path, segment: str, num_rows: int) -> npt.NDArray[np.void]:
    """Map what `write_places` wrote.

    Raises:
        DamagedStoreError: If it is missing or not of the expected size.
    """
    return map_array(places_file(generation, segment), PLACE_DTYPE, (num_rows,))


class StoredFrames:
    """The frame embeddings of a store, by the rows of a generation; threads may share them."""

    def __init__(self, store: Store, generation: Generation) -> None:
        """Prepare; nothing is read yet."""
        self._generation, self._mode = generation, store.identity.frames
        self._folder = store.path / PARTS_FOLDER
        self._parts: dict[int, Part] = {}

    @property
    def are_kept(self) -> bool:
        """Whether the store keeps any."""
        return self._mode != "none"

    def read(self, rows: Integers) -> list[Float32]:
        """Return (T, 768) float32 of each row, averaged over frequency, in the order asked for.

        They are not held against their digest, which takes seconds: who verifies the store does.

        Raises:
            DamagedStoreError: If they are not what was written, or not there any more.
        """
        found: dict[int, Float32] = {}
        for segment, local, at in self._generation.locate(rows):
            places, ids = self._places[segment.name][local], segment.arrays["window_id"][local]
            for number in np.unique(places["part"]).tolist():
                here = np.flatnonzero(places["part"] == number)
                part = self._part(number)
                for one, frames in part.each_frames(places["row"][here], self._mode, ids[here]):
                    found[int(at[here[one]])] = pooled(frames)
        return [found[number] for number in range(len(rows))]

    @cached_property
    def _places(self) -> Mapping[str, npt.NDArray[np.void]]:
        """Of each segment where the frames of its rows are."""
        return {
            one.name: open_places(self._generation.path, one.name, len(one))
            for one in self._generation.segments
        }

    def _part(self, number: int) -> Part:
        if number not in self._parts:
            names = self._generation.parts
            if not 0 <= number < len(names):
                raise DamagedStoreError(self._generation.path, "it has frames in an unknown part")
            self._parts[number] = Part.from_manifest(self._folder / names[number])
        return self._parts[number]


def pooled(frames: Float16) -> Float32:
    """Return (T, 768) float32 for (T, 768) or (T, 7, 768): averaged over frequency."""
    wide = frames.astype(np.float32)
    return wide if wide.ndim == 2 else wide.mean(1)


def places_file(folder: Path, segment: str) -> Path:
    """Return where the places of a segment's frames are, in the folder of a generation."""
    return folder / f"frames-{segment}.raw"
