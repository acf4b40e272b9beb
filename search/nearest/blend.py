"""The blend: how alike two windows are by their scenes, and by what is heard in them.

A window is asked with by one vector of 1,295 numbers: its scene, of length 1 - w, and after it the
square roots of its 527 probabilities, of length w. Its product with the same two of a stored row,
each of length 1, is (1 - w) cos(scene) + w cos(√p). The latter is the Hellinger affinity of what is
heard: where everything has the same tags it is the same for all, and has no say. Nothing of the
library is in it, so that two windows have the same score in every store.
"""

from __future__ import annotations

from functools import cache, reduce
from typing import NamedTuple

import numpy as np

from indexer.arrays import Float16, Float32, Integers, widened
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from search.generation.segments import Rows

#: How much of what is not meant is taken off what is: see docs/decisions/0035.
_UNLIKE_WEIGHT = 0.25


def unit_roots(tags: Float16 | Float32) -> Float32:
    """Return (n, 527) float32 of length 1: the square roots of probabilities; 0 where all are."""
    roots = roots_of(tags)
    with np.errstate(invalid="ignore"):  # damaged ones
        roots /= lengths_of(roots)[:, None]
    return roots


def roots_of(tags: Float16 | Float32) -> Float32:
    """Return (n, 527) float32: the square roots of probabilities."""
    with np.errstate(invalid="ignore"):  # damaged ones
        if tags.dtype == np.float16:
            return _roots_of_float16().take(tags.view(np.uint16))
        return np.sqrt(tags, dtype=np.float32)


def lengths_of(roots: Float32) -> Float32:
    """Return (n,) float32 the lengths of `roots_of`; 1 where all are 0."""
    lengths = np.sqrt(np.einsum("ij,ij->i", roots, roots))
    return np.where(lengths > 0, lengths, np.float32(1))


@cache
def _roots_of_float16() -> Float32:
    """Return (65536,) float32: the square roots of all float16, by their bits; half the time."""
    return np.sqrt(widened(np.arange(1 << 16, dtype=np.uint16).view(np.float16)))


def blended(scenes: Float32, tags: Float16 | Float32, tag_weight: float) -> Float32:
    """Return (n, 1295) float32 vectors to ask with.

    Args:
        scenes: (n, 768) float32 of length 1.
        tags: (n, 527) probabilities of the same windows.
        tag_weight: w, from 0 to below 1.
    """
    both = ((1 - tag_weight) * scenes, tag_weight * unit_roots(tags))
    return np.concatenate(both, axis=1, dtype=np.float32)


def turned_away(vectors: Float32, unlike: Float32) -> Float32:
    """Return vectors turned away from what is not meant, scenes and what is heard each on its own.

    A quarter of the mean of what is not meant is taken off, see `_UNLIKE_WEIGHT`. A row's score is
    its cosine to what is left, so that all that finds rows goes on as it does.

    Args:
        vectors: (q, c) float32: (q, 768) of length 1, or (q, 1295) of `blended`.
        unlike: (u, c) likewise, at least one.

    Returns:
        (q, c) float32, each as long as it was, scenes and the rest.
    """
    turned = np.empty_like(vectors)
    for block in (slice(EMBEDDING_DIM), slice(EMBEDDING_DIM, None)):
        lengths = np.linalg.norm(vectors[:, block], axis=1, keepdims=True)
        away = vectors[:, block] - np.float32(_UNLIKE_WEIGHT) * unlike[:, block].mean(0)
        left = np.linalg.norm(away, axis=1, keepdims=True)
        turned[:, block] = away * (lengths / np.where(left > 0, left, 1))
    return turned


def rows_to_score(rows: Rows, at: Integers, num_columns: int) -> Float32:
    """Return (n, num_columns) of some rows, as vectors of so many columns score them."""
    scenes = rows.vectors(at)
    return scenes if scenes.shape[1] == num_columns else with_roots(scenes, rows.tags(at))


def with_roots(scenes: Float32, tags: Float16 | Float32) -> Float32:
    """Return (n, 1295) float32: rows, from their (n, 768) scenes and (n, 527) probabilities."""
    return np.concatenate([scenes, unit_roots(tags)], axis=1)


def columns_of(rows: Rows) -> int:
    """Return how many numbers a stored vector has: 768, or those of a projection."""
    return next((one.vectors.shape[1] for one in rows.segments), EMBEDDING_DIM)


def scenes_of(vectors: Float32, num_columns: int) -> Float32:
    """Return (q, num_columns) float32 of length 1: the scenes of vectors that may be blended."""
    if vectors.shape[1] == num_columns:
        return vectors
    scenes = vectors[:, :num_columns]
    lengths = np.linalg.norm(scenes, axis=1, keepdims=True)
    return np.ascontiguousarray(scenes / np.where(lengths > 0, lengths, 1))


def is_blend(vectors: Float32, num_columns: int) -> bool:
    """Whether vectors ask with what was heard as well, of a store with so many columns."""
    return bool(vectors.shape[1] == num_columns + NUM_TAGS)


class Parts(NamedTuple):
    """Of what a score is made.

    Attributes:
        scene: (n,) float32 cosines of scenes.
        heard: (n,) float32 cosines of the square roots of probabilities; NaN of scenes alone.
        best: (n,) which of the vectors that asked is nearest.
    """

    scene: Float32
    heard: Float32
    best: Integers


def parts_of(rows: Rows, vectors: Float32, at: Integers) -> Parts:
    """Take the scores of some rows apart.

    Args:
        rows: What was asked.
        vectors: (q, 768) float32 of length 1, or (q, 1295) of `blended`.
        at: (n,) rows.
    """
    stored = rows_to_score(rows, at, vectors.shape[1]).astype(np.float64)
    num_columns = columns_of(rows)
    both = slice(num_columns), slice(num_columns, None)
    parts = both if is_blend(vectors, num_columns) else both[:1]
    products = [stored[:, some] @ vectors[:, some].T.astype(np.float64) for some in parts]
    best = reduce(np.add, products).argmax(1)
    lengths = [np.linalg.norm(vectors[:, some], axis=1)[best] for some in parts]
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = [
            np.clip(one[np.arange(len(at)), best] / length, -1, 1).astype(np.float32)
            for one, length in zip(products, lengths, strict=True)
        ]
    scene, heard = [*cosines, np.full(len(at), np.nan, np.float32)][:2]
    return Parts(scene, heard, best)
