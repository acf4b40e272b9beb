"""How loud audio is: its highest peak in dB relative to full scale, and what counts as silence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

#: A window whose highest peak is below is silent, in dBFS: 16 bits hold three steps below it.
SILENT_DBFS = -80.0

#: Levels in dB relative to full scale; -inf of digital silence, NaN where they are not known.
Decibels = npt.NDArray[np.float32]


def decibels(amplitude: npt.ArrayLike) -> Decibels:
    """Return amplitudes, 1 at full scale, in dBFS, float32; -inf of 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(20 * np.log10(np.asarray(amplitude, np.float64)), np.float32)
