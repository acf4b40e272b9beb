"""Waveforms → embeddings: layouts, precision, devices."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from indexer.embedding.extractor import Extractor
from indexer.errors import SoundalikeError
from indexer.model.checkpoint import Checkpoint
from indexer.model.convnext import Output
from indexer.model.inference import InferenceNetwork
from indexer.run.survey import package_versions
from indexer.store.schema import FramesMode
from indexer.windows import Geometry


@pytest.fixture(scope="module")
def waveforms() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).normal(0, 0.1, (2, 64_000)).astype(np.float32))


@pytest.mark.parametrize("frames", ["pooled", "full", "none"])
def test_extractor_outputs_are_the_models_in_the_stored_layout(
    tiny_checkpoint: Checkpoint, waveforms: torch.Tensor, frames: FramesMode
) -> None:
    found = Extractor(tiny_checkpoint, device="cpu", frames=frames)(waveforms)
    with torch.inference_mode():
        expected = tiny_checkpoint.model(waveforms)
    np.testing.assert_allclose(found.scene, expected.scene, atol=2e-5)
    np.testing.assert_allclose(found.tags, expected.tags, atol=1e-5)
    if frames == "none":
        assert found.frames is None
        return
    assert found.frames is not None
    assert found.frames.dtype == np.float16
    whole = expected.frames.permute(0, 2, 3, 1).numpy()  # (B, T, 7, 768)
    wanted = whole if frames == "full" else whole.mean(2)
    assert found.frames.shape == wanted.shape
    np.testing.assert_allclose(found.frames.astype("f4"), wanted, atol=2e-3, rtol=2e-3)


def test_extractor_bf16_is_near_fp32_and_its_tags_are_those_of_its_scene(
    tiny_checkpoint: Checkpoint, waveforms: torch.Tensor
) -> None:
    exact = Extractor(tiny_checkpoint, device="cpu", precision="fp32")
    reduced = Extractor(tiny_checkpoint, device="cpu", precision="bf16")
    plain, rounded = exact(waveforms).scene, reduced(waveforms)
    cosine = (plain * rounded.scene).sum(1) / (
        np.linalg.norm(plain, axis=1) * np.linalg.norm(rounded.scene, axis=1)
    )
    assert (cosine > 0.999).all()
    assert not np.array_equal(plain, rounded.scene)
    # The classifier stays in fp32, so that the stored head gives the stored tags.
    np.testing.assert_allclose(rounded.tags, reduced.head().tags(rounded.scene), atol=1e-5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_extractor_auto_without_a_gpu_is_the_cpu(tiny_checkpoint: Checkpoint) -> None:
    extractor = Extractor(tiny_checkpoint)
    assert extractor.device_name == "cpu"
    assert extractor.precision in {"fp32", "bf16"}  # whichever is faster here
    assert extractor.on_all_gpus() == [extractor]
    with pytest.raises(SoundalikeError, match="cuda cannot be used: ") as caught:
        Extractor(tiny_checkpoint, device="cuda")
    assert (caught.value.about, caught.value.value) == ("device", "cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "unknown device 'gpu'; use auto, cpu, cuda or cuda:N"),
        ({"device": "meta"}, "unknown device 'meta'"),
        (
            {"device": "cpu", "precision": "int8"},
            "unknown precision 'int8'; use auto, fp32 or bf16",
        ),
    ],
)
def test_extractor_what_does_not_exist_is_named(
    tiny_checkpoint: Checkpoint, options: dict[str, str], message: str
) -> None:
    with pytest.raises(SoundalikeError, match=message):
        Extractor(tiny_checkpoint, **options)  # type: ignore[arg-type]


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], list[int]]:
    """Say how many windows the device has memory for; lists how many the network was given."""

    def limit(num_windows: int) -> list[int]:
        sizes: list[int] = []

        class Small(InferenceNetwork):
            def __call__(self, waveforms: torch.Tensor) -> Output:
                sizes.append(len(waveforms))
                if len(waveforms) > num_windows:
                    raise torch.OutOfMemoryError("no more")
                return super().__call__(waveforms)

        monkeypatch.setattr("indexer.embedding.extractor.InferenceNetwork", Small)
        return sizes

    return limit


@pytest.mark.parametrize("frames", ["pooled", "none"])
def test_extractor_out_of_memory_halves_the_batch_and_goes_on(
    tiny_checkpoint: Checkpoint, frames: FramesMode, hold: Callable[[int], list[int]]
) -> None:
    waveforms = torch.randn(11, 16_000, generator=torch.Generator().manual_seed(1))
    how = {"device": "cpu", "precision": "fp32", "frames": frames}
    expected = Extractor(tiny_checkpoint, **how)(waveforms)  # type: ignore[arg-type]
    sizes = hold(3)
    extractor = Extractor(tiny_checkpoint, **how)  # type: ignore[arg-type]
    timed = extractor.embed_and_time(waveforms)
    assert sizes == [11, 5, 2, 2, 2, 2, 2, 1]
    assert extractor.most_windows == 2
    assert timed.network_s > 0
    for found, wanted in zip(timed.embeddings, expected, strict=True):
        if wanted is None:
            assert found is None
        else:
            assert found.dtype == wanted.dtype
            np.testing.assert_allclose(found, wanted, atol=1e-5)
    sizes.clear()
    extractor(waveforms[:4])  # what was learned is kept
    assert sizes == [2, 2]


def test_extractor_without_memory_for_one_window_says_what_to_do(
    tiny_checkpoint: Checkpoint, hold: Callable[[int], list[int]]
) -> None:
    hold(0)
    extractor = Extractor(tiny_checkpoint, device="cpu", precision="fp32")
    with pytest.raises(SoundalikeError, match=r"no memory left for a single window; close what"):
        extractor(torch.zeros(4, 16_000))


def test_extractor_identity_holds_what_shapes_the_numbers(tiny_checkpoint: Checkpoint) -> None:
    extractor = Extractor(tiny_checkpoint, device="cpu", frames="none")
    identity = extractor.identity(Geometry(1000, native=True))
    assert identity.weights == tiny_checkpoint.digest
    assert (identity.frames, identity.hop_samples, identity.native) == ("none", 1000, True)
    assert identity.geometry == Geometry(1000, native=True)


def test_package_versions_name_what_shapes_the_numbers() -> None:
    assert {"torch", "torchaudio", "av", "soundfile"} <= package_versions().keys()
    assert package_versions()["torch"] == torch.__version__.split("+")[0]
