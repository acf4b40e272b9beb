"""Shelves: what is written together lies together where it is alike; nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from listener import Listener
from oracle import Array
from synthetic import make_store

from indexer.errors import StoreError
from indexer.progress import ignore
from search.generation.segments import SEGMENT_ARRAYS, SEGMENTS_FOLDER, Generation
from search.generation.sorting import sort_rows
from search.generation.writing import Columns
from search.nearest.cells import find_cells
from search.upkeep.build import build
from search.upkeep.reuse import reuse


def columns_of(rng: np.random.Generator, number: int) -> Columns:
    """Rows with anything in them."""
    return {
        name: np.frombuffer(rng.bytes(number * np.dtype((dtype, shape)).itemsize), dtype).reshape(
            number, *shape
        )
        for name, (dtype, shape) in SEGMENT_ARRAYS.items()
    }


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.lists(st.integers(1, 40), max_size=5),
    num_cells=st.integers(1, 12),
    block_rows=st.integers(1, 50),
)
def test_rows_are_sorted_by_cell_and_stay_as_they_are(
    tmp_path: Path, seed: int, sizes: list[int], num_cells: int, block_rows: int
) -> None:
    rng = np.random.default_rng(seed)
    blocks = [columns_of(rng, size) for size in sizes]
    cells = [rng.integers(-1, num_cells, size) for size in sizes]
    left = iter(cells)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.generation.sorting._BLOCK_ROWS", block_rows)
        found = list(sort_rows(tmp_path, blocks, sum(sizes), lambda *_: next(left), ignore))
    order = np.argsort(np.concatenate([np.empty(0, int), *cells]), kind="stable")
    for name, (dtype, shape) in SEGMENT_ARRAYS.items():
        none = np.empty((0, *shape), dtype)
        expected = np.concatenate([none, *(one[name] for one in blocks)])[order]
        assert np.concatenate([none, *(one[name] for one in found)]).tobytes() == expected.tobytes()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("num_taken", [0, 1, 3])
def test_nothing_stays_on_disk_of_rows_that_nobody_takes_any_more(
    tmp_path: Path, num_taken: int
) -> None:
    def rows() -> Iterator[Columns]:
        for _ in range(4):
            yield columns_of(np.random.default_rng(1), 5)

    def locate(vectors: Array, _: Array) -> Array:
        return np.arange(len(vectors))

    heard = Listener()
    given = sort_rows(tmp_path, rows(), 20, locate, heard)
    for _ in range(num_taken):
        next(given)
    assert [one.done for one in heard.steps] == ([5, 10, 15, 20] if num_taken else [])
    assert len(list(tmp_path.iterdir())) == (num_taken > 0)
    given.close()
    assert not list(tmp_path.iterdir())


def test_rows_that_cannot_be_read_leave_nothing_on_disk(tmp_path: Path) -> None:
    def rows() -> Iterator[Columns]:
        yield columns_of(np.random.default_rng(1), 5)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(sort_rows(tmp_path, rows(), 10, lambda vectors, _: np.zeros(len(vectors)), ignore))
    assert not list(tmp_path.iterdir())


def test_file_that_cannot_be_read_does_not_end_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that follows would be lost, and nobody would know."""
    opened = Path.open

    class Broken(FileIO):
        def read(self, *_: Any) -> bytes:
            raise OSError(5, "Input/output error")

    def broken(path: Path, mode: str = "r", *words: Any, **named: Any) -> Any:
        return Broken(path) if mode == "rb" else opened(path, mode, *words, **named)

    monkeypatch.setattr(Path, "open", broken)
    blocks = [columns_of(np.random.default_rng(1), 5)]
    with pytest.raises(OSError, match="Input/output error"):
        list(sort_rows(tmp_path, blocks, 5, lambda vectors, _: np.zeros(len(vectors), int), ignore))


def four_kinds(num_rows: int) -> tuple[Array, Array]:
    """(num_rows, 768) float32 of four kinds, far from each other, in any order; and these."""
    rng = np.random.default_rng(3)
    kinds = rng.integers(0, 4, num_rows)
    scenes = 5 * np.eye(4, 768)[kinds] + rng.normal(0, 0.02, (num_rows, 768))
    return scenes.astype(np.float32), kinds


def kinds_in(generation: Generation) -> list[float]:
    """In each segment, the share of the kind that is most frequent there."""
    shares = []
    for segment in generation.segments:
        kinds = segment.vectors[:, :4].argmax(1)
        shares.append(np.bincount(kinds).max() / len(kinds))
    return shares


def test_segments_that_are_written_together_hold_what_is_alike(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    scenes, _ = four_kinds(800)
    made.add({f"a{number}": 10 for number in range(40)}, scene=scenes[:400])
    first = build(made.store, max_segment_rows=100)
    assert len(first.segments) == 4
    assert np.mean(kinds_in(first)) > 0.8
    made.add({f"b{number}": 10 for number in range(40)}, scene=scenes[400:])
    second = build(made.store, max_segment_rows=100)
    assert len(second.segments) == 8
    assert np.mean(kinds_in(second)) > 0.8
    ids = second.window_ids(second.live_rows())
    assert sorted(ids.tolist()) == sorted(one.window_id for one in made.windows)


def test_cells_are_found_whatever_is_damaged(tmp_path: Path) -> None:
    """Rows that are not numbers come first, those without tags where their scenes are."""
    made = make_store(tmp_path / "store", frames="none")
    scenes, _ = four_kinds(300)
    scenes[::7] = np.nan
    made.add({f"a{number}": 10 for number in range(30)}, scene=scenes)
    generation = build(made.store, max_segment_rows=100)
    is_damaged = np.isnan(generation.vectors(generation.live_rows())).any(1)
    assert is_damaged.sum() == len(scenes[::7])
    nothing = np.full((50, 768), np.nan, np.float32), np.zeros((50, 527), np.float16)
    assert find_cells(*nothing, 4, ignore) is None
    made.add({f"b{number}": 10 for number in range(30)}, scene=np.full_like(scenes, np.nan))
    assert build(made.store, max_segment_rows=100, anew=True).num_windows == 600


def test_sample_is_of_rows_that_are_written(tmp_path: Path) -> None:
    """Of those that are copied and of new ones, of each as many as there are."""
    made = make_store(tmp_path / "store", frames="none")
    made.add({f"a{number}": 100 for number in range(30)})
    first = build(made.store)
    made.remove("a3.wav")
    made.add({f"b{number}": 100 for number in range(30)}, seed=2)
    plan = reuse(made.store, made.store.parts(), first)
    assert (len(plan.copied), plan.num_written) == (1, 5900)
    written = np.concatenate([one["window_id"] for one in plan.rows()])
    for number in (2000, 10**6):
        drawn = np.concatenate([one["window_id"] for one in plan.sample(number)])
        assert len(np.unique(drawn)) == len(drawn)
        assert np.isin(drawn, written).all()
        assert abs(len(drawn) - min(number, 5900)) < 700
        of_first = np.isin(drawn, first.window_ids(first.live_rows()))
        assert 0.2 < of_first.mean() < 0.8


def test_sample_is_from_everywhere_in_a_segment(tmp_path: Path) -> None:
    """Rows that lie together there are alike: some hundred places would say little of all."""
    made = make_store(tmp_path / "store", frames="none")
    made.add({f"a{number}": 100 for number in range(30)})
    first = build(made.store)
    made.add({f"b{number}": 100 for number in range(30)}, seed=2)
    plan = reuse(made.store, made.store.parts(), first)
    drawn = np.concatenate([one["window_id"] for one in plan.sample(1000)])
    rows = first.segments[0].find(drawn)
    places = np.bincount(rows[rows >= 0] // 50, minlength=60)
    assert places.all()
    assert places.max() < 25


def test_disk_that_is_full_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add({"a": 30})
    is_open = Path.open

    def full(path: Path, mode: str = "r", *words: Any, **named: Any) -> Any:
        if mode == "ab":
            raise OSError(28, "No space left on device")
        return is_open(path, mode, *words, **named)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(StoreError, match=r"cannot write .*No space left"):
        build(made.store, max_segment_rows=10)
    assert not list((made.store.path / "index" / SEGMENTS_FOLDER).iterdir())


def test_rows_in_between_are_deleted_while_the_error_is_still_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fill the disk on which segments have no room; who asked for the build may go on."""
    made = make_store(tmp_path / "store", frames="none")
    made.add({"a": 30})
    folder = made.store.path / "index" / SEGMENTS_FOLDER

    def full(*_: Any) -> None:
        assert any(path.name.isdigit() for path in folder.glob("*/*"))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("search.generation.writing._write", full)
    with pytest.raises(StoreError, match="No space left") as held:
        build(made.store, max_segment_rows=10)
    assert held.value.__traceback__
    assert not list(folder.iterdir())
