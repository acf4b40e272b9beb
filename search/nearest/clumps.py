"""Clumps: the rows of a list in sixteens that follow each other, such that those of each are alike.

Of most lists that may hold something near, most rows are far. A list is where it is cheap to be
found, a clump where few rows are looked at in vain. The first of a list has what is left over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32, Integers
from search.nearest.bytes import Bytes

#: Rows of a clump. Where 19,900 rows of 10^6 had to be looked at with lists of 256 alone (p95),
#: there were 13,900 with clumps of 32, 10,000 with these and 8,400 of 8, which are twice as many.
CLUMP_ROWS = 16
#: After so many steps of the power method the axis along which most rows differ is near enough.
_POWER_STEPS = 6
#: Clumps that are described at a time.
_BLOCK = 512


class Middles(NamedTuple):
    """Where clumps are.

    Attributes:
        codes: (n, d) int8 the mean of the codes of each.
        spreads: (2, n) float32 how far its rows usually are from it, by the mean of squares: their
            scenes, and what is heard.
    """

    codes: Bytes
    spreads: Float32


def count_clumps(sizes: Integers) -> Integers:
    """Return how many clumps lists of some sizes have."""
    return np.asarray(-(-sizes // CLUMP_ROWS))


def order_rows(rows: Float32) -> Integers:
    """Return (n,) an order in which those of each clump are alike, given (n, d) rows of a list.

    They are cut in two along the axis along which they differ most, and so on.
    """
    number = len(rows)
    if number <= CLUMP_ROWS:
        return np.arange(number)
    order = np.argsort(_along_main_axis(rows), kind="stable")
    middle = number - round(number / CLUMP_ROWS / 2) * CLUMP_ROWS
    return np.concatenate([some[order_rows(rows[some])] for some in np.split(order, [middle])])


def _along_main_axis(rows: Float32) -> Float32:
    """Return (n,) where rows lie along the axis along which they differ most."""
    rows = rows - rows.mean(0)
    axis = rows[np.square(rows).sum(1).argmax()]
    for _ in range(_POWER_STEPS):
        axis = rows.T @ (rows @ axis)
        axis /= max(np.linalg.norm(axis), np.finfo(np.float32).tiny)
    return np.asarray(rows @ axis)


def describe_clumps(codes: Bytes, sizes: Integers, step: float, parts: Sequence[slice]) -> Middles:
    """Describe the clumps of lists.

    Args:
        codes: (num_rows, d) int8 of all rows, list by list.
        sizes: (num_lists,) rows of each list.
        step: Of a code.
        parts: Which components are of scenes, and which of roots.
    """
    firsts = clump_firsts(sizes)
    middles = np.empty((len(firsts), codes.shape[1]), np.int8)
    spreads = np.empty((2, len(firsts)), np.float32)
    for at in range(0, len(firsts), _BLOCK):
        some = firsts[at : at + _BLOCK]
        block = slice(at, at + len(some))
        last = firsts[at + _BLOCK] if at + _BLOCK < len(firsts) else len(codes)
        each = np.diff(some, append=last)
        rows = codes[some[0] : last].astype(np.float32)
        means = np.rint(_means(rows, some - some[0], each))
        middles[block] = means
        away = np.square((rows - np.repeat(means, each, axis=0)) * np.float32(step))
        squares = np.stack([away[:, part].sum(1) for part in parts], axis=1)
        spreads[:, block] = np.sqrt(_means(squares, some - some[0], each)).T
    return Middles(middles, spreads)


def _means(rows: npt.NDArray[Any], firsts: Integers, counts: Integers) -> Float32:
    return np.asarray(np.add.reduceat(rows, firsts) / counts[:, None], np.float32)


def follow(firsts: Integers, counts: Integers) -> Integers:
    """Return numbers that follow each other: as many as are counted from each of some firsts on."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(firsts + counts - ends, counts)


def place_clumps(ends: Integers, counts: Integers) -> tuple[Integers, Integers]:
    """Return of each clump of some lists (n,) which of these it is of, and (n,) the row behind it.

    Args:
        ends: (m,) the row behind each list.
        counts: (m,) how many clumps it has.
    """
    of, last = np.repeat(np.arange(len(counts)), counts), np.cumsum(counts) - 1
    num_behind = last[of] - np.arange(len(of))  # in the list
    return of, ends[of] - CLUMP_ROWS * num_behind


def clump_firsts(sizes: Integers) -> Integers:
    """Return (n,) the first row of each clump of lists of some sizes."""
    ends = np.cumsum(sizes)
    of, behind = place_clumps(ends, count_clumps(sizes))
    return np.asarray(np.maximum(behind - CLUMP_ROWS, (ends - sizes)[of]))
