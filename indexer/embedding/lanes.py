"""Threads that embed side by side, ahead of who takes the results."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

import torch

from indexer.embedding.cores import default_num_lanes
from indexer.embedding.extractor import Extractor, Timed, Windows


class Lanes:
    """Threads that embed side by side; each has a core, or a stream of a GPU, of its own.

    Threads that share one forward pass instead wait for each other after every layer, and for
    whatever else keeps one of the cores busy: decoding, for one.

    Attributes:
        num_devices: How many devices they share: one, or all GPUs.
        count: How many there are.
        depth: How many batches to submit before taking results, so that no lane waits.
    """

    def __init__(self, extractor: Extractor) -> None:
        """Prepare; threads start with the first batches."""
        self._extractors = extractor.on_all_gpus()
        self._num_threads = torch.get_num_threads()
        self.num_devices = len(self._extractors)
        self.count = default_num_lanes(extractor.device.type) * self.num_devices
        self.depth = self.count + 1
        self._waiting: SimpleQueue[Extractor] = SimpleQueue()  # for a thread
        for lane in range(self.count):
            self._waiting.put(self._extractors[lane % self.num_devices])
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(self.count, "lane", self._begin)

    def _begin(self) -> None:
        """Set up the thread that calls this."""
        extractor = self._own.extractor = self._waiting.get()
        if extractor.device.type == "cuda":
            torch.cuda.set_device(extractor.device)
            torch.cuda.set_stream(torch.cuda.Stream(extractor.device))  # type: ignore[no-untyped-call]
        else:
            torch.set_num_threads(1)

    @property
    def most_windows(self) -> int:
        """How many windows fit into every device at once, as far as is known."""
        return min(extractor.most_windows for extractor in self._extractors)

    def submit(self, windows: Windows) -> Future[Timed]:
        """Embed a batch as soon as a lane is free; see `Extractor.embed_and_time`."""
        return self._pool.submit(self._embed, windows)

    def _embed(self, windows: Windows) -> Timed:
        extractor: Extractor = self._own.extractor
        return extractor.embed_and_time(windows)

    def __enter__(self) -> Lanes:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what is being embedded, and drop what is not yet."""
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._num_threads)  # threads to come take over what was set last
