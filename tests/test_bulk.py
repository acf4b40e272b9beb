"""Many questions by PyTorch, here on the CPU: the rows and the very bits that NumPy finds."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import REPOSITORY
from rows_in_memory import generation, random_rows, segment
from synthetic import make_store

import soundalike
from indexer.arrays import Float32, Integers, Mask
from indexer.errors import SoundalikeWarning
from indexer.progress import ignore
from search.generation.allowed import Allowed
from search.generation.manifest import Effort, Measured
from search.generation.segments import Generation
from search.nearest import bulk, gpu
from search.nearest.blend import blended
from search.nearest.bulk import DeviceRows, open_rows
from search.nearest.index import VectorIndex
from search.nearest.plan import EXACT, Plan
from search.nearest.sketch import Sketch
from search.nearest.sketching import make_sketch
from search.upkeep.build import build

CPU = torch.device("cpu")
SIZES = (300, 0, 1, 500)


def made(*, is_damaged: bool = False) -> Generation:
    """Segments of several sizes, with crowds of equal rows, zeros and dead ones among them."""
    rng, segments = np.random.default_rng(1), []
    crowd, its_tags = random_rows(rng, 1)
    for number, size in enumerate(SIZES):
        vectors, tags = random_rows(rng, size)
        is_crowd = rng.random(size) < 0.2
        vectors[is_crowd], tags[is_crowd] = crowd, its_tags
        vectors[rng.random(size) < 0.02] = 0
        tags[rng.random(size) < 0.02] = 0
        if is_damaged:
            vectors[rng.random(size) < 0.1, 5] = np.nan
            tags[rng.random(size) < 0.1, 3] = np.nan
            tags[rng.random(size) < 0.1, 4] = -1
        ids = rng.permutation(10**6)[:size] + number * 10**6
        segments.append(segment(number, vectors, tags, ids, rng.random(size) < 0.8))
    return generation(*segments)


def asked(rows: Generation, weight: float | None, number: int = 12) -> Float32:
    """Vectors near to some rows, and one that is in the crowd."""
    rng = np.random.default_rng(2)
    _, counts = np.unique(rows.segments[0].vectors[:, 0], return_counts=True)
    values = rows.segments[0].vectors[:, 0]
    crowd = np.flatnonzero(values == np.unique(values)[counts.argmax()])[0]
    at = np.append(rng.integers(0, sum(SIZES), number - 1), crowd)
    scenes = np.nan_to_num(rows.vectors(at)) + rng.normal(0, 0.02, (number, 768))
    scenes[-1] = rows.vectors(at[-1:])
    scenes = (scenes / np.linalg.norm(scenes, axis=1, keepdims=True)).astype(np.float32)
    return (
        scenes if weight is None else blended(scenes, np.abs(np.nan_to_num(rows.tags(at))), weight)
    )


def begin_at_once(monkeypatch: pytest.MonkeyPatch) -> list[Generation]:
    """Make it a machine on which a GPU is always worth it: the CPU stands for it.

    Returns:
        What it has begun with, later on.
    """
    begun: list[Generation] = []

    def begin(rows: Generation) -> DeviceRows:
        begun.append(rows)
        return DeviceRows(rows, CPU)

    monkeypatch.setattr(gpu, "has_gpu", lambda: True)
    monkeypatch.setattr(gpu, "START_S", -1.0)
    monkeypatch.setattr(bulk, "open_rows", begin)
    return begun


@pytest.fixture(params=["streamed", "kept"])
def room(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the device has room for the rows."""
    room_bytes = 10**9 if request.param == "kept" else 0
    monkeypatch.setattr(bulk, "room_bytes", lambda device: room_bytes)
    return str(request.param)


def by_numpy(rows: Generation, *words: Any, **named: Any) -> tuple[list[bytes], Any]:
    """Return the bits of exact scores, and the rows."""
    index = VectorIndex(rows)
    index.gpu = gpu.Gpu(rows, is_there=False)
    return bits(index.search_many(*words, exact=True, **named))


def by_device(rows: Generation) -> VectorIndex:
    """Return an index that a device answers for, be it quicker or not."""
    index = VectorIndex(rows)
    index.gpu = gpu.Gpu(rows, DeviceRows(rows, CPU))
    assert index.gpu.takes(EXACT, (1, 768), 1, 1)
    return index


def bits(answer: tuple[Float32, Integers]) -> tuple[list[bytes], Any]:
    return [line.tobytes() for line in answer[0]], answer[1].tolist()


@pytest.mark.whole
@pytest.mark.parametrize("weight", [None, 0.0, 0.35, 0.9])
@pytest.mark.parametrize("is_damaged", [False, True])
def test_answers_are_those_of_numpy_to_the_bit(
    room: str, weight: float | None, is_damaged: bool
) -> None:
    rows = made(is_damaged=is_damaged)
    index, vectors = by_device(rows), asked(rows, weight)
    rng = np.random.default_rng(3)
    masks: list[Mask] = [one.alive & (rng.random(len(one)) < 0.3) for one in rows.segments]
    few: list[Mask] = [one.alive & (rng.random(len(one)) < 0.01) for one in rows.segments]
    none = [np.zeros(len(one), bool) for one in rows.segments]
    leasts = (None,) if weight is None else (None, 0.3, 0.95)
    for allowed in (None, *map(Allowed.of, (masks, few, none))):
        for k in (1, 10, 2000):
            for least in leasts:
                found = index.search_many(vectors, k, allowed, exact=True, least=least)
                assert bits(found) == by_numpy(rows, vectors, k, allowed, least=least)


def test_proposed_are_all_that_may_be_best_and_no_more(room: str) -> None:
    rows = made(is_damaged=True)
    vectors = asked(rows, 0.35)
    masks = [one.alive for one in rows.segments]
    with np.errstate(invalid="ignore"):
        stored = rows.vectors(np.arange(sum(SIZES))), rows.tags(np.arange(sum(SIZES)))
        roots = np.sqrt(stored[1].astype(np.float64))
        roots /= np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-30)
        true = np.concatenate([stored[0], roots], axis=1) @ vectors.T.astype(np.float64)
    true[~np.concatenate(masks) | np.isnan(true).any(1)] = -np.inf
    device_rows = DeviceRows(rows, CPU)
    for k in (1, 10, 300):
        answer = device_rows.find_near_each(vectors, k, masks)
        assert answer
        found, is_open = answer
        for line, column, may_be_more in zip(found, true.T, is_open, strict=True):
            kth = np.sort(column)[-k]
            proposed = set(line[line >= 0].tolist())
            assert len(proposed) == (line >= 0).sum()
            best = set(np.flatnonzero(column > kth).tolist())
            assert best <= proposed
            assert may_be_more or set(np.flatnonzero(column >= kth).tolist()) <= proposed
            assert column[list(proposed)].min() > kth - 4e-4
        assert is_open[-1] == (k < 100)  # it is in a crowd of some 130
        assert not is_open[:-1].all()


@pytest.mark.parametrize("block_rows", [1, 7, 64])
def test_blocks_of_any_size_find_the_same(
    room: str, monkeypatch: pytest.MonkeyPatch, block_rows: int
) -> None:
    rows = made()
    vectors = asked(rows, 0.35, number=5)
    monkeypatch.setattr(bulk, "BLOCK_ROWS", block_rows)
    monkeypatch.setattr(bulk, "LEAST_ROWS", 1)
    found = by_device(rows).search_many(vectors, 10, exact=True)
    assert bits(found) == by_numpy(rows, vectors, 10)


def test_no_questions_or_no_rows_are_no_answers() -> None:
    none = np.empty((0, 1295), np.float32)
    scores, found = by_device(made()).search_many(none, 3, exact=True)
    assert scores.shape == found.shape == (0, 3)
    answer = DeviceRows(generation(), CPU).find_near_each(np.eye(2, 768, dtype=np.float32), 3, [])
    assert answer
    assert answer[0].shape == (2, 0)
    assert answer[1].tolist() == [False, False]


# --- what a device may do ------------------------------------------------------------------------


@pytest.mark.parametrize("most", [300, 100, 1])
def test_device_without_memory_is_asked_for_less_and_then_the_cpu(
    room: str, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A CPU would take the machine's memory: so products of more than some rows are refused."""
    rows = made()
    vectors = asked(rows, 0.35)
    expected = by_numpy(rows, vectors, 10)
    sizes: list[int] = []
    multiply = DeviceRows._multiply

    def refuse(self: DeviceRows, *words: Any) -> torch.Tensor:
        sizes.append(len(words[-1]))
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("no more")
        return multiply(self, *words)

    monkeypatch.setattr(DeviceRows, "_multiply", refuse)
    monkeypatch.setattr(bulk, "BLOCK_ROWS", 512)
    monkeypatch.setattr(bulk, "LEAST_ROWS", 64)
    index = by_device(rows)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            assert bits(index.search_many(vectors, 10, exact=True)) == expected
    if most > 1:
        assert not told
        assert sizes[-1] <= most
    else:  # told once, and not asked again
        (one,) = told
        assert isinstance(one.message, SoundalikeWarning)
        assert "its memory is full. The CPU does so instead" in str(one.message)
        assert max(sizes[-2:]) <= 128


def test_device_that_fails_is_told_of_and_the_cpu_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = made()
    vectors = asked(rows, None)

    def fail(*_: Any) -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access\nand more")

    monkeypatch.setattr(DeviceRows, "_multiply", fail)
    with pytest.warns(SoundalikeWarning, match="CUDA error: an illegal memory access. The CPU"):
        found = by_device(rows).search_many(vectors, 10, exact=True)
    assert bits(found) == by_numpy(rows, vectors, 10)


def test_products_are_of_true_float32_and_the_setting_comes_back(
    rounded: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    matmul, seen = torch.backends.cuda.matmul, []
    multiply = DeviceRows._multiply

    def look(self: DeviceRows, *words: Any) -> torch.Tensor:
        seen.append(matmul.fp32_precision)
        return multiply(self, *words)

    monkeypatch.setattr(DeviceRows, "_multiply", look)
    rows = made()
    masks: Sequence[Mask] = [one.alive for one in rows.segments]
    assert DeviceRows(rows, CPU).find_near_each(asked(rows, None), 3, masks)
    assert set(seen) == {"ieee"}
    assert matmul.fp32_precision == "tf32"


def test_open_rows_without_a_gpu_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "choose_device", lambda asked: CPU)
    assert open_rows(made()) is None


# --- when it is quicker --------------------------------------------------------------------------


def test_gpu_begins_when_what_it_saves_repays_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = begin_at_once(monkeypatch)
    monkeypatch.setattr(gpu, "START_S", 10.0)
    monkeypatch.setattr(gpu, "num_cores", lambda: 4)
    rows, sketches = made(), Plan("sketches", 25_000, 60)
    one = gpu.Gpu(rows)
    taken = [one.takes(EXACT, (1024, 1295), 10, 10**6) for _ in range(10)]
    # The CPU takes 8.3 s for a block and the GPU a quarter: two repay 10 s and 1 s of copying.
    assert taken == [False] + [True] * 9
    assert begun == [rows]
    assert not gpu.Gpu(rows).takes(sketches, (1024, 1295), 10, 10**6)
    assert gpu.Gpu(rows).takes(sketches, (100_000, 1295), 10, 10**6)
    # Of more rows, sketches look at no more: no number of questions makes the GPU quicker.
    assert not gpu.Gpu(rows).takes(sketches, (10**9, 1295), 10, 10**7)
    assert len(begun) == 2


def test_gpu_that_is_not_there_is_looked_for_once_and_imports_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[None] = []

    def look() -> bool:
        looked.append(None)
        return False

    monkeypatch.setattr(gpu, "has_gpu", look)
    monkeypatch.setattr(bulk, "open_rows", lambda rows: pytest.fail("there is none"))
    one = gpu.Gpu(made())
    assert not any(one.takes(EXACT, (10**6, 1295), 10, 10**6) for _ in range(5))
    assert len(looked) == 1


def test_gpu_answers_exactly_what_sketches_would_have_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, tags = random_rows(np.random.default_rng(4), 3000)
    vectors[:200], tags[:200] = vectors[0], tags[0]  # a crowd
    entry, order = make_sketch(tmp_path, vectors, tags, ignore, [])
    assert entry
    one = segment(0, vectors[order], tags[order])
    one = replace(one, path=tmp_path)
    rows = generation(one)
    effort = Effort(0.9, 3000, (Measured(1.0, 0.0, 50, 0.0, 0.0, 12, 0.5, 1.0),))
    others, their_tags = random_rows(np.random.default_rng(5), 30)
    asked = blended(np.append(others, vectors[:1], 0), np.append(their_tags, tags[:1], 0), 0.35)

    def answer(*, exact: bool = False, least: float | None = None) -> tuple[Any, Any]:
        index = VectorIndex(rows, effort, [Sketch(tmp_path, entry, 3000)])
        scores, found = index.search_many(asked, 5, exact=exact, least=least)
        return scores.tolist(), found.tolist()

    expected, by_sketches = answer(exact=True), answer(least=0.2)
    assert answer() != expected  # they overlook some of what has no structure
    begin_at_once(monkeypatch)
    assert answer(least=0.2) == by_sketches
    monkeypatch.setattr(VectorIndex, "search", lambda *_: pytest.fail("the CPU looks at all rows"))
    scores, found = answer()
    assert scores == expected[0]
    assert found[:-1] == expected[1][:-1]
    assert len(set(found[-1])) == 5  # any of the crowd


@pytest.mark.whole
def test_batch_and_duplicates_by_a_gpu_are_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(6)
    made = make_store(tmp_path / "store", frames="none")
    scene = rng.normal(0, 1, (400, 768))
    scene[200:240] = scene[:40] + rng.normal(0, 0.01, (40, 768))
    recordings = {f"r{number}": 4 for number in range(100)}
    made.add(recordings, scene=scene.astype(np.float32), levels_db=np.zeros(400, np.float32))
    build(made.store, max_segment_rows=150)

    def answer(name: str) -> tuple[list[dict[str, Any]], Any]:
        sounds = soundalike.open(made.store.path)
        sounds.search_many([made.store.path], tmp_path / name, k=5, group_by="file")
        return pq.read_table(tmp_path / name).to_pylist(), sounds.duplicates()

    expected = answer("cpu.parquet")
    assert len(expected[0]) == 400 * 5
    assert len(expected[1].groups) == 10
    begun = begin_at_once(monkeypatch)
    assert answer("gpu.parquet") == expected
    assert len(begun) == 1  # one store, kept open for both


@pytest.mark.whole
def test_search_many_where_there_is_no_gpu_does_without_pytorch() -> None:
    code = """
import sys
import numpy as np
from rows_in_memory import generation, random_rows, segment
from search.nearest import gpu
from search.nearest.index import VectorIndex
gpu.START_S = -1.0  # it would be worth it at once
vectors, tags = random_rows(np.random.default_rng(0), 3000)
rows = VectorIndex(generation(segment(0, vectors, tags))).search_many(vectors[:50], 1)[1]
print((rows[:, 0] == np.arange(50)).all(), gpu.has_gpu(), "torch" in sys.modules)
"""
    told = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"}
        | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["True", "False", "False"]
