"""Stores in shards answer as one process does; what goes through the rows is in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_shards import TERMS, Made, assert_same, make_stores, open_here, told
from sketched import scenes_of, sketching
from synthetic import make_store

import soundalike
from indexer.errors import DamagedStoreError, SoundalikeWarning, StoreError
from indexer.windows import WINDOW_SAMPLES
from search.asking.opened import OpenedStore
from search.asking.shards import Piece, Shard, cut
from search.generation.mapped import array_file
from search.generation.segments import INDEX_FOLDER
from search.upkeep.build import build


@pytest.fixture(scope="module")
def one_store(whole: None, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_stores(tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def four_stores(whole: None, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_stores(tmp_path_factory.mktemp("four"), 4)


#: Of the 13, for what begins no process; tests/test_ray_search.py asks with all.
SOME = ["all", "1 %", "0.001 %", "50 %, any of 20 and 10 %, not 1 and 0.1 %"]


def num_shards(opened: list[list[Piece]]) -> list[int]:
    return [len(pieces) for pieces in opened]


def test_stores_have_what_they_are_to_show(one_store: Made, four_stores: Made) -> None:
    plain = soundalike.open(*one_store.paths)
    counts = [plain.count(**terms) for terms in TERMS.values()]
    assert 0 in counts  # which almost fit is told then
    assert len({one for one in counts if one}) > 8
    (store,) = (OpenedStore.at(path) for path in one_store.paths)
    assert len(store.generation.segments) >= 6
    assert not all(segment.alive.all() for segment in store.generation.segments)
    assert any(map(len, store.index.silent))
    sets = [
        set(OpenedStore.at(path).generation.recordings.ids.tolist()) for path in four_stores.paths
    ]
    assert all(sets[0] & other for other in sets[1:])


@pytest.mark.parametrize("name", SOME)
def test_four_shards_of_a_store_are_that_store(one_store: Made, name: str) -> None:
    spread, here = open_here(one_store.paths, 4)
    assert_same(spread, soundalike.open(*one_store.paths), one_store, **TERMS[name])
    assert num_shards([crew.pieces for crew in here.crews]) == [4]  # type: ignore[misc]


@pytest.mark.parametrize("name", SOME)
def test_four_stores_are_a_shard_each(four_stores: Made, name: str) -> None:
    spread, here = open_here(four_stores.paths, 4)
    assert_same(spread, soundalike.open(*four_stores.paths), four_stores, **TERMS[name])
    assert num_shards([crew.pieces for crew in here.crews]) == [1, 1, 1, 1]  # type: ignore[misc]


def test_duplicates_are_those_of_one_process(one_store: Made) -> None:
    spread, _ = open_here(one_store.paths, 3)
    for how in ({}, {"exact": True, "min_score": 0.6, "max_matches": 3}):
        expected = soundalike.open(*one_store.paths).duplicates(**how)
        assert spread.duplicates(**how) == expected
        assert expected.groups or expected.num_common


@pytest.mark.parametrize("least_rows", [1, pytest.param(150, marks=pytest.mark.slow)])
def test_by_sketches_no_less_is_found(whole: None, tmp_path: Path, least_rows: int) -> None:
    """Exact answers are the same in every score; of the others each shard looks as far as all."""
    scenes = scenes_of(2_000)
    made = make_store(tmp_path / "store", frames="none")
    with sketching(rows_per_list=8, least_rows=least_rows):
        made.add({f"r{at}": 4 for at in range(480)}, scene=scenes[:1_920])
        build(made.store, max_segment_rows=450)
        made.add({f"s{at}": 4 for at in range(20)}, scene=scenes[1_920:])
        build(made.store, max_segment_rows=450)
    plain = soundalike.open(tmp_path / "store")
    spread, _ = open_here([tmp_path / "store"], 4)
    found = [0, 0]
    for vector in scenes_of(60, seed=2):
        how: dict[str, Any] = {"all_windows": True, "tag_weight": 0}
        exact = plain.search(vector, exact=True, **how)
        assert spread.search(vector, exact=True, **how).hits == exact.hits
        best = {hit.window_id for hit in exact}
        for at, sounds in enumerate((plain, spread)):
            answer = sounds.search(vector, **how)
            assert answer.steps[0].plan.name == "sketches"
            found[at] += len(best & {hit.window_id for hit in answer})
            together = sounds.search_many([vector, vector], **how)
            assert [one.hits for one in together] == [answer.hits] * 2
    assert found[1] >= found[0] > 500


def test_places_in_hits_are_those_of_one_process(whole: None, tmp_path: Path) -> None:
    """Windows are looked for in shards, and looked into here."""
    store = make_store(tmp_path / "store", frames="full")
    store.add({f"r{at}": 1 + at % 3 for at in range(60)}, last_samples=WINDOW_SAMPLES // 3)
    build(store.store, max_segment_rows=30)
    plain, (spread, _) = soundalike.open(tmp_path / "store"), open_here([tmp_path / "store"], 4)
    for how in ({}, {"group_by": "file"}, {"exact": True, "k": 60}, {"min_score": 0.01}):
        asked = store.windows[-1].window_id
        answer = spread.search(asked, by="place", **how)
        assert told(answer) == told(plain.search(asked, by="place", **how))
        assert any(hit.has_match for hit in answer)


def test_words_are_answered_by_the_process_that_asks(whole: None, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({f"s{at}": 1 + at % 3 for at in range(60)})
    build(store.store, max_segment_rows=50)
    lines = [f"s{at}.wav,{at} dogs and {at} cats" for at in range(60)]
    (tmp_path / "notes.csv").write_text("\n".join(["path,caption", *lines]))
    plain, (spread, here) = soundalike.open(tmp_path / "store"), open_here([tmp_path / "store"], 2)
    plain.train_projection(tmp_path / "notes.csv", epochs=2)
    for how in ({}, {"tags": ["Speech"], "threshold": 0.01}, {"group_by": "file"}):
        answer = spread.search(text="7 dogs", **how)
        assert told(answer) == told(plain.search(text="7 dogs", **how))
        assert len(answer)
    here.crews[0].lost = {0, 1}
    assert spread.search(text="7 dogs").notes == ()


def test_what_is_lost_is_left_out_and_said(one_store: Made) -> None:
    """Hits and counts are those of the rest, throughout; and the next question has it again."""
    plain, (spread, here) = soundalike.open(*one_store.paths), open_here(one_store.paths, 4)
    asked = one_store.vectors[0]
    whole = spread.search(asked, k=5_000, all_windows=True)
    (crew,) = here.crews
    opened = OpenedStore.at(one_store.paths[0])
    piece = crew.pieces[1]
    gone = opened.generation.segments[piece.first : piece.end]
    ids = {int(one) for segment in gone for one in segment.arrays["window_id"][segment.alive]}
    which = f"segments {piece.first + 1} to {piece.end}"
    if len(gone) == 1:
        which = f"segment {piece.first + 1}"
    note = (
        f"left out: {len(ids):,} windows of {one_store.paths[0]} ({which}): the machine that had "
        f"them is lost"
    )
    crew.lost.add(1)
    rest = spread.search(asked, k=5_000, all_windows=True)
    assert rest.notes == (note,)
    assert rest.hits == tuple(hit for hit in whole if hit.window_id not in ids)
    assert len(rest) < len(whole)
    for one in spread.search_many([asked, one_store.ids[0]]):
        assert one.notes == (note,)
    with pytest.warns(SoundalikeWarning, match="left out: "):
        assert spread.count() == plain.num_windows - len(ids)
    with pytest.warns(SoundalikeWarning, match="left out: "):
        assert sum(one.num_windows for one in spread.facets()) < sum(
            one.num_windows for one in plain.facets()
        )
    with pytest.warns(SoundalikeWarning, match="left out: "):
        spread.duplicates()
    crew.lost.clear()
    assert spread.search(asked, k=5_000, all_windows=True).notes == ()


def test_what_is_lost_on_the_way_is_no_part_of_any_count(one_store: Made) -> None:
    """A shard counts its rows and is lost before they are searched."""
    spread, here = open_here(one_store.paths, 4)
    asked = one_store.ids[0]
    expected = spread.search(asked)
    (crew,) = here.crews
    send, num_sent = crew.send, 0

    def losing(*given: Any) -> Any:
        nonlocal num_sent
        num_sent += 1
        crew.lost = {2} if num_sent > 2 else set()
        return send(*given)

    crew.send = losing  # type: ignore[assignment]
    answer = spread.search(asked)
    assert num_sent > 2
    assert len(answer.notes) == 1
    assert answer.num_left_out <= expected.num_left_out
    assert answer.num_silent < expected.num_silent  # of which some were there
    assert 0 < len(answer) <= 10


def test_everything_lost_is_an_answer_without_hits(four_stores: Made) -> None:
    spread, here = open_here(four_stores.paths, 4)
    assert len(spread.search(four_stores.ids[0])) == 10
    for crew in here.crews:
        crew.lost = {0}
    for how in ({}, {"group_by": "file"}, {"tags": ["Cricket"]}, {"unique": True}):
        answer = spread.search(four_stores.ids[0], **how)
        assert (len(answer), len(answer.notes)) == (0, 4)
        assert [len(one) for one in spread.search_many(four_stores.ids[:2], **how)] == [0, 0]


def test_newer_generations_are_asked_in_new_shards(whole: None, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({f"r{at}": 4 for at in range(50)}, seed=1)
    build(store.store, max_segment_rows=60)
    spread, here = open_here([tmp_path / "store"], 3)
    assert spread.count() == 200
    store.add({"more": 4}, seed=2)
    build(store.store, max_segment_rows=60)
    assert spread.count() == 204
    assert spread.search(store.windows[-1].window_id, include_self=True)[0].score > 0.999
    newest = OpenedStore.at(tmp_path / "store").generation.path.name
    assert {piece.generation for crew in here.crews for piece in crew.pieces} == {newest}


def test_a_store_without_windows_is_asked(whole: None, tmp_path: Path) -> None:
    build(make_store(tmp_path / "store").store)
    spread, here = open_here([tmp_path / "store"], 3)
    assert len(spread.search(np.ones(768, np.float32))) == 0
    assert (spread.count(), spread.count(tags=["Dog"])) == (0, 0)
    assert here.crews[0].pieces == []


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 7, 100])
def test_pieces_have_about_as_many_rows(one_store: Made, four_stores: Made, number: int) -> None:
    for made in (one_store, four_stores):
        opened = [OpenedStore.at(path) for path in made.paths]
        pieces = cut(opened, number)
        for store, some in zip(opened, pieces, strict=True):
            bounds = [0, *(one.end for one in some)]
            assert [one.first for one in some] == bounds[:-1]
            assert bounds[-1] == len(store.generation.segments)
            assert all(one.first < one.end for one in some)
            sizes = np.diff(store.generation.starts[bounds])
            largest = np.diff(store.generation.starts).max()
            assert sizes.max() <= store.generation.starts[-1] / len(some) + largest
        total = sum(map(len, pieces))
        wanted = max(number, len(opened))
        segments = sum(len(one.generation.segments) for one in opened)
        assert total == min(wanted, segments) or number < len(opened)
        assert total <= wanted


def test_a_shard_of_another_generation_is_an_error(whole: None, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"one": 9})
    build(store.store)
    name = OpenedStore.at(tmp_path / "store").generation.path.name
    with pytest.raises(StoreError, match="is not there: the index was built anew meanwhile"):
        Shard(Piece(tmp_path / "store", name[:-1] + "x", 0, 1))
    Shard(Piece(tmp_path / "store", name, 0, 1))
    (segment,) = (tmp_path / "store" / INDEX_FOLDER / "segments").iterdir()
    array_file(segment, "vectors").unlink()
    with pytest.raises(DamagedStoreError, match=r"vectors\.raw is missing; building"):
        Shard(Piece(tmp_path / "store", name, 0, 1))
