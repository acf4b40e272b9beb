"""Where a WAV file has its samples, and what they are: RIFF, RIFX, RF64 and Wave64.

A header has several numbers for one thing: format tag, bits, bytes of a frame, valid bits. FFmpeg
believes one of them, and gives noise where they differ, or where the byte order is the other one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from indexer.audio.file import read_at
from indexer.errors import AudioError

#: Format tags of `WAVEFORMATEX` (mmreg.h); the extensible one names another in its sub-format, an
#: id that is the same but for its first four bytes: Microsoft's, or that of ambisonics.
_LINEAR, _FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
_SUB_FORMATS = (
    (0x0000, 0x0010, bytes.fromhex("800000aa00389b71")),
    (0x0721, 0x11D3, bytes.fromhex("8644c8c1ca000000")),
)
#: Bytes that a sample may take.
_WHOLE_BYTES, _FLOAT_BYTES = (1, 2, 3, 4, 8), (4, 8)
#: How DTS (ETSI TS 102 114, its four packings) and any IEC 61937 burst begin: these are stored as
#: if they were 16-bit samples.
_SYNC_WORDS = tuple(
    bytes.fromhex(word) for word in ("7ffe8001", "fe7f0180", "1fffe800", "ff1f00e8", "72f81f4e")
)
#: How much of the samples is searched for them.
_SEARCHED_BYTES = 2**16
#: A plain file has a handful of chunks.
_MAX_CHUNKS = 100
#: Programs that write a WAV to a pipe declare nothing, or about 2^31 or 2^32 bytes.
UNKNOWN_BYTES = 0x7FFF_F000
#: Of Wave64, whose names are ids of 16 bytes: the first one, and the end of the others.
_WIDE_RIFF = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
_WIDE_END = bytes.fromhex("f3acd3118cd100c04f8edb8a")


class Linear(NamedTuple):
    """Samples that no codec has touched.

    Attributes:
        kind: NumPy's letter: "u" without a sign, "i" with one, "f" for floats.
        order: "<" if the least byte of a sample comes first, ">" if the greatest does.
        sample_bytes: Of a sample. Where fewer bits are valid, they are the upper ones.
        channels: Interleaved.
        rate_hz: Of them.
    """

    kind: str
    order: str
    sample_bytes: int
    channels: int
    rate_hz: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.sample_bytes * self.channels

    @property
    def codec(self) -> str:
        """FFmpeg's name of them."""
        kind = "s" if self.kind == "i" else self.kind
        end = "" if self.sample_bytes == 1 else "le" if self.order == "<" else "be"
        return f"pcm_{kind}{8 * self.sample_bytes}{end}"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where linear samples lie in a file.

    Attributes:
        linear: What they are.
        container: FFmpeg's name of it.
        offset: Of the first byte.
        num_samples: That are there, of each channel.
        declared_samples: That are there if the header is right.
    """

    linear: Linear
    container: str
    offset: int
    num_samples: int
    declared_samples: int


class _Chunk(NamedTuple):
    name: bytes
    offset: int
    num_bytes: int


class Box(NamedTuple):
    """How a file is divided into chunks.

    Attributes:
        container: Name of the format.
        order: "<" if the least byte of a number comes first, ">" if the greatest does.
        begin: Where the first chunk begins, in bytes.
        head_bytes: Name and size before the content of a chunk.
        unit: Of which whole numbers lie between the beginnings of chunks, in bytes.
    """

    container: str
    order: str
    begin: int
    head_bytes: int
    unit: int

    @property
    def byte_order(self) -> Literal["little", "big"]:
        """The order as Python calls it."""
        return "little" if self.order == "<" else "big"

    def chunks(self, descriptor: int, size: int) -> Iterator[_Chunk]:
        """Yield the chunks in order; the last may claim more than there is."""
        offset, found = self.begin, 0
        while offset + self.head_bytes <= size and found < _MAX_CHUNKS:
            head = read_at(descriptor, self.head_bytes, offset)
            if self.container == "w64":  # which counts the head as well
                num_bytes = max(int.from_bytes(head[16:], "little") - self.head_bytes, 0)
            else:
                num_bytes = int.from_bytes(head[4:], self.byte_order)
            offset, found = offset + self.head_bytes, found + 1
            yield _Chunk(head[:4], offset, num_bytes)
            offset += num_bytes + -num_bytes % self.unit


def _box(head: bytes) -> Box | None:
    """Return how a file is divided that begins with these 40 bytes; None if it is no WAV."""
    if head.startswith(_WIDE_RIFF) and head[24:] == b"wave" + _WIDE_END:
        return Box("w64", "<", 40, 24, 8)
    if head[8:12] == b"WAVE" and head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64"):
        return Box("wav", ">" if head[:4] == b"RIFX" else "<", 12, 8, 2)
    return None


def format_tag(descriptor: int) -> int | None:
    """Return the format tag of a WAV file; None if it is none, or has no format.

    Raises:
        OSError: If it cannot be read.
    """
    box = _box(read_at(descriptor, 40, 0))
    if box is None:
        return None
    for chunk in box.chunks(descriptor, os.fstat(descriptor).st_size):
        if chunk.name == b"fmt ":
            return int.from_bytes(read_at(descriptor, 2, chunk.offset), box.byte_order)
    return None


def find_layout(descriptor: int) -> Layout | None:
    """Return where a file has its linear samples.

    Returns:
        None if it is no WAV, has a codec, or is better read by FFmpeg: the usual samples in a RIFF
        that is not plain. Plain means that nothing has to be guessed: every chunk has a size, the
        file ends where its chunks do, and no codec hides behind a header of linear samples.

    Raises:
        AudioError: With stage "open", if no two programs agree on what the header means.
        OSError: If the file cannot be read.
    """
    head, size = read_at(descriptor, 40, 0), os.fstat(descriptor).st_size
    box = _box(head)
    if box is None:
        return None
    chunks = list(box.chunks(descriptor, size))
    first = {chunk.name: chunk for chunk in reversed(chunks)}
    form, data = first.get(b"fmt "), first.get(b"data")
    if form is None or data is None or form.offset > data.offset:
        return None
    read = _linear(read_at(descriptor, min(form.num_bytes, 40), form.offset), box.order)
    if read is None:
        return None
    linear, is_packed = read
    there, declared = _num_bytes(descriptor, box, first, size)
    if is_packed and box.order == "<":
        is_sized = int.from_bytes(head[4:8], "little") + 8 <= size
        is_whole = there == data.num_bytes and there % linear.frame_bytes == 0 < there
        is_plain = is_sized and is_whole and _fill(chunks, size)
        if (head.startswith(b"RIFF") and not is_plain) or _hides_codec(descriptor, data):
            return None
    elif sum(chunk.name == b"data" for chunk in chunks) > 1:
        raise AudioError("open", "its samples are in several pieces")
    bytes_each = linear.frame_bytes
    return Layout(linear, box.container, data.offset, there // bytes_each, declared // bytes_each)


def _fill(chunks: Sequence[_Chunk], size: int) -> bool:
    """Whether a file ends where its chunks do, and no two have one name."""
    end = chunks[-1].offset + chunks[-1].num_bytes
    is_end = end == size or (end % 2 and end + 1 == size)  # the last byte of padding may be missing
    return bool(is_end) and len({chunk.name for chunk in chunks}) == len(chunks)


def _hides_codec(descriptor: int, data: _Chunk) -> bool:
    searched = read_at(descriptor, min(data.num_bytes, _SEARCHED_BYTES), data.offset)
    return any(word in searched for word in _SYNC_WORDS)


def _num_bytes(
    descriptor: int, box: Box, chunks: Mapping[bytes, _Chunk], size: int
) -> tuple[int, int]:
    """Return how many bytes of samples there are, and how many if the header is right."""
    data, large = chunks[b"data"], chunks.get(b"ds64")
    there, declared = size - data.offset, data.num_bytes
    unknown = 2**62 if box.container == "w64" else UNKNOWN_BYTES
    if large and declared == 0xFFFF_FFFF:  # RF64, whose sizes have 64 bits as well
        declared, unknown = (
            int.from_bytes(read_at(descriptor, 8, large.offset + 8), "little"),
            2**62,
        )
    if declared == 0 or (declared > there and declared >= unknown):
        return there, there
    return min(declared, there), declared


def _linear(chunk: bytes, order: str) -> tuple[Linear, bool] | None:
    """Return what a format chunk says, and whether all bits of a sample are valid.

    Returns:
        None if the samples are not linear, or a number is missing.

    Raises:
        AudioError: If the bits do not fit the bytes.
    """
    if len(chunk) < 16:
        return None
    tag, channels, rate_hz, _, frame_bytes, bits = struct.unpack_from(f"{order}HHIIHH", chunk)
    valid_bits = bits
    if tag == EXTENSIBLE:
        if len(chunk) < 40 or (*struct.unpack_from(f"{order}HH8s", chunk, 28),) not in _SUB_FORMATS:
            return None
        valid_bits, _, tag = struct.unpack_from(f"{order}HII", chunk, 18)
    elif len(chunk) > 18 and tag == _LINEAR:  # with more to say: 32 bits may be floats (Cool Edit)
        return None
    if tag not in (_LINEAR, _FLOAT) or not channels or frame_bytes * 8 < channels * bits:
        return None
    sample_bytes, rest = divmod(frame_bytes, channels)
    fits = rest == 0 and (bits + 7) // 8 == sample_bytes and valid_bits <= 8 * sample_bytes
    if not fits or sample_bytes not in (_FLOAT_BYTES if tag == _FLOAT else _WHOLE_BYTES):
        what = "floats" if tag == _FLOAT else "whole numbers"
        valid = f", {valid_bits} of them valid," if valid_bits not in (0, bits) else ""
        frame = f"{frame_bytes} bytes for {channels} channel{'s' * (channels > 1)}"
        raise AudioError(
            "open", f"its header contradicts itself: {what} of {bits} bits{valid} in {frame}"
        )
    kind = "f" if tag == _FLOAT else "u" if sample_bytes == 1 else "i"
    is_packed = bits == 8 * sample_bytes and valid_bits in (0, bits)
    return Linear(kind, order, sample_bytes, channels, rate_hz), is_packed
