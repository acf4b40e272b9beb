"""What large stores cost: a million files in the ledger, ten thousand parts under an index."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from conftest import REPOSITORY
from oracle import Query, ask
from synthetic import ORIGIN, Synthetic, make_store

from indexer.store.disk import read_sealed, seal, sha256_of
from indexer.store.reader import Store
from indexer.store.schema import FILES_SCHEMA, RECORDING_ID_BYTES
from indexer.store.writer import PartWriter
from search.asking.sound_index import SoundIndex
from search.generation.manifest import GENERATION_FILE
from search.generation.segments import PARTS_FILE
from search.upkeep.build import build

NUM_FILES = 1_000_000
NUM_PARTS = 10_000
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")


def ledger_rows(library_id: str, num_rows: int, seed: int) -> pa.Table:
    """Files that were embedded, no two alike."""
    rng = np.random.default_rng(seed)
    ids = pa.py_buffer(rng.bytes(RECORDING_ID_BYTES * num_rows))
    number = pa.array(rng.integers(10**9, 10**10, num_rows)).cast(pa.string())
    columns = {
        "path_id": rng.integers(0, 2**63 - 1, num_rows),
        "library_id": pa.repeat(library_id, num_rows),
        "path": pc.binary_join_element_wise("a folder", number, "recording.wav", "/"),
        "size": rng.integers(0, 10**9, num_rows),
        "mtime_ns": rng.integers(0, 2**60, num_rows),
        "status": pa.repeat("ok", num_rows),
        "recording_id": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(RECORDING_ID_BYTES), num_rows, [None, ids]
        ),
        "codec": pa.repeat("pcm_s16le", num_rows),
    }
    arrays = [columns.get(field.name, pa.nulls(num_rows, field.type)) for field in FILES_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=FILES_SCHEMA)


#: Opens an empty store, then runs the lines that it is given, and prints what these cost.
MEASURE = """
import sys, time
from pathlib import Path
import numpy as np
import pandas  # Arrow imports it in passing where it is installed; the ledger does not need it
from indexer.store.reader import Store

def peak_mb():  # of this program alone; getrusage would tell that of pytest, which started it
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024

Store.open(Path(sys.argv[1])).ledger()
before, started = peak_mb(), time.process_time()
store = Store.open(Path(sys.argv[2]))
exec(sys.argv[3])
print(time.process_time() - started, peak_mb() - before, answer)
"""


@pytest.fixture(scope="module", params=[1, 20])
def million(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """A store of a million files, in one part or in many."""
    made = make_store(tmp_path_factory.mktemp("million") / "store", frames="none")
    with PartWriter(made.store, ORIGIN) as writer:
        for seed in range(request.param):
            rows = ledger_rows(made.library_id, NUM_FILES // request.param, seed)
            writer.add_rows("files.parquet", rows)
            writer.commit()
    return made


def measured(made: Synthetic, lines: str) -> tuple[float, float, float]:
    """Return the CPU seconds of some lines, their peak memory in MB, and their `answer`."""
    empty = make_store(made.store.path.with_name(uuid.uuid4().hex), frames="none")
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, empty.store.path, made.store.path, lines],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    seconds, peak, answer = map(float, result.stdout.split())
    return seconds, peak, answer


@pytest.mark.whole
@linux
def test_ledger_of_a_million_files_needs_three_seconds_and_a_hundred_megabytes(
    million: Synthetic,
) -> None:
    seconds, peak, num_bytes = measured(
        million,
        "ledger = store.ledger()\n"
        "assert len(ledger) == len(ledger.known) == 1_000_000\n"
        "arrays = [getattr(ledger, name) for name in ledger.__slots__]\n"
        "answer = sum(one.nbytes for one in arrays if isinstance(one, np.ndarray))",
    )
    assert num_bytes <= 64 * NUM_FILES
    assert num_bytes < peak * 2**20 <= 100 * 2**20, peak
    assert seconds < 3


@pytest.mark.whole
@linux
def test_files_at_among_a_million_files_reads_a_few(million: Synthetic) -> None:
    path_id = ledger_rows("", NUM_FILES // len(million.store.part_names()), 0)["path_id"][5]
    seconds, peak, size = measured(
        million,
        f"rows = store.files_at(np.array([7, {path_id}]))\n"
        f"assert [row.path_id for row in rows] == [{path_id}]\n"
        "answer = rows[0].size",
    )
    (row,) = million.store.files_at(np.array([path_id.as_py()]))
    assert size == row.size
    assert peak <= 100
    assert seconds < 3


def measured_s(made: Synthetic) -> float:
    """Return the CPU seconds from nothing to the answer on one window, as a command takes them."""
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        index = SoundIndex.open(made.store.path)
        vectors, *_ = index.windows_of([made.windows[0].window_id])
        assert len(ask(index, Query(vectors, k=10))) == 10
        assert index.num_new_parts() == 0
        best = min(best, time.process_time() - started)
    return best


def multiply_parts(store: Store) -> None:
    """Bring a store to NUM_PARTS parts, by links to its last one, and name them in its index."""
    parts = store.path / "parts"
    names = store.part_names()
    for number in range(len(names), NUM_PARTS):
        names.append(f"{number + 1:010d}-{number:032x}")
        (parts / names[-1]).mkdir()
        for file in (parts / names[9]).iterdir():
            os.link(file, parts / names[-1] / file.name)
    (folder,) = (store.path / "index").glob("0*")
    (folder / PARTS_FILE).write_text("".join(f"{name}\n" for name in names))
    document = read_sealed(folder / GENERATION_FILE)
    listed = folder / PARTS_FILE
    document["files"][PARTS_FILE] = [listed.stat().st_size, sha256_of(listed)]
    (folder / GENERATION_FILE).write_bytes(seal(document))


@pytest.mark.whole
def test_query_of_ten_thousand_parts_costs_what_one_of_ten_does(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store", frames="none")
    for number in range(9):
        made.add({f"a{number}": 100}, seed=number)
    made.add_rows([made.row("x.wav", None, "failed")])
    build(made.store)
    of_ten = measured_s(made)
    multiply_parts(made.store)
    assert len(made.store.part_names()) == NUM_PARTS
    of_many = measured_s(made)
    assert of_many - of_ten < 0.05, (of_ten, of_many)

    made.add({"b": 1})
    assert SoundIndex.open(made.store.path).num_new_parts() == 1


@pytest.mark.slow
@linux
def test_files_of_a_million_are_listed_one_after_the_other(million: Synthetic) -> None:
    _, peak, answer = measured(
        million,
        "from search.upkeep.files import list_files\n"
        "assert not any(row for row in list_files(store.path, ['warnings', 'failed']))\n"
        "answer = sum(row.status == 'ok' for row in list_files(store.path))",
    )
    assert answer == NUM_FILES
    assert peak <= 160, peak


@pytest.mark.slow
@linux
def test_a_million_files_are_counted_as_they_are_read(million: Synthetic) -> None:
    _, peak, answer = measured(
        million,
        "from search.upkeep.overview import overview\nanswer = overview(store.path).statuses['ok']",
    )
    assert answer == NUM_FILES
    assert peak <= 260, peak
