"""Silent windows are hits of silent questions; what is stored of a clip tells how loud it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY, Run
from sketched import scenes_of, sketching
from synthetic import make_store

import soundalike
from indexer.audio.times import FileSpan
from indexer.errors import SoundalikeWarning
from search.asking.duplicates import find_duplicates
from search.asking.matching import MatchingHere
from search.asking.opened import OpenedStore
from search.asking.terms import DuplicateTerms
from search.upkeep.build import build

Array = np.ndarray[Any, Any]
SILENT = {"zeros.wav", "more zeros.wav", "one step.wav"}


def dog() -> Array:
    samples, rate = soundfile.read(REPOSITORY / "data/samples/animals/dog.ogg", dtype="float32")
    return samples / np.abs(samples).max() if rate else samples


@pytest.fixture(scope="module")
def store(whole: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some animals, silence of three kinds, a quiet file, and one that is half silence."""
    folder = tmp_path_factory.mktemp("silence")
    library = folder / "library"
    library.mkdir()
    for name in ("cow", "dog", "goat", "frog"):
        shutil.copy(REPOSITORY / f"data/samples/animals/{name}.ogg", library)
    rate = soundfile.info(library / "dog.ogg").samplerate
    step = np.zeros(40_000)
    step[::100] = 2**-15
    half = np.zeros(20 * rate)
    half[: round(9.9 * rate)] = np.resize(dog(), round(9.9 * rate))  # and its echo in the filter
    for name, samples in (
        ("zeros.wav", np.zeros(50_000)),
        ("more zeros.wav", np.zeros(90_000)),
        ("one step.wav", step),
        ("quiet.wav", 0.05 * dog()),
        ("half.wav", half),
    ):
        soundfile.write(library / name, samples, rate, "PCM_16")
    path = folder / "s.soundalike"
    soundalike.open(path, checkpoint="demo").index(library)
    return path


def names(answer: soundalike.Answer) -> set[str]:
    return {hit.path.name for hit in answer if hit.path}


@pytest.mark.whole
def test_silent_windows_are_hits_of_silent_questions_alone(store: Path, run: Run) -> None:
    library, sounds = store.parent / "library", soundalike.open(store)
    everything = {path.name for path in library.iterdir()}
    answer = sounds.search(library / "dog.ogg", k=50, all_windows=True)
    assert names(answer) == everything - SILENT - {"dog.ogg"}
    assert answer.num_silent == 4  # the second half of one file, too
    assert all(hit.start_s == 0 for hit in answer)
    silent = sounds.search(library / "zeros.wav", k=50)
    assert names(silent) == everything - {"zeros.wav"}
    assert (silent[0].path.name, silent.num_silent) == ("more zeros.wav", 0)
    ids = {hit.path.name: hit.window_id for hit in silent}
    by_id = sounds.search(ids["one step.wav"], k=3)
    assert names(by_id) == {"zeros.wav", "more zeros.wav", "half.wav"}
    assert not names(sounds.search(ids["cow.ogg"], k=50)) & SILENT
    assert not names(sounds.search(ids["one step.wav"], ids["cow.ogg"], k=50)) & SILENT
    assert not names(sounds.search(np.ones(768), k=50)) & SILENT
    assert names(sounds.search(tags="Silence", threshold=0.3, k=50)) >= SILENT
    told = run("search", store, library / "dog.ogg")
    assert "4 silent windows were left out" in told.err.splitlines()
    assert "left out" not in run("search", store, "--tag", "Silence").err


@pytest.mark.whole
def test_many_questions_know_which_of_them_are_silent(
    store: Path, tmp_path: Path, run: Run
) -> None:
    library, sounds = store.parent / "library", soundalike.open(store)
    files = [library / "zeros.wav", library / "dog.ogg", library / "more zeros.wav"]
    answers = sounds.search_many(files, k=50)
    alone = [sounds.search(file, k=50) for file in files]
    assert [answer.hits for answer in answers] == [answer.hits for answer in alone]
    assert [answer.num_silent for answer in answers] == [0, 4, 0]
    for per, num_silent in (("window", 6 * 4), ("clip", 6 * 4)):
        output = tmp_path / f"{per}.jsonl"
        told = run("batch", store, store, "--output", output, "--per", per, "-k", 50)
        said = f"{num_silent} silent windows were left out, over all questions"
        assert said in told.err.splitlines()
        rows = [json.loads(line) for line in output.read_text().splitlines()]
        for row in rows:
            asks, hit = (Path(row[key]).name for key in ("query_path", "path"))
            if hit in SILENT:  # the second half of a file asks as silence, window by window
                assert asks in SILENT or (per, asks) == ("window", "half.wav")
                assert asks in SILENT or row["query_start_s"] == 10
        assert {Path(row["path"]).name for row in rows} >= SILENT


@pytest.mark.whole
def test_known_clip_that_is_quiet_asks_louder_and_needs_the_network_only_then(
    store: Path, tmp_path: Path
) -> None:
    library = store.parent / "library"
    sounds = soundalike.open(store)
    for name, options in (("dog.ogg", {}), ("quiet.wav", {"level": False}), ("zeros.wav", {})):
        answer = sounds.search(library / name, **options)
        assert not any("quiet" in note for note in answer.notes)
    assert sounds._kept._extractor is None
    heard = sounds.search(library / "quiet.wav")
    assert sounds._kept._extractor is not None
    assert [note for note in heard.notes if "quiet" in note] == [
        "quiet.wav is quiet, its peak is 26 dB below full scale: asked as it is, and louder by so "
        "much; the better counts"
    ]
    copy = tmp_path / "a copy that is not known.wav"
    samples, rate = soundfile.read(library / "quiet.wav", dtype="float32")
    soundfile.write(copy, np.append(samples, np.float32(0)), rate, "PCM_16")
    unknown = sounds.search(copy, k=50)
    known = {hit.window_id: hit.score for hit in sounds.search(library / "quiet.wav", k=50)}
    for hit in unknown:
        if hit.path and hit.path.name != "quiet.wav":
            assert known[hit.window_id] == pytest.approx(hit.score, abs=2e-3)


@pytest.mark.whole
def test_known_clip_asks_with_what_is_heard_in_it(store: Path) -> None:
    sounds = soundalike.open(store)
    answer = sounds.search(store.parent / "library" / "half.wav")
    assert answer.notes == (
        "the last 10.0 s of half.wav do not ask: less than a window, or silence beside the rest",
    )
    assert {hit.query_start_s for hit in answer} == {0}
    assert sounds._kept._extractor is None


@pytest.mark.whole
def test_known_clip_that_is_quiet_asks_as_it_is_where_the_network_is_gone(
    store: Path, tmp_path: Path, tiny_file: Path
) -> None:
    checkpoint, library = tmp_path / "mine.safetensors", store.parent / "library"
    shutil.copy(tiny_file, checkpoint)
    path = tmp_path / "s.soundalike"
    soundalike.open(path, checkpoint=checkpoint).index(library)
    checkpoint.unlink()
    sounds = soundalike.open(path)
    with pytest.warns(SoundalikeWarning, match=r"quiet\.wav is quiet, and asked no louder: "):
        answer = sounds.search(library / "quiet.wav")
    assert len(answer) > 3
    assert answer.hits == sounds.search(library / "quiet.wav", level=False).hits


def test_embedded_clip_knows_how_loud_its_windows_are(store: Path) -> None:
    sounds = soundalike.open(store)
    clip = sounds._kept.embed(sounds._kept.store(), FileSpan(store.parent / "library" / "half.wav"))
    assert clip.levels_db is not None
    assert clip.levels_db.tolist() == [pytest.approx(0, abs=0.5), -np.inf]
    assert clip.asks is not None
    assert clip.asks.tolist() == [True, False]


def test_lists_of_silence_alone_hold_nothing_for_questions_that_are_not_silent(
    tmp_path: Path,
) -> None:
    """Nor do they after one question has left out some rows, which the next one may find."""
    store, is_silent = make_store(tmp_path / "store", frames="none"), np.arange(900) < 300
    scene = scenes_of(900)
    scene[is_silent] = 1.0  # they are all the same, and in lists of their own
    levels_db = np.where(is_silent, -np.inf, -3.0).astype(np.float32)
    store.add({f"r{at}": 1 for at in range(900)}, scene=scene, levels_db=levels_db)
    with sketching():
        build(store.store)
    opened = OpenedStore.at(tmp_path / "store")
    heard = opened.matching(None).heard()
    assert isinstance(heard, MatchingHere)
    [lists], [segment] = opened.index.lists, opened.generation.segments
    is_heard = segment.arrays["level_db"] > -80
    without = heard.allowed.without([np.flatnonzero(is_heard)[:100]])
    true = [int(one.sum()) for one in np.split(is_heard, np.cumsum(lists.sizes)[:-1])]
    assert 0 in true
    for allowed in (without, heard.allowed):
        assert lists.count(allowed).rows.tolist() == true


# --- duplicates ----------------------------------------------------------------------------------


def silent_pairs(path: Path, levels_db: list[float]) -> OpenedStore:
    """Recordings of a window each that are all the same to the network: silence, it says."""
    store = make_store(path, frames="none")
    number = len(levels_db)
    tags = np.zeros((number, 527))
    tags[:, 500] = 0.9
    scene = np.ones((number, 768), np.float32)
    store.add(
        {f"r{at}": 1 for at in range(number)},
        scene=scene,
        tags=tags,
        levels_db=np.array(levels_db, np.float32),
    )
    build(store.store)
    return OpenedStore.at(path)


def silence() -> Array:
    return np.full((1, 768), 768**-0.5, np.float32)


@pytest.mark.parametrize(
    ("levels_db", "num_silent", "linked"),
    [
        ([-np.inf, -90.0, -80.5], 3, set()),
        ([-3.0, -79.0, -90.0, -np.inf], 2, {0, 1}),  # whatever the network makes of them
        ([np.nan, np.nan, np.nan], 3, set()),  # not known: the network says so
        ([np.nan, -np.inf, -3.0, -3.0], 2, {2, 3}),
    ],
)
def test_silent_things_are_no_duplicates(
    tmp_path: Path, levels_db: list[float], num_silent: int, linked: set[int]
) -> None:
    opened = silent_pairs(tmp_path / "store", levels_db)
    found = find_duplicates(opened, None, DuplicateTerms(), silence=silence)
    assert found.num_silent == num_silent
    groups = [{path.stem for member in one for path in member.paths} for one in found.groups]
    assert groups == ([{f"r{at}" for at in linked}] if linked else [])


def test_silence_that_is_known_takes_no_network(tmp_path: Path) -> None:
    opened = silent_pairs(tmp_path / "store", [-np.inf, -np.inf, -3.0, -3.0])

    def load() -> Array:
        raise AssertionError("it is not asked")

    found = find_duplicates(opened, None, DuplicateTerms(), silence=load)
    assert (len(found.groups), found.num_silent) == (1, 2)
