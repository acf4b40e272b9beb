"""How well captions find their sounds, in a few figures: enough to see that training worked."""

from __future__ import annotations

import numpy as np

from search.datasets.ranking import Cosines, rank_sounds
from search.projection.pairs import Pairs
from search.projection.projecting import Tower

RECALLS_AT = (1, 5, 10)


def recalls(pairs: Pairs, audio: Tower, text: Tower) -> dict[str, float]:
    """Return R@1, R@5 and R@10 from text to audio, and the median rank; ties count against us.

    Intervals, and the other direction, are those of `search.evaluation.retrieval`.
    """
    scores = Cosines(text(pairs.text), audio(pairs.audio))
    ranks, _ = rank_sounds(scores, np.arange(len(pairs.owners)), pairs.owners)
    shares = {f"R@{k}": float((ranks <= k).mean()) for k in RECALLS_AT}
    return {**shares, "median rank": float(np.median(ranks) // 1)}
