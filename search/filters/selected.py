"""Windows that were selected one by one, as a condition: they are in it, or they are not.

A name for them stands among tags, and is heard with a probability of 1 in these windows, and of 0
in all others. They are kept in memory, by whoever selected them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from indexer.arrays import Float16, Integers, contains
from search.filters.computed import computed_once
from search.filters.tags import SELECTED_PREFIX
from search.generation.segments import Segment


class Selected(NamedTuple):
    """Some windows; a `ComputedTerm` of them stands in a filter.

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
        ids = segment.arrays["window_id"]
        return computed_once(
            segment,
            SELECTED_PREFIX,
            self.name,
            lambda: contains(self.window_ids, ids).astype(np.float16),
        )
