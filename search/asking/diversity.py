"""Answers that do not repeat themselves: what is like an earlier hit is worth less."""

from __future__ import annotations

import numpy as np

from indexer.arrays import Float32, Integers

#: How often the similarity to an earlier hit is squared, so that it is its 16th power: chosen on
#: esc10_seen, see docs/decisions/0028.
_SQUARINGS = 4


def choose_diverse(vectors: Float32, scores: Float32, k: int, diversity: float) -> Integers:
    """Choose hits that are near the query, and not near each other.

    The first is the one with the highest score. Each that follows is worth most of those left:
    `score - diversity * abs(score) * nearest ** 16`, where `nearest` is its greatest cosine
    similarity to any chosen before, at least 0. So an exact copy of an earlier hit loses the share
    `diversity` of its score, one with a similarity of 0.9 a fifth of that, and one of 0.8 hardly
    anything. To weigh scores against similarities as they are (maximal marginal relevance,
    Carbonell and Goldstein 1998) does not do: beside a copy of the query, both are the same.

    Args:
        vectors: (n, 768) float32 of length 1.
        scores: (n,) float32: how well each answers the query.
        k: How many to choose.
        diversity: From 0 to 1. At 0 only the score counts: the k highest, in their order.

    Returns:
        (min(n, k),) positions, in the order of choice. Of equal values, the higher score comes
        first, then the lower position.
    """
    order = np.lexsort(
        (np.arange(len(scores)), -scores)
    )  # now the first of equals is the right one
    ordered, relevance = vectors[order], scores[order].astype(np.float64)
    nearest = np.zeros(len(order))
    is_left = np.ones(len(order), bool)
    chosen = np.empty(min(len(order), k), np.int64)
    for number in range(len(chosen)):
        likeness = nearest
        for _ in range(_SQUARINGS):
            likeness = likeness * likeness
        worth = relevance - diversity * np.abs(relevance) * likeness
        best = int(np.argmax(np.where(is_left, worth, -np.inf)))
        chosen[number] = order[best]
        is_left[best] = False
        # Not `@`, which sums as the shape suits it: equal vectors must have equal products.
        products = np.einsum("ij,j->i", ordered, ordered[best])
        np.maximum(nearest, products, out=nearest)
    return chosen
