"""How loud windows are, on the device that embeds them, whoever has resampled them."""

from __future__ import annotations

import torch
from torch import Tensor


def peaks_of(waveforms: Tensor) -> Tensor:
    """Return (B,) float32: the highest peak of each window; what fills it up is never higher.

    Args:
        waveforms: (B, num_samples) float32, mono, 32 kHz, filled with zeros or their own audio.
    """
    peaks: Tensor = torch.linalg.vector_norm(waveforms, float("inf"), dim=1)
    return peaks
