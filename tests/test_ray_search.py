"""Search on a Ray cluster of two nodes: what one process answers, whatever is killed on the way."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from conftest import Run
from in_shards import TERMS, Made, assert_same, make_stores, told
from ray_cluster import NUM_CPUS, is_running, of_ray, parent, pids, the_ray
from ray_cluster import cluster as cluster
from synthetic import make_store
from web_server import serving

import soundalike
import soundalike.spread
from indexer.errors import SoundalikeError, StoreError
from search.filters.selected import Selected
from search.upkeep.build import build
from soundalike.sounds import Sounds

pytestmark = [pytest.mark.slow, pytest.mark.whole, of_ray]

#: A process of the tests may wait for others on two cores, in seconds.
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def one_store(whole: None, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_stores(tmp_path_factory.mktemp("one"), 1)


@pytest.fixture(scope="module")
def four_stores(whole: None, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_stores(tmp_path_factory.mktemp("four"), 4)


@pytest.fixture(scope="module")
def in_shards(cluster: Any, one_store: Made) -> Sounds:
    return soundalike.open(*one_store.paths, ray=cluster.address)


@pytest.fixture(scope="module")
def over_stores(cluster: Any, four_stores: Made) -> Sounds:
    return soundalike.open(*four_stores.paths, ray=cluster.address)


def crews(sounds: Sounds) -> list[Any]:
    return [one.crew for one in sounds._kept.open_newest().opened]  # type: ignore[attr-defined]


def members(sounds: Sounds) -> list[Any]:
    """What has the shards of the first store, open."""
    sounds.count()
    return list(crews(sounds)[0]._members)


def processes(sounds: Sounds) -> list[int]:
    return pids(one._actor for one in members(sounds))


def wait_for(condition: Any) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.fixture
def killing() -> Iterator[Any]:
    """Kills an actor while questions are asked, and after that another."""
    killed: list[int] = []

    def kill(pids: list[int]) -> None:
        for pid in pids:
            time.sleep(0.05)
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    def begin(*pids: int) -> list[int]:
        threads.append(threading.Thread(target=kill, args=[list(pids)]))
        threads[-1].start()
        return killed

    threads: list[threading.Thread] = []
    yield begin
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("name", TERMS)
def test_four_shards_are_one_store(
    in_shards: Sounds, one_store: Made, killing: Any, name: str
) -> None:
    plain = soundalike.open(*one_store.paths)
    if name == "1 %":
        before = processes(in_shards)
        killed = killing(before[0])
    assert_same(in_shards, plain, one_store, **TERMS[name])
    if name == "1 %":
        assert killed == before[:1]
        after = processes(in_shards)
        assert (after[0] != before[0], after[1:] == before[1:]) == (True, True)
    (crew,) = crews(in_shards)
    assert len(crew.pieces) == 2 * NUM_CPUS


@pytest.mark.parametrize("name", TERMS)
def test_four_stores_are_a_shard_each(over_stores: Sounds, four_stores: Made, name: str) -> None:
    plain = soundalike.open(*four_stores.paths)
    assert_same(over_stores, plain, four_stores, **TERMS[name])
    assert [len(crew.pieces) for crew in crews(over_stores)] == [1, 1, 1, 1]


def test_shards_are_on_both_nodes(cluster: Any, one_store: Made) -> None:
    sounds = soundalike.open(*one_store.paths, ray=cluster.address)
    assert sorted(Counter(map(parent, processes(sounds))).values()) == [NUM_CPUS, NUM_CPUS]


def test_machine_that_goes_away_is_done_without(cluster: Any, one_store: Made) -> None:
    node = cluster.add_node(num_cpus=NUM_CPUS)
    try:
        sounds = soundalike.open(*one_store.paths, ray=cluster.address)
        counts = Counter(map(parent, processes(sounds)))
        (gone,) = (one.process.pid for one in node.all_processes["raylet"])
        assert (counts[gone], len(counts)) == (NUM_CPUS, 3)
    finally:
        cluster.remove_node(node)
    plain = soundalike.open(*one_store.paths)
    for asked in one_store.ids[:5]:
        assert told(sounds.search(asked)) == told(plain.search(asked))
    assert gone not in map(parent, processes(sounds))


def test_duplicates_are_those_of_one_process(in_shards: Sounds, one_store: Made) -> None:
    assert in_shards.duplicates() == soundalike.open(*one_store.paths).duplicates()


def test_a_selection_is_pickled_for_all_shards_at_once(
    in_shards: Sounds, one_store: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have the ids of all windows; here it is larger than what goes along with a call."""
    num_pickled = 0

    def reduce(selected: Selected, _: Any) -> Any:
        nonlocal num_pickled
        num_pickled += 1
        return Selected, tuple(selected)

    ids = [*one_store.ids[:50], *range(20_000)]
    plain = soundalike.open(*one_store.paths)
    part, same = in_shards.select(ids), plain.select(ids)
    monkeypatch.setattr(Selected, "__reduce_ex__", reduce)
    for queries in ([one_store.vectors[0]], []):
        num_pickled = 0
        answer = in_shards.search(*queries, tags=[part])
        assert 0 < num_pickled < len(members(in_shards))
        assert answer.hits == plain.search(*queries, tags=[same]).hits
        assert answer.hits


def test_questions_go_on_while_actors_are_killed(
    in_shards: Sounds, one_store: Made, killing: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """And nothing is printed about it."""
    plain = soundalike.open(*one_store.paths)
    expected = [told(plain.search(one)) for one in one_store.ids]
    before = processes(in_shards)
    killed = killing(*before[1:3])
    assert [told(in_shards.search(one)) for one in one_store.ids] == expected
    wait_for(lambda: len(killed) == 2)
    the_ray().kill(members(in_shards)[0]._actor)
    assert [told(in_shards.search(one)) for one in one_store.ids] == expected
    after = processes(in_shards)
    assert not set(before[:3]) & set(after)
    assert after[3] == before[3]
    assert capfd.readouterr() == ("", "")


def test_threads_ask_while_an_actor_is_killed(
    in_shards: Sounds, one_store: Made, killing: Any
) -> None:
    plain = soundalike.open(*one_store.paths)
    expected = [told(plain.search(one)) for one in one_store.ids[:8]]
    found: dict[int, Any] = {}

    def ask(number: int) -> None:
        found[number] = [told(in_shards.search(one)) for one in one_store.ids[:8]]

    threads = [threading.Thread(target=ask, args=[number]) for number in range(3)]
    killing(processes(in_shards)[0])
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [expected] * 3


def test_what_does_not_come_back_is_left_out_and_comes_later(
    cluster: Any, one_store: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another in its place waits for a machine that is not there yet."""
    ray = the_ray()
    sounds = soundalike.open(*one_store.paths, ray=cluster.address)
    asked = one_store.vectors[0]
    whole = sounds.search(asked, k=5_000, all_windows=True)
    (first, *_), piece = members(sounds), crews(sounds)[0].pieces[0]
    monkeypatch.setattr(soundalike.spread, "_AGAIN_S", 3.0)
    kind = ray.remote(num_cpus=0, resources={"nowhere yet": 1})(soundalike.spread._Actor)
    monkeypatch.setattr(first, "_make", partial(kind.remote, piece, 1))
    ray.kill(first._actor)
    began = time.monotonic()
    rest = sounds.search(asked, k=5_000, all_windows=True)
    assert 2.9 < time.monotonic() - began < PATIENCE_S / 2
    (note,) = rest.notes
    assert note.startswith("left out: ")
    assert note.endswith(f"of {piece.store} (segment 1): the machine that had them is lost")
    index = sounds._kept.open_newest()
    at = index.rows_of(hit.window_id for hit in whole)
    first_row = index.opened[0].generation.starts[piece.end]
    assert rest.hits == tuple(hit for hit, row in zip(whole, at, strict=True) if row >= first_row)
    began = time.monotonic()
    assert sounds.search(asked).notes == (note,)  # nobody waits again
    assert time.monotonic() - began < 2.9
    cluster.add_node(num_cpus=1, resources={"nowhere yet": 1})
    wait_for(lambda: not sounds.search(asked).notes)
    assert told(sounds.search(asked, k=5_000, all_windows=True)) == told(whole)


def test_an_error_of_the_data_is_that_of_one_process(cluster: Any, one_store: Made) -> None:
    ray = the_ray()
    sounds = soundalike.open(*one_store.paths, ray=cluster.address)
    (first, *_), piece = members(sounds), crews(sounds)[0].pieces[0]
    made = first._make
    kind = ray.remote(num_cpus=0)(soundalike.spread._Actor)
    first._make = partial(kind.remote, piece._replace(generation="00000000-00000000"), 1)
    ray.kill(first._actor)
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"of the Ray cluster: .*00000000-00000000 is not there"):
        sounds.search(one_store.ids[0])
    assert time.monotonic() - began < PATIENCE_S / 2
    first._make = made
    with pytest.raises(StoreError):  # from the one that was begun after that
        sounds.search(one_store.ids[0])
    assert len(sounds.search(one_store.ids[0])) == 10


def test_a_machine_without_this_version_is_an_error(
    cluster: Any, one_store: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is sent is of a module that it does not have."""
    module = ModuleType("only_here")
    module.Strange = type("Strange", (), {"__module__": "only_here"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "only_here", module)
    ray = the_ray()
    sounds = soundalike.open(*one_store.paths, ray=cluster.address)
    first = members(sounds)[0]
    kind = ray.remote(num_cpus=0)(soundalike.spread._Actor)
    first._make = partial(kind.remote, module.Strange(), 1)
    ray.kill(first._actor)
    with pytest.raises(SoundalikeError, match=r"cannot begin: .*'only_here'; it has to have this"):
        sounds.search(one_store.ids[0])


def test_newer_generations_are_followed_and_former_actors_end(cluster: Any, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", frames="none")
    store.add({f"r{at}": 4 for at in range(50)}, seed=1)
    build(store.store, max_segment_rows=60)
    sounds = soundalike.open(tmp_path / "store", ray=cluster.address)
    assert sounds.count() == 200
    before = processes(sounds)
    assert (len(before), all(map(is_running, before))) == (4, True)
    store.add({"more": 4}, seed=2)
    build(store.store, max_segment_rows=60)
    assert sounds.count() == 204
    plain = soundalike.open(tmp_path / "store")
    asked = store.windows[-1].window_id
    assert told(sounds.search(asked)) == told(plain.search(asked))
    wait_for(lambda: not any(map(is_running, before)))


def test_command_and_server_ask_the_cluster(
    cluster: Any, one_store: Made, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = one_store.paths
    monkeypatch.chdir(path.parent)  # actors begin elsewhere
    store = Path(path.name)
    words = ("search", store, one_store.ids[0], "--format", "json")
    expected = run(*words)
    assert run(*words, "--ray", cluster.address).out == expected.out
    assert run(*words, f"--ray={cluster.address}").out == expected.out
    with serving(store, "--ray", cluster.address) as server:
        hits = server.post("search", like=[{"window": str(one_store.ids[0])}])["hits"]
        assert [(int(hit["window"]), hit["score"]) for hit in hits] == [
            (hit.window_id, hit.score)
            for hit in soundalike.open(store).search(one_store.ids[0], k=len(hits))
        ]
