"""A run on a Ray cluster gives what one process gives, whatever dies meanwhile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listener import Listener
from ray_cluster import cluster
from ray_workers import HOW, Watched, counted
from synthetic import write_tone
from test_protocol import GEOMETRY

from indexer.embedding.extractor import Extractor
from indexer.model.checkpoint import load_checkpoint
from indexer.progress import Listen, ignore
from indexer.run import cutting
from indexer.run.config import ExtractConfig, Settings
from indexer.run.extract import extract
from indexer.run.report import ExtractReport
from indexer.run.spread import embed_spread
from indexer.run.survey import survey
from indexer.store.creation import create_store
from indexer.store.reader import Store
from search.upkeep.verify import verify

__all__ = ["cluster"]  # a fixture

pytestmark = [pytest.mark.slow, pytest.mark.whole]

CONFIG = ExtractConfig(num_workers=1, batch_size=2)
#: What says what became of a file; library and path ids are drawn anew for each store.
LEDGER = (
    "path",
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
Spread = Callable[..., ExtractReport]


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
    return {row["path"]: row for row in store.latest_files(LEDGER).to_pylist()}


def require_equal(store: Store, other: Store) -> None:
    """Hold a store against one that a single process made."""
    found, expected = store.snapshot(), other.snapshot()
    assert len(np.unique(found.windows.window_id)) == len(found)
    places = [np.argsort(one.windows.window_id) for one in (found, expected)]
    for name in ("window_id", "recording_id", "start_sample", "num_samples"):
        ours, theirs = (
            getattr(one.windows, name)[at] for one, at in zip((found, expected), places, strict=True)
        )
        np.testing.assert_array_equal(ours, theirs)
    scenes = [one.scene(at) for one, at in zip((found, expected), places, strict=True)]
    np.testing.assert_allclose(*scenes, atol=1e-5)
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
    assert (steps[-1].done, steps[-1].total) == (30, 30)
    assert steps[-1].audio_s == pytest.approx(steps[-1].total_audio_s)
    change(root)
    report, expected = spread(root, store), extract(root, alone, extractor, CONFIG)
    require_equal(store, alone)
    for name in ("num_moved", "num_gone", "num_unchanged", "num_failed_before"):
        assert getattr(report, name) == getattr(expected, name)
    assert (report.num_moved, report.num_gone) == (2, 1)
    assert spread is not None
    (tmp_path / "lab" / HOW).write_text(json.dumps({}))
    assert sum(n for _, n, _, _ in counted(tmp_path / "lab")) >= len(store.snapshot())
