"""Measuring an index: how far sketches have to be looked through, and how much that finds.

The questions are windows of the store itself; what else their recordings hold is left out of the
answers, as it would be too easy to find. The truth is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32, Integers, Mask
from indexer.store.schema import NUM_TAGS
from indexer.tags import DEFAULT_THRESHOLD
from search.generation.allowed import Allowed
from search.generation.codes import code_of
from search.generation.manifest import Effort, Measured
from search.generation.segments import Generation
from search.nearest.blend import blended
from search.nearest.exact import multiply_all
from search.nearest.index import VectorIndex
from search.nearest.limits import DEFAULT_TAG_WEIGHT
from search.nearest.plan import MEASURED_K
from search.nearest.scan import FIRST_ROWS
from search.nearest.sketch import Asked, Sketch

Float64 = npt.NDArray[np.float64]

_SHARES = (1.0, 0.5, 0.2, 0.1)
_NUM_QUESTIONS = 200
#: Rows of which finer codes are looked at, rows to score, and how far lists are looked through, the
#: least first. Hardly a row is as many times the spread of its list nearer than its centre as the
#: last one says. Of a million mixtures of 497 real windows, which lie far closer than codes of
#: bytes tell apart, 960 are needed to find the best 60 among them.
_NUM_REFINED = (60, 120, 240, 480, 960, 1920, 3840, 7680)
_NUM_SCORED = (60, 120, 240, 480)
_REACHES = (0.2, 0.4, 0.5, 0.55, 0.6, 0.7, 0.8, 1.0, 1.4, 2.0, 4.0)
#: Scores that differ by no more are equal.
_EQUAL = 1e-6
#: Aimed at is this share of the way from the target to 1: of 0.99, 0.997. Filters that nothing like
#: was measured for found up to 0.005 less, of made-up windows; it takes hardly longer, as half of
#: the questions need no more than the first look.
_RESERVE = 0.7
#: Rows of a question's own recording that may stand before the ten that count.
_MAX_OWN = 64
#: A tag stands for a share if its own is within this factor of it.
_NEAR_ENOUGH = 2.0
#: The code from which on a tag is heard.
_HEARD = int(code_of(np.array([DEFAULT_THRESHOLD], np.float16))[0])


class _Filter(NamedTuple):
    """A filter, and what the questions should find with it.

    Attributes:
        share: Of all rows, those that match.
        allowed: Which do.
        left_out: Of each question, rows of each segment that are not to be found.
        best: Of each question, (n,) float32 scores of the ten nearest, the highest first.
        rows: Of each question, (n,) these.
    """

    share: float
    allowed: Allowed
    left_out: Sequence[Sequence[Integers]]
    best: Sequence[Float32]
    rows: Sequence[Integers]

    def matching(self, question: int, number: int, at: Integers) -> Integers:
        """Return which of some rows of a segment a question may find."""
        at = at[self.allowed.masks[number][at]]
        left_out = self.left_out[question]
        return at[~np.isin(at, left_out[number])] if left_out else at


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
    live = generation.live_rows()
    asking = np.sort(rng.choice(live, min(_NUM_QUESTIONS, len(live)), replace=False))
    vectors = _vectors_of(generation, asking)
    is_sound = np.isfinite(vectors).all(1)  # nobody asks with damaged ones
    asking, vectors = asking[is_sound], vectors[is_sound]
    tags = _measure_tag_shares(generation)
    chosen = [Allowed.of(_choose_masks(generation, share, tags, rng)) for share in _SHARES]
    truths = multiply_all(generation, vectors, MEASURED_K + _MAX_OWN, [one.masks for one in chosen])
    filters = _without_own(generation, asking, chosen, truths)
    trials = _Trials(generation, sketches, vectors, target + _RESERVE * (1 - target))
    measured = tuple(map(trials.measure, filters, trials.count_nearer(filters)))
    segments = tuple(one.name for one in generation.segments)
    return Effort(target, generation.num_windows, measured, segments)


def _without_own(
    generation: Generation,
    asking: Integers,
    chosen: Sequence[Allowed],
    truths: Sequence[tuple[Float32, Integers]],
) -> list[_Filter]:
    """Return filters with what is to be found but for windows of the recordings that ask.

    Args:
        generation: The rows.
        asking: (q,) the rows that ask.
        chosen: Of each of the shares, which rows match.
        truths: Of each, (q, n) products of the nearest rows, and these: see `multiply_all`.
    """
    recordings = np.concatenate([segment.recordings for segment in generation.segments])
    own = recordings[asking]
    own_rows = {
        one: [np.flatnonzero(segment.recordings == one) for segment in generation.segments]
        for one in np.unique(own).tolist()
    }
    filters = []
    for share, allowed, (scores, rows) in zip(_SHARES, chosen, truths, strict=True):
        is_other = (rows >= 0) & (recordings[rows] != own[:, None])
        is_alone = ~is_other.any(1)  # as in a store of one recording, nothing but its own is near
        is_true = np.where(is_alone[:, None], rows >= 0, is_other)
        order = np.argsort(np.where(is_true, -scores, np.inf), axis=1)[:, :MEASURED_K]
        num_true = np.minimum(is_true.sum(1), MEASURED_K).tolist()
        best, best_rows = (
            [one[:number] for one, number in zip(found, num_true, strict=True)]
            for found in (np.take_along_axis(each, order, 1) for each in (scores, rows))
        )
        left_out = [
            () if alone else own_rows[one]
            for one, alone in zip(own.tolist(), is_alone, strict=True)
        ]
        filters.append(_Filter(share, allowed, left_out, best, best_rows))
    return filters


def _vectors_of(generation: Generation, rows: Integers) -> Float32:
    """Return (q, 1295) float32 of `blended`: every second row asks by its scene alone."""
    scenes, tags = generation.vectors(rows), generation.tags(rows)
    vectors = blended(scenes, tags, DEFAULT_TAG_WEIGHT)
    vectors[::2] = blended(scenes[::2], tags[::2], 0.0)
    return vectors


def _measure_tag_shares(generation: Generation) -> Float64:
    """Return (527,) in which share of the rows each tag is heard; a row at least, of the rarest."""
    counts = np.ones(NUM_TAGS, np.int64)
    for segment in generation.segments:
        counts += [np.count_nonzero(codes >= _HEARD) for codes in segment.codes[:NUM_TAGS]]
    return counts / generation.num_windows


def _choose_masks(
    generation: Generation, share: float, tag_shares: Float64, rng: np.random.Generator
) -> Iterator[Mask]:
    """Yield of each segment which rows match: a tag that is heard as often, or rows at random.

    What has a tag lies together, and away from many questions: it is harder to find by lists.
    """
    nearest = int(np.argmin(np.abs(np.log(tag_shares / share))))
    for segment in generation.segments:
        if share == 1:
            yield segment.alive
        elif 1 / _NEAR_ENOUGH <= tag_shares[nearest] / share <= _NEAR_ENOUGH:
            yield segment.alive & (segment.codes[nearest] >= _HEARD)
        else:
            yield segment.alive & (rng.random(len(segment)) < share)


class _Trials(NamedTuple):
    """Questions, what they are asked of, and the recall that is aimed at."""

    generation: Generation
    sketches: Sequence[Sketch | None]
    vectors: Float32
    aim: float

    def measure(self, true: _Filter, num_nearer: Integers) -> Measured:
        """Return how many rows to score, how far to look through lists, and what that finds.

        What is missed where all rows are scanned, sketches miss: to look further finds no more.

        Args:
            true: A filter.
            num_nearer: (n,) how many rows stand before each of the best ones, see `count_nearer`.
        """
        for num_refined in _NUM_REFINED:
            most = np.count_nonzero(num_nearer < num_refined) / max(1, len(num_nearer))
            if most >= self.aim:
                break
        wanted = self.aim if most >= self.aim else self.aim * most
        told = Measured(true.share, 0.0, FIRST_ROWS, num_refined, _NUM_SCORED[-1], 0.0, 0.0)
        for reach in _REACHES:
            found = self._run(true, told._replace(reach=reach))
            if found.recall >= wanted:
                break
        for num_scored in _NUM_SCORED[:-1]:
            fewer = self._run(true, told._replace(reach=reach, num_scored=num_scored))
            if fewer.recall >= min(wanted, found.recall):
                return fewer
        return found

    def count_nearer(self, filters: Sequence[_Filter]) -> list[Integers]:
        """Return of each filter (n,) how many rows that match are nearer than each of the best.

        That is by their sketches, of one question after the other. All rows are gone through, once
        for all filters. Those of segments without a sketch are found whatever the others are.
        """
        bounds = [list(map(self._near, self.vectors, one.rows)) for one in filters]
        counts = [[np.zeros(len(bound), np.int64) for bound in each] for each in bounds]
        for number, sketch in enumerate(self.sketches):
            if sketch is None:
                continue
            some = sketch.among(np.arange(len(self.generation.segments[number])))
            for question, vector in enumerate(self.vectors):
                near = sketch.multiply(_ask(sketch, vector), some)
                for one, bound, count in zip(filters, bounds, counts, strict=True):
                    least = bound[question].min(initial=np.inf)
                    at = one.matching(question, number, np.flatnonzero(near > least))
                    nearer = np.sort(near[at])
                    count[question] += len(at) - np.searchsorted(nearer, bound[question], "right")
        return [np.concatenate([np.empty(0, np.int64), *each]) for each in counts]

    def _near(self, vector: Float32, rows: Integers) -> Float32:
        """Return (n,) how near some rows are by their sketches; infinite without one."""
        near, starts = np.full(len(rows), np.inf, np.float32), self.generation.starts
        segment_of = np.searchsorted(starts, rows, side="right") - 1
        for number in np.unique(segment_of).tolist():
            if sketch := self.sketches[number]:
                at = np.flatnonzero(segment_of == number)
                at = at[np.argsort(rows[at])]
                some = sketch.among(rows[at] - starts[number])
                # Rows in no list are the last; whoever finds them does so without the sketch.
                near[at[: len(some.rows)]] = sketch.multiply(_ask(sketch, vector), some)
        return near

    def _run(self, true: _Filter, told: Measured) -> Measured:
        """Return how much of the truth is found with a filter, how quickly, and in how many rows.

        Args:
            true: The filter.
            told: How many are scored, and how far lists are looked through; through how many rows
                at first.
        """
        effort = Effort(0.0, self.generation.num_windows, (told,))
        index = VectorIndex(self.generation, effort, self.sketches)
        num_found, times, scanned = 0, [], []
        for vector, left_out, best in zip(self.vectors, true.left_out, true.best, strict=True):
            answer = index.search(vector[None], MEASURED_K, true.allowed.without(left_out))
            times.append(answer.scan_ms + answer.rescore_ms)
            scanned.append(answer.plan.num_scanned)
            if len(best):  # of equal scores, any is right
                num_found += int(np.count_nonzero(answer.scores[: len(best)] >= best[-1] - _EQUAL))
        num_true = sum(map(len, true.best))
        recall = num_found / max(1, num_true)
        num_scanned = round(np.mean(scanned or 0))
        ms = float(np.median(times or 0))
        return told._replace(num_scanned=num_scanned, recall=recall, ms=ms)


def _ask(sketch: Sketch, vector: Float32) -> Asked:
    return sketch.ask(sketch.basis.prepare(vector[None]))
