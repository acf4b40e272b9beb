"""Searching with filters: how quick, how right, how large, beside others on the same vectors.

    python benchmarks/bench_search.py --windows 200000 --work DIR --out results.json
    python benchmarks/bench_search.py --windows 1000000 --engines ours,faiss-ivf-exact ...
    python benchmarks/bench_search.py --k 100 --engines ours,faiss-ivf-exact ...
    python benchmarks/bench_search.py --ten-million --work DIR --out results.json
    python benchmarks/bench_search.py --store STORE --out real.json

Each engine is built, and its memory measured, in a process of its own. One process opens all and
asks turn by turn: each question goes to every engine before the next one. A query's time is that of
one question alone, from the vector and the condition to the rows, the evaluation of the filter
included; its CPU time is that of all threads of the process, which is told to use one core.
An engine with a knob is given the first setting, from quick to slow, that finds 99 % of the true
nearest; if none does, the best it reaches. What is built is kept in the work folder: `--rebuild`
builds it anew. An engine that is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from search_data import FILTERS, Data, K
from search_databases import LanceDb, QdrantEdge
from search_ours import Ours, OursRows
from search_peers import FaissHnsw, FaissIvf, FaissIvfExact, Hnswlib, Usearch
from search_store import measure_store
from search_table import report, report_store
from search_turns import TARGET_RECALL, measure_in_turns, warm_up

ENGINES: dict[str, Any] = {
    "ours": Ours,
    "ours-rows": OursRows,
    "faiss-hnsw": FaissHnsw,
    "faiss-ivf": FaissIvf,
    "faiss-ivf-exact": FaissIvfExact,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "lancedb": LanceDb,
    "qdrant-edge": QdrantEdge,
}
#: Of a window on disk: in the parts, in the segments, and in the codes of the lists.
BYTES_PER_WINDOW = 9_500


def write_input(name: str, data: Data) -> None:
    _engine(name, data).write()


def build_engine(name: str, data: Data) -> dict[str, float]:
    """Build; return seconds and megabytes, these of the largest process."""
    cost = _engine(name, data).build()
    children_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    return {**cost, "build_peak_mb": max(_memory_mb()["VmHWM"], children_mb)}


def measure_together(names: list[str], data: Data) -> tuple[dict[str, Any], dict[str, Any]]:
    return measure_in_turns({name: _engine(name, data) for name in names}, data)


def measure_size(name: str, data: Data, efforts: dict[int, Any]) -> dict[str, Any]:
    """Return megabytes in memory, once it was asked with each filter, and on disk."""
    engine = _engine(name, data)
    engine.prepare()
    questions = data.questions()[0]
    before = _memory_mb()
    engine.open()
    for number, effort in efforts.items():
        warm_up(engine, questions[number], number, effort)
    after = _memory_mb()
    return {
        "note": engine.note,
        "memory_mb": after["VmRSS"] - before["VmRSS"],
        "mapped_mb": after["RssFile"] - before["RssFile"],
        "disk_mb": sum(map(_size_mb, engine.files())),
    }


def _engine(name: str, data: Data) -> Any:
    return ENGINES[name](_folder(name, data), data)


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


def installed(names: Iterable[str]) -> list[str]:
    """Return the engines that can be imported, and say of the others why not."""
    found = []
    for name in names:
        try:
            importlib.import_module(ENGINES[name].module)
            found.append(name)
        except ImportError as error:
            print(f"{name} is left out: {error}", flush=True)
    return found


def build_once(name: str, data: Data, *, rebuild: bool) -> dict[str, float]:
    """Build an engine unless it is built; return what that took."""
    built = _folder(name, data) / "built.json"
    if rebuild or not built.exists():
        print(f"building {name}", flush=True)
        built.unlink(missing_ok=True)
        _engine(name, data).forget()
        in_own_process(write_input, name, data)
        built.write_text(json.dumps(in_own_process(build_engine, name, data)))
    took: dict[str, float] = json.loads(built.read_text())
    return took


def require_space(data: Data) -> None:
    """Refuse to begin what would fill the disk."""
    data.folder.mkdir(parents=True, exist_ok=True)
    needed_gb = data.num_windows * (BYTES_PER_WINDOW + 3_072 * data.has_vectors) / 1e9
    free_gb = shutil.disk_usage(data.folder).free / 1e9
    if not any(data.folder.iterdir()) and free_gb < needed_gb:
        raise SystemExit(f"{data.folder} has {free_gb:.0f} GB; this needs {needed_gb:.0f} GB")


def compare(names: list[str], data: Data, *, rebuild: bool) -> dict[str, Any]:
    """Return all that is measured of some engines, for `search_table.report`."""
    built = {name: build_once(name, data, rebuild=rebuild) for name in names}
    load = os.getloadavg()[0]
    print(f"asking turn by turn, load {load:.1f}", flush=True)
    results, efforts = in_own_process(measure_together, names, data)
    for name, measured in results["engines"].items():
        measured |= built[name] | in_own_process(measure_size, name, data, efforts[name])
    filters = [
        {"name": one.name, "num_terms": len(one.terms), "num_matching": count}
        for one, count in zip(FILTERS, data.questions()[2].tolist(), strict=True)
    ]
    return {
        "windows": data.num_windows,
        "queries": data.num_queries,
        "k": data.k,
        "target": TARGET_RECALL,
        "load_before": load,  # the benchmark's own builds are in it
        "filters": filters,
        **results,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--windows", type=int, default=200_000)
    parser.add_argument("--work", type=Path, help="folder for data and indexes")
    parser.add_argument("--out", type=Path, required=True, help="results, as JSON")
    parser.add_argument("--engines", help=f"some of {','.join(ENGINES)}; default all")
    parser.add_argument("--queries", type=int, default=200, help="for each filter")
    parser.add_argument("--k", type=int, default=K, help="windows that a question asks for")
    parser.add_argument("--rebuild", action="store_true", help="build what is built")
    parser.add_argument(
        "--ten-million", action="store_true", help="10^7 windows, ours alone, no copy of vectors"
    )
    parser.add_argument("--store", type=Path, help="a store of real windows: it alone is asked")
    asked = parser.parse_args()
    if not asked.work and not asked.store:
        parser.error("--work or --store is needed")
    if unknown := set((asked.engines or "ours").split(",")) - set(ENGINES):
        parser.error(f"no engine is called {', '.join(sorted(unknown))}")
    return asked


def main() -> None:
    asked = arguments()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes to come, which do all the work
    if asked.store:
        measured = in_own_process(measure_store, asked.store, asked.queries)
        asked.out.write_text(json.dumps(measured, indent=1))
        print("\n" + report_store(measured))
        return
    num_windows = 10_000_000 if asked.ten_million else asked.windows
    data = Data(
        asked.work, num_windows, asked.queries, has_vectors=not asked.ten_million, k=asked.k
    )
    require_space(data)
    data.prepare()
    default = "ours" if asked.ten_million else ",".join(ENGINES)
    names = installed((asked.engines or default).split(","))
    results = compare(names, data, rebuild=asked.rebuild)
    asked.out.write_text(json.dumps(results, indent=1))
    print("\n" + report(results))


if __name__ == "__main__":
    main()
