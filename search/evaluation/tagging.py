"""How well predicted probabilities agree with labels: mAP, AUC and d', class by class.

Papers take the mean of d' in two ways, which differ by more than checkpoints do: the mean over the
classes of their d's (arXiv:2306.00830), and the d' of the mean AUC (PANNs, arXiv:1912.10211).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

Mask = npt.NDArray[np.bool_]
Scores = npt.NDArray[np.floating]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TaggingReport:
    """One figure per class; NaN where a class has no positive, or nothing else.

    Attributes:
        average_precision: (num_classes,) area under precision over recall, in steps.
        auc: (num_classes,) area under the ROC curve.
        num_positives: (num_classes,) how many of the clips have the label.
        num_clips: How many were compared.
    """

    average_precision: Values
    auc: Values
    num_positives: npt.NDArray[np.int64]
    num_clips: int

    @property
    def d_prime(self) -> Values:
        """sqrt(2) times the normal quantile of the AUC; infinite where a class is perfect."""
        return np.array([_d_prime(auc) for auc in self.auc])

    @property
    def num_classes(self) -> int:
        """How many classes have a positive: those that the means are taken of."""
        return int((self.num_positives > 0).sum())

    @property
    def mean_ap(self) -> float:
        """MAP: the mean of average precision."""
        return _mean(self.average_precision)

    @property
    def mean_auc(self) -> float:
        """Mean of AUC."""
        return _mean(self.auc)

    @property
    def mean_d_prime(self) -> float:
        """Mean of d' over the classes where it is finite: few clips are easily told apart."""
        return _mean(self.d_prime)

    @property
    def num_perfect(self) -> int:
        """Classes that are told apart without a fault, or always wrongly: d' is infinite there."""
        return int(np.isinf(self.d_prime).sum())

    @property
    def d_prime_of_mean_auc(self) -> float:
        """D' of the mean of AUC, over all classes; infinite if that is 1."""
        return _d_prime(self.mean_auc)


def evaluate_tagging(targets: Mask, scores: Scores) -> TaggingReport:
    """Compare predictions with labels.

    Args:
        targets: (num_clips, num_classes) which labels each clip has.
        scores: (num_clips, num_classes) probabilities, or anything else that grows with them.

    Raises:
        ValueError: If the shapes differ, or there is no clip.
    """
    if targets.shape != scores.shape or not len(targets):
        raise ValueError(
            f"targets {targets.shape} and scores {scores.shape} do not belong together"
        )
    num_clips, num_classes = targets.shape
    num_positives = targets.sum(0)
    average_precision, auc = np.full((2, num_classes), np.nan)
    for place in np.flatnonzero(num_positives):
        target, score = targets[:, place], scores[:, place]
        average_precision[place] = average_precision_score(target, score)
        if num_positives[place] < num_clips:
            auc[place] = roc_auc_score(target, score)
    return TaggingReport(average_precision, auc, num_positives, num_clips)


def _d_prime(auc: float) -> float:
    if math.isnan(auc) or not 0 < auc < 1:
        return math.nan if math.isnan(auc) else math.copysign(math.inf, auc - 0.5)
    return math.sqrt(2) * NormalDist().inv_cdf(auc)


def _mean(values: Values) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan
