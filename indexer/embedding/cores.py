"""How the cores of this machine are shared between decoding and the network."""

from __future__ import annotations

import os

#: On a GPU: while one copies, another computes.
_LANES_PER_GPU = 2


def num_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_num_workers(device_type: str) -> int:
    """Return how many processes read: on a CPU the network needs the cores."""
    return num_cores() if device_type == "cuda" else max(1, num_cores() // 4)


def default_num_lanes(device_type: str) -> int:
    """Return how many threads embed side by side."""
    return _LANES_PER_GPU if device_type == "cuda" else num_cores()
