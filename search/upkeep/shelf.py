"""Shelves: segments that are written together, and share their rows by what is alike.

Lists of a segment are cells of its rows. If it has the rows of some cells of the whole shelf, then
all lists of the shelf are cells of all its rows, and as small as may be: what is near a question is
in few. Rows as they come would have lists in each segment that are as wide as those of any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol

import numpy as np

from indexer.arrays import Float16, Float32, Integers
from indexer.progress import Listen
from search.generation.manifest import SegmentEntry
from search.generation.sorting import sort_rows
from search.generation.writing import Columns, write_segments
from search.nearest.basis import Basis
from search.nearest.cells import FITTED_ROWS, Cells, find_cells
from search.nearest.structure import arrange_for

#: By so many cells, and in their order, rows are divided among segments. All of them together
#: are found with `FITTED_ROWS`.
_CELLS_PER_SEGMENT, _MOST_CELLS = 8, 400


class Source(Protocol):
    """Rows that are to be written."""

    @property
    def num_written(self) -> int:
        """How many these are."""

    @property
    def num_windows(self) -> int:
        """Live rows of the index, with those that are written already."""

    def rows(self) -> Iterator[Columns]:
        """Yield the rows, some at a time."""

    def sample(self, number: int) -> Iterator[Columns]:
        """Yield about so many of them, drawn from all."""


def write_shelf(
    folder: Path, source: Source, max_segment_rows: int, listen: Listen, known: list[Basis]
) -> list[SegmentEntry]:
    """Write rows as segments, in the order of their cells if one does not hold them.

    Args:
        folder: Of all segments.
        source: The rows.
        max_segment_rows: Rows of a segment, at most.
        listen: Hears how many rows are done.
        known: Bases of other segments; what is found is added.

    Returns:
        What a manifest says of each segment.
    """
    rows, total = source.rows(), source.num_written
    num_segments = -(-total // max_segment_rows)
    with ExitStack() as stack:
        if num_segments > 1 and (cells := _find_cells(source, num_segments, listen, known)):
            known.append(cells.basis)

            def locate(vectors: Float32, tags: Float16) -> Integers:
                return cells.locate(vectors, tags)[0]

            # Closed even if they are not written: an error that is kept would keep them on disk.
            rows = stack.enter_context(closing(sort_rows(folder, rows, total, locate, listen)))
        arrange = arrange_for(source.num_windows, listen, known)
        return write_segments(folder, rows, total, max_segment_rows, listen, arrange)


def _find_cells(
    source: Source, num_segments: int, listen: Listen, known: list[Basis]
) -> Cells | None:
    """Find cells for so many segments; None if nearly all rows are damaged."""
    pairs = [(one["vectors"], one["tags"]) for one in source.sample(FITTED_ROWS)]
    vectors, tags = (np.concatenate(column) for column in zip(*pairs, strict=True))
    del pairs  # another 70 MB
    number = min(_MOST_CELLS, num_segments * _CELLS_PER_SEGMENT)
    return find_cells(vectors, tags, number, listen, known)
