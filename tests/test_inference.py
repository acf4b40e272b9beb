"""The network as it is run, against the network as it is defined."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F
from conftest import REPOSITORY
from recipe import SEED, clip, fill
from torch import Tensor

from indexer.model import tuning
from indexer.model.checkpoint import load_checkpoint
from indexer.model.convnext import ConvNeXt, Output
from indexer.model.inference import InferenceNetwork, Mlp, PackedMlp, PlainMlp
from indexer.model.tuning import Arithmetic, measure, quickest


def has_packed() -> bool:
    ones = torch.ones(8, 8)
    try:
        PackedMlp((ones, ones[0]), (ones, ones[0]))(ones, ones)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False
    return True


MLPS = [
    PlainMlp,
    pytest.param(
        PackedMlp, marks=pytest.mark.skipif(not has_packed(), reason="oneDNN's layers are missing")
    ),
]


@pytest.fixture(scope="module")
def model(whole: None) -> ConvNeXt:
    """The published design at its full size, with weights that let every path matter."""
    return fill(ConvNeXt(), SEED).eval()


@pytest.fixture(scope="module", params=["noise_10_1", "noise_5_2", "chirp_10_0", "silence_10_0"])
def defined(request: pytest.FixtureRequest, model: ConvNeXt) -> tuple[Tensor, Output]:
    """A clip, forwards and backwards, and what the model makes of it."""
    waveforms = torch.cat([clip(request.param), clip(request.param).flip(1)])
    with torch.inference_mode():
        return waveforms, model(waveforms)


@pytest.mark.parametrize("mlp", MLPS)
def test_network_computes_what_the_model_defines(
    model: ConvNeXt, defined: tuple[Tensor, Output], mlp: type[Mlp]
) -> None:
    waveforms, expected = defined
    found = InferenceNetwork(model, mlp=mlp)(waveforms)
    assert F.cosine_similarity(found.scene, expected.scene).min() > 0.999999
    torch.testing.assert_close(found.tags, expected.tags, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.frames, expected.frames, atol=1e-4, rtol=1e-4)


@pytest.mark.whole
@pytest.mark.parametrize("mlp", MLPS)
@pytest.mark.parametrize("num_samples", [1, 8_000, 12_345, 330_001])
def test_network_of_any_length_computes_what_the_model_defines(
    tiny_model: ConvNeXt, mlp: type[Mlp], num_samples: int
) -> None:
    waveforms = torch.randn(3, num_samples, generator=torch.Generator().manual_seed(num_samples))
    found = InferenceNetwork(tiny_model, mlp=mlp)(waveforms)
    with torch.inference_mode():
        expected = tiny_model(waveforms)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def tiny_model() -> ConvNeXt:
    return fill(ConvNeXt(depths=(1, 2, 1, 1), dims=(8, 16, 8, 24)), 1).eval()


@pytest.fixture(scope="module")
def barks() -> Tensor:
    samples = soundfile.read(REPOSITORY / "data/samples/animals/dog.ogg", dtype="float32")[0]
    return torch.from_numpy(samples[None, :160_000].copy())


def test_network_in_bfloat16_is_near_float32_on_a_recording(barks: Tensor) -> None:
    model = load_checkpoint("demo").model
    exact = InferenceNetwork(model)(barks)
    rounded = InferenceNetwork(model, torch.bfloat16)(barks)
    assert rounded.scene.dtype == rounded.tags.dtype == torch.float32
    assert F.cosine_similarity(rounded.scene, exact.scene).min() > 0.9995
    torch.testing.assert_close(rounded.tags, exact.tags, atol=0.02, rtol=0)
    assert not torch.equal(rounded.scene, exact.scene)


def test_network_leaves_the_model_as_it_was(tiny_model: ConvNeXt) -> None:
    before = {name: tensor.clone() for name, tensor in tiny_model.state_dict().items()}
    InferenceNetwork(tiny_model)(torch.zeros(1, 32_000))
    for name, tensor in tiny_model.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@pytest.fixture
def took(monkeypatch: pytest.MonkeyPatch) -> dict[Arithmetic, float]:
    """Say how long a pair of layers takes each arithmetic, by a clock that only they move.

    Where it takes for ever, its operators are missing.
    """
    seconds: dict[Arithmetic, float] = {}
    clock = [0.0]

    def pretend(mlp: type[Mlp]) -> None:
        def compute(_: Mlp, y: Tensor, x: Tensor) -> Tensor:
            taken = seconds[Arithmetic(y.dtype, mlp)]
            if taken == np.inf:
                raise NotImplementedError
            clock[0] += taken
            return x

        monkeypatch.setattr(mlp, "__init__", lambda *_: None)
        monkeypatch.setattr(mlp, "__call__", compute)

    pretend(PlainMlp)
    pretend(PackedMlp)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    return seconds


def test_measure_takes_what_was_measured_to_be_faster(took: dict[Arithmetic, float]) -> None:
    fp32, bf16 = torch.float32, torch.bfloat16

    def choice(plain: float, packed: float, reduced: float, *dtypes: torch.dtype) -> Arithmetic:
        took[Arithmetic(fp32, PlainMlp)] = plain
        took[Arithmetic(fp32, PackedMlp)] = packed
        took[Arithmetic(bf16, PackedMlp)] = reduced
        return measure(*dtypes)

    assert choice(10, 9.5, 9, fp32, bf16) == (fp32, PlainMlp)  # no more than chance
    assert choice(10, 8, 6, fp32, bf16) == (fp32, PackedMlp)
    assert choice(10, 8, 2, fp32, bf16) == (bf16, PackedMlp)
    assert choice(10, 8, 2, fp32) == (fp32, PackedMlp)
    assert choice(10, 1, 6, fp32, bf16) == (fp32, PackedMlp)
    assert choice(10, np.inf, np.inf, fp32, bf16) == (fp32, PlainMlp)
    assert choice(10, 8, np.inf, bf16) == (bf16, PlainMlp)  # slow, but it was asked for


@pytest.mark.usefixtures("three_threads")
def test_measure_leaves_the_number_of_threads_alone() -> None:
    assert measure(torch.float32).dtype is torch.float32
    assert torch.get_num_threads() == 3


def test_measure_does_without_operators_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: PackedMlp, y: Tensor, x: Tensor) -> Tensor:
        return torch.ops.mkldnn.not_there(y, x)  # type: ignore[no-any-return]

    monkeypatch.setattr(PackedMlp, "__call__", missing)
    assert measure(torch.float32, torch.bfloat16) == (torch.float32, PlainMlp)


def test_quickest_is_measured_once_for_a_machine(
    took: dict[Arithmetic, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fp32, bf16 = torch.float32, torch.bfloat16
    plain, packed = Arithmetic(fp32, PlainMlp), Arithmetic(fp32, PackedMlp)
    reduced = Arithmetic(bf16, PackedMlp)

    def ask(*dtypes: torch.dtype) -> Arithmetic:
        quickest.cache_clear()  # as in another process
        return quickest(*dtypes)

    took.update({plain: 10, packed: 5, reduced: 9})
    try:
        assert ask(fp32, bf16) == packed
        took[packed] = 20
        assert ask(fp32, bf16) == packed  # as it was measured before
        assert ask(fp32) == plain  # another question
        monkeypatch.setattr(tuning, "version", lambda name: f"another {name}")
        assert ask(fp32, bf16) == plain
        for file in tmp_path.rglob("*.txt"):
            file.write_bytes(b"\xff nonsense")
        took[plain] = 90
        assert ask(fp32, bf16) == reduced  # what cannot be read is measured again
    finally:
        quickest.cache_clear()
