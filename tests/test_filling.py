"""Who embeds a library: what does not go together is told in a line, before anything is begun."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from ray_cluster import the_ray

import soundalike
from indexer.errors import QueryError, SoundalikeError


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"ray_workers": 2}, "workers of a cluster are asked for, and no cluster"),
        ({"ray": True, "shard": "1/2", "stage": "staged"}, "a cluster embeds the whole library"),
        ({"ray": True, "ray_workers": 0}, "workers are a whole number, at least 1, got 0"),
        ({"shard": "1/2"}, "a shard is given, and no stage with it"),
        ({"stage": "staged"}, "a stage is given, and no shard with it"),
    ],
)
def test_means_that_do_not_go_together_are_refused(
    tmp_path: Path, how: dict[str, Any], told: str
) -> None:
    with pytest.raises(QueryError, match=told):
        soundalike.open(tmp_path / "store").extract(tmp_path, **how)
    assert not (tmp_path / "store").exists()


def test_one_gpu_of_one_machine_is_none_for_all_workers(tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="cuda:1 is one GPU of one machine"):
        soundalike.open(tmp_path / "store", device="cuda:1").extract(tmp_path, ray=True)


def test_ray_that_is_not_installed_is_told_in_a_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    outcome = run("index", tmp_path, "--store", tmp_path / "store", "--ray", code=1)
    (line,) = outcome.err.splitlines()
    assert line.endswith("is not installed; 'pip install \"soundalike[ray]\"' brings it")
    assert not (tmp_path / "store").exists()


@pytest.mark.whole
def test_address_where_no_cluster_is_is_told_in_a_line(run: Run, tmp_path: Path) -> None:
    the_ray()
    store = tmp_path / "store"
    words = ("--store", store, "--ray", "127.0.0.1:1", "--ray-workers", "2")
    (line,) = run("index", tmp_path, *words, code=1).err.splitlines()
    assert "no Ray cluster answers at 127.0.0.1:1" in line
    with pytest.raises(SoundalikeError, match=r"no Ray cluster answers at 127\.0\.0\.1:1"):
        soundalike.open(store).index(tmp_path, ray="127.0.0.1:1")
    assert not store.exists()


def test_workers_without_a_cluster_have_a_hint(run: Run, tmp_path: Path) -> None:
    outcome = run("extract", tmp_path, tmp_path / "store", "--ray-workers", "2", code=1)
    assert outcome.err.endswith("and no cluster; say --ray, too\n")
