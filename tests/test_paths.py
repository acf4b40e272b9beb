"""Names: what is stored gives back every byte, what is printed can do no harm."""

from __future__ import annotations

import os
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.paths import (
    bytes_from_text,
    content_id,
    local_path,
    path_id,
    printable,
    text_from_bytes,
)

NAMES = st.one_of(
    st.binary(max_size=30),
    st.text(max_size=10).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.sampled_from([b"\\", b"x41", b"\\x5c", b"\xff", b"\xc3", b"\xa9", b"a"])).map(
        b"".join
    ),
).map(lambda name: name.replace(b"\0", b"").replace(b"/", b""))


@settings(deadline=None)
@given(NAMES)
def test_text_from_bytes_any_name_is_utf8_and_can_be_reversed(name: bytes) -> None:
    text = text_from_bytes(name)
    text.encode("utf-8")  # what Parquet stores; a surrogate would raise
    assert bytes_from_text(text) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Café 漢字.wav".encode(), "Café 漢字.wav"),
        ("Cafe\u0301".encode(), "Cafe\u0301"),  # as it is: a decomposed name is another name
        (b"caf\xe9.wav", r"caf\xe9.wav"),
        (b"a\\b", r"a\x5cb"),
        (rb"\xff", r"\x5cxff"),  # not the byte 0xff, but a name that looks like its escape
        (b"\xed\xb3\xbf", r"\xed\xb3\xbf"),  # UTF-8 of a surrogate is not UTF-8
        (b"line\nbreak", "line\nbreak"),
        (b"", ""),
    ],
)
def test_text_from_bytes_known_name_gives_known_text(name: bytes, text: str) -> None:
    assert text_from_bytes(name) == text
    assert bytes_from_text(text) == name


@pytest.mark.parametrize("name", [b"caf\xe9.wav", b"back\\slash", "漢字".encode(), b"\x1b[31m"])
def test_local_path_stored_text_opens_the_file(name: bytes, tmp_path: Path) -> None:
    file = os.path.join(os.fsencode(tmp_path), name)  # noqa: PTH118 - bytes
    with open(file, "wb") as writing:  # noqa: PTH123
        writing.write(name)
    (found,) = os.listdir(os.fsencode(tmp_path))  # noqa: PTH208
    assert (tmp_path / local_path(text_from_bytes(found))).read_bytes() == name


@pytest.mark.whole
def test_printable_all_of_unicode_gives_no_character_that_acts() -> None:
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    categories = {unicodedata.category(char) for char in set(printable(everything))}
    assert categories.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})


@settings(deadline=None)
@given(st.text(st.characters(categories=["L", "M", "N", "P", "S", "Zs"])))
def test_printable_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("é 漢字 🦉 \u00a0", "é 漢字 🦉 \u00a0"),
        ("a\x1b[31mred", r"a\x1b[31mred"),
        ("two\nlines\r\t", r"two\x0alines\x0d\x09"),
        ("gpj.\u202exe", r"gpj.\u202exe"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("next\u2028line\u2029", r"next\u2028line\u2029"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("byte\udcff", r"byte\xff"),
        ("half\ud83d", r"half\ud83d"),
        ("\x7f\x80\x9b", r"\x7f\x80\x9b"),
    ],
)
def test_printable_known_text_gives_known_text(text: str, shown: str) -> None:
    assert printable(text) == shown


# --- keys ----------------------------------------------------------------------------------------


def test_path_id_known_path_never_changes() -> None:
    """The ledgers on disk are keyed by these values."""
    assert path_id("library", "a/b.wav") == 2_807_442_399_048_749_585
    assert path_id("library", "a/b.wav", (32_000, 320_000)) == 3_783_082_488_041_775_075


def test_path_id_differs_with_library_path_and_span() -> None:
    keys = [
        path_id("a", "b.wav"),
        path_id("ab", ".wav"),
        path_id("a", "c.wav"),
        path_id("b", "b.wav"),
        path_id("a", "b.wav", (0, 1)),
        path_id("a", "b.wav", (1, 0)),
        path_id("a", "b.wav", (0, 2)),
    ]
    assert len(set(keys)) == len(keys)


@settings(deadline=None)
@given(NAMES, st.none() | st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)))
def test_path_id_any_name_has_63_bits(name: bytes, span: tuple[int, int] | None) -> None:
    assert 0 <= path_id("library", text_from_bytes(name), span) < 2**63


def test_content_id_whole_recording_is_its_own_id() -> None:
    assert content_id(bytes(range(16))) == bytes(range(16))


def test_content_id_span_never_changes_and_depends_on_everything() -> None:
    recording = bytes(range(16))
    assert content_id(recording, (0, 320_000)).hex() == "ddf427b0def22cf211cb242c14dee78a"
    others = [
        content_id(recording, (0, 320_001)),
        content_id(recording, (1, 320_000)),
        content_id(bytes(16), (0, 320_000)),
        content_id(recording),
    ]
    assert len({content_id(recording, (0, 320_000)), *others}) == 5
    assert {len(one) for one in others} == {16}
