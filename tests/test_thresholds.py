"""Thresholds of tags: measured against counting by hand, kept beside a store, used where asked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import SHARED_AUDIO, Run
from faults import fault
from synthetic import Synthetic, make_store

import soundalike
from indexer.errors import (
    IdentityError,
    OutputError,
    QueryError,
    SoundalikeError,
    StoreError,
    UnknownTagError,
)
from indexer.store.own import Own
from indexer.tags import DEFAULT_THRESHOLD, TagVocabulary
from search.evaluation.thresholds import (
    MIN_POSITIVES,
    lower_bound,
    lowest_threshold,
    measure_thresholds,
    read_tagged,
)
from search.filters.thresholds import TagThreshold
from search.upkeep.build import build
from search.upkeep.verify import verify

VOCABULARY = TagVocabulary.audioset()


def index_of(name: str) -> int:
    index = VOCABULARY.resolve(name).index
    assert index is not None
    return index


def store_with(path: Path, heard: dict[str, dict[str, float]]) -> Synthetic:
    """A store of files of one window: name → tag → probability."""
    made = make_store(path, frames="none")
    tags = np.full((len(heard), 527), 0.001, np.float16)
    for row, given in enumerate(heard.values()):
        for name, probability in given.items():
            tags[row, index_of(name)] = probability
    made.add(dict.fromkeys(heard, 1), tags=tags)
    build(made.store)
    return made


@pytest.fixture
def dogs(tmp_path: Path) -> Synthetic:
    """Twenty dogs from 0.05 on, of which the last two growl only, and twenty others below 0.04."""
    heard: dict[str, dict[str, float]] = {
        f"dog{number}": {"Dog": 0.05 + number / 64} for number in range(18)
    }
    heard |= {f"growl{number}": {"Growling": 0.07, "Dog": 0.01} for number in range(2)}
    heard |= {f"rain{number}": {"Rain": 0.5, "Dog": number / 500} for number in range(20)}
    return store_with(tmp_path / "store", heard)


def added_problems(made: Synthetic) -> list[Path]:
    """What is wrong in what was added; the tags of these stores are not those of their scenes."""
    return [one.path for one in verify(made.store.path) if one.path.parent.name == "own"]


def labels_of(made: Synthetic, tmp_path: Path, *more: str) -> Path:
    rows = [f"{path},{'Dog' if path[0] in 'dg' else 'Rain'}" for path in made.paths]
    return table(tmp_path, *rows, *more)


def table(tmp_path: Path, *rows: str, header: str = "path,tag") -> Path:
    path = tmp_path / "heard.csv"
    path.write_text("\n".join([header, *rows, ""]))
    return path


# --- measuring -----------------------------------------------------------------------------------


def wilson(right: int, number: int) -> float:
    """The lower end, as the root of the equation that defines it, by halving."""
    low, high, share = 0.0, right / number, right / number
    for _ in range(100):
        middle = (low + high) / 2
        is_far = share - middle > 0.8416 * math.sqrt(middle * (1 - middle) / number)
        low, high = (middle, high) if is_far else (low, middle)
    return low


@pytest.mark.parametrize(
    ("right", "number"), [(3, 3), (8, 8), (18, 20), (1, 7), (80, 100), (9, 10)]
)
def test_lower_bound_solves_the_equation_of_wilson(right: int, number: int) -> None:
    assert lower_bound(np.array([right]), np.array([number]))[0] == pytest.approx(
        wilson(right, number), abs=1e-9
    )


@pytest.mark.parametrize("seed", range(30))
def test_lowest_threshold_is_that_of_trying_every_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.integers(0, 12, 40).astype(np.float32) / 16  # with ties
    is_right = random.random(40) < 0.3 + scores
    precision = float(random.choice([0.5, 0.8, 0.9]))
    good = []
    for score in sorted(set(scores.tolist())):
        heard = [right for one, right in zip(scores, is_right, strict=True) if one >= score]
        if wilson(sum(heard), len(heard)) >= precision:
            good.append(score)
    assert lowest_threshold(scores, is_right, precision) == (good[0] if good else None)


def test_bound_is_too_high_for_one_tag_in_five() -> None:
    """Of 30 files that are right in 80 % the bound is above that about as often as is said."""
    right = np.random.default_rng(0).binomial(30, 0.8, 20_000)
    is_too_high = lower_bound(right, np.full(len(right), 30)) > 0.8
    assert 0.1 < is_too_high.mean() < 0.25


def test_threshold_of_a_tag_counts_what_is_below_it(dogs: Synthetic, tmp_path: Path) -> None:
    found = measure_thresholds(dogs.store, labels_of(dogs, tmp_path))
    dog, rain = found.tags
    assert (dog.tag.name, rain.tag.name) == ("Dog", "Rain")
    # All 20 dogs lie above all rain: the growls at 0.07 by Growling, the others from 0.05 on. Six
    # of rain lie above 0.025, and with 20 right of 23 the bound is just below 0.8.
    numbers = [20 / (20 + wrong) for wrong in range(8)]
    most = max(wrong for wrong in range(8) if wilson(20, 20 + wrong) >= 0.8)
    assert dog == TagThreshold(
        dog.tag, pytest.approx((20 - most) / 500, abs=1e-3), 20, 0, 20 + most, 20
    )
    assert dog.precision == numbers[most]
    assert (dog.recall, rain.precision, rain.recall) == (1, 1, 1)
    assert (found.num_files, found.num_missing) == (40, 0)
    outputs = found.of_outputs()
    assert outputs[index_of("Dog")] == np.float32(dog.threshold)
    assert outputs[index_of("Cat")] == np.float32(DEFAULT_THRESHOLD)


def test_tags_with_few_files_or_nothing_sure_get_none_and_say_why(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    heard = {f"a{n}": {"Dog": float(random.random() / 4)} for n in range(30)}
    store = store_with(tmp_path / "store", heard).store
    rows = [f"a{n}.wav,{'Dog' if n % 2 else 'Cat' if n < 8 else ''}" for n in range(30)]
    rows += ["a29.wav,Human voice", "a28.wav,Human voice"]
    found = {one.tag.name: one for one in measure_thresholds(store, table(tmp_path, *rows)).tags}
    assert (found["Cat"].threshold, found["Cat"].positives) == (None, 4)
    assert found["Cat"].reason == f"fewer than {MIN_POSITIVES} files have it"
    assert (found["Dog"].threshold, found["Dog"].positives) == (None, 15)
    assert found["Dog"].reason == "no threshold is sure enough to be right in 80%"
    assert found["Human voice"].reason == "the model has no output of its own for it"


def test_files_that_are_called_only_by_what_is_above_are_not_counted(tmp_path: Path) -> None:
    heard = {f"d{n}": {"Dog": 0.5} for n in range(10)}
    heard |= {f"a{n}": {"Dog": 0.9} for n in range(10)}  # some animal: perhaps a dog
    heard |= {f"c{n}": {"Cat": 0.5, "Dog": 0.1} for n in range(10)}  # an animal that is a cat
    store = store_with(tmp_path / "store", heard).store
    rows = [f"d{n}.wav,Dog" for n in range(10)] + [f"a{n}.wav,Animal" for n in range(10)]
    rows += [f"c{n}.wav,Animal; Cat" for n in range(10)]
    found = {one.tag.name: one for one in measure_thresholds(store, table(tmp_path, *rows)).tags}
    assert found["Dog"].unknown == 10
    assert (found["Dog"].threshold, found["Dog"].predicted) == (0.5, 10)  # no Animal is wrong
    assert found["Animal"].positives == 30


def test_recording_with_several_windows_is_heard_where_one_is(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    tags = np.full((30, 527), 0.001, np.float16)
    tags[1:20:2, index_of("Dog")] = 0.5  # the second of two windows
    made.add({**{f"d{n}": 2 for n in range(10)}, **{f"x{n}": 1 for n in range(10)}}, tags=tags)
    rows = [f"d{n}.wav,Dog" for n in range(10)] + [f"x{n}.wav," for n in range(10)]
    (dog,) = measure_thresholds(made.store, table(tmp_path, *rows)).tags
    assert (dog.threshold, dog.predicted, dog.right) == (0.5, 10, 10)


def test_audiosets_list_of_segments_is_taken_as_labels(tmp_path: Path) -> None:
    names = [f"video_{number:05}" for number in range(12)]
    heard = {f"{name}_30.000": {"Dog": 0.4 if at < 8 else 0.1} for at, name in enumerate(names)}
    store = store_with(tmp_path / "store", heard).store
    mids = {name: VOCABULARY.resolve(name).mid for name in ("Dog", "Rain")}
    lines = ["# Segments csv created Sun Mar  5 10:54:25 2017", "# YTID, start, end, labels"]
    lines += [
        f'{name}, 30.000, 40.000, "{mids["Dog" if at < 8 else "Rain"]}"'
        for at, name in enumerate([*names, "not_there_0"])
    ]
    path = tmp_path / "eval_segments.csv"
    path.write_text("\n".join([*lines, ""]))
    found = measure_thresholds(store, path)
    dog = next(one for one in found.tags if one.tag.name == "Dog")
    assert (dog.positives, dog.predicted, dog.right) == (8, 8, 8)
    assert dog.threshold == pytest.approx(0.4, abs=1e-3)
    assert (found.num_files, found.num_missing) == (12, 1)


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("path,tag", "a.wav,Dogg", r"line 2: unknown tag 'Dogg'; did you mean 'Dog'"),
        ("path,tag", ",Dog", r"line 2 names no file"),
        ("path,tag", "a.wav,", r"has no labels"),
        ("path,what", "a.wav,Dog", r"has no column tag \(or tags, label, "),
        ("clip,tag", "a.wav,Dog", r"has no column path"),
        ("path,tag", "b.wav,Dog", r"none of 1 labelled file is in .*such as 'a.wav'"),
    ],
)
def test_labels_that_cannot_be_read_are_told(
    header: str, row: str, message: str, tmp_path: Path
) -> None:
    store = store_with(tmp_path / "store", {"a": {"Dog": 0.5}}).store
    with pytest.raises((SoundalikeError, UnknownTagError), match=message):
        measure_thresholds(store, table(tmp_path, row, header=header))


def test_tags_of_a_file_may_be_in_one_cell_or_in_rows_of_their_own(tmp_path: Path) -> None:
    rows = ["a.wav;/m/0bt9lr", "a.wav;Rain", "b.wav;"]
    assert read_tagged(table(tmp_path, *rows, header="file;label")) == {
        "a.wav": {VOCABULARY.resolve(name).mid for name in ("Dog", "Rain")},
        "b.wav": set(),
    }
    path = table(tmp_path, '"a.wav","Dog; Baby cry, infant cry"')
    assert len(read_tagged(path)["a.wav"]) == 2


# --- keeping and using ---------------------------------------------------------------------------


def test_thresholds_are_kept_and_used_wherever_one_is_asked_for(
    dogs: Synthetic, tmp_path: Path
) -> None:
    sounds = soundalike.open(dogs.store.path)
    with pytest.raises(QueryError, match="has no thresholds of its own"):
        sounds.search(tags=["Dog"], threshold="auto")
    measured = sounds.thresholds(labels_of(dogs, tmp_path))
    assert sounds.thresholds() == measured
    assert sounds.info().own == ("thresholds",)
    assert added_problems(dogs) == []
    dog = measured.tags[0]
    assert dog.threshold is not None
    hits = sounds.search(tags=["Dog"], threshold="auto", k=100)
    assert len(hits) == dog.predicted
    assert len(sounds.search(tags=["Dog"], threshold=dog.threshold, k=100)) == dog.predicted
    assert len(sounds.search(tags=["Dog"], k=100)) < dog.predicted
    # Others have the usual one, in one question too, and in expressions.
    for terms in ({"tags": ["Dog"], "not_tags": ["Rain"]}, {"where": "Dog and not Rain"}):
        found = sounds.search(threshold="auto", k=100, **terms)  # type: ignore[arg-type]
        assert len(found) == 20
    assert len(sounds.search(where="Dog > 0.3", threshold="auto", k=100)) == 2
    # Counting, and what each tag's own output says.
    own = np.array(dogs.tags)[:, index_of("Dog")].astype(np.float32)
    counted = {one.tag.name: one.num_windows for one in sounds.tags("auto")}
    assert counted["Dog"] == (own >= np.float32(dog.threshold)).sum()
    assert counted["Growling"] == 0


def test_batch_and_exports_take_what_is_kept(dogs: Synthetic, tmp_path: Path, run: Run) -> None:
    store = dogs.store.path
    run("thresholds", store, "--labels", labels_of(dogs, tmp_path))
    auto = ("--threshold", "auto")
    run("batch", store, store, "--tag", "Dog", *auto, "-k", 100, "--output", tmp_path / "h.parquet")
    hits = pq.read_table(tmp_path / "h.parquet").to_pylist()
    predicted = run("thresholds", store, "--format", "json").data["tags"][0]["predicted"]
    assert len({hit["hit_path"] if "hit_path" in hit else hit["path"] for hit in hits}) == predicted
    run("export", "jsonl", store, *auto, "--output", tmp_path / "w.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "w.jsonl").read_text().splitlines()]
    named = sum(any(one["name"] == "Dog" for one in row["tags"]) for row in rows)
    counted = run("tags", store, *auto, "--format", "json").data
    assert named == next(one["windows"] for one in counted if one["name"] == "Dog") > 18


def test_label_files_are_of_each_tags_own_threshold(tmp_path: Path, run: Run) -> None:
    made = make_store(tmp_path / "store")
    made.add({f"{number}": 1 for number in range(12)})
    build(made.store)
    rows = [f"{number}.wav,{'Dog' if number < 6 else 'Rain'}" for number in range(12)]
    own = Own.of(made.store.path)
    sounds = soundalike.open(made.store.path)
    sounds.thresholds(table(tmp_path, *rows), precision=0.01)
    measured = sounds.thresholds().of_outputs()
    assert own.names() == ["thresholds"]
    common = ("export", "labels", made.store.path, "--as", "csv", "--tag", "Dog", "--output")
    run(*common, tmp_path / "auto", "--threshold", "auto")
    for index in sorted({*VOCABULARY.outputs(VOCABULARY.resolve("Dog"))}):
        name = VOCABULARY.names[index]
        folder = tmp_path / str(index)
        only = ("export", "labels", made.store.path, "--as", "csv", "--tag", name)
        run(*only, "--threshold", f"{measured[index]:.9g}", "--output", folder, code=None)
        assert lines(folder, index) == lines(tmp_path / "auto", index)
    card = next((tmp_path / "auto").glob("*.card.md")).read_text()
    assert "of each tag its own" in card


def lines(folder: Path, index: int) -> list[tuple[str, str]]:
    """The spans of one tag in the label files of a folder."""
    return sorted(
        (file.name, line)
        for file in folder.glob("*.csv")
        for line in file.read_text().splitlines()[1:]
        if line.split(",")[3] == str(index)
    )


def test_thresholds_are_replaced_only_by_force(dogs: Synthetic, tmp_path: Path, run: Run) -> None:
    labels = labels_of(dogs, tmp_path)
    sounds = soundalike.open(dogs.store.path)
    first = sounds.thresholds(labels)
    with pytest.raises(OutputError, match="is there already"):
        sounds.thresholds(labels, precision=0.95)
    assert sounds.thresholds() == first
    assert sounds.thresholds(labels, precision=0.95, force=True) != first
    told = run("thresholds", dogs.store.path, "--labels", labels, code=1)
    assert "--force" in told.err


def test_thresholds_of_another_network_are_refused(
    dogs: Synthetic, tmp_path: Path, run: Run
) -> None:
    soundalike.open(dogs.store.path).thresholds(labels_of(dogs, tmp_path))
    other = make_store(tmp_path / "other", frames="none", weights="b" * 64)
    other.add({"a": 1})
    build(other.store)
    own = dogs.store.path / "own"
    sounds = soundalike.open(other.store.path, own=own)
    with pytest.raises(IdentityError, match=r"another checkpoint, test, .*aaaaaaaaaaaa there"):
        sounds.search(tags=["Dog"], threshold="auto")
    told = run("tags", other.store.path, "--threshold", "auto", "--own", own, code=None)
    fault("H2").require(told.code, told.err)
    document = Own(own).read("thresholds")
    Own(own).write("thresholds", {**document, "padding": "repeat"})
    with pytest.raises(IdentityError, match="padding repeat there and zero here"):
        soundalike.open(dogs.store.path).tags("auto")
    Own(own).write("thresholds", document)
    same = make_store(tmp_path / "same", frames="none")
    same.add({"a": 1})
    build(same.store)
    sounds = soundalike.open(same.store.path, own=own)
    sounds.search(tags=["Dog"], threshold="auto")
    assert not (same.store.path / "own").exists()


def test_own_folder_elsewhere_keeps_them_for_a_store_that_may_only_be_read(
    dogs: Synthetic, tmp_path: Path, run: Run
) -> None:
    store, mine = dogs.store.path, ("--own", tmp_path / "mine")
    run("thresholds", store, "--labels", labels_of(dogs, tmp_path), *mine)
    assert not (store / "own").exists()
    run("search", store, "--tag", "Dog", "--threshold", "auto", code=1)
    asked = ("search", store, "--tag", "Dog", "--threshold", "auto", *mine, "--format", "json")
    assert len(run(*asked).hits) == 10
    told = run("search", store, "--tag", "Dog", *mine, code=2)
    assert "--own goes with --text or --threshold auto" in told.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "another version"),
        ({"tags": {"/m/none": {}}}, "content is not what this format says"),
        ({"precision": "much"}, "its precision is not what it should be"),
        ({"weights": None}, "its weights is not what it should be"),
        ({"tags": {"/m/0bt9lr": {"threshold": 7.0}}}, "no probability"),
        ({"tags": {"/m/0bt9lr": {"positives": True}}}, "its positives is not"),
    ],
)
def test_document_that_says_what_cannot_be_is_named(
    change: dict[str, Any], message: str, dogs: Synthetic, tmp_path: Path
) -> None:
    sounds = soundalike.open(dogs.store.path)
    sounds.thresholds(labels_of(dogs, tmp_path))
    document = sounds.own.read("thresholds")
    tags = change.pop("tags", {})
    for mid, fields in tags.items():
        document["tags"][mid] = {**document["tags"]["/m/0bt9lr"], **fields}
    sounds.own.write("thresholds", {**document, **change})
    with pytest.raises(StoreError, match=message):
        sounds.search(tags=["Dog"], threshold="auto")
    (problem,) = added_problems(dogs)
    assert problem == dogs.store.path / "own" / "thresholds.json"


def test_thresholds_command_says_what_it_rests_on(
    dogs: Synthetic, tmp_path: Path, run: Run
) -> None:
    told = run("search", dogs.store.path, "--tag", "Dog", "--threshold", "auto", code=None)
    fault("H1").require(told.code, told.err)
    labels = labels_of(dogs, tmp_path, "dog0.wav,Cat", "none.wav,Dog")
    told = run("thresholds", dogs.store.path, "--labels", labels).out
    assert "40 files of heard.csv; 1 more are not in the store; to be right in 80%" in told
    assert "-       1  Cat: none, as fewer than 5 files have it" in told
    data = run("thresholds", dogs.store.path, "--format", "json").data
    dog = next(one for one in data["tags"] if one["name"] == "Dog")
    assert f"{dog['threshold']:>9.4f}      20" in told
    assert run("thresholds", dogs.store.path).out == told


def test_tag_of_a_file_takes_what_is_kept(whole: None, tmp_path: Path, dogs: Synthetic) -> None:
    """The door from Python: a store's own thresholds, for a file that it does not have."""
    sounds = soundalike.open(dogs.store.path, checkpoint="demo")
    with pytest.raises(QueryError, match="has no thresholds"):
        sounds.tag(tmp_path / "a.wav", threshold="auto")


@pytest.mark.parametrize("precision", [0, 1, -1, float("nan"), 2])
def test_precision_that_is_none_is_refused(
    precision: float, dogs: Synthetic, tmp_path: Path
) -> None:
    with pytest.raises(QueryError, match="precision is above 0 and below 1"):
        measure_thresholds(dogs.store, labels_of(dogs, tmp_path), precision)


# --- nothing at the threshold --------------------------------------------------------------------


def test_nothing_at_the_threshold_says_what_comes_nearest_and_what_finds_it(
    tmp_path: Path, run: Run
) -> None:
    heard = {"a": {"Dog": 0.2, "Rain": 0.1}, "b": {"Dog": 0.1234}, "c": {"Dog": 0.19, "Rain": 0.2}}
    made = store_with(tmp_path / "store", heard)
    sounds = soundalike.open(made.store.path)
    answer = sounds.search(tags=["Dog"])
    assert len(answer) == 0
    assert [hit.path.stem for hit in answer.almost if hit.path] == ["a", "c", "b"]
    told = run("search", made.store.path, "--tag", "Dog").err
    assert "the most probable is at 0.199, in " in told or "at 0.2, in " in told
    threshold = told.split("--threshold ")[1].split()[0]
    (found,) = run(
        *("search", made.store.path, "--tag", "Dog", "--threshold", threshold), "--format", "json"
    ).hits
    assert found["paths"] == [str(answer.almost[0].path)]
    almost = run("search", made.store.path, "--tag", "Dog", "--format", "json").data["almost"]
    assert almost["threshold"] == float(threshold)
    assert [one["window_id"] for one in almost["windows"]] == [
        hit.window_id for hit in answer.almost
    ]
    # What must not be heard counts at that threshold too; and with a clip it is the same.
    dry = sounds.search(tags=["Dog"], not_tags=["Rain"]).almost
    assert [hit.path.stem for hit in dry if hit.path] == ["a", "b"]
    clip = sounds.search(tags=["Dog"], threshold=0)[0].window_id
    assert sounds.search(clip, tags=["Dog"]).almost == answer.almost
    where = sounds.search(tags=["Dog"], where="path like 'b%'").almost
    assert [hit.path.stem for hit in where if hit.path] == ["b"]


def test_nothing_is_said_where_something_is_heard_or_no_tag_has_to_be(dogs: Synthetic) -> None:
    sounds = soundalike.open(dogs.store.path)
    assert sounds.search(tags=["Dog"]).almost == ()
    assert sounds.search(not_tags=["Dog", "Rain", "Speech"], threshold=0).almost == ()
    assert sounds.search(where="duration > 60").almost == ()
    assert sounds.search(tags=["Dog"], min_score=1).almost == ()  # it is the score that is missing


@pytest.mark.parametrize("seed", range(5))
def test_nearest_are_those_of_all_windows_of_several_stores(seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    made = [
        store_with(
            tmp_path / name,
            {
                f"{name}{n}": {"Dog": random.random() / 5, "Cat": random.random() / 5}
                for n in range(30)
            },
        )
        for name in "ab"
    ]
    sounds = soundalike.open(*(one.store.path for one in made))
    tags = np.array([row for one in made for row in one.tags], np.float32)
    dog, cat = tags[:, index_of("Dog")], tags[:, index_of("Cat")]
    for terms, fits in (
        ({"tags": ["Dog", "Cat"]}, np.minimum(dog, cat)),
        ({"any_tags": ["Dog", "Cat"]}, np.maximum(dog, cat)),
    ):
        found = sounds.search(**terms).almost
        assert [hit.score for hit in found] == np.sort(fits)[::-1][:3].tolist()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_AUDIO.exists(), reason="the recordings are not here")
def test_thresholds_hold_for_recordings_that_they_were_not_measured_on(tmp_path: Path) -> None:
    """Measured on half of the recordings of five classes, heard in the other half."""
    names = {"dog_bark": "Dog", "rain": "Rain", "rooster": "Chicken, rooster"}
    names |= {"person_sneeze": "Sneeze", "clock_tick": "Tick-tock"}
    sounds = soundalike.open(tmp_path / "store", checkpoint="demo")
    library, include = SHARED_AUDIO / "esc10_seen", tuple(f"{name}/*" for name in names)
    sounds.index(library, include=include, num_workers=0)
    paths = sorted(f"{name}/{file.name}" for name in names for file in (library / name).iterdir())
    known = paths[::2]
    labels = table(tmp_path, *(f'{path},"{names[path.split("/")[0]]}"' for path in known))
    found = [one for one in sounds.thresholds(labels).tags if one.threshold is not None]
    assert len(found) >= 3
    heard, right = 0, 0
    for one in found:
        hits = sounds.search(tags=[one.tag.name], threshold="auto", k=1000)
        others = [hit for hit in hits if str(hit.path).endswith(tuple(paths[1::2]))]
        heard += len(others)
        right += sum(names[hit.path.parent.name] == one.tag.name for hit in others if hit.path)
    assert right / heard > 0.6
