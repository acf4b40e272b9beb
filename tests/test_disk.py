"""Whole files and sealed documents: no byte can change unseen, no write can be half done."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import DamagedStoreError
from indexer.store.disk import map_own, read_sealed, seal, sha256_of, write_whole

DOCUMENT = {
    "version": 1,
    "name": "Café 漢字 \udcff",
    "share": 0.1,
    "flags": [True, False, None, -1],
    "files": {"b": [3, "x"], "a": []},
}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "document.json"
    path.write_bytes(content)
    return path


# --- sealed documents ----------------------------------------------------------------------------


@settings(deadline=None)
@given(st.dictionaries(st.text().filter(lambda key: key != "digest"), VALUES, max_size=4))
def test_sealed_any_document_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(seal(document))
    assert read_sealed(path) == document


def test_sealed_carries_the_sha256_of_its_own_content(tmp_path: Path) -> None:
    """As documented, so that others can check it: the same text without the digest's line."""
    lines = seal({"a": 1, "z": 2}).decode().splitlines(keepends=True)
    (digest,) = (line for line in lines if '"digest"' in line)
    rest = "".join(line for line in lines if line != digest)
    assert digest == f' "digest": "{hashlib.sha256(rest.encode()).hexdigest()}",\n'


@pytest.mark.whole
def test_read_sealed_every_single_changed_byte_is_damage(tmp_path: Path) -> None:
    good = seal(DOCUMENT)
    assert read_sealed(written(tmp_path, good)) == DOCUMENT
    for position, byte in enumerate(good):
        # All single bits, and bytes that JSON takes for white space, digits or the end of a text.
        others = {byte ^ 1 << bit for bit in range(8)} | set(b' \n\t"\\0e,')
        for other in others - {byte}:
            path = written(tmp_path, good[:position] + bytes([other]) + good[position + 1 :])
            with pytest.raises(DamagedStoreError, match=r"document\.json is damaged"):
                read_sealed(path)


def test_read_sealed_every_cut_and_an_added_byte_are_damage(tmp_path: Path) -> None:
    good = seal(DOCUMENT)
    for content in [*(good[:length] for length in range(len(good))), good + b"\n", b" " + good]:
        with pytest.raises(DamagedStoreError):
            read_sealed(written(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b'["digest"]',
        b'"digest"',
        b"1",
        b"null",
        b"{}",
        b'{"digest": null}',
        b'{"digest": {"digest": "x"}}',
        b"[" * 100_000,
        b"1" * 10_000,
        b"\xff\xfe",
        b"PAR1",
    ],
)
def test_read_sealed_something_else_is_damage(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DamagedStoreError):
        read_sealed(written(tmp_path, content))


def test_read_sealed_missing_file_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_sealed(tmp_path / "nothing.json")


# --- whole files ---------------------------------------------------------------------------------


def test_sha256_of_file_equals_that_of_its_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    assert sha256_of(written(tmp_path, content)) == hashlib.sha256(content).hexdigest()


def test_write_whole_replaces_what_is_there_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"a longer first content", b"second", b""):
        write_whole(path, content)
        assert path.read_bytes() == content
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", [(Path, "open"), (os, "fsync"), (os, "replace")])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_write_whole_interrupted_leaves_the_old_file_alone(
    step: tuple[object, str], error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(*step, fail)
    with pytest.raises(type(error)):
        write_whole(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_whole_reader_meanwhile_sees_old_or_new(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([number]) * 300_000 for number in range(2)]
    write_whole(path, contents[0])
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            write_whole(path, contents[number % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(path.read_bytes())
    writer.join()
    assert seen <= set(contents)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux tells what was advised")
@pytest.mark.parametrize("scattered", [False, True])
def test_what_is_read_here_and_there_has_nothing_read_around_it(
    tmp_path: Path, scattered: bool
) -> None:
    file = tmp_path / "rows"
    file.write_bytes(bytes(range(256)) * 1000)
    buffer = map_own(file, scattered=scattered)
    assert buffer.to_pybytes() == file.read_bytes()
    told = Path("/proc/self/smaps").read_text()
    begin = told.index(f"{buffer.address:x}-")
    flags = next(line for line in told[begin:].splitlines() if line.startswith("VmFlags"))
    assert ("rr" in flags.split()) == scattered  # read at random


def test_nothing_is_mapped_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "none").touch()
    assert map_own(tmp_path / "none", scattered=True).to_pybytes() == b""
