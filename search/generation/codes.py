"""Probabilities as bytes: what says of most rows whether a tag is heard, tag by tag."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float16

#: A float16 probability's bits, shifted right by this, fit a byte and keep their order.
CODE_SHIFT = 6


def code_of(probabilities: Float16) -> npt.NDArray[np.uint8]:
    """Return one byte per probability that sorts as the probabilities do.

    The bits of a non-negative float16 sort as its value does, and 1.0 is 0x3C00, so that the upper
    ten bits of anything up to 1 fit into a byte.
    """
    bits = np.ascontiguousarray(probabilities).view(np.uint16)
    return (bits >> CODE_SHIFT).astype(np.uint8)
