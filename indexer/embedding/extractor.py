"""Waveforms → embeddings: one model, on one device, at one precision."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from indexer.arrays import Mask
from indexer.audio.deferred import DeferredResampler, SourceWindows
from indexer.embedding.devices import choose_device, other_gpus
from indexer.embedding.identity import identify
from indexer.embedding.levelling import CutWindows, levelled, peaks_of
from indexer.embedding.stopwatch import Stopwatch
from indexer.errors import AudioError, SoundalikeError, SoundalikeWarning
from indexer.model.checkpoint import Checkpoint
from indexer.model.convnext import Output
from indexer.model.inference import InferenceNetwork, PlainMlp
from indexer.model.tuning import Arithmetic, quickest
from indexer.store.head import Head
from indexer.store.schema import FramesMode, Identity
from indexer.windows import Cut, Decibels, Geometry, Level, decibels

Precision = Literal["fp32", "bf16"]
_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
#: At 32 kHz, all of it audio or with their lengths; or at the rate of their files, to be resampled.
Windows = Tensor | CutWindows | SourceWindows


class Embeddings(NamedTuple):
    """What the network says of B windows, on the host.

    Attributes:
        scene: (B, 768) float32, not normalised.
        frames: (B, T, 768) float16 averaged over frequency ("pooled"), (B, T, 7, 768) float16
            ("full"), or None.
        tags: (B, 527) float32 probabilities.
        level_db: (B,) float32, the highest peak of each as it came, in dBFS; -inf of digital
            silence.
    """

    scene: npt.NDArray[np.float32]
    frames: npt.NDArray[np.float16] | None
    tags: npt.NDArray[np.float32]
    level_db: Decibels

    @property
    def are_finite(self) -> Mask:
        """(B,): which windows have nothing but finite numbers."""
        arrays = [array for array in self[:3] if array is not None]
        finite: Mask = np.all(
            [np.isfinite(array.reshape(len(array), -1)).all(1) for array in arrays], axis=0
        )
        return finite

    def take(self, which: Mask) -> Embeddings:
        """Return those of some windows."""
        frames = None if self.frames is None else self.frames[which]
        return Embeddings(self.scene[which], frames, self.tags[which], self.level_db[which])

    def require_finite(self, peak: float) -> None:
        """Raise unless they are.

        Args:
            peak: `AudioStream.peak` of what was embedded.

        Raises:
            AudioError: With stage "embed".
        """
        if not self.are_finite.all():
            raise AudioError("embed", why_not_finite(peak))


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
        device: Where; a GPU always with its number.
        precision: "fp32" or "bf16"; the log-mel front end and the classifier are always fp32.
        frames: Which frame embeddings it returns.
        level: What it does to the loudness of windows first.
        most_windows: How many windows are embedded at once, at most. It starts without a limit, and
            falls to half a batch whenever the device has no memory for one.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        precision: str = "auto",
        frames: FramesMode = "pooled",
        level: Level = "off",
    ) -> None:
        """Move the model to its device.

        Args:
            checkpoint: From `indexer.model.checkpoint.load_checkpoint`.
            device: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N", see `choose_device`.
                With "auto" and "cuda" this one is on the first GPU, and `on_all_gpus` gives the
                others.
            precision: "auto" (bf16 on a GPU; on a CPU fp32, unless a short measurement finds bf16
                much faster), "fp32" or "bf16".
            frames: "pooled", "full" or "none".
            level: "off", or "rms" to bring each window to one loudness.

        Raises:
            SoundalikeError: If the device cannot be used, or the precision is not known.

        Warns:
            SoundalikeWarning: If with "auto" a GPU is there and cannot be used.
        """
        self.checkpoint = checkpoint
        self.device = choose_device(device)
        arithmetic = _arithmetic(precision, self.device)
        self.precision: Precision = "fp32" if arithmetic.dtype is torch.float32 else "bf16"
        self.frames: FramesMode = frames
        self.level: Level = level
        self.most_windows = sys.maxsize
        is_gpu = self.device.type == "cuda"
        self._pins = is_gpu  # while the system gives page-locked memory
        self._resamplers: dict[int, DeferredResampler] = {}
        self._takes_any_gpu = device in {"auto", "cuda"}
        # What is moved is a copy, for other devices will be given the same checkpoint.
        self._model = (
            copy.deepcopy(checkpoint.model).to(self.device) if is_gpu else checkpoint.model
        )
        self._network = InferenceNetwork(self._model, *arithmetic)
        if is_gpu:
            # Convolutions would round fp32 to TF32, whatever the precision asked for. For the whole
            # process: lanes that switched it for a moment would switch it for each other.
            torch.backends.cudnn.allow_tf32 = False
            torch.cuda.synchronize(self.device)  # other streams do not wait for what was prepared

    def __call__(self, windows: Windows) -> Embeddings:
        """Embed windows of one length.

        Args:
            windows: (B, num_samples) float32, mono, 32 kHz, on the host; or with their lengths.

        Returns:
            Scene, frames and tags of each, from one forward pass.
        """
        return self.embed_and_time(windows).embeddings

    def embed_cut(self, cut: Cut, gain: float = 1.0) -> Embeddings:
        """Embed a window as it was cut, all of it multiplied with a gain."""
        waveform = torch.from_numpy(gain * cut.waveform)[None]
        return self(CutWindows(waveform, torch.tensor([cut.num_samples])))

    def run_network(self, waveforms: Tensor) -> Output:
        """Return what the network gives, on the device, at its precision, unchanged.

        Args:
            waveforms: (B, num_samples) float32, mono, 32 kHz.
        """
        return self._network(waveforms.to(self.device))

    def embed_and_time(self, windows: Windows) -> Timed:
        """Do the same, and say how long it took.

        A batch that the device has no memory for is halved, and so are those that come later.

        Args:
            windows: As when called; or at the rate of their files, to be resampled on the device.

        Raises:
            SoundalikeError: If there is no memory for a single window.
        """
        while True:
            size = max(min(self.most_windows, len(windows)), 1)
            try:
                return _join([self._embed(some) for some in windows.split(size)])
            except torch.OutOfMemoryError as error:
                if size == 1:
                    raise SoundalikeError(
                        f"{self.device_name} has no memory left for a single window; close what "
                        f"else uses it, or embed on the CPU",
                        about="device",
                        value="cpu",
                    ) from error
                self.most_windows = min(self.most_windows, size // 2)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()  # blocks of the old sizes are of no use

    def _embed(self, windows: Windows) -> Timed:
        watch = Stopwatch(self.device)
        moved = self._pin(windows).to(self.device, non_blocking=True)
        watch.lap()
        with torch.inference_mode():
            waveforms = self._waveforms(moved)
            peaks = peaks_of(waveforms)
            if self.level == "rms":
                waveforms = levelled(waveforms, _lengths(moved), peaks)
            output = self._network(waveforms)
            frames = self._frames(output.frames)
        watch.lap()
        scene, tags = self._to_host(output.scene), self._to_host(output.tags)
        levels = self._to_host(peaks)
        on_host = None if frames is None else self._to_host(frames)
        watch.lap()
        seconds = watch.seconds()  # before it, nothing need have arrived
        embeddings = Embeddings(
            scene.numpy(),
            None if on_host is None else on_host.numpy(),
            tags.numpy(),
            decibels(levels.numpy()),
        )
        return Timed(embeddings, *seconds)

    def _pin(self, windows: Windows) -> Windows:
        """Return windows in page-locked memory, from which a GPU takes them by itself."""
        if self._pins:
            try:
                return windows.pin_memory()
            except RuntimeError as error:
                self._go_on_unpinned(error)
        return windows

    def _to_host(self, tensor: Tensor) -> Tensor:
        """Begin to copy a result to the host, where it has to be waited for."""
        if self._pins:
            try:  # what is freed is kept, and used again
                host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            except RuntimeError as error:
                self._go_on_unpinned(error)
            else:
                return host.copy_(tensor, non_blocking=True)
        return tensor.cpu()

    def _go_on_unpinned(self, error: RuntimeError) -> None:
        if self._pins:
            self._pins = False
            reason = str(error).partition("\n")[0].rstrip(".")
            warnings.warn(
                SoundalikeWarning(
                    f"the system gives no page-locked memory ({reason}); copies to and from "
                    f"{self.device_name} go on without it, and take longer"
                ),
                stacklevel=2,
            )

    def _waveforms(self, windows: Windows) -> Tensor:
        """Return (B, num_samples) at 32 kHz, padded."""
        if isinstance(windows, CutWindows):
            return windows.waveforms
        return self._resample(windows) if isinstance(windows, SourceWindows) else windows

    def _resample(self, windows: SourceWindows) -> Tensor:
        rate_hz = windows.source_rate_hz
        if rate_hz not in self._resamplers:
            self._resamplers[rate_hz] = DeferredResampler(rate_hz, self.device)
        return self._resamplers[rate_hz](windows)

    def on_all_gpus(self) -> list[Extractor]:
        """Return this extractor, and one like it for each other GPU, unless one was asked for."""
        if self.device.type == "cpu" or not self._takes_any_gpu:
            return [self]
        others = other_gpus(than=self.device.index)
        return [self, *(self._like_this(f"cuda:{number}") for number in others)]

    def _like_this(self, device: str) -> Extractor:
        return Extractor(
            self.checkpoint,
            device=device,
            precision=self.precision,
            frames=self.frames,
            level=self.level,
        )

    def _frames(self, frame_map: Tensor) -> Tensor | None:
        """Bring a (B, 768, T, 7) map into the stored layout, time first and channels last."""
        if self.frames == "none":
            return None
        if self.frames == "pooled":
            return frame_map.float().mean(3).transpose(1, 2).half().contiguous()  # (B, T, 768)
        return frame_map.permute(0, 2, 3, 1).half().contiguous()  # (B, T, 7, 768)

    def identity(self, geometry: Geometry, channel: int | None = None) -> Identity:
        """Return what a store of these embeddings is: everything that shapes the numbers."""
        return identify(self.checkpoint.digest, self.frames, geometry, channel, self.level)

    def head(self) -> Head:
        """Return the classifier and the final LayerNorm, for the store to keep."""
        state = self._model.state_dict()
        names = ("head_audioset.weight", "head_audioset.bias", "norm.weight", "norm.bias")
        return Head(*(_array(state[name]) for name in names))

    @property
    def resamples(self) -> bool:
        """Whether readers had better leave resampling to this device: to a GPU, they had."""
        return self.device.type == "cuda"

    @property
    def device_name(self) -> str:
        """Name of the hardware, such as "cpu" or what the GPU calls itself."""
        is_gpu = self.device.type == "cuda"
        return torch.cuda.get_device_name(self.device) if is_gpu else self.device.type


def why_not_finite(peak: float) -> str:
    """Return why embeddings are not finite, by the peak of the audio; 0 if it is within bounds."""
    cause = (
        f"its samples reach {peak:,.5g}, and full scale is 1"
        if peak
        else "the checkpoint is broken"
    )
    return f"an embedding is not finite: {cause}"


def _lengths(windows: Windows) -> Tensor:
    """Return (B,) how many samples of each are audio, at 32 kHz."""
    if isinstance(windows, Tensor):
        return torch.full((len(windows),), windows.shape[1], device=windows.device)
    return windows.lengths


def _join(pieces: Sequence[Timed]) -> Timed:
    """Return as one what was embedded in pieces."""
    if len(pieces) == 1:
        return pieces[0]
    scene, frames, tags, levels = zip(*(piece.embeddings for piece in pieces), strict=True)
    embeddings = Embeddings(
        np.concatenate(scene),
        None if frames[0] is None else np.concatenate(frames),
        np.concatenate(tags),
        np.concatenate(levels),
    )
    return Timed(embeddings, *np.sum([piece[1:] for piece in pieces], axis=0).tolist())


def _arithmetic(asked: str, device: torch.device) -> Arithmetic:
    if asked not in {"auto", *_DTYPES}:
        raise SoundalikeError(f"unknown precision {asked!r}; use auto, fp32 or bf16")
    if device.type == "cuda":
        return Arithmetic(_DTYPES["bf16" if asked == "auto" else asked], PlainMlp)
    return quickest(*(_DTYPES.values() if asked == "auto" else [_DTYPES[asked]]))


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    return tensor.detach().float().cpu().numpy()
