"""Answers that do not repeat themselves: maximal marginal relevance."""

from __future__ import annotations

import numpy as np

from indexer.arrays import Float32, Integers


def choose_diverse(vectors: Float32, scores: Float32, k: int, balance: float) -> Integers:
    """Choose hits that are near the query, and not near each other.

    The first is the one with the highest score. Each that follows has the highest
    `balance * score - (1 - balance) * nearest` of those left, where `nearest` is its greatest
    cosine similarity to any chosen before. This is maximal marginal relevance (Carbonell and
    Goldstein 1998), chosen greedily.

    Args:
        vectors: (n, 768) float32 of length 1.
        scores: (n,) float32: how well each answers the query.
        k: How many to choose.
        balance: From 0 to 1. At 1 only the score counts: the k highest, in their order.

    Returns:
        (min(n, k),) positions, in the order of choice. Of equal values, the higher score comes
        first, then the lower position.
    """
    order = np.lexsort(
        (np.arange(len(scores)), -scores)
    )  # now the first of equals is the right one
    ordered = vectors[order]
    relevance = balance * scores[order].astype(np.float64)
    nearest = np.full(len(order), -1.0)
    is_left = np.ones(len(order), bool)
    chosen = np.empty(min(len(order), k), np.int64)
    for number in range(len(chosen)):
        worth = relevance - (1 - balance) * nearest if number else scores[order]
        best = int(np.argmax(np.where(is_left, worth, -np.inf)))
        chosen[number] = order[best]
        is_left[best] = False
        # Not `@`, which sums as the shape suits it: equal vectors must have equal products.
        products = np.einsum("ij,j->i", ordered, ordered[best])
        np.maximum(nearest, products, out=nearest)
    return chosen
