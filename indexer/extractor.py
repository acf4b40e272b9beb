"""Waveforms → embeddings: one model, on one device, at one precision."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from indexer.audio.resample import RESAMPLER
from indexer.errors import SoundalikeError
from indexer.model.checkpoint import Checkpoint
from indexer.model.convnext import FRONT_END
from indexer.model.inference import InferenceNetwork, PlainMlp
from indexer.model.tuning import Arithmetic, quickest
from indexer.store.reader import Head
from indexer.store.schema import FramesMode, Identity
from indexer.windows import Geometry

Precision = Literal["fp32", "bf16"]
_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Embeddings(NamedTuple):
    """What the network says of B windows, on the host.

    Attributes:
        scene: (B, 768) float32, not normalised.
        frames: (B, T, 768) float16 averaged over frequency ("pooled"), (B, T, 7, 768) float16
            ("full"), or None.
        tags: (B, 527) float32 probabilities.
    """

    scene: npt.NDArray[np.float32]
    frames: npt.NDArray[np.float16] | None
    tags: npt.NDArray[np.float32]


class Timed(NamedTuple):
    """Embeddings, and how long each step to them took, in seconds."""

    embeddings: Embeddings
    to_device_s: float
    network_s: float
    to_host_s: float


class Extractor:
    """Turns waveforms into embeddings. Several threads may call it at the same time.

    Attributes:
        checkpoint: What it computes with.
        device: Where.
        precision: "fp32" or "bf16"; the log-mel front end and the classifier are always fp32.
        frames: Which frame embeddings it returns.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        precision: str = "auto",
        frames: FramesMode = "pooled",
    ) -> None:
        """Move the model to its device.

        Args:
            checkpoint: From `indexer.model.checkpoint.load_checkpoint`.
            device: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N".
            precision: "auto" (bf16 on a GPU; on a CPU fp32, unless a short measurement finds bf16
                much faster), "fp32" or "bf16".
            frames: "pooled", "full" or "none".

        Raises:
            SoundalikeError: If the device is not there, or the precision is not known.
        """
        self.checkpoint = checkpoint
        self.device = _device(device)
        arithmetic = _arithmetic(precision, self.device)
        self.precision: Precision = "fp32" if arithmetic.dtype is torch.float32 else "bf16"
        self.frames: FramesMode = frames
        self._model = checkpoint.model.to(self.device)
        self._network = InferenceNetwork(self._model, *arithmetic)

    def __call__(self, waveforms: Tensor) -> Embeddings:
        """Embed windows of one length.

        Args:
            waveforms: (B, num_samples) float32, mono, 32 kHz, on the host (pinned is faster).

        Returns:
            Scene, frames and tags of each, from one forward pass.
        """
        return self.timed(waveforms).embeddings

    def timed(self, waveforms: Tensor) -> Timed:
        """Do the same, and say how long it took."""
        clock = time.perf_counter()
        moved = waveforms.to(self.device, non_blocking=True)
        on_device = self._clock()
        # On a GPU, convolutions would round fp32 to TF32, whatever the precision asked for.
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with torch.inference_mode(), exact:
            output = self._network(moved)
            frames = self._frames(output.frames)
        computed = self._clock()
        embeddings = Embeddings(
            output.scene.cpu().numpy(),
            None if frames is None else frames.cpu().numpy(),
            output.tags.cpu().numpy(),
        )
        return Timed(
            embeddings, on_device - clock, computed - on_device, time.perf_counter() - computed
        )

    def _clock(self) -> float:
        """Return the time once everything asked of the device is done."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        return time.perf_counter()

    def _frames(self, frame_map: Tensor) -> Tensor | None:
        """Bring a (B, 768, T, 7) map into the stored layout, time first and channels last."""
        if self.frames == "none":
            return None
        if self.frames == "pooled":
            return frame_map.float().mean(3).transpose(1, 2).half().contiguous()  # (B, T, 768)
        return frame_map.permute(0, 2, 3, 1).half().contiguous()  # (B, T, 7, 768)

    def identity(self, geometry: Geometry) -> Identity:
        """Return what a store of these embeddings is: everything that shapes the numbers."""
        return Identity(
            weights=self.checkpoint.digest,
            front_end=FRONT_END,
            resampler=RESAMPLER,
            frames=self.frames,
            hop_samples=geometry.hop_samples,
            native=geometry.native,
            window_samples=geometry.window_samples,
        )

    def head(self) -> Head:
        """Return the classifier and the final LayerNorm, for the store to keep."""
        state = self._model.state_dict()
        names = ("head_audioset.weight", "head_audioset.bias", "norm.weight", "norm.bias")
        return Head(*(_array(state[name]) for name in names))

    @property
    def device_name(self) -> str:
        """Name of the hardware, such as "cpu" or what the GPU calls itself."""
        is_gpu = self.device.type == "cuda"
        return torch.cuda.get_device_name(self.device) if is_gpu else self.device.type


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that shape the numbers."""
    names = ("soundalike", "torch", "torchaudio", "torchlibrosa", "av", "soundfile", "pyarrow")
    return {name: version(name) for name in names}


def _device(asked: str) -> torch.device:
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        raise SoundalikeError(f"unknown device {asked!r}; use auto, cpu, cuda or cuda:N") from error
    if device.type not in {"cpu", "cuda"}:
        raise SoundalikeError(f"unknown device {asked!r}; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SoundalikeError(
            f"no device {asked!r}: PyTorch sees {torch.cuda.device_count()} GPUs; "
            f"use --device cpu, or check the driver"
        )
    return device


def _arithmetic(asked: str, device: torch.device) -> Arithmetic:
    if asked not in {"auto", *_DTYPES}:
        raise SoundalikeError(f"unknown precision {asked!r}; use auto, fp32 or bf16")
    if device.type == "cuda":
        return Arithmetic(_DTYPES["bf16" if asked == "auto" else asked], PlainMlp)
    return quickest(*(_DTYPES.values() if asked == "auto" else [_DTYPES[asked]]))


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    return tensor.detach().float().cpu().numpy()
