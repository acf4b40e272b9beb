"""Terms of which no column is stored: what they are computed from gives one for each segment."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from indexer.arrays import Float16, Float32, Integers, Mask
from search.generation.segments import Segment


class Computed(Protocol):
    """What a column can be computed from."""

    def column(self, segment: Segment) -> Float16:
        """Return (num_rows,) float16 probabilities of a segment's rows."""


class ComputedTerm(NamedTuple):
    """A computed column in a filter, as `search.filters.tags.Term` is a tag of AudioSet's."""

    of: Computed

    def probabilities(self, segment: Segment, rows: Integers) -> Float16:
        """Return (n,) float16 probabilities in some rows of a segment."""
        return np.asarray(self.of.column(segment)[rows])

    def exactly(self, segment: Segment, rows: Integers) -> Float32:
        """Return `probabilities` as float32."""
        return self.probabilities(segment, rows).astype(np.float32)

    def least(self, segment: Segment, rows: Integers) -> Float32:
        """Return what `exactly` does: all is known."""
        return self.exactly(segment, rows)

    def greatest(self, segment: Segment, rows: Integers) -> Float32:
        """Return what `exactly` does: all is known."""
        return self.exactly(segment, rows)

    def reaches(self, segment: Segment, bound: np.float16) -> Mask:
        """Return (num_rows,) which rows have a probability at or above a bound, dead rows too."""
        return np.asarray(self.of.column(segment) >= bound)


def computed_once(
    segment: Segment, name: str, content: str, compute: Callable[[], Float16]
) -> Float16:
    """Return a column of a segment, computed unless it is kept there.

    Args:
        segment: Which keeps one column under a name: that of the content asked for last.
        name: Under which it is kept.
        content: What tells it from others of that name.
        compute: Makes it.
    """
    kept = segment.derived.get(name)
    if kept is None or kept[0] != content:
        kept = segment.derived[name] = content, compute()
    return kept[1]
