"""The structure of a generation: which of its segments have sketches, and what these find."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from indexer.arrays import Float16, Float32, Integers
from indexer.errors import DamagedStoreError, QueryError
from indexer.progress import Listen, ignore
from indexer.store.verify import digest_problems
from search.generation.manifest import UNMEASURED, Effort, SegmentEntry, SketchEntry, digests
from search.generation.segments import Generation, Segment
from search.generation.writing import Arrange
from search.nearest.basis import Basis
from search.nearest.index import VectorIndex
from search.nearest.limits import (
    DEFAULT_RECALL,
    LEAST_MEMORY_BYTES,
    LEAST_RECALL,
    MOST_MEMORY_BYTES,
    MOST_RECALL,
)
from search.nearest.measure import measure_effort
from search.nearest.sketch import CHECKED, Sketch, sketch_file
from search.nearest.sketching import make_sketch

#: Up to so many windows all are compared, which takes a millisecond or two.
MOST_EXACT_ROWS = 10_000
#: Of more windows, segments of fewer rows are compared whole: a sketch is not worth its files.
MIN_SKETCHED_ROWS = 2_048
#: Measured anew when so many windows came or went, as a share of those it was measured with.
_MEASURED_ANEW = 0.2
#: Of a row, while its segment is written: all that is stored of it, and what its sketch takes.
_BUILT_BYTES = 6_500
#: Taken for the memory of a machine whose system does not say: Windows has no `sysconf`.
_UNTOLD_MACHINE_BYTES = 8 << 30


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """How an index is to be built.

    Attributes:
        memory_bytes: What building may take; None for half of the machine's memory.
        recall: Recall at 10 to be reached where an answer is not exact; None for what the
            previous index had, or 0.99.
    """

    memory_bytes: int | None = None
    recall: float | None = None

    def __post_init__(self) -> None:
        if self.recall is not None and not LEAST_RECALL <= self.recall <= MOST_RECALL:
            raise QueryError(
                f"the recall to reach is from {LEAST_RECALL} to {MOST_RECALL}, got {self.recall}; "
                f"a question that has to find all of the nearest can be answered exactly"
            )
        given = self.memory_bytes
        if given is not None and not LEAST_MEMORY_BYTES <= given <= MOST_MEMORY_BYTES:
            raise QueryError(
                f"building takes {LEAST_MEMORY_BYTES / 1e9:g} GB at least, and "
                f"{MOST_MEMORY_BYTES / 1e9:,.0f} GB at most, got {given:,} bytes"
            )

    @property
    def max_segment_rows(self) -> int:
        """Rows of a segment, at most: they are held in memory."""
        return max(1 << 14, (self.memory_bytes or _machine_bytes() // 2) // 2 // _BUILT_BYTES)


def _machine_bytes() -> int:
    if not hasattr(os, "sysconf"):
        return _UNTOLD_MACHINE_BYTES
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def open_index(generation: Generation) -> VectorIndex:
    """Open the index of a generation.

    Raises:
        DamagedStoreError: If it is not as it was written.
    """
    pairs = list(zip(generation.segments, generation.manifest.segments, strict=True))
    for segment, entry in pairs:
        for problem in digest_problems(segment.path, _checked(entry)):
            raise DamagedStoreError(problem.path, problem.reason, problem.remedy)
    sketches = [
        Sketch(one.path, entry.sketch, len(one)) if entry.sketch else None for one, entry in pairs
    ]
    bases: list[Basis] = []
    for sketch in filter(None, sketches):  # what asks is prepared once for each
        sketch.basis = _add(bases, sketch.basis)
    return VectorIndex(generation, generation.manifest.effort, sketches)


def _add(bases: list[Basis], basis: Basis) -> Basis:
    """Return the one of some bases that is the same; if none is, it is added."""
    for one in bases:
        if all(map(np.array_equal, one, basis)):
            return one
    bases.append(basis)
    return basis


def bases_of(generation: Generation) -> list[Basis]:
    """Return what the sketches of a generation have, each once; none if it is damaged there."""
    bases: list[Basis] = []
    with suppress(DamagedStoreError):
        for sketch in filter(None, open_index(generation).sketches):
            _add(bases, sketch.basis)
    return bases


def arrange_for(num_windows: int, listen: Listen, known: Iterable[Basis] = ()) -> Arrange:
    """Return what sketches the segments of a generation that are worth it.

    Args:
        num_windows: Live rows of the generation.
        listen: See `make_sketch`.
        known: Bases of other segments; those of segments that are made are known to the next.
    """
    bases = list(known)

    def arrange(
        folder: Path, vectors: Float32, tags: Float16
    ) -> tuple[SketchEntry | None, Integers]:
        if _is_sketch_wanted(len(vectors), num_windows):
            return make_sketch(folder, vectors, tags, listen, bases)
        return None, np.arange(len(vectors))

    return arrange


def _is_sketch_wanted(num_rows: int, num_windows: int) -> bool:
    return num_rows >= MIN_SKETCHED_ROWS and num_windows > MOST_EXACT_ROWS


def is_usable(segment: Segment, entry: SegmentEntry, num_windows: int) -> bool:
    """Whether a segment can be searched as it is in a generation of so many rows.

    That is if it has the sketch that it should have, and this can be opened.
    """
    if entry.sketch is None:
        return not _is_sketch_wanted(len(segment), num_windows)
    with suppress(OSError, DamagedStoreError):
        if not any(digest_problems(segment.path, _checked(entry))):
            Sketch(segment.path, entry.sketch, len(segment))
            return True
    return False


def _checked(entry: SegmentEntry) -> dict[str, str]:
    """Return name → digest of what is small in a sketch: held against it when it is opened."""
    names = {sketch_file(Path(), name).name for name in CHECKED}
    return {name: one for name, one in digests(entry.files).items() if name in names}


def measure(
    generation: Generation,
    previous: Effort | None,
    config: IndexConfig,
    listen: Listen = ignore,
) -> Effort:
    """Return how far the sketches of a new generation have to be looked through.

    Args:
        generation: Its segments are written; it is not published yet.
        previous: What was measured of the previous generation, if there was one.
        config: How good it is to be.
        listen: See `measure_effort`.
    """
    target = config.recall or (previous.target if previous else DEFAULT_RECALL)
    index = open_index(generation)
    if generation.num_windows <= MOST_EXACT_ROWS or not any(index.sketches):
        return replace(UNMEASURED, target=target)
    if previous and previous.target == target and _still_says_enough(previous, generation):
        return previous
    return measure_effort(index, target, listen)


def _still_says_enough(effort: Effort, generation: Generation) -> bool:
    """Whether not too many windows came and went since it was measured."""
    known = [one for one in generation.segments if one.name in effort.segments]
    num_left = sum(int(np.count_nonzero(one.alive)) for one in known)
    num_changed = effort.num_rows - num_left + generation.num_windows - num_left
    return bool(effort.measured) and num_changed <= _MEASURED_ANEW * effort.num_rows


def is_as_wanted(generation: Generation, config: IndexConfig) -> bool:
    """Whether a generation is what a build with this configuration would make."""
    is_good = config.recall in (None, generation.manifest.effort.target)
    return is_good and are_usable(generation)


def are_usable(generation: Generation) -> bool:
    """Whether all segments of a generation can be searched as they are."""
    pairs = zip(generation.segments, generation.manifest.segments, strict=True)
    return all(is_usable(segment, entry, generation.num_windows) for segment, entry in pairs)
