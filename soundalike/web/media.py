"""Decoded spans and pictures of them, kept for a while as files that a browser can seek in."""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from indexer.arrays import Float32
from indexer.audio.content import state_of
from indexer.errors import AudioError
from indexer.reading.apart import Apart
from soundalike.show.spectrogram import spectrogram_png
from soundalike.web.gate import Gate

#: A file that was asked for so short a time ago may just be on its way out, in seconds.
_STILL_READ_S = 60.0
#: What is written to a sound file at once: libsndfile does not like minutes of it.
_BLOCK_SAMPLES = 1 << 16


class Span(NamedTuple):
    """A part of a file, in seconds."""

    path: Path
    start_s: float
    duration_s: float


class Media:
    """Makes WAV files and pictures of spans, and keeps the newest; threads share it."""

    def __init__(self, folder: Path, apart: Apart, decoding: Gate, most_bytes: int) -> None:
        """Keep files in a folder of one's own, of which nothing else is deleted."""
        self._folder, self._apart, self._most_bytes = folder, apart, most_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[Path, tuple[int, float]] = OrderedDict()  # bytes, last asked for
        self._decoding = decoding

    def wav(self, span: Span) -> Path:
        """Return a WAV file of 16 bits of a span, at its own rate and with its own channels.

        Raises:
            AudioError: If it cannot be decoded, or there is nothing.
            BusyError: If too many wait.
        """

        def make() -> bytes:
            samples, rate_hz = self.read(span)
            file = io.BytesIO()
            with soundfile.SoundFile(
                file, "w", rate_hz, samples.shape[1], "PCM_16", format="WAV"
            ) as out:
                for first in range(0, len(samples), _BLOCK_SAMPLES):
                    out.write(samples[first : first + _BLOCK_SAMPLES])
            return file.getvalue()

        return self._make(("wav", *span, *state_at(span.path)), ".wav", make)

    def spectrogram(self, span: Span, size: tuple[int, int]) -> Path:
        """Return a picture of a span, as PNG of so many pixels.

        Raises:
            AudioError: If it cannot be decoded, or there is nothing.
            BusyError: If too many wait.
        """

        def make() -> bytes:
            samples, rate_hz = self.read(span)
            return spectrogram_png(samples.mean(1), rate_hz, size=size)

        return self._make(("png", size, *span, *state_at(span.path)), ".png", make)

    def peaks(self, span: Span, number: int) -> tuple[Float32, float]:
        """Return (n, 2) float32 least and greatest samples of equal parts, and how long all is.

        Raises:
            AudioError: If it cannot be decoded, or there is nothing.
            BusyError: If too many wait.
        """
        with self._decoding.passing():
            samples, rate_hz = self.read(span)
        mono = samples.mean(1)
        starts = np.unique(np.linspace(0, len(mono), number, endpoint=False).astype(int))
        least, greatest = (one.reduceat(mono, starts) for one in (np.minimum, np.maximum))
        return np.stack([least, greatest], axis=1), len(mono) / rate_hz

    def read_at(self, path: Path, start_s: float, duration_s: float) -> tuple[Float32, int]:
        """Decode a span as `indexer.audio.stream.read_span` does, in another process.

        Raises:
            AudioError: If it cannot be decoded.
            BusyError: If too many wait.
        """
        with self._decoding.passing():
            return self._apart.read_span(path, start_s, duration_s)

    def read(self, span: Span) -> tuple[Float32, int]:
        """Return (n, channels) float32 and the rate in Hz, decoded in another process.

        Raises:
            AudioError: If it cannot be decoded, or there is nothing.
        """
        samples, rate_hz = self._apart.read_span(*span)
        if not len(samples):
            raise AudioError("decode", f"no audio at {span.start_s:g} s")
        return np.nan_to_num(samples), rate_hz

    def _make(self, key: tuple[object, ...], ending: str, make: Callable[[], bytes]) -> Path:
        name = hashlib.blake2b(repr(key).encode("utf-8", "surrogateescape"), digest_size=16)
        path = self._folder / f"{name.hexdigest()}{ending}"
        if self._is_kept(path):
            return path
        with self._decoding.passing():
            if not self._is_kept(path):
                content = make()
                new = path.with_name(f"{path.name}.{threading.get_ident()}")
                self._folder.mkdir(parents=True, exist_ok=True)
                new.write_bytes(content)
                new.replace(path)
                self._keep(path, len(content))
        return path

    def _is_kept(self, path: Path) -> bool:
        with self._lock:
            if path not in self._kept or not path.exists():  # somebody may have cleaned up
                return False
            size, _ = self._kept.pop(path)
            self._kept[path] = size, time.monotonic()
            return True

    def _keep(self, path: Path, size: int) -> None:
        now = time.monotonic()
        with self._lock:
            self._kept[path] = size, now
            total = sum(one for one, _ in self._kept.values())
            for old, (old_size, asked_at) in list(self._kept.items()):
                if total <= self._most_bytes or now - asked_at < _STILL_READ_S:
                    break
                del self._kept[old]
                old.unlink(missing_ok=True)
                total -= old_size


def state_at(path: Path) -> tuple[int, int]:
    """Return what tells that a file is another one than before; zeros if it cannot be told."""
    try:
        return state_of(path)
    except (OSError, ValueError):
        return 0, 0
