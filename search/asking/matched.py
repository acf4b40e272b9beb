"""The matched filter: what a short sound asks with to be found among others.

A call of 2 s in a window of 10 s adds a little to a scene embedding that is mostly of what else is
heard. What else may be heard varies more in some directions of the space than in others, and a
cosine weighs them alike. The matched filter of detection theory weighs each by how little it varies
anyway: where scenes have mean m and covariance C, a scene x is asked for with C^-1 (x - m).

It serves to choose which windows are looked into. What its products are depends on the library, so
that they are no scores.
"""

from __future__ import annotations

import numpy as np

from indexer.arrays import Float32

#: Added to the covariance, as a share of its mean variance: a few windows tell little of most
#: directions. Chosen on esc10_seen from .01 to 1, see docs/decisions/0033.
_RIDGE = 0.03


class MatchedFilter:
    """The mean and the covariance of scenes, for any number of questions."""

    def __init__(self, scenes: Float32) -> None:
        """Take them from windows drawn at random.

        Args:
            scenes: (n, 768) float32 of length 1.
        """
        if not len(scenes):
            raise ValueError("nothing is known of no scenes")
        wide = scenes.astype(np.float64)
        self._mean = wide.mean(axis=0)
        centred = wide - self._mean
        covariance = centred.T @ centred / max(len(wide) - 1, 1)
        variance = float(np.trace(covariance)) / len(covariance)
        covariance[np.diag_indices_from(covariance)] += _RIDGE * variance or 1.0  # of one, none
        self._inverse = np.linalg.inv(covariance)

    def __call__(self, scenes: Float32) -> Float32:
        """Return (q, 768) float32 of length 1 to ask with, for (q, 768) scenes of length 1."""
        asked = (scenes - self._mean) @ self._inverse
        lengths = np.linalg.norm(asked, axis=1, keepdims=True)
        return np.asarray(asked / np.where(lengths > 0, lengths, 1), np.float32)
