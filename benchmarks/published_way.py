"""The published way of working, as plainly as it can be written: the baseline of every speed-up.

The published code (audioset-convnext-inf) has three calls: one for the tags, one for the scene
embedding, one for the frame embeddings; its demo makes all of them for a file. Each is a forward
pass of its own, from the waveform on, of one clip. The spectrogram is a convolution with the matrix
of the DFT, the norms between the stages are written out, channels first. Nothing is changed here
but the words; the weights are those of the model that it is compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn
from torchlibrosa.stft import LogmelFilterBank, Spectrogram

from indexer.model.convnext import NORM_EPS, POWER_FLOOR, ConvNeXt
from indexer.model.front_end import FFT_SAMPLES, HOP_SAMPLES, MEL_HIGH_HZ, MEL_LOW_HZ, NUM_MELS
from indexer.windows import SAMPLE_RATE_HZ, WINDOW_SAMPLES


class PublishedWay:
    """Three calls, each a forward pass."""

    def __init__(self, model: ConvNeXt) -> None:
        self._model = model
        self.device = model.head_audioset.weight.device
        self._spectrogram = Spectrogram(n_fft=FFT_SAMPLES, hop_length=HOP_SAMPLES)
        self._log_mel = LogmelFilterBank(
            sr=SAMPLE_RATE_HZ,
            n_fft=FFT_SAMPLES,
            n_mels=NUM_MELS,
            fmin=MEL_LOW_HZ,
            fmax=MEL_HIGH_HZ,
            amin=POWER_FLOOR,
            ref=1.0,
            top_db=None,
        )
        for layer in (self._spectrogram, self._log_mel):
            layer.to(self.device)

    @torch.no_grad()
    def frames(self, waveforms: Tensor) -> Tensor:
        """Return (B, 768, T, 7)."""
        x = self._log_mel(self._spectrogram(waveforms))  # (B, 1, num_frames, 224)
        x = self._model.bn0(x.transpose(1, 3)).transpose(1, 3)
        for downsample, stage in zip(
            self._model.downsample_layers, self._model.stages, strict=True
        ):
            for layer in downsample:
                x = layer(x) if isinstance(layer, nn.Conv2d) else _channels_first_norm(layer, x)
            for block in stage:
                x = _block(block, x)
        return x

    @torch.no_grad()
    def scene(self, waveforms: Tensor) -> Tensor:
        """Return (B, 768)."""
        return self._model.pool(self.frames(waveforms))

    @torch.no_grad()
    def tags(self, waveforms: Tensor) -> Tensor:
        """Return (B, 527) probabilities."""
        return torch.sigmoid(self._model.head_audioset(self.scene(waveforms)))

    def all_three(self, waveforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return tags, scene and frames, as the demo computes them."""
        return self.tags(waveforms), self.scene(waveforms), self.frames(waveforms)


def _channels_first_norm(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    x = (x - mean) / torch.sqrt(variance + NORM_EPS)
    return norm.weight[:, None, None] * x + norm.bias[:, None, None]


def _block(block: nn.Module, x: Tensor) -> Tensor:
    y = block.norm(block.dwconv(x).permute(0, 2, 3, 1))
    y = block.gamma * block.pwconv2(F.gelu(block.pwconv1(y)))
    return x + y.permute(0, 3, 1, 2)


def embed_files(way: PublishedWay, files: Sequence[Path], out: Path) -> None:
    """Embed files one by one, as a script would; the results go into one .npz per file."""
    for file in files:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
        waveform = torch.from_numpy(samples.mean(axis=1))
        if rate != SAMPLE_RATE_HZ:
            waveform = torchaudio.functional.resample(waveform, rate, SAMPLE_RATE_HZ)
        padded = torch.zeros(1, WINDOW_SAMPLES)
        padded[0, : len(waveform)] = waveform[:WINDOW_SAMPLES]
        tags, scene, frames = (found.cpu() for found in way.all_three(padded.to(way.device)))
        np.savez(out / f"{file.stem}.npz", scene=scene, frames=frames, tags=tags)
