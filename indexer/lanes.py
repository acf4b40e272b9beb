"""Threads that embed side by side, ahead of who takes the results."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from indexer.cores import default_num_lanes
from indexer.extractor import Extractor, Timed


class Lanes:
    """Threads that share an extractor; each has a core, or a stream of the GPU, of its own.

    Threads that share one forward pass instead wait for each other after every layer, and for
    whatever else keeps one of the cores busy: decoding, for one.

    Attributes:
        count: How many there are.
        depth: How many batches to submit before taking results, so that no lane waits.
    """

    def __init__(self, extractor: Extractor) -> None:
        """Prepare; threads start with the first batches."""
        self._extractor = extractor
        self._num_threads = torch.get_num_threads()
        self.count = default_num_lanes(extractor.device.type)
        self.depth = self.count + 1
        self._pool = ThreadPoolExecutor(self.count, "lane", self._begin)

    def _begin(self) -> None:
        """Set up the thread that calls this."""
        if self._extractor.device.type == "cuda":
            torch.cuda.set_device(self._extractor.device)
            torch.cuda.set_stream(torch.cuda.Stream(self._extractor.device))  # type: ignore[no-untyped-call]
        else:
            torch.set_num_threads(1)

    def submit(self, waveforms: Tensor) -> Future[Timed]:
        """Embed a batch as soon as a lane is free; see `Extractor.timed`."""
        return self._pool.submit(self._extractor.timed, waveforms)

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what is being embedded, and drop what is not yet."""
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._num_threads)  # threads to come take over what was set last
