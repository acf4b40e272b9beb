"""Windows that were selected one by one, as a condition: they are in it, or they are not.

A name for them stands among tags, and is heard with a probability of 1 in these windows, and of 0
in all others. They are kept in memory, by whoever selected them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from indexer.arrays import Float16, Float32, Integers, Mask, contains
from search.filters.tags import SELECTED_PREFIX
from search.generation.segments import Segment


class SelectedTerm(NamedTuple):
    """Some windows in a filter, as `search.filters.tags.Term` is a tag.

    Attributes:
        name: With the prefix; no two selections of a process have the same.
        window_ids: (n,) int64, ascending.
    """

    name: str
    window_ids: Integers

    def column(self, segment: Segment) -> Float16:
        """Return (num_rows,) float16: 1 in the rows that are selected, 0 in others.

        A segment keeps that of the last selection that was asked for: 2 bytes a row, of however
        many selections.
        """
        kept = segment.derived.get(SELECTED_PREFIX)
        if kept is None or kept[0] != self.name:
            column = contains(self.window_ids, segment.arrays["window_id"]).astype(np.float16)
            kept = segment.derived[SELECTED_PREFIX] = self.name, column
        return kept[1]

    def probabilities(self, segment: Segment, rows: Integers) -> Float16:
        """Return (n,) float16, 1 or 0, for some rows of a segment."""
        return np.asarray(self.column(segment)[rows])

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
        return np.asarray(self.column(segment) >= bound)
