"""How near every text is to every sound: by the cosines of embeddings, or as somebody computed."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

#: Cosines that agree to so many decimals are ties: the rounding of products would break them.
_DECIMALS = 10

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


def _normalised(vectors: npt.NDArray[np.floating]) -> Values:
    wide = vectors.astype(np.float64)
    lengths = np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.finfo(float).tiny)
    unit: Values = wide / lengths
    return unit
