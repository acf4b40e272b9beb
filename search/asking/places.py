"""Places: windows of one recording that overlap by half or more, as the best of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from indexer.arrays import Integers, Mask
from indexer.windows import Geometry
from search.generation.segments import Rows
from search.nearest.enough import Near

Seconds = npt.NDArray[np.float64]
Times = Integers | Seconds


def windows_at_once(geometry: Geometry) -> int:
    """Return how many windows, from its first on, begin within half a window of each other.

    So many are looked at for each place that is wanted: with a hop of 10 s one, of 1 s six.
    """
    return 1 + geometry.window_samples // 2 // geometry.hop_samples


def best_of_places(index: Rows, near: Near, spans: tuple[Seconds, Seconds] | None = None) -> Mask:
    """Return (n,) which rows stand for a place.

    They are chosen from the best to the worst: a row is dropped if it overlaps one that was chosen
    for the same question, in the same recording, by at least half of the shorter of the two. What
    is chosen of the best rows is therefore the same, whatever comes after them.

    Args:
        index: What the rows belong to.
        near: The rows of some questions; those of each in order, the best first.
        spans: (n,) where what counts of each begins and (n,) where it ends; None for all of it.
    """
    recordings = index.recording_ids(near.rows)
    if spans is None:
        start = index.column("start_sample", near.rows)
        end = start + index.column("num_samples", near.rows)
    else:
        start, end = spans
    in_time = np.lexsort((start, recordings, near.asked))
    one, next_one = in_time[:-1], in_time[1:]
    # Where any two share a place, two that follow each other in time do.
    is_same = (near.asked[one] == near.asked[next_one]) & (recordings[one] == recordings[next_one])
    if not (is_same.any() and _share_half(start, end, one[is_same], next_one[is_same]).any()):
        return np.ones(len(near.rows), bool)
    group = np.zeros(len(near.rows), np.int64)  # of one question and one recording
    group[next_one] = np.cumsum(~is_same)
    stands = np.zeros(len(near.rows), bool)
    left = np.argsort(group, kind="stable")
    while len(left):  # the best of each group is chosen, and what it stands for goes
        is_first = np.append(True, group[left[1:]] != group[left[:-1]])
        best = left[is_first][np.cumsum(is_first) - 1]
        stands[best] = True
        left = left[~_share_half(start, end, left, best)]
    return stands


def _share_half(start: Times, end: Times, one: Integers, other: Integers) -> Mask:
    """Return (n,) whether windows overlap by at least half of the shorter of the two."""
    overlap = np.minimum(end[one], end[other]) - np.maximum(start[one], start[other])
    return np.asarray(2 * overlap >= np.minimum((end - start)[one], (end - start)[other]))
