"""Measuring an index: how far sketches have to be looked through, and how much that finds.

The questions are windows of the store itself; what else their recordings hold is left out of the
answers, as it would be too easy to find. The truth is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32, Integers
from search.generation.allowed import Allowed
from search.generation.manifest import Effort, Measured
from search.generation.segments import Generation
from search.nearest.blend import blended
from search.nearest.index import VectorIndex
from search.nearest.limits import DEFAULT_TAG_WEIGHT
from search.nearest.plan import MEASURED_K
from search.nearest.sketch import Sketch

_SHARES = (1.0, 0.5, 0.2, 0.1)
_NUM_QUESTIONS = 200
#: Rows to score, and rows to scan for the narrowest filter, and so on for wider ones; the fewest
#: first. Behind the last of them nothing is tried.
_NUM_SCORED = (60, 120, 240, 480)
_NUM_SCANNED = tuple(round(2048 * 2 ** (step / 2)) for step in range(17))
#: Scores that differ by no more are equal.
_EQUAL = 1e-6
#: Aimed at is this share of the way from the target to 1: of 0.99, 0.995. That is two standard
#: errors of a recall measured with so many questions.
_RESERVE = 0.5
#: Nearest rows of each question that are found at once, for all shares: in the narrowest, one in
#: ten of them matches, and some are of the question's own recording.
_NUM_NEAREST = 256


class _Sample(NamedTuple):
    """Windows that are asked about, and what is nearest to them.

    Attributes:
        vectors: (q, 1295) float32 of `blended`: every second one asks by its scene alone.
        recordings: (q,) what `Segment.recordings` says of them.
        scores: (q, n) float32 of all rows, the highest first.
        rows: (q, n) these rows; -1 where there are fewer.
    """

    vectors: Float32
    recordings: Integers
    scores: Float32
    rows: Integers


class _Trials(NamedTuple):
    """What is tried out, and the questions for it."""

    generation: Generation
    sketches: Sequence[Sketch | None]
    sample: _Sample

    def run(self, allowed: Allowed, num_scanned: int, num_scored: int) -> Measured:
        """Return how much of the truth is found among some rows, and how quickly."""
        segments, num_found, num_true, times = self.generation.segments, 0, 0, []
        told = Measured(1.0, num_scanned, 0.0, 0.0)  # for filters of any width
        effort = Effort(0.0, self.generation.num_windows, num_scored, (told,))
        index = VectorIndex(self.generation, effort, self.sketches)
        recordings, is_allowed = _recordings_of(self.generation), np.concatenate(allowed.masks)
        for vector, own, scores, rows in zip(*self.sample, strict=True):
            is_true = (rows >= 0) & is_allowed[rows] & (recordings[rows] != own)
            true = scores[is_true][:MEASURED_K]
            others = allowed.without([np.flatnonzero(one.recordings == own) for one in segments])
            answer = index.search(vector[None], MEASURED_K, others)
            times.append(answer.scan_ms + answer.rescore_ms)
            if len(true):  # of equal scores, any is right
                num_true += len(true)
                num_found += int(np.count_nonzero(answer.scores[: len(true)] >= true[-1] - _EQUAL))
        recall = num_found / max(1, num_true)
        return told._replace(recall=recall, ms=float(np.median(times)))


def measure_effort(
    generation: Generation, sketches: Sequence[Sketch | None], target: float
) -> Effort:
    """Return the least effort that finds what is asked for, whatever share of the rows matches.

    Args:
        generation: Its rows.
        sketches: Of its segments, one at least.
        target: Recall at 10 that is to be reached. More is aimed at, as the next questions will not
            be the same.
    """
    rng = np.random.default_rng(0)
    trials = _Trials(generation, sketches, _draw(generation, rng))
    aim = target + _RESERVE * (1 - target)
    num_scored, num_scanned, measured = 0, _NUM_SCANNED[0], []
    for share in sorted(_SHARES):
        some = Allowed.of(one.alive & (rng.random(len(one)) < share) for one in generation.segments)
        if not num_scored:  # what is missed where all are scanned, no more of them would find
            every = generation.num_windows
            found = (one for one in _NUM_SCORED if trials.run(some, every, one).recall >= aim)
            num_scored = next(found, _NUM_SCORED[-1])
        for num_scanned in (one for one in _NUM_SCANNED if one >= num_scanned):
            told = trials.run(some, num_scanned, num_scored)
            if told.recall >= aim:
                break
        measured.append(told._replace(share=share))
    return Effort(target, generation.num_windows, num_scored, tuple(measured[::-1]))


def _draw(generation: Generation, rng: np.random.Generator) -> _Sample:
    """Draw windows that ask, and find what is nearest to them among all rows."""
    live = generation.live_rows()
    chosen = np.sort(rng.choice(live, min(_NUM_QUESTIONS, len(live)), replace=False))
    scenes, tags = generation.vectors(chosen), generation.tags(chosen)
    vectors = blended(scenes, tags, DEFAULT_TAG_WEIGHT)
    vectors[::2] = blended(scenes[::2], tags[::2], 0.0)
    recordings = _recordings_of(generation)
    is_one = len(np.unique(recordings[live])) == 1  # nothing would be left
    own = np.full(len(chosen), -1) if is_one else recordings[chosen]
    found = VectorIndex(generation).search_many(vectors, _NUM_NEAREST, exact=True)
    return _Sample(vectors, own, *found)


def _recordings_of(generation: Generation) -> Integers:
    return np.concatenate([segment.recordings for segment in generation.segments])
