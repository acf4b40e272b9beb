"""Search on a Ray cluster: an actor for each shard, and another in its place if it is lost."""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Sequence, Set
from dataclasses import fields
from functools import partial
from itertools import count
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from threadpoolctl import threadpool_limits

from indexer.errors import SoundalikeError, StoreError
from indexer.run.cluster import connect
from indexer.run.seats import Node, nodes_of
from search.asking.matching import Later
from search.asking.merged import SpreadStore
from search.asking.opened import OpenedStore
from search.asking.shards import Ask, Chosen, Piece, Shard, cut
from search.asking.sound_index import SoundIndex

#: How long the first actor of a shard may take until it has opened it, in seconds: machines may
#: have to be started for it.
_FIRST_S = 300.0
#: How long another in its place may, from the loss on: a process takes some seconds. Nobody waits
#: for an answer much longer; whoever asks later has it, if it is there by then.
_AGAIN_S = 30.0
#: Conditions up to this, in bytes, go along with the call of each shard. One may have the ids of
#: all windows, and is put into the cluster once for all: with 10^6 ids 12 shards answered in 76 ms,
#: and in 104 to 117 before. Ray itself puts what is larger, once for each call.
_MOST_WITH_CALL_BYTES = 100_000

T = TypeVar("T")


class Spread:
    """What spreads the work of searching over a cluster."""

    def __init__(self, address: str | None) -> None:
        """Connect to the cluster.

        Args:
            address: As `indexer.run.cluster.connect` takes it.

        Raises:
            SoundalikeError: If Ray is not installed, or no cluster answers there.
        """
        self._ray = connect(address)
        # They take what is free: one that waits for a CPU would leave out what it has.
        self._kind = self._ray.remote(num_cpus=0)(_Actor)
        self._turns = count()

    def over(self, index: SoundIndex) -> SoundIndex:
        """Return the same stores with their segments in shards, as many as the cluster has CPUs.

        Every machine has to see the stores at the same paths. The shards are opened meanwhile; they
        end when what is returned is used no more.
        """
        num_cpus = max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        pieces = cut(index.opened, num_cpus)
        num_threads = max(1, num_cpus // max(1, sum(map(len, pieces))))
        return SoundIndex(
            [
                _spread(one, _Crew(self._ray, some, partial(self._make, num_threads)))
                for one, some in zip(index.opened, pieces, strict=True)
            ]
        )

    def _make(self, num_threads: int, piece: Piece) -> Any:
        from ray.util.scheduling_strategies import (  # noqa: PLC0415 - it takes a second
            NodeAffinitySchedulingStrategy,
        )

        places = in_turn(sorted(nodes_of(self._ray)))
        # What needs no CPU goes anywhere, unless it may go nowhere else: of "SPREAD" and of a soft
        # affinity, Ray's scheduler takes no notice then.
        where = NodeAffinitySchedulingStrategy(places[next(self._turns) % len(places)], soft=False)
        return self._kind.options(scheduling_strategy=where).remote(piece, num_threads)


def in_turn(nodes: Sequence[Node]) -> list[str]:
    """Return the ids of machines, one for each CPU, so that no machine is named twice in a round.

    A machine that gives no CPU is left out, unless none gives any.
    """
    num_rounds = max(int(one.num_cpus) for one in nodes)
    rounds = [one.node_id for turn in range(num_rounds) for one in nodes if turn < one.num_cpus]
    return rounds or [one.node_id for one in nodes]


def _spread(one: OpenedStore, crew: _Crew) -> SpreadStore:
    own = {each.name: getattr(one, each.name) for each in fields(OpenedStore)}
    return SpreadStore(**own, crew=crew)


class _Failed(NamedTuple):
    """An error that is the question's or the data's: it travels as an answer."""

    error: SoundalikeError


class _Actor:
    """One shard, in a process of its own on any machine of the cluster."""

    def __init__(self, piece: Piece, num_threads: int) -> None:
        self._piece, self._num_threads = piece, num_threads

    def open(self) -> _Failed | None:
        threadpool_limits(self._num_threads)
        try:
            self._shard = Shard(self._piece)
        except StoreError as error:
            on = f"on {platform.node()} of the Ray cluster: {error}"
            return _Failed(StoreError(on, about=error.about, value=error.value))
        return None

    def ask(self, asked: tuple[Chosen, Ask[Any]]) -> Any:
        chosen, ask = asked
        try:
            return self._shard.ask(chosen, ask)
        except SoundalikeError as error:
            return _Failed(error)


class _Call(NamedTuple):
    """What is waited for: that a shard is open, or its answer."""

    member: int
    actor: Any
    is_answer: bool


class _Member:
    """The actor that has a shard now, and others in its place. Threads share it."""

    def __init__(self, number: int, make: Callable[[], Any]) -> None:
        self._number, self._make = number, make
        self._changing = threading.Lock()
        self.waits_until = monotonic() + _FIRST_S
        self._begin()

    def _begin(self) -> None:
        self._actor = self._make()
        self._opening = self._actor.open.remote()
        self._is_open = self._has_answered = False

    def call(self, asked: Any) -> tuple[Any, _Call]:
        """Ask it, if it has its shard open; if not, that is waited for."""
        with self._changing:
            awaited = _Call(self._number, self._actor, is_answer=self._is_open)
            return self._actor.ask.remote(asked) if self._is_open else self._opening, awaited

    def came(self, call: _Call) -> None:
        """Hear that what was waited for is there."""
        with self._changing:
            if self._actor is call.actor:
                self._is_open, self._has_answered = True, self._has_answered or call.is_answer

    def replace(self, lost: Any) -> None:
        """Put another in the place of an actor that is lost, unless that was done meanwhile."""
        with self._changing:
            if self._actor is not lost:
                return
            if self._is_open:
                again = monotonic() + _AGAIN_S
                # One question after the other may be the end of it.
                self.waits_until = again if self._has_answered else min(again, self.waits_until)
            self._begin()


class _Crew:
    """The actors that have the shards of a store."""

    def __init__(self, ray: Any, pieces: Sequence[Piece], make: Callable[[Piece], Any]) -> None:
        self._ray, self.pieces = ray, tuple(pieces)
        self._members = [_Member(at, partial(make, one)) for at, one in enumerate(pieces)]
        errors = ray.exceptions
        self._losses = (
            errors.RayActorError,
            errors.ActorUnschedulableError,  # its machine went away meanwhile
            errors.ObjectLostError,
            errors.OutOfMemoryError,
        )

    def send(self, chosen: Chosen, ask: Ask[T], skipped: Set[int]) -> Later[Sequence[T | None]]:
        """Ask all of them at the same time, see `search.asking.merged.Crew`."""
        asked: Any = (chosen, ask)
        if chosen.num_bytes > _MOST_WITH_CALL_BYTES:
            asked = self._ray.put(asked)
        members = [one for number, one in enumerate(self._members) if number not in skipped]
        return partial(self._collect, dict(one.call(asked) for one in members), asked)

    def _collect(self, pending: dict[Any, _Call], asked: Any) -> Sequence[Any]:
        """Wait for all answers; a shard that is lost is asked again, and None if it stays so."""
        answers: list[Any] = [None] * len(self._members)
        while pending:
            ready, _ = self._ray.wait(list(pending), num_returns=1, timeout=self._wait_s(pending))
            if not ready:
                pending = {ref: one for ref, one in pending.items() if self._is_awaited(one)}
            for ref in ready:
                call = pending.pop(ref)
                member = self._members[call.member]
                try:
                    answer = self._get(ref, call)
                except self._losses:
                    member.replace(call.actor)
                    if monotonic() < member.waits_until:
                        pending.update([member.call(asked)])
                    continue
                member.came(call)
                if call.is_answer:
                    answers[call.member] = answer
                else:
                    pending.update([member.call(asked)])
        return answers

    def _get(self, ref: Any, call: _Call) -> Any:
        """Return what is there; an error that would come again elsewhere is raised as it is."""
        member, errors = self._members[call.member], self._ray.exceptions
        try:
            answer = self._ray.get(ref)
        except errors.RayTaskError as error:
            raise error.cause from error
        except errors.RayActorError as error:
            if not error.actor_init_failed:
                raise
            member.replace(call.actor)
            reason = str(error).splitlines()[-1]
            raise SoundalikeError(
                f"a machine of the Ray cluster cannot begin: {reason}; it has to have this version "
                f"of soundalike"
            ) from error
        if isinstance(answer, _Failed):
            if not call.is_answer:  # the next question tries again
                member.replace(call.actor)
            raise answer.error
        return answer

    def _is_awaited(self, call: _Call) -> bool:
        return call.is_answer or monotonic() < self._members[call.member].waits_until

    def _wait_s(self, pending: dict[Any, _Call]) -> float | None:
        """Return how long something may be waited for, in seconds; None for as long as it takes."""
        opening = [self._members[one.member] for one in pending.values() if not one.is_answer]
        until = min((one.waits_until for one in opening), default=None)
        return None if until is None else max(0.0, until - monotonic())
