"""Files of linear samples, written byte by byte: every header that says something else of them.

What is in each is known before it is written, so that no decoder has to be believed.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RATE_HZ = 8_000
NUM_SAMPLES = 101  # an odd number: chunks of odd lengths are padded
ORDERS = {"little": "<", "big": ">"}
#: (bytes of a sample, valid bits), all of them, the upper ones, or few.
WHOLE = [
    *[(1, 8), (2, 16), (3, 24), (4, 32)],
    *[(1, 5), (2, 12), (3, 16), (3, 20), (4, 16), (4, 20), (4, 24), (4, 31)],
]
_SUB_FORMAT = bytes.fromhex("800000aa00389b71")


class Variant(NamedTuple):
    """A file.

    Attributes:
        name: What is particular about it.
        suffix: Of its name.
        content: All its bytes.
        samples: (n, channels) float32 that it holds.
        is_clear: Whether its header says one thing, so that it has to be read.
    """

    name: str
    suffix: str
    content: bytes
    samples: npt.NDArray[np.float32]
    is_clear: bool = True


class Samples(NamedTuple):
    """Samples as bytes, and as numbers."""

    data: bytes
    samples: npt.NDArray[np.float32]


def whole_numbers(
    size: int, valid: int, order: str, channels: int, *, unsigned: bool = False, low: bool = False
) -> Samples:
    """Random ones, least and greatest too, in the upper bits of each sample unless `low`."""
    rng = np.random.default_rng(size * 100 + valid)
    least, most = -(2 ** (valid - 1)), 2 ** (valid - 1) - 1
    numbers = rng.integers(least, most, (NUM_SAMPLES, channels), endpoint=True)
    numbers[:2] = [[least], [most]]
    stored = numbers << (0 if low else 8 * size - valid)
    stored += (1 << 8 * size - 1) * unsigned
    data = b"".join(
        number.to_bytes(size, order, signed=not unsigned)  # type: ignore[arg-type]
        for number in stored.ravel().tolist()
    )
    return Samples(data, (numbers / 2 ** (valid - 1)).astype(np.float32))


def floats(bits: int, order: str, channels: int) -> Samples:
    """Random ones, some of them over full scale."""
    rng = np.random.default_rng(bits)
    numbers = rng.uniform(-1.5, 1.5, (NUM_SAMPLES, channels)).astype(f"f{bits // 8}")
    data = numbers.astype(f"{ORDERS[order]}f{bits // 8}").tobytes()
    return Samples(data, numbers.astype(np.float32))


def chunk(name: bytes, content: bytes, order: str = "<", size: int | None = None) -> bytes:
    length = struct.pack(f"{order}I", len(content) if size is None else size)
    return name + length + content + bytes(len(content) % 2)


def fmt(
    order: str, tag: int, channels: int, bits: int, frame: int, valid: int | None, size: int
) -> bytes:
    """The content of a format chunk of 16, 18 or 40 bytes; the last is the extensible one."""
    end = ORDERS[order]
    head = struct.pack(f"{end}HIIHH", channels, RATE_HZ, RATE_HZ * frame, frame, bits)
    if size < 40:
        return struct.pack(f"{end}H", tag) + head + bytes(size - 16)
    more = struct.pack(f"{end}HHIIHH", 22, bits if valid is None else valid, 4, tag, 0, 0x10)
    return struct.pack(f"{end}H", 0xFFFE) + head + more + _SUB_FORMAT


def riff(form: bytes, data: bytes, order: str = "little", size: int | None = None) -> bytes:
    end, name = ORDERS[order], {"little": b"RIFF", "big": b"RIFX"}[order]
    return chunk(
        name, b"WAVE" + chunk(b"fmt ", form, end) + chunk(b"data", data, end, size), end
    )  # fmt: skip


def rf64(form: bytes, data: bytes) -> bytes:
    sizes = struct.pack("<QQQI", 0, len(data), NUM_SAMPLES, 0)
    content = chunk(b"ds64", sizes) + chunk(b"fmt ", form) + chunk(b"data", data, size=2**32 - 1)
    return b"RF64" + b"\xff" * 4 + b"WAVE" + content


def wave64(form: bytes, data: bytes) -> bytes:
    end = bytes.fromhex("f3acd3118cd100c04f8edb8a")

    def wide(name: bytes, content: bytes) -> bytes:
        return (
            name + end + struct.pack("<Q", 24 + len(content)) + content + bytes(-len(content) % 8)
        )

    content = b"wave" + end + wide(b"fmt ", form) + wide(b"data", data)
    head = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
    return head + struct.pack("<Q", 24 + len(content)) + content


def aiff(kind: bytes | None, bits: int, channels: int, data: bytes) -> bytes:
    """AIFF-C of a kind, or plain AIFF for None."""
    shift = 63 - (RATE_HZ.bit_length() - 1)  # the rate is a float of 80 bits
    rate = struct.pack(">HQ", 16383 + 63 - shift, RATE_HZ << shift)
    common = struct.pack(">hIh", channels, NUM_SAMPLES, bits) + rate
    version = b""
    if kind:
        version, common = chunk(b"FVER", bytes.fromhex("a2805140"), ">"), common + kind + bytes(2)
    content = version + chunk(b"COMM", common, ">") + chunk(b"SSND", bytes(8) + data, ">")
    return chunk(b"FORM", (b"AIFC" if kind else b"AIFF") + content, ">")


def caf(flags: int, bits: int, channels: int, frame: int, data: bytes) -> bytes:
    description = struct.pack(">d4sIIIII", RATE_HZ, b"lpcm", flags, frame, 1, channels, bits)
    head = b"caff" + struct.pack(">HH4sq", 1, 0, b"desc", len(description)) + description
    return head + struct.pack(">4sqI", b"data", len(data) + 4, 0) + data


def au(order: str, encoding: int, channels: int, data: bytes, size: int | None = None) -> bytes:
    length = len(data) if size is None else size
    numbers = struct.pack(f"{ORDERS[order]}IIIII", 24, length, encoding, RATE_HZ, channels)
    return {"little": b"dns.", "big": b".snd"}[order] + numbers + data


def wav_variants() -> Iterator[Variant]:
    """RIFF and RIFX, and the little-endian ones as RF64 and Wave64."""
    for order, channels, size in itertools.product(ORDERS, (1, 2), (16, 18, 40)):
        for width, valid in WHOLE:
            made = whole_numbers(width, valid, order, channels, unsigned=width == 1)
            is_small = (valid + 7) // 8 == width  # no smaller sample would hold the bits
            for bits in {valid, 8 * width} if size == 40 else {valid}:
                form = fmt(order, 1, channels, bits, width * channels, valid, size)
                what = f"{valid} of {8 * width} bits, as {bits}"
                yield from _boxes(what, order, size, form, made, is_small or bits == 8 * width)
        for bits in (32, 64):
            made = floats(bits, order, channels)
            for valid in (bits, 24, 0) if size == 40 else (bits,):
                form = fmt(order, 3, channels, bits, channels * bits // 8, valid, size)
                yield from _boxes(f"floats of {bits} bits, {valid}", order, size, form, made)


def _boxes(
    what: str, order: str, size: int, form: bytes, made: Samples, is_clear: bool = True
) -> Iterator[Variant]:
    name = f"{what}, {order}, fmt {size}, {made.samples.shape[1]} channels"
    yield Variant(f"RIFF: {name}", "wav", riff(form, made.data, order), made.samples, is_clear)
    if order == "little":
        yield Variant(f"RF64: {name}", "wav", rf64(form, made.data), made.samples, is_clear)
        yield Variant(f"W64: {name}", "w64", wave64(form, made.data), made.samples, is_clear)


def aiff_variants() -> Iterator[Variant]:
    """AIFF, and all kinds of linear AIFF-C."""
    kinds = {None: "big", b"NONE": "big", b"twos": "big", b"sowt": "little", b"raw ": "big"}
    for channels, (kind, order) in itertools.product((1, 2), kinds.items()):
        for bits in (4, 8, 12, 16, 20, 24, 32):
            made = whole_numbers(
                (bits + 7) // 8, bits, order, channels, unsigned=kind == b"raw "
            )  # fmt: skip
            is_clear = bits <= 8 if kind == b"raw " else kind != b"sowt" or bits >= 8
            name, content = f"{kind!r}, {bits} bits", aiff(kind, bits, channels, made.data)
            yield Variant(f"{name}, {channels} channels", "aiff", content, made.samples, is_clear)
    special = {b"in24": 24, b"in32": 32, b"42ni": 24, b"23ni": 32}
    for channels, (kind, bits) in itertools.product((1, 2), special.items()):
        made = whole_numbers(bits // 8, bits, "little" if b"ni" in kind else "big", channels)
        content = aiff(kind, bits, channels, made.data)
        yield Variant(f"{kind!r}, {channels}", "aifc", content, made.samples, kind != b"42ni")
    for channels, (kind, bits) in itertools.product(
        (1, 2), {b"fl32": 32, b"FL32": 32, b"fl64": 64, b"FL64": 64}.items()
    ):
        made = floats(bits, "big", channels)
        content = aiff(kind, bits, channels, made.data)
        yield Variant(f"{kind!r}, {channels}", "aifc", content, made.samples)


def caf_variants() -> Iterator[Variant]:
    """CAF, packed and not: then the bits that are used may be the upper or the lower ones."""
    for order, channels in itertools.product(ORDERS, (1, 2)):
        flags = 2 * (order == "little")
        for (width, valid), low in itertools.product(WHOLE, (False, True)):
            is_packed = valid == 8 * width
            if (low and is_packed) or (width == 1 and not is_packed):
                continue
            made = whole_numbers(width, valid, order, channels, low=low)
            content = caf(flags, valid, channels, width * channels, made.data)
            name = (
                f"{valid} of {8 * width} bits, {'lower' if low else 'upper'}, {order}, {channels}"
            )
            yield Variant(name, "caf", content, made.samples, is_packed)
        for bits in (32, 64):
            made = floats(bits, order, channels)
            content = caf(flags | 1, bits, channels, channels * bits // 8, made.data)
            yield Variant(f"floats of {bits}, {order}, {channels}", "caf", content, made.samples)


def au_variants() -> Iterator[Variant]:
    """AU, with its size and without."""
    for order, channels, size in itertools.product(ORDERS, (1, 2), (None, 0xFFFF_FFFF)):
        kinds = {2: 8, 3: 16, 4: 24, 5: 32, 6: 32, 7: 64}
        for encoding, bits in kinds.items():
            is_float = encoding >= 6
            made = (
                floats(bits, order, channels)
                if is_float
                else whole_numbers(bits // 8, bits, order, channels)
            )
            content = au(order, encoding, channels, made.data, size)
            name = f"encoding {encoding}, {order}, {channels} channels, size {size}"
            yield Variant(name, "au", content, made.samples)
