"""Every header of linear samples: exact to the bit, or refused for a true reason.

The oracle are the samples that were written, and libsndfile where it reads the header at all:
FFmpeg is wrong in a quarter of them.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import headers
import numpy as np
import pytest
import soundfile
from audio_files import FOREVER_S, error, span, whole
from conftest import Run
from faults import fault
from headers import RATE_HZ, Variant, chunk, floats, fmt, rf64, riff, wave64, whole_numbers

from indexer.audio.stream import read_span
from indexer.errors import AudioError

#: What a refusal may say: that the header is at fault, or that nobody reads such samples.
TRUE_REASONS = ("its header contradicts itself", "its header says", "not read")


@pytest.mark.parametrize(
    ("variants", "num_variants", "num_clear"),
    [
        (headers.wav_variants, 432, 336),
        (headers.aiff_variants, 86, 72),
        (headers.caf_variants, 80, 24),
        (headers.au_variants, 48, 48),
    ],
    ids=["wav", "aiff", "caf", "au"],
)
def test_every_header_gives_its_samples_to_the_bit_or_is_refused(
    tmp_path: Path, variants: Callable[[], Iterator[Variant]], num_variants: int, num_clear: int
) -> None:
    wrong, read, number = [], 0, 0
    for number, variant in enumerate(variants(), 1):
        path = tmp_path / f"{number}.{variant.suffix}"
        path.write_bytes(variant.content)
        try:
            found, rate = read_span(path, 0, FOREVER_S)
        except AudioError as refused:
            if variant.is_clear or not any(one in refused.reason for one in TRUE_REASONS):
                wrong.append(f"{variant.name}: {refused}")
            continue
        read += 1
        if rate != RATE_HZ or not np.array_equal(found, variant.samples):
            wrong.append(f"{variant.name}: other samples")
    assert wrong == []
    assert (number, read) == (num_variants, num_clear)


@pytest.mark.parametrize(
    "variants",
    [headers.wav_variants, headers.aiff_variants, headers.caf_variants, headers.au_variants],
)
def test_libsndfile_reads_clear_headers_as_they_are_meant(
    tmp_path: Path, variants: Callable[[], Iterator[Variant]]
) -> None:
    """Whoever wrote the table could be wrong about it."""
    wrong, agreed = [], 0
    for number, variant in enumerate(variants()):
        path = tmp_path / f"{number}.{variant.suffix}"
        path.write_bytes(variant.content)
        try:
            theirs = soundfile.read(path, dtype="float32", always_2d=True)[0]
        except soundfile.LibsndfileError:
            continue
        theirs = theirs[: len(variant.samples)]  # of Wave64, it reads the padding as well
        same = np.array_equal(theirs, variant.samples)
        agreed += same
        if variant.is_clear and not same and not variant.name.startswith("W64: floats"):
            wrong.append(variant.name)  # those it takes for whole numbers, if extensible
    assert wrong == []
    assert agreed > 20


#: Samples that FFmpeg reads, and that it misreads; with a format of 16, 18 or 40 bytes.
KINDS = {
    "16 bits": (whole_numbers(2, 16, "little", 1), "little", (1, 1, 16, 2, None, 16)),
    "24 of 32 bits": (whole_numbers(4, 24, "little", 1), "little", (1, 1, 32, 4, 24, 40)),
    "RIFX": (whole_numbers(3, 24, "big", 1), "big", (1, 1, 24, 3, None, 16)),
    "RIFX floats": (floats(32, "big", 2), "big", (3, 2, 32, 8, None, 18)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF, 0x7FFF_F000], ids=hex)
def test_wav_without_a_size_is_read_to_its_end(tmp_path: Path, kind: str, size: int) -> None:
    made, order, form = KINDS[kind]
    path = tmp_path / "a.wav"
    content = riff(fmt(order, *form), made.data, order, size)
    content = content[: len(content) - len(made.data) % 2]
    unknown = struct.pack(f"{headers.ORDERS[order]}I", size)
    path.write_bytes(content[:4] + unknown + content[8:])
    np.testing.assert_array_equal(read_span(path, 0, FOREVER_S)[0], made.samples)
    assert whole(path)[1] == ()


@pytest.mark.parametrize("kind", KINDS)
def test_wav_with_other_chunks_around_is_read(tmp_path: Path, kind: str) -> None:
    made, order, form = KINDS[kind]
    end = headers.ORDERS[order]
    content = b"WAVE" + b"".join(
        chunk(name, content, end)
        for name, content in [
            (b"JUNK", b"odd"), (b"bext", bytes(602)), (b"fmt ", fmt(order, *form)),
            (b"fact", bytes(4)), (b"cue ", b""), (b"data", made.data), (b"LIST", b"INFOx"),
        ]
    )  # fmt: skip
    path = tmp_path / "a.wav"
    path.write_bytes(chunk({"<": b"RIFF", ">": b"RIFX"}[end], content, end))
    np.testing.assert_array_equal(read_span(path, 0, FOREVER_S)[0], made.samples)
    assert whole(path)[1] == ()


@pytest.mark.parametrize("box", [riff, rf64, wave64], ids=["RIFF", "RF64", "W64"])
@pytest.mark.parametrize("valid", [32, 24])
def test_wav_that_is_cut_gives_what_is_there_and_says_so(
    tmp_path: Path, box: Callable[[bytes, bytes], bytes], valid: int
) -> None:
    made = whole_numbers(4, valid, "little", 1)
    data, samples = made.data * 100, np.tile(made.samples, (100, 1))
    path = tmp_path / ("a.w64" if box is wave64 else "a.wav")
    content = box(fmt("little", 1, 1, 32, 4, valid, 40), data)
    path.write_bytes(content[: len(content) - len(data) // 2])
    found = read_span(path, 0, FOREVER_S)[0]
    assert 0.49 < len(found) / len(samples) <= 0.51
    np.testing.assert_array_equal(found, samples[: len(found)])
    assert whole(path)[1] == ("ends at 0.6 s of the 1.3 s that its header declares",)


def test_wav_of_gigabytes_that_is_cut_says_so(tmp_path: Path) -> None:
    """A size of 64 bits is no sign of a pipe."""
    made = whole_numbers(2, 16, "little", 1)
    path = tmp_path / "a.wav"
    content = rf64(fmt("little", 1, 1, 16, 2, None, 16), made.data)
    declared = struct.pack("<Q", 16_000 * 3600 * 100)
    path.write_bytes(content.replace(struct.pack("<Q", len(made.data)), declared))
    np.testing.assert_array_equal(read_span(path, 0, FOREVER_S)[0], made.samples)
    assert whole(path)[1] == ("ends at 0.0 s of the 360000.0 s that its header declares",)


@pytest.mark.parametrize(
    "variants", [headers.wav_variants, headers.aiff_variants, headers.caf_variants]
)
def test_broken_header_is_read_or_refused(
    tmp_path: Path, variants: Callable[[], Iterator[Variant]]
) -> None:
    random = np.random.default_rng(0)
    for number, variant in enumerate(variants()):
        content = bytearray(variant.content[: random.integers(12, 200)])
        for at in random.integers(0, min(len(content), 70), random.integers(0, 4)):
            content[at] = random.integers(256)
        path = tmp_path / f"{number}.{variant.suffix}"
        path.write_bytes(content)
        with contextlib.suppress(AudioError):
            read_span(path, 0, 10)


def test_span_of_a_wav_in_another_order_is_what_the_whole_has_there(tmp_path: Path) -> None:
    random = np.random.default_rng(0).integers(-(2**15), 2**15, 3 * 44_100).astype(">i2")
    path = tmp_path / "a.wav"
    content = riff(fmt("big", 1, 1, 16, 2, None, 16), random.tobytes(), "big")
    path.write_bytes(content.replace(struct.pack(">I", RATE_HZ), struct.pack(">I", 44_100)))
    mono, _ = whole(path)
    assert abs(len(mono) - 96_000) <= 1
    np.testing.assert_array_equal(span(path, 40_000, 30_000), mono[40_000:70_000])


@pytest.mark.parametrize(
    ("name", "kind", "subtype", "endian"),
    [
        ("a.wav", "WAV", "ULAW", "BIG"),
        ("a.wav", "WAV", "IMA_ADPCM", "BIG"),
        ("a.wav", "WAV", "G721_32", "LITTLE"),
        ("a.wav", "WAV", "NMS_ADPCM_16", "LITTLE"),
        ("a.wav", "WAV", "NMS_ADPCM_32", "BIG"),
        ("a.au", "AU", "G721_32", "BIG"),
        ("a.au", "AU", "G723_24", "BIG"),
        ("a.au", "AU", "G723_40", "BIG"),
        ("a.au", "AU", "G723_40", "LITTLE"),
    ],
)
def test_codecs_that_ffmpeg_mistakes_are_read(
    tmp_path: Path, name: str, kind: str, subtype: str, endian: str
) -> None:
    tone = (0.3 * np.sin(np.arange(30_000) / 9)).astype(np.float32)[:, None]
    path = tmp_path / name
    with soundfile.SoundFile(path, "w", RATE_HZ, 1, subtype, endian, kind) as file:
        file.write(tone)
    found = read_span(path, 0, FOREVER_S)[0][:30_000]
    assert np.sqrt(np.mean((found - tone) ** 2)) < 0.03
    np.testing.assert_array_equal(found, soundfile.read(path, dtype="float32")[0][:30_000, None])


def test_wav_in_several_pieces_of_a_rare_kind_is_refused(tmp_path: Path) -> None:
    made = whole_numbers(2, 16, "big", 1)
    pieces = chunk(b"data", made.data, ">") * 2
    form = chunk(b"fmt ", fmt("big", 1, 1, 16, 2, None, 16), ">")
    path = tmp_path / "a.wav"
    path.write_bytes(chunk(b"RIFX", b"WAVE" + form + pieces, ">"))
    assert error(path) == ("open", "its samples are in several pieces")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """One tone behind four headers: the usual one, two rare ones, and one that means nothing."""
    tone = 8_000 * np.sin(np.arange(RATE_HZ) / 4)
    little, big, wide = (tone.astype(kind) for kind in ("<i2", ">i2", "<i4"))
    files = {
        "plain.wav": riff(fmt("little", 1, 1, 16, 2, None, 16), little.tobytes()),
        "rifx.wav": riff(fmt("big", 1, 1, 16, 2, None, 16), big.tobytes(), "big"),
        "24 of 32.wav": riff(
            fmt("little", 1, 1, 32, 4, 24, 40), (little.astype("<i4") * 65_536).tobytes()
        ),
        "24 in 4 bytes.wav": riff(fmt("little", 1, 1, 24, 4, None, 16), wide.tobytes()),
    }
    folder = tmp_path / "library"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.whole
def test_index_hears_the_same_behind_any_header_and_refuses_what_means_nothing(
    run: Run, library: Path, tiny_file: Path
) -> None:
    store = library.parent / "store"
    told = run("index", library, "--store", store, "--checkpoint", tiny_file, code=None)
    fault("C2b").require(told.code, told.out + told.err)
    for name, row in (("rifx.wav", fault("C1")), ("24 of 32.wav", fault("C2a"))):
        told = run("search", store, library / name, "--exact")
        row.require(told.code, told.out)
