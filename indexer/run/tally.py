"""How far a run on a cluster is: what its workers tell, and what they have done together."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from indexer.progress import Step
from indexer.run.cutting import Shard
from indexer.run.report import ExtractReport

#: How often the run asks how far its workers are, in seconds.
_ASK_S = 0.5


class Board:
    """An actor that workers tell how far they are, for the run to read; its loss harms no work."""

    def __init__(self) -> None:
        self._steps: dict[str, Step] = {}

    def tell(self, stage: str, step: Step) -> None:
        """Note how far a shard is; it is named as its folder is."""
        self._steps[stage] = step

    def read(self) -> dict[str, Step]:
        """Return what was told since the last time."""
        told, self._steps = self._steps, {}
        return told


class BoardReader:
    """What a run reads from its board.

    Attributes:
        actor: The board.
    """

    def __init__(self, ray: Any) -> None:
        """Put a board on this machine.

        Args:
            ray: The module, connected.
        """
        from ray.util.scheduling_strategies import (  # noqa: PLC0415 - an optional package
            NodeAffinitySchedulingStrategy,
        )

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.actor = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()
        self._ray = ray
        self._asked: Any = None
        self._next_at = 0.0

    def asked(self) -> list[Any]:
        """Return what is ready once the board has answered; nothing if it is not asked now."""
        if self._asked is None and time.monotonic() >= self._next_at:
            self._asked = self.actor.read.remote()
        return [] if self._asked is None else [self._asked]

    def take(self) -> dict[str, Step]:
        """Return what the board has answered."""
        asked, self._asked = self._asked, None
        self._next_at = time.monotonic() + _ASK_S
        try:
            told: dict[str, Step] = self._ray.get(asked)
        except self._ray.exceptions.RayError:  # it is lost, and nobody needs it to go on
            self._next_at = float("inf")
            return {}
        return told

    def end(self) -> None:
        """Do without the board."""
        self._ray.kill(self.actor)


class _InHand(NamedTuple):
    """A shard that a worker has, and how far it is."""

    shard: Shard
    step: Step


class Tally:
    """What is done of all files of a run, by bytes and by seconds of audio."""

    def __init__(self, num_files: int, report: ExtractReport) -> None:
        """Begin with nothing done.

        Args:
            num_files: To be read.
            report: Of the run; it grows with every shard.
        """
        self._num_files, self._report = num_files, report
        self._in_hand: dict[str, _InHand] = {}  # by the names of their folders
        self._files, self._bytes, self._audio_s = 0, 0, 0.0  # of shards that are done
        self._name = ""

    def begin(self, shard: Shard) -> None:
        """Note that a worker has a shard."""
        self._in_hand[shard.folder_name] = _InHand(shard, Step("embedding", 0, None, "file"))

    def note(self, told: dict[str, Step]) -> None:
        """Note how far shards are, by the names of their folders."""
        for folder, step in told.items():
            if folder in self._in_hand:
                self._in_hand[folder] = self._in_hand[folder]._replace(step=step)
                self._name = step.name or self._name

    def drop(self, shard: Shard) -> None:
        """Note that what was done of a shard is lost."""
        self._in_hand.pop(shard.folder_name, None)

    def finish(self, shard: Shard, audio_s: float) -> None:
        """Note that a shard is done.

        Args:
            shard: All of it.
            audio_s: Seconds of audio in it.
        """
        self.drop(shard)
        self._files += len(shard.files)
        self._bytes += shard.num_bytes
        self._audio_s += audio_s

    def step(self, bytes_left: int) -> Step:
        """Return how far the run is.

        Args:
            bytes_left: Of shards that no worker has.
        """
        steps = [one.step for one in self._in_hand.values()]
        audio_s = self._audio_s + sum(step.audio_s for step in steps)
        told = [one for one in self._in_hand.values() if one.step.total_audio_s]
        known_s = self._audio_s + sum(one.step.total_audio_s for one in told)
        known_bytes = self._bytes + sum(one.shard.num_bytes for one in told)
        silent_bytes = sum(one.shard.num_bytes for one in self._in_hand.values()) - sum(
            one.shard.num_bytes for one in told
        )
        rate = known_s / known_bytes if known_bytes else 0.0
        busy = self._report.busy()
        stage = max(busy, key=busy.__getitem__)
        return Step(
            "embedding",
            self._files + sum(step.done for step in steps),
            self._num_files,
            "file",
            audio_s=audio_s,
            total_audio_s=known_s + rate * (bytes_left + silent_bytes),
            name=self._name,
            num_failed=len(self._report.failures) + sum(step.num_failed for step in steps),
            bound=stage if busy[stage] else "",
        )
