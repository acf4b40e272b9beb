"""The network as one object: sounds of any length go in, and all that it says of them comes out.

    model = load_model("demo")
    scene, frames, tags = model(waveforms)
    model.embed_file("dog.ogg").tags

Sounds are embedded whole, at their own length, in one pass: without windows, and padded only below
0.25 s. A store has windows of 10 s, whose last is padded; with `native` it has the same as this.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from indexer.arrays import Float32
from indexer.audio.content import asked_with
from indexer.audio.stream import as_channel, open_audio
from indexer.audio.times import Time, file_span
from indexer.embedding.extractor import Extractor
from indexer.embedding.tagging import TaggedWindow, listen_to
from indexer.errors import QueryError, SoundalikeError
from indexer.model.checkpoint import Checkpoint, load_checkpoint
from indexer.model.convnext import Output
from indexer.model.known import DEFAULT_CHECKPOINT
from indexer.paths import as_name_or_path, as_path
from indexer.progress import Listen, ignore
from indexer.tags import DEFAULT_THRESHOLD
from indexer.windows import (
    MOST_NATIVE_SAMPLES,
    NATIVE_SAMPLES,
    SAMPLE_RATE_HZ,
    Geometry,
    samples_of,
)

#: What goes through the network at once.
MAX_PASS_SAMPLES = MOST_NATIVE_SAMPLES


#: No sound has so few samples, and no file so many channels.
_MOST_CHANNELS = 32


class Outputs(NamedTuple):
    """What the network says of B sounds, float32; without the first axis where it is of a file.

    Attributes:
        scene: (B, 768) embeddings of the whole, not normalised.
        frames: (B, 768, T, 7): frame i covers [0.32 i - 0.04, 0.32 i + 0.28) s; the 7 are bands of
            frequency, low to high.
        tags: (B, 527) probabilities, in the order of AudioSet.
    """

    scene: Float32
    frames: Float32
    tags: Float32


class Model:
    """A checkpoint on a device. Several threads may call it at the same time.

    Attributes:
        checkpoint: What it computes with.
        device: Where.
        precision: "fp32" or "bf16".
    """

    def __init__(
        self, checkpoint: Checkpoint, *, device: str = "auto", precision: str = "auto"
    ) -> None:
        """Move the network to its device.

        Args:
            checkpoint: From `indexer.model.checkpoint.load_checkpoint`.
            device: See `Extractor`.
            precision: See `Extractor`; "fp32" is what the published network computes.

        Raises:
            SoundalikeError: If the device is not there, or the precision is not known.
        """
        self._extractor = Extractor(checkpoint, device=device, precision=precision)
        self.checkpoint = checkpoint
        self.device, self.precision = self._extractor.device, self._extractor.precision

    @property
    def device_name(self) -> str:
        """Name of the hardware, such as "cpu" or what the GPU calls itself."""
        return self._extractor.device_name

    def __repr__(self) -> str:
        where = f"device={str(self.device)!r}, precision={self.precision!r}"
        return f"Model({self.checkpoint.name!r}, {where})"

    def __call__(self, waveforms: npt.ArrayLike | Tensor) -> Outputs:
        """Embed sounds of one length.

        Args:
            waveforms: (B, num_samples), or (num_samples,) for one sound: floating point in [-1, 1],
                mono, 32 kHz, at most 10 minutes. Zeros are appended to less than 0.25 s.

        Returns:
            Scene, frames and tags of each; B is 1 for one sound.

        Raises:
            QueryError: If the waveforms are something else, or too large for finite embeddings.
            SoundalikeError: If the device has no memory for one sound.
        """
        batch = _as_batch(waveforms)
        passes = [_on_host(output) for output in self._run(batch)]
        outputs = Outputs(*(np.concatenate(arrays) for arrays in zip(*passes, strict=True)))
        if not all(np.isfinite(array).all() for array in outputs):
            raise QueryError(
                f"the embeddings are not finite: samples are of -1 to 1, and these are up to "
                f"{float(batch.abs().max()):g}"
            )
        return outputs

    def embed_file(
        self,
        path: str | os.PathLike[str],
        start_s: float = 0.0,
        duration_s: float | None = None,
        *,
        channel: int | None = None,
    ) -> Outputs:
        """Embed a file, or a span of it, as one sound.

        Args:
            path: Audio, or a video with sound.
            start_s: Where to begin, in seconds.
            duration_s: How much, in seconds; None for the rest of the file.
            channel: Which channel, counted from 1; None for the mean of all, or the louder where
                they cancel.

        Returns:
            Scene (768,), frames (768, T, 7) and tags (527,).

        Raises:
            QueryError: If the file is not there, cannot be read, has no audio at `start_s`, or more
                than 10 minutes of it.
            SoundalikeError: If the device has no memory for it.
        """
        file = as_path("a file", path)
        scene, frames, tags = self(_decode(file, start_s, duration_s, as_channel(channel)))
        return Outputs(scene[0], frames[0], tags[0])

    def tag(  # noqa: PLR0913 - as the command, whose options these are
        self,
        path: str | os.PathLike[str],
        *,
        threshold: float = DEFAULT_THRESHOLD,
        top: int | None = None,
        start: Time | None = None,
        end: Time | None = None,
        duration: Time | None = None,
        channel: int | None = None,
        native: bool = False,
        native_max_s: float = NATIVE_SAMPLES / SAMPLE_RATE_HZ,
        listen: Listen = ignore,
    ) -> list[TaggedWindow]:
        """Say what is heard in a file of any length, in windows of 10 s or as a whole.

        Args:
            path: Audio, or a part of it: "hour.wav@31:10-31:13".
            threshold: Probability from which on a tag is heard.
            top: At most this many tags for a window; None for all.
            start: Where to begin: seconds, or as in "31:10"; and so the others.
            end: Where to end; None for the end of the file.
            duration: How much to hear, instead of an end.
            channel: Which channel, counted from 1; None for the mean of all.
            native: Take the whole as one window of its own length, as published features are made.
            native_max_s: Longest that is taken so, in seconds; what is longer is in windows.
            listen: Hears how many windows are done.

        Raises:
            QueryError: If the file cannot be read, an embedding is not finite, or a number is none
                that can be.
        """
        asked = file_span(as_path("a file", path), (start, end, duration))
        most_s = MOST_NATIVE_SAMPLES / SAMPLE_RATE_HZ
        if not isinstance(native_max_s, Real) or not 0 < native_max_s <= most_s:
            raise QueryError(f"native_max_s is from 0 to {most_s:g}, got {native_max_s!r}")
        longest = max(round(native_max_s * SAMPLE_RATE_HZ), 1)
        geometry = Geometry(native=native, native_samples=longest)
        return listen_to(asked, self._extractor, threshold, top, geometry, channel, listen)

    def _run(self, batch: Tensor) -> Iterator[Output]:
        """Run the network on as many sounds at once as one pass may hold."""
        num_sounds = max(MAX_PASS_SAMPLES // batch.shape[1], 1)
        for first in range(0, len(batch), num_sounds):
            some = batch[first : first + num_sounds]
            try:
                yield self._extractor.run_network(some)
            except torch.OutOfMemoryError as error:
                seconds = some.numel() / SAMPLE_RATE_HZ
                raise SoundalikeError(
                    f"{self._extractor.device_name} has no memory left for {seconds:g} s of audio; "
                    f"close what else uses it, or embed on the CPU",
                    about="device",
                    value="cpu",
                ) from error


def load_model(
    checkpoint: str | Path | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
    listen: Listen = ignore,
) -> Model:
    """Load a network, to call it on waveforms and files.

    Args:
        checkpoint: One of the known names, or a file, see `load_checkpoint`; None for the default,
            "convnext-tiny-471".
        device: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N".
        precision: "auto" (bf16 on a GPU; on a CPU fp32, unless a short measurement finds bf16 much
            faster), "fp32", which is what the published network computes, or "bf16".
        listen: Hears how far the checkpoint is downloaded, if it has to be.

    Raises:
        CheckpointError: If it is not there, or not what it should be.
        SoundalikeError: If the device is not there, or the precision is not known.
    """
    name = DEFAULT_CHECKPOINT if checkpoint is None else as_name_or_path("a checkpoint", checkpoint)
    loaded = load_checkpoint(name, listen=listen)
    return Model(loaded, device=device, precision=precision)


def _as_batch(waveforms: npt.ArrayLike | Tensor) -> Tensor:
    """Return (B, num_samples) float32 for what a user gives.

    Raises:
        QueryError: If it is something else.
    """
    if isinstance(waveforms, (str, os.PathLike)):
        raise QueryError(f"waveforms are arrays, and a file is for embed_file, got {waveforms!r}")
    given = waveforms.detach() if isinstance(waveforms, Tensor) else _as_tensor(waveforms)
    if not given.is_floating_point():
        kind = str(given.dtype).removeprefix("torch.")
        raise QueryError(
            f"waveforms are floating point, from -1 to 1, got {kind}; 16-bit samples are divided "
            f"by 32768"
        )
    if given.ndim not in (1, 2) or given.numel() == 0:
        raise QueryError(
            f"waveforms are (num_sounds, num_samples) or (num_samples,), got {tuple(given.shape)}"
        )
    if given.ndim == 2 and given.shape[1] <= _MOST_CHANNELS < given.shape[0]:
        raise QueryError(
            f"waveforms are (num_sounds, num_samples), mono: {tuple(given.shape)} looks like "
            f"samples of several channels; take the mean over these"
        )
    batch = given.float().reshape(-1, given.shape[-1])
    if not batch.isfinite().all():
        raise QueryError("waveforms hold NaN or infinity; replace these samples, with 0 for one")
    if batch.shape[1] > MAX_PASS_SAMPLES:
        raise QueryError(_too_long(f"{batch.shape[1] / SAMPLE_RATE_HZ:g} s"))
    return batch


def _as_tensor(waveforms: npt.ArrayLike) -> Tensor:
    try:
        return torch.from_numpy(np.array(waveforms, order="C"))  # a copy: it may be read-only
    except (TypeError, ValueError) as error:
        raise QueryError(f"waveforms are arrays of numbers: {error}") from error


def _on_host(output: Output) -> Outputs:
    return Outputs(*(one.float().cpu().contiguous().numpy() for one in output))


def _decode(path: Path, start_s: float, duration_s: float | None, channel: int | None) -> Float32:
    """Return (num_samples,) of a file, mono at 32 kHz.

    Raises:
        QueryError: If there are none, or more than go through the network at once.
    """
    start, wanted = samples_of(start_s, duration_s)
    most = MAX_PASS_SAMPLES + 1  # no more is decoded than it takes to see that it is too long
    num_samples = most if wanted is None else min(wanted, most)
    with (
        asked_with(path),
        open_audio(path, start_sample=start, num_samples=num_samples, channel=channel) as audio,
    ):
        blocks = list(audio.blocks())
    if audio.louder is not None:
        return _decode(path, start_s, duration_s, audio.louder)
    if not blocks:
        why = audio.absence()
        raise QueryError(f"{path} has no audio at {start_s:g} s; {why}", about="start_s")
    samples = np.concatenate(blocks)
    if len(samples) > MAX_PASS_SAMPLES:
        raise QueryError(f"{path}: {_too_long('the audio')}")
    return samples


def _too_long(what: str) -> str:
    return (
        f"{what} is too long for one pass, which takes {MAX_PASS_SAMPLES / SAMPLE_RATE_HZ:g} s at "
        f"most; take a span of it, or index it, in windows"
    )
