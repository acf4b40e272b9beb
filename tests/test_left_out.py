"""What a question leaves out because it asks with it, and options that come to nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Run
from faults import Fault, fault
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import unit
from synthetic import Synthetic, make_store, write_tone

import soundalike
from indexer.arrays import Float32
from indexer.errors import QueryError, SoundalikeWarning
from indexer.windows import WINDOW_SAMPLES
from search.asking.find import Question, find
from search.asking.left_out import LeftOut
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.asking.terms import Terms
from search.upkeep.build import build

#: Windows of each recording.
NUM_WINDOWS = {"a": 1, "b": 7, "c": 3}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """A store of two parts, and so of two segments."""
    store = make_store(tmp_path_factory.mktemp("own") / "store", frames="none")
    store.add({"a": 1, "b": 7}, seed=1)
    build(store.store)
    store.add({"c": 3}, seed=2)
    build(store.store)
    return store


def vector(seed: int) -> Float32:
    return np.asarray(unit(np.random.default_rng(seed).normal(0, 1, 768)), np.float32)


def expected(made: Synthetic, question: Question, terms: Terms) -> list[int]:
    """Window ids by plain loops."""
    assert question.vectors is not None
    scores = (unit(np.stack(made.scene)) @ question.vectors.T.astype(np.float64)).max(1)
    best: list[int] = []
    named: set[bytes] = set()
    for at in np.argsort(-scores):
        window = made.windows[at]
        begin, end = window.start_sample, window.start_sample + window.num_samples
        is_left_out = any(
            one.recording_id == window.recording_id
            and not (end <= one.start_sample or begin >= one.end_sample)
            for one in question.own
        )
        if is_left_out and not terms.include_self:
            continue
        if terms.group_by and window.recording_id in named:
            continue
        named.add(window.recording_id)
        best.append(window.window_id)
    return best[: terms.k]


@st.composite
def questions(draw: st.DrawFn, made: Synthetic) -> Question:
    spans = set()
    for _ in range(draw(st.integers(0, 3))):
        window = made.windows[draw(st.integers(0, 10))]
        start = draw(st.integers(0, 7)) * WINDOW_SAMPLES // 2
        length = draw(st.sampled_from([1, WINDOW_SAMPLES // 2, WINDOW_SAMPLES, 2**62 - start]))
        spans.add(LeftOut(window.recording_id, start, start + length))
    seed, number = draw(st.integers(0, 50)), draw(st.integers(1, 2))
    vectors = np.concatenate([vector(seed + one) for one in range(number)])
    return Question(vectors, frozenset(spans))


@pytest.mark.whole
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_nothing_that_overlaps_what_asks_is_a_hit_and_all_else_is(
    made: Synthetic, data: st.DataObject
) -> None:
    asked = data.draw(st.lists(questions(made), min_size=1, max_size=4))
    terms = Terms(
        k=data.draw(st.integers(1, 12)),
        group_by=data.draw(st.sampled_from([None, "file"])),
        include_self=data.draw(st.sampled_from([False, False, True])),
    )
    index = SoundIndex.open(made.store.path)
    found = find(index, asked, Scope.of(terms, index.opened))
    for number, one in enumerate(asked):
        mine = found.window_ids[found.asked == number].tolist()
        assert mine == expected(made, one, terms)
        everything = Terms(k=100, include_self=True)
        left_out = len(expected(made, one, everything)) - len(expected(made, one, Terms(k=100)))
        assert found.num_left_out[number] == (0 if terms.include_self else left_out)


def test_many_questions_say_each_how_much_they_leave_out(made: Synthetic, tmp_path: Path) -> None:
    sounds = soundalike.open(made.store.path)
    ids = [one.window_id for one in made.windows]
    assert [one.num_left_out for one in sounds.search_many(ids)] == [1] * 11
    assert [one.num_left_out for one in sounds.search_many(ids, include_self=True)] == [0] * 11
    for per in ("window", "clip"):
        report = sounds.search_many([made.store.path], tmp_path / f"{per}.jsonl", per=per)
        squares = sum(number * number for number in NUM_WINDOWS.values())
        assert report.num_left_out == (squares if per == "window" else 11)


def test_what_is_for_an_output_is_refused_without_one(made: Synthetic) -> None:
    sounds = soundalike.open(made.store.path)
    for more in ({"per": "clip"}, {"per": "window"}, {"force": True}):
        with pytest.raises(QueryError, match="per and force go with an output"):
            sounds.search_many([made.windows[0].window_id], **more)


def test_window_leaves_out_itself_and_not_the_rest_of_its_recording(made: Synthetic) -> None:
    sounds = soundalike.open(made.store.path)
    [window_id] = [
        one.window_id
        for one in made.windows
        if one.start_s == 30 and made.paths["b.wav"] == one.recording_id
    ]
    answer = sounds.search(window_id, k=100)
    assert answer.num_left_out == 1
    starts = sorted(hit.start_s for hit in answer if hit.recording_id == made.paths["b.wav"])
    assert starts == [0, 10, 20, 40, 50, 60]


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def hour(whole: None, tiny_file: Path, tmp_path: Path) -> Path:
    """A store of one recording of 60 s, with a window at every 10 s."""
    write_tone(tmp_path / "library" / "hour.wav", 60.0)
    sounds = soundalike.open(tmp_path / "store", checkpoint=tiny_file, device="cpu")
    sounds.index(tmp_path / "library", num_workers=0)
    return tmp_path


def starts(run: Run, *words: Any) -> list[float]:
    return sorted(hit["start_s"] for hit in run("search", *words, "--format", "json").hits)


def test_part_of_a_recording_leaves_out_what_overlaps_it_and_says_so(run: Run, hour: Path) -> None:
    store, clip = hour / "store", hour / "library" / "hour.wav"
    outcome = run("search", store, f"{clip}@0:31-0:34")
    fault("D5a").require(outcome.code, outcome.err)
    rest = [0, 10, 20, 40, 50]
    assert starts(run, store, f"{clip}@0:31-0:34") == rest
    assert starts(run, store, clip, "--start", "0:31.0", "--end", "34") == rest
    assert starts(run, store, clip, "--start", "31", "--duration", "3") == rest
    assert starts(run, store, f"{clip}@29-31") == [0, 10, 40, 50]
    assert starts(run, store, f"{clip}@30-40") == rest
    assert starts(run, store, f"{clip}@35") == [0, 10, 20]
    assert starts(run, store, f"{clip}@0:31-0:34", "--include-self") == [*rest[:3], 30, *rest[3:]]
    spans = soundalike.open(store, device="cpu").search(f"{clip}@0:31-0:34")
    assert sorted(hit.start_s for hit in spans) == rest


def test_whole_recording_is_left_out_and_the_command_says_what_takes_it_in(
    run: Run, hour: Path
) -> None:
    outcome = run("search", hour / "store", hour / "library" / "hour.wav")
    fault("D5b").require(outcome.code, outcome.err)
    assert run("search", hour / "store", hour / "library" / "hour.wav", "-q").out == ""


def test_batch_leaves_out_what_was_named(run: Run, hour: Path) -> None:
    store, clip, table = hour / "store", hour / "library" / "hour.wav", hour / "hits.jsonl"
    outcome = run("batch", store, clip, "--output", table)
    fault("D5c").require(outcome.code, outcome.err)
    table.unlink()
    run("batch", store, f"{clip}@0:31-0:34", "--output", table)
    lines = table.read_text().splitlines()
    assert len(lines) == 5
    assert all('"query_start_s": 31.0, "query_end_s": 34.0' in line for line in lines)


def test_tag_hears_a_part_of_a_file(run: Run, tmp_path: Path, whole: None) -> None:
    clip = write_tone(tmp_path / "clip.wav", 25.0)
    for words in ([f"{clip}@0:03-0:14.5"], [clip, "--start", "3", "--end", "14.5"]):
        [heard] = run("tag", *words, "--checkpoint", "demo", "--format", "json").data
        spans = [(one["start_s"], one["end_s"]) for one in heard["windows"]]
        assert spans == [(3.0, 13.0), (13.0, 14.5)]
    outcome = run("tag", f"{clip}@31", "--checkpoint", "demo", code=None)
    fault("F12b").require(outcome.code, outcome.err)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_span_behind_the_end_of_a_file_is_told_with_its_length(
    whole: None, run: Run, hour: Path, ending: str
) -> None:
    store, clip = hour / "store", hour / f"clip.{ending}"
    tone, rate = soundfile.read(write_tone(hour / "tone.wav", 25.0))
    soundfile.write(clip, tone, rate)
    outcome = run("search", store, f"{clip}@31-35", code=None)
    if ending == "mp3":  # it is padded to whole frames
        assert re.search(r"has no audio at 31 s; it ends at 25\.\d\d s", outcome.err)
        return
    fault("T3").require(outcome.code, outcome.err)
    assert run("search", store, clip, "--start", "31", code=1).err == outcome.err
    others = (f"{clip}@31", hour / "tone.wav", "--output", hour / "hits.jsonl")
    told = run("batch", store, *others, code=None)
    fault("F12b").require(told.code, told.err)


def test_file_that_cannot_be_read_leaves_the_others_to_ask(run: Run, hour: Path) -> None:
    store, good = hour / "store", write_tone(hour / "good.wav", 5.0)
    bad = [hour / "bad.wav", hour / "worse.wav"]
    for path in bad:
        path.write_text("not audio")
    words = ("--format", "json")
    outcome = run("search", store, bad[0], good, *words, code=None)
    fault("T4").require(outcome.code, outcome.err)
    assert outcome.data == run("search", store, good, *words).data != []
    with pytest.warns(SoundalikeWarning, match="asked without it: cannot listen to"):
        [answer] = soundalike.open(store, device="cpu").search_many([[bad[0], good]])
    assert len(answer.failures) == 1
    table = hour / "hits.jsonl"
    table.write_text("what was there")
    for asked in (("search", store, *bad), ("batch", store, *bad, "--output", table, "--force")):
        told = run(*asked, code=None)
        fault("T5").require(told.code, told.err)
        assert (told.out, told.err.count("\n")) == ("", 1)
    assert table.read_text() == "what was there"
    one = run("batch", store, bad[0], "--output", hour / "other.jsonl", code=1)
    assert one.err.startswith(f"soundalike: cannot listen to {bad[0]}: ")
    assert not (hour / "other.jsonl").exists()
    mixed = run("batch", store, good, bad[0], "--output", table, "--force", code=3)
    assert mixed.err.splitlines()[-1].startswith(f"cannot listen to {bad[0]}: ")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (fault("D4a"), ["search", "STORE", "--tag", "Dog", "--start", "3"]),
        (fault("D4b"), ["search", "STORE", "--tag", "Dog", "--include-self"]),
        (fault("D4c"), ["search", "STORE", "1", "--threshold", "0.5"]),
        (fault("D4d"), ["batch", "STORE", "STORE", "--output", "x.jsonl", "--no-descendants"]),
        (fault("D4e"), ["tags", "--threshold", "0.5"]),
        (fault("D4f"), ["verify", "STORE", "--sample", "5"]),
        (fault("D4g"), ["export", "labels", "STORE", "--output", "x", "--device", "cpu"]),
        (fault("D4h"), ["checkpoints", "list", "demo"]),
        (fault("D4i"), ["index", "STORE", "--files-from", "x.txt", "--include", "*.wav"]),
        (fault("F12a"), ["search", "STORE", "CLIP@31:13-31:10"]),
        (fault("F12c"), ["search", "STORE", "CLIP", "--start", "31:75"]),
        (
            fault("F12d"),
            ["search", "STORE", "CLIP", "--start", "3", "--end", "5", "--duration", "2"],
        ),
        (fault("F12e"), ["search", "STORE", "CLIP", "--start", "-3"]),
    ],
)
def test_option_that_would_come_to_nothing_is_refused(
    made: Synthetic, run: Run, tmp_path: Path, row: Fault, words: list[str]
) -> None:
    clip = tmp_path / "clip.wav"
    clip.touch()
    places = {"STORE": str(made.store.path), "CLIP": str(clip)}
    filled = ["@".join(places.get(one, one) for one in word.split("@")) for word in words]
    outcome = run(*filled, code=None)
    row.require(outcome.code, outcome.err)
    assert outcome.out == ""


def test_search_without_hits_exits_with_4_if_asked_to(made: Synthetic, run: Run) -> None:
    words = ["search", made.store.path, "--where", "duration > 60"]
    outcome = run(*words)
    assert (outcome.code, outcome.err) == (0, "no window matches\n")
    failed = run(*words, "--fail-if-none", code=None)
    fault("D5d").require(failed.code, failed.err)
    assert run(*words, "--fail-if-none", "--format", "json", code=4).hits == []
    run("search", made.store.path, "--where", "duration > 5", "--fail-if-none")
