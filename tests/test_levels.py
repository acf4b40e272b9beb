"""Quiet clips ask at full scale, too; silence between sounds and short tails do not ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY, Run

import soundalike
from indexer.audio.times import FileSpan
from indexer.embedding.extractor import Extractor
from indexer.windows import SAMPLE_RATE_HZ, Geometry, Window, decibels
from search.asking.embed import embed_clip
from search.asking.levels import which_ask

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def store(whole: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("levels") / "s.soundalike"
    soundalike.open(path, checkpoint="demo").index(REPOSITORY / "data/samples/animals")
    return path


def write(path: Path, samples: Array) -> Path:
    soundfile.write(path, samples, SAMPLE_RATE_HZ, "FLOAT")
    return path


def rooster(duration_s: float, seed: int = 0) -> Array:
    """A sweep that is no sound of the store."""
    at = np.arange(round(duration_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    noise = np.random.default_rng(seed).normal(0, 0.02, len(at))
    return (
        0.9 * np.sin(2 * np.pi * (400 * at + 150 * np.sin(3 * at))) * np.exp(-((at % 1) * 2))
        + noise
    )


def vectors_of(path: Path, store: Path, extractor: Extractor) -> Array:
    return embed_clip(
        FileSpan(path), extractor, soundalike.open(store)._kept.store().identity
    ).vectors


@pytest.mark.whole
def test_quiet_clip_asks_as_it_is_and_at_full_scale(
    store: Path, demo_extractor: Extractor, tmp_path: Path
) -> None:
    samples = rooster(4.0)
    samples /= np.abs(samples).max()
    loud = write(tmp_path / "loud.wav", samples)
    quiet = write(tmp_path / "quiet.wav", 0.1 * samples)  # 20 dB
    identity = soundalike.open(store)._kept.store().identity
    clip = embed_clip(FileSpan(quiet), demo_extractor, identity, level=True)
    assert clip.levels_db is not None
    assert clip.levels_db.tolist() == [pytest.approx(-20, abs=0.01)]
    assert clip.louder is not None
    np.testing.assert_allclose(
        clip.louder.vectors, vectors_of(loud, store, demo_extractor), atol=1e-3
    )
    example = clip.example
    asking = example.asking(example.asks)
    np.testing.assert_array_equal(asking.vectors, [*clip.vectors, *clip.louder.vectors])
    assert asking.starts_s.tolist() == [0, 0]
    assert asking.tags.shape == (2, 527)
    for path in (quiet, loud):
        assert embed_clip(FileSpan(path), demo_extractor, identity).louder is None
    assert embed_clip(FileSpan(loud), demo_extractor, identity, level=True).louder is None
    silent = write(tmp_path / "silent.wav", np.zeros(64_000))
    assert embed_clip(FileSpan(silent), demo_extractor, identity, level=True).louder is None


@pytest.mark.whole
def test_quiet_copy_of_a_sound_finds_it_as_a_loud_one_does(
    store: Path, tmp_path: Path, run: Run
) -> None:
    samples, rate = soundfile.read(REPOSITORY / "data/samples/animals/dog.ogg")
    quiet = tmp_path / "quiet.wav"
    soundfile.write(quiet, 0.01 * samples / np.abs(samples).max(), rate, "FLOAT")
    sounds = soundalike.open(store)
    answer = sounds.search(quiet, k=3)
    (note,) = answer.notes
    assert note.startswith("quiet.wav is quiet, its peak is 40 dB below full scale: asked as it")
    assert answer[0].path is not None
    assert answer[0].path.name == "dog.ogg"
    as_it_is = sounds.search(quiet, k=3, level=False)
    assert as_it_is.notes == ()
    assert answer[0].score > as_it_is[0].score
    told = run("search", store, quiet, "-k", 1)
    assert "asked as it is, and louder by so much" in told.err
    assert "quiet" not in run("search", store, quiet, "-k", 1, "--no-level").err


@pytest.mark.whole
def test_silence_and_a_short_tail_of_a_query_do_not_ask(store: Path, tmp_path: Path) -> None:
    silence = np.zeros(12 * SAMPLE_RATE_HZ)
    mixed = write(tmp_path / "mixed.wav", np.concatenate([rooster(10.0), silence]))
    sounds = soundalike.open(store)
    answer = sounds.search(mixed, k=5)
    assert answer.notes == (
        "1 of 3 windows of mixed.wav are 50 dB below its loudest or more, and do not ask",
        "the last 2.0 s of mixed.wav do not ask: less than a window, or silence beside the rest",
    )
    alone = sounds.search(write(tmp_path / "alone.wav", rooster(10.0)), k=5)
    assert [hit.window_id for hit in answer] == [hit.window_id for hit in alone]
    assert {hit.query_start_s for hit in answer} == {0.0}


@pytest.mark.whole
def test_hits_say_which_window_of_the_query_they_answer(store: Path, tmp_path: Path) -> None:
    """Two sounds of the store, 10 s apart."""
    pieces = []
    for name in ("dog.ogg", "goat.ogg"):
        samples, rate = soundfile.read(REPOSITORY / "data/samples/animals" / name)
        mono = samples if samples.ndim == 1 else samples.mean(1)
        pieces.append(np.resize(mono, 10 * rate))
    both = tmp_path / "both.wav"
    soundfile.write(both, np.concatenate(pieces), rate)
    starts = {
        hit.path.name: hit.query_start_s
        for hit in soundalike.open(store).search(both, k=40, level=False)
        if hit.path is not None
    }
    assert (starts["dog.ogg"], starts["goat.ogg"]) == (0.0, 10.0)


def windows(*lengths_s: float) -> list[Window]:
    return [
        Window(bytes(16), number * 320_000, round(one * SAMPLE_RATE_HZ))
        for number, one in enumerate(lengths_s)
    ]


@pytest.mark.parametrize(
    ("lengths_s", "levels_db", "expected"),
    [
        ((10, 10), (-20, -69), (True, True)),
        ((10, 10), (-20, -71), (True, False)),
        ((10, 10), (-np.inf, -71), (False, True)),
        ((10, 10), (-np.inf, -np.inf), (True, True)),  # a question about silence
        ((10, 3), (-20, -20), (True, False)),
        ((3,), (-20,), (True,)),
        ((10, 3), (-90, -20), (False, True)),  # the tail is all there is
        ((10, 10), (-20, np.nan), (True, True)),
        ((10, 3), None, (True, False)),
        ((10, 10), None, (True, True)),
    ],
)
def test_which_windows_ask(
    lengths_s: tuple[float, ...], levels_db: tuple[float, ...] | None, expected: tuple[bool, ...]
) -> None:
    levels = np.full(len(lengths_s), np.nan) if levels_db is None else np.array(levels_db, float)
    assert tuple(which_ask(windows(*lengths_s), levels, Geometry())) == expected


def test_decibels_are_relative_to_full_scale() -> None:
    assert decibels([1.0, 0.1, 0.5]) == pytest.approx([0, -20, -6.0206], abs=1e-4)
    assert decibels(0.0) == -np.inf
