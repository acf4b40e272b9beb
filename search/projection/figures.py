"""How well captions find their sounds, in a few figures: enough to see that training worked."""

from __future__ import annotations

import numpy as np

from indexer.arrays import Integers
from search.projection.pairs import Pairs
from search.projection.projecting import Tower

RECALLS_AT = (1, 5, 10)
_BLOCK = 1024


def recalls(pairs: Pairs, audio: Tower, text: Tower) -> dict[str, float]:
    """Return R@1, R@5 and R@10 from text to audio, and the median rank; ties count against us.

    Intervals, and the other direction, are those of `search.evaluation.retrieval`.
    """
    ranks = _ranks(pairs, audio, text)
    shares = {f"R@{k}": float((ranks <= k).mean()) for k in RECALLS_AT}
    return {**shares, "median rank": float(np.median(ranks) // 1)}


def _ranks(pairs: Pairs, audio: Tower, text: Tower) -> Integers:
    sounds = audio(pairs.audio).astype(np.float64)
    ranks = np.empty(len(pairs.owners), np.int64)
    for first in range(0, len(ranks), _BLOCK):
        block = slice(first, first + _BLOCK)
        scores = np.round(text(pairs.text[block]).astype(np.float64) @ sounds.T, 6)
        own = scores[np.arange(len(scores)), pairs.owners[block]]
        ranks[block] = (scores >= own[:, None]).sum(1)
    return ranks
