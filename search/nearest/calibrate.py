"""Measuring an index: how many lists a query must visit, and what the plans cost here.

The queries are windows of the store itself; what else their recordings hold is left out of the
answers, as it would be too easy to find. The truth is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32, Integers, Mask
from indexer.store.schema import NUM_TAGS
from indexer.tags import DEFAULT_THRESHOLD
from search.generation.manifest import Calibration, Level
from search.generation.segments import Generation, code_of
from search.nearest.index import VectorIndex
from search.nearest.planner import CALIBRATED_K, WORTH_WAITING_MS, Plan
from search.nearest.scan import Lists

Float64 = npt.NDArray[np.float64]

_SHARES = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
_NUM_QUERIES = 250
#: Scores that differ by no more are equal.
_EQUAL = 1e-6
#: Aimed at is this share of the way from the target to 1: of 0.95, 0.96. That is two standard
#: errors of a recall measured with so many queries, whose own recall varies by 0.09 or so.
_RESERVE = 0.2
#: Tried in this order; the last visits half of all lists.
_REACHES = (0.0, 0.03, 0.06, 0.08, 0.1, 0.12, 0.14, 0.17, 0.2, 0.25, 0.3, 0.4, 0.6, 2.0)
#: Rows of a query's own recording that may stand before the ten that count.
_MAX_OWN = 64
#: Rows that an exact search is timed with, and how often.
_TIMED_ROWS, _TIMES = 20_000, 5
#: Candidates to score again, as multiples of k: tried in this order, at this reach.
_FAR = 0.3
_FETCHES = (1.2, 1.5, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
#: A tag stands for a share if its own is within this factor of it.
_NEAR_ENOUGH = 2.0
#: The code from which on a tag is heard.
_HEARD = int(code_of(np.array([DEFAULT_THRESHOLD], np.float16))[0])


class Sample(NamedTuple):
    """Windows that are asked about.

    Attributes:
        vectors: (q, 768) float32.
        recordings: (q,) what `Segment.recordings` says of them.
    """

    vectors: Float32
    recordings: Integers


def measure_index(generation: Generation, lists: Lists | None, target: float) -> VectorIndex:
    """Return an index that knows what its plans cost and find.

    Args:
        generation: Its rows.
        lists: Its lists; their `fetch` is chosen here.
        target: Recall at 10 that is to be reached. More is aimed at, as the next queries will not
            be the same.
    """
    rng = np.random.default_rng(0)
    row_ms = _time_exact_row(generation, rng)
    calibration = Calibration(target, generation.num_windows, row_ms)
    if lists is None or not generation.num_windows:
        return VectorIndex(generation, calibration, lists)
    sample = _pick_sample(generation, rng)
    aim = target + _RESERVE * (1 - target)
    lists = lists._replace(fetch=_choose_fetch(generation, lists, sample, calibration))
    index = VectorIndex(generation, calibration, lists)
    levels: list[Level] = []
    tag_shares = _measure_tag_shares(generation)
    for share in _SHARES:
        num_rows = generation.num_windows * share
        if levels and (num_rows * row_ms <= WORTH_WAITING_MS or num_rows < 2 * CALIBRATED_K):
            break  # narrower filters are answered exactly
        least = levels[-1].reach if levels else 0.0  # a narrower filter never takes less
        found = [
            _reach_recall(index, sample, masks, share, aim, least)
            for masks in _choose_masks(generation, share, tag_shares, rng)
        ]
        worst = max(found, key=lambda level: (level.reach, level.ms))
        levels.append(replace(worst, recall=min(level.recall for level in found)))
        if worst.ms > num_rows * row_ms:
            break  # from here on, exact is quicker
    final = Calibration(target, generation.num_windows, row_ms, tuple(levels))
    return VectorIndex(generation, final, lists)


def _pick_sample(generation: Generation, rng: np.random.Generator) -> Sample:
    live = np.flatnonzero(np.concatenate([segment.alive for segment in generation.segments]))
    rows = np.sort(rng.choice(live, min(_NUM_QUERIES, len(live)), replace=False))
    recordings = np.concatenate([segment.recordings for segment in generation.segments])
    if len(np.unique(recordings[live])) == 1:  # nothing would be left
        return Sample(generation.vectors(rows), np.full(len(rows), -1))
    return Sample(generation.vectors(rows), recordings[rows])


def _time_exact_row(generation: Generation, rng: np.random.Generator) -> float:
    """Time an exact search of rows here and there; its cost for one of them."""
    if not generation.num_windows:
        return 0.0
    share = min(1.0, _TIMED_ROWS / generation.num_windows)
    masks = [segment.alive & (rng.random(len(segment)) < share) for segment in generation.segments]
    num_rows = max(1, sum(int(mask.sum()) for mask in masks))
    index = VectorIndex(generation, Calibration(1.0, num_rows, 0.0))
    vector = rng.normal(0, 1, (1, generation.segments[0].vectors.shape[1])).astype(np.float32)
    times = [
        found.scan_ms + found.rescore_ms
        for found in (index.search(vector, CALIBRATED_K, masks) for _ in range(_TIMES))
    ]
    return min(times) / num_rows  # the others had to read the disk, or to wait for other programs


def _measure_tag_shares(generation: Generation) -> Float64:
    """Return (527,) in which share of the rows each tag is heard; a row at least, of the rarest."""
    counts = np.ones(NUM_TAGS, np.int64)
    for segment in generation.segments:
        for tag in range(NUM_TAGS):
            counts[tag] += np.count_nonzero(segment.codes[tag] >= _HEARD)
    return counts / generation.num_windows


def _choose_masks(
    generation: Generation, share: float, tag_shares: Float64, rng: np.random.Generator
) -> Iterator[list[Mask]]:
    """Yield filters of a certain share: rows at random, and a tag that is heard as often."""
    segments = generation.segments
    if share == 1:
        yield [segment.alive for segment in segments]
        return
    yield [segment.alive & (rng.random(len(segment)) < share) for segment in segments]
    nearest = int(np.argmin(np.abs(np.log(tag_shares / share))))
    if 1 / _NEAR_ENOUGH <= tag_shares[nearest] / share <= _NEAR_ENOUGH:
        yield [segment.alive & (segment.codes[nearest] >= _HEARD) for segment in segments]


def _reach_recall(
    index: VectorIndex,
    sample: Sample,
    masks: Sequence[Mask],
    share: float,
    aim: float,
    least: float,
) -> Level:
    """Reach further, until the recall is good enough."""
    truth = _find_truth(index, sample, masks)
    for reach in _REACHES:
        if reach >= least:
            level = _measure_at(index, sample, masks, truth, Level(share, reach, 0, 0.0, 0.0))
            if level.recall >= aim:
                break
    return level


def _find_truth(index: VectorIndex, sample: Sample, masks: Sequence[Mask]) -> list[Float32]:
    """Return for each query the scores of the 10 best rows that are not of its own recording."""
    scores, rows = index.search_many(sample.vectors, CALIBRATED_K + _MAX_OWN, masks, exact=True)
    own = np.concatenate([segment.recordings for segment in index.generation.segments])
    best = []
    for at, recording in enumerate(sample.recordings):
        is_other = (scores[at] > -np.inf) & (own[rows[at]] != recording)
        best.append(scores[at][is_other][:CALIBRATED_K])
    return best


def _measure_at(
    index: VectorIndex,
    sample: Sample,
    masks: Sequence[Mask],
    truth: Sequence[Float32],
    level: Level,
) -> Level:
    """Return a level with how much of the truth it finds, and what that takes: the medians."""
    plan = Plan("lists", level.reach, 0, 0.0, 0.0)
    num_found, efforts, times = 0, [], []
    segments = index.generation.segments
    for at, recording in enumerate(sample.recordings):
        others = [
            mask & (segment.recordings != recording)
            for mask, segment in zip(masks, segments, strict=True)
        ]
        answer = index.run(plan, sample.vectors[at : at + 1], CALIBRATED_K, others)
        if len(truth[at]):  # of equal scores, any is right
            num_found += int(np.count_nonzero(answer.scores >= truth[at][-1] - _EQUAL))
        efforts.append(answer.plan.effort)
        times.append(answer.scan_ms + answer.rescore_ms)
    recall = num_found / max(1, sum(map(len, truth)))
    return Level(level.share, level.reach, int(np.median(efforts)), recall, float(np.median(times)))


def _choose_fetch(
    generation: Generation, lists: Lists, sample: Sample, calibration: Calibration
) -> float:
    """Return how many candidates are enough: more would find less than half a percent more."""
    masks = [segment.alive for segment in generation.segments]
    far = Level(1.0, _FAR, 0, 0.0, 0.0)
    truth = _find_truth(VectorIndex(generation, calibration, lists), sample, masks)
    recalls = {}
    for fetch in (_FETCHES[-1], *_FETCHES[:-1]):
        index = VectorIndex(generation, calibration, lists._replace(fetch=fetch))
        recalls[fetch] = _measure_at(index, sample, masks, truth, far).recall
        if fetch != _FETCHES[-1] and recalls[fetch] >= recalls[_FETCHES[-1]] - 0.005:
            return fetch
    return _FETCHES[-1]
