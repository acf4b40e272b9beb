"""Batches of windows, and the ends of files that travel with them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info

from indexer.reading.events import Done, Failure, WindowKey
from indexer.windows import SAMPLE_RATE_HZ, WINDOW_S, Cut

#: The ends of so many files, or one that is so old in seconds, are told before a batch is full.
_NEWS, _NEWS_S = 64, 5.0


class Batch(NamedTuple):
    """Windows of one length, and what happened to files up to here.

    Attributes:
        waveforms: (B, num_samples) float32; B is 0 in a batch that only carries events. On its way
            from a reader an array where shared memory has no room for a tensor.
        rate_hz: Of the waveforms: 32,000, or that of the files, see `indexer.audio.deferred`.
        keys: B of them.
        events: Files that ended; a file's windows are in this batch or an earlier one.
        read_s: Seconds that its worker spent on reading, hashing and decoding.
        begun: Files that were opened, and about how many seconds of audio each has, 0 if it does
            not say: `AudioStream.length_s`.
    """

    waveforms: Tensor
    rate_hz: int
    keys: list[WindowKey]
    events: list[Done | Failure]
    read_s: float = 0.0
    begun: Sequence[tuple[int, float]] = ()


class Batchers:
    """Batches under way, one for every rate that windows come at."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._of_rate = {SAMPLE_RATE_HZ: _Batcher(batch_size, SAMPLE_RATE_HZ)}
        self._current = self._of_rate[SAMPLE_RATE_HZ]

    def begin(self, item: int, length_s: float, rate_hz: int) -> None:
        """Take what comes next of a file, at its rate; see `Batch.begun`."""
        if rate_hz not in self._of_rate:
            self._of_rate[rate_hz] = _Batcher(self._batch_size, rate_hz)
        self._current = self._of_rate[rate_hz]
        self._current.begun.append((item, length_s))

    def add(self, key: WindowKey, cut: Cut) -> Iterator[Batch]:
        """Take one window; give what has become full, and what others have waited with too long."""
        yield from self._current.add(key, cut)
        yield from self.news(but=self._current)

    def tell(self, event: Done | Failure) -> None:
        """Take the end of a file, whose windows came last."""
        self._current.events.append(event)

    def news(self, but: _Batcher | None = None) -> Iterator[Batch]:
        """Give what holds ends of files that nobody should have to wait for."""
        for batcher in self._of_rate.values():
            if batcher is not but and batcher.has_news:
                yield from batcher.rest()

    def rest(self) -> Iterator[Batch]:
        """Give all that is held."""
        for batcher in self._of_rate.values():
            yield from batcher.rest()


class _Batcher:
    """Collects windows of one length and rate; a full batch waits for what comes next.

    It waits so that the news of a file's end travels with its last window, not after it.
    """

    def __init__(self, batch_size: int, rate_hz: int) -> None:
        self._batch_size, self._rate_hz = batch_size, rate_hz
        self._keys: list[WindowKey] = []
        self._waveforms: list[Tensor] = []
        self._since = time.perf_counter()
        self.events: list[Done | Failure] = []
        self.begun: list[tuple[int, float]] = []

    @property
    def has_news(self) -> bool:
        """Whether files have ended that nobody should have to wait for, or lose with a reader."""
        is_late = time.perf_counter() - self._since > _NEWS_S
        return len(self.events) >= _NEWS or bool(self.events and is_late)

    def add(self, key: WindowKey, cut: Cut) -> Iterator[Batch]:
        """Take one window, first giving the batch that it no longer fits into."""
        other_length = self._waveforms and len(self._waveforms[0]) != len(cut.waveform)
        if not self._has_room(len(cut.waveform)) or other_length:
            yield from self.rest()
        self._keys.append(key)
        self._waveforms.append(torch.from_numpy(cut.waveform))

    def _has_room(self, num_samples: int) -> bool:
        """Whether one more window fits: of long ones so many as are hardly more audio."""
        times_as_long = max(num_samples // round(WINDOW_S * self._rate_hz), 1)
        return len(self._keys) < max(self._batch_size // times_as_long, 1)

    def rest(self) -> Iterator[Batch]:
        """Give what is held, if anything is."""
        if self._keys or self.events:
            held = _together(self._waveforms) if self._keys else torch.empty(0, 0)
            yield Batch(held, self._rate_hz, self._keys, self.events, begun=self.begun)
            self.begun = []
        self._keys, self._waveforms, self.events = [], [], []
        self._since = time.perf_counter()


def _together(waveforms: list[Tensor]) -> Any:
    """Return waveforms of one length as a block; in a reader in shared memory, if there is room."""
    try:
        return default_collate(waveforms)
    except (
        RuntimeError
    ):  # no room: PyTorch takes its pages at once, so that this is no SIGBUS later
        if get_worker_info() is None:
            raise
        return torch.stack(waveforms).numpy()  # a pipe takes it as it is
