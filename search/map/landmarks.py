"""Landmarks: the few windows that a map is laid out by, and where t-SNE puts them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32, Integers, Mask

#: Windows that t-SNE lays out: 9 s of one core for 3,000, see docs/map.md.
MAX_LANDMARKS = 3000
#: Of fewer windows nobody needs a map, and t-SNE would have no neighbours to keep together.
MIN_LANDMARKS = 10
#: Of t-SNE: about how many neighbours are kept together, a tenth of the windows where these are
#: few. Van der Maaten and Hinton 2008 name 5 to 50.
_PERPLEXITY, _LEAST_PERPLEXITY = 30.0, 3.0
#: Twice as many, and twice the time, keep 35 of 100 neighbours where these keep 34.
_NUM_ITERATIONS = 500
#: Standard deviation of the start, as in scikit-learn: Kobak and Berens 2019.
_START_SPREAD = 1e-4
#: Shorter vectors have no direction that means anything: rows are of length 1, or damaged.
_LEAST_LENGTH = 0.5


def choose_landmarks(window_ids: Integers) -> Integers:
    """Return the windows that a map is laid out by: those with the lowest ids.

    An id is a digest, so that these are drawn at random, and the same ones in whatever order the
    windows lie; of a library that has grown, most are those that it had before.

    Args:
        window_ids: (n,) int64 ids, each once.

    Returns:
        (m,) int64 ids, ascending; `MAX_LANDMARKS` at most.
    """
    return np.sort(window_ids)[:MAX_LANDMARKS]


def are_usable(vectors: Float32) -> Mask:
    """Return which of (n, 768) vectors have a direction: what is damaged has no place on a map."""
    with np.errstate(invalid="ignore", over="ignore"):
        length = np.linalg.norm(vectors, axis=1)
    return np.asarray(np.isfinite(length) & (length >= _LEAST_LENGTH))


def lay_out(vectors: Float32) -> Float32:
    """Return where t-SNE puts some windows on a map.

    The result is the same each time on one machine if one thread computes it: whoever calls sees to
    that.

    Args:
        vectors: (m, 768) float32 of length 1.

    Returns:
        (m, 2) float32 from 0 to 1. Both axes have one scale, the longer one reaches from 0 to 1,
        and the shorter one lies in the middle.
    """
    from sklearn.manifold import TSNE  # noqa: PLC0415 - it takes a second, and most ask for no map

    perplexity = min(_PERPLEXITY, max(_LEAST_PERPLEXITY, len(vectors) / 10))
    wide = np.asarray(vectors, np.float32)
    start = _begin(wide)
    tsne = TSNE(2, perplexity=perplexity, init=start, max_iter=_NUM_ITERATIONS, random_state=0)
    return _fit(tsne.fit_transform(wide))


def _begin(vectors: Float32) -> Float32:
    """Return (m, 2) the first two principal components, as small as t-SNE wants its start.

    Its own start from them divides by nothing where all vectors are the same.
    """
    centred = vectors - vectors.mean(0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, :-3:-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])  # either sign would do
    start = centred @ axes
    spread = max(float(start[:, 0].std()), float(np.finfo(np.float32).tiny))
    return np.asarray(start * (_START_SPREAD / spread), np.float32)


def _fit(places: npt.NDArray[Any]) -> Float32:
    wide = places.astype(np.float64)
    low, high = wide.min(0), wide.max(0)
    scale = max(float((high - low).max()), float(np.finfo(np.float32).tiny))
    fitted = (wide - (low + high) / 2) / scale + 0.5
    return np.asarray(np.clip(fitted, 0, 1), np.float32)
