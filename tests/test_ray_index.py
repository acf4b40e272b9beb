"""A run on a Ray cluster gives what one process gives, whatever dies meanwhile."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import REPOSITORY
from listener import Listener
from ray_cluster import NUM_CPUS
from ray_cluster import cluster as cluster
from ray_workers import HOW, HalfBlind, OnCpu, Watched, counted
from safetensors.torch import load_file, save_file
from synthetic import write_tone
from test_protocol import GEOMETRY

from indexer.arrays import ID_DTYPE
from indexer.embedding.extractor import Extractor
from indexer.errors import SoundalikeError, StoreError
from indexer.model.checkpoint import load_checkpoint
from indexer.progress import Listen, News, Step, ignore
from indexer.run import cutting
from indexer.run.config import ExtractConfig, Settings
from indexer.run.extract import extract
from indexer.run.report import ExtractReport
from indexer.run.spread import embed_spread
from indexer.run.survey import survey
from indexer.store.creation import create_store
from indexer.store.reader import Store
from search.upkeep.verify import verify

pytestmark = [pytest.mark.slow, pytest.mark.whole]

CONFIG = ExtractConfig(num_workers=1, batch_size=2)
#: What says what became of a file; library and path ids are drawn anew for each store.
LEDGER = (
    "path",
    "span_start",
    "span_samples",
    "status",
    "stage",
    "reason",
    "size",
    "mtime_ns",
    "recording_id",
    "num_samples",
    "sample_rate",
    "channels",
    "codec",
    "warnings",
    "audio_id",
    "file_digest",
)
#: Windows in a shard of the driver that is killed, at most: 400 kB, or a second of a slow model.
MOST_IN_SHARD = 8
Spread = Callable[..., ExtractReport]


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    """Workers import what tests give them; they are started by the nodes, and not by the tests."""
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(REPOSITORY), str(REPOSITORY / "tests")]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        yield


@pytest.fixture(scope="module")
def extractor(tiny_file: Path) -> Extractor:
    return Extractor(load_checkpoint(str(tiny_file)), device="cpu")


@pytest.fixture
def spread(cluster: Any, tiny_file: Path, monkeypatch: pytest.MonkeyPatch) -> Spread:
    """Run on the cluster, in small shards."""
    for name, value in (("FIRST_BYTES", 400_000), ("SHARD_S", 1.0), ("LEAST_S", 0.2)):
        monkeypatch.setattr(cutting, name, value)

    def call(
        root: Path,
        store: Store,
        listen: Listen = ignore,
        config: ExtractConfig = CONFIG,
        **how: Any,
    ) -> ExtractReport:
        settings = how.pop("settings", Settings(checkpoint=str(tiny_file)))
        with survey(root, store, config, listen) as surveyed:
            how = {"kind": Watched, "address": cluster.address, **how}
            return embed_spread(surveyed, settings, config, listen, **how)

    return call


def store_at(path: Path, extractor: Extractor, tiny_file: Path) -> Store:
    path.parent.mkdir(parents=True, exist_ok=True)
    identity = extractor.identity(GEOMETRY)
    named = {"checkpoint": str(tiny_file), "written_by": "tests"}
    return create_store(path, identity, extractor.head(), **named)


def fill(root: Path, count: int = 24) -> None:
    """Files of 1 to 5 windows, copies, a long one, and some that are broken."""
    for number in range(count):
        write_tone(root / f"{number % 3}" / f"{number}.wav", 1 + number % 5, 200 + 10 * number)
    write_tone(root / "long.wav", 21.5, 990)
    for number in (0, 5, 11):
        shutil.copyfile(root / f"{number % 3}" / f"{number}.wav", root / f"copy of {number}.wav")
    (root / "broken.wav").write_text("no audio")
    shutil.copyfile(root / "broken.wav", root / "2" / "broken too.wav")
    (root / "empty.flac").touch()


def change(root: Path) -> None:
    """One is renamed, one is deleted, one is written anew, and one is new."""
    (root / "1" / "7.wav").rename(root / "renamed.wav")
    (root / "long.wav").rename(root / "2" / "longer.wav")
    (root / "2" / "8.wav").unlink()
    write_tone(root / "0" / "9.wav", 3.0, 777)
    write_tone(root / "new.wav", 4.0, 888)


def words(store: Store) -> dict[str, dict[str, Any]]:
    rows = store.latest_files(LEDGER).to_pylist()
    return {_named(row["path"], row["span_start"]): row for row in rows}


def _named(path: str, start: int | None) -> str:
    return path if start is None else f"{path} from {start}"


def by_window(store: Store) -> dict[tuple[object, ...], tuple[Any, Any, Any]]:
    """What and where each window is → scene, tags, frames."""
    snapshot = store.snapshot()
    rows = np.arange(len(snapshot))
    keys = zip(*(column.tolist() for column in snapshot.windows), strict=True)
    values = zip(snapshot.scene(rows), snapshot.tags(rows), snapshot.frames(rows), strict=True)
    return dict(zip(keys, values, strict=True))


def require_equal(store: Store, other: Store) -> None:
    """Hold a store against one that a single process made."""
    found, expected = by_window(store), by_window(other)
    assert len(found) == len(store.snapshot())
    assert found.keys() == expected.keys()
    for key, (scene, tags, frames) in expected.items():
        np.testing.assert_allclose(found[key][0], scene, atol=1e-5)
        np.testing.assert_allclose(found[key][1], tags, atol=1e-3)
        np.testing.assert_allclose(found[key][2], frames, atol=1e-3, rtol=1e-3)
    assert words(store) == words(other)
    assert verify(store.path) == []
    assert not (store.path / "staging").exists()


def test_run_on_a_cluster_gives_what_one_process_gives(
    tmp_path: Path, extractor: Extractor, tiny_file: Path, spread: Spread
) -> None:
    root = tmp_path / "library"
    fill(root)
    store = store_at(tmp_path / "lab" / "store", extractor, tiny_file)
    alone = store_at(tmp_path / "alone", extractor, tiny_file)
    heard = Listener()
    report, expected = spread(root, store, heard), extract(root, alone, extractor, CONFIG)
    require_equal(store, alone)
    for name in ("audio_s", "num_windows"):  # copies in two shards are embedded twice
        assert getattr(report, name) >= getattr(expected, name)
    assert report.num_embedded + report.num_known == expected.num_embedded + expected.num_known
    assert sorted(report.failures) == sorted(expected.failures)
    assert (report.num_remote, report.device, report.precision) == (2, "cpu", "fp32")
    steps = heard.steps
    assert (steps[-1].done, steps[-1].total) == (31, 31)
    assert steps[-1].audio_s == pytest.approx(steps[-1].total_audio_s)
    change(root)
    report, expected = spread(root, store), extract(root, alone, extractor, CONFIG)
    require_equal(store, alone)
    for name in ("num_moved", "num_gone", "num_unchanged", "num_failed_before"):
        assert getattr(report, name) == getattr(expected, name)
    assert (report.num_moved, report.num_gone) == (2, 1)
    spans = tmp_path / "spans.csv"
    spans.write_text("path,start,end\nnew.wav,1,3\nnew.wav,2,3.5\nabsent.wav,0,1\n")
    config = replace(CONFIG, files_from=spans)
    report = spread(root, store, config=config)
    expected = extract(root, alone, extractor, config)
    require_equal(store, alone)
    assert sorted(report.failures) == sorted(expected.failures)
    assert sum(n for _, n, _, _ in counted(tmp_path / "lab")) >= len(store.snapshot())


def test_two_workers_overlap(
    tmp_path: Path, extractor: Extractor, tiny_file: Path, spread: Spread
) -> None:
    """A model that sleeps shows it."""
    for number in range(24):
        write_tone(tmp_path / "library" / f"{number}.wav", 1.0, 200 + 10 * number)
    store = store_at(tmp_path / "lab" / "store", extractor, tiny_file)
    (tmp_path / "lab" / HOW).write_text(json.dumps({"sleep_s": 0.5}))
    spread(tmp_path / "library", store)
    batches = counted(tmp_path / "lab")
    one, other = (
        [batch[2:] for batch in batches if batch[0] == pid]
        for pid in sorted({b[0] for b in batches})
    )
    overlap_s = sum(
        max(0.0, min(ends) - max(begins))
        for begins, ends in (zip(*pair, strict=True) for pair in product(one, other))
    )
    assert overlap_s > 1.0
    assert len(store.snapshot()) == 24


def test_files_that_kill_are_quarantined_and_cost_no_other(
    tmp_path: Path, extractor: Extractor, tiny_file: Path, spread: Spread
) -> None:
    root = tmp_path / "library"
    for number in range(10):
        write_tone(root / f"{number}.wav", 2.0, 200 + 10 * number)
    store = store_at(tmp_path / "lab" / "store", extractor, tiny_file)
    how = {"kills_reader": ["2.wav"], "kills_worker": ["7.wav"]}
    (tmp_path / "lab" / HOW).write_text(json.dumps(how))
    report = spread(root, store)
    expected = [
        ("2.wav", "crash", "the process that read it was ended by SIGSEGV; tried twice"),
        ("7.wav", "crash", "the worker that read it died; tried 3 times"),
    ]
    assert sorted(map(tuple, report.failures)) == expected
    rows = words(store)
    assert {row["path"] for row in rows.values() if row["status"] == "ok"} == {
        f"{number}.wav" for number in range(10) if number not in {2, 7}
    }
    assert (
        sorted(
            (row["path"], row["stage"], row["reason"])
            for row in rows.values()
            if row["status"] == "failed"
        )
        == expected
    )
    assert verify(store.path) == []
    assert spread(root, store).num_failed_before == 2


def test_worker_that_sees_no_library_does_nothing_and_the_others_do_all(
    tmp_path: Path, extractor: Extractor, tiny_file: Path, spread: Spread
) -> None:
    root = tmp_path / "library"
    for number in range(6):
        write_tone(root / f"{number}.wav", 1.0, 200 + 10 * number)
    store = store_at(tmp_path / "lab" / "store", extractor, tiny_file)
    heard = Listener()
    told = "the library .*/elsewhere is not seen there; put it where all machines have it"
    spread(root, store, heard, kind=HalfBlind)
    lost = [line for line in heard.sentences if "is lost" in line]
    assert len(lost) == 1
    assert re.search(told, lost[0])
    assert {row["status"] for row in words(store).values()} == {"ok"}
    assert len(store.snapshot()) == 6
    assert verify(store.path) == []


def test_run_goes_on_with_fewer_gpus_than_asked_for_and_uses_those_that_join(
    tmp_path: Path, extractor: Extractor, tiny_file: Path, cluster: Any, spread: Spread
) -> None:
    """To Ray, a GPU is what a node says that it has."""
    root = tmp_path / "library"
    for number in range(30):
        write_tone(root / f"{number}.wav", 1.0, 200 + 10 * number)
    store = store_at(tmp_path / "lab" / "store", extractor, tiny_file)
    (tmp_path / "lab" / HOW).write_text(json.dumps({"sleep_s": 0.7}))
    nodes = [cluster.add_node(num_cpus=1, num_gpus=1)]
    heard = Listener()

    def listen(news: News) -> None:
        heard(news)
        if isinstance(news, Step) and news.done and len(nodes) == 1:
            nodes.append(cluster.add_node(num_cpus=1, num_gpus=1))

    report = spread(root, store, listen, kind=OnCpu, num_workers=3)
    for node in nodes:
        cluster.remove_node(node)
    short = "3 workers were asked for, and the cluster has room for 1 now"
    assert len([line for line in heard.sentences if line.startswith(short)]) == 1
    assert report.num_remote == 2
    assert len({pid for pid, _, _, _ in counted(tmp_path / "lab")}) == 2
    assert len(store.snapshot()) == 30


def test_workers_end_though_what_they_did_cannot_be_published(
    tmp_path: Path,
    extractor: Extractor,
    tiny_file: Path,
    spread: Spread,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = tmp_path / "library"
    fill(root)
    store = store_at(tmp_path / "lab" / "store", extractor, tiny_file)

    def fail(*_: object) -> None:
        wait_until(lambda: len(list(store.path.glob("staging/*/*/sealed.json"))) == 2)
        time.sleep(2)  # until Ray, too, knows that both are done
        raise StoreError("no room")

    monkeypatch.setattr("indexer.run.spread.publish_parts", fail)
    with pytest.raises(StoreError, match="no room") as told:
        spread(root, store)
    wait_until(lambda: not watched())
    assert told.traceback  # what knows of them is still there
    assert len(store.snapshot()) > 0  # what was sealed was published in the end


def wait_until(is_so: Callable[[], bool], most_s: float = 60) -> None:
    until = time.monotonic() + most_s
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.1)


def watched() -> list[str]:
    """Return the names of the processes of all workers."""
    names = [" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])]
    return [name for name in names if name.startswith(f"ray::{Watched.__name__}")]


def test_workers_with_another_checkpoint_are_refused_in_a_line(
    tmp_path: Path, extractor: Extractor, tiny_file: Path, spread: Spread
) -> None:
    write_tone(tmp_path / "library" / "a.wav", 1.0)
    store = store_at(tmp_path / "lab" / "store", extractor, tiny_file)
    state = load_file(tiny_file)
    save_file({**state, "norm.bias": state["norm.bias"] + 1}, tmp_path / "other.safetensors")
    settings = Settings(checkpoint=str(tmp_path / "other.safetensors"))
    with pytest.raises(
        SoundalikeError, match=r"no machine .* made in another way: weights"
    ) as raised:
        spread(tmp_path / "library", store, settings=settings)
    assert len(str(raised.value).splitlines()) == 1


def test_strict_run_stops_at_the_first_file_that_fails(
    tmp_path: Path, extractor: Extractor, tiny_file: Path, spread: Spread
) -> None:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "broken.wav").write_text("no audio")
    store = store_at(tmp_path / "lab" / "store", extractor, tiny_file)
    config = replace(CONFIG, strict=True)
    with pytest.raises(SoundalikeError, match=r"stopped at broken\.wav") as raised:
        spread(tmp_path / "library", store, config=config)
    assert (type(raised.value), raised.value.about) == (SoundalikeError, "strict")
    assert not (store.path / "staging").exists()


def test_command_that_is_told_to_end_keeps_what_is_published_and_goes_on_later(
    tmp_path: Path, extractor: Extractor, tiny_file: Path, cluster: Any
) -> None:
    root = tmp_path / "library"
    for number in range(16):
        write_tone(root / f"{number}.wav", 30.0, 200 + 10 * number, rate=8000)
    store = tmp_path / "store"
    words_: list[object] = [
        "index",
        root,
        "--store",
        store,
        "--ray",
        cluster.address,
        "--ray-workers",
        "2",
    ]
    words_ += ["--checkpoint", tiny_file]
    command = [sys.executable, "-m", "soundalike", *map(str, words_)]
    begun = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not list(store.glob("parts/0*")):
        assert time.monotonic() < until
        assert begun.poll() is None, begun.communicate()
        time.sleep(0.01)
    begun.terminate()
    _, errors = begun.communicate(timeout=60)
    assert begun.returncode == 143, errors
    assert not (store / "staging").exists()
    assert 0 < len(words(Store.open(store))) < 16
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "of 2 workers" in ended.stdout
    assert "raylet" not in ended.stdout + ended.stderr
    assert len(words(Store.open(store))) == 16
    assert verify(store) == []


def test_store_is_that_of_one_process_after_twenty_kills(
    tmp_path: Path, extractor: Extractor, tiny_file: Path, cluster: Any
) -> None:
    root, lab = tmp_path / "library", tmp_path / "lab"
    fill(root, 60)
    store = store_at(lab / "store", extractor, tiny_file)
    (lab / HOW).write_text(json.dumps({"sleep_s": 0.25}))
    killing = Killing(cluster, [root, store.path, tiny_file], lab)
    kinds = [*["worker", "node", "worker", "driver", "worker", "node"] * 3, "node", "worker"]
    for kind in kinds:
        killing.kill(kind)
    in_hand = sum(2 if kind == "driver" else 1 for kind in kinds)
    killing.finish()
    alone = store_at(tmp_path / "alone", extractor, tiny_file)
    extract(root, alone, extractor, CONFIG)
    require_equal(store, alone)
    windows = store.snapshot().windows
    copied = {row["recording_id"] for row in words(store).values() if "copy" in row["path"]}
    of_copies = np.isin(windows.recording_id, np.array(sorted(copied - {None}), ID_DTYPE))
    for part in store.parts():
        assert len(np.unique(part.windows(["window_id"])["window_id"])) == part.num_windows
    stored = np.concatenate(
        [
            part.windows(["window_id"])["window_id"].to_numpy()
            for part in store.parts()
            if part.num_windows
        ]
    )
    ids, numbers = np.unique(stored, return_counts=True)
    assert not set(ids[numbers > 1].tolist()) - set(windows.window_id[of_copies].tolist())
    embedded = sum(n for _, n, _, _ in counted(lab))
    assert embedded <= len(stored) + in_hand * MOST_IN_SHARD


class Killing:
    """Runs on a cluster, of which something is killed now and then."""

    def __init__(self, cluster: Any, words: list[object], lab: Path) -> None:
        self._cluster, self._lab = cluster, lab
        self._command = [
            sys.executable,
            "tests/killed_driver.py",
            cluster.address,
            *map(str, words),
        ]
        self._random = random.Random(7)
        self._node = next(iter(cluster.worker_nodes))
        self._begin()

    def _begin(self) -> None:
        with (self._lab / "log.txt").open("a") as log:
            self._driver = subprocess.Popen(
                self._command, stdout=log, stderr=log, cwd=REPOSITORY, env=os.environ
            )

    def kill(self, kind: str) -> None:
        """Kill something once more has been embedded, at any moment after that."""
        self._wait_for_more()
        time.sleep(self._random.uniform(0.0, 1.5))
        assert self._driver.poll() is None, "the work was done before it could be disturbed"
        if kind == "driver":
            self._driver.kill()
            self._driver.wait()
            self._begin()
        elif kind == "node":
            self._cluster.remove_node(self._node, allow_graceful=False)
            self._node = self._cluster.add_node(num_cpus=NUM_CPUS)
        else:
            os.kill(self._random.choice(self._workers()), signal.SIGKILL)

    def _workers(self) -> list[int]:
        """Return those that work; others begin where all were of a node that was killed."""
        until = time.monotonic() + 60
        while True:
            pids = {pid for pid, _, _, _ in counted(self._lab)[-4:]}
            if alive := sorted(filter(psutil.pid_exists, pids)):
                return alive
            assert time.monotonic() < until, (self._lab / "log.txt").read_text()[-3000:]
            time.sleep(0.05)

    def _wait_for_more(self) -> None:
        before, until = len(counted(self._lab)), time.monotonic() + 60
        while len(counted(self._lab)) == before:
            assert time.monotonic() < until, (self._lab / "log.txt").read_text()[-3000:]
            time.sleep(0.05)

    def finish(self) -> None:
        """Let the run end, and run once more."""
        for is_last in (False, True):
            self._driver.wait(timeout=180)
            assert self._driver.returncode == 0, (self._lab / "log.txt").read_text()[-3000:]
            if not is_last:
                self._begin()
