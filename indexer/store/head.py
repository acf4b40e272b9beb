"""The classification head, which a store keeps: from scene embeddings to tags without a network."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from indexer.arrays import Float32

#: Of the final LayerNorm.
_NORM_EPS = 1e-6


class Head(NamedTuple):
    """The classifier of the checkpoint, kept so that tags can be checked and refined without it.

    Attributes:
        weight: (527, 768) float32; tags = sigmoid(weight @ scene + bias).
        bias: (527,) float32.
        norm_weight: (768,) float32, of the final LayerNorm, see `layer_norm`.
        norm_bias: (768,) float32.
    """

    weight: Float32
    bias: Float32
    norm_weight: Float32
    norm_bias: Float32

    def normalise(self, values: Float32) -> Float32:
        """Return (..., 768) scene embeddings for what the final LayerNorm is given."""
        return layer_norm(values) * self.norm_weight + self.norm_bias

    def logits(self, scene: Float32) -> Float32:
        """Return (n, 527) logits for (n, 768) scene embeddings."""
        with np.errstate(over="ignore", invalid="ignore"):  # their sigmoids are right
            return np.asarray(scene @ self.weight.T + self.bias, np.float32)

    def tags(self, scene: Float32) -> Float32:
        """Return (n, 527) probabilities for (n, 768) scene embeddings."""
        with np.errstate(over="ignore", invalid="ignore"):  # exp may be inf: 1 / inf is right
            return np.asarray(1 / (1 + np.exp(-self.logits(scene))), np.float32)


def layer_norm(values: Float32) -> Float32:
    """Return (..., 768) float32 with mean 0 and variance 1 in each row, as a LayerNorm begins."""
    centred = values - values.mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt(centred.var(-1, keepdims=True) + _NORM_EPS), np.float32)
