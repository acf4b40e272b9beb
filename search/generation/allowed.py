"""Which rows of a generation may be found: a mask for each segment, counted once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np

from indexer.arrays import Integers, Mask


class Allowed(NamedTuple):
    """Rows that may be found.

    Attributes:
        masks: (num_rows,) of each segment, which of its rows.
        counts: How many of each.
    """

    masks: tuple[Mask, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, masks: Iterable[Mask]) -> Self:
        """Count the rows of masks."""
        masks = tuple(masks)
        return cls(masks, tuple(int(np.count_nonzero(mask)) for mask in masks))

    @property
    def num_rows(self) -> int:
        """How many rows may be found."""
        return sum(self.counts)

    def without(self, rows: Sequence[Integers]) -> Allowed:
        """Return it without some rows of each segment, which need not be among them.

        Args:
            rows: (n,) of each segment, each row once.
        """
        masks, counts = list(self.masks), list(self.counts)
        for number, some in enumerate(rows):
            found = int(np.count_nonzero(masks[number][some]))
            if found:
                masks[number] = masks[number].copy()
                masks[number][some] = False
                counts[number] -= found
        return Allowed(tuple(masks), tuple(counts))
