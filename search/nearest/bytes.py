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

#: Of what asks and of what is stored alike, so that a product says what it is of: with bytes from 0
#: on, what those of each row add up to had to be read as well, 3 ns a row.
Bytes = npt.NDArray[np.int8]

#: Numbers of a vector, at most: so many products of two bytes add up to less than 2^24, which
#: float32 holds exactly.
MAX_COLUMNS = 256
#: Rows that NumPy multiplies at a time, so that what it makes of them stays in the cache.
_BLOCK_ROWS = 2048


def multiply_bytes(vectors: Bytes, rows: Bytes) -> Float32:
    """Return (q, n) float32 products, which are exact, of (q, d) vectors with (n, d) rows."""
    if _simsimd is None or not len(vectors) or not len(rows):
        wide = vectors.astype(np.float32)
        blocks = (rows[at : at + _BLOCK_ROWS] for at in range(0, len(rows), _BLOCK_ROWS))
        products = [wide @ block.astype(np.float32).T for block in blocks]
        return np.concatenate([np.empty((len(vectors), 0), np.float32), *products], axis=1)
    # Not with `out`: SimSIMD 6.5.16 then gives up the only None that there is, once a call.
    return np.array(_simsimd.cdist(vectors, rows, "dot", out_dtype="float32"))
