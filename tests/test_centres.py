"""Centres by a GPU: tried in a process of its own, and whatever happens there, they are found."""

from __future__ import annotations

import sys
import textwrap

import faiss
import numpy as np
import pytest

from indexer.arrays import Float32
from search.nearest import centres
from search.nearest.centres import find_centres

pytestmark = pytest.mark.whole  # Each test starts a process.

NUM_LISTS, WIDTH = 7, 96


@pytest.fixture(scope="module")
def sample() -> Float32:
    return np.random.default_rng(1).normal(0, 0.1, (300, WIDTH)).astype(np.float32)


@pytest.fixture(scope="module")
def expected(sample: Float32) -> Float32:
    """What FAISS's own index trains."""
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(WIDTH), WIDTH, NUM_LISTS, faiss.METRIC_L2)
    index.cp.niter = centres.ITERATIONS
    index.cp.min_points_per_centroid = 1
    index.cp.max_points_per_centroid = centres.TRAINING_ROWS_PER_LIST
    index.train(sample)
    found: Float32 = index.quantizer.reconstruct_n(0, NUM_LISTS)
    return found


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Sentences that were heard, on a machine that has a GPU, it seems."""
    monkeypatch.setattr(centres, "has_gpu", lambda: True)
    return []


def run_instead(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    words = (sys.executable, "-c", textwrap.dedent(code))
    monkeypatch.setattr(centres, "_COMMAND", words)


@pytest.mark.skipif(bool(faiss.get_num_gpus()), reason="there is a GPU")
def test_find_centres_without_the_gpu_that_seemed_to_be_there_is_done_by_the_cpu(
    sample: Float32, expected: Float32, told: list[object]
) -> None:
    found = find_centres(sample, NUM_LISTS, told.append)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert told == [
        "the CPU looks for the centres of the lists, since no GPU could: FAISS failed "
        "(it sees no GPU)"
    ]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.abort()", "FAISS was ended by a signal, Aborted"),
        (
            "import os, sys; print('no kernel image', file=sys.stderr, flush=True); os.abort()",
            "FAISS was ended by a signal, Aborted (no kernel image)",
        ),
        ("raise RuntimeError('no memory')", "FAISS failed (RuntimeError: no memory)"),
        ("print('hello')", "FAISS gave something else"),
        (
            f"import sys; sys.stdout.buffer.write(b'\\xff' * {NUM_LISTS * WIDTH * 4})",
            "FAISS gave something else",
        ),
    ],
)
def test_find_centres_whatever_happens_to_the_gpu_the_cpu_finds_them(
    sample: Float32,
    expected: Float32,
    told: list[object],
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    reason: str,
) -> None:
    run_instead(monkeypatch, code)
    np.testing.assert_allclose(find_centres(sample, NUM_LISTS, told.append), expected, atol=1e-5)
    assert told == [f"the CPU looks for the centres of the lists, since no GPU could: {reason}"]


def test_find_centres_takes_what_the_other_process_gives(
    sample: Float32, expected: Float32, told: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_instead(  # the real one, but for the GPU
        monkeypatch,
        """
        import faiss
        from search.nearest.centres import main
        faiss.get_num_gpus = lambda: 1
        faiss.index_cpu_to_all_gpus = lambda index: index
        main()
        """,
    )
    monkeypatch.setattr(centres, "_cluster", None)  # not done here
    np.testing.assert_allclose(find_centres(sample, NUM_LISTS, told.append), expected, atol=1e-5)
    assert told == []
