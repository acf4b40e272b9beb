"""A clip as it may come back: quieter, in noise, compressed, cut, moved, at another speed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from indexer.arrays import Float32
from indexer.windows import SAMPLE_RATE_HZ

#: By how much less the quieter copy is, and the noise than the clip, in dB.
QUIETER_DB = 20
NOISE_DB = 20
#: How long the cuts are, in seconds.
CUTS_S = (1, 3)
#: By which share the copies are faster and slower.
SPEED = 0.05
#: With a constant bitrate libsndfile takes MP3 to be from 320 down to 32 kbit/s: this is 64.
_MP3_LEVEL = (320 - 64) / (320 - 32)


class Copy(NamedTuple):
    """A changed clip.

    Attributes:
        samples: (n,) float32, mono.
        rate_hz: At which they are to be played.
        is_mp3: Whether they are compressed when they are written.
    """

    samples: Float32
    rate_hz: int = SAMPLE_RATE_HZ
    is_mp3: bool = False

    def write(self, stem: Path) -> Path:
        """Write it to a file, and return which: float32 in WAV, or MP3."""
        if self.is_mp3:
            path = stem.with_name(f"{stem.name}.mp3")
            how = {"bitrate_mode": "CONSTANT", "compression_level": _MP3_LEVEL}
            soundfile.write(path, self.samples, self.rate_hz, subtype="MPEG_LAYER_III", **how)
        else:
            path = stem.with_name(f"{stem.name}.wav")
            soundfile.write(path, self.samples, self.rate_hz, subtype="FLOAT")
        return path


def changed_copies(
    samples: Float32, random: np.random.Generator
) -> Iterator[tuple[str, Copy | None]]:
    """Yield the name of each change, and what it makes of a clip.

    Args:
        samples: (n,) float32 at 32 kHz.
        random: Draws the noise.

    Yields:
        None where there is no such copy: of silence none in noise, of a clip none that is cut to
        its own length or more.
    """
    for name, change in _CHANGES.items():
        yield name, change(samples, random)


def writes_mp3() -> bool:
    """Whether the libsndfile of this machine can."""
    return "MP3" in soundfile.available_formats()


def _as_it_is(samples: Float32, _: np.random.Generator) -> Copy:
    return Copy(samples)


def _quieter(samples: Float32, _: np.random.Generator) -> Copy:
    return Copy(samples * np.float32(10 ** (-QUIETER_DB / 20)))


def _in_noise(samples: Float32, random: np.random.Generator) -> Copy | None:
    """White noise, of exactly the power that is wanted."""
    power = np.square(samples, dtype=np.float64).mean()
    if not power:
        return None
    noise = random.normal(size=len(samples))
    noise *= np.sqrt(power / np.square(noise).mean() / 10 ** (NOISE_DB / 10))
    return Copy((samples + noise).astype(np.float32))


def _as_mp3(samples: Float32, _: np.random.Generator) -> Copy | None:
    return Copy(samples, is_mp3=True) if writes_mp3() else None


def _cut(seconds: float) -> Callable[[Float32, np.random.Generator], Copy | None]:
    length = round(seconds * SAMPLE_RATE_HZ)

    def loudest(samples: Float32, _: np.random.Generator) -> Copy | None:
        if len(samples) <= length:
            return None
        energy = np.append(0, np.cumsum(np.square(samples, dtype=np.float64)))
        start = int(np.argmax(energy[length:] - energy[:-length]))
        return Copy(samples[start : start + length])

    return loudest


def _moved(samples: Float32, _: np.random.Generator) -> Copy:
    """The second half first: what fills a window is moved by half a window."""
    return Copy(np.roll(samples, len(samples) // 2))


def _played(speed: float) -> Callable[[Float32, np.random.Generator], Copy]:
    """Higher as well: the same samples, said to be of another rate."""
    rate_hz = round(SAMPLE_RATE_HZ * speed)
    return lambda samples, _: Copy(samples, rate_hz)


_CHANGES: dict[str, Callable[[Float32, np.random.Generator], Copy | None]] = {
    "as it is": _as_it_is,
    f"{QUIETER_DB} dB quieter": _quieter,
    f"noise {NOISE_DB} dB below it": _in_noise,
    "MP3, 64 kbit/s": _as_mp3,
    **{f"{seconds} s of it": _cut(seconds) for seconds in CUTS_S},
    "moved by half a window": _moved,
    f"{SPEED:.0%} faster": _played(1 + SPEED),
    f"{SPEED:.0%} slower": _played(1 - SPEED),
}
CHANGES = tuple(_CHANGES)
