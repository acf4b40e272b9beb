"""Asking for more until it is enough: in blocks, and again where an answer is not complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from indexer.arrays import Float32, Integers, Mask

#: Vectors that are asked about at a time, at most.
BLOCK_VECTORS = 1024
#: Answers that are held at a time, at most: vectors times rows for each.
_MAX_CELLS = 1 << 20
#: Where an answer is not complete, this many times more rows are asked for.
_GROWTH = 4


class Near(NamedTuple):
    """Rows that are near to what was asked about.

    Attributes:
        asked: (n,) which question each row answers.
        scores: (n,) float32.
        rows: (n,) positions: in a generation, or in several one after the other.
        stands_for: (n,) how many rows each is returned for: one, unless others were dropped for it.
    """

    asked: Integers
    scores: Float32
    rows: Integers
    stands_for: Integers

    def take(self, at: Any) -> Near:
        """Return some of the rows."""
        return Near(*(column[at] for column in self))

    @property
    def ranks(self) -> Integers:
        """(n,) how many rows stand before each for its question; questions have to be sorted."""
        return np.arange(len(self.asked)) - np.searchsorted(self.asked, self.asked)

    @classmethod
    def joined(cls, parts: list[Near]) -> Near:
        """Return the rows of several answers, one after the other."""
        none = cls.each(np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64))
        return cls(*(np.concatenate(column) for column in zip(none, *parts, strict=True)))

    @classmethod
    def each(cls, asked: Integers, scores: Float32, rows: Integers) -> Near:
        """Return rows that stand for nothing but themselves."""
        return cls(asked, scores, rows, np.ones(len(rows), np.int64))


def block_size(k: int) -> int:
    """Return how many vectors are asked about at a time for k rows each, in bounded memory."""
    return max(1, min(BLOCK_VECTORS, _MAX_CELLS // k))


def find_enough(
    ask: Callable[[Integers, int], tuple[Near, Mask]], num_questions: int, k: int, most: int
) -> Iterator[Near]:
    """Find for each question as many rows as it takes.

    Args:
        ask: Given (n,) numbers of questions, and how many rows to look at for each, returns those
            of them that are hits, and a (n,) mask of the questions for which these are enough.
            A question for which fewer rows were there than it was to look at must be among them.
        num_questions: Questions are numbered from 0 on.
        k: How many rows are looked at for each at first; more later, where that was not enough.
        most: How many rows there are.

    Yields:
        The hits of some questions, in any order of these; each question's at one time.
    """
    pending = np.arange(num_questions)
    while len(pending):
        k = min(k, most + 1)  # then the last place stays empty
        size = block_size(k)
        short = []
        for first in range(0, len(pending), size):
            block = pending[first : first + size]
            found, is_enough = ask(block, k)
            is_done = np.zeros(num_questions, bool)
            is_done[block[is_enough]] = True
            yield found.take(is_done[found.asked])
            short.append(block[~is_enough])
        pending = np.concatenate(short)
        k *= _GROWTH


def near_of(asked: Integers, scores: Float32, rows: Integers) -> Near:
    """Return answers as `VectorIndex.search_many` gives them as a list of rows.

    Args:
        asked: (n,) which question each line answers.
        scores: (n, m) float32.
        rows: (n, m) rows; -1 where there is none.
    """
    line, column = np.nonzero(rows >= 0)
    return Near.each(asked[line], scores[line, column], rows[line, column])
