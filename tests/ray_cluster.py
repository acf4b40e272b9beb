"""A Ray cluster of two nodes on this machine, for the tests of what runs on one."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from conftest import REPOSITORY

#: Slow machines: Ray gives its parts this long to begin, in seconds.
_BEGIN_S = 120
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_raylet_start_wait_time_s", str(_BEGIN_S))


@pytest.fixture(scope="module")
def cluster(whole: None) -> Iterator[Any]:
    """Two nodes, of one CPU each."""
    # Workers import what tests give them; they are started by the nodes, and not by the tests.
    paths = [str(REPOSITORY), str(REPOSITORY / "tests")]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray = pytest.importorskip("ray")
        from ray.cluster_utils import Cluster  # noqa: PLC0415 - where Ray is installed

        for attempt in range(2):
            try:
                made = Cluster(
                    initialize_head=True,
                    head_node_args={"num_cpus": 1, "include_dashboard": False},
                )
                made.add_node(num_cpus=1)
                break
            except Exception:  # its parts give up where one of them starts slowly
                if attempt:
                    raise
        yield made
        with suppress(Exception):
            ray.shutdown()
        made.shutdown()
        logging.getLogger("ray").handlers.clear()
