"""Plain WAV files, read where they lie: no decoder is as fast as none.

Plain means that nothing has to be guessed: linear samples, a size for every chunk, and the file
ends where its chunks do. All others are FFmpeg's: damaged ones, those without a length, compressed
ones, and those that hide another codec behind a header of linear samples.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO

import numpy as np

from indexer.audio.file import read_at
from indexer.audio.source import END, AudioInfo, Channels, Raw, as_float, check_duration
from indexer.errors import AudioError

#: Format tags of `WAVEFORMATEX` (mmreg.h); the extensible one names another in its sub-format,
#: whose last 14 bytes are always the same.
_LINEAR, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_SUB_FORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")
#: (format tag, bits) → NumPy's name, and FFmpeg's name of the codec. 24 bits have no name.
_FORMATS = {
    (_LINEAR, 8): ("u1", "pcm_u8"),
    (_LINEAR, 16): ("<i2", "pcm_s16le"),
    (_LINEAR, 24): ("", "pcm_s24le"),
    (_LINEAR, 32): ("<i4", "pcm_s32le"),
    (_FLOAT, 32): ("<f4", "pcm_f32le"),
    (_FLOAT, 64): ("<f8", "pcm_f64le"),
}
#: How DTS (ETSI TS 102 114, its four packings) and any IEC 61937 burst begin: these are stored as
#: if they were 16-bit samples.
_SYNC_WORDS = tuple(
    bytes.fromhex(word) for word in ("7ffe8001", "fe7f0180", "1fffe800", "ff1f00e8", "72f81f4e")
)
#: How much of the samples is searched for them.
_SEARCHED_BYTES = 2**16
#: A plain file has a handful of chunks.
_MAX_CHUNKS = 100


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the samples lie in a file, and what they are."""

    format: tuple[int, int]
    channels: int
    rate_hz: int
    offset: int
    num_samples: int

    @property
    def frame_bytes(self) -> int:
        return self.channels * self.format[1] // 8


class WavSource:
    """A plain WAV file; gives the same samples as FFmpeg does, to the bit."""

    def __init__(self, file: FileIO, layout: _Layout, max_duration_s: float) -> None:
        """Take over an open file; `open_plain_wav` is what opens one."""
        self._file, self._layout, self._max_duration_s = file, layout, max_duration_s
        self.info = AudioInfo(
            sample_rate=layout.rate_hz,
            channels=layout.channels,
            codec=_FORMATS[layout.format][1],
            container="wav",
            decoder=f"numpy {np.__version__}",
        )

    def read(self, start: int, stop: int = END) -> Iterator[Channels]:
        """Read a span; see `Source`."""
        stop = min(stop, self._layout.num_samples)
        for first in range(start, stop, self.info.chunk_samples):
            end = min(first + self.info.chunk_samples, stop)
            check_duration(self._max_duration_s, end, self.info.sample_rate)
            yield as_float(self._raw(first, end))

    def _raw(self, start: int, stop: int) -> Raw:
        """Return (channels, num_samples) as they are stored."""
        layout = self._layout
        num_bytes = (stop - start) * layout.frame_bytes
        try:
            data = read_at(
                self._file.fileno(), num_bytes, layout.offset + start * layout.frame_bytes
            )
        except OSError as error:
            raise AudioError("decode", "it can no longer be read") from error
        if len(data) < num_bytes:
            raise AudioError("decode", "it can no longer be read")
        name = _FORMATS[layout.format][0]
        samples = np.frombuffer(data, name) if name else _of_24_bits(data)
        return samples.reshape(stop - start, layout.channels).T

    def warnings(self) -> list[str]:
        """Return nothing: what is wrong with a file makes it another's."""
        return []

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def open_plain_wav(file: FileIO, max_duration_s: float) -> WavSource | None:
    """Return what reads an open file, or None if it is no plain WAV.

    Args:
        file: Is taken over, unless None is returned.
        max_duration_s: Reading further than this is an error, in seconds.

    Raises:
        AudioError: With stage "open", if rate or channels are out of bounds.
        OSError: If it cannot be read.
    """
    layout = _layout(file.fileno())
    return WavSource(file, layout, max_duration_s) if layout else None


def _layout(descriptor: int) -> _Layout | None:
    size = os.fstat(descriptor).st_size
    header = read_at(descriptor, 12, 0)
    if len(header) < 12 or header[:4] != b"RIFF" or header[8:] != b"WAVE":
        return None
    chunks = _chunks(descriptor, 12, size)
    if int.from_bytes(header[4:8], "little") + 8 > size or not {b"fmt ", b"data"} <= chunks.keys():
        return None
    fmt_offset, fmt_bytes = chunks[b"fmt "]
    offset, num_bytes = chunks[b"data"]
    if fmt_offset > offset:
        return None
    format_ = _format(read_at(descriptor, min(fmt_bytes, 40), fmt_offset))
    if format_ is None:
        return None
    tag_and_bits, channels, rate_hz = format_
    num_samples, rest = divmod(num_bytes, channels * tag_and_bits[1] // 8)
    searched = read_at(descriptor, min(num_bytes, _SEARCHED_BYTES), offset)
    if rest or not num_samples or any(word in searched for word in _SYNC_WORDS):
        return None
    return _Layout(tag_and_bits, channels, rate_hz, offset, num_samples)


def _chunks(descriptor: int, offset: int, size: int) -> dict[bytes, tuple[int, int]]:
    """Return offset and size of all chunks; nothing if they do not end with the file, or repeat."""
    found: dict[bytes, tuple[int, int]] = {}
    while offset < size:
        head = read_at(descriptor, 8, offset)
        name, num_bytes = head[:4], int.from_bytes(head[4:], "little")
        offset += 8
        if name in found or offset + num_bytes > size or len(found) == _MAX_CHUNKS:
            return {}
        found[name] = offset, num_bytes
        offset += num_bytes + num_bytes % 2  # a byte of padding, which may be missing at the end
    return found


def _format(chunk: bytes) -> tuple[tuple[int, int], int, int] | None:
    """Return (tag, bits), channels and rate of a format chunk, if the samples are linear."""
    if len(chunk) < 16:
        return None
    tag, channels, rate_hz, _, frame_bytes, bits = struct.unpack_from("<HHIIHH", chunk)
    if tag == _EXTENSIBLE:
        if len(chunk) < 40 or chunk[26:40] != _SUB_FORMAT_TAIL:
            return None
        if int.from_bytes(chunk[18:20], "little") != bits:  # 24 of 32 bits, for one
            return None
        tag = int.from_bytes(chunk[24:26], "little")
    elif tag == _LINEAR and len(chunk) > 18:  # with more to say: 32 bits may be floats (Cool Edit)
        return None
    if (tag, bits) not in _FORMATS or not channels or frame_bytes * 8 != channels * bits:
        return None
    return (tag, bits), channels, rate_hz


def _of_24_bits(data: bytes) -> Raw:
    """Return samples of three bytes as the upper ones of four."""
    widened = np.zeros((len(data) // 3, 4), np.uint8)
    widened[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
    return widened.view("<i4")[:, 0]
