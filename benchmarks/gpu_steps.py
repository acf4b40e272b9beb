"""The steps of on_gpu.py; each is a process that writes down what it found, as it finds it."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from extract_library import read_alone
from gpu_bench import LEAST_COSINE, MOST_DIFFERENCE, Bench, cosine, first_line
from gpu_many import many
from gpu_network import compiled, golden, network, profile

from indexer.embedding.cores import num_cores
from indexer.embedding.devices import gpu_fault
from indexer.embedding.extractor import Extractor
from indexer.errors import SoundalikeError
from indexer.run.config import ExtractConfig, Settings
from indexer.run.extract import extract
from indexer.run.prepare import prepare
from indexer.run.report import ExtractReport
from indexer.store.reader import Store
from indexer.windows import WINDOW_SAMPLES
from soundalike.machine import machine
from soundalike.show.runs import bound

REPOSITORY = Path(__file__).resolve().parent.parent
#: Goal: the part of the lower of network and reading that a run from files to a store reaches.
GOAL_PART = 0.95


def describe(bench: Bench) -> None:
    """What computes here."""
    for name, value in machine().items():
        bench.say(f"{name}: {value}", **{name: value})


def store(bench: Bench) -> None:
    """From files to a store, beside the same on the CPU in float32."""
    per_kind = 3 if bench.is_small else 75
    library = bench.work / "mixed"
    library.mkdir()
    for kind in ("wav", "44k.wav", "flac", "mp3"):
        for file in bench.library(kind, per_kind).iterdir():
            os.link(file, library / file.name)
    num_files = len(list(library.iterdir()))
    for checkpoint in ("demo", str(bench.checkpoint())):
        name = Path(checkpoint).stem
        stores: list[Store] = []
        reports: list[ExtractReport] = []
        plain = Settings(checkpoint, device="cpu", precision="fp32")
        for settings in (plain, Settings(checkpoint, device=str(bench.device))):
            opened, report = run(library, bench.work / f"{name}-{len(stores)}", settings)
            stores.append(opened)
            reports.append(report)
        scene, tags = compare(*stores)
        holds = scene >= LEAST_COSINE and tags <= MOST_DIFFERENCE
        bench.require(
            holds and reports[1].num_windows == num_files and not reports[1].failures,
            f"{name}: {reports[1].num_windows} windows of {num_files} files on "
            f"{reports[1].device} ({reports[1].precision}); least cosine of a scene {scene:.6f}, "
            f"greatest difference of a probability {tags:.4f}",
            **{f"{name} cosine": scene, f"{name} difference": tags},
        )


def reading(bench: Bench) -> None:
    """From files to a store, with all cores as readers, beside reading alone."""
    readers = 2 if bench.is_small else num_cores()
    settings = Settings(str(bench.checkpoint()), device=str(bench.device))
    for kind, number in (("44k.wav", 4096), ("flac", 4096), ("wav", 8192)):
        num_files = 12 if bench.is_small else number
        library = bench.library(kind, num_files)
        start = time.perf_counter()
        num_read = read_alone(library, readers, 64 if bench.is_gpu else 4, defers=bench.is_gpu)
        alone = num_read / (time.perf_counter() - start)
        config = ExtractConfig(num_workers=readers)
        _, report = run(library, bench.work / f"store-{kind}", settings, config)
        whole = report.num_windows / report.seconds["embed"]
        network_s = bench.best_of_network()
        part = whole / min(alone, network_s or alone)
        taken = {
            stage: round(seconds, 2) for stage, seconds in report.seconds.items() if seconds > 0.05
        }
        bench.require(
            report.num_windows == num_files and not report.failures,
            f"{kind}: reading alone {alone:,.0f} windows/s, from files to a store {whole:,.0f}; "
            f"{bound(report)}; {taken}",
            **{kind: {"alone": alone, "whole": whole, "part": part, "seconds": taken}},
        )
        missed = network_s and bench.is_gpu and not bench.is_small and part < GOAL_PART
        bench.say(
            f"{part:.0%} of {'the lower of reading and the network' if network_s else 'reading'}"
            f"{f', goal {GOAL_PART:.0%}' if network_s else ', and the network was not measured'}"
            f"{': missed' if missed else ''}"
        )


def memory(bench: Bench) -> None:
    """Out of memory halves the batch, and the store is what it would have been."""
    library = bench.library("wav", 12 if bench.is_small else 512)
    # No more: files of one window come in batches of 64 at most, so that their ends are soon known.
    config = ExtractConfig(num_workers=2, batch_size=4 if bench.is_small else 64)
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
    bench.was_skipped = "passed" not in last and told.returncode == 0 and not bench.is_gpu
    bench.require(told.returncode == 0 and ("passed" in last or bench.was_skipped), last)


STEPS: dict[str, Callable[[Bench], None]] = {
    "machine": describe,
    "golden": golden,
    "store": store,
    "network": network,
    "profile": profile,
    "many": many,
    "reading": reading,
    "memory": memory,
    "tests": tests,
    "compile": compiled,
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
        if bench.is_gpu:
            fault = gpu_fault(bench.device.index or 0)
            if fault:
                raise SoundalikeError(f"{bench.device} cannot be used: {fault}")
            torch.cuda.set_device(bench.device)
            torch.backends.cudnn.allow_tf32 = False  # as an extractor does
        STEPS[options.step](bench)
    except Exception as error:
        bench.require(None, first_line(error))
        bench.write("failed")
        raise
    bench.write("failed" if bench.problems else "skipped" if bench.was_skipped else "passed")
    sys.exit(bool(bench.problems))


if __name__ == "__main__":
    main()
