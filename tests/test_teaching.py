"""Labels, kept word after word; and what is proposed to be labelled next."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import Synthetic, make_store

import soundalike
from indexer.errors import DamagedStoreError, QueryError, SoundalikeError, UnknownTagError
from indexer.store.own import Own
from search.learned.labels import Label, LabelBook, names
from search.learned.lesson import estimate_at, wilson
from search.upkeep.build import build
from search.upkeep.verify import verify
from soundalike.show.teaching import labels_lines, review_lines
from soundalike.sounds import Sounds


@pytest.fixture
def put(tmp_path: Path) -> Synthetic:
    """40 recordings of 1 to 3 windows; those called b… have scenes of their own."""
    made = make_store(tmp_path / "store", frames="none")
    recordings = {f"{'ab'[n % 4 == 0]}{n}": 1 + n % 3 for n in range(40)}
    scene = (
        np.random.default_rng(5).normal(0, 1, (sum(recordings.values()), 768)).astype(np.float32)
    )
    at = 0
    for name, count in recordings.items():
        if name[0] == "b":
            scene[at : at + count, :20] += 4
        at += count
    made.add(recordings, scene=scene)
    build(made.store)
    return made


@pytest.fixture
def sounds(put: Synthetic) -> Sounds:
    return soundalike.open(put.store.path)


def ids(put: Synthetic, letter: str) -> list[int]:
    """Ids of the windows of the recordings that are called so."""
    windows = [one for one in put.windows if one.recording_id in of(put, letter)]
    return [one.window_id for one in windows]


def of(put: Synthetic, letter: str) -> set[bytes]:
    return {recording for path, recording in put.paths.items() if path[0] == letter}


# --- a book of labels ----------------------------------------------------------------------------

WORD = st.tuples(st.integers(0, 4), st.sampled_from(["yes", "no", "unsure", "undo", "tear"]))


@given(st.lists(WORD, max_size=25))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_book_says_what_a_list_says(tmp_path: Path, words: list[tuple[int, Any]]) -> None:
    """The oracle is a list that words are appended to and popped from; a torn line is no word."""
    own = Own(tmp_path / str(time.monotonic_ns()))
    book, expected = LabelBook(own, "rattle"), list[tuple[int, str]]()
    for window_id, word in words:
        if word == "undo":
            taken = [(one.window_id, one.says) for one in book.undo()]
            assert taken == expected[-1:]
            del expected[-1:]
        elif word == "tear" and book.path.exists():
            with book.path.open("ab") as file:
                file.write(b'{"window_id": 9, "says": "y')
        elif word != "tear":
            book.add([Label(window_id, word)])
            expected.append((window_id, word))
    assert [(one.window_id, one.says) for one in book.history()] == expected
    assert {key: one.says for key, one in book.current().items()} == dict(expected)
    assert names(own) == (["rattle"] if book.path.exists() else [])


def test_labels_of_many_threads_are_all_there(tmp_path: Path) -> None:
    own = Own(tmp_path)

    def add(number: int) -> None:
        LabelBook(own, "rattle").add([Label(number, "yes", by=f"thread {number % 4}")])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(200)))
    assert sorted(LabelBook(own, "rattle").current()) == list(range(200))


_LABELLER = """
import sys
from pathlib import Path
from indexer.store.own import Own
from search.learned.labels import Label, LabelBook
book = LabelBook(Own(Path(sys.argv[1])), "rattle")
for number in range(int(sys.argv[2]), 10_000_000, 2):
    book.add([Label(number, "yes")])
    print(number, flush=True)
"""


@pytest.mark.whole
def test_kills_while_labelling_lose_nothing_that_was_said(tmp_path: Path) -> None:
    """Two processes, killed again and again: what they had said is there, and nothing else."""
    said: set[int] = set()
    begin = [0, 1]
    for number in range(6):
        which = number % 2
        command = [sys.executable, "-c", _LABELLER, str(tmp_path), str(begin[which])]
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout
            told = [process.stdout.readline() for _ in range(20)]
            process.send_signal(signal.SIGKILL)
            told += process.stdout.readlines()
        said.update(int(one) for one in told if one.endswith(b"\n"))
        begin[which] = max(one for one in said if one % 2 == which) + 4
    book = LabelBook(Own(tmp_path), "rattle")
    there = set(book.current())
    assert len(said) >= 6 * 20
    assert said <= there
    assert len(there) <= len(said) + 6  # of each at most what it had not told yet
    book.add([Label(77_000_000, "no")])
    assert len(LabelBook(Own(tmp_path), "rattle").current()) == len(there) + 1


@pytest.mark.parametrize(
    "name", ["", "Rattle", "a-b", "../x", "a b", "ä", "a" * 65, "my.rattle", "1a"]
)
def test_hostile_name_is_one_line(name: str, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="a tag of your own is called") as caught:
        LabelBook(Own(tmp_path), name)
    assert "\n" not in str(caught.value)


def test_label_that_makes_no_sense_is_one_line() -> None:
    with pytest.raises(QueryError, match="says yes, no or unsure"):
        Label(1, "maybe")  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="proposed by"):
        Label(1, "yes", via="luck")  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="at most 256 bytes"):
        Label(1, "yes", by="x" * 257)


def test_damaged_line_is_named_and_verify_says_so(sounds: Sounds, put: Synthetic) -> None:
    sounds.label("rattle", yes=ids(put, "b")[:3])
    book = LabelBook(sounds.own, "rattle")
    assert verify(put.store.path) == []
    book.path.write_bytes(book.path.read_bytes().replace(b'"yes"', b'"no"', 1))
    with pytest.raises(DamagedStoreError, match="line 1 is not what was written"):
        sounds.labels("rattle")
    assert [one.path for one in verify(put.store.path)] == [book.path]


@pytest.mark.parametrize(
    "changed",
    [
        *({"window_id": one} for one in ([1], "1", 2**63, -1)),
        *({"start_s": one} for one in ("0", 10**400)),
        *({"end_s": float("nan")}, {"id": {}}),
    ],
)
def test_labels_of_a_stranger_that_make_no_sense_are_one_line(
    changed: dict[str, Any], sounds: Sounds, put: Synthetic, tmp_path: Path
) -> None:
    """Each line carries its digest, which a stranger can compute as well."""
    label = {"window_id": 1, "says": "yes", "via": "found", "at": "", "id": "a", **changed}
    digest = hashlib.blake2b(json.dumps(label, sort_keys=True).encode(), digest_size=8).hexdigest()
    file = tmp_path / "theirs.jsonl"
    file.write_text(json.dumps({**label, "digest": digest}) + "\n")
    with pytest.raises(SoundalikeError, match="line 1 is not what was written") as caught:
        sounds.import_labels("rattle", file)
    assert "\n" not in str(caught.value)
    (put.store.path / "own" / "labels").mkdir(parents=True)
    file.rename(put.store.path / "own" / "labels" / "rattle.jsonl")
    with pytest.raises(DamagedStoreError, match="line 1 is not what was written"):
        sounds.labels("rattle")


def test_last_line_whose_end_an_editor_left_out_is_not_lost(tmp_path: Path) -> None:
    book = LabelBook(Own(tmp_path), "rattle")
    book.add([Label(number, "yes") for number in range(3)])
    book.path.write_bytes(book.path.read_bytes().rstrip(b"\n"))
    assert list(book.current()) == [0, 1, 2]
    book.add([Label(3, "no")])
    assert list(book.current()) == [0, 1, 2, 3]
    book.path.write_bytes(book.path.read_bytes()[:-2])  # torn: no word
    book.add([Label(4, "no")])
    assert list(book.current()) == [0, 1, 2, 4]


def test_labels_are_not_written_through_a_link(sounds: Sounds, put: Synthetic) -> None:
    elsewhere = put.store.path.parent / "elsewhere"
    elsewhere.mkdir()
    (put.store.path / "own").mkdir()
    (put.store.path / "own" / "labels").symlink_to(elsewhere)
    with pytest.raises(SoundalikeError, match="symbolic link"):
        sounds.label("rattle", yes=ids(put, "b")[:1])
    assert list(elsewhere.iterdir()) == []


# --- saying and reading --------------------------------------------------------------------------


def test_label_takes_ids_and_hits_and_refuses_what_is_not_there(
    sounds: Sounds, put: Synthetic
) -> None:
    hits = sounds.windows(*ids(put, "b")[:2])
    sounds.label("rattle", yes=hits, no=[np.int64(ids(put, "a")[0])], by="me", via="top")
    told = [(one.window_id, one.says, one.by, one.via) for one in sounds.labels("rattle")]
    assert told == [
        *((one.window_id, "yes", "me", "top") for one in hits),
        (ids(put, "a")[0], "no", "me", "top"),
    ]
    with pytest.raises(QueryError, match="no window 12 in"):
        sounds.label("rattle", yes=[12])
    with pytest.raises(QueryError, match=f"{hits[0].window_id} is given as yes and as no: choose"):
        sounds.label("rattle", yes=hits, no=hits[:1])
    with pytest.raises(QueryError, match="a window is labelled by its id"):
        sounds.label("rattle", yes=["12"])  # type: ignore[list-item]
    with pytest.raises(QueryError, match="nothing is said"):
        sounds.label("rattle")
    assert len(sounds.labels("rattle")) == 3


def test_table_of_labels_comes_back_as_it_was(
    sounds: Sounds, put: Synthetic, tmp_path: Path
) -> None:
    sounds.label("rattle", yes=ids(put, "b")[:3], by="=1+1", via="random")
    sounds.label("rattle", no=ids(put, "a")[:2])
    sounds.export_labels("rattle", tmp_path / "labels.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "labels.csv").read_text())))
    assert [row["says"] for row in rows] == ["yes"] * 3 + ["no"] * 2
    assert not rows[0]["by"].startswith("=")
    sounds.import_labels("again", tmp_path / "labels.csv")
    told = [
        [(one.window_id, one.says, one.by, one.via, one.at) for one in sounds.labels(name)]
        for name in ("rattle", "again")
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize("by", ["\t=1+1", "\r=1+1", "@x", "-1", "+1"])
def test_name_of_who_labels_is_no_formula(
    by: str, sounds: Sounds, put: Synthetic, tmp_path: Path
) -> None:
    sounds.label("rattle", yes=ids(put, "b")[:1], by=by)
    sounds.export_labels("rattle", tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["by"] == f" {by}"


def test_table_of_labels_has_names_that_are_no_text_and_of_several_lines(tmp_path: Path) -> None:
    r"""A byte that is not UTF-8 is written as `\xff`, as the ledger has it."""
    made = make_store(tmp_path / "store", frames="none")
    made.add({r"odd\xff": 1, "two\rlines": 1, "and\nmore": 1, 'a "quote", too': 1})
    build(made.store)
    sounds = soundalike.open(made.store.path)
    sounds.label("rattle", yes=[one.window_id for one in made.windows])
    sounds.export_labels("rattle", tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open(newline="", encoding="utf-8") as file:
        names = {row["path"].rpartition("/")[2] for row in csv.DictReader(file)}
    assert names == set(made.paths)
    assert len(sounds.import_labels("again", tmp_path / "labels.csv").labels) == 4


def test_spans_are_labels_of_the_windows_that_they_overlap_by_half(
    sounds: Sounds, put: Synthetic, tmp_path: Path
) -> None:
    """b8 has three windows of 10 s."""
    (tmp_path / "labels.csv").write_text(
        "path,start,end,says,tag\nb8.wav,0,4,yes,rattle\nb8.wav,16,30,no,rattle\n"
        "b8.wav,40,,yes,rattle\nb8.wav,0,30,yes,other\nnowhere.wav,0,1,yes,rattle\nb20,,,unsure,my.rattle\n"
    )
    found = sounds.import_labels("rattle", tmp_path / "labels.csv")
    assert found.missing == ["b8.wav from 40 s", "nowhere.wav"]
    mine = {one.window_id: (one.says, one.start_s, one.end_s) for one in sounds.labels("rattle")}
    of_b8 = [one for one in put.windows if one.recording_id == put.paths["b8.wav"]]
    assert mine[of_b8[0].window_id] == ("yes", 0, 4)
    assert mine[of_b8[2].window_id] == ("no", 16, 30)
    assert of_b8[1].window_id not in mine  # 4 s of 10 are less than half
    of_b20 = [one for one in put.windows if one.recording_id == put.paths["b20.wav"]]
    assert {mine[one.window_id][0] for one in of_b20} == {"unsure"}
    assert len(mine) == 2 + len(of_b20)


@pytest.mark.parametrize("order", list(itertools.permutations(("yes", "no", "unsure"))))
def test_yes_of_a_part_counts_more_than_no_of_another_whatever_their_order(
    order: tuple[str, ...], sounds: Sounds, put: Synthetic, tmp_path: Path
) -> None:
    """A window that has the sound somewhere has it; what another import says is the last word."""
    spans = {"yes": "1,4", "no": "0,10", "unsure": "4,8"}
    lines = [f"b8.wav,{spans[says]},{says}\n" for says in order]
    (tmp_path / "labels.csv").write_text("path,start,end,says\n" + "".join(lines))
    (tmp_path / "again.csv").write_text(
        "path,start,end,says\n" + "".join(one for one in lines if "yes" not in one)
    )
    first = next(one for one in put.windows if one.recording_id == put.paths["b8.wav"])
    found = sounds.import_labels("rattle", tmp_path / "labels.csv")
    assert [(one.window_id, one.says, one.end_s) for one in found.labels] == [
        (first.window_id, "yes", 4)
    ]
    sounds.import_labels("rattle", tmp_path / "again.csv")
    assert [one.says for one in sounds.labels("rattle")] == ["unsure"]


def test_import_is_taken_back_as_one(
    sounds: Sounds, put: Synthetic, tmp_path: Path, run: Run
) -> None:
    some = ids(put, "b")[:3]
    sounds.label("rattle", no=some)
    before = sounds.labels("rattle")
    (tmp_path / "labels.csv").write_text(
        "window_id,says\n" + "".join(f"{one},yes\n" for one in ids(put, "b")[:12])
    )
    for _ in range(2):
        run("label", put.store.path, "rattle", "--from", tmp_path / "labels.csv")
    said = sounds.labels("rattle")
    sounds.undo_label("rattle", said[-1].id)  # one that is named is alone
    assert len(sounds.labels("rattle")) == 12
    told = run("label", put.store.path, "rattle", "--undo").out
    assert told == "taken back, all of one import: 11 yes, 0 no and 0 unsure\n"
    assert [one.says for one in sounds.labels("rattle")] == ["yes"] * 12
    assert len(sounds.undo_label("rattle")) == 12
    assert sounds.labels("rattle") == before
    assert sounds.undo_label("rattle") == [before[-1]]


def test_nothing_is_added_to_labels_that_cannot_be_read(
    sounds: Sounds, put: Synthetic, run: Run
) -> None:
    sounds.label("rattle", yes=ids(put, "b")[:1])
    book = LabelBook(sounds.own, "rattle")
    with book.path.open("ab") as file:
        file.write(b"garbage\n")
    content = book.path.read_bytes()
    told = run("label", put.store.path, "rattle", "--no", ids(put, "b")[1], code=1)
    assert "line 2 is not what was written" in told.err
    assert book.path.read_bytes() == content


def test_a_word_is_not_said_if_its_table_cannot_be_written(
    sounds: Sounds, put: Synthetic, tmp_path: Path, run: Run
) -> None:
    (tmp_path / "labels.csv").write_text("mine")
    words = ("--yes", ids(put, "b")[0], "--output", tmp_path / "labels.csv")
    assert "is there already" in run("label", put.store.path, "rattle", *words, code=1).err
    assert sounds.labels("rattle") == []


def test_what_is_taught_is_listed_and_a_learned_tag_forgotten(
    sounds: Sounds, put: Synthetic, tmp_path: Path, run: Run
) -> None:
    store = put.store.path
    sounds.label("rattle", yes=ids(put, "b")[:6], no=ids(put, "a")[:9])
    sounds.label("kill", unsure=ids(put, "a")[:1])
    LabelBook(sounds.own, "kill").path.write_text("garbage\n")
    sounds.learn("rattle")
    told = run("info", store).out
    assert "my.rattle: 6 yes, 9 no and 0 unsure; learned\n" in told
    assert "my.kill: " in told
    assert "line 1 is not what was written" in told
    data = run("info", store, "--format", "json").data["taught"]
    assert [(one["name"], one["counts"], one["is_learned"]) for one in data] == [
        ("kill", {}, False),
        ("rattle", {"yes": 6, "no": 9, "unsure": 0}, True),
    ]
    assert "of your own: my.rattle;" in run("tags", store).err
    assert sounds.count(tags=["my.rattle"])
    run("learn", store, "rattle", "--forget")
    assert sounds.learned_names() == []
    assert len(sounds.labels("rattle")) == 15
    assert sounds.taught()[1].is_learned is False
    with pytest.raises(UnknownTagError, match="unknown learned tag"):
        sounds.count(tags=["my.rattle"])


def test_imported_tag_is_shared_as_it_is(
    sounds: Sounds, put: Synthetic, tmp_path: Path, run: Run
) -> None:
    store, shared = put.store.path, [tmp_path / f"{number}.json" for number in range(2)]
    sounds.label("rattle", yes=ids(put, "b")[:6], no=ids(put, "a")[:9])
    run("learn", store, "rattle", "--share", shared[0])  # not learned yet: it learns
    run("learn", store, "hiss", "--import", shared[0])
    run("learn", store, "hiss", "--share", shared[1])
    lines = [json.loads(one.read_text())["line"] for one in shared]
    assert lines[0] == lines[1]
    (tmp_path / "labels.csv").write_text("path,says\n")
    told = run("learn", store, "hum", "--import", tmp_path / "labels.csv", code=1).err
    assert "labels.csv is no shared tag; 'soundalike learn --share' writes them" in told


def test_none_drawn_at_random_has_it_and_the_lesson_says_so(
    sounds: Sounds, put: Synthetic, run: Run
) -> None:
    drawn = [one for one in sounds.review("rattle", "random", 40) if one.window_id in ids(put, "a")]
    sounds.label("rattle", yes=[ids(put, "b")[0]])
    sounds.label("rattle", no=drawn[:5], via="random")
    lesson = sounds.learn("rattle")
    assert lesson.estimate.num_judged == 0
    assert lesson.estimate.num_drawn >= 5
    told = run("learn", put.store.path, "rattle").out
    number, drawn_so_far = lesson.estimate.num_windows, lesson.estimate.num_drawn
    assert f"none of the {drawn_so_far} drawn at random is among these {number}\n" in told


def test_label_track_of_audacity_is_of_the_sound_that_it_is_called_like(
    sounds: Sounds, put: Synthetic, tmp_path: Path
) -> None:
    track = tmp_path / "b8.txt"
    track.write_text("1.0\t9.0\trattle\n\\\t100.0\t200.0\n12.0\t14.0\tanother\n")
    sounds.import_labels("rattle", track)
    (label,) = sounds.labels("rattle")
    assert (label.window_id, label.start_s) == (
        next(one.window_id for one in put.windows if one.recording_id == put.paths["b8.wav"]),
        1.0,
    )


def test_point_of_a_label_track_is_of_the_window_that_it_lies_in(
    sounds: Sounds, put: Synthetic, tmp_path: Path
) -> None:
    track = tmp_path / "b8.txt"
    track.write_text("10.0\t10.0\trattle\n")
    sounds.import_labels("rattle", track)
    of_b8 = [one for one in put.windows if one.recording_id == put.paths["b8.wav"]]
    assert [one.window_id for one in sounds.labels("rattle")] == [of_b8[1].window_id]
    track.write_text("99.0\t99.0\trattle\n")
    with pytest.raises(SoundalikeError, match="b8 from 99 s to 99 s for one"):
        sounds.import_labels("rattle", track)


def test_labels_of_another_store_are_of_the_same_windows(
    sounds: Sounds, put: Synthetic, tmp_path: Path, run: Run
) -> None:
    other = make_store(tmp_path / "other", frames="none")
    other.add({"b8": 3, "x": 1})
    build(other.store)
    theirs = soundalike.open(other.store.path)
    theirs.label("rattle", yes=[one.window_id for one in other.windows], via="random")
    theirs.export_labels("rattle", tmp_path / "labels.csv")
    book = other.store.path / "own" / "labels" / "rattle.jsonl"
    for file in (book, tmp_path / "labels.csv"):  # drawn there, not here
        found = sounds.import_labels("rattle", file)
        assert (found.num_elsewhere, found.num_not_drawn) == (1, 4)
        assert {one.via for one in sounds.labels("rattle")} == {"found"}
    told = run("label", put.store.path, "rattle", "--from", book).out.splitlines()
    assert told[1].startswith("1 of these are of windows that are not in this store")
    assert told[2] == "4 were drawn at random elsewhere, and count as found"
    own = sounds.own.folder / "labels"
    sounds.label("hum", yes=ids(put, "b")[:2], via="random")
    (own / "hum.jsonl").rename(tmp_path / "hum.jsonl")  # and brought back
    sounds.import_labels("hum", tmp_path / "hum.jsonl")
    assert {one.via for one in sounds.labels("hum")} == {"random"}
    lesson = sounds.learn("rattle")
    assert (lesson.counts["yes"], lesson.num_elsewhere) == (3, 1)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("path,says\nb8.wav,perhaps\n", "line 2 says 'perhaps', not yes, no or unsure"),
        ("name\nb8.wav\n", "neither a column window_id nor a column path"),
        ("path,start\nb8.wav,soon\n", "line 2: could not convert"),
        ("path,tag\nb8.wav,else\n", "says nothing of my.rattle"),
        ("path\nnowhere.wav\n", "has nothing of what .* names: nowhere.wav for one"),
        ("window_id,start\n5,nan\n", "line 2: 'nan' is no number of seconds"),
        ("window_id\n5\n-5\n", "line 3: a window has an id from 0 to"),
        ("path,via\nb8.wav,luck\n", "line 2: a window is found, or proposed by .*, got 'luck'"),
        ("path,by\nb8.wav," + "x" * 257 + "\n", "line 2: who labels has a name of at most"),
        ("path,at\nb8.wav,yesterday\n", "line 2: .*'yesterday'"),
        (
            "path,start,end\nb8.wav,40,50\n",
            "nothing of what .* names: b8.wav from 40 s to 50 s for one",
        ),
    ],
)
def test_table_that_cannot_be_read_is_one_line(
    content: str, told: str, sounds: Sounds, tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(SoundalikeError, match=told) as caught:
        sounds.import_labels("rattle", tmp_path / "labels.csv")
    assert "\n" not in str(caught.value)
    assert sounds.labels("rattle") == []


# --- what to label next --------------------------------------------------------------------------


def test_review_proposes_what_is_not_labelled_of_each_recording_once(
    sounds: Sounds, put: Synthetic
) -> None:
    labelled = ids(put, "b")[:6] + ids(put, "a")[:9]
    sounds.label("rattle", yes=labelled[:6], no=labelled[6:])
    sounds.learn("rattle")
    tag = sounds.learned("rattle")
    generation = sounds._kept.open_newest()
    rows = generation.live_rows()
    heard = tag.column(generation.segments[0]).astype(np.float32)
    all_ids = generation.window_ids(rows).tolist()
    recordings = generation.recording_ids(rows)
    for by, worth in (("top", heard), ("margin", -np.abs(heard - 0.5))):
        expected: list[int] = []
        seen: set[bytes] = set()
        for row in sorted(rows.tolist(), key=lambda row: (-worth[row], all_ids[row])):
            if all_ids[row] not in labelled and bytes(recordings[row]) not in seen:
                seen.add(bytes(recordings[row]))
                expected.append(all_ids[row])
        found = sounds.review("rattle", by, 12)  # type: ignore[arg-type]
        assert [one.window_id for one in found] == expected[:12]
        for one in found:
            assert one.score == pytest.approx(heard[all_ids.index(one.window_id)])
    found = sounds.review("rattle", "diverse", 8)
    assert len({one.recording_id for one in found}) == 8
    assert not {one.window_id for one in found} & set(labelled)
    assert found == sounds.review("rattle", "diverse", 8)


def test_random_review_draws_windows_of_long_recordings_as_often_as_of_short_ones(
    tmp_path: Path,
) -> None:
    """One recording has 200 of 240 windows, and so about as large a share of those drawn."""
    made = make_store(tmp_path / "store", frames="none")
    made.add({"long": 200} | {str(number): 1 for number in range(40)})
    build(made.store)
    sounds = soundalike.open(made.store.path)
    found = sounds.review("rattle", "random", 60)
    of_long = sum(one.recording_id == made.paths["long.wav"] for one in found)
    assert 42 <= of_long <= 58  # 50, and three standard deviations of a draw of 60 of 240
    one_by_one = list[int]()
    for _ in range(6):
        some = sounds.review("rattle", "random", 10)
        one_by_one += [one.window_id for one in some]
        sounds.label("rattle", no=some, via="random")
    assert one_by_one == [one.window_id for one in found]


def test_random_review_needs_nothing_learned_and_goes_on_where_it_was(
    sounds: Sounds, put: Synthetic
) -> None:
    first = sounds.review("rattle", "random", 6)
    assert all(np.isnan(one.score) for one in first)
    sounds.label("rattle", no=first[:3], via="random")
    assert [one.window_id for one in sounds.review("rattle", "random", 3)] == [
        one.window_id for one in first[3:]
    ]
    with pytest.raises(QueryError, match=r"by top needs a learned tag, and .* is none yet"):
        sounds.review("rattle", "top")
    with pytest.raises(QueryError, match="chosen by top, margin, random, diverse"):
        sounds.review("rattle", "luck")  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="from 1 to 10,000"):
        sounds.review("rattle", "random", 0)


def test_estimate_counts_windows_that_were_drawn_alone(sounds: Sounds, put: Synthetic) -> None:
    """Those that were found lie behind them in the order in which windows are drawn."""
    order = [one.window_id for one in sounds.review("rattle", "random", 1000)]
    found = [[one for one in ids(put, letter) if one not in order[:12]] for letter in "ba"]
    sounds.label("rattle", yes=found[0][:8], no=found[1][:8])
    sounds.learn("rattle")
    drawn = sounds.review("rattle", "random", 12)
    yes = set(ids(put, "b"))
    sounds.label("rattle", yes=[one for one in drawn if one.window_id in yes], via="random")
    sounds.label("rattle", no=[one for one in drawn if one.window_id not in yes], via="random")
    (row,) = [one for one in sounds.estimates("rattle") if one.threshold == 0.5]
    tag = sounds.learned("rattle")
    segment = sounds._kept.open_newest().segments[0]
    heard = dict(zip(segment.arrays["window_id"].tolist(), tag.column(segment), strict=True))
    reached = [one.window_id for one in drawn if heard[one.window_id] >= 0.5]
    assert row.num_judged == len(reached)
    assert row.num_right == len(yes & set(reached))
    assert row.num_windows == sum(value >= 0.5 for value in heard.values())
    lesson = sounds.learn("rattle")
    (row,) = [one for one in sounds.estimates("rattle") if one.threshold == 0.5]
    assert row == lesson.estimate
    assert row.num_judged


def test_what_drawing_passes_over_because_it_is_labelled_counts_as_drawn(
    sounds: Sounds, put: Synthetic
) -> None:
    """It is the beginning of the order in which windows are drawn: no sample without the best."""
    order = [one.window_id for one in sounds.review("rattle", "random", 1000)]
    yes = set(ids(put, "b"))

    def say(some: list[int], via: Any) -> None:
        each = [[one for one in some if (one in yes) == is_yes] for is_yes in (True, False)]
        sounds.label("rattle", yes=each[0], no=each[1], via=via)

    say(ids(put, "b")[::2] + ids(put, "a")[:4], "top")
    drawn = [one.window_id for one in sounds.review("rattle", "random", 15)]
    say(drawn, "random")
    reached = max(map(order.index, drawn))
    sample = [one.window_id for one in sounds.labels("rattle") if one.window_id in order[:reached]]
    sample.append(order[reached])
    assert len(sample) == reached + 1 > 15  # all of the beginning
    say([order[reached + 1]], "found")  # no drawing has come so far
    sounds.learn("rattle")
    held_back = sounds.learned("rattle").held_back
    for row in sounds.estimates("rattle"):
        heard = {one for one in sample if 1 / (1 + np.exp(-held_back[one])) >= row.threshold}
        assert (row.num_judged, row.num_right) == (len(heard), len(heard & yes))
    assert sounds.estimates("rattle")[4].num_right


def test_estimate_of_a_tag_that_knows_its_labels_by_heart_tells_so(tmp_path: Path) -> None:
    """Nothing is to be learned: two of five say yes, and the tag itself knows which."""
    made = make_store(tmp_path / "store", frames="none")
    scene = np.random.default_rng(5).normal(0, 1, (400, 768)).astype(np.float32)
    made.add({f"a{number}": 1 for number in range(400)}, scene=scene)
    build(made.store)
    sounds = soundalike.open(made.store.path)
    drawn = sounds.review("noise", "random", 60)
    says = np.random.default_rng(1).random(60) < 0.4
    sounds.label("noise", yes=[drawn[at] for at in np.flatnonzero(says)], via="random")
    sounds.label("noise", no=[drawn[at] for at in np.flatnonzero(~says)], via="random")
    sounds.learn("noise")
    tag, segment = sounds.learned("noise"), sounds._kept.open_newest().segments[0]
    heard = dict(zip(segment.arrays["window_id"].tolist(), tag.column(segment), strict=True))
    by_heart = [says[at] for at, one in enumerate(drawn) if heard[one.window_id] >= 0.8]
    assert len(by_heart) >= 15
    assert all(by_heart)
    judged = [one for one in sounds.estimates("noise") if one.num_judged]
    assert len(judged) >= 5
    for row in judged:
        assert row.low < 0.4 < row.high


def test_yield_counts_the_windows_that_a_filter_finds(sounds: Sounds, put: Synthetic) -> None:
    """A probability just below a threshold, of all float16 the nearest, is below it."""
    sounds.label("rattle", yes=ids(put, "b")[:8], no=ids(put, "a")[:8])
    sounds.learn("rattle")
    tag, segment = sounds.learned("rattle"), sounds._kept.open_newest().segments[0]
    tag.column(segment)[:] = np.float16(0.1)
    assert float(np.float16(0.1)) < 0.1
    rows = sounds._kept.open_newest()
    (row,) = estimate_at(rows, tag, {}, (0.1,))
    assert row.num_windows == sounds.count(where="my.rattle >= 0.1") == 0


def test_interval_of_a_share_is_wilsons() -> None:
    """Figures of Newcombe 1998, table I: 81 of 263 and 0 of 20."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(0, 0) == (0.0, 1.0)


# --- the commands --------------------------------------------------------------------------------


def test_label_learn_and_review_by_command(sounds: Sounds, put: Synthetic, run: Run) -> None:
    store = put.store.path
    yes, no = ids(put, "b")[:6], ids(put, "a")[:9]
    told = run("label", store, "rattle", "--yes", ",".join(map(str, yes)), "--no", no[0])
    assert told.out == "labelled: 6 yes, 1 no and 0 unsure\n"
    words = [word for one in no[1:] for word in ("--no", one)]
    run("label", store, "rattle", *words)
    listed = run("label", store, "rattle").out.splitlines()
    assert listed[0] == "my.rattle: 6 yes, 9 no and 0 unsure"
    assert len(listed) == 16
    assert all(line.endswith(" s") for line in listed[1:])  # when, in a long recording
    assert run("label", store, "rattle", "--undo").out == f"taken back: no of {no[-1]}\n"
    assert len(run("label", store, "rattle", "--format", "json").data["labels"]) == 14
    learned = run("learn", store, "rattle", "--format", "json").data
    assert (learned["tag"], learned["counts"]) == ("my.rattle", {"yes": 6, "no": 8})
    shown = run("learn", store, "rattle").out
    assert "my.rattle: learned from 6 yes, 8 no, by logistic regression" in shown
    hits = run("search", store, "--tag", "my.rattle", "--format", "json", "-k", 5).hits
    assert len(hits) == 5
    next_ones = run("review", store, "rattle", "-k", 3, "--format", "json").data["windows"]
    assert len(next_ones) == 3
    *rows, then = run("review", store, "other", "--by", "random", "-k", 3).out.splitlines()
    assert len(rows) == 3
    words = shlex.split(then[then.index("soundalike ") :])
    assert run(*words[1:]).out == "labelled: 3 yes, 0 no and 0 unsure\n"
    proposed = [int(row.split()[0]) for row in rows]
    assert [(one.window_id, one.via) for one in sounds.labels("other")] == [
        (one, "random") for one in proposed
    ]


@pytest.mark.parametrize(
    ("words", "told", "code"),
    [
        (("label", "rattle", "--yes", "12x"), "'12x' is no id of a window", 2),
        (("label", "Rattle", "--yes", "12"), "a tag of your own is called", 1),
        (("label", "rattle", "--yes", "12"), "no window 12 in", 1),
        (("label", "rattle", "--from", "absent.csv"), "cannot read absent.csv", 1),
        (("learn", "rattle"), "nothing to learn from", 1),
        (("learn", "rattle", "--import", "absent.json"), "no such file: absent.json", 1),
        (("learn", "rattle", "--forget"), "has no learned tag my.rattle", 1),
        (("review", "rattle"), "run: soundalike learn STORE rattle", 1),
        (("search", "--tag", "my.rattle"), "unknown learned tag 'my.rattle'", 1),
    ],
)
def test_wrong_command_is_one_line(
    words: tuple[str, ...], told: str, code: int, put: Synthetic, run: Run
) -> None:
    command, *rest = words
    outcome = run(command, put.store.path, *rest, code=code)
    assert told in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_labels_and_reviews_name_files_as_searches_do(
    sounds: Sounds, put: Synthetic, run: Run
) -> None:
    """Relative to the folder in which one is."""
    (hit,) = sounds.windows(ids(put, "b")[0])
    hit = replace(hit, score=0.5, paths=(Path.cwd() / "here" / "b.wav",))
    sounds.label("rattle", yes=[hit])
    lines = [
        *labels_lines("rattle", sounds.labels("rattle"), {hit.window_id: hit}),
        *review_lines(put.store.path, "rattle", "top", [hit]),
    ]
    assert sum("  here/b.wav  " in line for line in lines) == 2
    assert not [line for line in lines if str(Path.cwd()) in line]


def test_labels_print_hostile_names_harmlessly(put: Synthetic, sounds: Sounds, run: Run) -> None:
    sounds.label("rattle", yes=ids(put, "b")[:1], by="\x1b[31mred\x1b[0m\n")
    assert "\x1b" not in run("label", put.store.path, "rattle").out
    assert json.loads(run("label", put.store.path, "rattle", "--format", "json").out)
