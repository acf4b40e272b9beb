"""Sketches for stores that are small: a real one has thousands of windows before it has any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pytest
from oracle import Array

from search.asking.sound_index import SoundIndex
from search.generation.allowed import Allowed
from search.generation.manifest import Effort, Measured
from search.generation.segments import Generation
from search.nearest import scan
from search.nearest.index import VectorIndex
from search.nearest.lists import take_together
from search.nearest.plan import Plan
from search.nearest.sketch import Sketch


@contextmanager
def sketching(
    rows_per_list: int = 32, least_rows: int = 1, most_exact_rows: int = 0
) -> Iterator[None]:
    """Have what is built meanwhile sketched, however few windows it holds.

    Args:
        rows_per_list: On average; fewer than usual, so that there are many lists to choose from.
        least_rows: Of a segment that gets a sketch.
        most_exact_rows: Of a generation that has none.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.nearest.structure.MOST_EXACT_ROWS", most_exact_rows)
        patch.setattr("search.nearest.structure.MIN_SKETCHED_ROWS", least_rows)
        patch.setattr("search.nearest.sketching._ROWS_PER_LIST", rows_per_list)
        patch.setattr("search.nearest.measure._NUM_QUESTIONS", 20)
        yield


def scenes_of(num_rows: int, seed: int = 1, world: int = 0) -> Array:
    """(num_rows, 768) float32 around 30 centres; their spectrum falls off, as real scenes' does.

    Args:
        num_rows: How many.
        seed: Of the rows.
        world: Of the centres.
    """
    rng = np.random.default_rng(seed)
    spread = 3 / (1 + np.arange(768) / 8)
    centres = spread * np.random.default_rng(world).normal(0, 1, (30, 768))
    scenes = centres[rng.integers(0, 30, num_rows)]
    return np.asarray(scenes + 0.6 * spread * rng.normal(0, 1, scenes.shape), np.float32)


def with_little_effort(index: SoundIndex, num_scanned: int, margin: float = 0.0) -> SoundIndex:
    """Let the sketches of an index be looked through hardly further, whatever that finds."""
    for one in index.opened:
        spare(one.index, num_scanned, margin)
    return index


def spare(index: VectorIndex, num_scanned: int, margin: float = 0.0) -> VectorIndex:
    """Do the same with the index of one store; nothing without sketches."""
    if any(index.sketches):
        told = Measured(
            share=1.0,
            reach=0.0,
            num_scanned=num_scanned,
            margin=margin,
            finer_margin=margin,
            num_scored=10,
            recall=0.5,
            ms=1.0,
        )
        index.effort = Effort(0.5, index.generation.num_windows, (told,))
    return index


def sketches_of(generation: Generation) -> list[Sketch]:
    """The sketches of all segments, which must have them."""
    pairs = zip(generation.segments, generation.manifest.segments, strict=True)
    return [Sketch(one.path, entry.sketch, len(one)) for one, entry in pairs if entry.sketch]


class Part(NamedTuple):
    """A segment with a sketch, and which of its rows may be found, without a generation around it.

    Attributes:
        start: Its first row.
        sketch: Its sketch.
        mask: (num_rows,) which rows may be found.
        num_matching: How many these are.
        rows: (n,) these rows; None if they are not known.
    """

    start: int
    sketch: Sketch
    mask: Array
    num_matching: int
    rows: Array | None = None


def propose(parts: Sequence[Part], vectors: Array, plan: Plan) -> scan.Proposed:
    """Propose rows of some segments."""
    starts = np.array([one.start for one in parts], np.int64)
    masks, counts, rows = ([one[at] for one in parts] for at in (2, 3, 4))
    every = take_together([one.sketch for one in parts], starts)
    return scan.propose(every, Allowed(tuple(masks), tuple(counts), tuple(rows)), vectors, plan)
