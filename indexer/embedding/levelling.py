"""How loud windows are, and made, on the device that embeds them, whoever has resampled them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from indexer.windows import LEVEL_DBFS, SILENT_DBFS


@dataclass(frozen=True, slots=True)
class CutWindows:
    """B windows as readers cut them, with how much of each is audio.

    Attributes:
        waveforms: (B, num_samples) float32, mono, 32 kHz, padded.
        lengths: (B,) int64, samples before the padding.
    """

    waveforms: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.waveforms)

    def split(self, size: int) -> list[CutWindows]:
        """Return them in pieces of so many windows, the last with what is left."""
        parts = zip(self.waveforms.split(size), self.lengths.split(size), strict=True)  # type: ignore[no-untyped-call]
        return [CutWindows(*part) for part in parts]

    def pin_memory(self) -> CutWindows:
        """Return them in page-locked memory."""
        return self._each(Tensor.pin_memory)

    def to(self, device: torch.device, *, non_blocking: bool) -> CutWindows:
        """Return them on a device; from pinned memory without waiting, if not blocking."""
        return self._each(lambda some: some.to(device, non_blocking=non_blocking))

    def _each(self, change: Callable[[Tensor], Tensor]) -> CutWindows:
        return CutWindows(change(self.waveforms), change(self.lengths))


def peaks_of(waveforms: Tensor) -> Tensor:
    """Return (B,) float32: the highest peak of each window; what fills it up is never higher.

    Args:
        waveforms: (B, num_samples) float32, mono, 32 kHz, filled with zeros or their own audio.
    """
    peaks: Tensor = torch.linalg.vector_norm(waveforms, float("inf"), dim=-1)
    return peaks


def levelled(waveforms: Tensor, lengths: Tensor, peaks: Tensor) -> Tensor:
    """Return windows whose own audio has a root mean square of `LEVEL_DBFS`; silence stays.

    Args:
        waveforms: (B, num_samples) float32, mono, 32 kHz, padded.
        lengths: (B,) int64, samples before the padding.
        peaks: (B,) float32, of `peaks_of`.
    """
    places = torch.arange(waveforms.shape[1], device=waveforms.device)
    own = torch.where(places < lengths[:, None], waveforms, 0.0)
    loudness = torch.linalg.vector_norm(own, dim=1, dtype=torch.float64) / lengths.sqrt()
    gains = torch.where(peaks < 10 ** (SILENT_DBFS / 20), 1.0, 10 ** (LEVEL_DBFS / 20) / loudness)
    return waveforms * gains[:, None].float()
