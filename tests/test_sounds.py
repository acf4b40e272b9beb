"""`soundalike.open`: questions as people put them, and what is wrong with them."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from oracle import unit
from synthetic import make_store, recording_id, write_tone

import soundalike
from indexer.embedding.extractor import Extractor
from indexer.errors import IdentityError, QueryError, StoreError, UnknownTagError
from indexer.model.checkpoint import Checkpoint
from indexer.run.extract import ExtractConfig, extract
from indexer.store.creation import create_store
from indexer.store.reader import Store
from indexer.windows import WINDOW_SAMPLES, Geometry
from search.upkeep.build import build
from soundalike.answer import Answer

#: Seconds of each file of the library: 1, 2, 1 and 3 windows.
LENGTHS = {"low": 4.0, "middle": 15.0, "high": 10.0, "long": 25.0}
PITCHES = {"low": 200, "middle": 700, "high": 3000, "long": 900}


@dataclass
class Embedded:
    """A library that was embedded by the tiny network, and its store."""

    library: Path
    store: Path
    extractor: Extractor

    def window_of(self, name: str, number: int = 0) -> int:
        """Window id, from the answer to a question about everything."""
        hits = soundalike.open(self.store).search(tags="Dog", threshold=0, k=100)
        assert len(hits) == 7
        return next(
            hit.window_id
            for hit in hits
            if hit.paths[0].stem == name and hit.start_s == 10.0 * number
        )

    def scenes(self, file: Path, start_s: float = 0, duration_s: float | None = None) -> np.ndarray:
        """The oracle: samples by soundfile, cut and padded by hand, one window at a time."""
        samples, rate = soundfile.read(file, dtype="float32")
        assert rate == 32_000
        end = len(samples) if duration_s is None else round((start_s + duration_s) * rate)
        samples = samples[round(start_s * rate) : end]
        windows = [
            samples[at : at + WINDOW_SAMPLES] for at in range(0, len(samples), WINDOW_SAMPLES)
        ]
        padded = [np.pad(window, (0, WINDOW_SAMPLES - len(window))) for window in windows]
        return np.concatenate([self.extractor(torch.from_numpy(one)[None]).scene for one in padded])


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory, tiny_extractor: Extractor) -> Embedded:
    folder = tmp_path_factory.mktemp("ask")
    for name, seconds in LENGTHS.items():
        write_tone(folder / "library" / f"{name}.wav", seconds, PITCHES[name])
    store = create_store(
        folder / "store",
        tiny_extractor.identity(Geometry()),
        tiny_extractor.head(),
        checkpoint="tiny",
        written_by="tests",
    )
    extract(folder / "library", store, tiny_extractor, ExtractConfig(num_workers=0))
    build(store)
    return Embedded(folder / "library", folder / "store", tiny_extractor)


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Checkpoint) -> list[str]:
    """Every checkpoint is the tiny one; lists those that were loaded."""
    names: list[str] = []

    def load(name: str, **_: Any) -> Checkpoint:
        names.append(name)
        return tiny_checkpoint

    monkeypatch.setattr("search.asking.embed.load_checkpoint", load)
    return names


def asked(embedded: Embedded, *queries: Any, **terms: Any) -> Answer:
    return soundalike.open(embedded.store, device="cpu").search(*queries, **terms)


# --- audio files ---------------------------------------------------------------------------------


def test_ask_file_equals_the_oracle_over_all_windows(
    embedded: Embedded, tmp_path: Path, loaded: list[str]
) -> None:
    clip = write_tone(tmp_path / "clip.wav", 12.0, 650)
    found = asked(embedded, clip, k=100)
    assert loaded == ["tiny"]
    assert found.num_new_parts == 0

    snapshot = Store.open(embedded.store).snapshot()
    stored = unit(snapshot.scene(np.arange(len(snapshot))))
    wanted = unit(embedded.scenes(clip))  # two windows; the better one counts
    assert len(wanted) == 2
    cosines = (stored @ wanted.T).max(1)
    expected = dict(zip(snapshot.windows.window_id.tolist(), cosines, strict=True))
    assert len(found.hits) == len(expected) == 7
    for hit in found.hits:
        assert hit.score == pytest.approx(expected[hit.window_id], abs=1e-5)
    assert [hit.score for hit in found.hits] == sorted((h.score for h in found.hits), reverse=True)


def test_ask_file_of_the_library_leaves_its_own_recording_out(embedded: Embedded) -> None:
    clip = embedded.library / "middle.wav"
    others = asked(embedded, clip, k=100).hits
    assert {hit.paths[0].stem for hit in others} == {"low", "high", "long"}
    own, *_ = asked(embedded, clip, k=100, include_self=True).hits
    assert own.paths == (clip,)
    assert own.score == pytest.approx(1, abs=1e-5)


def test_ask_copy_of_a_file_leaves_its_content_out_whatever_its_name(
    embedded: Embedded, tmp_path: Path
) -> None:
    copy = shutil.copy(embedded.library / "low.wav", tmp_path / "other name.bin")
    hits = asked(embedded, copy, k=100).hits
    assert {hit.paths[0].stem for hit in hits} == {"middle", "high", "long"}


def test_ask_span_of_a_file_equals_that_span_alone(embedded: Embedded, tmp_path: Path) -> None:
    low, high = (
        soundfile.read(embedded.library / f"{n}.wav", dtype="int16")[0] for n in ("low", "high")
    )
    joined, alone = tmp_path / "joined.wav", tmp_path / "alone.wav"
    soundfile.write(joined, np.concatenate([low, high]), 32_000)
    soundfile.write(alone, high[32_000:96_000], 32_000)
    span = asked(embedded, joined, start=5.0, duration=2.0, k=100).hits
    whole = asked(embedded, alone, k=100).hits
    assert [hit.window_id for hit in span] == [hit.window_id for hit in whole]
    assert [hit.score for hit in span] == pytest.approx([hit.score for hit in whole], abs=1e-6)
    rest = asked(embedded, joined, start=4.0, include_self=True, k=1).hits[0]
    assert (rest.paths[0].stem, rest.score) == ("high", pytest.approx(1, abs=1e-5))


def test_ask_several_files_takes_the_best_of_each(embedded: Embedded, tmp_path: Path) -> None:
    clips = [write_tone(tmp_path / f"{hz}.wav", 3.0, hz) for hz in (250, 2500)]
    each = [{h.window_id: h.score for h in asked(embedded, clip, k=100).hits} for clip in clips]
    both = asked(embedded, *clips, k=100).hits
    assert len(both) == 7
    for hit in both:
        assert hit.score == max(scores[hit.window_id] for scores in each)


def test_ask_file_with_filter_grouping_and_min_score(embedded: Embedded, tmp_path: Path) -> None:
    clip = write_tone(tmp_path / "clip.wav", 3.0, 650)
    everything = asked(embedded, clip, k=100).hits
    grouped = asked(embedded, clip, k=100, group_by="file").hits
    assert len(grouped) == 4
    assert grouped[0] == everything[0]
    least = everything[3].score
    assert asked(embedded, clip, k=100, min_score=least).hits == everything[:4]
    assert asked(embedded, clip, tags="Dog", threshold=1.0).hits == ()


def test_ask_with_another_checkpoint_is_an_error_that_names_it(
    embedded: Embedded, tmp_path: Path
) -> None:
    other = make_store(tmp_path / "other", frames="none")
    build(other.store)
    clip = write_tone(tmp_path / "clip.wav", 1.0)
    with pytest.raises(IdentityError, match=r"weights.*test"):
        soundalike.open(other.store.path, device="cpu").search(clip)


def test_ask_names_the_checkpoint_that_is_given(
    embedded: Embedded, tmp_path: Path, loaded: list[str]
) -> None:
    clip = write_tone(tmp_path / "clip.wav", 1.0)
    soundalike.open(embedded.store, checkpoint="mine.pth", device="cpu").search(str(clip))
    assert loaded == ["mine.pth"]


# --- what cannot be asked ------------------------------------------------------------------------


def test_ask_missing_file_is_an_error_before_anything_is_loaded(
    embedded: Embedded, tmp_path: Path, loaded: list[str]
) -> None:
    with pytest.raises(QueryError, match=r"no such file: .*nothing\.wav"):
        asked(embedded, tmp_path / "nothing.wav")
    assert loaded == []


def test_ask_text_file_is_an_error(embedded: Embedded, tmp_path: Path) -> None:
    text = tmp_path / "words.wav"
    text.write_text("what else sounds like this?\n" * 100)
    with pytest.raises(QueryError, match=r"cannot listen to .*words\.wav"):
        asked(embedded, text)


@pytest.mark.parametrize("kind", ["folder", "FIFO", "empty", "device"])
def test_ask_what_is_no_regular_file_is_an_error_and_does_not_hang(
    embedded: Embedded, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "query"
    match kind:
        case "folder":
            path.mkdir()
        case "FIFO":
            os.mkfifo(path)
        case "empty":
            path.touch()
        case _:
            path = Path("/dev/zero")
    with pytest.raises(QueryError, match="cannot listen to"):
        asked(embedded, path)


@pytest.mark.parametrize("name", ["x" * 300, "nul\0byte", "9" * 20, "9" * 5000])
def test_ask_name_that_no_file_can_have_is_an_error(embedded: Embedded, name: str) -> None:
    with pytest.raises(QueryError):
        asked(embedded, name)


def test_ask_beyond_the_end_of_the_file_is_an_error(embedded: Embedded) -> None:
    with pytest.raises(QueryError, match="no audio at 100 s"):
        asked(embedded, embedded.library / "low.wav", start=100.0)


@pytest.mark.parametrize(
    "span",
    [
        (-1.0, None),
        (math.nan, None),
        (math.inf, None),
        (1e300, None),
        (0.0, 0.0),
        (0.0, -1.0),
        (0.0, math.nan),
        (0.0, math.inf),
    ],
)
def test_ask_span_that_cannot_be_is_an_error(
    embedded: Embedded, span: tuple[float, float | None]
) -> None:
    with pytest.raises(QueryError):
        asked(embedded, embedded.library / "low.wav", start=span[0], duration=span[1])


def test_ask_misspelt_tag_is_an_error_before_anything_is_opened(
    tmp_path: Path, loaded: list[str]
) -> None:
    with pytest.raises(UnknownTagError, match="did you mean 'Dog'"):
        soundalike.open(tmp_path / "no store").search("nothing.wav", tags="Dogg")
    assert loaded == []


def test_ask_nothing_is_an_error(embedded: Embedded) -> None:
    with pytest.raises(QueryError, match="nothing to look for"):
        asked(embedded)


def test_ask_no_hits_wanted_is_an_error(embedded: Embedded) -> None:
    with pytest.raises(QueryError, match="at least 1"):
        asked(embedded, tags="Dog", k=0)


def test_ask_without_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store"):
        soundalike.open(tmp_path).search(tags="Dog")


# --- window ids and tags -------------------------------------------------------------------------


def test_ask_window_id_gives_what_its_file_would(embedded: Embedded, loaded: list[str]) -> None:
    by_id = asked(embedded, embedded.window_of("high"), k=100).hits
    assert loaded == []
    by_file = asked(embedded, embedded.library / "high.wav", k=100).hits
    assert [hit.window_id for hit in by_id] == [hit.window_id for hit in by_file]
    assert [hit.score for hit in by_id] == pytest.approx([h.score for h in by_file], abs=1e-5)
    assert "high" not in {hit.paths[0].stem for hit in by_id}


def test_ask_window_id_and_file_together_leaves_both_out(embedded: Embedded) -> None:
    hits = asked(embedded, embedded.window_of("long", 2), embedded.library / "low.wav", k=100).hits
    assert {hit.paths[0].stem for hit in hits} == {"middle", "high"}


def test_ask_unknown_window_id_is_an_error(embedded: Embedded) -> None:
    with pytest.raises(QueryError, match="no window 4711 in"):
        asked(embedded, 4711)


def test_ask_says_how_many_parts_the_index_does_not_hold(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"a": 1})
    build(store.store)
    store.add({"b": 1})
    answer = soundalike.open(store.store.path).search(tags="Dog", threshold=0)
    assert answer.num_new_parts == 1
    assert [hit.recording_id for hit in answer.hits] == [recording_id("a")]


def test_ask_by_window_id_or_tag_imports_no_torch(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"a": 2, "b": 2})
    build(store.store)
    code = f"""
import sys
import soundalike
sounds = soundalike.open({str(store.store.path)!r})
tagged = sounds.search(tags="Dog", threshold=0)
alike = sounds.search({store.windows[0].window_id})
print(len(tagged), len(alike), "torch" in sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    assert result.stdout.split() == ["4", "2", "False"], result.stderr
