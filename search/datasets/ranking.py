"""How near every text is to every sound, and at which rank each finds what is right.

Scores are the cosines of embeddings, or what somebody computed.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

#: Cosines that agree to so many decimals are ties: the rounding of products would break them.
_DECIMALS = 10
#: Texts that are scored at once, against all sounds.
_BLOCK = 1024

Values = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


class Scores(Protocol):
    """Scores of texts and sounds, a block at a time; the greater, the nearer."""

    def of_texts(self, rows: Rows) -> npt.NDArray[Any]:
        """Return (len(rows), num_sounds) of some texts."""
        ...

    def of_sounds(self, rows: Rows) -> npt.NDArray[Any]:
        """Return (len(rows), num_texts) of some sounds."""
        ...


class Cosines:
    """See `Scores`; of embeddings of any length."""

    def __init__(self, texts: npt.NDArray[np.floating], sounds: npt.NDArray[np.floating]) -> None:
        """Take (num_texts, d) and (num_sounds, d)."""
        self._texts, self._sounds = _normalised(texts), _normalised(sounds)

    def of_texts(self, rows: Rows) -> Values:
        """Return (len(rows), num_sounds) of some texts."""
        scores: Values = np.round(self._texts[rows] @ self._sounds.T, _DECIMALS)
        return scores

    def of_sounds(self, rows: Rows) -> Values:
        """Return (len(rows), num_texts) of some sounds."""
        scores: Values = np.round(self._sounds[rows] @ self._texts.T, _DECIMALS)
        return scores


def rank_sounds(scores: Scores, captions: Rows, owners: Rows) -> tuple[Rows, Rows]:
    """Rank all sounds for each of some captions, ties counted against us.

    Args:
        scores: Of all texts and sounds.
        captions: (n,) rows of texts.
        owners: (n,) the row of the sound of each.

    Returns:
        (n,) ranks, from 1; and (n,) how many wrong sounds have the very score of the right one.
    """
    ranks, ties = np.empty((2, len(captions)), np.int64)
    for first in range(0, len(captions), _BLOCK):
        some = slice(first, first + _BLOCK)
        block = scores.of_texts(captions[some])
        own = block[np.arange(len(block)), owners[some], None]
        ranks[some] = (block >= own).sum(1)
        ties[some] = (block == own).sum(1) - 1
    return ranks, ties


def best_first(scores: npt.NDArray[Any]) -> Rows:
    """Return the order of (n,) scores of any type, the greatest first; equal ones stay in order.

    Nothing is negated: what has no sign, and the least of all integers, have no opposite.
    """
    return len(scores) - 1 - np.argsort(scores[::-1], kind="stable")[::-1]


def _normalised(vectors: npt.NDArray[np.floating]) -> Values:
    wide = vectors.astype(np.float64)
    lengths = np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(float).tiny)
    unit: Values = wide / lengths
    return unit
