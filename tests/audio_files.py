"""Makers of audio files with known samples in every container, and what reads them for tests."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
import torchaudio

from indexer.audio.stream import MAX_DURATION_S, open_audio
from indexer.errors import AudioError
from indexer.windows import SAMPLE_RATE_HZ, Samples

#: For a duration: more than any file has, in seconds.
FOREVER_S = 1e6
#: For FFmpeg's AAC encoder: without noise substitution, which is random by definition.
AAC = {"aac_pns": "0"}
#: (num_samples, channels) float32.
Interleaved = npt.NDArray[np.float32]
#: Writes a file where it is told, and returns the path.
Make = Callable[[Path], Path]


def noise(num_samples: int, channels: int = 1, seed: int = 0, clicks: bool = False) -> Interleaved:
    """Noise below a third of the rate, different in each channel; codecs keep most of it.

    Clicks make codecs change their block size.
    """
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal((num_samples, channels)), axis=0)
    spectrum[max(len(spectrum) // 3, 1) :] = 0
    samples = 0.1 * np.fft.irfft(spectrum, num_samples, axis=0)
    if clicks:
        samples *= 0.01
        samples[4000::9001] += 0.5
    return samples.astype(np.float32)


def write(
    path: Path, samples: Interleaved, rate: int, subtype: str | None = None, kind: str | None = None
) -> Path:
    """Write with libsndfile, in blocks: its Vorbis encoder cannot take minutes at once."""
    channels = samples.shape[1]
    with soundfile.SoundFile(path, "w", rate, channels, subtype, format=kind) as file:
        for start in range(0, len(samples), 4096):
            file.write(samples[start : start + 4096])
    return path


def encode(
    path: Path,
    samples: Interleaved,
    rate: int,
    codec: str,
    *,
    container: str | None = None,
    layout: str | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    bit_rate: int | None = None,
    video: bool = False,
    gap: tuple[float, float] | None = None,
) -> Path:
    """Write with FFmpeg.

    Args:
        path: Its suffix chooses the container, unless `container` does.
        samples: What to encode.
        rate: In Hz.
        codec: FFmpeg's name of the encoder.
        container: FFmpeg's name of the container.
        layout: FFmpeg's name of the channel layout.
        options: Of the encoder.
        container_options: Of the container.
        bit_rate: In bits per second.
        video: Add a track of black pictures.
        gap: All packets from the first of these times on are stamped later by the second, in s.
    """
    layout = layout or {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}[samples.shape[1]]
    with av.open(str(path), "w", format=container, options=container_options or {}) as file:
        picture = file.add_stream("mpeg4", rate=10) if video else None
        if isinstance(picture, av.VideoStream):
            picture.width = picture.height = 32
            picture.pix_fmt = "yuv420p"
        stream = file.add_stream(codec, rate=rate, options=options or {})
        assert isinstance(stream, av.AudioStream)
        stream.layout = layout
        if bit_rate:
            stream.bit_rate = bit_rate
        if isinstance(picture, av.VideoStream):
            for _ in range(5):
                file.mux(picture.encode(av.VideoFrame(32, 32, "yuv420p")))
            file.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout=layout)
        frame.rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        frame_size = stream.codec_context.frame_size or (1024 if codec.startswith("pcm") else None)
        resampler = av.AudioResampler(stream.format, layout, rate, frame_size)
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            for packet in stream.encode(piece):
                pts, time_base = packet.pts or 0, packet.time_base
                if gap and pts * time_base >= gap[0]:
                    packet.pts = packet.dts = pts + round(gap[1] / time_base)
                file.mux(packet)
    return path


def lag(heard: npt.NDArray[np.floating], original: npt.NDArray[np.floating]) -> int:
    """Return where the original begins in what was heard, by cross-correlation, in samples."""
    size = 2 ** int(np.ceil(np.log2(len(heard) + len(original))))
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(original, size))
    best = int(np.argmax(np.fft.irfft(spectrum, size)))
    return best - size if best > size // 2 else best


def snr_db(heard: npt.NDArray[np.floating], original: npt.NDArray[np.floating]) -> float:
    """Return the signal-to-noise ratio over the samples that both have."""
    length = min(len(heard), len(original))
    error = heard[:length] - original[:length]
    return float(10 * np.log10(np.sum(original[:length] ** 2) / max(np.sum(error**2), 1e-20)))


def append(path: Path, *parts: Make) -> Path:
    """Several files' bytes, one after the other."""
    made = [part(path.with_name(f"part{i}{path.suffix}")) for i, part in enumerate(parts)]
    path.write_bytes(b"".join(part.read_bytes() for part in made))
    return path


def whole(path: Path) -> tuple[Samples, tuple[str, ...]]:
    """Everything at 32 kHz, and the warnings."""
    with open_audio(path) as audio:
        samples = np.concatenate([np.zeros(0, np.float32), *audio.blocks()])
    assert audio.num_samples == len(samples)
    return samples, audio.warnings


def span(path: Path, start: int, num_samples: int) -> Samples:
    with open_audio(path, start_sample=start, num_samples=num_samples) as audio:
        return np.concatenate([np.zeros(0, np.float32), *audio.blocks()])


def error(
    path: Path, start_sample: int = 0, max_duration_s: float = MAX_DURATION_S
) -> tuple[str, str]:
    """Stage and reason of the error that reading a file ends in."""
    with (
        pytest.raises(AudioError) as caught,
        open_audio(path, start_sample=start_sample, max_duration_s=max_duration_s) as audio,
    ):
        for _ in audio.blocks():
            pass
    return caught.value.stage, caught.value.reason


def at_32_khz(samples: Interleaved, rate: int) -> Samples:
    """What a recording becomes, by other means."""
    mono = torch.from_numpy(samples.mean(axis=1, dtype=np.float64).astype(np.float32))
    resampled = torchaudio.functional.resample(mono, rate, SAMPLE_RATE_HZ)
    return np.asarray(resampled.numpy())
