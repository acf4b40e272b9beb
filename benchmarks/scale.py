"""What ten million windows take: stores without audio, of any size, and what is done with them.

    soundalike index LIBRARY --store rows.soundalike --checkpoint demo --frames none
    python benchmarks/scale.py stores --rows rows.soundalike --work W --windows 100000 1000000
    python benchmarks/scale.py segments --rows rows.soundalike --work W --windows 1000000 10000000
    python benchmarks/scale.py folders --work W

Windows are mixtures of those of the store `--rows`, see `scale_data`. `stores` writes parts as a
run does, and builds their index; `segments` writes the index alone, without parts: 5 kB a window.
`folders` lists folders of a slow disk. Each step is a process of its own: what it holds in memory
is that of `RssAnon`, without mapped files. Results are printed, and written to `W/stores.json` …
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pyarrow as pa
from scale_data import Mixtures
from search_data import BLOCK_ROWS, TAGS, K

from indexer.arrays import ID_DTYPE
from indexer.library import folders
from indexer.paths import path_id
from indexer.progress import ignore
from indexer.store.creation import create_store, library_at
from indexer.store.head import Head
from indexer.store.reader import Store
from indexer.store.schema import Identity, LedgerRow, Origin
from indexer.store.snapshot import Block, WindowTable
from indexer.store.writer import PartWriter
from indexer.windows import WINDOW_SAMPLES, window_id
from search.asking.find import Question, find
from search.asking.left_out import LeftOut
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.asking.terms import Terms
from search.generation.manifest import (
    GENERATION_FILE,
    UNMEASURED,
    Manifest,
    describe_files,
)
from search.generation.mapped import array_file
from search.generation.recordings import Recordings
from search.generation.segments import (
    CURRENT_FILE,
    INDEX_FOLDER,
    PARTS_FILE,
    RECORDING_DTYPE,
    RECORDINGS_FILE,
    SEGMENTS_FOLDER,
    Generation,
    alive_file,
    recordings_file,
)
from search.generation.writing import Columns, normalise
from search.nearest.structure import IndexConfig, measure
from search.upkeep.build import build
from search.upkeep.shelf import write_shelf

#: As `ExtractConfig.part_windows`, and windows of a file of 10 min.
PART_WINDOWS, FILE_WINDOWS = 4096, 60
#: So that segments are of 46,153 rows, and their number grows with the windows.
MEMORY_BYTES = 600_000_000
#: Of those that are made alone; 524,288 is the most that a build makes.
SEGMENT_ROWS = 500_000
ORIGIN = Origin("none", "fp32", {}, "2026-01-01T00:00:00+00:00")
NUM_QUESTIONS = 200
#: What leads from the work folder to the store of real windows.
ROWS = "rows"
_SEED = 20_260_102


# --- stores ---------------------------------------------------------------------------------------


def blocks_of(num_windows: int, rows: Path, first: int = 0) -> Iterator[Block]:
    """Yield made-up windows from the first on, some thousand at a time."""
    made = Mixtures(rows).blocks(num_windows, first_block=first // BLOCK_ROWS)
    for start, vectors, tags in made:
        for at in range(0, len(vectors), PART_WINDOWS):
            some = slice(at, at + PART_WINDOWS)
            yield Block(_windows(first + start + at, len(tags[some])), vectors[some], tags[some])


def _windows(first: int, number: int) -> WindowTable:
    """Return some windows, by their numbers among all."""
    numbers = np.arange(first, first + number)
    names, starts = numbers // FILE_WINDOWS, numbers % FILE_WINDOWS * WINDOW_SAMPLES
    recordings = np.array([recording_of(one) for one in names.tolist()], ID_DTYPE)
    ids = [
        window_id(recording_of(one), at, WINDOW_SAMPLES)
        for one, at in zip(names.tolist(), starts.tolist(), strict=True)
    ]
    lengths = np.full(number, WINDOW_SAMPLES, np.int32)
    return WindowTable(np.array(ids, np.int64), recordings, starts, lengths)


def recording_of(number: int) -> bytes:
    return number.to_bytes(8, "big") * 2


def make_store(path: Path) -> Store:
    head = Head(*(np.zeros(shape, np.float32) for shape in ((527, 768), 527, 768, 768)))
    return create_store(
        path,
        Identity("a" * 64, "random", "none", "none"),
        head,
        checkpoint="none",
        written_by="benchmark",
    )


def fill(store: Store, rows: Path, num_windows: int, first: int = 0) -> None:
    """Write parts as a run does; a recording is "ok" in the part with its last window."""
    library_id = library_at(store, store.path.parent / "library")
    with PartWriter(store, ORIGIN) as writer:
        for block in blocks_of(num_windows, rows, first):
            writer.add_windows(block, None)
            ends = np.flatnonzero(block.windows.start_sample // WINDOW_SAMPLES == FILE_WINDOWS - 1)
            done = {int.from_bytes(one[:8], "big") for one in block.windows.recording_id[ends]}
            if first + num_windows == _number_of(block) + 1:
                done.add(_number_of(block) // FILE_WINDOWS)
            writer.add_ledger([_word(library_id, one) for one in sorted(done)])
            writer.commit()


def _number_of(block: Block) -> int:
    """Return which of all windows the last one of a block is."""
    recording = block.windows.recording_id[-1].ljust(16, b"\0")
    start = int(block.windows.start_sample[-1])
    return int.from_bytes(recording[:8], "big") * FILE_WINDOWS + start // WINDOW_SAMPLES


def _word(library_id: str, number: int) -> LedgerRow:
    name = f"{number // 1000}/{number}.wav"
    return LedgerRow(
        path_id(library_id, name),
        library_id,
        name,
        1,
        1,
        "ok",
        recording_id=recording_of(number),
        num_samples=FILE_WINDOWS * WINDOW_SAMPLES,
    )


# --- segments alone -----------------------------------------------------------------------------


class Made(NamedTuple):
    """Made-up windows, as a build takes those of parts: see `search.upkeep.shelf`."""

    num_windows: int
    of: Path

    @property
    def num_written(self) -> int:
        return self.num_windows

    def rows(self) -> Iterator[Columns]:
        return self._first(self.num_windows)

    def sample(self, number: int) -> Iterator[Columns]:
        return self._first(min(number, self.num_windows))  # none is like those around it

    def _first(self, number: int) -> Iterator[Columns]:
        for block in blocks_of(number, self.of):
            columns: Columns = block.windows._asdict()
            columns |= {"vectors": normalise(block.scene), "tags": block.tags}
            yield columns | {"level_db": block.levels}


def make_segments(work: Path, rows: Path, size: int) -> Path:
    """Make a store of nothing but its index, and measure that as a build does."""
    path = work / f"segments-{size}"
    if path.exists():
        return path
    new = make_store(work / f"unfinished-{size}").path
    library_id = library_at(Store.open(new), work / "library")
    (new / INDEX_FOLDER / SEGMENTS_FOLDER).mkdir(parents=True)
    folder = new / INDEX_FOLDER / "00000001-00000000"
    folder.mkdir()
    entries = write_shelf(
        folder.parent / SEGMENTS_FOLDER, Made(size, rows), SEGMENT_ROWS, ignore, []
    )
    number = -(-size // FILE_WINDOWS)
    table = {
        "recording_id": pa.array(map(recording_of, range(number)), pa.binary(16)),
        "library_id": pa.repeat(library_id, number),
        "path": pa.array([f"{one // 1000}/{one}.wav" for one in range(number)]),
    }
    recordings = Recordings(pa.table(table))
    recordings.write(folder / RECORDINGS_FILE)
    (folder / PARTS_FILE).touch()
    for entry in entries:
        file = array_file(folder.parent / SEGMENTS_FOLDER / entry.name, "recording_id")
        ids = np.fromfile(file, ID_DTYPE)
        first = recordings.first_rows(ids).astype(RECORDING_DTYPE)
        recordings_file(folder, entry.name).write_bytes(first.tobytes())
        alive = np.packbits(np.ones(entry.num_rows, bool))
        alive_file(folder, entry.name).write_bytes(alive.tobytes())
    manifest = Manifest(size, tuple(entries), UNMEASURED, describe_files(folder.iterdir()))
    effort = measure(Generation.of_manifest(folder, manifest), None, IndexConfig())
    replace(manifest, effort=effort).write(folder / GENERATION_FILE)
    (folder.parent / CURRENT_FILE).write_text(folder.name)
    return new.rename(path)


def measure_segments(work: Path, rows: Path, sizes: list[int]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    paths = []
    for size in sorted(sizes):
        paths.append(make_segments(work, rows, size))
        results[str(size)] = {name: run(name, paths[-1]) for name in ("open", "find", "own")}
    return results | {name: run(name, *paths) for name in ("query", "blend")}


# --- steps: each in a process of its own ----------------------------------------------------------


def step_build(store: Path) -> dict[str, float]:
    generation = build(Store.open(store), config=IndexConfig(memory_bytes=MEMORY_BYTES))
    return {"segments": len(generation.segments)}


def step_snapshot(store: Path) -> dict[str, float]:
    opened = Store.open(store)
    return {"windows": len(opened.snapshot(opened.parts()))}


def step_ledger(store: Path) -> dict[str, float]:
    return {"files": len(Store.open(store).ledger())}


def step_open(store: Path) -> dict[str, float]:
    index = SoundIndex.open(store)
    return {
        "segments": len(index.segments),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
    }


def step_find(store: Path) -> dict[str, float]:
    index = SoundIndex.open(store)
    rng = np.random.default_rng(_SEED)
    ids = index.window_ids(np.sort(rng.choice(index.live_rows(), NUM_QUESTIONS))).tolist()
    return _quantiles("find", lambda one: index.rows_of([one]), ids)


def step_query(*stores: Path) -> dict[str, float]:
    """Ask at every filter, by scenes that are not in the store."""
    return _ask_by_turns(stores)


def step_blend(*stores: Path) -> dict[str, float]:
    """Ask by what is heard in the same as well, as clips and windows do unless told otherwise."""
    return _ask_by_turns(stores, has_tags=True)


def _ask_by_turns(stores: Sequence[Path], *, has_tags: bool = False) -> dict[str, float]:
    """Ask some stores; the second time counts.

    What the thread takes that asks, so that whoever looks at its memory takes nothing of it.
    Several stores are asked in turn, question by question: a machine that slows down does so for
    all of them.
    """
    opened = [SoundIndex.open(store) for store in stores]
    found: dict[str, float] = {}
    names = list(TAGS)
    for condition, given in Mixtures(stores[0].parent / ROWS).questions(NUM_QUESTIONS).items():
        asked = [
            Question(vector[None], tags=tags[None] if has_tags else None)
            for vector, tags in zip(*given, strict=True)
        ]
        terms = Terms(
            k=K,
            tags=tuple(names[one] for one in condition.all_of),
            any_tags=tuple(names[one] for one in condition.any_of),
            not_tags=tuple(names[one] for one in condition.none_of),
            descendants=False,
        )
        times: list[list[float]] = [[] for _ in stores]
        for _ in range(2):
            for one, (index, told) in itertools.product(asked, zip(opened, times, strict=True)):
                began = time.thread_time()
                find(index, [one], Scope.of(terms, index.opened))
                told.append((time.thread_time() - began) * 1e3)
        for store, told in zip(stores, times, strict=True):
            name = f"{store.name}: {condition.name}" if len(stores) > 1 else condition.name
            found |= _named_quantiles(name, told[len(asked) :])
    return found


def step_own(store: Path) -> dict[str, float]:
    """Ask by windows of the store, whose recordings are left out: of all, and of a tenth."""
    index = SoundIndex.open(store)
    rng = np.random.default_rng(_SEED)
    rows = np.sort(rng.choice(index.live_rows(), NUM_QUESTIONS))
    vectors, windows = index.vectors(rows), index.windows(rows).each()
    questions = [
        Question(vector[None], frozenset({LeftOut(window.recording_id)}))
        for vector, window in zip(vectors, windows, strict=True)
    ]
    found: dict[str, float] = {}
    for name, tags in (("all", ()), ("10 %", (list(TAGS)[2],))):
        terms = Terms(k=K, tags=tags, descendants=False)

        def ask(one: Question, terms: Terms = terms) -> None:
            find(index, [one], Scope.of(terms, index.opened))

        for one in questions:
            ask(one)
        found |= _quantiles(name, ask, questions)
    return found


def _quantiles(name: str, work: Callable[[Any], object], each: list[Any]) -> dict[str, float]:
    """Return median and 95th percentile of CPU milliseconds."""
    times = []
    for one in each:
        began = time.thread_time()
        work(one)
        times.append((time.thread_time() - began) * 1e3)
    return _named_quantiles(name, times)


def _named_quantiles(name: str, times: list[float]) -> dict[str, float]:
    p50, p95 = np.percentile(times, [50, 95])
    return {f"{name} p50_ms": round(float(p50), 3), f"{name} p95_ms": round(float(p95), 3)}


STEPS: dict[str, Callable[..., dict[str, float]]] = {
    name.removeprefix("step_"): value
    for name, value in list(globals().items())
    if name.startswith("step_")
}


def anonymous_bytes() -> int:
    """Return what this process holds in memory, but for files that are mapped."""
    with Path("/proc/self/status").open() as status:
        line = next(line for line in status if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def run_here(name: str, stores: list[Path]) -> None:
    """Do a step, and print what it took: the highest of its memory, looked at every 2 ms."""
    peak, is_done = anonymous_bytes(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not is_done.wait(0.002):
            peak = max(peak, anonymous_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    wall, cpu = time.perf_counter(), time.process_time()
    found = STEPS[name](*stores)
    found |= {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}
    is_done.set()
    watcher.join()
    print(json.dumps({**found, "peak_mb": peak / 1e6}))


def run(name: str, *stores: Path) -> dict[str, float]:
    """Do a step in a process of its own."""
    command = [sys.executable, __file__, "step", name, *map(str, stores)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    names = ", ".join(store.name for store in stores)
    print(f"  {names:20} {name:10} {json.dumps(found)}", flush=True)
    return found


def measure_stores(work: Path, rows: Path, sizes: list[int]) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for size in [PART_WINDOWS, *sizes]:
        path = work / f"store-{size}"
        if path.exists():
            sys.exit(f"{path} is there already, so that builds would have less to do; remove it")
        fill(make_store(path), rows, size)
        steps = {name: run(name, path) for name in ("ledger", "snapshot", "build")}
        fill(Store.open(path), rows, FILE_WINDOWS, first=-(-size // FILE_WINDOWS) * FILE_WINDOWS)
        steps["build one file"] = run("build", path)
        steps |= {name: run(name, path) for name in ("open", "find", "query", "blend", "own")}
        results[str(size)] = steps
    return results


def measure_folders(work: Path, *_: Any) -> dict[str, Any]:
    """List 2,041 folders, of this disk and of one that takes 5 ms for each, by 1 thread and 16."""
    root, results = work / "folders", {}
    for number in range(2_000):
        (folder := root / f"{number // 50}" / f"{number}").mkdir(parents=True, exist_ok=True)
        (folder / "a.wav").touch()
    scan = os.scandir

    def late(folder: Path) -> Any:
        time.sleep(0.005)
        return scan(folder)

    for latency, listing in (("none", scan), ("5 ms", late)):
        for threads in (1, folders._NUM_THREADS):
            with (
                mock.patch.object(folders, "_NUM_THREADS", threads),
                mock.patch.object(os, "scandir", listing),
            ):
                wall, cpu = time.perf_counter(), time.process_time()
                num_files = sum(1 for _ in folders.files_in_folders(root, []))
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            found = {"files": num_files, "wall_s": wall, "cpu_s": cpu}
            print(f"  latency {latency:5} threads {threads:3} {json.dumps(found)}", flush=True)
            results[f"{latency}, {threads}"] = found
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["stores", "segments", "folders", "step"])
    parser.add_argument("step", nargs="*")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--windows", type=int, nargs="+", default=[100_000, 1_000_000])
    given = parser.parse_args()
    if given.what == "step":
        run_here(given.step[0], list(map(Path, given.step[1:])))
        return
    given.work.mkdir(parents=True, exist_ok=True)
    if given.rows and not (given.work / ROWS).exists():
        (given.work / ROWS).symlink_to(given.rows.resolve())  # for those who ask
    measure_all = {
        "stores": measure_stores,
        "segments": measure_segments,
        "folders": measure_folders,
    }[given.what]
    results = measure_all(given.work, given.rows, given.windows)
    file = given.work / f"{given.what}.json"
    file.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
