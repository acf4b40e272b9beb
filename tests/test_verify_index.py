"""Every byte below index/: verify finds a flipped one, and opening never crashes over it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from faults import fault
from oracle import unit
from synthetic import Synthetic, make_store

from indexer.errors import StoreError
from indexer.store.reader import Store
from search.asking.find import Question, find
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.asking.terms import Terms
from search.generation.manifest import GENERATION_FILE, describe_files
from search.generation.segments import (
    CURRENT_FILE,
    INDEX_FOLDER,
    SEGMENTS_FOLDER,
    Generation,
    alive_file,
)
from search.upkeep.build import build
from search.upkeep.verify import verify


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """Two generations with different segments, some rows dead."""
    store = make_store(tmp_path_factory.mktemp("whole") / "store", frames="none")
    store.add({"a": 6, "b": 2})
    build(store.store, max_segment_rows=5)
    store.add({"c": 4}, seed=1)
    store.remove("b.wav")
    build(store.store, max_segment_rows=5)
    return store


@pytest.fixture
def copied(whole: Synthetic, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole.store.path, tmp_path / "copy"))


@pytest.fixture
def index_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the parts out, which have tests of their own: most of the time goes there."""
    monkeypatch.setattr("search.upkeep.verify.verify_parts", lambda *_: [])


def index_files(store: Path) -> list[Path]:
    return [
        file
        for file in sorted((store / INDEX_FOLDER).rglob("*"))
        if file.is_file() and file.stat().st_size
    ]


def flipped(file: Path, offsets: Iterator[int] | range) -> Iterator[int]:
    """Flip one bit after the other; the file is whole again between and after them."""
    content = file.read_bytes()
    for offset in offsets:
        damaged = bytearray(content)
        damaged[offset] ^= 1 << offset % 8
        file.write_bytes(damaged)
        yield offset
    file.write_bytes(content)


def questions(whole: Synthetic) -> list[tuple[Question, Terms]]:
    clip = Question(unit(whole.scene[0]).astype(np.float32))
    wanted = {"tags": "Animal", "not_tags": "Rain", "threshold": 0.26}
    return [
        (clip, Terms(k=3)),
        (clip, Terms(k=100, **wanted, group_by="file")),
        (Question(), Terms(k=100, tags="Dog", threshold=0.0)),
    ]


def opens_or_says_why(store: Path, asked: list[tuple[Question, Terms]]) -> bool:
    """Whether the index answers; otherwise it must have raised a StoreError."""
    try:
        index = SoundIndex.open(store)
    except StoreError:
        return False
    for question, terms in asked:
        [hits] = index.hits(find(index, [question], Scope.of(terms, index.opened)))
        assert len(hits) <= terms.k
    return True


def test_verify_index_as_written_finds_nothing(whole: Synthetic) -> None:
    names = {file.name for file in index_files(whole.store.path)}
    assert {"CURRENT", "manifest.json", "recordings.arrow", "vectors.raw", "codes.raw"} <= names
    assert len(list((whole.store.path / INDEX_FOLDER).glob("0*"))) == 2
    assert verify(whole.store.path) == []


def test_verify_index_one_flipped_bit_in_any_file_is_found_and_named(copied: Path) -> None:
    files = index_files(copied)
    assert len(files) > 20
    rng = np.random.default_rng(0)
    for file in files:
        for _ in flipped(file, iter([int(rng.integers(0, file.stat().st_size))])):
            assert [problem.path for problem in verify(copied)] == [file]
    assert verify(copied) == []


@pytest.mark.usefixtures("index_only")
def test_verify_index_every_byte_of_current_and_the_manifests_is_seen(copied: Path) -> None:
    for file in index_files(copied):
        if file.name in {CURRENT_FILE, GENERATION_FILE}:
            step = max(1, file.stat().st_size // 40)
            for _ in flipped(file, range(0, file.stat().st_size, step)):
                assert [problem.path for problem in verify(copied)] == [file]


@pytest.mark.usefixtures("index_only")
@pytest.mark.parametrize("change", ["missing", "empty", "longer"])
def test_verify_index_file_of_another_size_is_found_and_named(copied: Path, change: str) -> None:
    for file in index_files(copied):
        if file.name == CURRENT_FILE and change == "missing":
            continue  # as if no index had been built: that is no damage
        content = file.read_bytes()
        file.unlink()
        if change != "missing":
            file.write_bytes(b"" if change == "empty" else content + b"x")
        assert [problem.path for problem in verify(copied)] == [file]
        file.write_bytes(content)
    assert verify(copied) == []


def test_verify_index_that_was_never_built_finds_nothing(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"a": 1})
    assert verify(store.store.path) == []
    (store.store.path / INDEX_FOLDER).mkdir()
    assert verify(store.store.path) == []


def test_verify_parts_beside_the_index_are_checked_too(copied: Path) -> None:
    [first, *_] = sorted(copied.glob("parts/*/scene.parquet"))
    for _ in flipped(first, iter([1000])):
        assert [problem.path for problem in verify(copied)] == [first]


def test_open_small_files_with_any_flipped_byte_is_refused(copied: Path, whole: Synthetic) -> None:
    """What is parsed is checked against its digest before that."""
    index = copied / INDEX_FOLDER
    current = index / (index / CURRENT_FILE).read_text()
    files = [index / CURRENT_FILE, *current.iterdir()]
    assert len(files) >= 4
    for file in files:
        step = max(1, file.stat().st_size // 25)
        for _ in flipped(file, range(0, file.stat().st_size, step)):
            assert not opens_or_says_why(copied, [])
    assert opens_or_says_why(copied, questions(whole))


def test_open_bulk_arrays_with_flipped_bits_answers_all_the_same(
    copied: Path, whole: Synthetic
) -> None:
    rng = np.random.default_rng(1)
    for file in sorted((copied / INDEX_FOLDER / SEGMENTS_FOLDER).rglob("*.raw")):
        offsets = [0, file.stat().st_size - 1, *rng.integers(0, file.stat().st_size, 4)]
        for _ in flipped(file, map(int, offsets)):
            assert opens_or_says_why(copied, questions(whole))


@pytest.mark.parametrize("value", [0x00, 0xFF, 0x7F, 0x80])
def test_open_bulk_arrays_overwritten_answers_all_the_same(
    copied: Path, whole: Synthetic, value: int
) -> None:
    """NaN, infinities, negative lengths, ids that are nobody's."""
    for file in sorted((copied / INDEX_FOLDER / SEGMENTS_FOLDER).rglob("*.raw")):
        content = file.read_bytes()
        file.write_bytes(bytes([value]) * len(content))
        assert opens_or_says_why(copied, questions(whole))
        file.write_bytes(content)


def test_open_with_any_file_missing_is_refused(copied: Path, whole: Synthetic) -> None:
    index = copied / INDEX_FOLDER
    current = index / (index / CURRENT_FILE).read_text()
    needed = [*current.iterdir(), *(index / SEGMENTS_FOLDER).rglob("*.raw")]
    for file in needed:
        content = file.read_bytes()
        file.unlink()
        answers = opens_or_says_why(copied, questions(whole))
        file.write_bytes(content)
        in_use = file.parent == current or (current / f"alive-{file.parent.name}.raw").exists()
        assert answers is not in_use


def test_verify_finds_an_index_that_has_not_the_windows_of_its_parts(
    copied: Path, run: Run
) -> None:
    """As a build might have written it, with digests that fit; the next would believe it."""
    generation = Generation.current(Store.open(copied))
    file = alive_file(generation.path, generation.segments[0].name)
    alive = np.unpackbits(np.fromfile(file, np.uint8))
    alive[np.flatnonzero(alive)[0]] = 0
    file.write_bytes(np.packbits(alive).tobytes())
    files = {**generation.manifest.files, **describe_files([file])}
    replace(generation.manifest, files=files).write(generation.path / GENERATION_FILE)
    told = run("verify", copied, code=1)
    fault("P2b").require(told.code, told.out)
    assert told.out.count("not in it") == 1
    build(Store.open(copied), anew=True)
    assert not verify(copied)
