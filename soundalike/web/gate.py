"""How many may do at once what takes a processor: the others wait, and too many are sent away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class BusyError(Exception):
    """Too many wait already; to be asked again.

    Attributes:
        retry_s: After so many seconds.
    """

    def __init__(self, retry_s: int) -> None:
        super().__init__(f"busy: ask again in {retry_s} s")
        self.retry_s = retry_s


class Gate:
    """Lets some threads pass at once, and some wait."""

    def __init__(self, at_once: int, most_waiting: int, retry_s: int) -> None:
        """Open a gate.

        Args:
            at_once: How many may be behind it.
            most_waiting: How many may wait before it.
            retry_s: When those that may not are to ask again, in seconds.
        """
        self._places = threading.Semaphore(at_once)
        self._waiting = threading.Semaphore(at_once + most_waiting)
        self._retry_s = retry_s

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Wait for a place, and hold it.

        Raises:
            BusyError: If too many wait.
        """
        if not self._waiting.acquire(blocking=False):
            raise BusyError(self._retry_s)
        try:
            with self._places:
                yield
        finally:
            self._waiting.release()
