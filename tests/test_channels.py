"""Channels to one: where they cancel, the louder is taken, whoever asks and however it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from audio_files import Interleaved, append, encode, noise, write
from conftest import Run
from faults import fault
from test_deferred import as_windows

from indexer.audio.deferred import DeferredResampler, source_windows
from indexer.audio.mixing import channels as channels_module
from indexer.audio.source import AudioInfo
from indexer.audio.stream import open_audio
from indexer.embedding.whole import load_model
from indexer.errors import AudioError, IdentityError, QueryError
from indexer.run.config import Settings
from indexer.run.prepare import prepare
from indexer.windows import SAMPLE_RATE_HZ, Cut, Geometry

SECOND = Geometry(SAMPLE_RATE_HZ, window_samples=SAMPLE_RATE_HZ)
GEOMETRIES = {
    "1 s": SECOND,
    "overlapping": Geometry(9_001, window_samples=SAMPLE_RATE_HZ),
    "with gaps": Geometry(48_000, window_samples=SAMPLE_RATE_HZ),
    "native": Geometry(SAMPLE_RATE_HZ, native=True, window_samples=SAMPLE_RATE_HZ),
}


def cuts_of(path: Path, geometry: Geometry, **options: int) -> tuple[list[Cut], tuple[str, ...]]:
    """The windows of a file, and the warnings."""
    with open_audio(path, **options) as audio:  # type: ignore[arg-type]
        cuts = list(audio.windows(geometry))
    return cuts, audio.warnings


def partly_cancelling(rate: int, seconds: float = 6.0) -> Interleaved:
    """Stereo whose channels are unlike, and cancel from 2 to 4 s and from 5 s on."""
    samples = noise(int(seconds * rate), 2, seed=1)
    for start, stop, louder in [(2, 4, 1), (5, seconds, 0)]:
        at = slice(int(start * rate), int(stop * rate))
        samples[at, 1 - louder] = -0.9 * samples[at, louder]
    return samples


def cancels(stereo: Interleaved, cut: Cut, rate: int) -> bool:
    """Plain NumPy: whether 99 % of the power of a window are lost in the mean."""
    first = cut.start_sample * rate // SAMPLE_RATE_HZ
    stop = -(-(cut.start_sample + cut.num_samples) * rate // SAMPLE_RATE_HZ)
    window = stereo[first:stop].astype(np.float64)
    power = (window.mean(1) ** 2).sum()
    return bool(power < 0.01 * (window**2).sum() / window.shape[1] ** 2)


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize(("suffix", "rate"), [("wav", 32_000), ("wav", 44_100), ("flac", 48_000)])
def test_windows_that_cancel_are_those_of_the_louder_channel_and_others_the_mean(
    tmp_path: Path, suffix: str, rate: int, name: str
) -> None:
    geometry = GEOMETRIES[name]
    write(tmp_path / f"a.{suffix}", partly_cancelling(rate), rate)
    stereo = soundfile.read(tmp_path / f"a.{suffix}", dtype="float32")[0]  # with its rounding
    found, warnings = cuts_of(tmp_path / f"a.{suffix}", geometry)
    with open_audio(tmp_path / f"a.{suffix}") as audio:
        means = list(geometry.cut(audio.blocks()))
    alone = []
    for channel in (0, 1):
        mono = write(tmp_path / f"{channel}.wav", stereo[:, [channel]], rate, "FLOAT")
        alone.append(cuts_of(mono, geometry)[0])
    num_cancelled = 0
    for cut, mean, *of_each in zip(found, means, *alone, strict=True):
        if cancels(stereo, mean, rate):
            num_cancelled += 1
            first = cut.start_sample * rate // SAMPLE_RATE_HZ
            window = stereo[first : first + cut.num_samples * rate // SAMPLE_RATE_HZ]
            mean = of_each[int((window**2).sum(0).argmax())]
        assert cut[:2] == mean[:2]
        np.testing.assert_array_equal(cut.waveform, mean.waveform)
    said = f"in {num_cancelled} of {len(found)} windows; the louder one was taken there"
    assert warnings == ((f"its channels cancel (anti-phase) {said}",) if num_cancelled else ())
    assert bool(num_cancelled) == (name != "native")


@pytest.mark.whole
@pytest.mark.parametrize("rate", [32_000, 44_100, 44_101])
@pytest.mark.parametrize("suffix", ["wav", "flac", "mkv"])
def test_window_that_is_read_alone_is_that_of_the_whole(
    tmp_path: Path, suffix: str, rate: int
) -> None:
    path, geometry = tmp_path / f"a.{suffix}", GEOMETRIES["overlapping"]
    if suffix == "mkv":
        if rate == 44_101:
            pytest.skip("not in this container")
        encode(path, partly_cancelling(rate), rate, "flac")
    else:
        write(path, partly_cancelling(rate), rate)
    whole, warnings = cuts_of(path, geometry)
    assert "cancel" in warnings[0]
    for cut in whole:
        span = {"start_sample": cut.start_sample, "num_samples": cut.num_samples}
        [again], _ = cuts_of(path, geometry, **span)
        np.testing.assert_array_equal(again.waveform, cut.waveform)


@pytest.mark.parametrize("num_samples", [1000, 2501, 10**8])
def test_windows_do_not_depend_on_how_a_decoder_chunks(
    tmp_path: Path, num_samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.wav", partly_cancelling(44_100), 44_100)
    expected = cuts_of(path, GEOMETRIES["overlapping"])
    monkeypatch.setattr(AudioInfo, "chunk_samples", num_samples)
    found = cuts_of(path, GEOMETRIES["overlapping"])
    assert found[1] == expected[1]
    for cut, other in zip(found[0], expected[0], strict=True):
        np.testing.assert_array_equal(cut.waveform, other.waveform)


@pytest.mark.parametrize("hop_samples", [SAMPLE_RATE_HZ, 9_001])
@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_windows_that_a_gpu_resamples_are_the_same(
    tmp_path: Path, rate: int, hop_samples: int
) -> None:
    geometry = Geometry(hop_samples, window_samples=SAMPLE_RATE_HZ)
    path = write(tmp_path / "a.wav", partly_cancelling(rate, 5.7), rate)
    expected, warnings = cuts_of(path, geometry)
    with open_audio(path) as audio:
        found = list(source_windows(audio, geometry))
    assert audio.warnings == warnings
    assert "cancel" in warnings[0]
    assert [cut[:2] for cut in found] == [cut[:2] for cut in expected]
    waveforms = DeferredResampler(rate, torch.device("cpu"))(as_windows(found, rate, geometry))
    np.testing.assert_allclose(waveforms, [cut.waveform for cut in expected], atol=1e-6)


def test_windows_of_many_channels_that_cancel_are_the_loudest(tmp_path: Path) -> None:
    """As in B-format, where opposite directions cancel."""
    left, up = 0.5 * noise(64_000), noise(64_000, seed=2)
    path = write(tmp_path / "a.wav", np.hstack([left, up, -up, -left]), 32_000, "FLOAT")
    cuts, warnings = cuts_of(path, SECOND)
    expected = soundfile.read(path, dtype="float32")[0][:32_000, 1]
    np.testing.assert_array_equal(cuts[0].waveform, expected)
    assert warnings == ("its channels cancel (anti-phase); the louder one was taken",)


def test_windows_of_silence_cancel_nothing(tmp_path: Path) -> None:
    tiny = 5e-5 * noise(64_000)
    path = write(tmp_path / "a.wav", np.hstack([tiny, -tiny]), 32_000, "FLOAT")
    cuts, warnings = cuts_of(path, SECOND)
    assert not cuts[0].waveform.any()
    assert [one.partition(":")[0] for one in warnings] == ["it is nearly silent"]


def test_windows_in_which_the_number_of_channels_changes(tmp_path: Path) -> None:
    stereo = noise(100_000, 1) * np.array([[1, -1]], np.float32)
    path = append(
        tmp_path / "a.mp3",
        lambda part: write(part, stereo, 44_100),
        lambda part: write(part, noise(100_000, 1), 44_100),
    )
    cuts, warnings = cuts_of(path, SECOND)
    assert all(np.abs(cut.waveform).max() > 0.05 for cut in cuts)
    assert any("in 2 of" in one for one in warnings)


def test_channels_that_are_too_many_to_hold_are_averaged_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels_module, "MAX_HELD_BYTES", 4 * 32_000)
    left = noise(96_000)
    path = write(tmp_path / "a.wav", np.hstack([left, -left]), 32_000, "FLOAT")
    cuts, warnings = cuts_of(path, SECOND)
    assert not cuts[0].waveform.any()
    assert warnings == (
        "its channels cancel (anti-phase) in 3 of 3 windows, and are too many to compare",
    )


def test_embed_file_of_channels_that_cancel_is_that_of_the_louder(tmp_path: Path) -> None:
    model = load_model("demo", device="cpu", precision="fp32")
    left = noise(32_000)
    path = write(
        tmp_path / "a.wav", np.hstack([0.5 * left, -0.5 * left, left, -left]), 32_000, "FLOAT"
    )
    louder = soundfile.read(path, dtype="float32")[0][:, 2]
    np.testing.assert_allclose(model.embed_file(path).scene, model(louder).scene[0], atol=1e-5)


# --- one channel ---------------------------------------------------------------------------------


def test_channel_is_counted_from_one(tmp_path: Path) -> None:
    samples = noise(64_000, 3)
    samples[100, 0] = np.nan  # of another channel: it does not count
    path = write(tmp_path / "a.wav", samples, 32_000, "FLOAT")
    cuts, warnings = cuts_of(path, SECOND, channel=3)
    np.testing.assert_array_equal(cuts[0].waveform, samples[:32_000, 2])
    assert warnings == ()


def test_channel_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(1000), 32_000)
    with pytest.raises(AudioError) as caught:
        open_audio(path, channel=2)
    assert (caught.value.stage, caught.value.reason) == (
        "open",
        "it has 1 channel, and channel 2 is asked for",
    )


def test_channel_that_ends_on_the_way_is_refused(tmp_path: Path) -> None:
    path = append(
        tmp_path / "a.mp3",
        lambda part: write(part, noise(100_000, 2), 44_100),
        lambda part: write(part, noise(100_000, 1), 44_100),
    )
    with open_audio(path, channel=2) as audio, pytest.raises(AudioError) as caught:
        list(audio.windows(SECOND))
    assert caught.value.stage == "samples"


@pytest.mark.parametrize("channel", [0, -1, 1.5, True, "1"])
def test_channel_that_is_none_is_a_query_error(tmp_path: Path, channel: object) -> None:
    model = load_model("demo", device="cpu", precision="fp32")
    path = write(tmp_path / "a.wav", noise(32_000), 32_000)
    with pytest.raises(QueryError, match="counted from 1"):
        model.tag(path, channel=channel)  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="counted from 1"):
        model.embed_file(path, channel=channel)  # type: ignore[arg-type]


def test_prepare_remembers_the_channel_and_refuses_another(tmp_path: Path) -> None:
    asked = Settings(checkpoint="demo", channel=2)
    store, _ = prepare(tmp_path / "store", asked)
    assert store.identity.channel == 2
    assert prepare(tmp_path / "store", Settings())[0].identity.channel == 2
    with pytest.raises(IdentityError, match="channel is 2 there and 1 here"):
        prepare(tmp_path / "store", Settings(channel=1))


@pytest.mark.whole
def test_index_of_a_channel_is_asked_with_that_channel(run: Run, tmp_path: Path) -> None:
    library, path = tmp_path / "library", tmp_path / "store"
    library.mkdir()
    samples = noise(10 * 32_000, 2, clicks=True)
    write(library / "a.wav", samples, 32_000)
    write(library / "mono.wav", samples[:, :1], 32_000)
    words = ("--checkpoint", "demo", "--workers", 0, "--store", path)
    outcome = run("index", library, *words, "--channel", 2, code=None)
    fault("C5b").require(outcome.code, outcome.out + outcome.err)
    outcome = run("index", library, *words, "--channel", 1, code=None)
    fault("C5c").require(outcome.code, outcome.out + outcome.err)
    copy = write(tmp_path / "b.wav", samples[:, ::-1], 32_000)  # not the same bytes
    twice = write(tmp_path / "c.wav", samples[:, [0, 1, 1]], 32_000)
    found = [run("search", path, clip, "--format", "json").hits for clip in (copy, twice)]
    scores = [hits[0]["score"] for hits in found]
    assert scores[1] == pytest.approx(1, abs=1e-5)
    assert scores[0] < 0.99999
    assert run("verify", path, "--deep").code == 0


def test_channels_at_a_rate_at_which_nothing_can_be_held_are_averaged_and_it_is_said(
    tmp_path: Path,
) -> None:
    tone = 0.5 * np.sin(np.arange(1_200_000) / 500)[:, None]
    path = write(tmp_path / "a.wav", np.concatenate([tone, -tone], 1), 1_200_000, "FLOAT")
    _, warnings = cuts_of(path, Geometry(native=True))
    assert "its channels cancel (anti-phase) in 1 of 1 window, and are too many to compare" in (
        warnings
    )


@pytest.mark.parametrize(("rate", "num_channels"), [(32_000, 16), (96_000, 2), (96_000, 10)])
def test_clip_is_not_silence_because_longer_ones_might_be_one_window(
    tmp_path: Path, rate: int, num_channels: int
) -> None:
    """As many channels are compared at the longest limit as at one of 30 s."""
    left = noise(rate * 2)
    path = write(tmp_path / "a.wav", np.hstack([left, -left] * (num_channels // 2)), rate, "FLOAT")
    for native_s in (30, 600):
        geometry = Geometry(native=True, native_samples=native_s * 32_000)
        (cut,), warnings = cuts_of(path, geometry)
        assert np.abs(cut.waveform).max() > 0.05
        assert any("the louder one was taken" in one for one in warnings)
