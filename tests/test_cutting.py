"""Shards: every file in exactly one, in order, of the size that workers take some minutes for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.library.files import FileList, FoundFile
from indexer.run import cutting
from indexer.run.cutting import FIRST_BYTES, LEAST_S, MOST_FILES, SHARD_S, Cutter, Shard
from indexer.run.seats import Node, Seating
from soundalike.spread import in_turn

MB = 1 << 20


def files(*sizes: int) -> FileList:
    return FileList(FoundFile(f"{at:06d}.wav", size, 1) for at, size in enumerate(sizes))


def cut(cutter: Cutter, num_workers: int, bytes_per_s: float | None = None) -> list[Shard]:
    """Cut all of it, as for workers of one speed that end one after the other."""
    shards = []
    while shard := cutter.next(num_workers):
        shards.append(shard)
        if bytes_per_s:
            cutter.learn(shard, shard.num_bytes / bytes_per_s)
    return shards


@given(
    st.lists(st.one_of(st.just(0), st.integers(0, 2_000 * MB)), max_size=200),
    st.integers(1, 40),
    st.one_of(st.none(), st.floats(1e3, 1e9)),
)
def test_every_file_is_in_exactly_one_shard_and_in_order(
    sizes: list[int], num_workers: int, bytes_per_s: float | None
) -> None:
    given_files = files(*sizes)
    cutter = Cutter(given_files)
    shards = cut(cutter, num_workers, bytes_per_s)
    assert [file for shard in shards for file in shard.files] == list(given_files)
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert all(len(shard.files) for shard in shards)
    assert sum(shard.num_bytes for shard in shards) == cutter.num_bytes
    assert (cutter.files_left, cutter.bytes_left) == (0, 0)


def test_first_shard_is_small_the_next_take_minutes_and_the_last_are_short() -> None:
    cutter, speed = Cutter(files(*[10 * MB] * 10_000)), 4.0 * MB
    sizes = [shard.num_bytes for shard in cut(cutter, 4, speed)]
    assert sizes[0] <= FIRST_BYTES
    assert max(sizes) / speed == pytest.approx(SHARD_S, rel=0.1)
    last = [size / speed for size in sizes[-8:]]
    assert max(last) < SHARD_S / 4
    # What is left for the others when one takes the last shard is not much more than that shard.
    assert max(last) <= 2 * LEAST_S
    assert sorted(sizes[5:], reverse=True) == sizes[5:]


def test_workers_end_together() -> None:
    """Each takes a shard whenever it is free; the slowest is done soon after the fastest."""
    speeds = [1.0 * MB, 2.0 * MB, 4.0 * MB]
    cutter, free_at = Cutter(files(*[5 * MB] * 4_000)), [0.0] * 3
    while True:
        worker = min(range(3), key=free_at.__getitem__)
        shard = cutter.next(3)
        if shard is None:
            break
        seconds = shard.num_bytes / speeds[worker]
        cutter.learn(shard, seconds)
        free_at[worker] += seconds
    assert max(free_at) - min(free_at) < 60
    assert min(free_at) > 2000


def test_few_files_are_shared_by_all_workers() -> None:
    shards = cut(Cutter(files(*[MB] * 16)), 4)
    assert len(shards) >= 8
    assert max(len(shard.files) for shard in shards) == 2


def test_tiny_files_are_bounded_by_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "MOST_FILES", 100)
    shards = cut(Cutter(files(*[0] * 1000)), 1, 1e12)
    assert max(len(shard.files) for shard in shards) == 100
    assert MOST_FILES > 100


def test_file_larger_than_any_shard_is_one_of_its_own() -> None:
    shards = cut(Cutter(files(MB, 10_000 * MB, MB)), 2)
    assert [len(shard.files) for shard in shards] == [1, 1, 1]


def test_halves_of_a_shard_have_its_files_and_are_under_suspicion() -> None:
    cutter = Cutter(files(*[MB] * 5))
    shard = cutter.next(1)
    assert shard is not None
    shard.files = files(1, 2, 3)
    halves = cutter.halve(shard)
    assert [file for half in halves for file in half.files] == list(shard.files)
    assert [len(half.files) for half in halves] == [1, 2]
    assert [half.num_deaths for half in halves] == [1, 1]
    names = {one.folder_name for one in (shard, *halves)}
    halves[0].attempt += 1
    assert len(names | {halves[0].folder_name}) == 4


# --- seats ---------------------------------------------------------------------------------------

A, B, C = Node("a", "one", 8.0, 2), Node("b", "two", 4.0, 0), Node("c", "one", 8.0, 0)


def test_each_gpu_has_a_seat_with_its_share_of_the_cores() -> None:
    seats = Seating([A, B], None, on_gpus=True).seats([A, B])
    assert [(one.key, one.num_gpus, one.first_core, one.num_cores) for one in seats] == [
        (("a", 0), 1, 0, 4),
        (("a", 1), 1, 4, 4),
    ]


def test_each_machine_has_a_seat_with_all_its_cores() -> None:
    seats = Seating([A, B], None, on_gpus=False).seats([A, B])
    assert [(one.key, one.num_cpus, one.num_cores) for one in seats] == [
        (("a", 0), 8.0, 8),
        (("b", 0), 4.0, 4),
    ]


def test_more_workers_than_machines_divide_their_cores() -> None:
    seats = Seating([A, B], 4, on_gpus=False).seats([A, B])
    assert [(one.key, one.num_cpus, one.first_core, one.num_cores) for one in seats] == [
        (("a", 0), 4.0, 0, 4),
        (("b", 0), 2.0, 0, 2),
        (("a", 1), 4.0, 4, 4),
        (("b", 1), 2.0, 2, 2),
    ]


def test_cores_are_set_aside_as_whole_ones_or_as_shares_of_one() -> None:
    """Ray takes no others."""
    three = Seating([A], 3, on_gpus=False).seats([A])
    assert [(one.num_cpus, one.first_core, one.num_cores) for one in three] == [
        (2, 0, 2),
        (2, 2, 2),
        (2, 4, 2),
    ]
    small = Node("e", "three", 1.0, 0)
    shares = Seating([small], 3, on_gpus=False).seats([small])
    assert [(one.num_cpus, one.num_cores) for one in shares] == [(0.3333, 1)] * 3


def test_nodes_of_one_machine_use_other_cores_of_it() -> None:
    seats = Seating([A, C], None, on_gpus=False).seats([A, C])
    assert {one.node.node_id: one.first_core for one in seats} == {"a": 0, "c": 8}


def test_machine_that_joins_is_divided_as_those_that_were_there() -> None:
    seating = Seating([A, B], 4, on_gpus=False)
    assert len(seating.seats([A])) == 2  # the other is lost
    assert [one.key for one in seating.seats([A, C])] == [("a", 0), ("c", 0), ("a", 1), ("c", 1)]


def test_machine_without_cores_has_no_seat() -> None:
    assert Seating([A], None, on_gpus=False).seats([Node("d", "head", 0.0, 0)]) == []


def test_actors_of_a_search_are_on_machines_in_turn_as_many_as_each_has_cpus() -> None:
    nodes = [Node("a", "one", 3.0, 0), Node("b", "two", 0.0, 0), Node("c", "three", 1.0, 0)]
    assert in_turn(nodes) == ["a", "c", "a", "a"]
    assert in_turn([nodes[1]]) == ["b"]  # better there than nowhere
