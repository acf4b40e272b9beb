"""The log-mel front end in numbers: what a spectrogram is made of, and its bands.

Computed here, in NumPy: the library that the published checkpoints were trained with needs seconds
to be imported, and is what the tests compare with.
"""

from __future__ import annotations

import functools

import numpy as np

from indexer.arrays import Float32, Float64
from indexer.windows import SAMPLE_RATE_HZ

#: Part of a store's identity: embeddings of different front ends must not be compared. The numbers
#: are FFT length, hop and mel bands; the version is raised when values change in any other way.
FRONT_END = "logmel-1024-320-224-v1"
#: Front end of arXiv:2306.00830, section 2 (at 32 kHz: windows of 32 ms, a frame every 10 ms).
FFT_SAMPLES = 1024
HOP_SAMPLES = 320
NUM_MELS = 224
MEL_LOW_HZ = 50
MEL_HIGH_HZ = 14_000

#: The mel scale of Slaney's Auditory Toolbox (1998): 200/3 Hz a step up to 1 kHz, where 15 steps
#: lie below it; from there on 27 steps for a factor of 6.4.
_HZ_PER_STEP = 200 / 3
_KNEE_HZ = 1000.0
_KNEE_STEPS = _KNEE_HZ / _HZ_PER_STEP
_LOG_PER_STEP = np.log(6.4) / 27


@functools.cache
def mel_filterbank() -> Float32:
    """Return the bands: (513, 224) float32, a power spectrum times it is a mel spectrum.

    Each band is a triangle over the frequencies, up from the centre of the band below it and down
    to that of the band above, and has the area 1: Slaney's norm, as in torchlibrosa 0.1.
    """
    low, high = _steps(MEL_LOW_HZ), _steps(MEL_HIGH_HZ)
    edges_hz = _frequencies(np.linspace(low, high, NUM_MELS + 2))  # (226,)
    bins_hz = np.arange(FFT_SAMPLES // 2 + 1) * (SAMPLE_RATE_HZ / FFT_SAMPLES)
    away_hz = edges_hz[:, None] - bins_hz  # (226, 513)
    widths_hz = np.diff(edges_hz)[:, None]
    rising, falling = -away_hz[:-2] / widths_hz[:-1], away_hz[2:] / widths_hz[1:]
    # Rounded before it is scaled, as there: the last digit is the same.
    triangles = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    triangles *= (2 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    return triangles.T


def _steps(frequency_hz: float) -> float:
    """Return where a frequency is on the mel scale."""
    if frequency_hz < _KNEE_HZ:
        return frequency_hz / _HZ_PER_STEP
    return float(_KNEE_STEPS + np.log(frequency_hz / _KNEE_HZ) / _LOG_PER_STEP)


def _frequencies(steps: Float64) -> Float64:
    """Return the frequencies at some places of the mel scale, in Hz."""
    above = _KNEE_HZ * np.exp(_LOG_PER_STEP * (steps - _KNEE_STEPS))
    return np.where(steps < _KNEE_STEPS, steps * _HZ_PER_STEP, above)
