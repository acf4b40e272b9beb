"""The workers of a run on a cluster: who there is, who may come, and who cannot do the work."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from indexer.errors import SoundalikeError
from indexer.progress import Listen, count
from indexer.run.cutting import Shard
from indexer.run.report import ExtractReport
from indexer.run.seats import Seat, Seating, nodes_of
from indexer.run.shard_worker import Plan, ShardWorker

#: How often a run looks for machines that have joined, in seconds.
_LOOK_S = 2.0
#: Without a worker for so long, in seconds, it ends: machines may take minutes to start.
_PATIENCE_S = 900.0
#: Workers lost in a row, without a shard that is done, after which it is not the files' fault.
_MOST_BARREN = 40
#: Workers of one machine that are lost in a row before they could begin, until nobody begins there.
_MOST_UNREADY = 5
#: Machines that a sentence names, at most.
_MOST_NAMES = 8
_KEPT = "what was published is kept, and running again continues"


@dataclass(slots=True, eq=False)
class Worker:
    """An actor on its seat.

    Attributes:
        seat: Where it is.
        actor: Ray's handle of it.
        doing: What it is asked for: ready once that is done. None if it waits for a shard.
        is_ready: Whether it has loaded its network.
        shard: What it embeds.
        since: When that began, in seconds on the clock of `time.monotonic`.
        report: Of its last shard.
    """

    seat: Seat
    actor: Any
    doing: Any
    is_ready: bool = False
    shard: Shard | None = None
    since: float = 0.0
    report: ExtractReport | None = None


class Crew:
    """The workers of one run.

    Attributes:
        workers: Those that there are, and those that are asked for and have no answer yet.
    """

    def __init__(
        self,
        ray: Any,
        plan: Plan,
        seating: Seating,
        listen: Listen,
        kind: type[ShardWorker],
        board: Any,
    ) -> None:
        """Begin with nobody.

        Args:
            ray: The module, connected.
            plan: What every worker is told.
            seating: Where they sit, and how many are asked for.
            listen: Hears who comes, and who is lost.
            kind: What they are.
            board: The actor that they tell how far they are.
        """
        self._ray, self._plan, self._seating = ray, plan, seating
        self._listen, self._kind, self._board = listen, kind, board
        self.workers: list[Worker] = []
        self._refused: dict[str, tuple[Seat, SoundalikeError]] = {}  # by node
        self._num_unready: Counter[str] = Counter()  # lost in a row before they could begin
        self._look_at, self._is_short, self._num_barren = 0.0, False, 0
        self._had_one_at = time.monotonic()

    @property
    def waiting(self) -> list[Worker]:
        """Those that could begin with a shard."""
        return [one for one in self.workers if one.is_ready and one.shard is None]

    def fill_seats(self, files_left: int) -> None:
        """Put workers on free seats, now and then: those of machines that have joined, too.

        Args:
            files_left: That no worker has.

        Raises:
            SoundalikeError: If no machine of the cluster can do the work, or none was there for
                too long.
        """
        self._require_one()
        if time.monotonic() < self._look_at or not files_left:
            return
        self._look_at = time.monotonic() + _LOOK_S
        nodes = nodes_of(self._ray)
        taken = {worker.seat.key for worker in self.workers}
        free = [
            seat
            for seat in self._seating.seats(nodes)
            if seat.key not in taken and seat.node.node_id not in self._refused
        ]
        wanted = self._seating.wanted or len(free) + len(taken)
        seats = free[: max(min(wanted - len(taken), files_left), 0)]
        self.workers += map(self._begin, seats)
        if seats:
            self._listen(f"{count(len(seats), 'worker')} on {_named(seats)}")
        can_none = bool(nodes) and self._refused.keys() >= {node.node_id for node in nodes}
        if can_none and not self.workers:
            raise self._no_machine()
        is_short = files_left > len(seats) and (not self.workers or wanted > len(self.workers))
        if is_short and not self._is_short:
            self._listen(_shortage(self._seating.wanted, len(self.workers)))
        self._is_short = is_short

    def _begin(self, seat: Seat) -> Worker:
        from ray.util.scheduling_strategies import (  # noqa: PLC0415 - an optional package
            NodeAffinitySchedulingStrategy,
        )

        actor = (
            self._ray.remote(self._kind)
            .options(
                num_cpus=seat.num_cpus,
                num_gpus=seat.num_gpus,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(seat.node.node_id, soft=False),
            )
            .remote((seat.first_core, seat.num_cores), self._board)
        )
        return Worker(seat, actor, actor.prepare.remote(self._plan))

    def lose(self, worker: Worker, reason: str) -> None:
        """Do without a worker.

        Args:
            worker: That is lost.
            reason: Why.

        Raises:
            SoundalikeError: If workers are lost again and again, and nothing is done.
        """
        self._ray.kill(worker.actor)
        self.workers.remove(worker)
        self._look_at = 0.0  # somebody may take its place at once
        self._num_barren += 1
        (node_id, name), shard = worker.seat.node[:2], worker.shard
        self._num_unready[node_id] = 0 if worker.is_ready else self._num_unready[node_id] + 1
        if self._num_unready[node_id] >= _MOST_UNREADY:
            self._refused.setdefault(node_id, (worker.seat, SoundalikeError(reason)))
        had = f"; what it had in hand, {count(len(shard.files), 'file')}, is next" if shard else ""
        self._listen(f"a worker on {name} is lost: {reason}{had}")
        if self._num_barren >= _MOST_BARREN:
            raise SoundalikeError(
                f"workers are lost again and again, the last on {name}: {reason}; {_KEPT}"
            )

    def refuse(self, worker: Worker, error: SoundalikeError) -> None:
        """Do without a worker, and without its machine, which cannot do the work."""
        self._refused[worker.seat.node.node_id] = worker.seat, error
        self.lose(worker, str(error))

    def note_done(self) -> None:
        """Note that a shard is done."""
        self._num_barren = 0

    def end(self) -> None:
        """End all of them."""
        for worker in self.workers:
            self._ray.kill(worker.actor)

    def _require_one(self) -> None:
        now = time.monotonic()
        if any(worker.is_ready for worker in self.workers):
            self._had_one_at = now
        elif now - self._had_one_at > _PATIENCE_S:
            raise SoundalikeError(
                f"the cluster gave no worker for {_PATIENCE_S / 60:.0f} minutes: its machines are "
                f"not there, or not free; {_KEPT}"
            )

    def _no_machine(self) -> SoundalikeError:
        seat, error = list(self._refused.values())[-1]
        return SoundalikeError(
            f"no machine of the cluster can do it; {seat.node.name} for one: {error}",
            about=error.about,
            value=error.value,
        )


def _shortage(wanted: int | None, number: int) -> str:
    """Say that there are fewer workers than are asked for, and what the run does about it."""
    if number == 0:
        return "the cluster has no machine that is free for it; the run waits until one joins"
    return (
        f"{count(wanted or 0, 'worker')} were asked for, and the cluster has room for {number:,} "
        f"now; the others begin when machines join"
    )


def _named(seats: Sequence[Seat]) -> str:
    """Say on which machines workers are, and how many on each."""
    numbers = Counter(seat.node.name for seat in seats)
    names = [f"{name} ({number})" if number > 1 else name for name, number in numbers.items()]
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{shown} and {len(names) - _MOST_NAMES:,} more" if names[_MOST_NAMES:] else shown
