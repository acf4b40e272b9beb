"""What a machine has to compute with: devices by their names, cores, and how they are shared."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from indexer.errors import QueryError

#: On a GPU: while one copies, another computes.
_LANES_PER_GPU = 2

#: What Linux knows of the hardware, whether or not a driver is there.
_PCI = Path("/sys/bus/pci/devices")
#: From the list of PCI ids: NVIDIA, and the class of all display controllers, in hexadecimal.
_NVIDIA, _DISPLAY = "0x10de", "0x03"

_DEVICE = re.compile(r"auto|cpu|cuda(:(0|[1-9]\d?))?")


def require_device_name(asked: str) -> None:
    """Raise unless a name could be that of a device; whether it is there, PyTorch knows.

    Raises:
        QueryError: If it is none of "auto", "cpu", "cuda" and "cuda:N".
    """
    if not _DEVICE.fullmatch(asked):
        raise QueryError(f"unknown device {asked!r}; use auto, cpu, cuda or cuda:N")


def has_gpu() -> bool:
    """Whether the system knows of a GPU of NVIDIA's that nobody hid on purpose."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"}:
        return False
    return shutil.which("nvidia-smi") is not None or any(
        device.joinpath("class").read_text().startswith(_DISPLAY)
        for device in _PCI.glob("*")
        if device.joinpath("vendor").read_text().strip() == _NVIDIA
    )


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
