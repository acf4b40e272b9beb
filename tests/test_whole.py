"""The network as one object: the published outputs, whole files, and what is no waveform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import torch
from recipe import CHIRP_TOLERANCE, CLIPS, GOLDEN, SEED, TOLERANCE, UKULELE, clip, fill
from synthetic import write_tone

import soundalike
from indexer.embedding import whole
from indexer.embedding.extractor import Extractor
from indexer.embedding.tagging import tag_file
from indexer.embedding.whole import Model, Outputs, load_model
from indexer.errors import CheckpointError, QueryError, SoundalikeError
from indexer.model.checkpoint import Checkpoint
from indexer.model.convnext import ConvNeXt
from indexer.tags import pick_heard
from indexer.windows import Geometry

Samples = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def golden_model(whole: None) -> Model:
    with torch.no_grad():
        network = fill(ConvNeXt(), SEED)
    return Model(Checkpoint("golden", Path("golden"), "", network), device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Checkpoint) -> Model:
    return Model(tiny_checkpoint, device="cpu", precision="fp32")


def noise(*shape: int) -> Samples:
    return np.random.default_rng(shape).normal(0, 0.1, shape).astype(np.float32)


def assert_same(found: Outputs, expected: Any, atol: float = 1e-5) -> None:
    for array, other in zip(found, expected, strict=True):
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, np.asarray(other), rtol=0, atol=atol)


@pytest.mark.parametrize("name", CLIPS)
def test_model_golden_clip_gives_what_the_published_network_gives(
    golden_model: Model, name: str
) -> None:
    if name == "ukulele" and not UKULELE.exists():
        pytest.skip(f"the recording is not in the repository, and not at {UKULELE}")
    scene, frames, tags = golden_model(clip(name))
    found = {
        "scene": scene[0],
        "probs": tags[0],
        "frames_shape": np.array(frames[0].shape),
        "frames_mean_over_freq": frames[0].mean(axis=2),
        "frames_first_channels": frames[0, :32],
    }
    tolerance = CHIRP_TOLERANCE if name.startswith("chirp") else TOLERANCE
    with np.load(GOLDEN) as golden:
        for key, values in found.items():
            np.testing.assert_allclose(
                values, golden[f"{name}/{key}"], rtol=0, atol=tolerance[key], err_msg=key
            )


def test_model_takes_arrays_tensors_and_lists_of_any_floating_point(model: Model) -> None:
    waveforms = noise(2, 40_000)
    with torch.inference_mode():
        expected = model.checkpoint.model(torch.from_numpy(waveforms))
    frozen = waveforms.copy()
    frozen.flags.writeable = False
    for given in (
        waveforms,
        waveforms.astype(np.float64),
        frozen,
        np.asfortranarray(waveforms),
        torch.from_numpy(waveforms).requires_grad_(),
        torch.from_numpy(waveforms).double(),
        waveforms.tolist(),
    ):
        assert_same(model(given), expected)
    outputs = model(waveforms)
    assert [array.shape for array in outputs] == [(2, 768), (2, 768, 4, 7), (2, 527)]
    assert all(array.flags.c_contiguous for array in outputs)
    assert_same(model(waveforms[1]), [array[1:] for array in outputs])
    np.testing.assert_array_equal(waveforms, noise(2, 40_000))  # what was given is as it was


@pytest.mark.parametrize("num_samples", [1, 100, 7_999])
def test_model_short_sound_is_padded_to_a_quarter_of_a_second(
    model: Model, num_samples: int
) -> None:
    sound = noise(num_samples)
    padded = np.pad(sound, (0, 8_000 - num_samples))
    assert_same(model(sound), model(padded), atol=0)


def test_model_more_than_one_pass_holds_comes_in_order(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    sounds = noise(5, 30_000)
    together = model(sounds)
    monkeypatch.setattr(whole, "MAX_PASS_SAMPLES", 60_000)
    assert_same(model(sounds), together)
    for row in range(5):
        assert_same(model(sounds[row]), [array[row : row + 1] for array in together])


@pytest.mark.parametrize(
    ("waveforms", "message"),
    [
        (np.zeros(9_000, np.int16), "floating point, from -1 to 1, got int16; .* by 32768"),
        (torch.zeros(9_000, dtype=torch.int32), "floating point, from -1 to 1, got int32"),
        (np.zeros(9_000, bool), "got bool"),
        (np.zeros(9_000, complex), "got complex128"),
        (np.zeros((1, 2, 9_000), np.float32), r"num_samples.*got \(1, 2, 9000\)"),
        (np.zeros(0, np.float32), r"got \(0,\)"),
        (np.zeros((0, 9_000), np.float32), r"got \(0, 9000\)"),
        (np.float32(1), r"got \(\)"),
        (np.array([0.1, np.nan], np.float32), "NaN or infinity"),
        (np.array([0.1, -np.inf]), "NaN or infinity"),
        (np.array([1e300]), "NaN or infinity"),  # as float32 it is
        (np.full(9_000, 1e30, np.float32), r"not finite: .* up to 1e\+30"),
        (np.zeros((1, 601 * 32_000), np.float32), "601 s is too long for one pass, .* 600 s"),
        ("dog.ogg", "a file is for embed_file"),
        (None, "arrays of numbers"),
        ([[0.1, 0.2], [0.3]], "arrays of numbers"),
    ],
    ids=str,
)
def test_model_what_is_no_waveform_is_refused(model: Model, waveforms: Any, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        model(waveforms)


def test_embed_file_is_the_pass_over_its_samples(model: Model, tmp_path: Path) -> None:
    path = write_tone(tmp_path / "tone.wav", 14.0)
    samples, _ = soundfile.read(path, dtype="float32")
    found = model.embed_file(path)
    assert [array.shape for array in found] == [(768,), (768, 44, 7), (527,)]
    assert_same(found, [array[0] for array in model(samples)])
    span = model.embed_file(str(path), 2.0, duration_s=3.0)
    assert_same(span, [array[0] for array in model(samples[64_000:160_000])])
    rest = model.embed_file(path, start_s=13.0, duration_s=60.0)  # cut where the file ends
    assert_same(rest, [array[0] for array in model(samples[13 * 32_000 :])])


def test_embed_file_is_what_a_native_store_has_and_not_a_padded_window(
    demo_extractor: Extractor, tmp_path: Path
) -> None:
    model = load_model("demo", device="cpu", precision=demo_extractor.precision)
    for seconds in (10.0, 4.0):
        path = write_tone(tmp_path / f"{seconds}.wav", seconds)
        tags = model.embed_file(path).tags
        (native,) = tag_file(path, demo_extractor, geometry=Geometry(native=True), threshold=0.01)
        expected = {one.tag.name: one.probability for one in native.tags}
        found = {one.tag.name: one.probability for one in pick_heard(tags, threshold=0.01)}
        assert found == pytest.approx(expected, abs=1e-4)
        (window,) = tag_file(path, demo_extractor, threshold=0.01)
        padded = {one.tag.name: one.probability for one in window.tags}
        assert (padded == pytest.approx(expected, abs=1e-4)) == (seconds == 10.0)
        (heard_here,) = model.tag(path, threshold=0.01)
        here = {one.tag.name: one.probability for one in heard_here.tags}
        assert here == pytest.approx(padded, abs=1e-4)


def test_embed_file_what_cannot_be_heard_is_refused(model: Model, tmp_path: Path) -> None:
    path = write_tone(tmp_path / "tone.wav", 2.0)
    (tmp_path / "text.wav").write_text("no")
    for arguments, message in (
        ((tmp_path / "none.wav",), r"cannot listen to .*none\.wav: "),
        ((tmp_path / "text.wav",), r"cannot listen to .*text\.wav: "),
        ((tmp_path,), "cannot listen to "),
        ((5,), "a file is a path, got 5"),
        ((path, 2.5), r"tone\.wav has no audio at 2\.5 s"),
        ((path, -1.0), "begins at 0 s or later, got -1"),
        ((path, float("nan")), "begins at 0 s or later, got nan"),
        ((path, 0.0, 0.0), "longer than 0 s, got 0"),
        ((path, 0.0, float("inf")), "longer than 0 s, got inf"),
    ):
        with pytest.raises(QueryError, match=message):
            model.embed_file(*arguments)  # type: ignore[arg-type]
    with pytest.raises(QueryError, match=r"cannot listen to .*text\.wav"):
        model.tag(tmp_path / "text.wav")


def test_embed_file_longer_than_one_pass_is_refused_but_not_a_span_of_it(
    model: Model, tmp_path: Path
) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(605 * 8_000, np.int16), 8_000)
    for arguments in ((), (1.0,), (0.0, 601.0)):
        with pytest.raises(QueryError, match=r"long\.wav: the audio is too long .* 600 s at most"):
            model.embed_file(path, *arguments)
    assert model.embed_file(path, 595.0).frames.shape == (768, 31, 7)


def test_load_model_is_what_soundalike_hands_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (soundalike.load_model, soundalike.Model) == (load_model, Model)
    model = soundalike.load_model("demo", device="cpu", precision="fp32")
    assert repr(model) == "Model('demo', device='cpu', precision='fp32')"
    with pytest.raises(CheckpointError, match="did you mean 'demo'"):
        load_model("deemo")
    with pytest.raises(SoundalikeError, match="unknown device"):
        load_model("demo", device="tpu")
    monkeypatch.setenv("SOUNDALIKE_CHECKPOINTS", "/nowhere")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError):
        load_model()
