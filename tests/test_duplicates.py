"""Duplicates against a comparison of all windows with all others, one by one."""

from __future__ import annotations

import csv
import inspect
import io
import shutil
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from audio_files import encode
from conftest import REPOSITORY, Outcome, Run
from faults import fault
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Array, unit
from synthetic import Synthetic, make_store, recording_id, write_tone

import soundalike
from indexer.arrays import components
from indexer.embedding.extractor import Extractor
from indexer.errors import IdentityError, QueryError, SoundalikeWarning, StoreError
from indexer.progress import Listen, News, Step, ignore
from indexer.run.extract import ExtractConfig, extract
from indexer.store.creation import create_store, library_at
from indexer.windows import Geometry
from search.asking.duplicates import Duplicates, Member
from search.asking.terms import DuplicateTerms
from search.nearest.index import VectorIndex
from search.upkeep.build import build
from soundalike.cli.many import duplicates

# --- the oracle ----------------------------------------------------------------------------------

Key = tuple[int, int]  # which store, position in its windows


def together(links: Sequence[tuple[Any, Any]]) -> list[set[Any]]:
    """Sets of what is linked, by merging one link after the other."""
    groups: list[set[Any]] = []
    for one, other in links:
        touched = [group for group in groups if one in group or other in group]
        groups = [group for group in groups if group not in touched]
        groups.append({one, other}.union(*touched))
    return groups


def expected(
    stores: Sequence[Synthetic], min_score: float, max_matches: int
) -> tuple[set[tuple[frozenset[bytes], frozenset[Key]]], int]:
    """Groups as (recordings, windows that matched), and the number of windows left out."""
    live = [(number, at) for number, store in enumerate(stores) for at in store.live()]
    scene = np.array([stores[number].scene[at] for number, at in live])
    vectors = unit(scene).astype(np.float32).astype(float)
    near = np.argwhere(vectors @ vectors.T >= min_score)
    same_store = len(stores) == 1

    def recording(key: Key) -> bytes:
        return stores[key[0]].windows[key[1]].recording_id

    matches = [
        (one, other)
        for one, other in ((live[a], live[b]) for a, b in near)
        if one[0] == 0 and (same_store or other[0] == 1) and recording(one) != recording(other)
    ]
    common = {key for key, number in Counter(a for a, _ in matches).items() if number > max_matches}
    matches = [(one, other) for one, other in matches if one not in common]
    if not same_store:
        counted = Counter(other for _, other in matches)
        common |= {key for key, number in counted.items() if number > max_matches}
    matches = [(one, other) for one, other in matches if other not in common]
    links = [(recording(one), recording(other)) for one, other in matches]
    links += [(copied, copied) for copied in copies(stores)]
    windows = {key for match in matches for key in match}
    windows |= {key for key in live if recording(key) in copies(stores)}
    return {
        (frozenset(group), frozenset(key for key in windows if recording(key) in group))
        for group in together(links)
    }, len(common)


def copies(stores: Sequence[Synthetic]) -> set[bytes]:
    if len(stores) == 1:
        counts = Counter(stores[0].paths.values())
        return {one for one, number in counts.items() if number > 1}
    return set(stores[0].paths.values()) & set(stores[1].paths.values())


def duplicates_in(
    store: Path, against: Path | None = None, listen: Listen = ignore, **options: Any
) -> Duplicates:
    return soundalike.open(store, listen=listen).duplicates(against, **options)


def assert_finds(
    stores: Sequence[Synthetic], min_score: float, max_matches: int, **options: Any
) -> Duplicates:
    paths = [store.store.path for store in stores]
    found = duplicates_in(*paths, min_score=min_score, max_matches=max_matches, **options)
    groups, num_common = expected(stores, min_score, max_matches)
    assert found.num_common == num_common
    assert {frozenset(member.recording_id for member in group) for group in found.groups} == {
        recordings for recordings, _ in groups
    }
    spans = {recordings: spans_of(stores, windows) for recordings, windows in groups}
    for group in found.groups:
        wanted = spans[frozenset(member.recording_id for member in group)]
        assert {member.recording_id: seconds_of(member) for member in group} == wanted
        assert_scores(stores, group, next(w for r, w in groups if group[0].recording_id in r))
    assert found.groups == sorted(found.groups, key=lambda group: group[0].paths)
    return found


def spans_of(stores: Sequence[Synthetic], windows: frozenset[Key]) -> dict[bytes, set[int]]:
    """Recording → the seconds of it that lie in matching windows."""
    seconds: dict[bytes, set[int]] = {}
    for number, at in windows:
        window = stores[number].windows[at]
        covered = range(int(window.start_s), int(window.end_s))
        seconds.setdefault(window.recording_id, set()).update(covered)
    return seconds


def seconds_of(member: Member) -> set[int]:
    assert all(one[1] < other[0] for one, other in pairwise(member.spans))
    return {second for start, end in member.spans for second in range(int(start), int(end))}


def assert_scores(
    stores: Sequence[Synthetic], group: Sequence[Member], windows: frozenset[Key]
) -> None:
    def vectors(member: Member) -> Array:
        return unit(
            np.array(
                [
                    stores[number].scene[at]
                    for number, at in windows
                    if stores[number].windows[at].recording_id == member.recording_id
                ]
            )
        )

    first, *others = group
    assert first.score == 1
    for member in others:
        best = (vectors(member) @ vectors(first).T).max()
        assert member.score == pytest.approx(min(best, 1), abs=1e-6)


# --- synthetic stores ----------------------------------------------------------------------------


def planted(path: Path, names: str, seed: int, *, silent: int = 0) -> Synthetic:
    """Sixty recordings; some of their windows are near-copies of ten sounds, some are silent."""
    store = make_store(path, frames="none", root=path.parent / f"library {path.name}")
    rng = np.random.default_rng(seed)
    recordings = {f"{names}{number}": 1 + number % 4 for number in range(40)}
    recordings.update({f"shared{number}": 2 for number in range(3)})
    recordings.update({f"{names}silent{number}": 1 for number in range(silent)})
    num_rows = sum(recordings.values())
    scene = rng.normal(0, 1, (num_rows, 768))
    sounds = np.random.default_rng(0).normal(0, 1, (10, 768))
    for row in np.flatnonzero(rng.random(num_rows) < 0.3):
        scene[row] = sounds[rng.integers(0, 10)] + rng.choice([0, 0.02, 0.1, 0.3]) * scene[row]
    shared = list(recordings).index("shared0")
    at = sum(list(recordings.values())[:shared])
    scene[at : at + 6] = np.random.default_rng(1).normal(0, 1, (6, 768))  # the same in each store
    if silent:
        scene[-silent:] = np.ones(768) + 1e-4 * scene[-silent:]
    scene[0] = 0  # no sound at all
    store.add(recordings, scene=scene.astype(np.float32))
    store.add_rows([store.row("copy of 5.wav", recording_id(f"{names}5"))])
    store.paths["copy of 5.wav"] = recording_id(f"{names}5")
    build(store.store, max_segment_rows=50)
    return store


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Synthetic]:
    folder = tmp_path_factory.mktemp("planted")
    return [planted(folder / "one", "a", 1, silent=12), planted(folder / "two", "b", 2, silent=9)]


@pytest.mark.whole
@settings(max_examples=15, deadline=None)
@given(
    which=st.sampled_from([(0,), (1,), (0, 1), (1, 0)]),
    min_score=st.sampled_from([0.05, 0.9, 0.97, 0.993, 0.9999]),
    max_matches=st.sampled_from([1, 5, 8, 10, 1000]),
    block=st.sampled_from([13, 1024]),
    exact=st.booleans(),
)
def test_duplicates_equal_a_comparison_of_all_with_all(
    stores: list[Synthetic],
    which: tuple[int, ...],
    min_score: float,
    max_matches: int,
    block: int,
    exact: bool,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.asking.duplicates.BLOCK_VECTORS", block)
        assert_finds([stores[at] for at in which], min_score, max_matches, exact=exact)


def test_duplicates_of_many_equal_windows_are_all_found(tmp_path: Path) -> None:
    """More copies than a window is asked for at first, in recordings of several windows each."""
    store = make_store(tmp_path / "store", frames="none")
    scene = np.tile(np.random.default_rng(0).normal(0, 1, 768), (90, 1)).astype(np.float32)
    store.add({f"r{number}": 3 for number in range(30)}, scene=scene)
    build(store.store)
    (group,) = assert_finds([store], 0.99, 1000).groups
    assert len(group) == 30
    assert all(member.spans == ((0.0, 30.0),) and member.score == 1 for member in group)


def test_duplicates_leave_silence_out_and_say_so(tmp_path: Path) -> None:
    """Every recording begins with silence; two are the same after it."""
    store = make_store(tmp_path / "store", frames="none")
    rng = np.random.default_rng(0)
    scene = rng.normal(0, 1, (120, 768))
    scene[::2] = np.ones(768) + 1e-4 * scene[::2]
    scene[31] = scene[1] + 0.02 * scene[31]
    store.add({f"r{number:02}": 2 for number in range(60)}, scene=scene.astype(np.float32))
    build(store.store)
    found = duplicates_in(store.store.path)
    assert found.num_common == 60
    ((first, second),) = found.groups
    assert [path.name for path in (*first.paths, *second.paths)] == ["r00.wav", "r15.wav"]
    assert first.spans == second.spans == ((10.0, 20.0),)
    (everything,) = duplicates_in(store.store.path, max_matches=100).groups
    assert len(everything) == 60


def test_duplicates_in_a_chain_are_one_group_and_the_score_tells(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    rng = np.random.default_rng(0)
    one, other = np.linalg.qr(rng.normal(0, 1, (768, 2)))[0].T
    angles = np.radians([0, 10, 20])
    scene = np.array([np.cos(angle) * one + np.sin(angle) * other for angle in angles])
    store.add({"a": 1, "b": 1, "c": 1}, scene=scene.astype(np.float32))
    build(store.store)
    (group,) = duplicates_in(store.store.path, min_score=0.98).groups
    assert [member.paths[0].name for member in group] == ["a.wav", "b.wav", "c.wav"]
    assert [member.score for member in group] == pytest.approx(np.cos(angles), abs=1e-6)


def test_duplicates_of_the_same_recording_are_one_member_with_all_paths(tmp_path: Path) -> None:
    stores = [
        make_store(tmp_path / name, frames="none", root=tmp_path / f"library {name}")
        for name in ("one", "two")
    ]
    for store in stores:
        store.add({"same": 2, store.store.path.name: 1}, seed=ord(store.store.path.name[0]))
        build(store.store)
    found = duplicates_in(*(store.store.path for store in stores))
    ((member,), *_) = found.groups
    assert member.paths == (tmp_path / "library one/same.wav", tmp_path / "library two/same.wav")
    assert (member.score, member.spans) == (1.0, ((0.0, 20.0),))


def test_duplicates_a_file_that_two_libraries_hold_is_no_copy_of_itself(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none", root=tmp_path / "library")
    store.add({"deep/a": 1, "deep/b": 1})
    inner = Synthetic(store.store, library_at(store.store, tmp_path / "library" / "deep"))
    inner.add_rows([inner.row("a.wav", recording_id("deep/a"))])
    build(store.store)
    assert duplicates_in(store.store.path).groups == []
    inner.add_rows([inner.row("another.wav", recording_id("deep/a"))])
    build(store.store)
    ((member,),) = duplicates_in(store.store.path).groups
    assert [path.name for path in member.paths] == ["a.wav", "another.wav"]


def test_duplicates_of_nothing_are_none(tmp_path: Path, stores: list[Synthetic]) -> None:
    empty = make_store(tmp_path / "empty", frames="none")
    build(empty.store)
    nothing = Duplicates([], 0)
    assert duplicates_in(empty.store.path) == nothing
    assert duplicates_in(empty.store.path, stores[0].store.path) == nothing
    assert duplicates_in(stores[0].store.path, empty.store.path) == nothing


def test_duplicates_stop_asking_where_the_score_is_not_reached(
    stores: list[Synthetic], monkeypatch: pytest.MonkeyPatch
) -> None:
    ks: set[int] = set()
    search_many = VectorIndex.search_many

    def counting(self: VectorIndex, vectors: Any, k: int, *more: Any, **named: Any) -> Any:
        ks.add(k)
        return search_many(self, vectors, k, *more, **named)

    monkeypatch.setattr(VectorIndex, "search_many", counting)
    duplicates_in(stores[0].store.path, min_score=0.99)
    assert ks == {16}


def test_duplicates_say_how_far_they_are(stores: list[Synthetic]) -> None:
    told: list[News] = []
    duplicates_in(stores[0].store.path, listen=told.append)
    total = len(stores[0].live())
    assert told[-1] == Step("comparing", total, total, "window")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": 0.0}, "above 0 and at most 1, got 0"),
        ({"min_score": 1.1}, "got 1.1"),
        ({"min_score": float("nan")}, "got nan"),
        ({"max_matches": 0}, "max_matches must be at least 1, got 0"),
    ],
)
def test_duplicates_with_numbers_out_of_range_are_errors(
    stores: list[Synthetic], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(QueryError, match=message):
        duplicates_in(stores[0].store.path, **options)


def test_duplicates_of_stores_that_differ_or_are_not_there_are_errors(
    stores: list[Synthetic], tmp_path: Path
) -> None:
    other = make_store(tmp_path / "other", frames="none", weights="b" * 64)
    build(other.store)
    with pytest.raises(IdentityError, match="weights"):
        duplicates_in(stores[0].store.path, other.store.path)
    with pytest.raises(StoreError, match="no store"):
        duplicates_in(tmp_path / "absent")


@settings(max_examples=200, deadline=None)
@given(
    links=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=40),
)
def test_components_equal_merging_link_by_link(links: list[tuple[int, int]]) -> None:
    one, other = np.array(links, np.int64).reshape(-1, 2).T
    lowest = components(20, one, other)
    groups = together([*links, *((node, node) for node in range(20))])
    assert lowest.tolist() == [
        min(next(group for group in groups if node in group)) for node in range(20)
    ]


def test_components_of_a_long_chain_take_few_rounds() -> None:
    nodes = np.random.default_rng(0).permutation(100_000)
    assert not components(100_000, nodes[:-1], nodes[1:]).any()


# --- real audio ----------------------------------------------------------------------------------

SOUNDS = ("animals/barking_dog.wav", "tools/anvil.wav")
OTHERS = ("vehicles/traffic.wav", "vehicles/passing_car.wav", "animals/cow.ogg")


@pytest.fixture(scope="module")
def library(
    whole: None, tmp_path_factory: pytest.TempPathFactory, demo_extractor: Extractor
) -> Path:
    """Two sounds as WAV, MP3, Ogg and FLAC, an exact copy, other sounds; and its store."""
    folder = tmp_path_factory.mktemp("duplicates")
    samples, files = REPOSITORY / "data" / "samples", folder / "library"
    files.mkdir()
    for name in (*SOUNDS, *OTHERS):
        shutil.copy(samples / name, files)
    shutil.copy(samples / "animals/cow.ogg", files / "same cow.bin.ogg")
    for number, name in enumerate(SOUNDS):
        sound, rate = soundfile.read(samples / name, dtype="float32", always_2d=True)
        stem = files / Path(name).stem
        encode(stem.with_suffix(".mp3"), sound, rate, "libmp3lame", bit_rate=128_000)
        if number == 0:
            soundfile.write(stem.with_suffix(".flac"), sound, rate)
            with soundfile.SoundFile(stem.with_suffix(".ogg"), "w", rate, sound.shape[1]) as file:
                file.write(sound)
    identity = demo_extractor.identity(Geometry(padding="repeat"))
    store = create_store(
        folder / "store", identity, demo_extractor.head(), checkpoint="demo", written_by="tests"
    )
    extract(files, store, demo_extractor, ExtractConfig(num_workers=0))
    build(store)
    return folder


def test_duplicates_find_other_encodings_and_nothing_else(library: Path) -> None:
    found = duplicates_in(library / "store")
    names = [[path.name for member in group for path in member.paths] for group in found.groups]
    assert names == [
        ["anvil.mp3", "anvil.wav"],
        [f"barking_dog.{suffix}" for suffix in ("flac", "mp3", "ogg", "wav")],
        ["cow.ogg", "same cow.bin.ogg"],
    ]
    for group in found.groups:
        assert all(member.score >= DuplicateTerms().min_score for member in group)
        assert all(start == 0 for member in group for start, _ in member.spans)


@pytest.mark.whole
def test_duplicates_of_silent_files_are_left_out_of_the_groups(
    run: Run, tmp_path: Path, demo_extractor: Extractor
) -> None:
    """Digital silence of several lengths and hiss that no one hears; of a tone there are two."""
    files = tmp_path / "library"
    files.mkdir()
    for number in range(8):
        hiss = np.random.default_rng(number).normal(0, 1e-5 * (number % 3), 32_000 + number)
        soundfile.write(files / f"{number}.wav", hiss, 32_000, subtype="PCM_16")
    tone, rate = soundfile.read(write_tone(files / "tone.wav", 2.0))
    soundfile.write(files / "tone.flac", tone, rate)
    store = create_store(
        tmp_path / "store",
        demo_extractor.identity(Geometry()),
        demo_extractor.head(),
        checkpoint="demo",
        written_by="tests",
    )
    extract(files, store, demo_extractor, ExtractConfig(num_workers=0))
    build(store)
    outcome = run("duplicates", tmp_path / "store")
    fault("F7a").require(outcome.code, outcome.out + outcome.err)
    found = duplicates_in(tmp_path / "store")
    assert found.num_silent == 8
    (group,) = found.groups
    assert {path.name for member in group for path in member.paths} == {"tone.wav", "tone.flac"}


def test_duplicates_without_the_network_take_silence_in_and_warn(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    store = make_store(tmp_path / "store", frames="none")
    tags = np.zeros((4, 527))
    tags[:, 500] = 0.9
    scene = np.ones((4, 768), np.float32)
    store.add({f"r{number}": 1 for number in range(4)}, scene=scene, tags=tags)
    build(store.store)
    found = duplicates_in(tmp_path / "store")
    assert (len(found.groups), found.num_silent) == (1, 0)
    assert "silence counts as any other sound: " in str(recwarn.pop(SoundalikeWarning).message)


# --- the command ---------------------------------------------------------------------------------


def test_duplicates_command_prints_groups_in_three_formats(library: Path, run: Run) -> None:
    store = library / "store"
    groups = duplicates_in(store).groups
    _, table, said = run("duplicates", store)
    assert said == ""
    assert table.splitlines()[0] == "group 1"
    assert table.splitlines()[1] == f"  1.000  {groups[0][0].paths[0]}  0:00.0-0:04.0"
    assert f"       = {library / 'library' / 'same cow.bin.ogg'}" in table.splitlines()
    data = run("duplicates", store, "--format", "json").data
    assert [[member["recording_id"] for member in group] for group in data] == [
        [member.recording_id.hex() for member in group] for group in groups
    ]
    assert data[0][0]["spans"] == [
        {"start_s": start, "end_s": end} for start, end in groups[0][0].spans
    ]
    text = run("duplicates", store, "--format", "csv").out
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["path"] for row in rows] == [
        str(path) for group in groups for member in group for path in member.paths
    ]
    assert {row["group"] for row in rows} == {"1", "2", "3"}


def test_duplicates_command_says_what_it_left_out(stores: list[Synthetic], run: Run) -> None:
    one, two = (store.store.path for store in stores)
    _, out, said = run("duplicates", one, "--min-score", 0.999, "--max-matches", 5)
    assert said.startswith("left out: 12 windows with more than 5 matches each")
    assert out.startswith("group 1\n")
    assert run("duplicates", one, "--max-matches", 5, "-q").err == ""
    against = run("duplicates", one, "--against", two, "--format", "json").data
    assert {member["recording_id"] for group in against for member in group} >= {
        recording_id(f"shared{number}").hex() for number in range(3)
    }


def test_duplicates_command_has_the_defaults_of_the_function() -> None:
    asked = inspect.signature(duplicates).parameters
    for name in ("min_score", "max_matches", "exact"):
        assert asked[name].default == getattr(DuplicateTerms(), name)


def test_duplicates_command_without_any_says_so(tmp_path: Path, run: Run) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"a": 3, "b": 2})
    build(store.store)
    assert run("duplicates", store.store.path) == Outcome(0, "", "no duplicates\n")
    assert run("duplicates", store.store.path, "--format", "json").out == "[]\n"
