"""`soundalike.open`: questions as people put them, and what is wrong with them."""

from __future__ import annotations

import base64
import dataclasses
import inspect
import io
import math
import os
import re
import shutil
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import REPOSITORY
from oracle import unit
from PIL import Image
from synthetic import make_store, recording_id, write_tone

import soundalike
from indexer.arrays import id_bytes
from indexer.embedding.extractor import Extractor
from indexer.errors import (
    CheckpointError,
    IdentityError,
    QueryError,
    SoundalikeError,
    StoreError,
    UnknownTagError,
)
from indexer.progress import News, Step
from indexer.run.extract import ExtractConfig, extract
from indexer.store.creation import create_store
from indexer.store.reader import Store
from indexer.windows import WINDOW_SAMPLES, Geometry
from search.asking.opened import OpenedStore
from search.upkeep.build import build
from soundalike.answer import Answer
from soundalike.show.spectrogram import spectrogram_png
from soundalike.show.words import clock

#: Seconds of each file of the library: 1, 2, 1 and 3 windows.
LENGTHS = {"low": 4.0, "middle": 15.0, "high": 10.0, "long": 25.0}
PITCHES = {"low": 200, "middle": 700, "high": 3000, "long": 900}
#: A checkpoint that cannot be loaded: what goes well with it has loaded none.
NO_CHECKPOINT = "no such file.pth"


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
def embedded(
    whole: None,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_extractor: Extractor,
    tiny_file: Path,
) -> Embedded:
    folder = tmp_path_factory.mktemp("ask")
    for name, seconds in LENGTHS.items():
        write_tone(folder / "library" / f"{name}.wav", seconds, PITCHES[name])
    store = create_store(
        folder / "store",
        tiny_extractor.identity(Geometry()),
        tiny_extractor.head(),
        checkpoint=str(tiny_file),
        written_by="tests",
    )
    extract(folder / "library", store, tiny_extractor, ExtractConfig(num_workers=0))
    build(store)
    return Embedded(folder / "library", folder / "store", tiny_extractor)


def asked(embedded: Embedded, *queries: Any, **terms: Any) -> Answer:
    return soundalike.open(embedded.store, device="cpu").search(*queries, **terms)


# --- audio files ---------------------------------------------------------------------------------


def test_ask_file_equals_the_oracle_over_all_windows(embedded: Embedded, tmp_path: Path) -> None:
    clip = write_tone(tmp_path / "clip.wav", 20.0, 650)
    found = asked(embedded, clip, k=100, tag_weight=0, level=False)
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
    everything = asked(embedded, clip, k=100, tag_weight=0).hits
    grouped = asked(embedded, clip, k=100, group_by="file", tag_weight=0).hits
    assert len(grouped) == 4
    assert grouped[0] == everything[0]
    least = everything[3].score
    assert asked(embedded, clip, k=100, min_score=least, tag_weight=0).hits == everything[:4]
    assert asked(embedded, clip, tags="Dog", threshold=1.0).hits == ()


def test_ask_with_another_checkpoint_is_an_error_that_names_it(
    tiny_file: Path, tmp_path: Path
) -> None:
    other = make_store(tmp_path / "other", frames="none")
    build(other.store)
    clip = write_tone(tmp_path / "clip.wav", 1.0)
    with pytest.raises(IdentityError, match=r"weights.*test"):
        soundalike.open(other.store.path, checkpoint=tiny_file, device="cpu").search(clip)


def test_ask_loads_the_checkpoint_that_is_given(
    embedded: Embedded, tiny_file: Path, tmp_path: Path
) -> None:
    clip = str(write_tone(tmp_path / "clip.wav", 1.0))
    mine = tmp_path / "mine.safetensors"
    sounds = soundalike.open(embedded.store, checkpoint=mine, device="cpu")
    with pytest.raises(CheckpointError, match=r"mine\.safetensors' does not exist"):
        sounds.search(clip)
    shutil.copy(tiny_file, mine)
    assert sounds.search(clip).hits == asked(embedded, clip).hits


# --- what cannot be asked ------------------------------------------------------------------------


def test_ask_missing_file_is_an_error_before_anything_is_loaded(
    embedded: Embedded, tmp_path: Path
) -> None:
    sounds = soundalike.open(embedded.store, checkpoint=NO_CHECKPOINT)
    with pytest.raises(QueryError, match=r"no such file: .*nothing\.wav"):
        sounds.search(tmp_path / "nothing.wav")


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


def test_ask_misspelt_tag_is_an_error_before_anything_is_opened(tmp_path: Path) -> None:
    sounds = soundalike.open(tmp_path / "no store", checkpoint=NO_CHECKPOINT)
    with pytest.raises(UnknownTagError, match="did you mean 'Dog'"):
        sounds.search("nothing.wav", tags="Dogg")


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


def test_ask_window_id_gives_what_its_file_would(embedded: Embedded) -> None:
    without_network = soundalike.open(embedded.store, checkpoint=NO_CHECKPOINT)
    by_id = without_network.search(embedded.window_of("high"), k=100).hits
    by_file = asked(embedded, embedded.library / "high.wav", k=100).hits
    assert [hit.window_id for hit in by_id] == [hit.window_id for hit in by_file]
    assert [hit.score for hit in by_id] == pytest.approx([h.score for h in by_file], abs=1e-5)
    assert "high" not in {hit.paths[0].stem for hit in by_id}


def test_ask_window_id_and_file_together_leaves_both_out(embedded: Embedded) -> None:
    hits = asked(embedded, embedded.window_of("long", 2), embedded.library / "low.wav", k=100).hits
    found = [(hit.paths[0].stem, hit.start_s) for hit in hits]
    assert sorted(found) == [
        ("high", 0.0),
        ("long", 0.0),
        ("long", 10.0),
        ("middle", 0.0),
        ("middle", 10.0),
    ]


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


@pytest.mark.whole
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
    assert result.stdout.split() == ["4", "3", "False"], result.stderr


# --- what is kept open ---------------------------------------------------------------------------


def test_second_question_loads_nothing(
    embedded: Embedded, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    at = OpenedStore.at
    monkeypatch.setattr(OpenedStore, "at", lambda path: opened.append(path) or at(path))
    clip = write_tone(tmp_path / "clip.wav", 3.0, 650)
    checkpoint = tmp_path / "mine.safetensors"
    sounds = soundalike.open(embedded.store, checkpoint=checkpoint, device="cpu")
    assert opened == []
    shutil.copy(tiny_file, checkpoint)
    first = sounds.search(clip)
    assert opened == [embedded.store]
    checkpoint.unlink()  # it is needed no more
    assert sounds.search(clip).hits == first.hits
    assert sounds.search_many([clip, clip])[1].hits == first.hits
    sounds.search(first[0].window_id)
    sounds.embed(clip)
    sounds.tag(clip)
    assert opened == [embedded.store]


def test_question_without_audio_loads_no_network(embedded: Embedded) -> None:
    sounds = soundalike.open(embedded.store, checkpoint=NO_CHECKPOINT)
    hits = sounds.search(tags="Dog", threshold=0)
    sounds.search(hits[0].window_id)
    sounds.search_many([one.window_id for one in hits])
    sounds.duplicates()
    sounds.info()
    sounds.rows()


def test_newer_generation_answers_the_next_question(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({"a": 2})
    build(store.store)
    sounds = soundalike.open(store.store.path)
    assert len(sounds.search(tags="Dog", threshold=0)) == 2
    store.add({"b": 3})
    assert sounds.search(tags="Dog", threshold=0).num_new_parts == 1
    sounds.build()
    assert len(sounds.search(tags="Dog", threshold=0)) == sounds.num_windows == 5
    store.remove("a.wav")
    build(store.store)  # somebody else's
    answer = sounds.search(tags="Dog", threshold=0)
    assert (len(answer), answer.num_new_parts) == (3, 0)


@pytest.mark.whole
def test_threads_get_the_answers_of_one_while_a_build_publishes(
    embedded: Embedded, tiny_file: Path, tmp_path: Path
) -> None:
    """Every answer is that of one generation or of another; with one of them open, none fails."""
    path = tmp_path / "store"
    shutil.copytree(embedded.store, path)
    clips = [write_tone(tmp_path / f"{hz}.wav", 2.0, hz) for hz in (250, 900, 2500)]
    questions: list[tuple[Any, dict[str, Any]]] = [
        *((clip, {"k": 5}) for clip in clips),
        (embedded.window_of("long"), {"include_self": True}),
        (clips[0], {"where": "start < 10", "group_by": "file"}),
    ]
    checkpoint = Path(shutil.copy(tiny_file, tmp_path / "mine.safetensors"))
    sounds = soundalike.open(path, checkpoint=checkpoint, device="cpu")
    serial = [[sounds.search(asked, **terms).hits for asked, terms in questions]]
    checkpoint.unlink()  # the network is kept, for all threads
    is_over = threading.Event()
    found: list[tuple[int, Any]] = []

    def ask_on() -> None:
        while not is_over.is_set():
            for number, (asked, terms) in enumerate(questions):
                found.append((number, sounds.search(asked, **terms).hits))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask_on) for _ in range(4)]
        try:
            for hz in (300, 600, 1200):
                write_tone(tmp_path / "more" / f"{hz}.wav", 4.0, hz)
                with_more = soundalike.open(path, device="cpu")
                with_more.index(tmp_path / "more", num_workers=0)
                serial.append([with_more.search(a, **terms).hits for a, terms in questions])
        finally:
            is_over.set()
        for one in asking:
            one.result()
    assert len(found) > 20
    allowed = [[generation[number] for generation in serial] for number in range(len(questions))]
    assert all(hits in allowed[number] for number, hits in found)
    assert sounds.search(clips[0], k=5).hits == serial[-1][0]


@pytest.mark.whole
def test_library_that_moved_is_found_by_the_next_question(tmp_path: Path) -> None:
    """Nothing was embedded and nothing built: only where the library is has changed."""
    write_tone(tmp_path / "here" / "a.wav", 2.0, 400)
    sounds = soundalike.open(tmp_path / "s.soundalike", checkpoint="demo", device="cpu")
    sounds.index(tmp_path / "here", num_workers=0)
    assert sounds.search(tags="Dog", threshold=0)[0].path == tmp_path / "here" / "a.wav"
    (tmp_path / "here").rename(tmp_path / "there")
    assert sounds.index(tmp_path / "there", num_workers=0).num_unchanged == 1
    assert sounds.search(tags="Dog", threshold=0)[0].path == tmp_path / "there" / "a.wav"


def test_checkpoint_that_is_a_path_is_no_name(
    embedded: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").write_bytes(b"no checkpoint")
    clip = write_tone(tmp_path / "clip.wav", 1.0)
    for given in ("./demo", Path("demo"), tmp_path / "demo"):
        with pytest.raises(CheckpointError, match="demo"):
            soundalike.open(embedded.store, checkpoint=given, device="cpu").search(clip)


# --- what an answer is ---------------------------------------------------------------------------


def test_answer_is_a_sequence_with_a_short_repr(embedded: Embedded) -> None:
    answer = asked(embedded, embedded.library / "low.wav", k=5, include_self=True)
    assert list(answer) == [answer[0], *answer[1:]] == list(answer.hits)
    assert answer == asked(embedded, embedded.library / "low.wav", k=5, include_self=True)
    assert (type(answer[:2]), len(answer[:2])) == (Answer, 2)
    assert answer[0].path == embedded.library / "low.wav"
    assert repr(answer).startswith("Answer(5 hits, 1.000 low.wav at 0.0 s, ")
    assert repr(answer).endswith(", … 2 more)")
    assert len(repr(answer)) < 200
    assert repr(asked(embedded, tags="Dog", threshold=1)) == "Answer(0 hits)"


def test_answer_to_pandas_has_a_row_for_each_hit(embedded: Embedded) -> None:
    answer = asked(embedded, embedded.library / "low.wav", k=4)
    table = answer.to_pandas()
    assert table["rank"].tolist() == [1, 2, 3, 4]
    for name in ("score", "start_s", "end_s", "window_id"):
        assert table[name].tolist() == [getattr(hit, name) for hit in answer]
    assert table["path"].tolist() == [str(hit.path) for hit in answer]
    assert table["recording_id"].tolist() == [hit.recording_id.hex() for hit in answer]
    assert table["tags"].tolist() == [[one.tag.name for one in hit.tags] for hit in answer]


def test_answer_of_an_odd_file_name_is_shown_and_tabled(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none", root=tmp_path)
    store.add({"a": 1})
    store.rename("a.wav", f"caf\\xe9\n{'x' * 200}.wav")  # as stored: a Latin-1 byte
    build(store.store)
    answer = soundalike.open(store.store.path).search(tags="Dog", threshold=0)
    assert "\n" not in repr(answer)
    assert len(repr(answer)) < 100
    assert answer.to_pandas()["path"][0] == f"{tmp_path}/caf\\xe9\n{'x' * 200}.wav"


def test_answer_to_pandas_without_pandas_says_so(
    embedded: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SoundalikeError, match="needs pandas, which is not installed"):
        asked(embedded, tags="Dog", threshold=0).to_pandas()


def test_answer_in_a_notebook_shows_and_plays_each_hit(embedded: Embedded) -> None:
    answer = asked(embedded, embedded.library / "long.wav", k=3)
    page = answer._repr_html_()
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    players = re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', page)
    assert len(re.findall(r'src="(?!data:)', page)) == 0  # nothing is fetched
    assert len(pictures) == len(players) == len(answer) == 3
    for hit, picture, player in zip(answer, pictures, players, strict=True):
        assert Image.open(io.BytesIO(base64.b64decode(picture))).size == (640, 128)
        samples, rate = soundfile.read(io.BytesIO(base64.b64decode(player)))
        assert len(samples) / rate == pytest.approx(hit.end_s - hit.start_s, abs=0.1)
        spectrum = np.abs(np.fft.rfft(samples))
        loudest_hz = np.argmax(spectrum) * rate / len(samples)
        assert loudest_hz == pytest.approx(PITCHES[hit.paths[0].stem], rel=0.02)
        assert hit.paths[0].name in page


def test_answer_in_a_notebook_shows_the_window_and_plays_what_matched(embedded: Embedded) -> None:
    answer = asked(embedded, embedded.library / "long.wav", k=1)
    start_s = answer[0].start_s
    one = replace(answer[0], match_start_s=start_s + 0.5, match_end_s=start_s + 1.0)
    page = replace(answer, hits=(one,))._repr_html_()
    [player] = re.findall(r'src="data:audio/mpeg;base64,([^"]+)"', page)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(player)))
    assert len(samples) / rate == pytest.approx(0.5, abs=0.1)
    [picture] = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"))
    framed = np.flatnonzero((pixels == (120, 255, 220)).all(2).all(0))
    length_s = one.end_s - one.start_s
    ends = framed[0], framed[-1]
    assert ends == pytest.approx([639 * 0.5 / length_s, 639 * 1.0 / length_s], abs=1)
    assert len(framed) == 2 * 3  # two lines
    assert f"match</dt><dd>{clock(start_s + 0.5)} to {clock(start_s + 1.0)}, framed" in page


def test_answer_to_pandas_has_what_matched(embedded: Embedded) -> None:
    answer = asked(embedded, embedded.library / "low.wav", k=2)
    one = replace(answer[0], match_start_s=1.5, match_end_s=2.0, match_score=0.75)
    other = replace(answer[1], match_start_s=None, match_end_s=None, match_score=None)
    table = replace(answer, hits=(one, other)).to_pandas()
    for name, value in (("match_start_s", 1.5), ("match_end_s", 2.0), ("match_score", 0.75)):
        assert table[name][0] == value
        assert np.isnan(table[name][1])


def test_answer_in_a_notebook_says_where_the_audio_is_gone(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none", root=tmp_path / "gone")
    store.add({"<b>a": 1})
    build(store.store)
    page = soundalike.open(store.store.path).search(tags="Dog", threshold=0)._repr_html_()
    assert "its audio cannot be played" in page
    assert "&lt;b&gt;a.wav" in page
    assert "<b>a.wav" not in page
    assert "<img" not in page


@pytest.mark.parametrize("hz", [200, 1000, 6000])
def test_spectrogram_is_loudest_at_the_pitch(hz: int) -> None:
    samples = np.sin(2 * np.pi * hz * np.arange(64_000) / 32_000).astype(np.float32)
    samples[:32_000] = 0
    picture = Image.open(io.BytesIO(spectrogram_png(samples, 32_000))).convert("RGB")
    pixels = np.asarray(picture, float).sum(2)
    assert pixels.shape == (72, 320)
    row = 71 * (1 - np.log(hz / 60) / np.log(14_000 / 60))  # of an octave's steps, upwards
    assert abs(int(pixels[:, 200:].mean(1).argmax()) - row) <= 1
    assert pixels[:, :150].max() < pixels[:, 200:].max() / 2  # time goes to the right


def test_picture_of_long_sound_takes_no_more_memory_than_the_sound() -> None:
    samples = np.full(32_000 * 300, 0.1, np.float32)
    tracemalloc.start()
    spectrogram_png(samples, 32_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < samples.nbytes * 1.5


# --- everything else that a command does ---------------------------------------------------------


def test_rows_are_all_live_windows_as_they_were_embedded(embedded: Embedded) -> None:
    rows = soundalike.open(embedded.store).rows()
    snapshot = Store.open(embedded.store).snapshot()
    at = np.arange(len(snapshot))
    assert (rows.scene == snapshot.scene(at)).all()
    assert (rows.tags == snapshot.tags(at)).all()
    assert rows.window_ids.tolist() == snapshot.windows.window_id.tolist()
    ids = [bytes(one) for one in rows.recording_ids]
    assert ids == [id_bytes(one) for one in snapshot.windows.recording_id]
    by_id = {
        row["recording_id"]: row["path"] for row in Store.open(embedded.store).files().to_pylist()
    }
    assert rows.paths.tolist() == [str(embedded.library / by_id[one]) for one in ids]
    assert (rows.end_s - rows.start_s).sum() == pytest.approx(sum(LENGTHS.values()))
    twice = soundalike.open(embedded.store, embedded.store).rows()
    assert (twice.scene == np.concatenate([rows.scene, rows.scene])).all()


def test_embed_gives_what_the_store_has_of_the_file(embedded: Embedded) -> None:
    sounds = soundalike.open(embedded.store, device="cpu")
    clip = sounds.embed(embedded.library / "long.wav")
    assert clip.scene == pytest.approx(embedded.scenes(embedded.library / "long.wav"), abs=1e-5)
    assert clip.scene.shape == (3, 768)
    assert clip.tags.shape == (3, 527)
    assert clip.frames is not None
    assert [one.shape for one in clip.frames] == [(31, 768)] * 3
    assert [window.start_s for window in clip.windows] == [0, 10, 20]
    alike = sounds.search(clip.scene, k=1)[0]  # as they are: any length will do
    assert (alike.paths[0].stem, alike.score) == ("long", pytest.approx(1, abs=1e-5))
    part = sounds.embed(embedded.library / "long.wav", start="0:10", end="0:13.5")
    assert part.scene.shape == (1, 768)
    assert (part.windows[0].start_s, part.windows[0].end_s) == (10, 13.5)


def test_a_clip_asks_stores_that_were_made_as_it_was(embedded: Embedded, tmp_path: Path) -> None:
    sounds = soundalike.open(embedded.store, device="cpu")
    clip = sounds.embed(embedded.library / "long.wav")
    assert sounds.search(clip, unlike=[clip], k=1)
    other = make_store(tmp_path / "store", frames="none")
    other.add({"a": 2})
    build(other.store)
    window = other.windows[0].window_id
    for like, unlike in ((clip, []), (window, [clip])):
        with pytest.raises(IdentityError, match=r"long\.wav was not embedded as these stores were"):
            soundalike.open(other.store.path).search(like, unlike=unlike)


def test_tags_are_counted_the_most_frequent_first(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    tags = np.zeros((3, 527))
    tags[:, 5], tags[:2, 9], tags[0, 0] = 0.9, 0.3, 0.2
    store.add({"a": 3}, tags=tags)
    counts = soundalike.open(store.store.path).tags()
    assert [(one.tag.index, one.num_windows) for one in counts[:3]] == [(5, 3), (9, 2), (0, 0)]
    assert len(counts) == 527
    assert soundalike.open(store.store.path).tags(threshold=0.1)[2].num_windows == 1


def test_search_many_equals_asking_one_by_one(embedded: Embedded, tmp_path: Path) -> None:
    clips = [write_tone(tmp_path / f"{hz}.wav", 12.0, hz) for hz in (250, 2500)]
    sounds = soundalike.open(embedded.store, device="cpu")
    questions: list[Any] = [clips[0], embedded.window_of("high"), [*clips], np.ones(768)]
    for terms in ({}, {"k": 2, "group_by": "file"}, {"tags": "Dog", "threshold": 0, "k": 100}):
        together = sounds.search_many(questions, **terms)
        for question, answer in zip(questions, together, strict=True):
            several = question if isinstance(question, list) else [question]
            assert answer.hits == sounds.search(*several, **terms).hits
    assert sounds.search_many([]) == []


@pytest.mark.whole
def test_index_extract_build_compact_and_verify_are_the_commands(tmp_path: Path) -> None:
    write_tone(tmp_path / "library" / "a.wav", 3.0, 400)
    sounds = soundalike.open(tmp_path / "new.soundalike", checkpoint="demo", device="cpu")
    report = sounds.extract(tmp_path / "library", num_workers=0, frames="none", exclude="*.mp3")
    assert (report.num_windows, report.failures) == (1, [])
    with pytest.raises(StoreError, match="no index"):
        sounds.search(tags="Dog")
    assert sounds.build().num_windows == 1
    (tmp_path / "library" / "bad.wav").write_text("no")
    report = sounds.index(str(tmp_path / "library"), num_workers=0)
    assert len(report.failures) == 1
    assert sounds.verify() == ([], None)
    problems, deep = sounds.verify(deep=True, num_windows=5)
    assert problems == []
    assert deep is not None
    assert deep.num_recomputed == 1
    assert sounds.compact().num_parts_after == 1
    assert sounds.info().num_windows == 1


@pytest.mark.whole
def test_what_was_embedded_is_told_by_the_error_though_no_index_can_be_built(
    tmp_path: Path,
) -> None:
    write_tone(tmp_path / "library" / "a.wav", 3.0, 400)
    (tmp_path / "library" / "bad.wav").write_text("no")
    sounds = soundalike.open(tmp_path / "new.soundalike", checkpoint="demo", device="cpu")
    index = tmp_path / "new.soundalike" / "index"
    sounds.extract(tmp_path / "library", num_workers=0)
    write_tone(tmp_path / "library" / "b.wav", 3.0, 500)
    index.mkdir(exist_ok=True)
    (index / "CURRENT").mkdir()
    with pytest.raises(StoreError, match="no regular file") as caught:
        sounds.index(tmp_path / "library", num_workers=0, retry_failed=True)
    told = "before that, 1 file and 1 window were embedded, 1 failure, which is kept; build() takes"
    assert caught.value.__notes__[0].startswith(told)
    assert (caught.value.report.num_windows, len(caught.value.report.failures)) == (1, 1)
    (index / "CURRENT").rmdir()
    assert sounds.build().num_windows == 2
    with pytest.raises(QueryError) as asked:
        sounds.search("nothing.wav")
    assert asked.value.report is None


@pytest.mark.whole
def test_listener_hears_of_long_work(tmp_path: Path) -> None:
    write_tone(tmp_path / "library" / "a.wav", 3.0, 400)
    heard: list[News] = []
    sounds = soundalike.open(
        tmp_path / "new.soundalike", checkpoint="demo", device="cpu", listen=heard.append
    )
    sounds.index(tmp_path / "library", num_workers=0)
    sounds.verify()
    steps = [one for one in heard if isinstance(one, Step)]
    assert {"walking", "embedding", "indexing", "verifying"} <= {one.what for one in steps}
    last = {one.what: one for one in steps}
    assert (last["embedding"].done, last["embedding"].total) == (1, 1)
    assert last["embedding"].audio_s == pytest.approx(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda s: s.search(tag="Dog"),
            "there is no 'tag' here; did you mean 'tags'? There are start, end,",
        ),
        (
            lambda s: s.index("x", hop=5),
            "there is no 'hop' here; did you mean 'hop_s'? There are frames, hop_s, native,",
        ),
        (lambda s: s.index("x", num_workers="2"), "num_workers is a whole number, got '2'"),
        (lambda s: s.index("x", batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda s: s.index("x", strict="no"), "strict is True or False, got 'no'"),
        (lambda s: s.tags(threshold="x"), "threshold is a number or 'auto', got 'x'"),
        (lambda s: s.search_many(5), "no window 5 in"),
        (lambda s: s.search_many([3.5]), "or vectors, got 3.5"),
        (lambda s: s.search(["a", "b"]), "got ['a', 'b']; several are given one after the other"),
        (lambda s: s.search(5, start=3), "those of a file, and none asks"),
        (lambda s: s.tag("nothing.wav"), "cannot listen to nothing.wav: no such file"),
        (lambda s: s.tag("x", top=0), "a whole number from 1 on, got 0"),
        (lambda s: s.tag("x", threshold="x"), "a probability from 0 to 1, got 'x'"),
        (lambda s: s.search_many(None), "or vectors, got None"),
        (lambda s: s.search(terms=5), "terms are Terms(...), got 5"),
        (
            lambda s: s.duplicates(score=1),
            "there is no 'score' here; did you mean 'min_score'? There are min_score,",
        ),
        (lambda s: s.search(start="1:2:3:4", tags="Dog"), "a time is in seconds from 0 on"),
        (lambda s: s.search(start=5, end=3, tags="Dog"), "a span ends after its start"),
        (
            lambda s: s.search(end=5, duration=3, tags="Dog"),
            "an end or a duration, not both: got 5 and 3",
        ),
        (lambda s: s.embed(5), "a file is a path, got 5"),
        (lambda s: s.search_many(["x"], output=5), "the output is a path, got 5"),
        (lambda s: s.duplicates(against=5), "a store is a path, got 5"),
        (lambda s: s.index(None), "a library is a path, got None"),
        (lambda s: s.index("x", include=5), "include is a name or several names, got 5"),
        (lambda _: soundalike.open(5), "a store is a path, got 5"),
        (lambda _: soundalike.open("x", checkpoint=5), "a checkpoint is a path, got 5"),
    ],
)
def test_wrong_types_and_names_are_errors_that_say_what_is_wanted(
    embedded: Embedded, call: Any, message: str
) -> None:
    with pytest.raises(QueryError, match=re.escape(message)):
        call(soundalike.open(embedded.store, device="cpu"))


def test_what_is_done_to_one_store_is_refused_for_several(embedded: Embedded) -> None:
    sounds = soundalike.open(embedded.store, embedded.store)
    for call in (sounds.info, sounds.verify, sounds.compact, sounds.duplicates, sounds.build):
        with pytest.raises(SoundalikeError, match="one store, and 2 are open"):
            call()
    assert len(sounds.search(tags="Dog", threshold=0, k=100)) == 7  # each window once


# --- where Python is written ---------------------------------------------------------------------

LINES = """
import soundalike

sounds = soundalike.open("birds.soundalike", checkpoint="demo")
sounds.index("birds")
for hit in sounds.search("birds/crow.ogg", k=3, tags=["Bird"]):
    print(f"{hit.score:.3f}  {hit.path.name}  {hit.start_s:.1f} s to {hit.end_s:.1f} s")
"""


@pytest.fixture(scope="module")
def birds(whole: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("birds")
    shutil.copytree(REPOSITORY / "data" / "samples" / "birds", folder / "birds")
    return folder


@pytest.mark.whole
@pytest.mark.parametrize("way", ["script", "standard input"])
def test_front_door_works_from_a_script_and_from_standard_input(birds: Path, way: str) -> None:
    shutil.rmtree(birds / "birds.soundalike", ignore_errors=True)
    (birds / "lines.py").write_text(LINES)
    result = subprocess.run(
        [sys.executable, "lines.py" if way == "script" else "-"],
        input=LINES,
        capture_output=True,
        text=True,
        check=False,
        cwd=birds,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(r"0\.\d{3}  \w+\.\w+  0\.0 s to \d\.\d s", line) for line in lines)


@pytest.mark.whole
def test_front_door_works_in_a_notebook(birds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="notebooks are not installed")
    nbclient = pytest.importorskip("nbclient", reason="notebooks are not installed")
    shutil.rmtree(birds / "birds.soundalike", ignore_errors=True)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    cells = [LINES, 'sounds.search("birds/crow.ogg", k=2)']
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    nbclient.NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(birds)}}
    ).execute()
    first, second = (cell.outputs for cell in notebook.cells)
    printed = [one.text for one in first if one.output_type == "stream" and one.name == "stdout"]
    assert len("".join(printed).splitlines()) == 3
    (shown,) = (one.data for one in second if one.output_type == "execute_result")
    assert shown["text/plain"].startswith("Answer(2 hits, ")
    assert shown["text/html"].count("<audio controls") == 2


@pytest.mark.whole
def test_import_soundalike_imports_nothing_that_takes_long() -> None:
    code = """
import sys
import soundalike
heavy = {"numpy", "pyarrow", "torch", "faiss", "typer", "tqdm", "lark", "PIL", "pandas"}
print(sorted(heavy & set(sys.modules)), sorted(soundalike.__all__) == dir(soundalike))
print(soundalike.Terms(k=3).k, sorted(heavy & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert result.stdout.splitlines() == ["[] True", "3 []"], result.stderr


def test_names_of_soundalike_are_all_there() -> None:
    assert soundalike.__version__ == version("soundalike")
    for name in soundalike.__all__:
        assert getattr(soundalike, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        soundalike.nothing  # noqa: B018


def test_terms_may_be_given_whole(embedded: Embedded) -> None:
    sounds = soundalike.open(embedded.store)
    terms = soundalike.Terms(tags="Dog", threshold=0, k=2)
    assert len(sounds.search(terms=terms)) == 2
    assert len(sounds.search(terms=terms, k=3)) == 3


def test_numbers_of_our_own_arrays_and_tables_ask(embedded: Embedded) -> None:
    sounds = soundalike.open(embedded.store)
    rows = sounds.rows()
    hits = sounds.search(rows.window_ids[0])
    assert hits.hits == sounds.search(int(rows.window_ids[0])).hits
    assert len(sounds.search(hits.to_pandas().window_id[0])) > 0
    assert sounds.search_many(rows.window_ids)[0] == hits
    assert len(sounds.search_many(rows.scene)) == len(rows.scene)


def test_index_shows_its_settings_in_its_signature() -> None:
    for method in (soundalike.Sounds.index, soundalike.Sounds.extract):
        named = inspect.signature(method).parameters
        assert {"hop_s", "frames", "native", "include", "timeout_s"} < set(named)
        assert not {"checkpoint", "settings", "part_windows"} & set(named)


def test_search_shows_the_terms_in_its_signature() -> None:
    named = inspect.signature(soundalike.Sounds.search).parameters
    assert {"queries", "start", "end", "duration"} < set(named)
    for one in dataclasses.fields(soundalike.Terms):
        assert named[one.name].default == one.default
