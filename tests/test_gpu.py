"""What needs a GPU: the same numbers as on a CPU, from windows and from files.

Run where there is one by `benchmarks/on_gpu.py`, with few packages: nothing here imports FAISS but
the tests that ask for it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from recipe import fill
from rows_in_memory import generation, random_rows, segment
from synthetic import write_tone

from indexer.arrays import Float32
from indexer.embedding.devices import describe_gpus, driver_version, gpu_fault
from indexer.embedding.extractor import Extractor
from indexer.model.checkpoint import Checkpoint
from indexer.model.convnext import ConvNeXt
from indexer.run.config import ExtractConfig
from indexer.run.extract import extract
from indexer.store.creation import create_store
from indexer.store.reader import Store
from indexer.windows import Geometry

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.whole,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    with torch.no_grad():
        model = fill(ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 16, 16, 768)), 7).eval()
    return Checkpoint("narrow", None, "0" * 64, model)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def waveforms() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(3).normal(0, 0.1, (5, 64_000)).astype(np.float32))


def cosines(a: Float32, b: Float32) -> Float32:
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: Float32 = (a * b).sum(1) / lengths
    return found


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.999999), ("bf16", 0.999)])
@pytest.mark.parametrize("frames", ["pooled", "full"])
def test_extractor_on_a_gpu_is_near_the_cpu(
    checkpoint: Checkpoint, waveforms: torch.Tensor, precision: str, least: float, frames: str
) -> None:
    how = {"frames": frames}
    plain = Extractor(checkpoint, device="cpu", precision="fp32", **how)(waveforms)  # type: ignore[arg-type]
    on_gpu = Extractor(checkpoint, device="cuda", precision=precision, **how)  # type: ignore[arg-type]
    found = on_gpu(waveforms)
    assert (cosines(plain.scene, found.scene) > least).all()
    assert plain.frames is not None
    assert found.frames is not None
    assert found.frames.shape == plain.frames.shape
    flat = [one.reshape(-1, 768).astype(np.float32) for one in (plain.frames, found.frames)]
    assert (cosines(*flat) > least - 0.005).all()
    np.testing.assert_allclose(found.tags, on_gpu.head().tags(found.scene), atol=1e-5)


def test_extractor_on_a_gpu_gives_the_same_whatever_is_in_the_batch(
    checkpoint: Checkpoint, waveforms: torch.Tensor
) -> None:
    on_gpu = Extractor(checkpoint, device="cuda", precision="fp32")
    whole = on_gpu(waveforms).scene
    for row in range(len(waveforms)):
        np.testing.assert_allclose(on_gpu(waveforms[row : row + 1]).scene[0], whole[row], atol=1e-4)


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("bf16", 0.999)])
def test_extract_on_a_gpu_gives_the_store_of_the_cpu(
    checkpoint: Checkpoint, tmp_path: Path, precision: str, least: float
) -> None:
    library = tmp_path / "library"
    for number in range(12):
        rate_hz = (44_100, 32_000, 48_000, 44_101)[number % 4]
        write_tone(library / f"{number:02}.wav", 1.0 + number, 200 + 10 * number, rate=rate_hz)
    plain = Extractor(checkpoint, device="cpu", precision="fp32")
    on_gpu = Extractor(checkpoint, device="cuda", precision=precision)
    assert on_gpu.resamples
    stores = {}
    for name, extractor in (("cpu", plain), ("gpu", on_gpu)):
        store = create_store(
            tmp_path / name,
            extractor.identity(Geometry(112_000)),
            extractor.head(),
            checkpoint="narrow",
            written_by="tests",
        )
        report = extract(library, store, extractor, ExtractConfig(num_workers=2, batch_size=3))
        assert not report.failures
        stores[name] = by_window(store)
    assert stores["cpu"].keys() == stores["gpu"].keys()
    for key, scene in stores["cpu"].items():
        assert cosines(scene[None], stores["gpu"][key][None])[0] > least


def by_window(store: Store) -> dict[int, Float32]:
    snapshot = store.snapshot()
    scenes = snapshot.scene(np.arange(len(snapshot)))
    return dict(zip(snapshot.windows.window_id.tolist(), scenes, strict=True))


def test_a_gpu_that_works_is_described() -> None:
    assert gpu_fault(0) is None
    assert torch.cuda.get_device_name(0) in describe_gpus()[0]
    assert driver_version()[0].isdigit()


def test_find_centres_on_a_gpu_are_as_near_as_those_of_the_cpu() -> None:
    faiss = pytest.importorskip("faiss")
    if not faiss.get_num_gpus():
        pytest.skip("FAISS sees no GPU")
    from search.nearest.centres import _cluster, find_centres  # noqa: PLC0415 - it imports FAISS

    sample = np.random.default_rng(1).normal(size=(3000, 96)).astype(np.float32)
    told: list[object] = []
    found = find_centres(sample, 70, told.append)
    assert told == []
    expected = _cluster(sample, 70, faiss.IndexFlatL2(96))
    nearest = [
        np.linalg.norm(sample[:, None] - some, axis=2).min(1).mean() for some in (found, expected)
    ]
    assert nearest[0] < 1.01 * nearest[1]


@pytest.mark.usefixtures("rounded")
@pytest.mark.parametrize("weight", [None, 0.0, 0.35])
@pytest.mark.parametrize("room_bytes", [0, 10**9])
def test_many_questions_on_a_gpu_have_the_answers_of_the_cpu_to_the_bit(
    monkeypatch: pytest.MonkeyPatch, weight: float | None, room_bytes: int
) -> None:
    pytest.importorskip("faiss")
    from search.generation.allowed import Allowed  # noqa: PLC0415 - some of it imports FAISS
    from search.nearest import bulk  # noqa: PLC0415
    from search.nearest.blend import blended  # noqa: PLC0415
    from search.nearest.gpu import Gpu  # noqa: PLC0415
    from search.nearest.index import VectorIndex  # noqa: PLC0415

    rng = np.random.default_rng(5)
    made = [random_rows(rng, number) for number in (50_000, 1, 30_000)]
    for array in made[0]:
        array[100:300] = array[99]  # a crowd
    made[2][0][::7, 3] = np.nan
    rows = generation(*(segment(at, *arrays) for at, arrays in enumerate(made)))
    at = np.array([99, *rng.integers(0, 50_000, 500)])
    vectors = rows.vectors(at) + rng.normal(0, 0.02, (501, 768)).astype(np.float32)
    vectors[0] = rows.vectors(at[:1])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = vectors if weight is None else blended(vectors, rows.tags(at), weight)
    some = Allowed.of(rng.random(len(one)) < 0.3 for one in rows.segments)
    monkeypatch.setattr(bulk, "room_bytes", lambda device: room_bytes)
    on_gpu, on_cpu = VectorIndex(rows), VectorIndex(rows)
    on_gpu.gpu = Gpu(rows, bulk.DeviceRows(rows, torch.device("cuda")))
    on_cpu.gpu = Gpu(rows, is_there=False)
    for allowed in (None, some):
        found, expected = (
            one.search_many(asked, 10, allowed, exact=True) for one in (on_gpu, on_cpu)
        )
        assert found[0].tobytes() == expected[0].tobytes()
        assert (found[1] == expected[1]).all()
