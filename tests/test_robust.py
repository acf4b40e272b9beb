"""Changed copies of a store's own clips: what the changes are, and figures counted by hand."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from conftest import Run
from faults import fault
from synthetic import write_tone

import soundalike
from indexer.arrays import Float32
from indexer.errors import QueryError, SoundalikeError, StoreError
from indexer.progress import Step
from indexer.store.reader import Store
from search.evaluation.changes import CHANGES, Copy, changed_copies, writes_mp3
from search.evaluation.labels import Labelled
from search.evaluation.robust import evaluate_robustness

RATE_HZ = 32_000


def clip(seconds: float, seed: int = 0) -> Float32:
    """A tone in noise that is loudest at two thirds."""
    random = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    loud = np.exp(-(((times - 2 * seconds / 3) / 0.4) ** 2))
    tone = np.sin(2 * np.pi * 440 * times) * loud
    return (0.5 * tone + 0.01 * random.normal(size=len(times))).astype(np.float32)


def copies_of(samples: Float32) -> dict[str, Copy | None]:
    return dict(changed_copies(samples, np.random.default_rng(1)))


def level_db(samples: Float32) -> float:
    return float(10 * np.log10(np.mean(np.square(samples.astype(np.float64)))))


# --- the changes ---------------------------------------------------------------------------------


def test_quieter_copy_is_20_db_below() -> None:
    samples = clip(5)
    copy = copies_of(samples)["20 dB quieter"]
    assert copy is not None
    assert np.allclose(copy.samples * 10, samples, rtol=1e-6)
    assert level_db(samples) - level_db(copy.samples) == pytest.approx(20, abs=1e-4)


@pytest.mark.parametrize("seconds", [0.1, 1, 10])
def test_noise_is_20_db_below_the_clip(seconds: float) -> None:
    samples = clip(seconds)
    copy = copies_of(samples)["noise 20 dB below it"]
    assert copy is not None
    noise = copy.samples.astype(np.float64) - samples
    assert level_db(samples) - level_db(noise.astype(np.float32)) == pytest.approx(20, abs=0.01)
    spectrum = np.abs(np.fft.rfft(noise)) ** 2
    halves = [half.mean() for half in np.array_split(spectrum, 2)]
    assert halves[0] / halves[1] == pytest.approx(1, abs=0.2)  # it is white
    assert copies_of(np.zeros(1000, np.float32))["noise 20 dB below it"] is None


@pytest.mark.parametrize("seconds", [1, 3])
def test_cut_is_the_loudest_stretch(seconds: int) -> None:
    samples = clip(5)
    copy = copies_of(samples)[f"{seconds} s of it"]
    assert copy is not None
    assert len(copy.samples) == seconds * RATE_HZ
    windows = np.lib.stride_tricks.sliding_window_view(samples, seconds * RATE_HZ)[::400]
    loudest = max(np.square(one, dtype=np.float64).sum() for one in windows)
    assert np.square(copy.samples, dtype=np.float64).sum() >= loudest
    assert copy.samples.tobytes() in samples.tobytes()
    assert copies_of(clip(seconds))[f"{seconds} s of it"] is None


def test_moved_copy_has_its_second_half_first() -> None:
    samples = clip(10)
    copy = copies_of(samples)["moved by half a window"]
    assert copy is not None
    half = 5 * RATE_HZ
    assert (copy.samples == np.concatenate([samples[half:], samples[:half]])).all()


@pytest.mark.parametrize(("change", "factor"), [("5% faster", 1.05), ("5% slower", 0.95)])
def test_speed_changes_length_and_pitch(change: str, factor: float, tmp_path: Path) -> None:
    times = np.arange(4 * RATE_HZ) / RATE_HZ
    copy = copies_of(np.sin(2 * np.pi * 1000 * times).astype(np.float32))[change]
    assert copy is not None
    samples, rate_hz = soundfile.read(copy.write(tmp_path / "copy"))
    assert len(samples) / rate_hz == pytest.approx(4 / factor, abs=1e-6)
    peak = np.argmax(np.abs(np.fft.rfft(samples))) * rate_hz / len(samples)
    assert peak == pytest.approx(1000 * factor, abs=0.5)


@pytest.mark.skipif(not writes_mp3(), reason="this libsndfile writes no MP3")
def test_mp3_has_64_kbit_a_second(tmp_path: Path) -> None:
    samples = clip(10)
    copy = copies_of(samples)["MP3, 64 kbit/s"]
    assert copy is not None
    path = copy.write(tmp_path / "copy")
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        assert (stream.codec_context.name, stream.rate) == ("mp3float", RATE_HZ)
        assert stream.bit_rate == 64_000
    assert path.stat().st_size * 8 / 10 == pytest.approx(64_000, rel=0.02)
    decoded, _ = soundfile.read(path, dtype="float32")
    assert np.corrcoef(decoded[: len(samples)], samples[: len(decoded)])[0, 1] > 0.9


def test_copy_as_it_is_comes_back_to_the_bit(tmp_path: Path) -> None:
    samples = clip(2) * np.float32(3)  # over full scale, too
    copy = copies_of(samples)["as it is"]
    assert copy is not None
    decoded, rate_hz = soundfile.read(copy.write(tmp_path / "copy"), dtype="float32")
    assert rate_hz == RATE_HZ
    assert (decoded == samples).all()


# --- asking --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(whole: None, tmp_path_factory: pytest.TempPathFactory, tiny_file: Path) -> Path:
    """A library of twelve clips in three kinds, and its store."""
    folder = tmp_path_factory.mktemp("robust")
    for number in range(12):
        kind = ("low", "middle", "high")[number % 3]
        hz = {"low": 200, "middle": 1500, "high": 6000}[kind] + 10 * number
        write_tone(folder / "library" / kind / f"{number}.wav", 2.0 + number % 4, hz)
    sounds = soundalike.open(folder / "store", checkpoint=str(tiny_file))
    sounds.index(folder / "library", num_workers=0)
    return folder


def labels_of(store: Path) -> list[Labelled]:
    files = Store.open(store).live_files()
    return [Labelled(path, path.split("/")[0], None) for path, _ in files]


def test_figures_are_counted_from_what_is_found(made: Path) -> None:
    """A door that answers by a rule: what it finds for each copy is known."""
    store = Store.open(made / "store")
    recordings = [recording for _, recording in store.live_files()]
    kind_of = {recording: path.split("/")[0] for path, recording in store.live_files()}
    heard: list[tuple[int, float, int]] = []
    asked: list[bytes] = []

    def ask(files: Sequence[Path]) -> list[list[bytes]]:
        """Copies as they are find themselves first, quieter ones third, all others nothing."""
        own = asked_for(files[0])
        asked.append(own)
        others = [one for one in recordings if one != own]
        same = [one for one in others if kind_of[one] == kind_of[own]]
        rest = [one for one in others if kind_of[one] != kind_of[own]]
        for file in files:
            info = soundfile.info(file)
            heard.append((info.samplerate, info.duration, len(asked)))
        found = [[own, *same[:1]], [rest[0], same[0], own]]
        return [*found, *([rest[0]] for _ in files[2:])]

    lengths = {}
    for path, recording in store.live_files():
        samples, _ = soundfile.read(made / "library" / path, dtype="float32")
        lengths[samples.tobytes()] = recording

    def asked_for(file: Path) -> bytes:
        samples, _ = soundfile.read(file, dtype="float32")
        return lengths[samples.tobytes()]

    news: list[Any] = []
    report = evaluate_robustness(
        store, ask, labels_of(made / "store"), max_clips=7, num_resamples=20, listen=news.append
    )
    assert (report.num_clips, report.num_recordings, report.num_absent) == (7, 12, 0)
    assert len(set(asked)) == 7
    assert [step.done for step in news if isinstance(step, Step)] == [*range(1, 8)]
    found = {one.change: one for one in report.changes}
    assert tuple(found) == CHANGES
    first, quieter, moved = (
        found[name] for name in ("as it is", "20 dB quieter", "moved by half a window")
    )
    assert first.own_first == first.own_among_ten == first.same_label == (1, 1, 1)
    assert (quieter.own_first, quieter.own_among_ten) == ((0, 0, 0), (1, 1, 1))
    assert quieter.same_label == moved.own_among_ten == (0, 0, 0)
    assert (first.num_clips, first.num_labelled) == (7, 7)
    longer = sum(length > 3 for rate, length, _ in heard[::1] if rate == RATE_HZ) > 0
    assert longer
    of_three = sum(one.change == "3 s of it" for one in report.asked)
    assert (
        found["3 s of it"].num_clips
        == of_three
        == sum(
            soundfile.info(one.path).duration > 3
            for one in report.asked
            if one.change == "as it is"
        )
    )
    without = evaluate_robustness(store, ask, max_clips=2, num_resamples=20)
    assert all(one.same_label is None for one in without.changes)


def test_store_finds_its_own_clips_by_the_door_of_users(
    made: Path, tiny_file: Path, run: Run, tmp_path: Path
) -> None:
    sounds = soundalike.open(made / "store", checkpoint=str(tiny_file))
    table = tmp_path / "labels.csv"
    rows = [f"{path},{label}" for path, label, _ in labels_of(made / "store")]
    table.write_text("\n".join(["path,label", *rows, ""]))
    report = sounds.robust(table, max_clips=4, num_resamples=20)
    found = {one.change: one for one in report.changes}
    assert found["as it is"].own_first == (1, 1, 1)  # the same samples: nothing leaves it out
    assert report == sounds.robust(table, max_clips=4, num_resamples=20)
    ranks = tmp_path / "ranks.csv"
    words = ("eval", "robust", made / "store", "--checkpoint", tiny_file, "--labels", table)
    words = (*words, "--max", 4, "--resamples", 20)
    told = run(*words, "--ranks", ranks)
    assert "4 clips of 12 recordings" in told.out
    for one in report.changes:
        assert f"{one.change:<24}{one.num_clips:>6}" in told.out
    data = run(*words, "--format", "json").data
    assert [one["change"] for one in data["changes"]] == list(CHANGES)
    assert data["changes"][0]["own_first"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    written = list(csv.DictReader(ranks.read_text().splitlines()))
    assert len(written) == sum(one.num_clips for one in report.changes)
    assert {row["rank"] for row in written if row["change"] == "as it is"} == {"1"}


def test_audio_that_is_not_there_is_told(
    made: Path, tiny_file: Path, tmp_path: Path, run: Run
) -> None:
    folder = tmp_path / "moved"
    for number in range(2):
        write_tone(folder / "library" / f"{number}.wav", 2.0, 300 + 100 * number)
    sounds = soundalike.open(folder / "store", checkpoint=str(tiny_file))
    sounds.index(folder / "library", num_workers=0)
    (folder / "library" / "0.wav").unlink()
    told = run(
        "eval", "robust", folder / "store", "--checkpoint", tiny_file, "--resamples", 20, code=3
    )
    assert "not asked, as the audio is not where or what it was: 1" in told.out
    shutil.rmtree(folder / "library")
    told = run("eval", "robust", folder / "store", "--checkpoint", tiny_file, code=None)
    fault("H3").require(told.code, told.err)


def test_robust_needs_an_index_and_clips(made: Path, tmp_path: Path) -> None:
    store = Store.open(made / "store")
    with pytest.raises(QueryError, match="max_clips is at least 1, got 0"):
        evaluate_robustness(store, lambda files: [], max_clips=0)
    bare = shutil.copytree(made / "store", tmp_path / "bare")
    shutil.rmtree(bare / "index")
    with pytest.raises(StoreError, match="has no index yet"):
        evaluate_robustness(Store.open(bare), lambda files: [])
    with pytest.raises(SoundalikeError, match="one store, and 2 are open"):
        soundalike.open(made / "store", made / "store").robust()
