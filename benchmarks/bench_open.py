"""How long a search takes from a cold start: a process that answers one question and ends.

    python benchmarks/bench_open.py STORE

Asks for what sounds like a window of the store, each time in a new process. In turn with it run
processes that only import the very modules which the search imported, in the same order: the
difference is what soundalike itself takes. The index is in the disk cache, but nothing is mapped.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np

from indexer.store.reader import Store
from search.generation.segments import Generation

REPEATS = 11

#: Runs the command line, and leaves a list of the modules that were imported for it.
_SEARCH = """
import atexit, json, sys
from pathlib import Path
names = Path(sys.argv.pop())
atexit.register(lambda: names.write_text(json.dumps(list(sys.modules))))
from soundalike.__main__ import main
main()
"""
_IMPORT = """
import importlib, json, sys
from contextlib import suppress
from pathlib import Path
for name in json.loads(Path(sys.argv[1]).read_text()):
    with suppress(ImportError):  # some are made while a program runs
        importlib.import_module(name)
"""


def ran(*command: str) -> tuple[float, float]:
    """Run a process; return its seconds, and the most memory that it held, in megabytes."""
    began = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command[3:])} failed")
    return perf_counter() - began, used.ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path)
    store = parser.parse_args().store
    generation = Generation.current(Store.open(store))
    window = str(generation.window_ids(np.array([generation.num_windows // 2]))[0])
    with tempfile.TemporaryDirectory() as folder:
        names = str(Path(folder) / "modules.json")
        search = (sys.executable, "-c", _SEARCH, "search", str(store), window, names)
        imports = (sys.executable, "-c", _IMPORT, names)
        ran(*search)
        pairs = [(ran(*search), ran(*imports)) for _ in range(REPEATS)]
    took = statistics.median(search[0] for search, _ in pairs)
    imported = statistics.median(imports[0] for _, imports in pairs)
    print(f"{generation.num_windows:,} windows, median of {REPEATS}")
    print(f"search   {took:.2f} s, {max(search[1] for search, _ in pairs):.0f} MB resident")
    print(f"imports  {imported:.2f} s, {max(imports[1] for _, imports in pairs):.0f} MB")
    print(f"itself   {statistics.median(a[0] - b[0] for a, b in pairs):.2f} s")


if __name__ == "__main__":
    main()
