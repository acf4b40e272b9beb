"""Linear samples of a WAV file, read where they lie: no decoder is as fast as none."""

from __future__ import annotations

from collections.abc import Iterator
from io import FileIO

import numpy as np

from indexer.audio.file import read_at
from indexer.audio.riff import Layout, find_layout
from indexer.audio.source import (
    END,
    AudioInfo,
    Channels,
    Raw,
    as_float,
    check_duration,
    truncation,
)
from indexer.errors import AudioError


class WavSource:
    """A WAV file of linear samples."""

    def __init__(self, file: FileIO, layout: Layout, max_duration_s: float) -> None:
        """Take over an open file; `open_wav` is what opens one.

        Raises:
            AudioError: If it is out of bounds or has no samples.
        """
        self._file, self._layout, self._max_duration_s = file, layout, max_duration_s
        self.info = AudioInfo(
            sample_rate=layout.linear.rate_hz,
            channels=layout.linear.channels,
            codec=layout.linear.codec,
            container=layout.container,
            decoder=f"numpy {np.__version__}",
        )
        self.length_s = layout.num_samples / layout.linear.rate_hz
        if layout.num_samples == 0:
            raise AudioError("decode", "no sample could be decoded")

    def read(self, start: int, stop: int = END) -> Iterator[Channels]:
        """Read a span; see `Source`."""
        stop = min(stop, self._layout.num_samples)
        for first in range(start, stop, self.info.chunk_samples):
            end = min(first + self.info.chunk_samples, stop)
            check_duration(self._max_duration_s, end, self.info.sample_rate)
            yield as_float(self._raw(first, end))

    def _raw(self, start: int, stop: int) -> Raw:
        """Return (channels, num_samples) as they are stored."""
        linear, offset = self._layout.linear, self._layout.offset
        num_bytes = (stop - start) * linear.frame_bytes
        try:
            data = read_at(self._file.fileno(), num_bytes, offset + start * linear.frame_bytes)
        except OSError as error:
            raise AudioError("decode", "it can no longer be read") from error
        if len(data) < num_bytes:
            raise AudioError("decode", "it can no longer be read")
        if linear.sample_bytes == 3:
            samples = _of_24_bits(data, linear.order)
        else:
            samples = np.frombuffer(data, f"{linear.order}{linear.kind}{linear.sample_bytes}")
        return samples.reshape(stop - start, linear.channels).T

    def warnings(self) -> list[str]:
        """Return what was wrong with the file; see `Source`."""
        rate, layout = self.info.sample_rate, self._layout
        return truncation(layout.num_samples / rate, layout.declared_samples / rate)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def open_wav(file: FileIO, max_duration_s: float) -> WavSource | None:
    """Return what reads an open file, or None if that is another's: see `find_layout`.

    Args:
        file: Is taken over, unless None is returned.
        max_duration_s: Reading further than this is an error, in seconds.

    Raises:
        AudioError: With stage "open", if rate or channels are out of bounds, or nobody can say what
            the samples are; "decode", if there are none.
        OSError: If it cannot be read.
    """
    layout = find_layout(file.fileno())
    return WavSource(file, layout, max_duration_s) if layout else None


def _of_24_bits(data: bytes, order: str) -> Raw:
    """Return samples of three bytes as the upper ones of four."""
    widened = np.zeros((len(data) // 3, 4), np.uint8)
    upper = slice(1, 4) if order == "<" else slice(0, 3)
    widened[:, upper] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return widened.view(f"{order}i4")[:, 0]
