"""The network: log-mel front end and ConvNeXt, three outputs from one forward pass.

Attribute names equal those of the published state dict, so that its checkpoints load as they are.
The design is that of ConvNeXt (Liu et al. 2022, arXiv:2201.03545), adapted to audio tagging by
Pellegrini et al. 2023 (arXiv:2306.00830), "the paper" below. For inference only: there is no
dropout and no drop path.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from indexer.model.front_end import FFT_SAMPLES, HOP_SAMPLES, NUM_MELS, mel_filterbank
from indexer.windows import MIN_INPUT_SAMPLES

#: AudioSet classes, the outputs of the network (Gemmeke et al. 2017).
NUM_TAGS = 527
#: Width of the last stage of ConvNeXt-Tiny, and so of scene and frame embeddings.
EMBEDDING_DIM = 768
#: Blocks and channels per stage of ConvNeXt-Tiny (arXiv:2201.03545, section 2.2).
TINY_DEPTHS = (3, 3, 9, 3)
TINY_DIMS = (96, 192, 384, EMBEDDING_DIM)

#: Power below this is silence, -100 dB (torchlibrosa's `amin`).
POWER_FLOOR = 1e-10

#: Of every LayerNorm (arXiv:2201.03545, published code).
NORM_EPS = 1e-6
#: Side of the stem's square patches, in frames and bands, and of the 2 x 2 patches between stages.
STEM_PATCH = 4
STAGE_PATCH = 2
#: Frames of zeros at each end of the spectrogram: 1001 frames become 252 rather than 250 patches.
STEM_TIME_PADDING = 4
KERNEL = 7
#: Hidden width of a block's two linear layers, in multiples of its own.
_EXPANSION = 4


class Output(NamedTuple):
    """What one forward pass gives, float32, on the device of the model.

    Attributes:
        scene: (B, 768) scene embeddings, the input of the classifier.
        frames: (B, 768, T, 7) frame map: the last stage before pooling and its LayerNorm. Frame i
            covers [0.32 i - 0.04, 0.32 i + 0.28) s; the 7 are bands of frequency, low to high.
            Memory is channels last.
        tags: (B, 527) probabilities, equal to `sigmoid(model.head_audioset(scene))`.
    """

    scene: Tensor
    frames: Tensor
    tags: Tensor


class ConvNeXt(nn.Module):
    """Log-mel front end, ConvNeXt and AudioSet classifier.

    A new model has random weights; `indexer.model.checkpoint.load_checkpoint` makes one that has
    learned something. Weights stay float32: for bfloat16, call it under `torch.autocast`, from
    which the front end, the pooling and the classifier are exempt.

    Args:
        depths: Blocks in each of the four stages.
        dims: Channels in each of the four stages.
        num_classes: Outputs of the classifier.
    """

    window: Tensor
    mel_filterbank: Tensor

    def __init__(
        self,
        depths: Sequence[int] = TINY_DEPTHS,
        dims: Sequence[int] = TINY_DIMS,
        num_classes: int = NUM_TAGS,
    ) -> None:
        super().__init__()
        # The device is named so that a model built under torch.device("meta") has its constants.
        window = torch.hann_window(FFT_SAMPLES, device="cpu")
        self.register_buffer("window", window, persistent=False)
        mel_bands = torch.from_numpy(mel_filterbank()).clone()  # (513, 224), on the host
        self.register_buffer("mel_filterbank", mel_bands, persistent=False)

        self.bn0 = nn.BatchNorm2d(NUM_MELS)
        stem = nn.Sequential(
            nn.Conv2d(1, dims[0], STEM_PATCH, stride=STEM_PATCH, padding=(STEM_TIME_PADDING, 0)),
            _ChannelNorm(dims[0], eps=NORM_EPS),
        )
        between = [
            nn.Sequential(
                _ChannelNorm(dim, eps=NORM_EPS),
                nn.Conv2d(dim, next_dim, STAGE_PATCH, stride=STAGE_PATCH),
            )
            for dim, next_dim in itertools.pairwise(dims)
        ]
        self.downsample_layers = nn.ModuleList([stem, *between])
        self.stages = nn.ModuleList(
            nn.Sequential(*(Block(dim) for _ in range(depth)))
            for depth, dim in zip(depths, dims, strict=True)
        )
        self.norm = nn.LayerNorm(dims[-1], eps=NORM_EPS)
        self.head_audioset = nn.Linear(dims[-1], num_classes)
        self.eval()

    def forward(self, waveforms: Tensor) -> Output:
        """Return scene embeddings, frame maps and tag probabilities.

        Args:
            waveforms: (B, num_samples) float32 in [-1, 1], mono, 32 kHz, of any length.

        Raises:
            ValueError: If waveforms is not 2-D float32, or holds no sample.
        """
        frames = self.forward_features(self.log_mel(waveforms)).float()  # (B, 768, T, 7)
        with torch.autocast(frames.device.type, enabled=False):
            scene = self.pool(frames)
            tags = torch.sigmoid(self.head_audioset(scene))  # (B, 527)
        return Output(scene, frames, tags)

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Return the log-mel spectrogram that the published checkpoints were trained on.

        Always float32: bfloat16 has 3 significant digits, too few for a power spectrum.

        Args:
            waveforms: (B, num_samples) float32 in [-1, 1], mono, 32 kHz. Zeros are appended to less
                than 0.25 s, the shortest input that the last stage has a frame for.

        Returns:
            (B, 1, num_frames, 224) in dB, a frame per 10 ms, the first centred on the first sample.

        Raises:
            ValueError: If waveforms is not 2-D float32, or holds no sample.

        Source: the paper, section 2; numerically torchlibrosa's Spectrogram and LogmelFilterBank.
        """
        if waveforms.ndim != 2 or waveforms.dtype != torch.float32 or waveforms.numel() == 0:
            shape = tuple(waveforms.shape)
            raise ValueError(f"expected (B, num_samples) float32, got {shape} {waveforms.dtype}")
        missing = MIN_INPUT_SAMPLES - waveforms.shape[1]
        if missing > 0:
            waveforms = F.pad(waveforms, (0, missing))
        with torch.autocast(waveforms.device.type, enabled=False):
            spectrum = torch.stft(
                waveforms, FFT_SAMPLES, HOP_SAMPLES, window=self.window, return_complex=True
            )  # (B, 513, num_frames), centred, ends reflected
            power = spectrum.real.square() + spectrum.imag.square()
            mel = power.transpose(1, 2) @ self.mel_filterbank  # (B, num_frames, 224)
            decibel: Tensor = 10 * torch.log10(mel.clamp(min=POWER_FLOOR))
        return decibel.unsqueeze(1)  # (B, 1, num_frames, 224)

    def forward_features(self, log_mel: Tensor) -> Tensor:
        """Return the frame map.

        Args:
            log_mel: (B, 1, num_frames, 224) in dB, at least 24 frames.

        Returns:
            (B, 768, T, 7): per 10 s, time runs 1001 → 252 → 126 → 63 → 31 and frequency
            224 → 56 → 28 → 14 → 7.
        """
        bands = log_mel.transpose(1, 3)  # (B, 224, num_frames, 1): bn0 normalises each band
        x: Tensor = self.bn0(bands).transpose(1, 3)  # (B, 1, num_frames, 224)
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))  # (B, C, T, F), each stage with T and F halved
        return x  # (B, 768, T, 7)

    def pool(self, frames: Tensor) -> Tensor:
        """Return the scene embedding of a frame map, or of any stretch of its frames.

        Args:
            frames: (B, 768, T, 7), T at least 1.

        Returns:
            (B, 768): `self.head_audioset` turns it into logits.
        """
        pooled = frames.mean(dim=3)  # (B, 768, T), averaged over frequency
        scene: Tensor = self.norm(pooled.amax(dim=2) + pooled.mean(dim=2))  # (B, 768)
        return scene


class Block(nn.Module):
    """Depthwise 7 x 7 convolution, then two linear layers across channels, added to the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, KERNEL, padding=KERNEL // 2, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.pwconv1 = nn.Linear(dim, _EXPANSION * dim)
        self.pwconv2 = nn.Linear(_EXPANSION * dim, dim)
        # Training starts from 1e-6, at which a block that was not loaded would pass unnoticed.
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return a (B, C, T, F) map with what the block adds to it."""
        y: Tensor = self.dwconv(x).permute(0, 2, 3, 1)  # (B, T, F, C), a view of the same memory
        y = self.pwconv2(F.gelu(self.pwconv1(self.norm(y))))  # (B, T, F, C)
        return x + (self.gamma * y).permute(0, 3, 1, 2)  # (B, C, T, F)


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, T, F)."""

    def forward(self, x: Tensor) -> Tensor:
        channels_last = x.permute(0, 2, 3, 1)  # (B, T, F, C)
        return super().forward(channels_last).permute(0, 3, 1, 2)  # (B, C, T, F)
