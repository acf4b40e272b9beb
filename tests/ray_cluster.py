"""A Ray cluster of two nodes on this machine, for the tests of one file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import psutil
import pytest

#: What each node says that it has.
NUM_CPUS = 2
#: The processes of a node give up where one of them starts slowly.
_ATTEMPTS = 2


def the_ray() -> Any:
    """Return the module, which takes a second to import; tests are skipped where it is not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own
        return pytest.importorskip("ray")


@pytest.fixture(scope="module")
def cluster(whole: None) -> Iterator[Any]:
    """Two nodes; nothing but tests is connected to them."""
    ray = the_ray()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_raylet_start_wait_time_s"] = "120"  # noqa: SIM112 - as Ray calls it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        from ray.cluster_utils import Cluster  # noqa: PLC0415 - as above

        node = {"num_cpus": NUM_CPUS, "include_dashboard": False}
        for attempt in range(1, _ATTEMPTS + 1):
            made = None
            try:
                made = Cluster(initialize_head=True, head_node_args=node)
                made.add_node(num_cpus=NUM_CPUS)
                break
            except Exception:
                with suppress(Exception):
                    made.shutdown()  # type: ignore[union-attr]
                if attempt == _ATTEMPTS:
                    raise
        yield made
        ray.shutdown()
        made.shutdown()  # type: ignore[union-attr]


def pids(actors: Iterable[Any]) -> list[int]:
    """Return the processes of some actors."""
    ray = the_ray()
    return list(ray.get([one.__ray_call__.remote(lambda _: os.getpid()) for one in actors]))


def parent(pid: int) -> int:
    """Return what has begun a process of an actor: its node."""
    return int(psutil.Process(pid).ppid())


def is_running(pid: int) -> bool:
    """Whether a process is there, and has not ended."""
    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False
