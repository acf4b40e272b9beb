"""The network against the published one, and against what its outputs must satisfy."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipe import (
    CHIRP_TOLERANCE,
    CLIPS,
    GOLDEN,
    GOLDEN_WEIGHTS,
    SEED,
    TOLERANCE,
    UKULELE,
    clip,
    fill,
)
from torch import Tensor
from torchlibrosa.stft import LogmelFilterBank, Spectrogram

from indexer.model.checkpoint import state_digest
from indexer.model.convnext import EMBEDDING_DIM, NUM_TAGS, ConvNeXt, Output
from indexer.model.front_end import mel_filterbank
from indexer.store import schema
from indexer.windows import MIN_INPUT_SAMPLES, SAMPLE_RATE_HZ

SHAPES = Path(__file__).parent / "golden" / "state_dict_shapes.json"


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True, scope="module")
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def golden_model(whole: None) -> ConvNeXt:
    return fill(ConvNeXt(), SEED)


@pytest.fixture(scope="module")
def tiny_model() -> ConvNeXt:
    return fill(ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 8, EMBEDDING_DIM)), seed=1)


@functools.cache
def torchlibrosa_front_end() -> tuple[Any, Any]:
    spectrogram = Spectrogram(n_fft=1024, hop_length=320, win_length=1024)
    log_mel = LogmelFilterBank(
        sr=32000, n_fft=1024, n_mels=224, fmin=50, fmax=14000, amin=1e-10, top_db=None
    )
    return spectrogram, log_mel


def run(model: ConvNeXt, waveforms: Tensor) -> Output:
    output = model(waveforms)
    assert isinstance(output, Output)
    return output


def test_recipe_golden_seed_gives_golden_weights(golden_model: ConvNeXt) -> None:
    assert state_digest(golden_model) == GOLDEN_WEIGHTS


@pytest.mark.parametrize("name", CLIPS)
def test_forward_golden_clip_agrees_with_published_network(
    golden_model: ConvNeXt, name: str
) -> None:
    if name == "ukulele" and not UKULELE.exists():
        pytest.skip(f"the recording is not in the repository, and not at {UKULELE}")
    waveform = clip(name)
    output = run(golden_model, waveform)
    frames = output.frames[0].numpy()
    found = {
        "logits": golden_model.head_audioset(output.scene)[0].numpy(),
        "scene": output.scene[0].numpy(),
        "probs": output.tags[0].numpy(),
        "frames_shape": np.array(frames.shape),
        "frames_mean_over_freq": frames.mean(axis=2),
        "frames_first_channels": frames[:32],
        "logmel_every_25th_frame": golden_model.log_mel(waveform)[0, 0, ::25].numpy(),
    }
    tolerance = CHIRP_TOLERANCE if name.startswith("chirp") else TOLERANCE
    with np.load(GOLDEN) as golden:
        for key, values in found.items():
            expected = golden[f"{name}/{key}"]
            np.testing.assert_allclose(
                values, expected, rtol=0, atol=tolerance[key], err_msg=f"{name}/{key}"
            )


def test_golden_arrays_hold_every_clip() -> None:
    with np.load(GOLDEN) as golden:
        assert {key.split("/")[0] for key in golden} == set(CLIPS)


def test_state_dict_names_and_shapes_are_the_published_ones() -> None:
    published = {
        name: tuple(shape)
        for name, shape in json.loads(SHAPES.read_text()).items()
        if not name.startswith(("spectrogram_extractor.", "logmel_extractor."))
    }
    with torch.device("meta"):
        model = ConvNeXt()
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == published


def test_parameters_of_the_published_network_are_28_million() -> None:
    with torch.device("meta"):
        model = ConvNeXt()
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 28_222_767


def test_constants_are_those_of_the_store() -> None:
    assert (EMBEDDING_DIM, NUM_TAGS) == (schema.EMBEDDING_DIM, schema.NUM_TAGS)


def test_model_new_is_in_evaluation_mode(tiny_model: ConvNeXt) -> None:
    assert not any(module.training for module in tiny_model.modules())


@pytest.mark.whole
def test_log_mel_noise_agrees_with_torchlibrosa(tiny_model: ConvNeXt) -> None:
    waveforms = noise(2, 320_000)
    spectrogram, log_mel = torchlibrosa_front_end()
    expected = log_mel(spectrogram(waveforms))  # (B, 1, num_frames, 224)
    deviation = (tiny_model.log_mel(waveforms) - expected).abs()
    # Measured: 0.0038 dB at most, 2.9e-6 dB on average.
    assert deviation.max() < 0.05
    assert deviation.mean() < 1e-3


def test_mel_filterbank_is_torchlibrosas_to_the_last_bit() -> None:
    _, log_mel = torchlibrosa_front_end()
    expected = log_mel.melW.detach().numpy()
    assert expected.shape == (513, 224)
    assert expected.dtype == mel_filterbank().dtype
    np.testing.assert_array_equal(mel_filterbank(), expected)


def test_log_mel_ten_seconds_has_1001_frames(tiny_model: ConvNeXt) -> None:
    assert tiny_model.log_mel(noise(2, 320_000)).shape == (2, 1, 1001, 224)


def test_log_mel_silence_is_the_floor(tiny_model: ConvNeXt) -> None:
    assert torch.all(tiny_model.log_mel(torch.zeros(1, 32_000)) == -100)


def test_log_mel_tone_peaks_in_the_band_of_its_frequency(tiny_model: ConvNeXt) -> None:
    time_s = torch.arange(32_000) / SAMPLE_RATE_HZ
    tone = torch.sin(2 * torch.pi * 5000 * time_s)[None]
    loudest = int(tiny_model.log_mel(tone)[0, 0, 50].argmax())
    assert int(tiny_model.mel_filterbank[:, loudest].argmax()) == 5000 * 1024 // SAMPLE_RATE_HZ


def test_log_mel_under_autocast_stays_float32(tiny_model: ConvNeXt) -> None:
    waveforms = noise(1, 32_000)
    expected = tiny_model.log_mel(waveforms)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tiny_model.log_mel(waveforms), expected)


@pytest.mark.whole
def test_forward_under_autocast_is_float32_and_close(tiny_model: ConvNeXt) -> None:
    waveforms = noise(2, 160_000)
    expected = run(tiny_model, waveforms)
    with torch.autocast("cpu", torch.bfloat16):
        output = run(tiny_model, waveforms)
    assert {tensor.dtype for tensor in output} == {torch.float32}
    cosine = torch.nn.functional.cosine_similarity(output.scene, expected.scene)
    assert torch.all(cosine > 0.999)
    assert not torch.equal(output.scene, expected.scene)  # the reduced precision was in use
    tags = torch.sigmoid(tiny_model.head_audioset(output.scene))
    torch.testing.assert_close(output.tags, tags, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("num_samples", "num_frames"),
    [(1, 1), (100, 1), (7999, 1), (8000, 1), (8001, 1), (160_000, 15), (320_000, 31)],
)
def test_forward_length_gives_frames(
    tiny_model: ConvNeXt, num_samples: int, num_frames: int
) -> None:
    output = run(tiny_model, noise(2, num_samples))
    assert output.scene.shape == (2, EMBEDDING_DIM)
    assert output.frames.shape == (2, EMBEDDING_DIM, num_frames, 7)
    assert output.tags.shape == (2, NUM_TAGS)
    assert all(torch.isfinite(tensor).all() for tensor in output)


def test_forward_short_input_equals_zero_padded(tiny_model: ConvNeXt) -> None:
    waveform = noise(1, 100)
    padded = torch.nn.functional.pad(waveform, (0, MIN_INPUT_SAMPLES - 100))
    for short, long in zip(run(tiny_model, waveform), run(tiny_model, padded), strict=True):
        assert torch.equal(short, long)


def test_forward_silence_is_finite(golden_model: ConvNeXt) -> None:
    output = run(golden_model, torch.zeros(1, 16_000))
    assert all(torch.isfinite(tensor).all() for tensor in output)


def test_forward_tags_are_sigmoid_of_head_of_scene(golden_model: ConvNeXt) -> None:
    output = run(golden_model, noise(2, 32_000))
    weight = golden_model.head_audioset.weight.double()
    bias = golden_model.head_audioset.bias.double()
    tags = torch.sigmoid(output.scene.double() @ weight.T + bias)
    torch.testing.assert_close(output.tags.double(), tags, rtol=0, atol=1e-6)


def test_forward_scene_is_norm_of_max_plus_mean_over_time(golden_model: ConvNeXt) -> None:
    output = run(golden_model, noise(2, 96_000))
    pooled = output.frames.double().numpy().mean(axis=3)  # (B, 768, T)
    total = pooled.max(axis=2) + pooled.mean(axis=2)  # (B, 768)
    centred = total - total.mean(axis=1, keepdims=True)
    normal = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6)
    weight, bias = golden_model.norm.weight, golden_model.norm.bias
    scene = normal * weight.numpy() + bias.numpy()
    np.testing.assert_allclose(output.scene, scene, rtol=0, atol=1e-5)


def test_pool_single_frame_is_norm_of_frame(golden_model: ConvNeXt) -> None:
    frame = run(golden_model, noise(1, 96_000)).frames[:, :, 3:4]  # (1, 768, 1, 7)
    scene = golden_model.pool(frame)
    norm_of_frame = golden_model.norm(frame.mean(dim=3)[:, :, 0])
    torch.testing.assert_close(scene, norm_of_frame, rtol=0, atol=1e-5)


def test_forward_neighbours_in_batch_change_nothing(golden_model: ConvNeXt) -> None:
    waveforms = noise(3, 64_000) * torch.tensor([[1.0], [100.0], [0.01]])
    together = run(golden_model, waveforms)
    for row in range(3):
        alone = run(golden_model, waveforms[row : row + 1])
        torch.testing.assert_close(together.scene[row], alone.scene[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(together.tags[row], alone.tags[0], rtol=0, atol=1e-5)
        # Frames are stored as float16, whose steps are 1e-3 of a value.
        torch.testing.assert_close(together.frames[row], alone.frames[0], rtol=1e-4, atol=1e-4)


def test_forward_twice_is_identical(tiny_model: ConvNeXt) -> None:
    waveforms = noise(2, 32_000)
    for first, second in zip(run(tiny_model, waveforms), run(tiny_model, waveforms), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    "waveforms",
    [
        torch.zeros(32_000),
        torch.zeros(1, 1, 32_000),
        torch.zeros(1, 32_000, dtype=torch.float64),
        torch.zeros(1, 32_000, dtype=torch.int16),
        torch.zeros(1, 0),
        torch.zeros(0, 32_000),
    ],
    ids=["1-D", "3-D", "float64", "int16", "no samples", "no rows"],
)
def test_forward_not_waveforms_raises(tiny_model: ConvNeXt, waveforms: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected \(B, num_samples\) float32"):
        tiny_model(waveforms)
