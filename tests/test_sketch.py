"""Inverted lists against products of the vectors, and the selector held to its word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Array

from indexer.errors import DamagedStoreError
from search.generation.manifest import KINDS, Kind
from search.generation.writing import normalise
from search.nearest.lists import (
    ListFiles,
    SegmentLists,
    Trained,
    num_lists_for,
    pack,
    write_lists,
)

NUM_ROWS, NUM_LISTS = 1500, 12


def ignore_rows(_: int) -> None:
    pass


def clustered(seed: int, num_rows: int) -> Array:
    """Vectors of length 1 around 20 centres."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(0, 1, (20, 768))
    noise = rng.normal(0, 0.5, (num_rows, 768))
    return normalise((centres[rng.integers(0, 20, num_rows)] + noise).astype(np.float32))


@pytest.fixture(scope="module", params=KINDS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Trained, SegmentLists, Array]:
    """Trained, written, and read again."""
    folder, vectors = tmp_path_factory.mktemp("lists"), clustered(1, NUM_ROWS)
    Trained.train(vectors, request.param, NUM_LISTS).write(folder / "trained")
    trained = Trained.open(folder / "trained", request.param)
    files = ListFiles.of(folder, "a")
    write_lists(trained, vectors, files, ignore_rows)
    return trained, SegmentLists(trained, files, NUM_ROWS), vectors


@pytest.mark.whole
def test_trained_survives_its_file(
    made: tuple[Trained, SegmentLists, Array], tmp_path: Path
) -> None:
    trained, _, vectors = made
    trained.write(tmp_path / "again")
    again = Trained.open(tmp_path / "again", trained.kind)
    assert (again.kind, again.num_lists, again.code_bytes) == (
        trained.kind,
        NUM_LISTS,
        {"sq8": 768, "pq": 96}[trained.kind],
    )
    for one, other in zip(trained.encode(vectors), again.encode(vectors), strict=True):
        assert (one == other).all()


def test_nearest_list_of_a_row_is_its_own(
    made: tuple[Trained, SegmentLists, Array],
) -> None:
    """A row is in the list that is nearest to it: one list visited finds it, by its own vector."""
    trained, lists, vectors = made
    probes = trained.nearest(vectors[:200], 1)
    assert (probes.lists[:, 0] == trained.encode(vectors[:200])[0]).all()
    scores, rows = lists.search(vectors[:200], probes, 40, None)
    assert (rows == np.arange(200)[:, None]).any(1).all()
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("num_queries", [1, 7])
def test_lists_after_the_first_are_all_others_in_order(
    made: tuple[Trained, SegmentLists, Array], num_queries: int
) -> None:
    trained, _, _ = made
    queries = clustered(8, num_queries)
    expected = trained.nearest(queries, NUM_LISTS)
    for num_first in (1, 5, NUM_LISTS):
        probes = trained.all_after(queries, trained.nearest(queries, num_first))
        assert (probes.lists == expected.lists).all()
        assert np.abs(probes.scores - expected.scores).max() < 1e-6


def test_all_lists_hold_every_row_once(made: tuple[Trained, SegmentLists, Array]) -> None:
    trained, lists, vectors = made
    probes = trained.nearest(vectors[:2], NUM_LISTS)
    _, rows = lists.search(vectors[:2], probes, NUM_ROWS, None)
    assert (np.sort(rows, axis=1) == np.arange(NUM_ROWS)).all()


def test_scores_of_codes_are_close_to_the_products(
    made: tuple[Trained, SegmentLists, Array],
) -> None:
    trained, lists, vectors = made
    scores, rows = lists.search(vectors[:20], trained.nearest(vectors[:20], 12), 50, None)
    exact = np.take_along_axis(vectors[:20] @ vectors.T, rows, 1)
    assert np.abs(scores - exact).max() < {"sq8": 0.02, "pq": 0.6}[trained.kind]


@pytest.mark.whole
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.0, 0.001, 0.01, 0.3, 0.99]),
    effort=st.integers(1, NUM_LISTS),
    num_queries=st.integers(1, 3),
    k=st.integers(1, 60),
)
def test_selector_is_honoured_by_every_kind(
    made: tuple[Trained, SegmentLists, Array],
    seed: int,
    share: float,
    effort: int,
    num_queries: int,
    k: int,
) -> None:
    """Of the lists visited: all that is allowed, as far as there is room, and nothing else."""
    trained, lists, vectors = made
    rng = np.random.default_rng(seed)
    allowed = rng.random(NUM_ROWS) < share
    queries = clustered(seed, num_queries)
    probes = trained.nearest(queries, effort)
    _, rows = lists.search(queries, probes, k, pack(allowed))
    list_of = trained.encode(vectors)[0]
    for found, visited in zip(rows, probes.lists, strict=True):
        there = np.flatnonzero(allowed & np.isin(list_of, visited))
        found = found[found >= 0]
        assert np.isin(found, there).all()
        assert len(np.unique(found)) == len(found) == min(k, len(there))


def test_rows_that_are_not_numbers_are_never_found(tmp_path: Path) -> None:
    vectors = clustered(1, 600)
    vectors[[3, 77], 5] = np.nan
    trained = Trained.train(clustered(2, 600), "sq8", 4)
    files = ListFiles.of(tmp_path, "a")
    write_lists(trained, vectors, files, ignore_rows)
    queries = clustered(4, 3)
    probes = trained.nearest(queries, 4)
    _, rows = SegmentLists(trained, files, 600).search(queries, probes, 500, None)
    assert len(np.unique(rows[0])) >= 499


def test_lists_in_a_folder_whose_name_is_not_utf8_open(tmp_path: Path) -> None:
    folder = tmp_path / "caf\udce9"
    folder.mkdir()
    vectors = clustered(1, 300)
    trained = Trained.train(vectors, "sq8", 4)
    write_lists(trained, vectors, ListFiles.of(folder, "a"), ignore_rows)
    lists = SegmentLists(trained, ListFiles.of(folder, "a"), 300)
    _, rows = lists.search(vectors[:5], trained.nearest(vectors[:5], 4), 1, None)
    assert rows[:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("which", ["codes", "sizes"])
@pytest.mark.parametrize("change", ["missing", "short", "long"])
def test_lists_of_another_size_are_damage(tmp_path: Path, which: str, change: str) -> None:
    vectors = clustered(1, 300)
    trained = Trained.train(vectors, "sq8", 4)
    files = ListFiles.of(tmp_path, "a")
    write_lists(trained, vectors, files, ignore_rows)
    path = getattr(files, which)
    content = path.read_bytes()
    path.unlink()
    if change != "missing":
        path.write_bytes(content[:-8] if change == "short" else content + bytes(8))
    with pytest.raises(DamagedStoreError):
        SegmentLists(trained, files, 300)


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bytes_of_lists_change_no_more_than_the_answer(tmp_path: Path, kind: Kind) -> None:
    """Nobody checks these files when they are opened: any content must be survived."""
    rng = np.random.default_rng(6)
    vectors = clustered(1, 600)
    trained = Trained.train(vectors, kind, 8)
    files = ListFiles.of(tmp_path, "a")
    write_lists(trained, vectors, files, ignore_rows)
    content = bytearray(files.codes.read_bytes())
    queries, allowed = clustered(3, 4), rng.random(600) < 0.5
    probes = trained.nearest(queries, 8)
    for _ in range(20):
        for at in rng.integers(0, len(content), 2000):
            content[at] = rng.integers(0, 256)
        files.codes.write_bytes(content)
        for mask in (None, allowed):
            bits = None if mask is None else pack(mask)
            _, rows = SegmentLists(trained, files, 600).search(queries, probes, 30, bits)
            assert (rows < 600).all()
            assert mask is None or mask[rows[rows >= 0]].all()


@pytest.mark.parametrize(
    ("num_rows", "expected"), [(1, 2), (50_000, 447), (1_000_000, 2000), (10_000_000, 6325)]
)
def test_number_of_lists_grows_with_the_root(num_rows: int, expected: int) -> None:
    assert num_lists_for(num_rows) == expected
