"""The HEAR 2021 API: what its validator checks, and that it is the same network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from torch import nn

from indexer import hear
from indexer.embedding.extractor import Extractor
from indexer.errors import CheckpointError
from indexer.model.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Checkpoint) -> hear.HearModel:
    return hear.HearModel(tiny_checkpoint).eval()


def noise(num_sounds: int, num_samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(num_samples)
    return torch.rand(num_sounds, num_samples, generator=generator) * 2 - 1


def test_model_has_the_attributes_that_the_validator_asks_for(model: hear.HearModel) -> None:
    assert isinstance(model, nn.Module)
    assert model.sample_rate in {16_000, 22_050, 44_100, 48_000}
    for size in (model.scene_embedding_size, model.timestamp_embedding_size):
        assert isinstance(size, int)
        assert size == 768


@pytest.mark.parametrize(("num_sounds", "duration_s"), [(16, 2.0), (8, 3.74), (1, 0.1), (3, 1e-5)])
def test_embeddings_are_as_the_validator_wants_them(
    model: hear.HearModel, num_sounds: int, duration_s: float
) -> None:
    audio = noise(num_sounds, max(int(duration_s * model.sample_rate), 1))
    scene = hear.get_scene_embeddings(audio, model)
    embeddings, timestamps_ms = hear.get_timestamp_embeddings(audio, model)
    assert scene.shape == (num_sounds, model.scene_embedding_size)
    assert embeddings.shape == (*timestamps_ms.shape, model.timestamp_embedding_size)
    assert len(timestamps_ms) == num_sounds
    for tensor in (scene, embeddings, timestamps_ms):
        assert (tensor.dtype, tensor.device) == (torch.float32, audio.device)
        assert torch.isfinite(tensor).all()
        assert not tensor.requires_grad
    assert ((timestamps_ms.diff() - 320.0).abs() < 1e-3).all()


def test_embeddings_do_not_depend_on_the_batch(model: hear.HearModel) -> None:
    audio = noise(4, 96_000)
    together = hear.get_scene_embeddings(audio, model)
    embeddings, _ = hear.get_timestamp_embeddings(audio, model)
    for row in range(4):
        alone = audio[row : row + 1]
        torch.testing.assert_close(
            together[row : row + 1], hear.get_scene_embeddings(alone, model), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            embeddings[row : row + 1],
            hear.get_timestamp_embeddings(alone, model)[0],
            atol=1e-5,
            rtol=1e-5,
        )


def test_embeddings_are_those_of_the_store(
    model: hear.HearModel, tiny_extractor: Extractor
) -> None:
    audio = noise(2, 480_000)
    stored = tiny_extractor(torchaudio.functional.resample(audio, 48_000, 32_000))
    assert stored.frames is not None
    np.testing.assert_allclose(hear.get_scene_embeddings(audio, model), stored.scene, atol=2e-5)
    embeddings, timestamps = hear.get_timestamp_embeddings(audio, model)
    np.testing.assert_allclose(embeddings, stored.frames.astype("f4"), atol=2e-3, rtol=2e-3)
    assert timestamps.shape == (2, 31)
    assert timestamps[0, :2].tolist() == [120.0, 440.0]  # [-0.04, 0.28) s and [0.28, 0.60) s


def test_timestamps_are_where_the_sound_is(model: hear.HearModel) -> None:
    """A click moves by as many frames as it is later, and lies near the middle of what changes."""
    silence = torch.zeros(1, 480_000)
    base, timestamps = hear.get_timestamp_embeddings(silence, model)
    centres = []
    for at_s in (3.0, 6.2):
        audio = silence.clone()
        audio[0, round(at_s * 48_000) : round((at_s + 0.02) * 48_000)] = 0.9
        changed, _ = hear.get_timestamp_embeddings(audio, model)
        change = (changed - base).norm(dim=2)[0].double()
        centres.append(float((change * timestamps[0]).sum() / change.sum()) / 1000)
        assert abs(centres[-1] - at_s) < 0.4
    assert centres[1] - centres[0] == pytest.approx(3.2, abs=0.05)


def test_load_model_takes_names_and_files() -> None:
    model = hear.load_model("demo")
    assert not model.training
    assert hear.get_scene_embeddings(noise(1, 16_000), model).shape == (1, 768)
    with pytest.raises(CheckpointError):
        hear.load_model(str(Path("no such file.pth")))


def test_load_model_default_is_the_published_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOUNDALIKE_CHECKPOINTS", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    with pytest.raises(CheckpointError, match="checkpoint 'convnext-tiny-471': cannot reach"):
        hear.load_model()


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3), (2, 0)])
def test_audio_of_another_shape_is_an_error(model: hear.HearModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="audio is \\(n_sounds, n_samples\\)"):
        hear.get_scene_embeddings(torch.zeros(shape), model)
