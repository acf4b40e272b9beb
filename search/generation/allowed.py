"""Which rows of a generation may be found: a mask for each segment, counted once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from indexer.arrays import Integers, Mask

#: Where no more than this share of a segment's rows may be found, they are kept as numbers, too: of
#: four bytes, they take no more than the mask.
_FEW = 1 / 4


@dataclass(frozen=True, slots=True)
class Allowed:
    """Rows that may be found.

    Attributes:
        masks: (num_rows,) of each segment, which of its rows.
        counts: How many of each.
        rows: (n,) int32 of each segment these rows, in order; None where they are many.
        counted: What was counted of them, by what counts: once, as many questions ask for the same.
        whole: Those of which some were left out for one question; None if none were.
    """

    masks: tuple[Mask, ...]
    counts: tuple[int, ...]
    rows: tuple[npt.NDArray[np.int32] | None, ...]
    counted: dict[object, Any] = field(default_factory=dict, repr=False, compare=False)
    whole: Self | None = None

    @classmethod
    def of(cls, masks: Iterable[Mask]) -> Self:
        """Count the rows of masks."""
        masks = tuple(masks)
        counts = tuple(int(np.count_nonzero(mask)) for mask in masks)
        rows = tuple(
            np.flatnonzero(mask).astype(np.int32) if count <= _FEW * len(mask) else None
            for mask, count in zip(masks, counts, strict=True)
        )
        return cls(masks, counts, rows)

    @property
    def num_rows(self) -> int:
        """How many rows may be found."""
        return sum(self.counts)

    def rows_of(self, number: int) -> Integers:
        """Return (n,) the rows of a segment that may be found, in order."""
        rows = self.rows[number]
        return np.flatnonzero(self.masks[number]) if rows is None else rows.astype(np.int64)

    def of_segments(self, are_kept: Sequence[bool]) -> Allowed:
        """Return it with some segments, and none of the rows of all others."""
        none = np.empty(0, np.int32)
        return Allowed(
            tuple(
                mask if kept else np.zeros_like(mask)
                for mask, kept in zip(self.masks, are_kept, strict=True)
            ),
            tuple(one if kept else 0 for one, kept in zip(self.counts, are_kept, strict=True)),
            tuple(one if kept else none for one, kept in zip(self.rows, are_kept, strict=True)),
        )

    def without(self, rows: Sequence[Integers]) -> Allowed:
        """Return it without some rows of each segment, which need not be among them.

        Args:
            rows: (n,) of each segment, each row once.
        """
        masks, counts, few = list(self.masks), list(self.counts), list(self.rows)
        for number, some in enumerate(rows):
            found = int(np.count_nonzero(masks[number][some]))
            if found:
                masks[number] = mask = masks[number].copy()
                mask[some] = False
                counts[number] -= found
                if (own := few[number]) is not None:
                    few[number] = own[mask[own]]
        return Allowed(tuple(masks), tuple(counts), tuple(few), whole=self.whole or self)
