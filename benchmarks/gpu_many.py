"""A step of on_gpu.py: many questions at once, the same answers as a CPU's, and how quickly."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from gpu_bench import Bench
from rows_in_memory import generation, segment

from indexer.arrays import Float32
from indexer.embedding.cores import num_cores
from search.generation.segments import Generation
from search.nearest import bulk
from search.nearest.blend import blended
from search.nearest.bulk import DeviceRows
from search.nearest.gpu import Gpu
from search.nearest.index import VectorIndex

K = 10
#: Questions that are asked at a time, as `batch` does.
BLOCK = 1024
#: Rows that are made at a time, and have one centre for each 1000 of them.
MADE_ROWS = 1 << 16
TAG_WEIGHT = 0.35
T = TypeVar("T")


def many(bench: Bench) -> None:
    """What is near to many windows by the blend, beside NumPy on a sample of them."""
    num_rows, num_questions, num_sampled = 1_000_000, 10_000, 64
    if bench.is_small:
        num_rows, num_questions, num_sampled = 4000, 200, 20
    begin_s = measure_start(bench)
    made_s, rows = timed(lambda: make_rows(bench, num_rows))
    questions = make_questions(rows, num_questions)
    bench.say(f"{num_rows:,} rows and {num_questions:,} questions made in {made_s:.1f} s")

    index, on_device = VectorIndex(rows), DeviceRows(rows, bench.device)
    index.gpu = Gpu(rows, on_device)
    cold_s, found = timed(lambda: index.search_many(questions, K, exact=True))
    warm_s, _ = timed(lambda: index.search_many(questions, K, exact=True))
    alone_s, is_open = timed(lambda: propose(on_device, rows, questions))
    per_s = {"with the copy": cold_s, "copied": warm_s, "without scoring again": alone_s}
    bench.say(
        f"on {bench.device}: "
        + ", ".join(f"{num_questions / one:,.0f} questions/s {name}" for name, one in per_s.items())
        + f"; {2 * questions.size * num_rows / alone_s / 1e12:.2f} TFLOP/s; "
        f"{is_open} of them were left to the CPU",
        questions_s={name: num_questions / one for name, one in per_s.items()},
        many_tflop=2 * questions.size * num_rows / alone_s / 1e12,
        copied_rows=num_rows / max(cold_s - warm_s, 1e-9),
        start_s=begin_s,
    )
    streamed_s = measure_streamed(bench, rows, questions[:BLOCK])
    bench.say(
        f"{streamed_s:.2f} s for {len(questions[:BLOCK])} where no row stays on the device",
        streamed_s=streamed_s,
    )
    sample = np.linspace(0, num_questions - 1, num_sampled).astype(np.int64)
    plain = VectorIndex(rows)
    plain.gpu = Gpu(rows, is_there=False)
    cpu_s, expected = timed(lambda: plain.search_many(questions[sample], K, exact=True))
    cpu_per_s = num_sampled / cpu_s
    ratio = num_questions / cold_s / cpu_per_s
    has_scores = found[0][sample].tobytes() == expected[0].tobytes()
    has_rows = np.array_equal(found[1][sample], expected[1])
    bench.require(
        has_scores and has_rows,
        f"NumPy on {num_cores()} cores: {cpu_per_s:,.1f} questions/s of {num_sampled}, so that "
        f"{bench.device} is {ratio:.1f} times as quick with the copy; "
        f"scores {'are the same' if has_scores else 'differ'}, "
        f"rows {'are the same' if has_rows else 'differ'}",
        cpu_questions_s=cpu_per_s,
        ratio=ratio,
    )


def timed(call: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    found = call()
    return time.perf_counter() - started, found


def measure_start(bench: Bench) -> float:
    """Return the seconds in which a process imports PyTorch and multiplies something."""
    code = "import sys, torch; a = torch.ones(64, 64, device=sys.argv[1]); (a @ a).sum().item()"
    words = [sys.executable, "-c", code, str(bench.device)]
    seconds, _ = timed(lambda: subprocess.run(words, check=True))
    bench.say(f"PyTorch and {bench.device} begin in {seconds:.1f} s")
    return seconds


def make_rows(bench: Bench, num_rows: int) -> Generation:
    """Return clustered rows in two segments: made on the device, and kept by the host."""
    torch.manual_seed(0)
    on = bench.device
    centres = torch.randn(max(1, num_rows // 1000), 768, device=on)
    vectors, tags = np.empty((num_rows, 768), np.float32), np.empty((num_rows, 527), np.float16)
    for first in range(0, num_rows, MADE_ROWS):
        size = min(MADE_ROWS, num_rows - first)
        rows = centres[torch.randint(len(centres), (size,), device=on)]
        rows = torch.nn.functional.normalize(rows + torch.randn(size, 768, device=on))
        vectors[first : first + size] = rows.cpu().numpy()
        tags[first : first + size] = torch.rand(size, 527, device=on).pow(8).half().cpu().numpy()
    middle = num_rows // 2
    parts = (slice(middle), slice(middle, None))
    return generation(*(segment(at, vectors[one], tags[one]) for at, one in enumerate(parts)))


def make_questions(rows: Generation, number: int) -> Float32:
    """Return (n, 1295) vectors of some windows, with noise so that they are none of the rows."""
    rng = np.random.default_rng(1)
    at = rng.integers(0, rows.num_windows, number)
    scenes = rows.vectors(at) + rng.normal(0, 0.01, (number, 768)).astype(np.float32)
    scenes /= np.linalg.norm(scenes, axis=1, keepdims=True)
    return blended(scenes, rows.tags(at), TAG_WEIGHT)


def propose(on_device: DeviceRows, rows: Generation, questions: Float32) -> int:
    """Propose rows for all questions; return for how many there may be others."""
    masks, num_open = [one.alive for one in rows.segments], 0
    for first in range(0, len(questions), BLOCK):
        found = on_device.find_near_each(questions[first : first + BLOCK], K, masks)
        assert found, "the device gave up"
        num_open += int(found[1].sum())
    return num_open


def measure_streamed(bench: Bench, rows: Generation, questions: Float32) -> float:
    """Return the seconds for some questions on a device that has no room for the rows."""
    whole, bulk.room_bytes = bulk.room_bytes, lambda device: 0
    on_device = DeviceRows(rows, bench.device)
    propose(on_device, rows, questions[:1])
    seconds, _ = timed(lambda: propose(on_device, rows, questions))
    bulk.room_bytes = whole
    return seconds
