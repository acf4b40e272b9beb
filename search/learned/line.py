"""A line through the space of scenes and of what is heard in them: how a learned tag is computed.

Each window is one vector of 1,295 numbers: its scene of length √½ and, after it, the square roots
of its probabilities, of the same length. On esc10_seen, with 5 yes and 15 no, both together found
more of esc10_heldout than scenes alone (docs/decisions has the figures), and scenes know sounds for
which AudioSet has no tag.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from indexer.arrays import Float16, Float32
from indexer.store.schema import EMBEDDING_DIM
from search.nearest.blend import lengths_of, roots_of, unit_roots

#: Scenes and roots have this length, so that a window's vector has length 1.
LENGTH = np.float32(np.sqrt(0.5))


@dataclass(frozen=True, slots=True)
class Line:
    """What was learned: the log of odds of a window is weights · vector + bias.

    Attributes:
        weights: (1295,) float32.
        bias: The log of odds of 0.5, the cut, is 0.
        method: "logistic regression" or "difference of means".
    """

    weights: Float32
    bias: float
    method: str

    def logits(self, vectors: Float32) -> Float32:
        """Return (n,) float32 the logs of odds of (n, 1295) vectors."""
        return np.asarray(vectors @ self.weights + np.float32(self.bias), np.float32)

    def logits_of(self, scenes: Float32, tags: Float16 | Float32) -> Float32:
        """Return the same of (n, 768) scenes of length 1 and (n, 527) probabilities.

        Their vectors are not made: that takes a third of the time.
        """
        of_scenes, of_roots = np.split(self.weights * LENGTH, [EMBEDDING_DIM])
        roots = roots_of(tags)
        heard = (roots @ of_roots) / lengths_of(roots)
        return np.asarray(scenes @ of_scenes + heard + np.float32(self.bias), np.float32)


def vectors_of(scenes: Float32, tags: Float16 | Float32) -> Float32:
    """Return (n, 1295) float32 vectors of length 1.

    Args:
        scenes: (n, 768) float32 of length 1.
        tags: (n, 527) probabilities.
    """
    return np.concatenate([scenes, unit_roots(tags)], axis=1) * LENGTH
