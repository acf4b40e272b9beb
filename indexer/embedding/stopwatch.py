"""How long each step of a device's work takes, without waiting for it after each."""

from __future__ import annotations

import time
from itertools import pairwise

import torch


class Stopwatch:
    """Notes moments in the work that one thread gives to a device; starts with the first."""

    def __init__(self, device: torch.device) -> None:
        """Start.

        Args:
            device: A CPU, or a GPU, which works off what it is given some time later.
        """
        self._device = device
        self._times_s: list[float] = []
        self._events: list[torch.cuda.Event] = []
        self.lap()

    def lap(self) -> None:
        """Note that a step has been given to the device."""
        if self._device.type == "cpu":
            self._times_s.append(time.perf_counter())
            return
        event = torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self._device))
        self._events.append(event)

    def seconds(self) -> list[float]:
        """Wait until the device is done with all steps, and return how long each took."""
        if not self._events:
            return [later - earlier for earlier, later in pairwise(self._times_s)]
        self._events[-1].synchronize()
        return [earlier.elapsed_time(later) / 1000 for earlier, later in pairwise(self._events)]
