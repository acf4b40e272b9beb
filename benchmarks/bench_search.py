"""Searching with filters: how quick, how right, how large, beside others on the same vectors.

    export OMP_NUM_THREADS=1
    python benchmarks/bench_search.py --windows 200000 --work DIR --out results.json
    python benchmarks/bench_search.py --windows 1000000 --engines ours,faiss-ivf-exact ...
    python benchmarks/bench_search.py --ten-million --work DIR --out results.json
    python benchmarks/bench_search.py --store STORE --out real.json

Each engine is built and measured in processes of its own. A query's time is that of one question
alone, from the vector and the condition to the rows, the evaluation of the filter included; its CPU
time is that of all threads of the process. An engine with a knob is given the first setting, from
quick to slow, that finds 99 % of the true ten nearest; if none does, the best it reaches. What is
in the work folder and in the results is kept: run it again to go on, `--again` to measure anew,
`--rebuild` to build anew.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, NamedTuple

import numpy as np
from search_data import BATCH_QUERIES, FILTERS, Array, Data, Library, recall
from search_databases import LanceDb, QdrantEdge
from search_ours import Ours
from search_peers import FaissHnsw, FaissIvf, FaissIvfExact, Hnswlib, Usearch
from search_store import measure_store
from search_table import report, report_store

ENGINES = {
    "ours": Ours,
    "faiss-hnsw": FaissHnsw,
    "faiss-ivf": FaissIvf,
    "faiss-ivf-exact": FaissIvfExact,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "lancedb": LanceDb,
    "qdrant-edge": QdrantEdge,
}
TARGET_RECALL = 0.99
#: Queries that find out which effort is enough; and seconds that one filter may take for that.
SWEEP_QUERIES = 50
SWEEP_S = 60.0
#: Slow queries are timed as long as this, though never fewer than so many.
TIMED_S = 10.0
MIN_QUERIES = 20
WARM_UP_S = 2.0
#: Of a window on disk: in the parts, in the segments, and in the codes of the lists.
BYTES_PER_WINDOW = 9_500


class Trial(NamedTuple):
    """What one effort gave for one filter."""

    recall: float
    median_ms: float
    p95_ms: float
    cpu_median_ms: float
    cpu_p95_ms: float
    plan: str
    num_queries: int


class Bench:
    """One engine, opened, and the questions for it."""

    def __init__(self, engine: Any, data: Data) -> None:
        self.engine = engine
        self.questions, self.true_rows, self.num_matching = data.questions()
        self.num_windows = data.num_windows

    def measure(self, number: int) -> tuple[Trial, Any]:
        """Return the best trial of a filter, and its effort."""
        share = float(self.num_matching[number] / self.num_windows)
        began = perf_counter()
        best: tuple[Trial, Any] | None = None
        for effort in self.engine.efforts(share):
            trial = self.timed(number, effort, SWEEP_QUERIES)
            if trial.recall >= TARGET_RECALL:
                trial = self.timed(number, effort, None)
            if best is None or trial.recall > best[0].recall:
                best = trial, effort
            if trial.recall >= TARGET_RECALL or perf_counter() - began > SWEEP_S:
                break
        assert best is not None
        if best[0].recall < TARGET_RECALL:
            return self.timed(number, best[1], None), best[1]
        return best

    def _warm_up(self, questions: Array, number: int, effort: Any) -> None:
        """Ask everything once, or as much of it as time allows: what is mapped gets read."""
        began = perf_counter()
        for vector in questions:
            self.engine.query(vector, number, effort)
            if perf_counter() - began > WARM_UP_S:
                break

    def timed(self, number: int, effort: Any, most: int | None) -> Trial:
        """Ask the questions of a filter one by one."""
        questions = self.questions[number][:most]
        self._warm_up(questions, number, effort)
        times_ms, cpu_ms, answers, spent_s = [], [], [], 0.0
        for vector in questions:
            began, cpu_began = perf_counter(), process_time()
            answer = self.engine.query(vector, number, effort)
            cpu_s, took_s = process_time() - cpu_began, perf_counter() - began
            answers.append(answer)
            times_ms.append(took_s * 1e3)
            cpu_ms.append(cpu_s * 1e3)
            spent_s += took_s
            if spent_s > TIMED_S and len(answers) >= MIN_QUERIES:
                break
        found = [self.engine.rows(answer) for answer in answers]
        plans = Counter(self.engine.plan(answer, effort) for answer in answers)
        return Trial(
            recall(found, self.true_rows[number]),
            float(np.median(times_ms)),
            float(np.percentile(times_ms, 95)),
            float(np.median(cpu_ms)),
            float(np.percentile(cpu_ms, 95)),
            ", ".join(plan for plan, _ in plans.most_common(2)),
            len(answers),
        )


def build_engine(name: str, data: Data) -> dict[str, float]:
    """Build, in a process of its own; return seconds and megabytes."""
    engine = ENGINES[name](_folder(name, data), data)
    took = engine.build()
    return {**took, "build_peak_mb": _memory_mb()["VmHWM"]}


def measure_engine(name: str, data: Data) -> dict[str, Any]:
    """Open and ask, in a process of its own."""
    engine = ENGINES[name](_folder(name, data), data)
    engine.prepare()
    bench = Bench(engine, data)
    before = _memory_mb()
    engine.open()
    filters, unfiltered = {}, None
    for number, condition in enumerate(FILTERS):
        if bench.num_matching[number]:
            trial, effort = bench.measure(number)
            filters[condition.name] = trial._asdict()
            unfiltered = effort if number == 0 else unfiltered
            print(f"  {name}, {condition.name}: {trial}", flush=True)
    batch = Library(data.num_windows).batch()
    batch_s = min(_seconds(lambda: engine.batch(batch, unfiltered)) for _ in range(2))
    after = _memory_mb()
    return {
        "note": engine.note,
        "memory_mb": after["VmRSS"] - before["VmRSS"],
        "mapped_mb": after["RssFile"] - before["RssFile"],
        "disk_mb": sum(map(_size_mb, engine.files())),
        "batch_per_s": BATCH_QUERIES / batch_s,
        "filters": filters,
    }


def _seconds(act: Callable[[], object]) -> float:
    began = perf_counter()
    act()
    return perf_counter() - began


def _folder(name: str, data: Data) -> Path:
    folder = data.folder / name
    folder.mkdir(exist_ok=True)
    return folder


def _memory_mb() -> dict[str, float]:
    """Return resident memory: all, the most so far, and what of it are pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return {name: int(values[name].split()[0]) / 1e3 for name in ("VmRSS", "VmHWM", "RssFile")}


def _size_mb(path: Path) -> float:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def in_own_process(work: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def run_engine(name: str, data: Data, *, rebuild: bool) -> dict[str, Any]:
    """Return all that is measured of an engine; its build is kept from one run to the next."""
    built = _folder(name, data) / "built.json"
    if rebuild or not built.exists():
        print(f"building {name}", flush=True)
        ENGINES[name](_folder(name, data), data).forget()
        built.write_text(json.dumps(in_own_process(build_engine, name, data)))
    load = os.getloadavg()[0]  # of others too: 0 would be a machine of our own
    print(f"measuring {name}, load {load:.1f}", flush=True)
    measured = in_own_process(measure_engine, name, data)
    return {**json.loads(built.read_text()), **measured, "load_before": load}


def require_space(data: Data) -> None:
    """Refuse to begin what would fill the disk."""
    data.folder.mkdir(parents=True, exist_ok=True)
    needed_gb = data.num_windows * (BYTES_PER_WINDOW + 3_072 * data.has_vectors) / 1e9
    free_gb = shutil.disk_usage(data.folder).free / 1e9
    if not any(data.folder.iterdir()) and free_gb < needed_gb:
        raise SystemExit(f"{data.folder} has {free_gb:.0f} GB; this needs {needed_gb:.0f} GB")


def load_results(path: Path, data: Data) -> dict[str, Any]:
    """Return earlier results, or those of no engine yet."""
    num_matching = data.questions()[2].tolist()
    filters = [
        {"name": one.name, "num_terms": len(one.terms), "num_matching": count}
        for one, count in zip(FILTERS, num_matching, strict=True)
    ]
    results = {
        "windows": data.num_windows,
        "queries": data.num_queries,
        "target": TARGET_RECALL,
        "filters": filters,
    }
    if not path.exists():
        return {**results, "engines": {}}
    earlier = json.loads(path.read_text())
    if any(earlier.get(name) != results[name] for name in results):
        raise SystemExit(f"{path} holds other measurements: choose another --out")
    return earlier


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=200_000)
    parser.add_argument("--work", type=Path, help="folder for data and indexes")
    parser.add_argument("--out", type=Path, required=True, help="results, as JSON")
    parser.add_argument("--engines", help=f"some of {','.join(ENGINES)}; default all")
    parser.add_argument("--queries", type=int, default=200, help="for each filter")
    parser.add_argument("--again", action="store_true", help="measure what is in the results")
    parser.add_argument("--rebuild", action="store_true", help="build what is built")
    parser.add_argument(
        "--ten-million", action="store_true", help="10^7 windows, ours alone, no copy of vectors"
    )
    parser.add_argument("--store", type=Path, help="a store of real windows: it alone is asked")
    asked = parser.parse_args()
    if not asked.work and not asked.store:
        parser.error("--work or --store is needed")
    return asked


def main() -> None:
    asked = arguments()
    if asked.store:
        measured = measure_store(asked.store, asked.queries)
        asked.out.write_text(json.dumps(measured, indent=1))
        print("\n" + report_store(measured))
        return
    num_windows = 10_000_000 if asked.ten_million else asked.windows
    data = Data(asked.work, num_windows, asked.queries, has_vectors=not asked.ten_million)
    require_space(data)
    data.prepare()
    results = load_results(asked.out, data)
    default = "ours" if asked.ten_million else ",".join(ENGINES)
    for name in (asked.engines or default).split(","):
        if asked.again or asked.rebuild or name not in results["engines"]:
            results["engines"][name] = run_engine(name, data, rebuild=asked.rebuild)
            asked.out.write_text(json.dumps(results, indent=1))
    print("\n" + report(results))


if __name__ == "__main__":
    main()
