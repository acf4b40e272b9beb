"""Which segments a build sketches, what it reuses, what it mends, and what it measured."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from conftest import Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from listener import Listener
from oracle import Array, unit
from sketched import scenes_of, sketching
from synthetic import Synthetic, head, make_store

from indexer.errors import DamagedStoreError, QueryError, StoreError
from indexer.store.disk import read_sealed, seal
from search.asking.opened import OpenedStore
from search.generation.allowed import Allowed
from search.generation.manifest import GENERATION_FILE, Measured
from search.generation.mapped import array_file
from search.generation.segments import Generation
from search.nearest.blend import blended
from search.nearest.exact import multiply_all
from search.nearest.index import Neighbours, VectorIndex
from search.nearest.measure import _REACHES, _Filter, _Told, _Trials, measure_effort
from search.nearest.plan import Plan
from search.nearest.scan import MOST_KEPT, propose
from search.nearest.sketch import CHECKED, PARTS, sketch_file
from search.nearest.sketching import FAISS_FILE
from search.nearest.structure import (
    MIN_SKETCHED_ROWS,
    MOST_EXACT_ROWS,
    IndexConfig,
    open_index,
)
from search.upkeep.build import build
from search.upkeep.overview import overview
from search.upkeep.verify import verify

SEARCH = VectorIndex.search
#: Here a store of more windows has sketches, and of it the segments of so many.
MOST_EXACT, LEAST_ROWS = 500, 100


@pytest.fixture(autouse=True)
def _small(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is asked of a store of thousands of windows is asked of one of hundreds."""
    if request.node.get_closest_marker("slow"):
        yield
        return
    with sketching(least_rows=LEAST_ROWS, most_exact_rows=MOST_EXACT):
        yield


def add(store: Synthetic, prefix: str, num_rows: int, seed: int, world: int = 0) -> None:
    names = {f"{prefix}{number}": 2 for number in range(num_rows // 2)}
    store.add(names, scene=scenes_of(num_rows, seed, world))


@pytest.fixture
def store(whole: None, tmp_path: Path) -> Synthetic:
    made = make_store(tmp_path / "store", frames="none")
    add(made, "a", 600, seed=1)
    return made


def sketched(generation: Generation) -> list[int]:
    """Rows of the segments that have sketches."""
    return [entry.num_rows for entry in generation.manifest.segments if entry.sketch]


def unsketched(generation: Generation) -> list[int]:
    """Rows of those that have none."""
    return [entry.num_rows for entry in generation.manifest.segments if not entry.sketch]


def inodes(generation: Generation) -> dict[str, int]:
    """Name of each file of each segment → inode."""
    files = (file for segment in generation.segments for file in segment.path.iterdir())
    return {f"{file.parent.name}/{file.name}": file.stat().st_ino for file in files}


def file_of(segment: Path, name: str) -> Path:
    return segment / FAISS_FILE if name == "faiss" else sketch_file(segment, name)


def assert_finds_all(generation: Generation) -> None:
    """Every live row is the nearest to itself."""
    rows = generation.live_rows()
    found = open_index(generation).search_many(generation.vectors(rows), 1)[1]
    assert (found[:, 0] == rows).all()


def questions(number: int) -> Array:
    """Half of them of scenes alone: of windows that are not in the store."""
    scenes = unit(scenes_of(number, seed=77)).astype(np.float32)
    tags = head().tags(scenes).astype(np.float16)
    both = blended(scenes, tags, 0.35)
    both[::2] = blended(scenes[::2], tags[::2], 0.0)
    return both


# --- the choice ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_rows", "max_segment_rows", "with_sketch", "without"),
    [
        (MOST_EXACT, 1000, [], [500]),
        (MOST_EXACT + 2, 1000, [502], []),
        (MOST_EXACT + 2, 400, [251, 251], []),
        (MOST_EXACT + 2, 250, [168, 168, 166], []),
        (MOST_EXACT + 2, 99, [], [84] * 5 + [82]),
        (2, 1000, [], [2]),
    ],
)
def test_segments_that_are_worth_it_are_sketched_where_there_are_many_windows(
    tmp_path: Path,
    whole: None,
    num_rows: int,
    max_segment_rows: int,
    with_sketch: list[int],
    without: list[int],
) -> None:
    made = make_store(tmp_path / "store", frames="none")
    add(made, "a", num_rows, seed=1)
    generation = build(made.store, max_segment_rows=max_segment_rows)
    assert sketched(generation) == with_sketch
    assert unsketched(generation) == without
    assert generation.manifest.is_sketched == bool(with_sketch)
    assert bool(generation.manifest.effort.measured) == bool(with_sketch)
    for segment, entry in zip(generation.segments, generation.manifest.segments, strict=True):
        names = {file.name for file in segment.path.iterdir()}
        assert names == set(entry.files)
        assert (FAISS_FILE in names) == bool(entry.sketch)
    assert_finds_all(generation)


@pytest.mark.slow
def test_store_of_ten_thousand_windows_is_exact_and_of_more_is_sketched(tmp_path: Path) -> None:
    """With the numbers that users have: the first windows are sketched, later ones are not yet."""
    assert (MOST_EXACT_ROWS, MIN_SKETCHED_ROWS) == (10_000, 2_048)
    made = make_store(tmp_path / "store", frames="none")
    add(made, "a", 10_000, seed=1)
    assert unsketched(build(made.store)) == [10_000]
    add(made, "b", 2, seed=2)
    generation = build(made.store)
    assert sketched(generation) == [10_002]
    add(made, "c", 2_046, seed=3)
    generation = build(made.store)
    assert (sketched(generation), unsketched(generation)) == ([10_002], [2_046])
    assert_finds_all(generation)


@pytest.mark.parametrize("recall", [0.0, 0.4, 1.0, -1, 2])
def test_recall_that_cannot_be_is_an_error(recall: float) -> None:
    with pytest.raises(QueryError, match="recall"):
        IndexConfig(recall=recall)


def test_memory_that_is_too_little_is_an_error() -> None:
    with pytest.raises(QueryError, match=r"0\.3 GB"):
        IndexConfig(memory_bytes=1000)


def test_segments_are_as_large_as_the_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": (16 << 30) // 4096}
    monkeypatch.setattr("os.sysconf", pages.__getitem__)
    of_half = IndexConfig().max_segment_rows
    assert of_half == IndexConfig(memory_bytes=8 << 30).max_segment_rows
    stored_bytes = 768 * 4 + 527 * 2 + 600
    assert (1 << 18) < of_half < (8 << 30) // stored_bytes
    small = IndexConfig(memory_bytes=300_000_000).max_segment_rows
    assert (1 << 14) <= small < of_half
    assert small * stored_bytes < 300_000_000
    monkeypatch.delattr("os.sysconf")  # as on Windows
    assert IndexConfig().max_segment_rows >= 1 << 18


# --- growing and reuse ---------------------------------------------------------------------------


def test_store_that_outgrows_exact_answers_gets_its_segments_sketched(
    tmp_path: Path, whole: None
) -> None:
    made = make_store(tmp_path / "store", frames="none")
    add(made, "a", 400, seed=1)
    add(made, "b", 60, seed=2)
    first = build(made.store, max_segment_rows=400)
    assert (sketched(first), unsketched(first)) == ([], [230, 230])
    before = open_index(first)
    query = first.vectors(np.array([7]))
    expected = before.search(query, 10)
    add(made, "c", 200, seed=3)
    second = build(made.store, max_segment_rows=400)
    assert (sketched(second), unsketched(second)) == ([330, 330], [])
    assert_finds_all(second)
    again = open_index(Generation.open(first.path)).search(query, 10)  # it is still there
    for one in (before.search(query, 10), again):
        assert (one.rows == expected.rows).all()
        assert (one.scores == expected.scores).all()
    assert (open_index(second).search(query, 10, exact=True).scores[:5]).min() > 0


def test_new_windows_are_found_beside_those_that_are_sketched(store: Synthetic) -> None:
    """Few new ones are not worth a sketch; they are compared whole, and none is overlooked."""
    first = build(store.store)
    add(store, "b", 60, seed=2)
    second = build(store.store)
    assert (sketched(second), unsketched(second)) == ([600], [60])
    assert inodes(first).items() < inodes(second).items()
    assert_finds_all(second)
    index = open_index(second)
    stored = second.vectors(np.arange(660))
    for row in range(600, 660, 7):
        answer = index.search(stored[row : row + 1], 10)
        assert not answer.plan.is_exact
        best = np.argsort(-(stored @ stored[row]))[:10]
        assert set(best[best >= 600]) <= set(answer.rows.tolist())


def test_many_questions_find_scenes_that_are_alike_where_no_sketch_is(store: Synthetic) -> None:
    """By the blend, 40 windows without sketches are nearer that are too little alike by scene."""
    build(store.store)
    rng = np.random.default_rng(3)
    scene = unit(rng.normal(0, 1, (1, 768)))
    others = rng.normal(0, 1, (80, 768))
    others = unit(others - others @ scene.T * scene)
    cosines = np.concatenate([np.linspace(0.45, 0.55, 40), np.linspace(0.7, 0.8, 40)])[:, None]
    tags = np.zeros((80, 527), np.float16)
    tags[:40, 3] = tags[40:, 9] = 1
    scenes = cosines * scene + np.sqrt(1 - cosines**2) * others
    store.add({f"b{number}": 2 for number in range(40)}, scene=scenes.astype(np.float32), tags=tags)
    generation = build(store.store)
    assert (sketched(generation), unsketched(generation)) == ([600], [80])
    index = open_index(generation)
    asked = blended(scene.astype(np.float32), tags[:1], 0.35)
    for exact in (False, True):
        alone = index.search(asked, 10, exact=exact, least=0.6)
        assert alone.plan.is_exact == exact
        scores, rows = index.search_many(asked, 10, exact=exact, least=0.6)
        assert rows.tolist() == [alone.rows.tolist()]
        assert scores.tolist() == [alone.scores.tolist()]
        known = {one.window_id: at for at, one in enumerate(store.windows)}
        at = [known[one] for one in generation.window_ids(rows[0]).tolist()]
        assert at == list(range(679, 669, -1))


def test_build_of_nothing_new_changes_nothing(store: Synthetic) -> None:
    first = build(store.store)
    assert build(store.store).path == first.path
    assert build(store.store, config=IndexConfig(recall=0.9)).path != first.path


def test_another_recall_is_measured_and_no_segment_written_anew(store: Synthetic) -> None:
    first = build(store.store)
    second = build(store.store, config=IndexConfig(recall=0.9))
    assert second.manifest.effort.target == 0.9
    assert inodes(second) == inodes(first)


def test_build_sketches_new_segments_and_shares_the_others(store: Synthetic) -> None:
    heard = Listener()
    first = build(store.store)
    add(store, "b", 200, seed=2)
    second = build(store.store, listen=heard)
    assert sketched(second) == [600, 200]
    assert inodes(first).items() < inodes(second).items()
    assert heard.sentences == []
    assert_finds_all(second)


def test_build_keeps_what_was_measured_until_the_store_has_changed_enough(
    store: Synthetic,
) -> None:
    first = build(store.store)
    add(store, "b", 100, seed=2)
    second = build(store.store)
    assert second.manifest.effort == first.manifest.effort
    add(store, "c", 100, seed=3)
    third = build(store.store)
    assert third.manifest.effort.num_rows == 800


def test_store_that_shrinks_is_searched_exactly(store: Synthetic) -> None:
    build(store.store)
    store.remove(*[f"a{number}.wav" for number in range(100)])
    generation = build(store.store)
    assert generation.num_windows == 400
    assert sketched(generation) == [600]  # nothing was written anew, and it may grow again
    assert not generation.manifest.is_sketched
    assert_finds_all(generation)
    stored = generation.vectors(generation.live_rows())
    index = open_index(generation)
    for row in range(0, 400, 23):
        answer = index.search(stored[row : row + 1], 10)
        assert answer.plan.is_exact
        best = np.sort(stored @ stored[row])[::-1][:10]
        assert answer.scores == pytest.approx(best, abs=1e-6)
    add(store, "b", 110, seed=2)
    assert build(store.store).manifest.is_sketched


def test_build_removes_segments_that_no_generation_needs(store: Synthetic) -> None:
    first = build(store.store)
    for number in range(3):
        add(store, f"b{number}-", 700 << number, seed=number)  # more than there was: all is merged
        last = build(store.store)
    index = last.path.parent
    named = set()
    for generation in index.glob("0*"):
        for entry in read_sealed(generation / GENERATION_FILE)["segments"]:
            named |= {(entry["name"], name) for name in entry["files"]}
    files = (index / "segments").glob("*/*")
    assert {(file.parent.name, file.name) for file in files} == named
    assert not first.path.exists()


def test_reader_of_the_previous_generation_is_not_disturbed(store: Synthetic) -> None:
    first = build(store.store)
    index = open_index(first)
    vectors = first.vectors(np.arange(50))
    before = index.search_many(vectors, 5)
    add(store, "b", 2000, seed=2)
    build(store.store)
    again = open_index(Generation.open(first.path))
    for one in (index, again):
        for expected, found in zip(before, one.search_many(vectors, 5), strict=True):
            assert (expected == found).all()


def test_sounds_that_are_unlike_the_old_are_found_as_well(store: Synthetic) -> None:
    """Each sketch has components and centres of its own: what came before is no yardstick."""
    build(store.store)
    add(store, "b", 400, seed=2, world=99)
    generation = build(store.store)
    assert sketched(generation) == [600, 400]
    assert_finds_all(generation)
    stored = generation.vectors(np.arange(1000))
    index = open_index(generation)
    num_found = 0
    for row in range(0, 1000, 10):
        best = np.argsort(-(stored @ stored[row]))[:10]
        num_found += len(np.intersect1d(index.search(stored[row : row + 1], 10).rows, best))
    assert num_found >= 0.99 * 1000


def test_rows_keep_what_belongs_to_them_in_their_new_order(store: Synthetic) -> None:
    """A segment is written in the order of its lists: ids, tags, codes and places go along."""
    generation = build(store.store)
    [segment] = generation.segments
    known = {one.window_id: at for at, one in enumerate(store.windows)}
    at = [known[one] for one in segment.windows.window_id.tolist()]
    assert at != sorted(at)
    assert sorted(at) == list(range(600))
    assert np.abs(segment.vectors - unit(np.array(store.scene)[at])).max() < 1e-6
    assert (segment.tags == np.array(store.tags)[at]).all()
    for row, place in enumerate(at):
        assert segment.windows.window(row) == store.windows[place]
    heard = Allowed.of([np.asarray(segment.tags[:, 7] >= 0.1)])
    assert heard.num_rows == int((np.array(store.tags)[:, 7] >= np.float16(0.1)).sum())


def test_faiss_alone_proposes_what_is_found(store: Synthetic) -> None:
    """Whoever opens the file of a segment by `faiss.read_index` needs nothing of ours."""
    add(store, "b", 400, seed=2)
    generation = build(store.store)
    [segment] = generation.segments
    sketch = faiss.read_index(str(segment.path / FAISS_FILE))
    faiss.downcast_index(sketch.index).nprobe = open_index(generation).num_lists
    asked = questions(200)
    proposed = sketch.search(asked, 60)[1]
    found = open_index(generation).search_many(asked, 10)[1]
    held = [np.isin(ten, sixty).all() for ten, sixty in zip(found, proposed, strict=True)]
    assert np.mean(held) >= 0.99


# --- damage --------------------------------------------------------------------------------------


#: What of a sketch is held against no digest when it is opened.
LARGE = [f"{part}_{kind}" for part in PARTS for kind in ("codes", "finer", "middles")]


def damage(file: Path, change: str) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.unlink()
    if change != "missing":
        file.write_bytes(content if change == "flipped" else content[:-1])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *[(name, "flipped") for name in CHECKED],
        *[(name, change) for name in LARGE for change in ("missing", "short")],
    ],
)
def test_damaged_sketch_is_found_and_mended(store: Synthetic, name: str, change: str) -> None:
    heard = Listener()
    generation = build(store.store)
    file = file_of(generation.segments[0].path, name)
    damage(file, change)
    assert [problem.path for problem in verify(store.store.path)] == [file]
    with pytest.raises(DamagedStoreError, match="building the index again mends it") as caught:
        OpenedStore.at(store.store.path)
    assert caught.value.path == file
    assert (caught.value.about, caught.value.value) == ("build", store.store.path)
    mended = build(store.store, listen=heard)
    assert heard.sentences == []
    assert sketched(mended) == [600]
    assert_finds_all(mended)
    assert verify(store.store.path) == []  # nothing is kept of what was damaged


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *[(name, "flipped") for name in LARGE],
        *[("faiss", change) for change in ("flipped", "missing", "short")],
    ],
)
def test_damage_to_what_is_large_or_for_others_is_found_by_verify_and_does_no_harm(
    store: Synthetic, name: str, change: str
) -> None:
    generation = build(store.store)
    file = file_of(generation.segments[0].path, name)
    damage(file, change)
    assert [problem.path for problem in verify(store.store.path)] == [file]
    query = generation.vectors(np.array([5]))
    assert open_index(generation).search(query, 10).rows.shape == (10,)
    build(store.store, anew=True)
    assert verify(store.store.path) == []


def manifest_of(generation: Generation) -> tuple[Path, dict[str, Any]]:
    file = generation.path / GENERATION_FILE
    return file, read_sealed(file)


@pytest.fixture(scope="module")
def forged(whole: None, tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """Two segments with sketches, whose manifest is to be written anew."""
    made = make_store(tmp_path_factory.mktemp("forged") / "store", frames="none")
    add(made, "a", 520, seed=1)
    with sketching():
        build(made.store, max_segment_rows=260)
    return made


def answers_or_says_why(store: Synthetic) -> bool:
    """Whether an index answers; else what mends it must have been said: a build, or one anew."""
    try:
        assert_answers(store)
    except DamagedStoreError as error:
        if error.about in ("build", "anew") and error.value == store.store.path:
            return False
        raise
    return True


def assert_answers(store: Synthetic) -> None:
    """Ten rows that match, with their true scores, whatever is asked."""
    opened = OpenedStore.at(store.store.path)
    generation, index = opened.generation, opened.index
    vectors = unit(np.array(store.scene[:3])).astype(np.float32)
    both = blended(vectors, np.array(store.tags[:3]), 0.35)
    for share in (1.0, 0.6):
        rng = np.random.default_rng(5)
        masks = [one.alive & (rng.random(len(one)) < share) for one in generation.segments]
        allowed, matches = Allowed.of(masks), np.concatenate(masks)
        for asked in (vectors[:1], vectors, both):
            found = index.search(asked, 10, allowed)
            scores, rows = index.search_many(asked, 10, allowed)
            assert len(found.rows) == 10
            assert matches[found.rows].all()
            assert matches[rows].all()
            assert found.scores.tolist() == index.score(asked, found.rows).tolist()
            assert np.isfinite(scores).all()


COUNTS = ("num_scenes", "num_roots", "num_lists", "num_listed", "num_clumps")


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    segment=st.integers(0, 1),
    field=st.sampled_from([*COUNTS, "half_width", "num_rows", "num_columns", "sketch"]),
    value=st.one_of(
        st.integers(0, 700),
        st.sampled_from([8, 64, 96, 256, 264, 2**31, 2**40, 10**12]),
        st.floats(-1e12, 1e12),
        st.none(),
    ),
)
def test_manifest_that_says_something_else_of_a_sketch_is_mended_or_does_no_harm(
    forged: Synthetic, segment: int, field: str, value: float | None
) -> None:
    generation = next(forged.store.path.glob("index/0*"))
    file = generation / GENERATION_FILE
    before = file.read_bytes()
    document = read_sealed(file)
    entry = document["segments"][segment]
    (entry if field in entry else entry["sketch"])[field] = value
    file.write_bytes(seal(document))
    try:
        answers_or_says_why(forged)
    finally:
        file.write_bytes(before)
    assert answers_or_says_why(forged)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    measured=st.lists(
        st.tuples(
            st.sampled_from([-1e12, 0.0, 0.1, 1.0, 1e12]),
            st.sampled_from([-1e12, 0.0, 0.6, 1e12]),
            st.sampled_from([0, 1, 8192, 10**12]),
            st.sampled_from([-1e12, 0, 0.001, 1, 10**12]),
            st.sampled_from([-1e12, 0, 0.001, 1, 10**12]),
            st.sampled_from([0, 1, 60, 10**12]),
            st.just(0.9),
            st.just(1.0),
        ),
        max_size=2,
    ),
    num_windows=st.sampled_from([0, 1, 520, 10**12]),
)
def test_manifest_that_says_something_else_of_what_was_measured_is_answered_all_the_same(
    forged: Synthetic, measured: list[Any], num_windows: int
) -> None:
    file = next(forged.store.path.glob("index/0*")) / GENERATION_FILE
    before = file.read_bytes()
    document = read_sealed(file)
    document["effort"] |= {"measured": measured}
    file.write_bytes(seal({**document, "num_windows": num_windows}))
    try:
        is_answered = answers_or_says_why(forged)
        assert is_answered or num_windows != 520
    finally:
        file.write_bytes(before)


def test_build_mends_a_manifest_with_a_sketch_that_cannot_be(
    forged: Synthetic, tmp_path: Path
) -> None:
    made = Path(shutil.copytree(forged.store.path, tmp_path / "copy"))
    copy = Synthetic(type(forged.store).open(made), forged.library_id, scene=forged.scene)
    copy.tags = forged.tags
    file, document = manifest_of(Generation.current(copy.store))
    document["segments"][0]["sketch"]["num_scenes"] += 8
    file.write_bytes(seal(document))
    assert not answers_or_says_why(copy)
    build(copy.store)
    assert answers_or_says_why(copy)


def test_segments_that_are_alike_have_one_basis(forged: Synthetic) -> None:
    """What was built first says what those that follow have; who asks both prepares once."""
    generation = Generation.current(forged.store)
    first, second = open_index(generation).sketches
    assert first is not None
    assert second is not None
    assert first.basis is second.basis
    contents = [
        [file_of(one.path, name).read_bytes() for name in ("scenes", "roots", "centres")]
        for one in generation.segments
    ]
    assert contents[0][:2] == contents[1][:2]
    assert contents[0][2] != contents[1][2]


@pytest.mark.parametrize("name", ["centres", "spreads", "sizes", "clump_spreads", *LARGE, "faiss"])
def test_sketch_of_another_segment_is_mended_or_does_no_harm(
    forged: Synthetic, tmp_path: Path, name: str
) -> None:
    made = Path(shutil.copytree(forged.store.path, tmp_path / "copy"))
    copy = Synthetic(type(forged.store).open(made), forged.library_id, scene=forged.scene)
    copy.tags = forged.tags
    first, second = (one.path for one in Generation.current(copy.store).segments)
    one, other = file_of(first, name), file_of(second, name)
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)
    assert {problem.path for problem in verify(made)} == {one, other}
    is_answered = answers_or_says_why(copy)
    assert is_answered == (name not in CHECKED)
    build(copy.store, anew=is_answered)
    assert answers_or_says_why(copy)


@pytest.mark.parametrize("number", [4, 5])  # with no sketches, and with a number for a reach
def test_index_of_another_version_is_named_and_replaced(store: Synthetic, number: int) -> None:
    generation = build(store.store)
    file, document = manifest_of(generation)
    file.write_bytes(seal({**document, "format": number}))
    with pytest.raises(StoreError, match="built by another version") as refused:
        OpenedStore.at(store.store.path)
    assert (refused.value.about, refused.value.value) == ("build", store.store.path)
    assert "\n" not in str(refused.value)
    held = overview(store.store.path)
    assert (held.num_indexed, held.num_windows, held.is_outdated) == (None, 600, True)
    [problem] = verify(store.store.path)
    assert (problem.path, problem.about, problem.value) == (file, "build", store.store.path)
    again = build(store.store)
    assert again.path != generation.path
    assert verify(store.store.path) == []  # of the one before, nobody wants to know
    assert_finds_all(OpenedStore.at(store.store.path).generation)


@pytest.mark.parametrize("num_damaged", [40, 595, 600])
def test_windows_that_are_no_numbers_are_never_found(
    tmp_path: Path, whole: None, num_damaged: int
) -> None:
    """NaN in a part is in no list, and spoils neither components nor centres."""
    scene = scenes_of(600)
    damaged = np.random.default_rng(3).permutation(600)[:num_damaged]
    tags = head().tags(scene)
    scene[damaged, 7] = np.nan
    made = make_store(tmp_path / "store", frames="none")
    made.add({f"a{number}": 2 for number in range(300)}, scene=scene, tags=tags)
    generation = build(made.store)
    assert sketched(generation) == ([600] if num_damaged == 40 else [])
    known = {made.windows[at].window_id for at in damaged}
    index = open_index(generation)
    vectors = unit(scenes_of(3, seed=9)).astype(np.float32)
    for asked in (vectors, blended(vectors, head().tags(vectors).astype(np.float16), 0.35)):
        for exact in (False, True):
            for k in (10, 600):
                found = index.search(asked[:1], k, exact=exact)
                assert len(found.rows) == min(k, 600 - num_damaged)
                assert not known & set(generation.window_ids(found.rows).tolist())
                scores, rows = index.search_many(asked, k, exact=exact)
                assert ((rows >= 0).sum(1) == min(k, 600 - num_damaged)).all()
                assert (np.isfinite(scores) == (rows >= 0)).all()


def test_vectors_that_were_damaged_after_they_were_sketched_are_never_found(
    store: Synthetic,
) -> None:
    generation = build(store.store)
    [segment] = generation.segments
    file = array_file(segment.path, "vectors")
    vectors = np.fromfile(file, np.float32).reshape(600, 768)
    query = vectors[[50]].copy()
    vectors[::3] = np.nan
    vectors.tofile(file)
    index = open_index(Generation.current(store.store))
    for exact in (False, True):
        found = index.search(query, 10, exact=exact)
        assert len(found.rows) == 10
        assert (found.rows % 3 > 0).all()
        assert found.rows[0] == 50


def test_store_that_is_rebuilt_while_it_is_opened_opens_at_the_new_generation(
    store: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(store.store)

    def rebuilding(generation: Generation) -> VectorIndex:
        if generation.path == first.path:  # two builds later, nothing of it is left
            add(store, "b", 700, seed=2)
            build(store.store)
            add(store, "c", 1500, seed=3)
            build(store.store)
        return open_index(generation)

    monkeypatch.setattr("search.asking.opened.open_index", rebuilding)
    opened = OpenedStore.at(store.store.path)
    assert opened.generation.num_windows == 2800
    assert not first.path.exists()


@pytest.mark.parametrize("name", ["centres", "scene_codes"])
def test_build_mends_sketches_that_are_links_and_leaves_what_they_lead_to(
    name: str, store: Synthetic, tmp_path: Path
) -> None:
    generation = build(store.store)
    file = file_of(generation.segments[0].path, name)
    theirs = file.rename(tmp_path / "theirs")
    content = theirs.read_bytes()
    file.symlink_to(theirs)  # its content and size are right
    with pytest.raises(DamagedStoreError, match="link"):
        OpenedStore.at(store.store.path)
    again = build(store.store)
    assert again.path != generation.path
    assert theirs.read_bytes() == content
    assert_finds_all(again)
    build(store.store, anew=True)
    assert verify(store.store.path) == []
    assert theirs.read_bytes() == content


def test_build_writes_nothing_into_a_segment_that_is_a_link(
    store: Synthetic, tmp_path: Path
) -> None:
    generation = build(store.store)
    folder = generation.segments[0].path
    theirs = Path(folder.rename(tmp_path / "theirs"))
    folder.symlink_to(theirs)
    before = {file.name: file.read_bytes() for file in theirs.iterdir()}
    add(store, "b", 40, seed=3)
    build(store.store)
    assert {file.name: file.read_bytes() for file in theirs.iterdir()} == before


# --- what is measured ----------------------------------------------------------------------------


@pytest.fixture
def little_effort(whole: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are enough to be measured with: a store of thousands is scanned only in part."""
    monkeypatch.setattr("search.nearest.measure._NUM_QUESTIONS", 100)
    monkeypatch.setattr("search.nearest.measure.FIRST_ROWS", 15)


def test_measured_recall_is_that_of_other_questions(tmp_path: Path, little_effort: None) -> None:
    made = make_store(tmp_path / "store", frames="none")
    add(made, "a", 3000, seed=1)
    generation = build(made.store, config=IndexConfig(recall=0.9))
    index = open_index(generation)
    measured = index.effort.measured
    assert measured
    assert [one.share for one in measured] == sorted((one.share for one in measured), reverse=True)
    assert all(one.recall >= 0.9 for one in measured)
    assert all(one.num_scanned < 3000 for one in measured)
    rng = np.random.default_rng(5)
    for told in measured:
        mask = rng.random(3000) < told.share
        allowed = Allowed.of([mask])
        num_found = num_true = 0
        for query in questions(200):
            best = index.search(query[None], 10, allowed, exact=True)
            found = index.search(query[None], 10, allowed)
            assert not found.plan.is_exact
            assert 0.9 <= found.plan.recall <= told.recall
            num_found += len(np.intersect1d(found.rows, best.rows))
            num_true += len(best.rows)
        assert num_found / num_true >= 0.88, told


def test_measuring_says_how_far_it_is(tmp_path: Path, little_effort: None) -> None:
    made = make_store(tmp_path / "store", frames="none")
    add(made, "a", 3000, seed=1)
    heard = Listener()
    build(made.store, listen=heard)
    each = {"comparing": 3000, "comparing sketches": 3000, "measuring": 4}
    for what, total in each.items():
        own = [one for one in heard.steps if one.what == what]
        assert [one.done for one in own] == sorted(one.done for one in own)
        assert {one.total for one in own} == {total}
        assert own[-1].done == total
    assert heard.steps[-1].what == "measuring"


def test_comparing_ends_with_all_windows_whichever_match(forged: Synthetic) -> None:
    generation = Generation.current(forged.store)
    masks = [np.arange(len(one)) == 3 for one in generation.segments]
    masks[-1][:] = False
    heard = Listener()
    multiply_all(generation, questions(1), 1, [masks], heard)
    total = sum(map(len, generation.segments))
    done = [one.done for one in heard.steps]
    assert done == sorted(done)
    assert (done[-1], {one.total for one in heard.steps}) == (total, {total})


def test_best_rows_are_kept_with_the_margin_that_is_said_to_keep_them(forged: Synthetic) -> None:
    """Two segments, a filter, and rows that a question leaves out."""
    generation = Generation.current(forged.store)
    rng = np.random.default_rng(2)
    vectors, index = questions(12), open_index(generation)
    masks = [rng.random(len(one)) < 0.5 for one in generation.segments]
    own = [np.flatnonzero(mask)[:40] for mask in masks]
    allowed = Allowed.of(masks)
    left_out = [own if number % 2 else () for number in range(12)]
    rows = [
        index.search(vector[None], 10, allowed.without(some), exact=True).rows
        for vector, some in zip(vectors, left_out, strict=True)
    ]
    trials = _Trials(index, vectors, 0.99)
    [told] = trials.tell([_Filter(0.5, allowed, left_out, [], rows)])
    for at, (vector, some) in enumerate(zip(vectors, left_out, strict=True)):
        own_told = slice(10 * at, 10 * at + 10)
        for number in (1, 3, 10, 40):
            plan = Plan("sketches", 10**6, num_hits=number)
            found = propose(index.lists, allowed.without(some), vector[None], plan)
            is_proposed = np.isin(rows[at], found.rows)
            assert (is_proposed == (told.num_nearer[own_told] < number)).all()
    margin = told.margin(1.0)
    assert told.share_kept(margin) == 1
    coarse = Plan("sketches", 10**6, margin=margin)
    for at, (vector, some) in enumerate(zip(vectors, left_out, strict=True)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("search.nearest.scan._refine", lambda each, best: best.seen.rows)
            kept = propose(index.lists, allowed.without(some), vector[None], coarse).rows
        assert np.isin(rows[at], kept).all()


def test_margins_are_measured_as_they_are_told(
    forged: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with a filter that fewer match than the share it stands for."""
    index, rng = open_index(Generation.current(forged.store)), np.random.default_rng(3)
    allowed = Allowed.of(rng.random(len(one)) < 0.3 for one in index.generation.segments)
    told = Measured(0.5, 1.0, 15, 0.01, 0.004, 0, 0.0, 0.0)
    used = []

    def search(index: VectorIndex, *asked: Any) -> Neighbours:
        used.append(found := SEARCH(index, *asked))
        return found

    monkeypatch.setattr(VectorIndex, "search", search)
    true = _Filter(0.5, allowed, [()] * 3, [np.empty(0, np.float32)] * 3, [])
    measured = _Trials(index, questions(3), 0.99)._run(true, told)
    assert {one.plan[-2:] for one in used} == {(told.margin, told.finer_margin)}
    assert len(used) == 3
    assert measured[:1] + measured[3:5] == (0.5, told.margin, told.finer_margin)


def test_margin_keeps_the_share_that_is_aimed_at() -> None:
    gaps = np.random.default_rng(0).permutation(np.arange(-50, 150)).astype(np.float32) / 1000
    told = _Told(gaps, np.zeros(200, np.int64))
    for aim, margin in ((0.9, 0.13), (0.997, 0.149), (1.0, 0.149), (0.1, 0.0)):
        assert told.margin(aim) == pytest.approx(margin, abs=0.0011)
        assert told.share_kept(told.margin(aim)) >= aim
    many = np.where(gaps > 0.1, MOST_KEPT, 3)  # of a crowd, any are kept
    assert _Told(gaps, many).share_kept(1.0) == (gaps <= 0.1).mean()
    assert _Told(gaps[:0], many[:0]).margin(0.9) == 0


def test_rows_in_no_list_stand_behind_none(tmp_path: Path, whole: None) -> None:
    """Damage may make one of the true ten of what a sketch does not have."""
    made = make_store(tmp_path / "store", frames="none")
    scene = scenes_of(600)
    scene[:3] = np.nan
    made.add({f"a{number}": 1 for number in range(600)}, scene=scene)
    index = open_index(build(made.store))
    trials = _Trials(index, questions(2), 0.99)
    near = trials._near(questions(2)[0], np.array([599, 5, 598, 4]))
    assert np.isinf(near).tolist() == [True, False, True, False]
    assert near[1] == trials._near(questions(2)[0], np.array([5]))[0]


def test_index_of_which_only_damaged_windows_would_ask_is_measured(
    tmp_path: Path, whole: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks with these: nothing is missed, and it is not known how far lists have to be."""
    made = make_store(tmp_path / "store", frames="none")
    scene = scenes_of(600)
    scene[60:] = np.nan
    made.add({f"a{number}": 1 for number in range(600)}, scene=scene)
    index = open_index(build(made.store))
    assert any(index.sketches)
    monkeypatch.setattr("search.nearest.measure._NUM_QUESTIONS", 3)
    told = measure_effort(index, 0.9).measured
    assert [(one.recall, one.reach) for one in told] == [(1, _REACHES[-1])] * 4
    assert all(one.margin == 0 for one in told)


def test_reach_that_no_question_needed_is_taken_for_the_furthest(store: Synthetic) -> None:
    """Of 600 windows all are compared, so that nothing says how far lists have to be looked."""
    effort = build(store.store).manifest.effort
    assert {one.reach for one in effort.measured} == {_REACHES[-1]}
    assert all(one.recall >= 0.997 for one in effort.measured)


@pytest.mark.parametrize(("most", "reach"), [(1.0, 0.6), (0.98, 0.5), (0.0, 0.3)])
def test_reach_is_no_further_than_finds_more(
    monkeypatch: pytest.MonkeyPatch, most: float, reach: float
) -> None:
    """What sketches miss however far they are looked through is no reason to look at everything."""

    def run(trials: _Trials, true: _Filter, told: Measured, least: float = 0.0) -> Measured:
        recall = min(most, 0.95 + 0.1 * (told.reach - 0.2))
        return told._replace(recall=recall)

    monkeypatch.setattr(_Trials, "_run", run)
    nothing: Any = None
    trials = _Trials(nothing, questions(1), 0.99)
    told = _Told(np.zeros(100, np.float32), np.zeros(100, np.int64))
    found = trials.measure(_Filter(1.0, Allowed.of([]), [], [], []), told)
    assert reach <= found.reach < 1.08 * reach


def test_what_wider_filters_ask_for_is_the_least(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for a reach that nobody knows, as all rows were looked at."""

    def run(trials: _Trials, true: _Filter, told: Measured, least: float = 0.0) -> Measured:
        return told._replace(recall=1.0)

    monkeypatch.setattr(_Trials, "_run", run)
    nothing: Any = None
    trials = _Trials(nothing, questions(1), 0.99)
    told = _Told(np.full(100, 0.001, np.float32), np.zeros(100, np.int64))
    filters = _Filter(0.1, Allowed.of([]), [], [], [])
    alone = trials.measure(filters, told)
    assert alone.reach == _REACHES[0]
    assert alone.margin == pytest.approx(0.001)
    assert alone.finer_margin < 0.0002
    wider = [
        alone._replace(reach=_REACHES[-1], margin=0.004),
        alone._replace(reach=_REACHES[7], finer_margin=0.003),
        alone._replace(reach=_REACHES[3]),
    ]
    found = trials.measure(filters, told, wider)
    assert found.reach == _REACHES[7]
    assert (found.margin, found.finer_margin) == (pytest.approx(0.004), 0.003)


@pytest.mark.parametrize(("most", "wanted"), [(1.0, 1.0), (0.98, 0.98)])
def test_margin_of_finer_codes_is_no_wider_than_finds_more(
    monkeypatch: pytest.MonkeyPatch, most: float, wanted: float
) -> None:
    """Once it is known how far lists are to be looked through."""

    def run(trials: _Trials, true: _Filter, told: Measured, least: float = 0.0) -> Measured:
        recall = min(most, 0.5 + told.finer_margin / 0.002) if told.reach > 0.3 else 0.1
        return told._replace(recall=recall)

    monkeypatch.setattr(_Trials, "_run", run)
    nothing: Any = None
    told = _Told(np.full(100, 0.004, np.float32), np.zeros(100, np.int64))
    trials = _Trials(nothing, questions(1), 0.997)
    found = trials.measure(_Filter(1.0, Allowed.of([]), [], [], []), told)
    assert found.margin == pytest.approx(0.004)
    least = (wanted - 0.5) * 0.002
    assert least <= found.finer_margin < 1.16 * least
    assert 0.3 < found.reach < 0.33


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_equal_vectors_do_not_count_as_missed(
    tmp_path: Path, little_effort: None, share: float
) -> None:
    """Digital silence is common: any ten of its windows are the right ones."""
    made = make_store(tmp_path / "store", frames="none")
    scene = scenes_of(2000)
    scene[: int(2000 * share)] = scene[0]
    made.add({f"a{number}": 1 for number in range(2000)}, scene=scene)
    effort = open_index(build(made.store)).effort
    assert all(one.recall >= 0.95 for one in effort.measured)
    assert effort.measured[0].num_scanned < 2000 or share == 1  # then all lists are as near


def test_higher_recall_takes_more_effort(tmp_path: Path, little_effort: None) -> None:
    made = make_store(tmp_path / "store", frames="none")
    noise = np.random.default_rng(0).normal(0, 0.1, (2000, 768))  # no component has it
    scene = scenes_of(2000) + noise.astype(np.float32)
    made.add({f"a{number}": 1 for number in range(2000)}, scene=scene)
    efforts = []
    for recall in (0.5, 0.99):
        effort = open_index(build(made.store, config=IndexConfig(recall=recall))).effort
        assert effort.target == recall
        told = effort.measured[0]
        efforts.append((told.margin, told.reach, told.num_scanned))
    assert efforts[0] < efforts[1]


@pytest.mark.parametrize("num_recordings", [1, 2])
def test_recordings_that_last_for_hours_are_measured(
    tmp_path: Path, whole: None, num_recordings: int
) -> None:
    """Where nothing but windows of the same recording is near, they are what is to be found."""
    made = make_store(tmp_path / "store", frames="none")
    scene = scenes_of(600)
    scene[:, 0] += np.repeat(np.linspace(-30, 30, num_recordings), 600 // num_recordings)
    recordings = {f"a{number}": 600 // num_recordings for number in range(num_recordings)}
    made.add(recordings, scene=scene)
    effort = build(made.store).manifest.effort
    assert effort.measured
    assert all(one.recall > 0.9 for one in effort.measured)
    assert all(one.num_scanned < 10_000 for one in effort.measured)


def test_recall_stays_what_it_was_unless_asked(store: Synthetic) -> None:
    assert build(store.store).manifest.effort.target == 0.99
    build(store.store, config=IndexConfig(recall=0.8))
    add(store, "b", 300, seed=2)
    assert open_index(build(store.store)).effort.target == 0.8


def test_recall_that_was_asked_of_an_exact_index_is_kept_until_there_are_sketches(
    tmp_path: Path, whole: None
) -> None:
    made = make_store(tmp_path / "store", frames="none")
    add(made, "a", 100, seed=1)
    assert build(made.store, config=IndexConfig(recall=0.8)).manifest.effort.target == 0.8
    add(made, "b", 500, seed=2)
    effort = build(made.store).manifest.effort
    assert effort.target == 0.8
    assert effort.measured


def test_manifest_is_plain_json(store: Synthetic) -> None:
    generation = build(store.store)
    document = json.loads((generation.path / GENERATION_FILE).read_text())
    assert document["segments"][0]["sketch"]["num_listed"] == 600
    assert document["effort"]["measured"]


def test_commands_say_how_windows_are_searched(store: Synthetic, run: Run) -> None:
    path, window = store.store.path, str(store.windows[7].window_id)
    effort = build(store.store).manifest.effort
    told = run("build", path).out.splitlines()
    assert told[0].endswith(": 600 windows, searched by sketches, with a recall of 0.99 in view")
    assert len(told) == 1 + len(effort.measured)
    for line, one in zip(told[1:], effort.measured, strict=True):
        assert f"{one.share:.0%} of the windows match: {one.num_scanned:,} are looked at" in line
        assert f"{one.num_scored} scored; recall {one.recall:.3f}" in line
    data = run("build", path, "--format", "json").data
    assert data["is_sketched"]
    assert data["target"] == effort.target
    assert data["measured"] == [one._asdict() for one in effort.measured]
    assert "600 windows, searched by sketches" in run("info", path).out
    by_sketches = run("search", path, window, "--explain").err
    recall = f"recall {effort.measured[0].recall:.3f} at 10 hits when"
    assert re.search(rf"599 scanned, the best [1-9]\d scored; {recall}", by_sketches)
    assert "plan     exact" in run("search", path, window, "--explain", "--exact").err
