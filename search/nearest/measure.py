"""Measuring an index: how far sketches have to be looked through, and how much that finds.

The questions are windows of the store itself; what else their recordings hold is left out of the
answers, as it would be too easy to find. The truth is exact.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32, Float64, Integers, Mask
from indexer.progress import Listen, Step, ignore
from indexer.store.schema import NUM_TAGS
from indexer.tags import DEFAULT_THRESHOLD
from search.generation.allowed import Allowed
from search.generation.codes import code_of
from search.generation.manifest import Effort, Measured
from search.generation.segments import Generation
from search.nearest.basis import MOST_PRODUCTS
from search.nearest.blend import blended
from search.nearest.exact import multiply_all
from search.nearest.index import VectorIndex
from search.nearest.limits import DEFAULT_TAG_WEIGHT
from search.nearest.plan import MEASURED_K
from search.nearest.scan import FIRST_ROWS, MOST_KEPT

_SHARES = (1.0, 0.5, 0.2, 0.1)
_NUM_QUESTIONS = 200
#: How far lists are looked through, the least first: hardly a row of a list is as much nearer than
#: its centre as the last says. Where few lists hold all that is near, these questions may need less
#: than the first, and others do not: 0.988 of their true ten were found among 24,000 windows.
_REACHES = tuple(0.3 * 1.07**power for power in range(39))
#: Of the margin of codes, that of finer ones; the last hardly leaves out any row that codes keep.
_FINER = tuple(1.15**power for power in range(-25, 4))
#: Scores that differ by no more are equal.
_EQUAL = 1e-6
#: Aimed at is this share of the way from the target to 1: of 0.99, 0.997. Filters that nothing like
#: was measured for found up to 0.005 less, of made-up windows; it takes hardly longer, as half of
#: the questions need no more than the first look.
_RESERVE = 0.7
#: Of what may be missed, the share that codes may miss; finer ones may miss none, and the rest is
#: for lists that are not visited. Wide margins cost little, as only near rows are within them: of
#: 30,000 made-up windows 21 were scored instead of 16, and others found 0.9965 instead of 0.9945.
_BY_CODES = 1 / 6
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

    def are_found(self, question: int, number: int, rows: Integers) -> Mask:
        """Return (n,) which of some rows of a segment a question may find."""
        left_out = self.left_out[question]
        is_left = np.isin(rows, left_out[number]) if left_out else np.False_
        return np.asarray(self.allowed.masks[number][rows] & ~is_left)


def measure_effort(index: VectorIndex, target: float, listen: Listen = ignore) -> Effort:
    """Return the least effort that finds what is asked for, whatever share of the rows matches.

    Args:
        index: One that is opened to be measured, with one sketch at least; its effort is changed.
        target: Recall at 10 that is to be reached. More is aimed at, as the next questions will not
            be the same.
        listen: Hears how far it is: all rows are compared with the questions, exactly and then by
            their sketches, and the questions asked, filter by filter.
    """
    rng, generation = np.random.default_rng(0), index.generation
    live = generation.live_rows()
    asking = np.sort(rng.choice(live, min(_NUM_QUESTIONS, len(live)), replace=False))
    vectors = _vectors_of(generation, asking)
    is_sound = np.isfinite(vectors).all(1)  # nobody asks with damaged ones
    asking, vectors = asking[is_sound], vectors[is_sound]
    tags = _measure_tag_shares(generation)
    chosen = [Allowed.of(_choose_masks(generation, share, tags, rng)) for share in _SHARES]
    masks = [one.masks for one in chosen]
    truths = multiply_all(generation, vectors, MEASURED_K + _MAX_OWN, masks, listen)
    filters = _without_own(generation, asking, chosen, truths)
    trials = _Trials(index, vectors, target + _RESERVE * (1 - target))
    measured: list[Measured] = []
    for number, (one, told) in enumerate(zip(filters, trials.tell(filters, listen), strict=True)):
        listen(Step("measuring", number, len(filters), "filter"))
        measured.append(trials.measure(one, told, measured))
    listen(Step("measuring", len(filters), len(filters), "filter"))
    segments = tuple(one.name for one in generation.segments)
    return Effort(target, generation.num_windows, tuple(measured), segments)


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


class _Told(NamedTuple):
    """What sketches say of the best rows of all questions, with a filter.

    Attributes:
        gaps: (n,) how much less near they say each of them is than the last of ten, the nearest by
            them.
        num_nearer: (n,) how many rows they say are nearer; no more than are kept.
    """

    gaps: Float32
    num_nearer: Integers

    @classmethod
    def of(cls, bounds: Sequence[Float32], nearest: Sequence[Float32]) -> _Told:
        """Compare how near the best rows of each question are with the nearest, in order."""
        gaps, counts = [np.empty(0, np.float32)], [np.empty(0, np.int64)]
        for bound, near in zip(bounds, nearest, strict=True):
            last = near[-MEASURED_K:][:1] if len(near) else np.float32(-np.inf)
            gaps.append(np.where(np.isinf(bound), -np.inf, last - bound).astype(np.float32))
            counts.append(len(near) - np.searchsorted(near, bound, "right"))
        return cls(np.concatenate(gaps), np.concatenate(counts))

    def margin(self, aim: float) -> float:
        """Return how much less near that share of them is at most."""
        if not len(self.gaps):
            return 0.0
        return max(0.0, float(np.quantile(self.gaps, aim, method="inverted_cdf")))

    def share_kept(self, margin: float) -> float:
        """Return which of them are kept with a margin."""
        is_kept = (self.gaps <= np.float32(margin)) & (self.num_nearer < MOST_KEPT)
        return float(np.count_nonzero(is_kept)) / max(1, len(is_kept))


class _Trials(NamedTuple):
    """Questions, what they are asked of, and the recall that is aimed at."""

    asked: VectorIndex
    vectors: Float32
    aim: float

    def measure(self, true: _Filter, told: _Told, wider: Sequence[Measured] = ()) -> Measured:
        """Return how far to look through lists, which rows to score, and what that finds.

        That is at least as far as wider filters ask for: of a few questions some say by chance that
        little is enough, and filters that nothing like was measured for are harder. What is missed
        where all rows are scanned, sketches miss: to look further finds no more.

        Args:
            true: A filter.
            told: What sketches say of the best rows, see `tell`.
            wider: What was measured of wider ones.
        """
        by_codes = (1 - self.aim) * _BY_CODES
        margin = max(told.margin(1 - by_codes), *(one.margin for one in wider), 0.0)
        least_reach = max((one.reach for one in wider if one.reach < _REACHES[-1]), default=0.0)
        least_finer = max((one.finer_margin for one in wider), default=0.0)
        finer = [max(least_finer, margin * share) for share in _FINER]
        most, wanted = told.share_kept(margin), self.aim + by_codes
        wanted = wanted if most >= wanted else wanted * most
        first = Measured(true.share, 0.0, FIRST_ROWS, margin, finer[-1], 0, 0.0, 0.0)
        trials = [first._replace(reach=reach) for reach in _REACHES if reach >= least_reach]
        found = self._look_far_enough(true, trials, wanted)
        first = first._replace(reach=found.reach)
        trials = [first._replace(finer_margin=one) for one in finer]
        return self._look_far_enough(true, trials, found.recall)

    def _look_far_enough(
        self, true: _Filter, trials: Sequence[Measured], wanted: float
    ) -> Measured:
        """Return the first of some trials that finds as much as is wanted, or else as the last."""
        tried: dict[Measured, Measured] = {}

        def recall_of(one: Measured) -> float:
            if one not in tried:
                tried[one] = self._run(true, one, wanted)
            return tried[one].recall

        at = bisect_left(trials[:-1], wanted, key=recall_of)
        found = tried.get(trials[at]) or self._run(true, trials[at])
        if found.recall < wanted:
            return self._look_far_enough(true, trials, found.recall)
        return found

    def tell(self, filters: Sequence[_Filter], listen: Listen = ignore) -> list[_Told]:
        """Return of each filter what sketches say of the best rows, question after question.

        All rows are gone through, once for all filters. Those of segments without a sketch are
        found whatever the others are.
        """
        bounds = [list(map(self._near, self.vectors, one.rows)) for one in filters]
        nearest = [[np.empty(0, np.float32)] * len(self.vectors) for _ in filters]
        done, total = 0, sum(int(one.sizes.sum()) for one in self.asked.lists)
        for lists in self.asked.lists:
            prepared = lists.basis.prepare(self.vectors)
            for number, rows in lists.each(max(1, MOST_PRODUCTS // max(1, len(self.vectors)))):
                products = lists.multiply_each(prepared, rows)
                rows -= self.asked.generation.starts[number]
                for one, bound, each in zip(filters, bounds, nearest, strict=True):
                    for question, near in enumerate(products):
                        least = bound[question].min(initial=np.inf)
                        at = np.flatnonzero(near >= least)
                        at = at[one.are_found(question, number, rows[at])]
                        if not len(at):
                            continue
                        found = np.sort(np.append(each[question], near[at]))
                        each[question] = found[-MOST_KEPT:]
                done += len(rows)
                listen(Step("comparing sketches", done, total, "window"))
        return [_Told.of(*pair) for pair in zip(bounds, nearest, strict=True)]

    def _near(self, vector: Float32, rows: Integers) -> Float32:
        """Return (n,) how near some rows are by their sketches; infinite without one."""
        near = np.full(len(rows), np.inf, np.float32)
        for one in self.asked.lists:
            at = np.flatnonzero(one.hold(rows))
            at = at[np.argsort(rows[at])]
            near[at] = one.multiply_rows(one.basis.prepare(vector[None]), rows[at])
        return near

    def _run(self, true: _Filter, told: Measured, least: float = 0.0) -> Measured:
        """Return how much of the truth is found with a filter, how quickly, and in how many rows.

        Args:
            true: The filter.
            told: How many are scored, and how far lists are looked through; through how many rows
                at first.
            least: The recall that is enough; who misses it is asked no further.
        """
        # Of a share of 0, margins are as told: a tag may have half the share that it stands for.
        alone = told._replace(share=0.0)
        self.asked.effort = Effort(0.0, self.asked.generation.num_windows, (alone,))
        num_true, num_missed = sum(map(len, true.best)), 0
        times, scanned, scored, visited = [], [], [], []
        for vector, left_out, best in zip(self.vectors, true.left_out, true.best, strict=True):
            answer = self.asked.search(vector[None], MEASURED_K, true.allowed.without(left_out))
            times.append(answer.scan_ms + answer.rescore_ms)
            scanned.append(answer.plan.num_scanned)
            scored.append(answer.plan.num_scored)
            visited.append(answer.plan.num_lists)
            if len(best):  # of equal scores, any is right
                found = np.count_nonzero(answer.scores[: len(best)] >= best[-1] - _EQUAL)
                num_missed += len(best) - int(found)
            if num_missed > (1 - least) * num_true + 0.5:  # whole numbers, but for rounding
                break
        recall = 1 - num_missed / max(1, num_true)
        num_scanned, num_scored = round(np.mean(scanned or 0)), round(np.mean(scored or 0))
        ms = float(np.median(times or 0))
        # Where all rows were looked at, it is not known how far lists would have to be.
        reach = told.reach if np.median(visited or 0) else _REACHES[-1]
        return told._replace(
            reach=reach, num_scanned=num_scanned, num_scored=num_scored, recall=recall, ms=ms
        )
