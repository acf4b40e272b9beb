"""Products of vectors of bytes: by SimSIMD where it runs, else by NumPy; equal in every bit."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32

_simsimd: Any = None
with suppress(ImportError):  # it has no wheels for some systems
    import simsimd as _simsimd

Bytes = npt.NDArray[np.uint8]

#: Numbers of a vector, at most: so many products of two bytes add up to less than 2^24, which
#: float32 holds exactly.
MAX_COLUMNS = 256
#: Rows that NumPy multiplies at a time, so that what it makes of them stays in the cache.
_BLOCK_ROWS = 2048


def multiply_bytes(vectors: Bytes, *blocks: Bytes) -> Float32:
    """Return (q, n) float32 products, which are exact, of (q, d) vectors with (n, d) rows.

    Args:
        vectors: What is multiplied.
        blocks: The rows, one or more (b, d) blocks of them, which are not copied together.
    """
    products: list[Any] = [np.empty((len(vectors), 0), np.float32)]
    if _simsimd is not None:
        # Not with `out`: SimSIMD 6.5.16 then gives up the only None that there is, once a call.
        products += [
            _simsimd.cdist(vectors, rows, "dot", out_dtype="float32")
            for rows in filter(len, blocks)
        ]
    else:
        wide = vectors.astype(np.float32)
        products += [
            wide @ rows[first : first + _BLOCK_ROWS].astype(np.float32).T
            for rows in blocks
            for first in range(0, len(rows), _BLOCK_ROWS)
        ]
    return np.concatenate(products, axis=1)
