"""What a run computes: windows are read and embedded side by side, and handed to the clerk."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from indexer.audio.deferred import SourceWindows
from indexer.embedding.cores import default_num_workers
from indexer.embedding.extractor import Embeddings, Extractor, Timed, why_not_finite
from indexer.embedding.lanes import Lanes
from indexer.embedding.levelling import CutWindows
from indexer.progress import Listen, Step
from indexer.reading.batches import Batch
from indexer.reading.dataset import Work
from indexer.reading.events import Done, Failure, WindowKey
from indexer.reading.readers import load_windows, num_startable
from indexer.run.clerk import Clerk
from indexer.run.config import ExtractConfig
from indexer.run.outlook import Outlook
from indexer.run.report import ExtractReport
from indexer.windows import SAMPLE_RATE_HZ, Geometry

#: What gives the windows of a work list; takes what `load_windows` takes.
Read = Callable[..., Iterator[Batch]]


_NOTHING = torch.empty(0, 0)


class _Ahead(NamedTuple):
    """What was read and submitted, and is not recorded yet."""

    batch: Batch  # without its waveforms
    keys: list[WindowKey]
    timed: Future[Timed] | None

    @property
    def is_ready(self) -> bool:
        """Whether it can be recorded without waiting."""
        return self.timed is None or self.timed.done()


class Embedder:
    """Reads and embeds the files of one run; the clerk records what comes of them."""

    def __init__(
        self,
        extractor: Extractor,
        config: ExtractConfig,
        clerk: Clerk,
        report: ExtractReport,
        listen: Listen,
        read: Read = load_windows,
    ) -> None:
        self._extractor, self._config, self._clerk = extractor, config, clerk
        self._report, self._listen, self._read = report, listen, read
        self._spoiled: set[int] = set()  # files with an embedding that is not finite
        self._outlook = Outlook()

    def embed(self, work: Work) -> None:
        """Embed all files of a work list, and again those that the clerk wants to be read again."""
        num_files = len(work.items)
        started = time.perf_counter()
        self._outlook.begin(work.items)
        if num_files:
            self._tell(num_files)  # from here on, time counts
        while work.items:
            self._clerk.begin(work.items)
            self._spoiled = set()
            self._embed_side_by_side(work, num_files)
            work = replace(work, items=self._clerk.read_again())
            self._outlook.begin(work.items)
        self._report.seconds["embed"] += time.perf_counter() - started

    def _embed_side_by_side(self, work: Work, num_files: int) -> None:
        """Keep every lane busy; hand on what they give in the order in which it was read."""
        ahead: deque[_Ahead] = deque()
        with Lanes(self._extractor) as lanes:
            self._report.num_lanes, self._report.num_devices = lanes.count, lanes.num_devices
            for batch in self._batches(work):
                ahead.append(self._submit(batch, lanes, work.geometry))
                while ahead and (len(ahead) >= lanes.depth or ahead[0].is_ready):
                    self._hand_on(ahead.popleft())
                    self._tell(num_files)
            while ahead:
                self._hand_on(ahead.popleft())
                self._tell(num_files)
            self._report.batch_size = work.batch_size
            self._report.most_windows = min(work.batch_size, lanes.most_windows)

    def _batches(self, work: Work) -> Iterator[Batch]:
        device_type = self._extractor.device.type
        num_workers = self._config.num_workers
        if num_workers is None:
            num_workers = min(default_num_workers(device_type), len(work.items))
        num_workers = num_startable(num_workers)
        self._report.num_workers = num_workers
        for batch in self._read(
            work,
            num_workers=num_workers,
            timeout_s=self._config.timeout_s,
        ):
            self._report.seconds["decode"] += batch.read_s
            yield batch

    def _submit(self, batch: Batch, lanes: Lanes, geometry: Geometry) -> _Ahead:
        """Hand to the lanes what of a batch is to be embedded, and no copy of something else."""
        rows = [row for row, key in enumerate(batch.keys) if self._clerk.wants(key)]
        keys = [batch.keys[row] for row in rows]
        told = batch._replace(waveforms=_NOTHING)
        if not rows:
            return _Ahead(told, keys, None)
        waveforms = batch.waveforms if len(rows) == len(batch.keys) else batch.waveforms[rows]
        windows = _windows(waveforms, batch.rate_hz, keys, geometry)
        return _Ahead(told, keys, lanes.submit(windows))

    def _hand_on(self, ahead: _Ahead) -> None:
        """Give the clerk what became of a batch, once it is embedded."""
        seconds = self._report.seconds
        keys, embeddings = ahead.keys, None
        if ahead.timed:
            timed = ahead.timed.result()
            seconds["to_device"] += timed.to_device_s
            seconds["network"] += timed.network_s
            seconds["to_host"] += timed.to_host_s
            keys, embeddings = self._keep_finite(keys, timed.embeddings)
        clock = time.perf_counter()
        events = [self._judge(event) for event in ahead.batch.events]
        self._clerk.record(keys, embeddings, events)
        seconds["write"] += time.perf_counter() - clock
        self._outlook.note(ahead.batch)

    def _keep_finite(
        self, keys: list[WindowKey], embeddings: Embeddings
    ) -> tuple[list[WindowKey], Embeddings | None]:
        """Return the windows whose embeddings are finite; remember the files of the others."""
        finite = embeddings.are_finite
        if finite.all():
            return keys, embeddings
        self._spoiled.update(keys[row].item for row in np.flatnonzero(~finite))
        kept = embeddings.take(finite) if finite.any() else None
        return [keys[row] for row in np.flatnonzero(finite)], kept

    def _judge(self, event: Done | Failure) -> Done | Failure:
        """Return what became of a file, now that all of it is embedded."""
        if isinstance(event, Done) and event.item in self._spoiled:
            return Failure(event.item, "embed", why_not_finite(event.peak), event.recording_id)
        return event

    def _tell(self, num_files: int) -> None:
        outlook = self._outlook
        self._listen(
            Step(
                "embedding",
                self._clerk.num_done,
                num_files,
                "file",
                audio_s=outlook.audio_s,
                total_audio_s=outlook.total_s,
                name=outlook.name,
                num_failed=len(self._report.failures),
            )
        )


def _windows(
    waveforms: Tensor, rate_hz: int, keys: Sequence[WindowKey], geometry: Geometry
) -> CutWindows | SourceWindows:
    """Return a batch's windows as an extractor takes them."""
    if rate_hz == SAMPLE_RATE_HZ:
        return CutWindows(waveforms, torch.tensor([key.num_samples for key in keys]))
    places = [(key.start_sample % SAMPLE_RATE_HZ, key.num_samples) for key in keys]
    offsets, lengths = torch.tensor(places).unbind(1)
    return SourceWindows(
        waveforms, rate_hz, offsets, lengths, geometry.window_samples, geometry.padding
    )
