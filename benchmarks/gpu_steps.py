"""The steps of on_gpu.py; each is a process that writes down what it found, as it finds it."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from extract_library import write_library
from recipe import CHIRP_TOLERANCE, CLIPS, GOLDEN, SEED, TOLERANCE, UKULELE, clip, fill
from safetensors.torch import save_file

from indexer.arrays import ID_DTYPE
from indexer.embedding.cores import num_cores
from indexer.embedding.extractor import Extractor
from indexer.library.walk import walk
from indexer.model.convnext import ConvNeXt
from indexer.model.inference import InferenceNetwork
from indexer.reading.dataset import Work
from indexer.reading.readers import load_windows
from indexer.run.config import ExtractConfig, Settings
from indexer.run.extract import extract
from indexer.run.prepare import prepare
from indexer.run.report import ExtractReport
from indexer.store.reader import Store
from indexer.windows import WINDOW_SAMPLES, Geometry
from soundalike.machine import machine
from soundalike.show.runs import bound

REPOSITORY = Path(__file__).resolve().parent.parent
#: Least cosine of a scene on the device with that of a CPU in float32, and the greatest difference
#: of a probability.
LEAST_COSINE, MOST_DIFFERENCE = 0.9995, 0.02
#: Goals: windows/s of the network in bfloat16 on an H100, and the part of the lower of network and
#: reading that a run reaches from files to a store.
GOAL_WINDOWS, GOAL_PART = 5000, 0.95


@dataclass
class Bench:
    """What a step is given, and what it found."""

    device: torch.device
    is_small: bool
    work: Path
    out: Path
    found: Path
    lines: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    was_skipped: bool = False

    @property
    def is_gpu(self) -> bool:
        return self.device.type == "cuda"

    def say(self, line: str, **figures: Any) -> None:
        """Note a line and figures; they are kept if the step is stopped."""
        self.lines.append(line)
        self.figures |= figures
        self.write()

    def require(self, holds: object, line: str, **figures: Any) -> None:
        """Note something that must hold."""
        if not holds:
            self.problems.append(line)
        self.say(line if holds else f"**{line}**", **figures)

    def write(self, state: str | None = None) -> None:
        result = {"lines": self.lines, "figures": self.figures, "problems": self.problems}
        self.found.write_text(json.dumps(result | ({"state": state} if state else {})))

    def sync(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize(self.device)

    def network(self) -> ConvNeXt:
        """Return the network of the golden arrays, or a narrow one."""
        if self.is_small:
            return fill(ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 16, 16, 768)), SEED).eval()
        return fill(ConvNeXt(), SEED).eval()

    def checkpoint(self) -> Path:
        """Return a file with its weights."""
        path = self.work / "recipe.safetensors"
        if not path.exists():
            save_file(self.network().state_dict(), path)
        return path

    def library(self, kind: str, num_files: int) -> Path:
        """Return so many recordings of 10 s, no two alike."""
        folder = self.work / str(num_files)
        folder.mkdir(exist_ok=True)
        library = folder / kind
        return library if library.exists() else write_library(folder, kind, num_files)

    def rate(self, call: Callable[[], object], amount: float, least_s: float = 0.5) -> float:
        """Return how much is done in a second, once it has been done twice."""
        for _ in range(2):
            call()
        self.sync()
        times, start = 0, time.perf_counter()
        while time.perf_counter() - start < (0.05 if self.is_small else least_s):
            call()
            self.sync()
            times += 1
        return amount * times / (time.perf_counter() - start)


# --- steps ---------------------------------------------------------------------------------------


def describe(bench: Bench) -> None:
    """What computes here."""
    for name, value in machine().items():
        bench.say(f"{name}: {value}", **{name: value})
    faiss = importlib.util.find_spec("faiss")
    bench.say(f"FAISS can be imported: {'yes' if faiss else 'no, and nothing here needs it'}")


@torch.inference_mode()
def golden(bench: Bench) -> None:
    """The golden arrays on the device: float32 within the tolerances of a CPU, bfloat16 near."""
    model = fill(ConvNeXt(), SEED).eval().to(bench.device)
    if bench.is_gpu:
        torch.backends.cudnn.allow_tf32 = False  # as an extractor does
    networks = {"fp32": InferenceNetwork(model), "bf16": InferenceNetwork(model, torch.bfloat16)}
    names = [name for name in CLIPS if name != "ukulele" or UKULELE.exists()]
    names = ["noise_5_2"] if bench.is_small else names  # the network is the large one even so
    with np.load(GOLDEN) as arrays:
        for precision, network in networks.items():
            for name in names:
                tolerance = CHIRP_TOLERANCE if name.startswith("chirp") else TOLERANCE
                output = network(clip(name).to(bench.device))
                scene, tags = output.scene[0].cpu().numpy(), output.tags[0].cpu().numpy()
                frames = output.frames[0].float().mean(2).cpu().numpy()
                expected = {key: arrays[f"{name}/{key}"] for key in tolerance}
                off = {
                    "scene": float(np.abs(scene - expected["scene"]).max()),
                    "probs": float(np.abs(tags - expected["probs"]).max()),
                    "frames_mean_over_freq": float(
                        np.abs(frames - expected["frames_mean_over_freq"]).max()
                    ),
                }
                likeness = cosine(scene, expected["scene"])
                if precision == "fp32":
                    holds = all(off[key] <= tolerance[key] for key in off)
                else:
                    holds = likeness >= LEAST_COSINE and off["probs"] <= MOST_DIFFERENCE
                words = ", ".join(f"{key} {value:.1e}" for key, value in off.items())
                line = f"{precision} {name}: cosine {likeness:.6f}, off by {words}"
                bench.require(holds, line, **{f"{precision} {name}": [likeness, off]})


def store(bench: Bench) -> None:
    """From files to a store, beside the same on the CPU in float32."""
    per_kind = 3 if bench.is_small else 75
    library = bench.work / "mixed"
    library.mkdir()
    for kind in ("wav", "44k.wav", "flac", "mp3"):
        (library / kind).symlink_to(bench.library(kind, per_kind), target_is_directory=True)
    found = [file for kind in library.iterdir() for file in kind.resolve().iterdir()]
    flat = bench.work / "flat"
    flat.mkdir()
    for file in found:
        os.link(file, flat / file.name)
    demo = "demo" if bundled_demo().exists() else str(bench.checkpoint())
    for checkpoint in (demo, str(bench.checkpoint())):
        name = Path(checkpoint).stem
        stores: list[Store] = []
        reports: list[ExtractReport] = []
        plain = Settings(checkpoint, device="cpu", precision="fp32")
        for settings in (plain, Settings(checkpoint, device=str(bench.device))):
            opened, report = run(flat, bench.work / f"{name}-{len(stores)}", settings)
            stores.append(opened)
            reports.append(report)
        scene, tags = compare(*stores)
        holds = scene >= LEAST_COSINE and tags <= MOST_DIFFERENCE
        bench.require(
            holds and reports[1].num_windows == len(found) and not reports[1].failures,
            f"{name}: {reports[1].num_windows} windows of {len(found)} files on "
            f"{reports[1].device} ({reports[1].precision}); least cosine of a scene {scene:.6f}, "
            f"greatest difference of a probability {tags:.4f}",
            **{f"{name} cosine": scene, f"{name} difference": tags},
        )


def network(bench: Bench) -> None:
    """The forward pass alone, beside the limits of the device."""
    limits(bench)
    model = bench.network().to(bench.device)
    if bench.is_gpu:
        torch.backends.cudnn.allow_tf32 = False
    dtype = torch.bfloat16 if bench.is_gpu else torch.float32
    ways: dict[str, InferenceNetwork] = {"bf16": InferenceNetwork(model, torch.bfloat16)}
    if not bench.is_gpu:
        ways = {"fp32": InferenceNetwork(model, dtype)}
    batches = (1, 2) if bench.is_small or not bench.is_gpu else (32, 64, 128, 256, 512)
    best = 0.0
    for size, name, call in variants(bench, ways, batches):
        waveforms = 0.1 * torch.randn(size, WINDOW_SAMPLES, device=bench.device)
        try:
            clips = bench.rate(partial(call, waveforms), size)
        except Exception as error:  # noqa: BLE001 - what does not work is told, and the next is tried
            bench.say(f"{name}, batch {size}: {first_line(error)}")
            continue
        best = max(best, clips)
        bench.say(f"{name}, batch {size}: {clips:,.0f} windows/s", **{f"{name} {size}": clips})
    holds = best >= GOAL_WINDOWS if bench.is_gpu and not bench.is_small else True
    goal = f", goal {GOAL_WINDOWS:,} on an H100" if bench.is_gpu else ""
    bench.say(f"best: {best:,.0f} windows/s{goal}{'' if holds else ': missed'}", best=best)


def profile(bench: Bench) -> None:
    """Where the time of the network goes."""
    from torch.profiler import ProfilerActivity, profile as watch  # noqa: I001, PLC0415 - slow

    model = bench.network().to(bench.device)
    net = InferenceNetwork(model, torch.bfloat16 if bench.is_gpu else torch.float32)
    size, times = (2, 1) if bench.is_small else (128, 5)
    waveforms = 0.1 * torch.randn(size, WINDOW_SAMPLES, device=bench.device)
    net(waveforms)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.is_gpu else [])]
    with watch(activities=activities) as seen:
        for _ in range(times):
            net(waveforms)
        bench.sync()
    by = "self_device_time_total" if bench.is_gpu else "self_cpu_time_total"
    averages = seen.key_averages()
    (bench.out / "profile.txt").write_text(averages.table(sort_by=by, row_limit=40))
    times_us = {one.key: float(getattr(one, by)) for one in averages}
    whole = sum(times_us.values())
    for name, taken in sorted(times_us.items(), key=lambda pair: -pair[1])[:12]:
        bench.say(f"{taken / whole:.1%} {name[:90]}")
    bench.require(whole > 0, f"{size * times} windows: {whole / 1000:.1f} ms")


def reading(bench: Bench) -> None:
    """From files to a store, with all cores as readers, beside reading alone."""
    num_files = 12 if bench.is_small else 2048
    readers = 2 if bench.is_small else num_cores()
    settings = Settings(str(bench.checkpoint()), device=str(bench.device))
    for kind in ("wav", "44k.wav", "flac"):
        library = bench.library(kind, num_files)
        alone = read_alone(library, readers, is_gpu=bench.is_gpu)
        config = ExtractConfig(num_workers=readers)
        _, report = run(library, bench.work / f"store-{kind}", settings, config)
        whole = report.num_windows / report.seconds["embed"]
        taken = {
            stage: round(seconds, 2) for stage, seconds in report.seconds.items() if seconds > 0.05
        }
        bench.require(
            report.num_windows == num_files and not report.failures,
            f"{kind}: reading alone {alone:,.0f} windows/s, from files to a store {whole:,.0f}, "
            f"{whole / max(alone, 1e-9):.0%}; {bound(report)}; {taken}",
            **{kind: {"alone": alone, "whole": whole, "seconds": taken}},
        )


def memory(bench: Bench) -> None:
    """Out of memory halves the batch, and the store is what it would have been."""
    library = bench.library("wav", 12 if bench.is_small else 512)
    config = ExtractConfig(num_workers=2, batch_size=4 if bench.is_small else 512)
    settings = Settings(str(bench.checkpoint()), device=str(bench.device))
    stores, reports = [], []
    for is_short in (False, True):  # the one without memory comes last: so it stays
        path = bench.work / f"memory-{is_short}"
        opened, report = run(library, path, settings, config, is_short=is_short)
        stores.append(opened)
        reports.append(report)
    scene, tags = compare(*stores)
    bench.require(
        reports[0].most_windows > reports[1].most_windows > 0
        and reports[1].num_windows == reports[0].num_windows
        and scene >= 0.9999,
        f"batches of {reports[0].most_windows}, and with less memory of {reports[1].most_windows}; "
        f"least cosine {scene:.6f}, greatest difference {tags:.4f}",
        batches=[report.most_windows for report in reports],
    )


def tests(bench: Bench) -> None:
    """The tests that need a GPU."""
    words = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "-rs"]
    words += [str(REPOSITORY / "tests" / "test_gpu.py"), f"--rootdir={REPOSITORY}"]
    told = subprocess.run(words, capture_output=True, text=True, check=False, cwd=REPOSITORY)
    print(told.stdout, told.stderr)
    last = (told.stdout.strip() or told.stderr.strip() or "nothing").splitlines()[-1]
    bench.was_skipped = "passed" not in last and told.returncode == 0
    bench.require(told.returncode == 0, last)


STEPS: dict[str, Callable[[Bench], None]] = {
    "machine": describe,
    "golden": golden,
    "store": store,
    "network": network,
    "profile": profile,
    "reading": reading,
    "memory": memory,
    "tests": tests,
}

# --- parts of steps ------------------------------------------------------------------------------


def run(
    library: Path,
    path: Path,
    settings: Settings,
    config: ExtractConfig = ExtractConfig(),  # noqa: B008 - it is frozen
    *,
    is_short: bool = False,
) -> tuple[Store, ExtractReport]:
    """Extract a library, as the command does; with memory for less than a batch if so asked."""
    opened, extractor = prepare(path, settings)
    if is_short:
        shorten_memory(extractor, config.batch_size or 1)
    report = extract(library, opened, extractor, config)
    return Store.open(path), report


def shorten_memory(extractor: Extractor, batch_size: int) -> None:
    """Leave memory for less than half of a batch."""
    size = max(batch_size // 3, 1)
    if extractor.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(extractor.device)
        extractor(torch.zeros(size, WINDOW_SAMPLES))
        peak = torch.cuda.max_memory_reserved(extractor.device)
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(extractor.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(peak / total, 1.0), extractor.device)
        return
    compute = extractor._network

    def refuse(waveforms: torch.Tensor) -> Any:  # a CPU would take the machine's memory instead
        if len(waveforms) > size:
            raise torch.OutOfMemoryError("no more")
        return compute(waveforms)

    extractor._network = refuse  # type: ignore[assignment]


def compare(plain: Store, other: Store) -> tuple[float, float]:
    """Return the least cosine of two scenes, and the greatest difference of two probabilities."""
    found = []
    for one in (plain, other):
        snapshot = one.snapshot()
        order = np.argsort(snapshot.windows.window_id)
        rows = np.arange(len(snapshot))[order]
        found.append((snapshot.windows.window_id[order], snapshot.scene(rows), snapshot.tags(rows)))
    (ids, scene, tags), (other_ids, other_scene, other_tags) = found
    assert np.array_equal(ids, other_ids), "the windows are not the same"
    least = min(cosine(a, b) for a, b in zip(scene, other_scene, strict=True))
    return least, float(np.abs(tags.astype(np.float32) - other_tags.astype(np.float32)).max())


def cosine(a: Any, b: Any) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def limits(bench: Bench) -> None:
    """Products of matrices, and copies within the device and to it."""
    side = 256 if bench.is_small else 8192 if bench.is_gpu else 2048
    dtype = torch.bfloat16 if bench.is_gpu else torch.float32
    a, b = torch.rand(2, side, side, device=bench.device, dtype=dtype)
    tflop = bench.rate(lambda: a @ b, 2 * side**3 / 1e12)
    num = 2**20 if bench.is_small else 2**28
    source, target = torch.zeros(2, num, device=bench.device)
    copied = bench.rate(lambda: target.copy_(source), 2 * source.nbytes / 1e9)
    bench.say(
        f"products of matrices {tflop:,.1f} TFLOP/s ({dtype}), memory {copied:,.0f} GB/s",
        tflop=tflop,
        memory=copied,
    )
    if not bench.is_gpu:
        return
    host = torch.zeros(2**26)
    pinned = host.pin_memory()
    there = torch.zeros(2**26, device=bench.device)
    rates = {
        "to the device, pinned": lambda: there.copy_(pinned, non_blocking=True),
        "to the device, not pinned": lambda: there.copy_(host),
        "into pinned memory": host.pin_memory,
    }
    for name, call in rates.items():
        bench.say(f"{name}: {bench.rate(call, host.nbytes / 1e9):.1f} GB/s")


def variants(
    bench: Bench, ways: dict[str, InferenceNetwork], batches: tuple[int, ...]
) -> Iterator[tuple[int, str, Callable[[torch.Tensor], object]]]:
    for name, net in ways.items():
        for size in batches:
            yield size, f"{name} eager", net
        if not bench.is_gpu:
            continue
        for size in batches[1:4]:
            yield size, f"{name} CUDA graph", Graphed(net, size, bench.device)
        compiled = torch.compile(net.__call__, dynamic=False)
        for size in batches[2:4]:
            yield size, f"{name} torch.compile", compiled


class Graphed:
    """A forward pass of one batch size, recorded once and played again."""

    def __init__(self, net: InferenceNetwork, size: int, device: torch.device) -> None:
        self._net, self._size, self._device = net, size, device
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, waveforms: torch.Tensor) -> object:
        if self._graph is None:
            self._record(waveforms)
        assert self._graph is not None
        self._input.copy_(waveforms)
        self._graph.replay()
        return self._output

    def _record(self, waveforms: torch.Tensor) -> None:
        self._input = waveforms.clone()
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(3):  # plans and handles are made now, not while recording
                self._net(self._input)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._output = self._net(self._input)
        self._graph = graph


def read_alone(library: Path, readers: int, *, is_gpu: bool) -> float:
    """Return windows/s that so many readers give."""
    work = Work(
        root=library,
        items=walk(library).files,
        geometry=Geometry(),
        batch_size=64 if is_gpu else 4,
        known=np.empty(0, ID_DTYPE),
        partial={},
        max_duration_s=3600,
        defers=is_gpu,
    )
    start = time.perf_counter()
    batches = load_windows(work, num_workers=readers, timeout_s=120)
    num_windows = sum(len(batch.keys) for batch in batches)
    return num_windows / (time.perf_counter() - start)


def bundled_demo() -> Path:
    return REPOSITORY / "checkpoints" / "demo.safetensors"


def first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:300]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--device", required=True)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--found", type=Path, required=True)
    options = parser.parse_args()
    warnings.simplefilter("default")
    bench = Bench(
        torch.device(options.device), options.small, options.work, options.out, options.found
    )
    try:
        STEPS[options.step](bench)
    except Exception as error:
        bench.require(None, first_line(error))
        bench.write("failed")
        raise
    bench.write("failed" if bench.problems else "skipped" if bench.was_skipped else "passed")
    sys.exit(bool(bench.problems))


if __name__ == "__main__":
    main()
