"""Captions for training and measuring: what is guarded, which vector is whose, what is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from known_structure import make_captioned
from synthetic import Synthetic, make_store

import soundalike
from indexer.errors import QueryError, SoundalikeError
from indexer.store.schema import EMBEDDING_DIM
from search.datasets.captions import read_audiocaps, read_paths
from search.datasets.consent import Consent
from search.datasets.embedded import read_embedded
from search.datasets.finding import Unused
from search.datasets.joined import Shared
from search.datasets.leaks import leak, require_no_leak
from search.datasets.text_vectors import NO_VECTOR, TextVectors
from search.evaluation.retrieval import evaluate_retrieval
from soundalike.show.evaluations import retrieval_lines

QUICK: dict[str, Any] = {"epochs": 1, "dim": 8}
UNKNOWN = "none of the published checkpoints"


@pytest.fixture
def clips(tmp_path: Path) -> Synthetic:
    """A store of 20 clips of AudioCaps, made with no known checkpoint."""
    made = make_store(tmp_path / "store")
    made.add({f"Yabcdefghij{letter}": 1 for letter in "abcdefghijklmnopqrst"})
    return made


def audiocaps(path: Path, letters: str, *, with_ids: bool = True) -> Path:
    """Write a table of AudioCaps: two captions of each clip, audiocap_ids from 1 on or none."""
    head = "audiocap_id," if with_ids else ""
    lines = [f"{head}youtube_id,start_time,caption"]
    for number in range(2 * len(letters)):
        letter = letters[number // 2]
        own = f"{number + 1}," if with_ids else ""
        lines.append(f"{own}abcdefghij{letter},30,{letter} in way {number % 2}")
    path.write_text("\n".join(lines))
    return path


# --- the guard -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all", "audiocaps", "train_and_test", "test", "audiocaps_val"])
def test_table_that_is_not_said_to_be_for_training_is_guarded(
    clips: Synthetic, tmp_path: Path, name: str
) -> None:
    sounds = soundalike.open(clips.store.path)
    sounds.train_projection(audiocaps(tmp_path / "train.csv", "abcdefgh"), is_clean=True, **QUICK)
    table = audiocaps(tmp_path / f"{name}.csv", "ijkl")
    with pytest.raises(SoundalikeError, match=UNKNOWN):
        sounds.project(table, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert leak(clips.store, "AudioCaps", name, is_clean=False)


def test_every_name_of_the_training_split_is_one_for_files_and_for_the_guard(
    clips: Synthetic, tmp_path: Path, run: Run
) -> None:
    assert not require_no_leak(clips.store, "AudioCaps", ["audiocaps_train"], Consent())
    table = audiocaps(tmp_path / "audiocaps_train.csv", "abcdefgh")
    run("export", "audiocaps", clips.store.path, table, "--output", tmp_path / "out", "--as", "npz")


def test_tenth_that_is_held_out_is_guarded_as_any_other_val(
    clips: Synthetic, tmp_path: Path
) -> None:
    sounds = soundalike.open(clips.store.path)
    train = audiocaps(tmp_path / "train.csv", "abcdefghijkl")
    for name in ("train", "notes"):
        table = audiocaps(tmp_path / f"{name}.csv", "abcdefghijkl")
        with pytest.raises(SoundalikeError, match=UNKNOWN):
            sounds.train_projection(table, **QUICK)
    made = sounds.train_projection(train, allow_leak=True, **QUICK).projection
    assert UNKNOWN in made.provenance["leak"]
    made = sounds.train_projection(train, name="b", is_clean=True, **QUICK).projection
    assert made.provenance["leak"] == "none"


def test_files_say_all_that_is_wrong_with_them_and_how_they_were_made(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add({f"s{number}": 1 for number in range(20)})
    lines = [f"s{number}.wav,caption of {number}" for number in range(20)]
    train = tmp_path / "train.csv"
    train.write_text("\n".join(["path,caption", *lines]))
    sounds = soundalike.open(made.store.path)
    sounds.train_projection(train, output=tmp_path / "out", **QUICK)
    audio, text = (
        read_embedded(tmp_path / "out" / f"train_{one}.npz") for one in ("audio", "text")
    )
    assert audio.precision
    assert audio.note
    with np.load(tmp_path / "out" / "train_audio.npz") as file:
        told = json.loads(str(file["provenance"]))
    assert {"precision", "trained_on", "native", "weights", "checkpoint"} <= set(told)
    assert (audio.precision, audio.note) == (told["precision"], told["note"])
    shown = list(retrieval_lines(evaluate_retrieval(audio, text, num_resamples=10)))
    assert audio.note in shown
    assert any(audio.precision in line for line in shown)


def test_files_of_a_leak_say_also_what_was_trained_on(clips: Synthetic, tmp_path: Path) -> None:
    train = audiocaps(tmp_path / "train.csv", "abcdefghijkl")
    test = audiocaps(tmp_path / "test.csv", "abcd")
    sounds = soundalike.open(clips.store.path)
    sounds.train_projection(train, allow_leak=True, **QUICK)
    sounds.project(test, output=tmp_path / "out", allow_leak=True)
    said = str(read_embedded(tmp_path / "out" / "test_audio.npz").leak)
    assert UNKNOWN in said
    assert "was trained on" in said


def test_sounds_that_sound_as_those_trained_on_count_as_trained_on(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    scene = random.normal(size=(24, EMBEDDING_DIM)).astype(np.float32)
    scene[22] = 2 * scene[3]  # s3 in another encoding
    made = make_store(tmp_path / "store", frames="none")
    made.add({f"s{number}": 1 for number in range(24)}, scene=scene)
    for name, numbers in {"train": range(20), "val": (20, 21), "other": (22, 23)}.items():
        lines = [f"s{number}.wav,caption of {number}" for number in numbers]
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,caption", *lines]))
    sounds = soundalike.open(made.store.path)
    sounds.train_projection(tmp_path / "train.csv", tmp_path / "val.csv", **QUICK)
    written = sounds.project(tmp_path / "other.csv", output=tmp_path / "out")
    assert written.num_heard == {"other": 1}


# --- which vector is whose -----------------------------------------------------------------------


def test_number_of_a_line_is_the_id_of_no_caption(clips: Synthetic, tmp_path: Path) -> None:
    train = audiocaps(tmp_path / "train.csv", "abcdefgh", with_ids=False)
    test = audiocaps(tmp_path / "test.csv", "ijkl", with_ids=False)
    sounds = soundalike.open(clips.store.path)
    random = np.random.default_rng(0)
    numbered = tmp_path / "numbered.npz"
    np.savez(
        numbered, ids=[str(one) for one in range(1, 17)], embeddings=random.normal(size=(16, 4))
    )
    with pytest.raises(
        SoundalikeError, match=r"1 may be the id of several captions; call one .*#1"
    ):
        sounds.train_projection(train, text_encoder=str(numbered), is_clean=True, **QUICK)
    ids = [
        f"{one.file_id}#{caption}"
        for table in (train, test)
        for one in read_audiocaps(table)
        for caption in one.caption_ids
    ]
    assert len(set(ids)) == 24
    np.savez(tmp_path / "named.npz", ids=ids, embeddings=random.normal(size=(24, 4)))
    named = str(tmp_path / "named.npz")
    trained = sounds.train_projection(train, text_encoder=named, is_clean=True, **QUICK)
    (joined,) = trained.tables
    assert len(joined.pairs.owners) == 16
    sounds.project(test, output=tmp_path / "out", text_encoder=named, is_clean=True)
    assert len(read_embedded(tmp_path / "out" / "test_text.npz").ids) == 8


def test_caption_with_two_vectors_is_refused_wherever_vectors_are_taken(
    clips: Synthetic, tmp_path: Path, run: Run
) -> None:
    train = audiocaps(tmp_path / "train.csv", "abcdefgh")
    ids = [str(number) for number in range(1, 17)]
    twice = tmp_path / "twice.npz"
    np.savez(twice, ids=[*ids, "3"], embeddings=np.arange(68.0).reshape(17, 4))
    store, out = clips.store.path, tmp_path / "out"
    told = run(
        *("export", "audiocaps", store, train, "--output", out, "--as", "hdf5-dcase2023"),
        *("--text-vectors", twice),
        code=1,
    )
    assert "the id 3 comes 2 times" in told.err
    told = run(
        *("train", "projection", store, train, "--text-encoder", twice, "--checkpoint-clean"),
        code=1,
    )
    assert "the id 3 comes 2 times; give each caption one vector" in told.err
    (sound, *_) = read_audiocaps(train)
    vectors = TextVectors([*ids[:1], "7"], np.ones((2, 3)))
    (rows,) = vectors.of_captions([sound])
    assert rows.tolist() == [0, NO_VECTOR]


def test_vectors_of_other_dimensions_are_refused_before_a_file_is_written(
    tmp_path: Path, run: Run
) -> None:
    made = make_captioned(tmp_path, {"train": 24, "val": 6, "test": 6})
    tables = [tmp_path / f"{split}.csv" for split in ("train", "val", "test")]
    sounds = soundalike.open(made.store.path)
    sounds.train_projection(*tables, text_encoder=str(tmp_path / "texts.npz"), **QUICK)
    given = read_embedded(tmp_path / "texts.npz")
    np.savez(tmp_path / "other.npz", ids=given.ids, embeddings=given.vectors[:, :5])
    folder = tmp_path / "out"
    words = ("project", made.store.path, tables[2], "--output", folder)
    told = run(*words, "--text-encoder", tmp_path / "other.npz", code=1)
    assert "have 5 dimensions, and those that the projection text was trained with 64" in told.err
    assert told.err.count("\n") == 1
    assert not folder.exists()
    with pytest.raises(QueryError, match="5 dimensions"):
        sounds.project(tables[2], output=folder, text_encoder=tmp_path / "other.npz")


# --- what is left out, and what is missing -------------------------------------------------------


def test_empty_captions_of_paths_are_counted_and_left_out(tmp_path: Path, run: Run) -> None:
    table = tmp_path / "train.csv"
    lines = [f"s{number}.wav,caption of {number}" for number in range(20)]
    table.write_text("\n".join(["path,caption", *lines, "s1.wav,", "s1.wav,again", "s20.wav,  "]))
    found = {one.file_id: one for one in read_paths(table)}
    assert found["s1.wav"].caption_ids == ("s1.wav#1", "s1.wav#3")
    assert (found["s1.wav"].num_empty, found["s20.wav"].captions) == (1, ())
    made = make_store(tmp_path / "store", frames="none")
    made.add({f"s{number}": 1 for number in range(21)})
    told = run("train", "projection", made.store.path, table, "--epochs", 1, "--dim", 8)
    assert "train: 20 of 20 sounds (100.0%), 21 captions; 0 missing" in told.out
    assert "empty, and left out: 2 captions; 1 sound without any other" in told.out


def test_matches_say_which_file_is_which_sound_and_what_was_looked_for_is_told(
    tmp_path: Path, run: Run
) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add({f"rec{number}": 1 for number in range(20)})
    train = audiocaps(tmp_path / "train.csv", "abcdefghijkl")
    lines = [f"rec{at}.wav,abcdefghij{letter}_30" for at, letter in enumerate("abcdefgh")]
    match = tmp_path / "match.csv"
    match.write_text("\n".join(["path,id", *lines]))
    store, quick = made.store.path, ("--epochs", 1, "--dim", 8, "--checkpoint-clean")
    words = ("--match", match)
    told = run("train", "projection", store, train, *words, *quick)
    assert "train: 8 of 12 clips" in told.out.replace("sounds", "clips")
    looked = "much is missing: looked for abcdefghiji_30, abcdefghijj_30, abcdefghijk_30 …"
    assert f"{looked}; in no table: rec10.wav, rec11.wav, rec12.wav" in told.out
    told = run("project", store, train, *words, "--output", tmp_path / "out")
    assert looked in told.out
    assert len(read_embedded(tmp_path / "out" / "train_audio.npz").ids) == 8


@pytest.mark.whole
def test_what_matches_say_to_no_avail_and_tables_share_is_told_of_projections_too(
    tmp_path: Path, run: Run
) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add({f"rec{number}": 1 for number in range(16)})
    train = audiocaps(tmp_path / "train.csv", "abcdefghijkl")
    val = audiocaps(tmp_path / "val.csv", "klmn")
    lines = [f"rec{at}.wav,abcdefghij{letter}_30" for at, letter in enumerate("abcdefghijklmn")]
    match = tmp_path / "match.csv"
    match.write_text("\n".join(["path,id", *lines, "lost.wav,zzz"]))
    given = (made.store.path, train, val, "--match", match, "--checkpoint-clean")
    lines = [
        "matches, of no file in the store: 1 path: lost.wav; looked for as the store has it",
        "matches, of no sound in a table: 1 id: zzz",
        "in both train and val: 2 sounds, such as abcdefghijk_30",
    ]
    told = run("train", "projection", *given, "--epochs", 1, "--dim", 8)
    assert all(line in told.out for line in lines)
    told = run("project", *given, "--output", tmp_path / "out")
    assert all(line in told.out for line in lines)
    sounds = soundalike.open(made.store.path)
    more: dict[str, Any] = {"match": match, "is_clean": True, "force": True}
    trained = sounds.train_projection(train, val, output=tmp_path / "out", **more, **QUICK)
    written = sounds.project(train, val, output=tmp_path / "out", **more)
    assert trained.unused == written.unused == Unused(("lost.wav",), ("zzz",))
    assert trained.written is not None
    for shared in (trained.shared, written.shared, trained.written.shared):
        assert shared == (Shared(("train", "val"), 2, "abcdefghijk_30"),)
    told = run("project", *given, "--output", tmp_path / "out", "--force", "--format", "json")
    assert told.data["unused_ids"] == ["zzz"]
    assert told.data["shared"][0]["number"] == 2
