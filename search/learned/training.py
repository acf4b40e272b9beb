"""Learning from a few labels: logistic regression, or below five yes the difference of means."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from indexer.arrays import Float32, Float64, Ids, Integers, components
from indexer.store.schema import EMBEDDING_DIM
from search.learned.line import LENGTH, Line

#: Below so many yes the difference of means is all that they tell.
LEAST_YES = 5
#: Windows that nobody labelled, drawn at random and taken for no, at most; and what each weighs
#: beside a label. Perch's "agile modelling" weighs them so (Dumoulin et al. 2025).
NUM_WEAK, _WEAK_WEIGHT = 500, 0.05
#: How freely the line follows the labels: chosen on esc10_seen among 1, 10 and 100.
_INVERSE_PENALTY = 10.0
_MOST_ITERATIONS = 1000
#: Recordings are dealt into so many hands; each is judged by what was learned from the others.
_NUM_FOLDS = 5
#: From this cosine similarity of scenes on, recordings are copies and are dealt as one: 92 % of MP3
#: at 128 kbit/s have it to what they were encoded from, and no two sounds (docs/batch.md).
_COPY_COSINE = 0.99
#: Labels that are compared with all at a time.
_BLOCK_ROWS = 1024
#: Where the difference of means is the line, a mean is so far from the cut, in the log of odds.
_MEAN_LOGIT = 2.0


class Examples(NamedTuple):
    """Windows to learn from.

    Attributes:
        vectors: (n, 1295) float32, see `vectors_of`.
        is_yes: (n,) whether the sound is in them.
        recording_id: (n,) of what recordings they are windows.
    """

    vectors: Float32
    is_yes: npt.NDArray[np.bool_]
    recording_id: Ids


class Judged(NamedTuple):
    """What was learned, as labels that it has not seen judge it.

    Attributes:
        logits: (n,) float64 of each label, by what was learned from other recordings, and cut where
            labels of these are told apart best; NaN where there were too few of these.
        average_precision: Of the labels by these; NaN likewise.
    """

    logits: Float64
    average_precision: float


def learn_line(examples: Examples, weak: Float32) -> tuple[Line, Judged]:
    """Learn from labels, and cut where labels of other recordings are told apart best.

    The same labels give the same line, to the bit.

    Args:
        examples: Labelled windows, at least one of them yes.
        weak: (m, 1295) vectors of windows that nobody labelled, taken for no.
    """
    with threadpool_limits(1):  # sums in the same order
        fit = _between_means if examples.is_yes.sum() < LEAST_YES else _fit
        line = fit(examples.vectors, examples.is_yes, weak, None)
        hand = _deal(_number_sounds(examples), examples.is_yes)
        logits = _judge(fit, examples, hand, weak, line)
    is_yes = examples.is_yes
    moved = Line(line.weights, line.bias - _best_cut(logits, is_yes), line.method)
    # A label that has its part in the cut would be judged too well there.
    cuts = [_best_cut(logits[hand != one], is_yes[hand != one]) for one in range(_NUM_FOLDS)]
    known = np.isfinite(logits)
    return moved, Judged(
        logits - np.array(cuts)[hand], average_precision(logits[known], is_yes[known])
    )


def average_precision(scores: npt.NDArray[np.floating], is_yes: npt.NDArray[np.bool_]) -> float:
    """Return the mean precision at each yes, in the order of scores; of equal ones, no first.

    NaN where all say the same.
    """
    if is_yes.all() or not is_yes.any():
        return math.nan
    order = np.lexsort((is_yes, -scores))
    found = is_yes[order]
    precision = np.cumsum(found) / np.arange(1, len(found) + 1)
    return float(precision[found].mean())


#: Makes a line of (n, 1295) vectors, of (n,) whether the sound is in each, and of weak no; from
#: another that is near to it, if there is one: that takes two thirds of the time.
Fit = Callable[[Float32, npt.NDArray[np.bool_], Float32, Line | None], Line]


def _fit(
    vectors: Float32, is_yes: npt.NDArray[np.bool_], weak: Float32, begin: Line | None
) -> Line:
    if is_yes.all() and not len(weak):
        return _between_means(vectors, is_yes, weak, None)
    every = np.concatenate([vectors, weak]).astype(np.float64)
    wanted = np.concatenate([is_yes, np.zeros(len(weak), bool)])
    weights = np.concatenate([np.ones(len(vectors)), np.full(len(weak), _WEAK_WEIGHT)])
    model = LogisticRegression(
        C=_INVERSE_PENALTY, max_iter=_MOST_ITERATIONS, tol=1e-6, warm_start=True
    )
    if begin:
        model.coef_ = begin.weights[None].astype(np.float64)
        model.intercept_ = np.array([begin.bias])
    model.fit(every, wanted, sample_weight=weights)
    coefficients = np.asarray(model.coef_[0], np.float32)
    return Line(coefficients, float(model.intercept_[0]), "logistic regression")


def _between_means(
    vectors: Float32, is_yes: npt.NDArray[np.bool_], weak: Float32, _: Line | None
) -> Line:
    """Return the line that stands between the means of yes and of everything else."""
    yes = vectors[is_yes].astype(np.float64).mean(0)
    others = np.concatenate([vectors[~is_yes], weak]).astype(np.float64)
    no = others.mean(0) if len(others) else np.zeros_like(yes)
    across = yes - no
    length = float(across @ across) / 2
    weights = across * (_MEAN_LOGIT / length if length else 0)
    bias = -float(weights @ (yes + no)) / 2
    return Line(weights.astype(np.float32), bias, "difference of means")


def _judge(fit: Fit, examples: Examples, hand: Integers, weak: Float32, whole: Line) -> Float64:
    """Return (n,) what each label gets by what was learned from other hands; NaN without a yes."""
    logits = np.full(len(examples.is_yes), np.nan)
    for number in range(_NUM_FOLDS):
        held = hand == number
        rest = examples.is_yes[~held]
        if held.any() and rest.any():
            line = fit(examples.vectors[~held], rest, weak, whole)
            logits[held] = line.logits(examples.vectors[held])
    return logits


def _number_sounds(examples: Examples) -> Integers:
    """Return (n,) a number for each label: that of its recording and of all copies of this."""
    ids, recording = np.unique(examples.recording_id, return_inverse=True)
    scenes = examples.vectors[:, :EMBEDDING_DIM]
    least, first_alike = _COPY_COSINE * LENGTH**2, []
    for first in range(0, len(scenes), _BLOCK_ROWS):
        alike = scenes[first : first + _BLOCK_ROWS] @ scenes.T >= least
        alike[np.arange(len(alike)), first + np.arange(len(alike))] = True  # damaged as it may be
        first_alike.append(alike.argmax(1))
    other = recording[np.concatenate(first_alike)]
    return np.asarray(components(len(ids), recording, other)[recording])


def _deal(sound: Integers, is_yes: npt.NDArray[np.bool_]) -> Integers:
    """Return (n,) the hand of each label's sound; those with a yes are dealt in turn."""
    _, sound = np.unique(sound, return_inverse=True)
    has_yes = np.zeros(sound.max(initial=-1) + 1, bool)
    has_yes[sound[is_yes]] = True
    hand = np.empty(len(has_yes), np.int64)
    for some in (np.flatnonzero(has_yes), np.flatnonzero(~has_yes)):
        hand[some] = np.arange(len(some)) % _NUM_FOLDS
    return np.asarray(hand[sound])


def _best_cut(logits: Float64, is_yes: npt.NDArray[np.bool_]) -> float:
    """Return the log of odds from which on labels are told apart best, by F1.

    It lies midway between two labels; of equally good ones, the one nearest to 0 is taken. It is 0
    where not both yes and no are known.
    """
    logits, is_yes = logits[known := np.isfinite(logits)], is_yes[known]
    if is_yes.all() or not is_yes.any():
        return 0.0
    order = np.argsort(-logits, kind="stable")
    ordered, found = logits[order], np.cumsum(is_yes[order])
    taken = np.arange(1, len(order) + 1)
    f1 = 2 * found / (taken + is_yes.sum())
    ends = np.append(ordered[1:], ordered[-1] - 1)
    is_between = ordered > ends
    middles = (ordered + ends)[is_between] / 2
    best = np.flatnonzero(f1[is_between] == f1[is_between].max())
    return float(middles[best[np.argmin(np.abs(middles[best]))]])
