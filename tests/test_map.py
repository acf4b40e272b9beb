"""Maps: like lies by like, regions have names, and what is on a map stays where it is."""

from __future__ import annotations

import csv
import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import Run
from oracle import unit
from PIL import Image
from rows_in_memory import generation, random_rows, segment
from synthetic import Synthetic, identity, make_store
from threadpoolctl import threadpool_limits

import soundalike
from indexer.errors import DamagedStoreError, IdentityError, OutputError, QueryError, StoreError
from indexer.store.own import Own
from indexer.tags import TagVocabulary
from search.map import drawing, landmarks
from search.map.clusters import divide, name_clusters
from search.map.drawing import Map, draw_map
from search.map.kept import read_landmarks
from search.map.placing import place
from search.upkeep.build import build
from search.upkeep.verify import verify
from soundalike.show.maps import SIZE, map_png

VOCABULARY = TagVocabulary.audioset()
KINDS = ("Bark", "Meow", "Siren", "Rain")
Array = np.ndarray[Any, Any]


def sounds_of(kinds: list[int], seed: int) -> tuple[Array, Array]:
    """Scenes around the centre of each kind, and tags: its own, and speech in all of them."""
    centres = np.random.default_rng(7).normal(0, 1, (len(KINDS) + 1, 768))
    rng = np.random.default_rng(seed)
    scene = (centres[kinds] + rng.normal(0, 0.3, (len(kinds), 768))).astype(np.float32)
    tags = np.full((len(kinds), 527), 0.01, np.float32)
    tags[:, VOCABULARY.resolve("Speech").index] = 0.9
    for row, kind in enumerate(kinds):
        if kind < len(KINDS):
            tags[row, VOCABULARY.resolve(KINDS[kind]).index] = 0.8
            for above in VOCABULARY.ancestors(VOCABULARY.resolve(KINDS[kind])):
                if above.index is not None:
                    tags[row, above.index] = 0.85
    return scene, tags


def add(made: Synthetic, name: str, kinds: list[int], seed: int) -> None:
    scene, tags = sounds_of(kinds, seed)
    made.add({name: len(kinds)}, scene=scene, tags=tags)
    build(made.store)


def kind_of(made: Synthetic, found: Map) -> Array:
    """Which kind each window of a map is of, as it was put in."""
    told = {
        window.window_id: int(np.argmax([row[VOCABULARY.resolve(one).index] for one in KINDS]))
        for window, row in zip(made.windows, made.tags, strict=True)
    }
    return np.array([told[one] for one in found.window_ids.tolist()])


@pytest.fixture
def made(tmp_path: Path) -> Synthetic:
    made = make_store(tmp_path / "store", frames="none")
    add(made, "first", [0, 1, 2, 3] * 20, seed=1)
    return made


def same(one: Map, other: Map) -> bool:
    arrays = ("window_ids", "xy", "cluster")
    return one.clusters == other.clusters and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


def test_like_lies_by_like_and_regions_are_named_by_what_only_they_have(made: Synthetic) -> None:
    found = soundalike.open(made.store.path).map()
    assert found.window_ids.tolist() == sorted(one.window_id for one in made.windows)
    assert found.xy.dtype == np.float32
    assert (found.xy.min(), found.xy.max()) == (0, 1)
    kinds = kind_of(made, found)
    away = np.linalg.norm(found.xy[:, None] - found.xy, axis=2) + np.eye(len(found)) * 9
    near = np.argsort(away, axis=1)[:, :5]
    assert (kinds[near] == kinds[:, None]).mean() > 0.95
    assert sum(one.num_windows for one in found.clusters) == len(found) == 80
    for number, cluster in enumerate(found.clusters):
        mine = found.cluster == number
        assert cluster.num_windows == mine.sum()
        (kind,) = set(kinds[mine])
        assert cluster.name == KINDS[kind]  # neither speech nor the more general tags
        low, high = found.xy[mine].min(0), found.xy[mine].max(0)
        assert (low <= np.array(cluster.centre, np.float32)).all()
        assert (np.array(cluster.centre, np.float32) <= high).all()


@pytest.mark.whole
def test_map_is_the_same_to_the_bit_whatever_the_threads_and_the_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    vectors, tags = random_rows(rng, 150)
    ids = rng.permutation(10**6)[:150]
    orders = np.arange(150), rng.permutation(150)
    drawn = []
    for number, (threads, order) in enumerate([(1, orders[0]), (2, orders[0]), (2, orders[1])]):
        rows = generation(segment(0, vectors[order], tags[order], ids[order]))
        with threadpool_limits(threads):
            own = Own(tmp_path / str(number))
            drawn.append(draw_map(rows, identity(), own, tmp_path))
    assert same(drawn[0], drawn[1])
    assert same(drawn[0], drawn[2])


def test_new_windows_are_placed_and_old_ones_do_not_move(made: Synthetic) -> None:
    sounds = soundalike.open(made.store.path)
    before = sounds.map()
    assert (before.num_added, before.num_drawn) == (80, 80)
    files = {file: file.read_bytes() for file in (sounds.own.folder / "map").glob("*.safetensors")}
    add(made, "second", [0, 1, 2, 3] * 10, seed=2)
    shutil.rmtree(made.store.path / "index")
    build(made.store)
    after = sounds.map()
    assert (len(after), after.num_added, after.num_drawn) == (120, 40, 80)
    at = np.searchsorted(after.window_ids, before.window_ids)
    assert np.array_equal(after.window_ids[at], before.window_ids)
    assert np.array_equal(after.xy[at], before.xy)  # a hundredth would be allowed
    assert np.array_equal(after.cluster[at], before.cluster)
    names = [after.clusters[number].name for number in after.cluster.tolist()]
    assert names == [KINDS[kind] for kind in kind_of(made, after).tolist()]
    changed = {file.name for file, content in files.items() if file.read_bytes() != content}
    assert changed == {"points.safetensors"}
    again = soundalike.open(made.store.path).map()
    assert same(again, after)
    assert again.num_added == 0
    assert sounds.map(anew=True).num_drawn == 120


def test_windows_lie_between_their_nearest_landmarks() -> None:
    """The same by NumPy in float64, window by window."""
    rng = np.random.default_rng(5)
    known, asked = unit(rng.normal(size=(50, 768))), unit(rng.normal(size=(30, 768)))
    places = rng.random((50, 2), np.float32)
    own = np.full(30, -1)
    asked[4], own[4] = known[17], 17
    found = place(asked.astype(np.float32), known.astype(np.float32), places, own)
    for row in range(30):
        cosines = known @ asked[row]
        if own[row] >= 0:
            cosines[own[row]] = -1
        near = np.argsort(-cosines)[:3]
        assert found.nearest[row] == near[0]
        assert found.cosine[row] == pytest.approx(cosines[near[0]], abs=1e-5)
        squared = 2 - 2 * cosines[near]
        weights = np.exp(-4 * (squared - squared[0]) / (squared[2] - squared[0]))
        mean = (weights[:, None] * places[near]).sum(0) / weights.sum()
        expected = places[17] if row == 4 else mean
        assert found.xy[row] == pytest.approx(expected, abs=1e-3)


def test_many_windows_are_placed_among_few_landmarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landmarks, "MAX_LANDMARKS", 60)
    monkeypatch.setattr(drawing, "_BLOCK_ROWS", 64)
    kinds = [number % 4 for number in range(400)]
    scene, tags = sounds_of(kinds, seed=4)
    ids = np.random.default_rng(1).permutation(10**6)[:400]
    rows = generation(segment(0, unit(scene).astype(np.float32), tags.astype(np.float16), ids))
    heard: list[Any] = []
    found = draw_map(rows, identity(), Own(tmp_path), tmp_path, heard.append)
    assert heard[0].what == "laying out landmarks"
    assert [one.done for one in heard[1:]] == [64, 128, 192, 256, 320, 384, 400]
    kind = np.array(kinds)[found.rows]
    assert np.array_equal(found.window_ids, ids[found.rows])
    names = [found.clusters[number].name for number in found.cluster.tolist()]
    assert names == [KINDS[one] for one in kind.tolist()]
    assert len(np.unique(found.xy, axis=0)) > 300  # no heap on each landmark
    assert found.num_far == 4  # one in a hundred, as always when a map was just drawn


def test_windows_that_are_gone_are_left_out_and_come_back_where_they_were(made: Synthetic) -> None:
    add(made, "second", [0, 1] * 10, seed=2)
    sounds = soundalike.open(made.store.path)
    before = sounds.map()
    lost = made.paths["second.wav"]
    made.remove("second.wav")
    build(made.store)
    after = sounds.map()
    assert len(after) == 80
    is_left = np.isin(before.window_ids, after.window_ids)
    assert np.array_equal(before.xy[is_left], after.xy)
    assert sum(one.num_windows for one in after.clusters) == 80
    made.add_rows([made.row("second.wav", lost)])
    build(made.store)
    assert np.array_equal(sounds.map().xy, before.xy)


def test_map_of_several_stores_has_each_window_once(made: Synthetic, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", frames="none")
    add(other, "first", [0, 1, 2, 3] * 20, seed=1)  # the same recording
    add(other, "third", [1, 2] * 15, seed=3)
    alone = soundalike.open(made.store.path).map()
    both = soundalike.open(made.store.path, other.store.path).map()
    assert len(both) == 110
    assert len(np.unique(both.window_ids)) == 110
    assert np.array_equal(both.xy[np.isin(both.window_ids, alone.window_ids)], alone.xy)
    assert not (other.store.path / "own").exists()


def test_too_few_windows_are_told(tmp_path: Path) -> None:
    few = make_store(tmp_path / "few", frames="none")
    for kinds, told in (([], "0 windows"), ([0, 1, 2], "3 windows")):
        add(few, f"of {len(kinds)}", kinds, seed=1)
        with pytest.raises(QueryError, match=f"a map takes 10 windows at least, .*{told}"):
            soundalike.open(few.store.path).map()
    add(few, "more", [0, 1, 2, 3, 0, 1, 2], seed=2)
    found = soundalike.open(few.store.path).map()
    assert (len(found), len(found.clusters)) == (10, 2)
    with pytest.raises(StoreError, match="no index yet"):
        soundalike.open(make_store(tmp_path / "none", frames="none").store.path).map()


def test_map_of_few_windows_is_not_outgrown_when_it_was_just_drawn(tmp_path: Path) -> None:
    vectors, tags = random_rows(np.random.default_rng(3), 12)
    rows, own = generation(segment(0, vectors, tags)), Own(tmp_path)
    found = draw_map(rows, identity(), own, tmp_path)
    assert (found.num_far, found.is_outgrown) == (1, False)


def test_windows_that_are_all_the_same_have_a_map(tmp_path: Path) -> None:
    tags = np.zeros((20, 527), np.float16)
    vectors = np.zeros((20, 768), np.float32)
    vectors[:, 0] = 1
    found = draw_map(generation(segment(0, vectors, tags)), identity(), Own(tmp_path), tmp_path)
    assert np.isfinite(found.xy).all()
    assert all(one.tags == () and one.name == "mixed" for one in found.clusters)


def test_damaged_vectors_have_no_place(tmp_path: Path) -> None:
    vectors, tags = random_rows(np.random.default_rng(3), 50)
    vectors[3], vectors[4], vectors[5] = np.nan, 0, np.inf
    rows, own = generation(segment(0, vectors, tags)), Own(tmp_path)
    for _ in range(2):
        found = draw_map(rows, identity(), own, tmp_path)
        assert (len(found), found.num_damaged) == (47, 3)
        assert not np.isin([3, 4, 5], found.window_ids).any()


def test_library_that_has_become_another_has_outgrown_its_map(made: Synthetic, run: Run) -> None:
    path = made.store.path
    assert not soundalike.open(path).map().is_outgrown
    add(made, "alike", [0, 1, 2, 3] * 5, seed=2)
    assert not soundalike.open(path).map().is_outgrown
    add(made, "unheard of", [4] * 10, seed=3)
    found = soundalike.open(path).map()
    assert found.is_outgrown
    assert 10 <= found.num_far < 20
    said = run("map", path).out
    assert f"outgrown its map: 80 windows when it was drawn, and {found.num_far} now" in " ".join(
        said.split()
    )
    assert "outgrown" not in run("map", path, "--anew").out


def test_library_that_has_grown_has_outgrown_few_landmarks(made: Synthetic) -> None:
    soundalike.open(made.store.path).map()
    add(made, "more", [0, 1, 2, 3] * 60, seed=2)
    assert soundalike.open(made.store.path).map().is_outgrown  # four times as many


@pytest.mark.parametrize("name", ["landmarks", "points"])
def test_damage_says_what_to_do(tmp_path: Path, run: Run, name: str) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add({"all": 20})
    build(made.store)
    path = made.store.path
    drawn = soundalike.open(path).map()
    file = path / "own" / "map" / f"{name}.safetensors"
    assert verify(path) == []
    content = bytearray(file.read_bytes())
    content[-7] ^= 1
    file.write_bytes(content)
    with pytest.raises(DamagedStoreError, match="do not match their digest; bring it back"):
        soundalike.open(path).map()
    assert [problem.path for problem in verify(path)] == [file]
    assert run("map", path, code=1).err.rstrip().endswith(f"run: soundalike map {path} --anew")
    file.write_bytes(content[:100])
    with pytest.raises(DamagedStoreError, match="bring it back"):
        soundalike.open(path).map()
    assert same(soundalike.open(path).map(anew=True), drawn)
    assert verify(path) == []
    file.unlink()
    assert same(soundalike.open(path).map(), drawn)


def test_map_of_another_checkpoint_is_not_taken(made: Synthetic, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", frames="none", weights="b" * 64)
    add(other, "first", [0, 1, 2, 3] * 5, seed=1)
    shared = tmp_path / "shared"
    soundalike.open(made.store.path, own=shared).map()
    with pytest.raises(IdentityError, match="another checkpoint's windows: weights aaaa"):
        soundalike.open(other.store.path, own=shared).map()
    with pytest.raises(IdentityError, match="cannot be searched together"):
        soundalike.open(made.store.path, other.store.path).map()
    assert not (made.store.path / "own").exists()


def test_names_are_what_tells_a_region_from_the_rest() -> None:
    """By hand: 40 windows of 100 are speech everywhere, a siren is in all of one region only."""
    heard = np.zeros((3, 527), np.int64)
    speech, siren, bark, dog = (
        VOCABULARY.resolve(one).index for one in ("Speech", "Siren", "Bark", "Dog")
    )
    heard[:, speech] = 40
    heard[0, siren] = 100
    heard[1, bark], heard[1, dog] = 60, 70
    heard[2, siren] = 3  # in few of it
    names = name_clusters(heard, np.array([100, 100, 100]))
    assert [[tag.name for tag in one] for one in names] == [["Siren"], ["Bark"], []]


def test_regions_are_heaps_of_landmarks_numbered_by_size() -> None:
    centres = np.array([[0.1, 0.1], [0.9, 0.9], [0.1, 0.9], [0.9, 0.1]])
    kinds = np.repeat([2, 0, 3, 1], [10, 40, 20, 30])
    away = np.random.default_rng(2).normal(0, 0.01, (100, 2))
    places = (centres[kinds] + away).astype(np.float32)
    expected = np.array([0, 1, 3, 2])[kinds]
    assert divide(places, 8).tolist() == expected.tolist()  # four of 8 windows
    numbers = [int(divide(places, number).max()) + 1 for number in (8, 100, 10**4, 10**8)]
    assert numbers == [4, 8, 24, 25]  # four landmarks each at the least


def test_map_that_another_has_drawn_meanwhile_is_taken(
    made: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two begin at once, and the second has more windows: points of the first stay where they are.

    The second waits for the lock while the first draws: each begins by reading that nothing is
    kept, which is made sure of here.
    """
    reads = [None]

    def read(own: Own, store: Path) -> Any:
        return reads.pop() if reads else read_landmarks(own, store)

    drawn = soundalike.open(made.store.path).map()
    made.add({"more": 30}, seed=9)
    build(made.store)
    monkeypatch.setattr(drawing, "read_landmarks", read)
    found = soundalike.open(made.store.path).map()
    assert not reads
    where = dict(zip(found.window_ids.tolist(), found.xy.tolist(), strict=True))
    assert len(found) == len(drawn) + 30 == len(drawn) + found.num_added
    for window_id, xy in zip(drawn.window_ids.tolist(), drawn.xy.tolist(), strict=True):
        assert where[window_id] == xy


def test_command_tells_regions_and_writes_tables_and_a_picture(
    made: Synthetic, run: Run, tmp_path: Path
) -> None:
    path = made.store.path
    told = run("map", path, "--output", tmp_path / "map.csv")
    found = soundalike.open(path).map()
    assert told.out.startswith(f"80 windows in {len(found.clusters)} regions, written to ")
    assert all(kind in told.out for kind in KINDS)
    data = run("map", path, "--output", tmp_path / "map.parquet", "--format", "json").data
    assert data["windows"] == 80
    assert data["added"] == 0
    assert [one["windows"] for one in data["clusters"]] == [c.num_windows for c in found.clusters]
    text = (tmp_path / "map.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    table = pq.read_table(tmp_path / "map.parquet").to_pylist()
    by_id = {one.window_id: one for one in made.windows}
    for number, (row, other) in enumerate(zip(rows, table, strict=True)):
        window = by_id[int(row["window_id"])]
        assert other["window_id"] == found.window_ids[number] == window.window_id
        assert other["start_s"] == float(row["start_s"]) == window.start_s
        assert Path(row["path"]).name == Path(other["path"]).name == "first.wav"
        assert (other["x"], other["y"]) == tuple(found.xy[number].tolist())
        assert other["tags"] == row["tags"] == found.clusters[int(row["cluster"])].name
    run("map", path, "--output", tmp_path / "map.png", "--quiet")
    content = (tmp_path / "map.png").read_bytes()
    assert content == map_png(found)
    picture = Image.open(io.BytesIO(content))
    assert picture.width == SIZE
    pixels = np.asarray(picture).reshape(-1, 3)
    assert (pixels == 255).all(1).mean() > 0.9
    coloured = pixels[np.ptp(pixels.astype(int), axis=1) > 60]
    assert len(coloured) > 80 * 50  # a dot of each window


def test_table_has_no_path_that_is_a_formula_and_names_of_several_lines(tmp_path: Path) -> None:
    """The place of a library is what a store from elsewhere says."""
    made = make_store(tmp_path / "store", frames="none", root=Path("=1+1"))
    made.add({"a": 10, "two\rlines": 10, r"odd\xff": 10})
    build(made.store)
    soundalike.open(made.store.path).map(output=tmp_path / "map.csv")
    with (tmp_path / "map.csv").open(newline="") as file:
        paths = {row["path"] for row in csv.DictReader(file)}
    assert paths == {"./=1+1/a.wav", "./=1+1/two\rlines.wav", r"./=1+1/odd\xff.wav"}


def test_output_that_cannot_be_written_is_told_before_anything_is_drawn(
    made: Synthetic, run: Run, tmp_path: Path
) -> None:
    sounds = soundalike.open(made.store.path)
    with pytest.raises(OutputError, match=r"map\.svg says no format; call it something\.png"):
        sounds.map(output=tmp_path / "map.svg")
    (tmp_path / "map.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="is there already"):
        sounds.map(output=tmp_path / "map.png")
    assert not sounds.own.folder.exists()
    run("map", made.store.path, "--output", tmp_path / "map.png", "--force", "--quiet")
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert "goes with --output" in run("map", made.store.path, "--force", code=2).err


def test_names_of_regions_in_one_place_are_written_apart(made: Synthetic) -> None:
    found = soundalike.open(made.store.path).map()
    named = found.clusters[0]._replace(centre=(0.5, 0.5))
    ink = []
    for number in (1, 2, 5):
        clusters = (named,) * number + (named._replace(tags=()),) * len(found.clusters)
        picture = Image.open(io.BytesIO(map_png(replace(found, clusters=clusters))))
        ink.append(int((np.asarray(picture).max(2) < 60).sum()))
    assert ink[1:] == [pytest.approx(2 * ink[0], rel=0.1), pytest.approx(5 * ink[0], rel=0.1)]
