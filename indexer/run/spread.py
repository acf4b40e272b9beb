"""A run on a Ray cluster: shards of a library go to workers, and what they sealed into the store.

The run alone decides what counts. A shard of a worker that is lost is embedded anew, into another
folder: a worker that is only cut off goes on writing where nobody looks.
"""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from indexer.errors import (
    LibraryError,
    QueryError,
    SoundalikeError,
    SoundalikeWarning,
    StoreError,
    first_line,
)
from indexer.library.files import FileList
from indexer.model.known import known_as
from indexer.progress import Listen, Step, ignore
from indexer.reading.events import CRASH, Failure
from indexer.reading.interrupts import undisturbed
from indexer.run.clerk import Clerk
from indexer.run.cluster import connect
from indexer.run.config import ExtractConfig, Settings
from indexer.run.crew import Crew, Worker
from indexer.run.cutting import Cutter, Shard
from indexer.run.report import ExtractReport
from indexer.run.seats import Node, Seating, nodes_of
from indexer.run.shard_worker import Outcome, ShardWorker, Told, plan_of
from indexer.run.survey import Survey
from indexer.run.tally import BoardReader, Tally
from indexer.store.disk import remove_all
from indexer.store.publishing import publish_parts
from indexer.store.staging import sealed_parts, staging

#: How long the run waits for news before it looks whether it was told to end, in seconds.
_LOOK_S = 0.25
#: Deaths of its workers after which a shard is cut in two; of a single file, after which it failed.
_MOST_DEATHS, _MOST_DEATHS_ALONE = 2, 3
#: How Ray says that an actor was not made: its packages are missing there, for one.
_NOT_BEGUN = "error raised in its creation task"


def embed_spread(
    surveyed: Survey,
    settings: Settings,
    config: ExtractConfig,
    listen: Listen = ignore,
    *,
    address: str | None = None,
    num_workers: int | None = None,
    kind: type[ShardWorker] = ShardWorker,
) -> ExtractReport:
    """Embed what a survey found on the machines of a Ray cluster; see `indexer.run.extract`.

    Every machine sees the store and the library at the paths that they have here. What is published
    is kept whatever happens later, and running again continues.

    Args:
        surveyed: What there is to do.
        settings: Checkpoint, device and precision.
        config: How to go about it; of readers and batches it speaks for each worker.
        listen: Hears how far the run is, which workers begin, and which are lost.
        address: Of the cluster, see `indexer.run.cluster.connect`.
        num_workers: How many; None for one for each GPU, or for each machine if there is no GPU.
        kind: What workers are.

    Raises:
        LibraryError: If the library disappears, or lost more than half.
        StoreError: If the store cannot be written: a full disk, for one.
        SoundalikeError: If there is no cluster, or no machine of it can do the work; with `strict`,
            at the first file that fails.
    """
    require_workers(settings, num_workers)
    ray, store, report = connect(address), surveyed.store, surveyed.report
    nodes = nodes_of(ray)
    on_gpus = _is_on_gpus(settings.device, nodes)
    settings = replace(
        settings, device="cuda" if on_gpus else "cpu", checkpoint=_anywhere(settings.checkpoint)
    )
    report.padding, report.level = store.identity.padding, store.identity.level
    # How parts are computed, their stages say; what is written here is words on files alone.
    with surveyed.keep_books(config, "none", "none") as clerk, staging(store) as folder:
        files = surveyed.changes.to_read
        plan = plan_of(store, folder, surveyed.found, files, config, settings)
        board = BoardReader(ray)
        seating = Seating(nodes, num_workers, on_gpus=on_gpus)
        crew = Crew(ray, plan, seating, listen, kind, board.actor)
        _Spread(ray, surveyed, clerk, crew, board, folder).embed(files, listen)
    return report


def require_workers(settings: Settings, num_workers: int | None) -> None:
    """Raise unless workers can be had as they are asked for, whatever the cluster has.

    Raises:
        QueryError: If their number is none, or all are to use one GPU of one machine.
    """
    if num_workers is not None and not (isinstance(num_workers, int) and num_workers >= 1):
        raise QueryError(f"workers are a whole number, at least 1, got {num_workers!r}")
    if ":" in settings.device:
        raise QueryError(
            f"{settings.device} is one GPU of one machine, and a cluster gives each worker its "
            f"own; ask for cuda",
            about="device",
            value="cuda",
        )


class _Spread:
    """One run: which shard is whose, and what became of it."""

    def __init__(
        self,
        ray: Any,
        surveyed: Survey,
        clerk: Clerk,
        crew: Crew,
        board: BoardReader,
        folder: Path,
    ) -> None:
        self._ray, self._store, self._report = ray, surveyed.store, surveyed.report
        self._clerk, self._crew, self._board, self._folder = clerk, crew, board, folder
        self._known = [surveyed.ledger.known]
        self._back: deque[Shard] = deque()  # of workers that were lost
        self._deaths: list[tuple[Shard, str]] = []  # and of which node: it may have died, too
        self._warned: set[Told] = set()

    def embed(self, files: FileList, listen: Listen) -> None:
        """Have all files embedded, and publish them shard by shard."""
        started = time.perf_counter()
        self._cutter, self._tally = Cutter(files), Tally(len(files), self._report)
        listen(self._step())
        try:
            while self._is_unfinished():
                with undisturbed():  # Ray's own waiting loses what a signal raises
                    self._crew.fill_seats(self._files_left())
                    self._hand_out()
                    self._wait()
                listen(self._step())
        finally:
            with undisturbed():
                self._end()
            self._report.seconds["embed"] += time.perf_counter() - started

    def _files_left(self) -> int:
        return self._cutter.files_left + sum(len(shard.files) for shard in self._back)

    def _is_unfinished(self) -> bool:
        return bool(self._files_left()) or any(worker.shard for worker in self._crew.workers)

    def _step(self) -> Step:
        return self._tally.step(
            self._cutter.bytes_left + sum(shard.num_bytes for shard in self._back)
        )

    def _hand_out(self) -> None:
        for worker in self._crew.waiting:
            if shard := self._next():
                shard.attempt += 1
                worker.shard, worker.since = shard, time.monotonic()
                worker.doing = worker.actor.embed.remote(shard.files, shard.folder_name)
                self._tally.begin(shard)

    def _next(self) -> Shard | None:
        """Return the shard that comes next; what its workers died of is singled out before."""
        while self._back:
            shard = self._back.popleft()
            num_files = len(shard.files)
            if num_files > 1 and shard.num_deaths >= _MOST_DEATHS:
                self._back.extendleft(reversed(self._cutter.halve(shard)))
            elif num_files == 1 and shard.num_deaths >= _MOST_DEATHS_ALONE:
                reason = f"the worker that read it died; tried {shard.num_deaths} times"
                self._clerk.begin(shard.files)
                self._clerk.record([], None, [Failure(0, CRASH, reason)])
                self._tally.finish(shard, 0.0)
            else:
                return shard
        return self._cutter.next(len(self._crew.workers))

    def _wait(self) -> None:
        """Wait a moment, and take what comes."""
        doing = {one.doing: one for one in self._crew.workers if one.doing is not None}
        asked = [*doing, *self._board.asked()]
        if not asked:
            time.sleep(_LOOK_S)
            return
        for ref in self._ray.wait(asked, num_returns=1, timeout=_LOOK_S)[0]:
            if ref in doing:
                self._take(doing[ref])
            else:
                self._tally.note(self._board.take())

    def _take(self, worker: Worker) -> None:
        """Take what a worker has done, or what became of it."""
        errors = self._ray.exceptions
        try:
            outcome: Outcome | None = self._ray.get(worker.doing)
        except errors.RayTaskError as error:  # it lives, and says why it cannot
            self._hear(worker, error.cause)
        except errors.RayError as error:
            if worker.shard:
                self._deaths.append((worker.shard, worker.seat.node.node_id))
            self._give_back(worker)
            self._crew.lose(worker, _why_lost(error))
        else:
            worker.doing = None
            if outcome:
                self._publish(worker, outcome)
            else:
                self._welcome(worker)

    def _welcome(self, worker: Worker) -> None:
        """Note that a worker can begin; if others died there, it was not the machine."""
        worker.is_ready = True
        here = worker.seat.node.node_id
        for shard, node_id in self._deaths:
            shard.num_deaths += node_id == here
        self._deaths = [one for one in self._deaths if one[1] != here]

    def _hear(self, worker: Worker, error: BaseException) -> None:
        """Decide what follows from an error of a worker."""
        is_ours = isinstance(error, SoundalikeError)
        if isinstance(error, LibraryError) or (is_ours and not worker.shard):
            assert isinstance(error, SoundalikeError)  # it is one there, and here it may be well
            self._give_back(worker)
            self._crew.refuse(worker, error)
        elif is_ours:
            raise error
        else:
            if worker.shard:
                worker.shard.num_deaths += 1
            self._give_back(worker)
            self._crew.lose(worker, first_line(error))

    def _give_back(self, worker: Worker) -> None:
        """Let a shard be the next to be embedded, if a worker that is lost had one."""
        if shard := worker.shard:
            remove_all(self._folder / shard.folder_name)
            self._tally.drop(shard)
            self._back.appendleft(shard)

    def _publish(self, worker: Worker, outcome: Outcome) -> None:
        """Let a worker's shard, which is sealed, be part of the store."""
        clock, shard, worker.shard = time.perf_counter(), worker.shard, None
        assert shard is not None  # its outcome is what came
        stage = self._folder / shard.folder_name
        parts = sealed_parts(self._store, stage)
        if parts is None:
            raise StoreError(
                f"what a worker on {worker.seat.node.name} wrote to {stage} is not seen here; put "
                f"the store where all machines have it at the same path"
            )
        arrived = publish_parts(self._store, parts, self._known, set())
        remove_all(stage)
        self._clerk.note_published(arrived, len(shard.files))
        self._crew.note_done()
        self._cutter.learn(shard, time.monotonic() - worker.since)
        self._tally.finish(shard, outcome.audio_s)
        worker.report = outcome.report
        self._report.add(outcome.report)
        self._report.count_together([one.report for one in self._crew.workers if one.report])
        self._report.seconds["publish"] += time.perf_counter() - clock
        for told in outcome.warnings:
            if told not in self._warned:
                self._warned.add(told)
                text = f"on {worker.seat.node.name}: {told.message}"
                warnings.warn(SoundalikeWarning(text, told.about, told.value), stacklevel=2)

    def _end(self) -> None:
        """Take what is done, and end the workers; what is not done is embedded by the next run."""
        doing = {one.doing: one for one in self._crew.workers if one.shard}
        try:
            if doing:
                for ref in self._ray.wait(list(doing), num_returns=len(doing), timeout=0)[0]:
                    with suppress(self._ray.exceptions.RayError):
                        self._publish(doing[ref], self._ray.get(ref))
        finally:  # they would go on for a run that is over
            self._crew.end()
            self._board.end()


def _why_lost(error: BaseException) -> str:
    """Return in a line why a worker is no more."""
    text = str(error).strip()
    if _NOT_BEGUN in text:  # Ray shows where it was raised; the last line says what
        return f"it could not begin: {text.splitlines()[-1].strip()}"
    return "its process or its machine ended"


def _is_on_gpus(device: str, nodes: Sequence[Node]) -> bool:
    """Whether each worker has a GPU: where it is asked for, or the cluster has one."""
    return device == "cuda" or (device == "auto" and any(node.num_gpus for node in nodes))


def _anywhere(checkpoint: str | None) -> str | None:
    """Return a checkpoint as a worker finds it, whose working directory is another."""
    if checkpoint is None or known_as(checkpoint):
        return checkpoint
    return str(Path(checkpoint).resolve())
