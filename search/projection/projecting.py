"""What a projection computes: two small networks in NumPy, for sounds and for texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from indexer.arrays import Float32, Ids
from indexer.errors import NotAsWrittenError
from search.generation.writing import normalise

#: Vectors that are projected at a time, so that what lies between takes no more than they do.
_BLOCK_ROWS = 8192


class Tower(NamedTuple):
    """Two layers, with a ReLU between them.

    Attributes:
        mean: (n,) float32, taken from each vector.
        scale: (n,) float32, what is left is multiplied by it.
        weight_1: (h, n) float32.
        bias_1: (h,) float32.
        weight_2: (d, h) float32.
        bias_2: (d,) float32.
    """

    mean: Float32
    scale: Float32
    weight_1: Float32
    bias_1: Float32
    weight_2: Float32
    bias_2: Float32

    def __call__(self, vectors: Float32) -> Float32:
        """Return (m, d) float32 of length 1 for (m, n) float32."""
        found = np.empty((len(vectors), len(self.bias_2)), np.float32)
        for first in range(0, len(vectors), _BLOCK_ROWS):
            block = slice(first, first + _BLOCK_ROWS)
            hidden = ((vectors[block] - self.mean) * self.scale) @ self.weight_1.T + self.bias_1
            found[block] = normalise(np.maximum(hidden, 0) @ self.weight_2.T + self.bias_2)
        return found

    def require_shapes(self, num_in: int | None = None) -> None:
        """Raise unless its arrays fit together.

        Args:
            num_in: Dimensions of what it takes, if these are known.

        Raises:
            NotAsWrittenError: If they do not, or are no finite float32 numbers.
        """
        num_hidden, taken = np.shape(self.weight_1)
        dim, num_hidden_2 = np.shape(self.weight_2)
        shapes = (
            *((taken,), (taken,)),
            *((num_hidden, taken), (num_hidden,)),
            *((dim, num_hidden), (dim,)),
        )
        if num_hidden != num_hidden_2 or num_in not in (None, taken):
            raise NotAsWrittenError("its layers do not fit together")
        for name, array, shape in zip(self._fields, self, shapes, strict=True):
            if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
                raise NotAsWrittenError(f"its {name} is not what it should be")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Projection:
    """What was learnt from captions of a store.

    Attributes:
        name: What it is called in the store.
        audio: From (n, 768) float32 scene embeddings of length 1 to the common space.
        text: From the vectors of its text encoder to the common space.
        probe: (t,) float32 what the encoder made of `encoders.PROBE`; nothing if texts came as
            vectors.
        heard: Sorted ids of the recordings that it was trained on.
        provenance: What it was made of and how, as plain data; docs/store-format.md lists it.
    """

    name: str
    audio: Tower
    text: Tower
    probe: Float32
    heard: Ids
    provenance: Mapping[str, Any]

    @property
    def dim(self) -> int:
        """Dimensions of the common space."""
        return len(self.audio.bias_2)

    @property
    def encoder(self) -> str | None:
        """Name of its text encoder; None if texts came as vectors."""
        return self.provenance["text_encoder"] if len(self.probe) else None

    @property
    def weights(self) -> str:
        """The weights of the network whose embeddings it takes, as a store's identity has them."""
        return str(self.provenance["weights"])

    @property
    def digest(self) -> str:
        """SHA-256 of its tensors, in hex."""
        return str(self.provenance["tensors"])
