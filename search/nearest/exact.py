"""Exact answers: the products of a question with every row that may be a hit, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import faiss
import numpy as np

from indexer.arrays import Float32, Integers, Mask
from indexer.progress import Listen, Step, ignore
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from search.generation.allowed import Allowed
from search.generation.segments import Generation, Segment
from search.nearest.blend import columns_of, is_blend, rows_to_score, scenes_of, unit_roots

#: How far the float32 product of two vectors of length 1 may be from the true one, in whatever
#: order it is summed: a rounding of 2^-24 for each of their numbers, of blends the most.
ROUNDING = (EMBEDDING_DIM + NUM_TAGS) * 2.0**-24
#: Rows that are scored by the blend before any is passed over, the nearest by scene.
_FIRST_BLENDED = 1024
#: Rows fetched beyond k, so that the boundary can be seen.
MARGIN = 16
#: Rows whose products are held at a time: 25 MB in float64.
_BLOCK_ROWS = 4096
#: Vectors up to this number are multiplied row by row where the rows lie; more are worth a copy.
_FEW_VECTORS = 4
#: Where so many rows of a segment are allowed, reading all of them in order is quicker: one core
#: read 100,000 of 200,000 picked rows in the time in which it read all 200,000.
_MOST = 0.6
#: Rows whose products one core computes in some 10 ms; to wait for a second core,
#: which other programs may be using, took 8 to 30 ms.
_ROWS_WORTH_SHARING = 1 << 16


def score_rows(generation: Generation, vectors: Float32, rows: Integers) -> Float32:
    """Return the score of some rows: the highest cosine similarity to any of the vectors.

    This makes every score that is shown, with `score_pairs`. It sums row by row in float64, so that
    a row's score does not depend on how it was found or on which rows it was computed with.

    Args:
        generation: The rows.
        vectors: (q, 768) float32 of length 1, or (q, 1295) of `blended`.
        rows: (n,) positions in the generation.

    Returns:
        (n,) float32 from -1 to 1; -inf for rows that are not numbers.
    """
    best = np.full(len(rows), -np.inf)
    for first in range(0, len(rows), _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        stored = rows_to_score(generation, rows[block], vectors.shape[1]).astype(np.float64)
        for vector in vectors:
            np.fmax(best[block], _multiply(stored, vector), out=best[block])
    return np.asarray(np.where(np.isneginf(best), best, np.clip(best, -1, 1)), np.float32)


def score_pairs(generation: Generation, vectors: Float32, rows: Integers) -> Float32:
    """Return (n, m) scores as `score_rows` gives them, of m rows for each vector; -inf for -1."""
    scores = np.empty(rows.shape, np.float32)
    step = max(1, _BLOCK_ROWS // rows.shape[1])
    for first in range(0, len(rows), step):
        block = rows[first : first + step]
        some = np.maximum(block, 0).ravel()
        stored = rows_to_score(generation, some, vectors.shape[1]).astype(np.float64)
        shaped = stored.reshape(*block.shape, -1)
        products = _multiply(shaped, vectors[first : first + step, None])
        scores[first : first + step] = np.where(block < 0, -np.inf, np.minimum(products, 1))
    return np.where(np.isnan(scores), -np.inf, scores)


def find_near(
    generation: Generation,
    vectors: Float32,
    k: int,
    allowed: Allowed,
    least: float | None = None,
) -> Integers:
    """Return all rows that may be among the k nearest to any vector, by the products of all rows.

    Args:
        generation: The rows.
        vectors: (q, 768) float32 of length 1, or (q, 1295) of `blended`.
        k: How many rows are wanted.
        allowed: Which rows may be found.
        least: Of a blend, the least cosine of scenes; None for any.
    """
    rows, near = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    num_columns = columns_of(generation)
    scenes = np.ascontiguousarray(vectors[:, :num_columns])
    for number in np.flatnonzero(allowed.counts).tolist():
        at = allowed.rows_of(number)
        rows.append(generation.starts[number] + at)
        near.append(_nearness(scenes, generation.segments[number].vectors, at))
    all_rows, all_near = np.concatenate(rows), np.concatenate(near)
    all_near[np.isnan(all_near)] = -np.inf
    if len(all_rows) and is_blend(vectors, num_columns):
        scene_weight = float(np.linalg.norm(scenes[0]))
        if least is not None:
            is_near = all_near >= scene_weight * least - 2 * ROUNDING
            is_open = is_near & (all_near <= scene_weight * least + 2 * ROUNDING)
            alone = scenes_of(vectors, num_columns)
            is_near[is_open] = score_rows(generation, alone, all_rows[is_open]) >= least
            all_rows, all_near = all_rows[is_near], all_near[is_near]
        return _find_blended(generation, vectors, k, all_rows, all_near, 1 - scene_weight)
    # The k-th score may be one rounding below the k-th of these, and so may each that beats it.
    bound = np.partition(all_near, -k)[-k] - 2 * ROUNDING if len(all_near) > k else -np.inf
    return all_rows[(all_near >= bound) & (all_near > -np.inf)]


def keep_best(generation: Generation, vectors: Float32, k: int, rows: Integers) -> Integers:
    """Return those of some rows that may be among the k nearest to any vector, of these rows.

    Their products in float32 say so, which are computed in a third of the time of their scores.
    """
    if len(rows) <= k:
        return rows
    products = _multiply_rows(generation, vectors, rows)
    bound = _kth_best(products, k) - 2 * ROUNDING
    return rows[(products >= bound) & (products > -np.inf)]


def _find_blended(
    generation: Generation,
    vectors: Float32,
    k: int,
    rows: Integers,
    near: Float32,
    most: float,
) -> Integers:
    """Return those of some rows that may be among the k best by the blend.

    What is heard is compared only where it may decide: a row whose scene is so far away that even
    the same tags would not bring it among the best so far is passed over.

    Args:
        generation: The rows.
        vectors: (q, 1295) float32, of `blended`.
        k: How many rows are wanted.
        rows: (n,) what is ranked.
        near: (n,) the best product of their scenes with any of the vectors; -inf for none.
        most: What tags may add to it.
    """
    num_first = max(_FIRST_BLENDED, 4 * k)
    is_open = near > -np.inf
    first = np.argpartition(near, -num_first)[-num_first:] if len(near) > num_first else slice(None)
    is_open[first] = False
    found, scores = rows[first], _multiply_rows(generation, vectors, rows[first])
    bound = _kth_best(scores, k)
    left = np.flatnonzero(is_open & (near >= bound - most - 2 * ROUNDING))
    left = left[np.argsort(-near[left], kind="stable")]
    for begin in range(0, len(left), _BLOCK_ROWS):
        block = left[begin : begin + _BLOCK_ROWS]
        if near[block[0]] + most < bound - 2 * ROUNDING:
            break
        found = np.append(found, rows[block])
        scores = np.append(scores, _multiply_rows(generation, vectors, rows[block]))
        is_best = scores >= _kth_best(scores, k) - 2 * ROUNDING
        found, scores = found[is_best], scores[is_best]
        bound = _kth_best(scores, k)
    return found[(scores >= bound - 2 * ROUNDING) & (scores > -np.inf)]


def _multiply_rows(generation: Generation, vectors: Float32, rows: Integers) -> Float32:
    """Return (n,) float32 the best product of some rows with any of the vectors; -inf for none."""
    products = np.empty(len(rows), np.float32)
    for first in range(0, len(rows), _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        stored = rows_to_score(generation, rows[block], vectors.shape[1])
        with np.errstate(invalid="ignore", over="ignore"):
            products[block] = (stored @ vectors.T).max(1)
    products[np.isnan(products)] = -np.inf
    return products


def _kth_best(scores: Float32, k: int) -> float:
    """Return the k-th highest score; -inf if there are fewer."""
    return float(np.partition(scores, -k)[-k]) if len(scores) >= k else -np.inf


def find_near_each(
    generation: Generation, vectors: Float32, k: int, masks: Sequence[Mask]
) -> tuple[Integers, Mask]:
    """Find rows that may be among the k nearest to each vector, by the products of all rows.

    Returns:
        (n, m) rows, -1 where there is none; and (n,) for which vectors others may be as near.
    """
    ((near, rows),) = multiply_all(generation, vectors, k + MARGIN, [masks])
    bound = np.partition(near, -k, axis=1)[:, -k] - 2 * ROUNDING
    last = near.min(1)
    return rows, (last >= bound) & (last > -np.inf)


def multiply_all(
    generation: Generation,
    vectors: Float32,
    k: int,
    filters: Sequence[Sequence[Mask]],
    listen: Listen = ignore,
) -> list[tuple[Float32, Integers]]:
    """Return for some filters the (n, k) best float32 products with the rows that match, and these.

    Args:
        generation: The rows.
        vectors: (n, 768) float32 of length 1, or (n, 1295) of `blended`.
        k: How many rows for each.
        filters: Of each filter, a (num_rows,) mask for each segment.
        listen: Hears how many rows are done.

    Returns:
        For each filter products and rows, in any order; -inf and -1 where there are fewer.
    """
    best = [
        (
            np.full((len(vectors), k), -np.inf, np.float32),
            np.full((len(vectors), k), -1, np.int64),
        )
        for _ in filters
    ]
    total = sum(map(len, generation.segments))
    for start, segment, *masks in zip(
        generation.starts.tolist(), generation.segments, *filters, strict=False
    ):
        at = np.flatnonzero(np.logical_or.reduce(masks))
        for first in range(0, len(at), _BLOCK_ROWS):
            block = at[first : first + _BLOCK_ROWS]
            near = _multiply_block(segment, block, vectors)
            for found, mask in zip(best, masks, strict=True):
                _merge(*found, near, start + block, mask[block])
            listen(Step("comparing", start + int(block[-1]) + 1, total, "window"))
        listen(Step("comparing", start + len(segment), total, "window"))  # the last may be deleted
    return best


def _merge(best: Float32, rows: Integers, near: Float32, block: Integers, mask: Mask) -> None:
    """Put the best of some products in the place of worse ones, for each vector."""
    is_near = (near > best.min(1, keepdims=True)) & mask  # what is not a number is not near
    for line in np.flatnonzero(is_near.any(1)).tolist():
        some = np.flatnonzero(is_near[line])
        scores = np.concatenate([best[line], near[line, some]])
        kept = np.argpartition(scores, -best.shape[1])[-best.shape[1] :]
        best[line], rows[line] = scores[kept], np.concatenate([rows[line], block[some]])[kept]


def _multiply_block(segment: Segment, rows: Integers, vectors: Float32) -> Float32:
    """Return (q, n) float32 products of vectors with some rows of a segment, in order."""
    is_run = rows[-1] - rows[0] == len(rows) - 1  # where they lie, if they can be
    some = slice(rows[0], rows[-1] + 1) if is_run else rows
    num_columns = segment.vectors.shape[1]
    with np.errstate(invalid="ignore", over="ignore"):
        near = vectors[:, :num_columns] @ segment.vectors[some].T
        if vectors.shape[1] > num_columns:
            near += vectors[:, num_columns:] @ unit_roots(segment.tags[some]).T
    return np.asarray(near)


def _multiply(stored: Any, vectors: Any) -> Any:
    """Return products in float64, each summed by itself: `@` would sum as the shape suits it."""
    with np.errstate(invalid="ignore"):
        return (stored * vectors).sum(-1)


def _nearness(vectors: Float32, stored: Float32, rows: Integers) -> Float32:
    """Return (n,) the best float32 product of some stored rows with any of the vectors."""
    if len(rows) > _MOST * len(stored):
        if len(vectors) == 1:  # as one product, which the cores share out once
            with np.errstate(invalid="ignore", over="ignore"):
                return np.asarray((stored @ vectors[0])[rows])
        return _nearness_of_blocks(vectors, stored, slice(None), len(stored))[rows]
    if len(vectors) > _FEW_VECTORS:
        return _nearness_of_blocks(vectors, stored, rows, len(rows))
    near = _nearness_in_place(vectors[0], stored, rows)
    for vector in vectors[1:]:
        np.fmax(near, _nearness_in_place(vector, stored, rows), out=near)
    return near


def _nearness_of_blocks(
    vectors: Float32, stored: Float32, rows: Integers | slice, num_rows: int
) -> Float32:
    """The same by matrix products."""
    near = np.empty(num_rows, np.float32)
    for first in range(0, num_rows, _BLOCK_ROWS):
        block = slice(first, first + _BLOCK_ROWS)
        picked = stored[block] if isinstance(rows, slice) else stored[rows[block]]
        with np.errstate(invalid="ignore", over="ignore"):
            near[block] = (picked @ vectors.T).max(1)
    return near


def _nearness_in_place(vector: Float32, stored: Float32, rows: Integers) -> Float32:
    """Return (n,) products of a vector with rows that are read where they are."""
    all_cores = faiss.omp_get_max_threads()
    num_cores = all_cores if len(rows) > _ROWS_WORTH_SHARING else 1
    each = -(-len(rows) // num_cores)
    padded = np.full((num_cores, each), rows[-1])  # FAISS shares out queries, not rows
    padded.ravel()[: len(rows)] = rows
    copies = np.tile(vector, (num_cores, 1))
    products = np.empty((num_cores, each), np.float32)
    faiss.omp_set_num_threads(num_cores)  # of this thread; it would wait for idle ones as well
    faiss.fvec_inner_products_by_idx(
        faiss.swig_ptr(products),
        faiss.swig_ptr(copies),
        faiss.swig_ptr(stored),
        faiss.swig_ptr(padded),
        stored.shape[1],
        num_cores,
        each,
    )
    faiss.omp_set_num_threads(all_cores)
    return products.ravel()[: len(rows)]
