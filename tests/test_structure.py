"""Which structure a build chooses, what it reuses, when it trains anew, and what it measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listener import Listener
from oracle import Array
from synthetic import Synthetic, make_store

from indexer.errors import DamagedStoreError, QueryError, StoreError
from indexer.store.disk import read_sealed, seal
from search.asking.opened import OpenedStore
from search.generation.manifest import GENERATION_FILE, ListsEntry
from search.generation.segments import Generation, array_file
from search.nearest.index import Neighbours, VectorIndex
from search.nearest.planner import Plan
from search.nearest.structure import MIN_LISTED_ROWS, TRAINED_FOLDER, IndexConfig, open_index
from search.upkeep.build import build
from search.upkeep.verify import verify

SQ8 = IndexConfig(kind="sq8")


def clustered(num_rows: int, seed: int, centre_seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(centre_seed).normal(0, 1, (30, 768))
    scene = centres[rng.integers(0, 30, num_rows)] + rng.normal(0, 0.7, (num_rows, 768))
    return scene.astype(np.float32)


def add(store: Synthetic, prefix: str, num_rows: int, seed: int, centre_seed: int = 0) -> None:
    names = {f"{prefix}{number}": 2 for number in range(num_rows // 2)}
    store.add(names, scene=clustered(num_rows, seed, centre_seed))


@pytest.fixture
def store(whole: None, tmp_path: Path) -> Synthetic:
    made = make_store(tmp_path / "store", frames="none")
    add(made, "a", 600, seed=1)
    return made


def lists_of(generation: Generation) -> ListsEntry:
    """What the manifest says of the lists, which must be there."""
    lists = generation.manifest.structure.lists
    assert lists is not None
    return lists


def trained_files(generation: Generation) -> dict[str, int]:
    """Name → inode of what lies in the folder of the trained structure."""
    folder = generation.path.parent / TRAINED_FOLDER / lists_of(generation).trained
    return {file.name: file.stat().st_ino for file in folder.iterdir()}


# --- the choice ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_rows", "memory_gb", "kind", "expected"),
    [
        (MIN_LISTED_ROWS - 1, 100.0, "auto", None),
        (MIN_LISTED_ROWS, 100.0, "auto", "sq8"),
        (1_000_000, 1.6, "auto", "sq8"),  # 0.77 GB of codes are no more than half of it
        (1_000_000, 1.5, "auto", "pq"),
        (10_000_000, 12.0, "auto", "pq"),
        (10_000_000, 12.0, "flat", None),
        (300, 12.0, "sq8", "sq8"),
        (255, 12.0, "pq", None),
    ],
)
def test_kind_follows_windows_and_memory(
    num_rows: int, memory_gb: float, kind: Any, expected: str | None
) -> None:
    config = IndexConfig(memory_bytes=round(memory_gb * 1e9), kind=kind)
    assert config.kind_for(num_rows) == expected


def test_kind_that_was_chosen_stays_unless_memory_is_given() -> None:
    assert IndexConfig().kind_for(MIN_LISTED_ROWS, "pq") == "pq"
    assert IndexConfig(memory_bytes=1 << 40).kind_for(MIN_LISTED_ROWS, "pq") == "sq8"


def test_kind_changes_by_itself_where_codes_have_outgrown_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": (16 << 30) // 4096}  # 16 GB, of which half
    monkeypatch.setattr("os.sysconf", pages.__getitem__)
    rows_of_half = (8 << 30) // 768
    assert IndexConfig().kind_for(rows_of_half // 2) == "sq8"
    assert IndexConfig().kind_for(rows_of_half // 2 + 1) == "pq"
    assert IndexConfig().kind_for(rows_of_half, "sq8") == "sq8"
    assert IndexConfig().kind_for(rows_of_half + 1, "sq8") == "pq"


@pytest.mark.parametrize("recall", [0.0, 0.4, 1.0, -1, 2])
def test_recall_that_cannot_be_is_an_error(recall: float) -> None:
    with pytest.raises(QueryError, match="recall"):
        IndexConfig(recall=recall)


def test_memory_that_is_too_little_is_an_error() -> None:
    with pytest.raises(QueryError, match=r"0\.3 GB"):
        IndexConfig(memory_bytes=1000)


def test_small_store_has_no_lists(store: Synthetic) -> None:
    generation = build(store.store)
    assert generation.manifest.structure.lists is None
    assert open_index(generation).lists is None
    assert not (generation.path.parent / TRAINED_FOLDER).exists()


# --- reuse ---------------------------------------------------------------------------------------


def test_build_of_nothing_new_changes_nothing(store: Synthetic) -> None:
    first = build(store.store, config=SQ8)
    assert build(store.store, config=SQ8).path == first.path
    assert build(store.store, config=IndexConfig(recall=0.9, kind="sq8")).path != first.path


def test_build_adds_lists_for_new_segments_and_shares_the_others(store: Synthetic) -> None:
    heard = Listener()
    first = build(store.store, config=SQ8)
    before = trained_files(first)
    add(store, "b", 200, seed=2)
    second = build(store.store, config=SQ8, listen=heard)
    after = trained_files(second)
    assert lists_of(second).trained == lists_of(first).trained
    assert before.items() < after.items()
    assert len(after) == len(before) + 2
    assert heard.sentences == []
    found = open_index(second).search_many(second.vectors(np.arange(800)), 1)[1]
    assert (found[:, 0] == np.arange(800)).mean() > 0.95


def test_build_keeps_the_calibration_until_the_store_has_changed_enough(store: Synthetic) -> None:
    first = build(store.store, config=SQ8)
    add(store, "b", 100, seed=2)
    second = build(store.store, config=SQ8)
    assert second.manifest.structure.calibration == first.manifest.structure.calibration
    add(store, "c", 100, seed=3)
    third = build(store.store, config=SQ8)
    assert third.manifest.structure.calibration.num_rows == 800


def test_build_removes_lists_that_no_generation_needs(store: Synthetic) -> None:
    first = build(store.store, config=SQ8)
    for number in range(3):
        add(store, f"b{number}-", 700, seed=number)  # more than there was: segments are merged
        build(store.store, config=IndexConfig(kind="sq8"))
    last = Generation.current(store.store)
    folder = last.path.parent / TRAINED_FOLDER
    named = set()
    for generation in last.path.parent.glob("0*"):
        entry = read_sealed(generation / GENERATION_FILE)["structure"]
        named |= {(entry["trained"], name) for name in entry["files"]}
    assert {(file.parent.name, file.name) for file in folder.glob("*/*")} == named
    assert not first.path.exists()


def test_reader_of_the_previous_generation_is_not_disturbed(store: Synthetic) -> None:
    first = build(store.store, config=SQ8)
    index = open_index(first)
    vectors = first.vectors(np.arange(50))
    before = index.search_many(vectors, 5)
    add(store, "b", 4000, seed=2)
    build(store.store, config=SQ8)
    again = open_index(Generation.open(first.path))
    for one in (index, again):
        for expected, found in zip(before, one.search_many(vectors, 5), strict=True):
            assert (expected == found).all()


# --- training anew -------------------------------------------------------------------------------


def test_build_trains_anew_when_the_store_has_grown(store: Synthetic) -> None:
    heard = Listener()
    first = build(store.store, config=SQ8)
    add(store, "b", 2000, seed=2)
    second = build(store.store, config=SQ8, listen=heard)
    assert lists_of(second).trained != lists_of(first).trained
    assert heard.sentences == ["training anew: 2,600 windows now, 600 when the lists were trained"]


def test_build_trains_anew_when_new_sounds_are_unlike_the_old(store: Synthetic) -> None:
    heard = Listener()
    first = build(store.store, config=SQ8)
    add(store, "odd", 40, seed=3, centre_seed=98)  # few: no reason
    first = build(store.store, config=SQ8, listen=heard)
    assert heard.sentences == []
    add(store, "b", 300, seed=2, centre_seed=99)
    second = build(store.store, config=SQ8, listen=heard)
    assert lists_of(second).trained != lists_of(first).trained
    assert len(heard.sentences) == 1
    assert "340 new windows are 1.5 times as far from the centres" in heard.sentences[0]
    add(store, "c", 200, seed=4, centre_seed=99)
    third = build(store.store, config=SQ8, listen=heard)
    assert lists_of(third).trained == lists_of(second).trained


def test_build_trains_anew_for_another_kind(store: Synthetic) -> None:
    first = build(store.store, config=SQ8)
    second = build(store.store, config=IndexConfig(kind="flat"))
    assert [one.manifest.structure.kind for one in (first, second)] == ["sq8", None]


# --- damage --------------------------------------------------------------------------------------


def damage(file: Path, change: str) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.unlink()
    if change != "missing":
        file.write_bytes(content if change == "flipped" else content[:-1])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *[(name, change) for name in ("trained", "sizes") for change in ("missing", "flipped")],
        ("lists", "missing"),
        ("lists", "short"),
    ],
)
def test_damaged_structure_is_found_and_mended(store: Synthetic, name: str, change: str) -> None:
    heard = Listener()
    generation = build(store.store, config=SQ8)
    (file,) = (generation.path.parent / TRAINED_FOLDER).glob(f"*/{name}*")
    damage(file, change)
    assert [problem.path for problem in verify(store.store.path)] == [file]
    with pytest.raises(DamagedStoreError, match="building the index again mends it") as caught:
        OpenedStore.at(store.store.path)
    assert (caught.value.about, caught.value.value) == ("build", store.store.path)
    mended = build(store.store, config=SQ8, listen=heard)
    is_trained_anew = [
        "the centres of the lists are damaged, or of an older version: training anew"
    ]
    assert heard.sentences == (is_trained_anew if name == "trained" else [])
    vectors = mended.vectors(np.arange(600))
    assert (open_index(mended).search_many(vectors, 1)[1][:, 0] == np.arange(600)).mean() > 0.95
    left = [problem.path for problem in verify(store.store.path)]
    assert left == ([file] if name == "trained" else [])  # the generation before it is kept
    for problem in verify(store.store.path):
        assert "building the index anew, from nothing but the parts, mends it" in problem.remedy
        assert (problem.about, problem.value) == ("anew", store.store.path)
    build(store.store, config=SQ8, anew=True)
    assert verify(store.store.path) == []


def test_flipped_byte_of_lists_is_found_by_verify_and_does_no_harm(store: Synthetic) -> None:
    generation = build(store.store, config=SQ8)
    (file,) = (generation.path.parent / TRAINED_FOLDER).glob("*/lists*")
    damage(file, "flipped")
    assert [problem.path for problem in verify(store.store.path)] == [file]
    assert open_index(generation).search(generation.vectors(np.array([5])), 10).rows.shape == (10,)


def test_index_of_another_version_is_named_and_replaced(store: Synthetic) -> None:
    generation = build(store.store)
    document = read_sealed(generation.path / GENERATION_FILE)
    del document["format"]
    (generation.path / GENERATION_FILE).write_bytes(seal(document))
    with pytest.raises(StoreError, match="another version"):
        Generation.current(store.store)
    assert build(store.store).num_windows == 600


@pytest.mark.parametrize("num_damaged", [40, 600])
def test_build_with_damaged_vectors_goes_on(store: Synthetic, num_damaged: int) -> None:
    """NaN is in no list, is never found, and spoils neither centres nor drift."""
    heard = Listener()
    segment = build(store.store).segments[0]
    vectors = np.fromfile(array_file(segment.path, "vectors"), np.float32).reshape(600, 768)
    vectors[:num_damaged] = np.nan
    vectors.tofile(array_file(segment.path, "vectors"))
    generation = build(store.store, config=SQ8, listen=heard)
    assert heard.sentences == []
    query = clustered(1, seed=9)
    query /= np.linalg.norm(query)
    for exact in (False, True):
        found = open_index(generation).search(query, 600, exact=exact)
        assert len(found.rows) == 600 - num_damaged
        assert not np.isin(found.rows, np.arange(num_damaged)).any()


def test_store_that_is_rebuilt_while_it_is_opened_opens_at_the_new_generation(
    store: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(store.store, config=SQ8)

    def rebuilding(generation: Generation) -> VectorIndex:
        if generation.path == first.path:  # two builds later, nothing of it is left
            add(store, "b", 300, seed=2)
            build(store.store, config=IndexConfig(kind="pq"))
            add(store, "c", 300, seed=3)
            build(store.store, config=IndexConfig(kind="pq"))
        return open_index(generation)

    monkeypatch.setattr("search.asking.opened.open_index", rebuilding)
    opened = OpenedStore.at(store.store.path)
    assert opened.generation.num_windows == 1200
    assert not first.path.exists()


# --- what is measured ----------------------------------------------------------------------------


_SHARES = (1.0, 0.5, 0.2, 0.05)


@pytest.fixture
def always_lists(whole: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exact answers are slow, so that all shares are measured, whatever the machine is doing."""
    search = VectorIndex.search

    def slowly(self: VectorIndex, *asked: Any, **how: Any) -> Neighbours:
        return search(self, *asked, **how)._replace(scan_ms=1e9)

    monkeypatch.setattr(VectorIndex, "search", slowly)
    monkeypatch.setattr("search.nearest.calibrate._SHARES", _SHARES)
    monkeypatch.setattr("search.nearest.calibrate._NUM_QUERIES", 100)


def test_calibration_tells_the_recall_of_other_queries(tmp_path: Path, always_lists: None) -> None:
    made = make_store(tmp_path / "store", frames="none")
    add(made, "a", 3000, seed=1)
    generation = build(made.store, config=IndexConfig(kind="sq8", recall=0.9))
    index = open_index(generation)
    levels = index.calibration.levels
    assert tuple(level.share for level in levels) == _SHARES
    reaches = [level.reach for level in levels]
    assert reaches == sorted(reaches)
    assert all(level.recall >= 0.9 for level in levels)
    stored = generation.vectors(np.arange(3000))
    queries = clustered(200, seed=77)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    rng = np.random.default_rng(5)
    for level in levels:
        mask = rng.random(3000) < level.share
        plan = Plan("lists", level.reach, level.effort, level.recall, level.ms)
        num_found = num_true = 0
        for query in queries:
            best = np.flatnonzero(mask)[np.argsort(-(stored[mask] @ query))[:10]]
            found = index.run(plan, query[None], 10, [mask]).rows
            num_found += len(np.intersect1d(found, best))
            num_true += len(best)
        assert num_found / num_true >= 0.88, level


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_equal_vectors_do_not_count_as_missed(
    tmp_path: Path, always_lists: None, share: float
) -> None:
    """Digital silence is common: any ten of its windows are the right ones."""
    made = make_store(tmp_path / "store", frames="none")
    scene = clustered(2000, seed=1)
    scene[: int(2000 * share)] = scene[0]
    made.add({f"a{number}": 1 for number in range(2000)}, scene=scene)
    generation = build(made.store, config=SQ8)
    level = open_index(generation).calibration.levels[0]
    assert level.recall >= 0.95
    assert level.reach < 0.5


def test_higher_recall_reaches_further(tmp_path: Path, always_lists: None) -> None:
    made = make_store(tmp_path / "store", frames="none")
    scene = np.random.default_rng(0).normal(0, 1, (2000, 768)).astype(np.float32)
    made.add({f"a{number}": 1 for number in range(2000)}, scene=scene)  # no clusters: hard
    reaches = []
    for recall in (0.5, 0.99):
        generation = build(made.store, config=IndexConfig(kind="sq8", recall=recall))
        calibration = open_index(generation).calibration
        assert calibration.target == recall
        reaches.append(calibration.levels[0].reach)
    assert reaches[0] < reaches[1]


def test_recall_stays_what_it_was_unless_asked(store: Synthetic) -> None:
    build(store.store, config=IndexConfig(kind="sq8", recall=0.8))
    add(store, "b", 300, seed=2)
    generation = build(store.store, config=SQ8)
    assert open_index(generation).calibration.target == 0.8


def test_manifest_is_plain_json(store: Synthetic) -> None:
    generation = build(store.store, config=SQ8)
    document = json.loads((generation.path / GENERATION_FILE).read_text())
    assert document["structure"]["kind"] == "sq8"
    assert document["structure"]["calibration"]["levels"]


def manifest_of(generation: Generation) -> tuple[Path, dict[str, Any]]:
    file = generation.path / GENERATION_FILE
    return file, read_sealed(file)


def test_lists_of_an_older_version_are_refused_in_one_line_and_built_anew(
    store: Synthetic,
) -> None:
    generation = build(store.store, config=SQ8)
    folder = generation.path.parent / TRAINED_FOLDER / lists_of(generation).trained
    (folder / "trained.raw").rename(folder / "trained.faiss")
    file, document = manifest_of(generation)
    files = document["structure"]["files"]
    files["trained.faiss"] = files.pop("trained.raw")
    file.write_bytes(seal(document))
    with pytest.raises(StoreError, match="built by another version") as refused:
        OpenedStore.at(store.store.path)
    assert refused.value.about == "build"
    again = build(store.store, config=SQ8)
    assert again.path != generation.path
    assert OpenedStore.at(store.store.path).index.num_lists > 0


@pytest.mark.parametrize("name", ["sizes", "lists"])
def test_build_mends_lists_that_are_links_and_leaves_what_they_lead_to(
    name: str, store: Synthetic, tmp_path: Path
) -> None:
    generation = build(store.store, config=SQ8)
    folder = generation.path.parent / TRAINED_FOLDER / lists_of(generation).trained
    (file,) = folder.glob(f"{name}-*.raw")
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("300 pages")
    file.unlink()
    file.symlink_to(thesis)
    build(store.store, config=SQ8)
    assert thesis.read_text() == "300 pages"
    assert not file.is_symlink()
    assert verify(store.store.path) == []


def test_build_writes_nothing_into_a_trained_folder_that_is_a_link(
    store: Synthetic, tmp_path: Path
) -> None:
    generation = build(store.store, config=SQ8)
    folder = generation.path.parent / TRAINED_FOLDER / lists_of(generation).trained
    theirs = Path(folder.rename(tmp_path / "theirs"))
    folder.symlink_to(theirs)
    before = sorted(theirs.iterdir())
    add(store, "b", 40, seed=3)
    with pytest.raises(StoreError, match="is a symbolic link"):
        build(store.store, config=SQ8)
    assert sorted(theirs.iterdir()) == before
