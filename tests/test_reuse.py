"""Building again after a few files more: what is read, what stays, and that nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import unit
from synthetic import Synthetic, block_of, make_store, recording_id, table, windows_of

from indexer.errors import StoreError
from indexer.store.part import Part
from indexer.store.writer import PartWriter
from search.asking.sound_index import SoundIndex
from search.generation.frames import StoredFrames, pooled
from search.generation.mapped import array_file
from search.generation.segments import Generation
from search.upkeep.build import build


@pytest.fixture
def store(tmp_path: Path) -> Synthetic:
    return make_store(tmp_path / "store", frames="none")


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Sequence numbers of the parts whose windows are read."""
    numbers: list[int] = []
    for name in ("windows", "blocks"):
        real = getattr(Part, name)

        def counted(part: Part, *words: Any, real: Any = real) -> Any:
            numbers.append(part.sequence)
            return real(part, *words)

        monkeypatch.setattr(Part, name, counted)
    return numbers


def held(generation: Generation) -> dict[int, np.ndarray[Any, Any]]:
    """Live window id → its vector."""
    rows = generation.live_rows()
    return dict(zip(generation.window_ids(rows).tolist(), generation.vectors(rows), strict=True))


def assert_holds(generation: Generation, put: Synthetic) -> None:
    """Each live window once, with its vector, and where its recording is."""
    found, expected = held(generation), {put.windows[at].window_id: at for at in put.live()}
    assert sorted(found) == sorted(expected)
    assert len(generation.live_rows()) == generation.num_windows == len(expected)
    for window_id, at in expected.items():
        assert np.abs(found[window_id] - unit(put.scene[at])[0]).max() < 1e-7
    for segment in generation.segments:
        first = generation.recordings.first_rows(segment.windows.recording_id)
        np.testing.assert_array_equal(segment.recordings[segment.alive], first[segment.alive])


def test_build_after_a_file_more_reads_no_other_part(store: Synthetic, read: list[int]) -> None:
    for number in range(4):
        store.add({f"a{number}": 20 >> number}, seed=number)
        build(store.store)
    read.clear()
    store.add({"b": 1}, seed=9)
    store.remove("a1.wav")
    store.rename("a2.wav", "moved.wav")
    assert_holds(build(store.store), store)
    assert min(read) == 5  # the first that is new


def test_build_after_a_removal_alone_reads_no_windows(store: Synthetic, read: list[int]) -> None:
    store.add({"a": 9, "b": 2})
    build(store.store)
    read.clear()
    store.remove("b.wav")
    assert_holds(build(store.store), store)
    assert 1 not in read


def test_build_takes_small_segments_from_themselves(store: Synthetic, read: list[int]) -> None:
    store.add({"a": 2})
    build(store.store)
    store.add({"b": 3}, seed=1)
    read.clear()
    generation = build(store.store)
    assert [len(one) for one in generation.segments] == [5]
    assert set(read) == {2}
    assert_holds(generation, store)


def test_build_takes_what_is_damaged_in_a_small_segment_from_its_part(store: Synthetic) -> None:
    store.add({"a": 2})
    (segment,) = build(store.store).segments
    file = array_file(segment.path, "vectors")
    content = bytearray(file.read_bytes())
    content[5] ^= 255
    file.write_bytes(content)
    store.add({"b": 3}, seed=1)
    assert_holds(build(store.store), store)


def test_build_of_what_comes_back_finds_windows_that_only_a_part_has(store: Synthetic) -> None:
    store.add({"a": 2})
    build(store.store)
    store.remove("a.wav")
    assert build(store.store).segments == ()
    store.add({"b": 1}, seed=1)
    store.add_rows([store.row("back.wav", recording_id("a"))])
    store.paths["back.wav"] = recording_id("a")
    assert_holds(build(store.store), store)


def test_build_of_what_goes_on_finds_windows_of_the_part_before(store: Synthetic) -> None:
    """The last window of a recording, and the word on it, come after a build."""
    store.add({"a": 1})
    long, block = windows_of("long", 3), block_of("long", 3)
    with PartWriter(store.store, store.store.parts()[0].origin) as writer:
        for first, stop in ((0, 2), (2, 3)):
            scene, tags = block.scene[first:stop], block.tags[first:stop]
            part = block._replace(windows=table(long[first:stop]), scene=scene, tags=tags)
            writer.add_windows(part, None)
            if stop == 3:
                writer.add_ledger([store.row("long.wav", recording_id("long"))])
            writer.commit()
            assert build(store.store).num_windows == (1 if stop == 2 else 4)
    store.windows += long
    store.scene += list(block.scene)
    store.paths["long.wav"] = recording_id("long")
    assert_holds(Generation.current(store.store), store)


def test_build_of_windows_that_are_there_already_writes_none_of_them(store: Synthetic) -> None:
    store.add({"a": 5, "b": 1})
    first = build(store.store)
    scene = np.array(store.scene[:5])
    store.add({"a": 5, "c": 1}, scene=np.concatenate([scene, scene[:1]]), seed=1)
    second = build(store.store)
    assert {one.name for one in first.segments} < {one.name for one in second.segments}
    assert_holds(second, store)


def test_build_two_windows_under_one_id_are_an_error_in_parts_of_their_own(
    store: Synthetic,
) -> None:
    store.add({"a": 1})
    build(store.store)
    windows = table(windows_of("b", 1))
    windows.window_id[0] = store.windows[0].window_id
    with PartWriter(store.store, store.store.parts()[0].origin) as writer:
        writer.add_windows(block_of("b", 1)._replace(windows=windows), None)
        writer.add_ledger([store.row("b.wav", recording_id("b"))])
        writer.commit()
    with pytest.raises(StoreError, match="two different windows have the id"):
        build(store.store)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 4), max_size=3),
            st.sets(st.sampled_from("abcdef"), max_size=2),
        ),
        min_size=2,
        max_size=5,
    ),
    max_segment_rows=st.integers(1, 9),
)
def test_frames_are_found_after_any_builds(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[dict[str, int], set[str]]],
    max_segment_rows: int,
) -> None:
    put = make_store(tmp_path_factory.mktemp("frames") / "store", frames="pooled")
    for seed, (added, removed) in enumerate(steps):
        put.add(added, seed=seed, num_frames=2)
        put.remove(*sorted(f"{one}.wav" for one in removed if f"{one}.wav" in put.paths))
        generation = build(put.store, max_segment_rows=max_segment_rows)
        rows = generation.live_rows()
        frames = StoredFrames(put.store, generation).read(rows)
        several: dict[int, list[np.ndarray[Any, Any]]] = {}
        for window, one in zip(put.windows, put.frames, strict=True):
            several.setdefault(window.window_id, []).append(pooled(one))
        for window_id, found in zip(generation.window_ids(rows).tolist(), frames, strict=True):
            assert any(np.array_equal(found, one) for one in several[window_id])


def test_find_by_id_equals_a_look_at_every_row(tmp_path: Path) -> None:
    stores = [make_store(tmp_path / f"store {at}", frames="none") for at in range(2)]
    for at, store in enumerate(stores):
        store.add({f"{at}-{number}": 3 for number in range(10)} | {"both": 4}, seed=at)
        build(store.store, max_segment_rows=9)
        store.remove(f"{at}-3.wav")
        build(store.store, max_segment_rows=9)
    index = SoundIndex.open(*(store.store.path for store in stores))
    rows = index.live_rows()
    first: dict[int, int] = {}
    for window_id, row in zip(index.window_ids(rows).tolist(), rows.tolist(), strict=True):
        first.setdefault(window_id, row)
    every = [window.window_id for store in stores for window in store.windows]
    assert dict(index.find_all([*every, -1, 0, 2**63, *every])) == first
    assert len(first) < len(every)


@pytest.mark.parametrize("value", [-(2**31), -1, 7, 2**31 - 1])
def test_find_in_a_damaged_order_finds_nothing_wrong(store: Synthetic, value: int) -> None:
    store.add({"a": 5})
    (segment,) = build(store.store).segments
    np.full(5, value, "<i4").tofile(array_file(segment.path, "row_of_id"))
    (segment,) = Generation.current(store.store).segments
    ids = segment.windows.window_id
    found = segment.find(np.sort(ids))
    assert all(row == -1 or ids[row] == one for row, one in zip(found, np.sort(ids), strict=True))


@pytest.mark.whole
@pytest.mark.skipif(sys.platform == "win32", reason="it has no such limit")
def test_store_of_more_segments_than_files_may_be_open_is_searched(store: Synthetic) -> None:
    store.add({"a": 90})
    assert len(build(store.store, max_segment_rows=1).segments) == 90
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from search.asking.sound_index import SoundIndex\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))\n"
        "index = SoundIndex.open(Path(sys.argv[1]))\n"
        "print(len(index.segments), float(index.vectors(np.arange(90)).sum()) != 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, store.store.path],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "90 True\n", done.stderr
