"""Queries against all rows, filtered and sorted one by one."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Array, Query, ask, find_among_others, unit
from synthetic import ORIGIN, Synthetic, make_store, recording_id

from indexer.errors import DamagedStoreError, IdentityError, QueryError, StoreError, UnknownTagError
from indexer.store.writer import PartWriter
from search.asking.find import Question, find
from search.asking.left_out import LeftOut
from search.asking.questions import make_question
from search.asking.scope import Scope
from search.asking.sound_index import MIN_TOP_PROBABILITY, NUM_TOP_TAGS, SoundIndex
from search.asking.terms import Terms
from search.filters.tags import TagFilter
from search.nearest.index import VectorIndex
from search.upkeep.build import build

NAMES = ["Dog", "Speech", "Rain", "Animal", "Human voice", "Music"]


def unit32(scene: Array) -> Array:
    return unit(scene).astype(np.float32)


def scene_of(name: str, number: int, kinds: int) -> Array:
    """The scene of a window, always the same: one of some kinds, or one of its own."""
    rng = np.random.default_rng([*name.encode(), number])
    kind = int(rng.integers(0, kinds + 3))
    if kind < kinds:  # many windows are equal, bit by bit
        return np.random.default_rng(kind).normal(0, 1, 768).astype(np.float32)
    own = rng.normal(0, 1, 768)
    if kind == kinds:  # or nearly equal
        own = np.random.default_rng(0).normal(0, 1, 768) + 1e-6 * own
    return own.astype(np.float32)


def tags_of(name: str, number: int) -> Array:
    rng = np.random.default_rng([*name.encode(), number, 1])
    loud = rng.choice([0.0, 0.2, 0.25, 0.5, 0.9, 0.9990234375], 527)
    return np.where(rng.random(527) < 0.1, loud, rng.beta(0.2, 60, 527)).astype(np.float16)


def level_of(name: str, number: int) -> float:
    """The highest peak of a window: one in three is silent, or not known to be."""
    rng = np.random.default_rng([*name.encode(), number, 2])
    return float(rng.choice([-3.0, -40.0, -79.9, np.nan, -80.1, -np.inf]))


def fill(store: Synthetic, recordings: dict[str, int], kinds: int = 4) -> None:
    windows = [(name, number) for name, count in recordings.items() for number in range(count)]
    scene = np.array([scene_of(*window, kinds) for window in windows]).reshape(-1, 768)
    tags = np.array([tags_of(*window) for window in windows]).reshape(-1, 527)
    levels = np.array([level_of(*window) for window in windows], np.float32)
    store.add(recordings, scene=scene, tags=tags, levels_db=levels)


Opened = tuple[list[Synthetic], SoundIndex]


def opened(*stores: Synthetic, max_segment_rows: int = 1 << 17) -> Opened:
    for store in stores:
        build(store.store, max_segment_rows=max_segment_rows)
    return list(stores), SoundIndex.open(*(store.store.path for store in stores))


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[Opened]:
    """Stores of several kinds: empty, few rows, many equal ones, one long recording, two stores."""
    folder = tmp_path_factory.mktemp("stores")

    def new(name: str) -> Synthetic:
        return make_store(folder / name, frames="none", root=folder / f"library of {name}")

    few, many, long, one, two, empty = (new(n) for n in ("few", "many", "long", "one", "two", "no"))
    fill(few, {"a": 2, "b": 1})
    fill(many, {f"r{number}": 1 + number % 5 for number in range(40)})
    fill(many, {f"s{number}": 3 for number in range(10)}, kinds=1)
    build(many.store, max_segment_rows=50)
    many.remove("r3.wav", "r4.wav", "s5.wav")
    fill(long, {"day": 150, "x": 1, "y": 2, "z": 1}, kinds=2)
    fill(one, {"a": 5, "shared": 8, "b": 40})
    fill(two, {"shared": 8, "c": 30, "a": 5, **{f"d{number}": 1 for number in range(20)}})
    return [
        opened(empty),
        opened(few),
        opened(many, max_segment_rows=50),
        opened(long, max_segment_rows=64),
        opened(one, two, max_segment_rows=30),
        opened(empty, few, long),
    ]


def answer_of(index: SoundIndex, query: Query) -> list[tuple[float, int]]:
    return [(hit.score, hit.window_id) for hit in ask(index, query)]


def assert_answers(one: Opened, query: Query) -> None:
    stores, index = one
    expected = oracle.answer(stores, query)
    assert answer_of(index, query) == expected
    if query.vectors is not None:
        assert answer_among_others(index, query) == expected


def answer_among_others(index: SoundIndex, query: Query) -> list[tuple[float, int]]:
    (hits,) = index.hits(find_among_others(index, query))
    return [(hit.score, hit.window_id) for hit in hits]


def vectors_for(rng: np.random.Generator, stores: list[Synthetic]) -> Array:
    """One to three of: a stored scene, a new one, the centre of the crowd, zeros."""
    scenes = [scene for store in stores for scene in store.scene] or [np.ones(768)]
    choices = [
        scenes[rng.integers(0, len(scenes))],
        rng.normal(0, 1, 768),
        np.random.default_rng(0).normal(0, 1, 768),
        np.zeros(768),
    ]
    chosen = rng.choice(4, rng.integers(1, 4), p=[0.4, 0.3, 0.2, 0.1])
    return unit32(np.array([choices[at] for at in chosen], np.float32))


names = st.lists(st.sampled_from(NAMES), max_size=2).map(tuple)
filters = st.builds(
    TagFilter,
    all_of=names,
    any_of=names,
    none_of=names,
    threshold=st.sampled_from([0.0, 0.001, 0.1, 0.25, 0.26, 0.9, 1.0]),
)


@settings(max_examples=300, deadline=None)
@given(
    which=st.integers(0, 5),
    seed=st.integers(0, 2**32 - 1),
    by_vector=st.booleans(),
    wanted=st.one_of(st.none(), filters),
    k=st.one_of(st.integers(1, 30), st.sampled_from([100, 1000])),
    grouped=st.booleans(),
    min_score=st.one_of(st.none(), st.sampled_from([-1.0, 0.0, 0.03, 0.25, 0.9999999, 1.0])),
    excluding=st.integers(0, 3),
    is_silent=st.booleans(),
)
def test_query_of_any_kind_equals_brute_force(
    sets: list[Opened],
    which: int,
    seed: int,
    by_vector: bool,
    wanted: TagFilter | None,
    k: int,
    grouped: bool,
    min_score: float | None,
    excluding: int,
    is_silent: bool,
) -> None:
    rng = np.random.default_rng(seed)
    stores, _ = sets[which]
    recordings = sorted({row.recording_id for row in oracle.live_rows(*stores)}) or [b"x" * 16]
    query = Query(
        vectors=vectors_for(rng, stores) if by_vector or not wanted else None,
        k=k,
        filter=wanted,
        exclude=frozenset(recordings[rng.integers(len(recordings))] for _ in range(excluding)),
        group_by="file" if grouped else None,
        min_score=min_score,
        is_silent=is_silent,
    )
    assert_answers(sets[which], query)


@settings(max_examples=150, deadline=None)
@given(
    which=st.integers(2, 5),
    wanted=st.builds(
        TagFilter,
        all_of=st.lists(st.sampled_from(NAMES), max_size=1).map(tuple),
        any_of=st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map(tuple),
        none_of=st.sampled_from([(), (), ("Vehicle",)]),
        threshold=st.sampled_from([1e-6, 0.01]),
    ),
    k=st.integers(1, 40),
    grouped=st.booleans(),
)
def test_query_by_tag_with_more_matches_than_hits_equals_brute_force(
    sets: list[Opened], which: int, wanted: TagFilter, k: int, grouped: bool
) -> None:
    query = Query(filter=wanted, k=k, group_by="file" if grouped else None)
    assert_answers(sets[which], query)


# --- cases that random ones may miss -------------------------------------------------------------


def test_query_empty_store_has_no_hits(sets: list[Opened]) -> None:
    _, index = sets[0]
    assert index.num_windows == 0
    assert ask(index, Query(vectors=np.eye(1, 768, dtype=np.float32))) == []
    assert ask(index, Query(filter=TagFilter(("Dog",), threshold=0))) == []


def test_query_filter_that_matches_nothing_has_no_hits(sets: list[Opened]) -> None:
    nothing = TagFilter(("Dog", "Rain", "Speech"), threshold=1)
    for _, index in sets:
        assert ask(index, Query(filter=nothing)) == []
        assert ask(index, Query(vectors=np.eye(1, 768, dtype=np.float32), filter=nothing)) == []


def test_query_k_beyond_all_rows_gives_each_once(sets: list[Opened]) -> None:
    stores, index = sets[2]
    query = Query(vectors=np.eye(1, 768, dtype=np.float32), k=10**6, is_silent=True)
    hits = ask(index, query)
    ids = [hit.window_id for hit in hits]
    assert len(ids) == index.num_windows == len(oracle.live_rows(*stores))
    assert len(set(ids)) == len(ids)


def test_query_many_equal_windows_come_by_window_id(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    scene = np.tile(np.random.default_rng(0).normal(0, 1, 768), (300, 1)).astype(np.float32)
    store.add({f"r{number}": 30 for number in range(10)}, scene=scene)
    _, index = opened(store, max_segment_rows=70)
    hits = ask(index, Query(vectors=unit32(scene[0]), k=7))
    assert [hit.window_id for hit in hits] == sorted(w.window_id for w in store.windows)[:7]
    assert len({hit.score for hit in hits}) == 1


def test_query_grouped_with_one_long_recording_in_front_finds_the_others(tmp_path: Path) -> None:
    """One recording has the best 200 windows; the tenth file comes after all of them."""
    store = make_store(tmp_path / "store", frames="none")
    rng = np.random.default_rng(1)
    aim = rng.normal(0, 1, 768)
    day = aim + 0.1 * rng.normal(0, 1, (200, 768))
    others = aim + rng.normal(0, 1, (12, 768))
    scene = np.concatenate([day, others]).astype(np.float32)
    store.add({"day": 200, **{f"o{number}": 1 for number in range(12)}}, scene=scene)
    one = opened(store)
    query = Query(vectors=unit32(aim), k=10, group_by="file")
    assert len(answer_of(one[1], query)) == 10
    assert_answers(one, query)


def test_query_grouped_over_two_stores_misses_none_of_either(tmp_path: Path) -> None:
    """The first store's next recording beats all of the second's, but lies beyond its first k."""
    first, second = (make_store(tmp_path / name, frames="none") for name in ("first", "second"))
    rng = np.random.default_rng(1)
    aim = rng.normal(0, 1, 768)
    near = aim + 0.1 * rng.normal(0, 1, (10, 768))
    middle = aim + 0.5 * rng.normal(0, 1, (1, 768))
    far = aim + 3 * rng.normal(0, 1, (10, 768))
    first.add({"many": 10, "next": 1}, scene=np.concatenate([near, middle]).astype(np.float32))
    second.add({f"far{number}": 1 for number in range(10)}, scene=far.astype(np.float32))
    one = opened(first, second)
    query = Query(vectors=unit32(aim), k=5, group_by="file")
    assert index_of(one, query, "next") == 1
    assert_answers(one, query)


def index_of(one: Opened, query: Query, name: str) -> int:
    return [hit.recording_id for hit in ask(one[1], query)].index(recording_id(name))


def test_query_same_recording_in_two_stores_comes_once_with_all_its_paths(tmp_path: Path) -> None:
    stores = [
        make_store(tmp_path / name, frames="none", root=tmp_path / f"library {name}")
        for name in ("one", "two")
    ]
    for store in stores:
        fill(store, {"shared": 3, store.store.path.name: 2})
    stores[1].add_rows([stores[1].row("a copy.wav", recording_id("shared"))])
    _, index = opened(*stores)
    query = Query(vectors=unit32(stores[0].scene[0]), k=20, is_silent=True)
    hits = [hit for hit in ask(index, query) if hit.recording_id == recording_id("shared")]
    assert len(hits) == 3
    for hit in hits:
        assert hit.paths == (
            tmp_path / "library one/shared.wav",
            tmp_path / "library two/a copy.wav",
            tmp_path / "library two/shared.wav",
        )


def test_query_min_score_stops_looking_where_it_is_reached(
    sets: list[Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few hits above a score are no reason to go on to the end of the store."""
    _, index = sets[3]
    asked: list[int] = []
    search = VectorIndex.search

    def counting(self: VectorIndex, vectors: Array, k: int, *others: Any, **how: Any) -> Any:
        asked.append(k)
        return search(self, vectors, k, *others, **how)

    monkeypatch.setattr(VectorIndex, "search", counting)
    vectors = unit32(np.random.default_rng(99).normal(0, 1, 768))
    assert ask(index, Query(vectors=vectors, k=5, min_score=0.99)) == []
    assert asked == [5]


def test_query_score_at_min_score_is_a_hit(sets: list[Opened]) -> None:
    stores, index = sets[1]
    vectors = unit32(stores[0].scene[0] + stores[0].scene[1])
    best = ask(index, Query(vectors=vectors, k=1))[0].score
    again = ask(index, Query(vectors=vectors, k=10, min_score=best))
    assert [hit.score for hit in again] == [best]


# --- what a hit says -----------------------------------------------------------------------------


def test_hit_says_where_and_what(sets: list[Opened]) -> None:
    [store], index = sets[2]
    rows = {window.window_id: at for at, window in enumerate(store.windows)}
    for hit in ask(index, Query(vectors=unit32(store.scene[0]), k=200)):
        at = rows[hit.window_id]
        window, tags = store.windows[at], store.tags[at].astype(float)
        assert hit.recording_id == window.recording_id
        assert (hit.start_s, hit.end_s) == (
            window.start_sample / 32000,
            window.start_sample / 32000 + 10,
        )
        name = next(path for path, one in store.paths.items() if one == window.recording_id)
        assert hit.paths == (store.store.path.parent / "library of many" / name,)
        expected = sorted(range(527), key=lambda index: (-tags[index], index))[:NUM_TOP_TAGS]
        expected = [index for index in expected if tags[index] >= MIN_TOP_PROBABILITY]
        assert [one.tag.index for one in hit.tags] == expected
        assert [one.probability for one in hit.tags] == [tags[index] for index in expected]
        assert type(hit.score) is float
        assert type(hit.window_id) is int


def test_hit_of_a_library_that_is_not_known_here_keeps_its_path_below_its_id(
    tmp_path: Path,
) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"a": 1})
    build(store.store)
    (store.store.path / "libraries.json").unlink()
    [hit] = ask(SoundIndex.open(store.store.path), Query(filter=TagFilter(("Dog",), threshold=0)))
    assert hit.paths == (Path(f"(library {store.library_id})/a.wav"),)


def test_hit_of_an_odd_file_name_opens_that_file(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none", root=tmp_path)
    store.add({"a": 1})
    store.rename("a.wav", r"caf\xe9\x5c.wav")  # as stored: a Latin-1 byte and a backslash
    Path(tmp_path, b"caf\xe9\\.wav".decode("utf-8", "surrogateescape")).write_text("here")
    _, index = opened(store)
    [hit] = ask(index, Query(filter=TagFilter(("Dog",), threshold=0)))
    assert hit.paths[0].read_text() == "here"


def test_query_by_tag_is_ordered_by_probability(sets: list[Opened]) -> None:
    [store], index = sets[2]
    hits = ask(index, Query(filter=TagFilter(("Ukulele",), threshold=0), k=1000))
    animal = oracle.probability(np.array(store.tags), "Ukulele").astype(float)
    by_id = {window.window_id: value for window, value in zip(store.windows, animal, strict=True)}
    assert [hit.score for hit in hits] == [by_id[hit.window_id] for hit in hits]
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert len({hit.score for hit in hits}) > 20


# --- questions that cannot be asked --------------------------------------------------------------

VECTORS = np.eye(1, 768, dtype=np.float32)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"k": -3}, "k must be at least 1, got -3"),
        ({"k": 2.5}, "k is a whole number, got 2.5"),
        ({"k": "5"}, "k is a whole number, got '5'"),
        ({"k": None}, "k is a whole number, got None"),
        ({"tags": 5}, "tags is a name or several names, got 5"),
        ({"not_tags": [b"Dog"]}, r"not_tags is a name or several names, got \[b'Dog'\]"),
        ({"threshold": 1.5}, "threshold must be at most 1, got 1.5"),
        ({"threshold": float("nan")}, "threshold is a number or 'auto', got nan"),
        ({"threshold": "loud"}, "threshold is a number or 'auto', got 'loud'"),
        ({"min_score": float("nan")}, "min_score is a number, got nan"),
        ({"min_score": "0.5"}, "min_score is a number, got '0.5'"),
        ({"diverse": 1.1}, "diversity is a number from 0 to 1, got 1.1"),
        ({"diverse": "very"}, "diverse is True or False or a number, got 'very'"),
        ({"exact": "no"}, "exact is True or False, got 'no'"),
        ({"k": True}, "k is a whole number, got True"),
        ({"diverse": True, "k": 1001}, "at most 1,000 hits, got k = 1001"),
        ({"group_by": "folder"}, "group_by is 'file', got 'folder'"),
        ({"where": 5}, "where is text, got 5"),
        ({"metadata": 5}, "metadata is a path, got 5"),
    ],
)
def test_terms_that_cannot_be_are_errors(terms: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        Terms(**terms)


def test_terms_take_one_tag_for_several_and_text_for_a_path() -> None:
    terms = Terms(tags="Dog", any_tags=["Cat"], metadata="sheet.csv", where="a = 1")
    assert (terms.tags, terms.any_tags, terms.metadata) == (("Dog",), ("Cat",), Path("sheet.csv"))
    assert Terms(diverse=True).diversity == 0.5
    assert Terms().diversity == 0


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (VECTORS[:0], "shape"),
        (VECTORS[:, :767], "shape"),
        (VECTORS[None], "shape"),
        (VECTORS * np.nan, "finite"),
        (VECTORS + np.inf, "finite"),
        (np.array(["a"] * 768), "are real numbers"),
        (VECTORS[0] * 1j, "are real numbers"),
        (VECTORS * 0, "one of these is all zeros"),
    ],
)
def test_vectors_that_are_none_are_errors(sets: list[Opened], vectors: Array, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        make_question([vectors], sets[1][1], embed)


def embed(_: Path) -> Any:
    raise AssertionError("no file asks")


def test_vectors_of_any_length_ask_as_those_of_length_1(sets: list[Opened]) -> None:
    _, index = sets[2]
    raw = 7.5 * np.random.default_rng(3).normal(0, 1, 768)
    given = (raw, raw[None], unit32(raw)[0], 1e-200 * raw, 1e200 * raw)
    asked = [make_question([one], index, embed)[0] for one in given]
    for question in asked:
        assert question.vectors is not None
        assert np.abs(question.vectors - unit(raw)).max() < 1e-7


def test_window_ids_and_paths_of_numpy_are_what_they_stand_for(
    sets: list[Opened], tmp_path: Path
) -> None:
    stores, index = sets[2]
    window = stores[0].windows[5]
    for number in (np.int64(window.window_id), np.array(window.window_id)):
        question = make_question([number], index, embed)[0]
        assert question.own == {LeftOut.of_window(window)}
    with pytest.raises(QueryError, match=r"no such file: nothing\.wav"):
        make_question([np.str_("nothing.wav")], index, embed)


@pytest.mark.parametrize("query", [3.5, None, ["a.wav"], {"a"}, True])
def test_what_is_neither_file_nor_window_nor_vector_is_an_error(
    sets: list[Opened], query: Any
) -> None:
    with pytest.raises(QueryError, match=f"or vectors, got {re.escape(repr(query))}"):
        make_question([query], sets[1][1], embed)


def test_query_for_nothing_is_an_error(sets: list[Opened]) -> None:
    _, index = sets[1]
    for query in (Query(), Query(filter=TagFilter())):
        with pytest.raises(QueryError, match="nothing to look for"):
            ask(index, query)
    with pytest.raises(QueryError, match="nothing to look for"):  # one of many
        find(index, [Question(VECTORS), Question()], Scope.of(Terms(), index.opened))


def test_question_without_vectors_among_others_asks_by_the_terms(sets: list[Opened]) -> None:
    _, index = sets[2]
    scope = Scope.of(Terms(tags="Dog", threshold=0.1), index.opened)
    alone = find(index, [Question()], scope)
    found = find(index, [Question(VECTORS), Question(), Question(VECTORS)], scope)
    assert found.rows[found.asked == 1].tolist() == alone.rows.tolist()
    assert len(alone.rows) > 0


def test_find_without_questions_finds_nothing(sets: list[Opened]) -> None:
    _, index = sets[1]
    found = find(index, [], Scope.of(Terms(), index.opened))
    assert (found.num_questions, len(found.rows), index.hits(found)) == (0, 0, [])


def test_query_unknown_tag_is_an_error(sets: list[Opened]) -> None:
    with pytest.raises(UnknownTagError):
        ask(sets[1][1], Query(filter=TagFilter(("Dogg",))))


# --- window ids ----------------------------------------------------------------------------------


def test_windows_of_ids_are_their_vectors(sets: list[Opened]) -> None:
    stores, index = sets[4]
    chosen = [stores[1].windows[20], stores[0].windows[3], stores[1].windows[20]]
    vectors, windows, *_, rows = index.windows_of(window.window_id for window in chosen)
    assert windows == chosen
    assert index.window_ids(rows).tolist() == [window.window_id for window in chosen]
    scenes = [stores[1].scene[20], stores[0].scene[3], stores[1].scene[20]]
    assert np.abs(vectors - unit(np.array(scenes))).max() < 1e-7


def test_windows_of_no_ids_are_none(sets: list[Opened]) -> None:
    vectors, windows, *_ = sets[0][1].windows_of([])
    assert vectors.shape == (0, 768)
    assert windows == []


@pytest.mark.parametrize("window_id", [0, 12345, 2**63 - 1, 2**63, 10**19 - 1])
def test_windows_of_an_unknown_id_is_an_error(sets: list[Opened], window_id: int) -> None:
    for _, index in sets:
        with pytest.raises(QueryError, match=f"no window {window_id} in"):
            index.windows_of([window_id])


def test_window_that_is_in_no_index_yet_is_said_to_be_missing_there(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    fill(store, {"a": 2})
    index = opened(store)[1]
    fill(store, {"b": 1})
    [new] = (one for one in store.windows if one.recording_id == recording_id("b"))
    with pytest.raises(QueryError, match="not in the index yet: 1 of their parts"):
        index.windows_of([new.window_id])
    with pytest.raises(QueryError, match=r"in \S+$"):
        opened(store)[1].windows_of([4711])


def test_windows_of_a_dead_window_is_an_error(sets: list[Opened]) -> None:
    [store], index = sets[2]
    dead = next(one for one in store.windows if one.recording_id == recording_id("r3"))
    with pytest.raises(QueryError, match="no window"):
        index.windows_of([dead.window_id])


# --- opening -------------------------------------------------------------------------------------


def test_open_stores_of_other_checkpoints_is_an_error_that_names_the_field(tmp_path: Path) -> None:
    stores = [
        make_store(tmp_path / weights, frames="none", weights=weights * 64) for weights in "ab"
    ]
    for store in stores:
        build(store.store)
    with pytest.raises(IdentityError, match="weights") as raised:
        SoundIndex.open(*(store.store.path for store in stores))
    assert set(raised.value.differences) == {"weights"}


def test_open_without_store_or_index_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store"):
        SoundIndex.open(tmp_path / "nowhere")
    store = make_store(tmp_path / "store")
    with pytest.raises(StoreError, match="has no index yet") as raised:
        SoundIndex.open(store.store.path)
    assert (raised.value.about, raised.value.value) == ("build", store.store.path)


def test_num_new_parts_counts_what_the_index_does_not_hold(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"a": 1})
    _, index = opened(store)
    assert index.num_new_parts() == 0
    store.add({"b": 1})
    store.add({"c": 1})
    assert index.num_new_parts() == 2
    assert index.num_windows == 1  # it stays at its generation
    assert opened(store)[1].num_new_parts() == 0


def test_num_new_parts_does_not_count_replaced_ones(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"a": 1})
    _, index = opened(store)
    store.add({"b": 1})
    store.add({"c": 1})
    old = store.store.part_names()
    assert index.num_new_parts() == 2
    with PartWriter(store.store, ORIGIN) as writer:
        writer.add_ledger([store.row("a.wav", recording_id("a"))])
        writer.commit(replaces=old)
    assert set(store.store.part_names()) > set(old)  # still on disk
    assert index.num_new_parts() == 1


def test_num_new_parts_over_damaged_parts_still_counts(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"a": 1})
    _, index = opened(store)
    [old] = store.store.part_names()
    (store.store.path / "parts" / old / "manifest.json").write_text("{}")
    assert index.num_new_parts() == 0  # known: its manifest is not read
    store.add({"b": 1})
    assert index.num_new_parts() == 1


def test_index_holds_its_generation_while_others_are_built(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    fill(store, {"a": 4})
    _, index = opened(store)
    query = Query(vectors=unit32(store.scene[2]), k=10, is_silent=True)
    before = ask(index, query)
    for number in range(2):
        store.remove(*list(store.paths))
        fill(store, {f"b{number}": 20})
        build(store.store)
    assert ask(index, query) == before
    assert len(before) == 4
    assert_answers(opened(store), query)
    assert dataclasses.astuple(before[0])[0] == pytest.approx(1, abs=1e-6)


def test_open_after_a_flipped_bit_in_the_recordings_is_an_error(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"a": 1})
    file = build(store.store).path / "recordings.arrow"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)
    with pytest.raises(DamagedStoreError, match=r"recordings\.arrow"):
        SoundIndex.open(store.store.path)
