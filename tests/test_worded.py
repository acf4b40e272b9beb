"""Questions in words see the same rows, by the same terms, as questions by clips."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, Run
from faults import Fault, fault
from synthetic import Synthetic, make_store

import soundalike
from indexer.errors import DamagedStoreError, QueryError
from indexer.store.own import Own
from search.generation.segments import Generation
from search.projection.encoders import encode_as
from search.projection.kept import names, read
from search.projection.projecting import Projection
from search.upkeep.build import build
from search.upkeep.compact import compact
from search.upkeep.verify import verify
from soundalike import Answer

WORDS = "a dog barks in the rain"
QUICK: dict[str, Any] = {"epochs": 1, "dim": 8}


@pytest.fixture
def made(tmp_path: Path) -> Synthetic:
    """A store of 60 recordings, of up to three windows, and captions of them."""
    made = make_store(tmp_path / "store", frames="none")
    made.add({f"s{number}": 1 + number % 3 for number in range(60)})
    lines = [f"s{number}.wav,{number} dogs and {number} cats" for number in range(60)]
    (tmp_path / "notes.csv").write_text("\n".join(["path,caption", *lines]))
    build(made.store, max_segment_rows=50)
    return made


@pytest.fixture
def sounds(made: Synthetic, tmp_path: Path) -> soundalike.Sounds:
    sounds = soundalike.open(made.store.path)
    sounds.train_projection(tmp_path / "notes.csv", **QUICK)
    return sounds


def expected(
    made: Synthetic, projection: Projection, words: list[str], where: Any = lambda _: True
) -> list[tuple[int, float]]:
    """All windows by their best score, the best first: plain NumPy."""
    live = [at for at in made.live() if where(made.windows[at])]
    scene = np.array([made.scene[at] for at in live], np.float64)
    unit = (scene / np.linalg.norm(scene, axis=1, keepdims=True)).astype(np.float32)
    scores = (projection.audio(unit).astype(np.float64) @ encode_as(projection, words).T).max(1)
    ids = np.array([made.windows[at].window_id for at in live])
    order = np.lexsort((ids, -scores))
    return list(zip(ids[order].tolist(), scores[order].tolist(), strict=True))


def require(answer: Answer, wanted: list[tuple[int, float]]) -> None:
    assert [hit.window_id for hit in answer] == [window_id for window_id, _ in wanted]
    np.testing.assert_allclose(
        [hit.score for hit in answer], [score for _, score in wanted], atol=1e-5
    )


def projection_of(sounds: soundalike.Sounds) -> Projection:
    return read(sounds.own, names(sounds.own)[0])


def test_words_find_the_windows_that_are_nearest_in_the_common_space(
    made: Synthetic, sounds: soundalike.Sounds
) -> None:
    projection = projection_of(sounds)
    require(sounds.search(text=WORDS, k=15), expected(made, projection, [WORDS])[:15])
    both = [WORDS, "cats"]
    require(sounds.search(text=both, k=120), expected(made, projection, both))
    (step,) = sounds.search(text=WORDS).steps
    assert (step.plan.name, step.num_windows) == ("exact", 120)


def test_words_take_every_term_that_clips_take(made: Synthetic, sounds: soundalike.Sounds) -> None:
    projection = projection_of(sounds)
    everything = expected(made, projection, [WORDS])
    long = sounds.search(text=WORDS, k=200, where="path in ('s5.wav', 's8.wav', 's11.wav')")
    some = {
        path: recording
        for path, recording in made.paths.items()
        if path in ("s5.wav", "s8.wav", "s11.wav")
    }
    allowed = expected(
        made, projection, [WORDS], lambda window: window.recording_id in some.values()
    )
    assert len(allowed) == 9
    require(long, allowed)
    least = everything[30][1] - 1e-4
    require(sounds.search(text=WORDS, k=200, min_score=least), everything[:31])
    grouped = sounds.search(text=WORDS, k=200, group_by="file", exact=True)
    owner = {one.window_id: one.recording_id for one in made.windows}
    first = {owner[window_id]: (window_id, score) for window_id, score in reversed(everything)}
    require(grouped, sorted(first.values(), key=lambda one: -one[1]))
    diverse = sounds.search(text=WORDS, k=20, diverse=True)
    assert len({hit.window_id for hit in diverse}) == 20
    assert diverse[0].window_id == everything[0][0]
    tagged = sounds.search(text=WORDS, k=5, tags=["Dog"], threshold=0.0)
    require(tagged, everything[:5])


def test_words_take_for_copies_what_sounds_alike_and_not_what_is_said_alike(
    made: Synthetic, sounds: soundalike.Sounds
) -> None:
    """A projection brings sounds together that are nothing alike: these stay apart."""
    everything = expected(made, projection_of(sounds), [WORDS])
    at = {made.windows[at].window_id: made.scene[at] for at in made.live()}
    projected = projection_of(sounds).audio(np.array([at[one] for one, _ in everything]))
    assert np.triu(projected[:60] @ projected[:60].T, 1).max() > 0.3
    require(sounds.search(text=WORDS, k=60, unique=True, unique_at=0.3), everything[:60])


def rows_of(made: Synthetic) -> list[Path]:
    return sorted((made.store.path / "own" / "projections" / "text.rows").glob("*.raw"))


def test_build_and_compaction_keep_what_words_search_up_to_date(
    made: Synthetic, sounds: soundalike.Sounds
) -> None:
    projection = projection_of(sounds)
    before = {path: path.stat().st_mtime_ns for path in rows_of(made)}
    assert len(before) == 3  # of 50, 50 and 20 rows
    made.add({"new": 2, "other": 1}, seed=5)
    made.remove("s7.wav")
    heard: list[Any] = []
    build(made.store, max_segment_rows=50, listen=heard.append)
    after = {path: path.stat().st_mtime_ns for path in rows_of(made)}
    kept = set(before) & set(after)
    assert 0 < len(kept) < len(after)  # only what is new is computed
    assert all(before[path] == after[path] for path in kept)
    assert sum(one.done for one in heard if getattr(one, "what", "") == "projecting") > 0
    require(sounds.search(text=WORDS, k=200), expected(made, projection, [WORDS]))
    compact(made.store.path)
    require(sounds.search(text=WORDS, k=200), expected(made, projection, [WORDS]))
    segments = {path.name for path in (made.store.path / "index" / "segments").iterdir()}
    assert {path.name.partition("-")[0] for path in rows_of(made)} <= segments
    assert verify(made.store.path) == []


def test_rows_that_are_not_kept_are_computed_and_damaged_ones_refused(
    made: Synthetic, sounds: soundalike.Sounds
) -> None:
    projection, wanted = projection_of(sounds), sounds.search(text=WORDS, k=30)
    files = rows_of(made)
    files[1].unlink()
    again = soundalike.open(made.store.path)
    assert again.search(text=WORDS, k=30) == wanted
    assert not files[1].exists()  # a question writes nothing
    content = files[0].read_bytes()
    files[0].write_bytes(content[:-1])
    with pytest.raises(DamagedStoreError, match="delete it"):
        soundalike.open(made.store.path).search(text=WORDS)
    files[0].write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    (problem,) = verify(made.store.path)
    assert problem.path == files[0]
    files[0].unlink()
    build(made.store)
    assert len(rows_of(made)) == 3
    require(again.search(text=WORDS, k=30), expected(made, projection, [WORDS])[:30])


def test_projection_that_is_replaced_is_seen_by_the_next_question(
    made: Synthetic, sounds: soundalike.Sounds, tmp_path: Path
) -> None:
    sounds.search(text=WORDS)
    soundalike.open(made.store.path).train_projection(
        tmp_path / "notes.csv", force=True, epochs=1, dim=16, seed=3
    )
    assert projection_of(sounds).dim == 16
    require(sounds.search(text=WORDS, k=9), expected(made, projection_of(sounds), [WORDS])[:9])
    assert len(rows_of(made)) == 3


def test_two_stores_answer_together(
    made: Synthetic, sounds: soundalike.Sounds, tmp_path: Path
) -> None:
    other = make_store(tmp_path / "other", frames="none")
    other.add({"t1": 3, "t2": 2}, seed=9)
    build(other.store)
    both = soundalike.open(made.store.path, other.store.path)
    projection = projection_of(sounds)
    wanted = expected(made, projection, [WORDS]) + expected(other, projection, [WORDS])
    wanted.sort(key=lambda one: (-one[1], one[0]))
    require(both.search(text=WORDS, k=200), wanted)


def test_stores_that_share_a_folder_leave_each_other_their_rows(
    made: Synthetic, tmp_path: Path
) -> None:
    other = make_store(tmp_path / "other", frames="none")
    other.add({"t1": 3, "t2": 2}, seed=9)
    build(other.store)
    own = Own(tmp_path / "mine")
    sounds = soundalike.open(made.store.path, own=own.folder)
    sounds.train_projection(tmp_path / "notes.csv", **QUICK)
    folder = own.folder / "projections" / "text.rows"
    ours = set(folder.glob("*.raw"))
    build(other.store, own=own)
    assert len(ours) == 3
    assert ours < set(folder.glob("*.raw"))
    made.add({"new": 2}, seed=5)
    build(made.store, own=own)  # the last segment is another: its old rows go, and no others
    found = {path.name.partition("-")[0] for path in folder.glob("*.raw")}
    both = [Generation.current(store).segments for store in (made.store, other.store)]
    assert found == {segment.name for segments in both for segment in segments}
    assert verify(made.store.path, own=own) == []


def test_clips_are_answered_while_words_are_being_projected(
    made: Synthetic, sounds: soundalike.Sounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, done = threading.Event(), threading.Event()
    real = soundalike.kept.as_projected

    def slowly(*args: Any) -> Any:
        begun.set()
        assert done.wait(30)
        return real(*args)

    monkeypatch.setattr("soundalike.kept.as_projected", slowly)
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(sounds.search, text=WORDS)
        assert begun.wait(30)
        clip = pool.submit(sounds.search, made.windows[0].window_id)
        try:
            assert len(clip.result(timeout=20))
        finally:
            done.set()
        assert len(asked.result(timeout=30))


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"text": ""}, "a text that is not empty, got ''"),
        ({"text": [WORDS, "  "]}, "a text that is not empty, got '  '"),
        ({"text": []}, "a text or several"),
        ({"text": 7}, "a text that is not empty, got 7"),
        ({"text": WORDS, "start": 1.0}, "either clips ask or words"),
        ({"text": WORDS, "projection": "b"}, "no projection 'b'; there are text"),
        ({"text": WORDS, "projection": "../b"}, "is no name for a projection"),
        ({"projection": "text", "tags": ["Dog"]}, "no words are given"),
        ({"text_encoder": "hashed", "tags": ["Dog"]}, "no words are given"),
    ],
)
def test_words_that_cannot_ask_are_refused(
    words: dict[str, Any], why: str, sounds: soundalike.Sounds
) -> None:
    with pytest.raises(QueryError, match=why):
        sounds.search(**words)


def test_command_asks_in_words_and_refuses_what_goes_with_clips(
    made: Synthetic, sounds: soundalike.Sounds, tmp_path: Path, run: Run
) -> None:
    store = made.store.path
    shown = run("search", store, "--text", WORDS, "-k", 3, "--format", "json").hits
    assert [one["window_id"] for one in shown] == [
        hit.window_id for hit in sounds.search(text=WORDS, k=3)
    ]
    told = run("search", store, made.windows[0].window_id, "--text", WORDS, code=None)
    fault("W1").require(told.code, told.err)
    told = run("search", store, "--text", "", code=None)
    fault("W2").require(told.code, told.err)
    told = run("search", store, "--text", WORDS, "--include-self", code=2)
    assert "--include-self goes with a QUERY" in told.err
    told = run("search", store, "--tag", "Dog", "--projection", "text", code=2)
    assert "--projection goes with --text" in told.err
    sounds.train_projection(tmp_path / "notes.csv", name="other", **QUICK)
    told = run("search", store, "--text", WORDS, code=None)
    fault("W3b").require(told.code, told.err)
    run("search", store, "--text", WORDS, "--projection", "other")


def test_wrong_inputs_are_told_in_one_line(
    made: Synthetic, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, notes = made.store.path, tmp_path / "notes.csv"

    def require_fault(expected: Fault, *words: object) -> None:
        told = run(*words, code=None)
        expected.require(told.code, told.err)
        assert told.err.count("\n") == 1

    require_fault(fault("W3"), "search", store, "--text", WORDS)
    (tmp_path / "strange.csv").write_text("path,caption\nnowhere.wav,a dog\n")
    require_fault(fault("W4"), "train", "projection", store, tmp_path / "strange.csv")
    np.savez(tmp_path / "texts.npz", ids=["x"], embeddings=np.ones((1, 4), np.float32))
    texts = ("--text-encoder", tmp_path / "texts.npz")
    require_fault(fault("W5"), "train", "projection", store, notes, *texts)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    model = ("--text-encoder", "all-MiniLM-L6-v2")
    require_fault(fault("W6"), "train", "projection", store, notes, *model)
    (tmp_path / "train.csv").write_text("name,words\na,b\n")
    require_fault(fault("W7"), "train", "projection", store, tmp_path / "train.csv")
    run("train", "projection", store, notes, "--epochs", 1, "--dim", 8, "-q")
    file = store / "own" / "projections" / "text.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    require_fault(fault("W8"), "search", store, "--text", WORDS)
    file.write_bytes(whole)
    other = make_store(tmp_path / "other", frames="none", weights="b" * 64)
    other.add({"a": 2})
    build(other.store)
    require_fault(fault("W9"), "search", other.store.path, "--text", WORDS, "--own", store / "own")
    assert not (store / "own" / "projections" / "train.safetensors").exists()


@pytest.mark.whole
def test_words_are_answered_without_pytorch(made: Synthetic, sounds: soundalike.Sounds) -> None:
    code = (
        "import sys, soundalike\n"
        f"hits = soundalike.open({str(made.store.path)!r}).search(text={WORDS!r}, k=3)\n"
        "print(len(hits), 'torch' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert ran.stdout == "3 False\n"
