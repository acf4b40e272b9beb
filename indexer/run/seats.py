"""Where the workers of a cluster sit: each on a GPU of its own, or on some cores of a machine."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple


class Node(NamedTuple):
    """A machine of a cluster, or what it gives to the cluster.

    Attributes:
        node_id: Unique, and another one if it comes back.
        name: Of the machine, for people.
        num_cpus: Cores.
        num_gpus: GPUs.
    """

    node_id: str
    name: str
    num_cpus: float
    num_gpus: int


def nodes_of(ray: Any) -> list[Node]:
    """Return the machines of the cluster that the module `ray` is connected to, those that live."""
    return [
        Node(
            one["NodeID"],
            one["NodeManagerHostname"],
            one["Resources"].get("CPU", 0.0),
            int(one["Resources"].get("GPU", 0)),
        )
        for one in ray.nodes()
        if one["Alive"]
    ]


class Seat(NamedTuple):
    """Where one worker runs.

    Attributes:
        node: On which machine.
        number: Which of its seats, from 0 on.
        num_cpus: Cores that the cluster sets aside for it; 0 where a GPU is set aside.
        num_gpus: GPUs, 1 or 0.
        first_core: Which cores of the machine it uses, from the first that it may use …
        num_cores: … and how many.
    """

    node: Node
    number: int
    num_cpus: float
    num_gpus: int
    first_core: int
    num_cores: int

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from all others."""
        return self.node.node_id, self.number


class Seating:
    """Which seats there are.

    Attributes:
        wanted: How many workers are asked for; None for all that there are seats for.
    """

    def __init__(self, nodes: Sequence[Node], wanted: int | None, *, on_gpus: bool) -> None:
        """Decide how machines are divided; those that join later are divided as well.

        Args:
            nodes: Of the cluster.
            wanted: How many workers are asked for; None for one for each GPU, or each machine.
            on_gpus: Whether each has a GPU.
        """
        self.wanted, self._on_gpus = wanted, on_gpus
        self._each = max(1, math.ceil((wanted or 0) / max(len(nodes), 1)))

    def seats(self, nodes: Sequence[Node]) -> list[Seat]:
        """Return the seats that some machines have, the first of each machine first."""
        begun: Counter[str] = Counter()  # several nodes may be on one machine
        found = []
        for node in sorted(nodes):
            found += self._seats_of(node, begun[node.name])
            begun[node.name] += int(node.num_cpus)
        return sorted(found, key=lambda seat: (seat.number, -seat.node.num_cpus, seat.node))

    def _seats_of(self, node: Node, first_core: int) -> list[Seat]:
        count = node.num_gpus if self._on_gpus else self._each
        if not count or (not self._on_gpus and node.num_cpus <= 0):
            return []
        cores = max(1, int(node.num_cpus) // count)
        cpus, gpus = (0.0, 1) if self._on_gpus else (_claimable(node.num_cpus / count), 0)
        return [
            Seat(node, number, cpus, gpus, first_core + number * cores, cores)
            for number in range(count)
        ]


def _claimable(num_cpus: float) -> float:
    """Return as many cores as Ray sets aside: whole ones, or ten-thousandths of one."""
    return math.floor(num_cpus) if num_cpus >= 1 else math.floor(num_cpus * 10_000) / 10_000
