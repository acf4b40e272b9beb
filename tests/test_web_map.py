"""The map over HTTP: points, colours and parts of it, and what is refused."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from synthetic import Synthetic, make_store

import soundalike
from indexer.errors import QueryError
from indexer.reading.apart import Apart
from indexer.tags import TagVocabulary
from search.asking.shades import OTHERS
from search.map.drawing import Map
from search.map.inside import lie_inside
from soundalike.web.desk import Desk
from soundalike.web.gone import NotThereError
from soundalike.web.limits import Limits
from soundalike.web.serve import guarded

pytestmark = pytest.mark.whole

LIMITS = Limits(selections=4, selected_bytes=8 * 450)
NUM_WINDOWS = 240
#: Folders, and how many recordings of ten windows each.
FOLDERS = {"a/": 8, "b/": 6, "b/c/": 10}
Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Synthetic:
    """Windows of six kinds, in three folders; one recording in four names its time."""
    made, rng = make_store(tmp_path_factory.mktemp("map") / "store"), np.random.default_rng(5)
    centres, number = rng.normal(0, 1, (6, 768)), itertools.count()
    for prefix, count in FOLDERS.items():
        names = {f"r{next(number)}": 10 for _ in range(count)}
        scene = centres[rng.integers(6, size=10 * count)] + rng.normal(0, 0.4, (10 * count, 768))
        made.add(names, scene=scene.astype(np.float32), path_prefix=prefix, seed=count)
    soundalike.open(made.store.path).build()
    return made


@pytest.fixture(scope="module")
def sounds(made: Synthetic) -> soundalike.Sounds:
    return soundalike.open(made.store.path)


@pytest.fixture(scope="module")
def desk(sounds: soundalike.Sounds, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    apart = Apart()
    yield Desk(sounds, apart, tmp_path_factory.mktemp("desk"), LIMITS)
    apart.close()


@pytest.fixture(scope="module")
def client(desk: Desk) -> TestClient:
    return TestClient(guarded(desk, frozenset({"testserver"}), None, 1))


@pytest.fixture(scope="module")
def found(sounds: soundalike.Sounds) -> Map:
    return sounds.map()


@pytest.fixture
def key(client: TestClient) -> str:
    return str(get(client, "map")["key"])


def get(client: TestClient, path: str, **params: Any) -> Any:
    response = client.get(f"/api/v1/{path}", params=params)
    assert response.status_code == 200, response.text
    return response.json()


def post(client: TestClient, path: str, status: int = 200, **body: Any) -> Any:
    response = client.post(f"/api/v1/{path}", json=body)
    assert response.status_code == status, response.text
    return response.json()


def crosses(point: Array, corners: Array) -> bool:
    """Even-odd, by one ray at a slant and a test of turns: nothing in common with what is tested.

    Args:
        point: (2,).
        corners: (m, 2).
    """
    far = point + np.array([7.3, 3.1])

    def side(one: Array, other: Array, third: Array) -> bool:
        (ax, ay), (bx, by) = other - one, third - one
        return bool(ax * by - ay * bx > 0)

    number = 0
    for first, last in zip(corners, np.roll(corners, -1, 0), strict=True):
        splits_ray = side(point, far, first) != side(point, far, last)
        number += splits_ray and side(first, last, point) != side(first, last, far)
    return number % 2 == 1


def starlike(rng: np.random.Generator, number: int) -> Array:
    """Corners all around a middle, in an order in which the border crosses itself."""
    angles = 2 * np.pi * (rng.permutation(number) + rng.uniform(0, 0.5, number)) / number
    radii = rng.uniform(0.1, 0.6, number)[:, None]
    return np.asarray(0.5 + radii * np.stack([np.cos(angles), np.sin(angles)], 1))


# --- points and colours --------------------------------------------------------------------------


def test_the_map_is_that_of_the_stores(client: TestClient, found: Map, key: str) -> None:
    told = get(client, "map")
    assert (told["num_windows"], told["is_outgrown"]) == (NUM_WINDOWS, False)
    assert [(one["name"], one["x"], one["y"], one["num_windows"]) for one in told["regions"]] == [
        (
            one.name,
            pytest.approx(one.centre[0], abs=1e-5),
            pytest.approx(one.centre[1], abs=1e-5),
            one.num_windows,
        )
        for one in found.clusters
    ]
    assert told["key"] == key
    content = client.get("/api/v1/map/points", params={"key": key}).content
    number = NUM_WINDOWS
    assert len(content) == 13 * number
    assert np.array_equal(np.frombuffer(content, "<u8", number), found.window_ids)
    x, y = np.frombuffer(content, "<u2", 2 * number, 8 * number).reshape(2, number) / 65_535
    np.testing.assert_allclose(np.stack([x, y], 1), found.xy, atol=0.6 / 65_535)
    assert np.array_equal(np.frombuffer(content, "u1", number, 12 * number), found.cluster)


def values_of(told: Any) -> Array:
    return np.frombuffer(base64.b64decode(told["values"]), np.uint8)


def test_colours_by_a_tag_are_probabilities(
    client: TestClient, made: Synthetic, found: Map, key: str
) -> None:
    vocabulary = TagVocabulary.audioset()
    probabilities = {
        window.window_id: tags for window, tags in zip(made.windows, made.tags, strict=True)
    }
    every = np.array([probabilities[one] for one in found.window_ids.tolist()], np.float32)
    for name in ("Dog", "Animal"):
        outputs = list(vocabulary.outputs(vocabulary.resolve(name), descendants=True))
        told = get(client, "map/colours", key=key, by="tag", tag=name)
        assert told["kind"] == "tag"
        assert np.array_equal(values_of(told), np.rint(every[:, outputs].max(1) * 255))
        assert values_of(told).max() > 0


def test_colours_by_a_learned_tag(
    client: TestClient, sounds: soundalike.Sounds, found: Map, key: str
) -> None:
    labelled = found.window_ids[:40].tolist()
    sounds.label("mine", yes=labelled[::2], no=labelled[1::2])
    sounds.learn("mine")
    told = get(client, "map/colours", key=key, by="tag", tag="my.mine")
    ranked = sounds.search(tags="my.mine", k=5, all_windows=True)
    values = values_of(told)
    heard = set(found.window_ids[values >= 128].tolist())
    assert {hit.window_id for hit in ranked} <= heard
    assert len(heard) == sounds.count(tags="my.mine")


def test_colours_by_folder(
    client: TestClient, sounds: soundalike.Sounds, found: Map, key: str
) -> None:
    told = get(client, "map/colours", key=key, by="folder")
    assert sorted(told["names"]) == ["a", "b", "b/c"]
    shown = [told["names"][one] for one in values_of(told)]
    for name, hit in zip(shown, sounds.windows(*found.window_ids.tolist()), strict=True):
        assert str(hit.paths[0].parent).endswith(f"library/{name}")
    assert np.bincount(values_of(told)).tolist() == [100, 80, 60]


def test_colours_by_time(
    client: TestClient, sounds: soundalike.Sounds, found: Map, key: str, tmp_path: Path
) -> None:
    told = get(client, "map/colours", key=key, by="time")
    assert told["kind"] == "place"
    starts = np.array([hit.start_s for hit in sounds.windows(*found.window_ids.tolist())])
    np.testing.assert_array_equal(values_of(told), np.rint(starts / starts.max() * 254))

    dated = make_store(tmp_path / "store")
    days = [f"S4A1_202406{day:02}_000000" for day in (1, 11, 21)]
    dated.add(dict.fromkeys([*days, "undated"], 10))
    soundalike.open(dated.store.path).build()
    there = soundalike.open(dated.store.path)
    shades = there.shades(drawn := there.map(), "time")
    assert shades.kind == "clock"
    assert shades.names == ("2024-06-01 00:00", "2024-06-21 00:01")
    hits = there.windows(*drawn.window_ids.tolist())
    whole = 20 * 86_400 + 90
    for value, hit in zip(shades.values.tolist(), hits, strict=True):
        if hit.clock is None:
            assert value == 255
        else:
            since = (hit.clock.day - 1) * 86_400 + hit.start_s
            assert value == round(since / whole * 254)


def test_windows_that_are_gone_have_no_colour_of_others(tmp_path: Path) -> None:
    """The first rows are of a folder and a day that only they have, and were looked for in vain."""
    made = make_store(tmp_path / "store", frames="none")
    for folder, day in (("a/", "01"), ("b/", "11"), ("c/", "21")):
        made.add({f"S4A1_202406{day}_000000": 10}, path_prefix=folder, seed=int(day))
    soundalike.open(made.store.path).build()
    sounds = soundalike.open(made.store.path)
    drawn = sounds.map()
    gone = sounds.windows(*drawn.window_ids.tolist())
    is_gone = np.array(["20240611" in str(hit.paths[0]) for hit in gone])
    made.remove("b/S4A1_20240611_000000.wav")
    sounds.build()
    folders = sounds.shades(drawn, "folder")
    assert folders.names == ("a", "c", OTHERS)
    assert (folders.values[is_gone] == 2).all()
    assert set(folders.values[~is_gone].tolist()) == {0, 1}
    times = sounds.shades(drawn, "time")
    assert times.kind == "clock"
    assert (times.values[is_gone] == 255).all()
    assert (times.values[~is_gone] < 255).all()

    places = make_store(tmp_path / "places", frames="none")
    places.add({"one": 15, "other": 15})
    there = soundalike.open(places.store.path)
    there.build()
    drawn = there.map()
    of_one = places.paths["one.wav"]
    is_gone = np.array(
        [hit.recording_id == of_one for hit in there.windows(*drawn.window_ids.tolist())]
    )
    places.remove("one.wav")
    there.build()
    times = there.shades(drawn, "time")
    assert times.kind == "place"
    assert (times.values[is_gone] == 255).all()
    assert sorted(times.values[~is_gone].tolist()) == [round(at / 14 * 254) for at in range(15)]


# --- parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [3, 4, 7, 40])
def test_points_in_polygons(number: int) -> None:
    rng = np.random.default_rng(number)
    xy = rng.random((500, 2), np.float32)
    corners = starlike(rng, number)
    expected = [crosses(point.astype(np.float64), corners) for point in xy]
    assert 0 < sum(expected) < 500
    assert lie_inside(xy, corners).tolist() == expected


def test_corners_and_edges_count_once() -> None:
    """Of squares that tile the plane, each point lies in exactly one, on borders too."""
    at = np.array([0, 0.25, 0.5, 0.75, 1], np.float32)
    xy = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
    square = np.array([[0, 0], [0.5, 0], [0.5, 0.5], [0, 0.5]])
    steps = (-0.5, 0, 0.5, 1)
    tiles = [lie_inside(xy, square + np.array([x, y])) for x in steps for y in steps]
    assert np.array_equal(np.sum(tiles, 0), np.ones(len(xy)))


def test_a_part_is_a_filter(
    client: TestClient, desk: Desk, sounds: soundalike.Sounds, found: Map, key: str
) -> None:
    corners = np.array([[0.05, 0.1], [0.95, 0.9], [0.95, 0.1], [0.05, 0.9]])  # crosses itself
    chosen = [crosses(point.astype(np.float64), corners) for point in found.xy]
    inside = set(found.window_ids[chosen].tolist())
    assert 20 < len(inside) < NUM_WINDOWS - 20
    part = post(client, "map/selections", 201, key=key, polygon=corners.tolist())
    assert part["num_windows"] == len(inside)
    name = part["name"]
    assert get(client, f"map/selections/{name}") == part

    everything: dict[str, Any] = {"all_windows": True, "k": 300}
    browsed = post(client, "search", tags=[name], **everything)
    assert {int(one["window"]) for one in browsed["hits"]} == inside
    without = post(client, "search", not_tags=[name], **everything)
    assert {int(one["window"]) for one in without["hits"]} == {*found.window_ids.tolist()} - inside

    like = int(found.window_ids[0])
    asked: dict[str, Any] = {"like": [{"window": str(like)}], "include_self": True, **everything}
    ranked = post(client, "search", tags=[name], **asked)
    all_ranked = sounds.search(like, include_self=True, **everything)
    assert [(int(one["window"]), one["score"]) for one in ranked["hits"]] == [
        (hit.window_id, hit.score) for hit in all_ranked if hit.window_id in inside
    ]
    assert ranked["num_matching"] == len(inside)

    tags = {"tags": [name], "threshold": 0.1}
    counts = get(client, "tags", **tags)
    assert counts["num_matching"] == len(inside)
    assert not [one for one in counts["tags"] if one["name"] == name]
    dogs = {hit.window_id for hit in sounds.search(tags="Dog", threshold=0.1, **everything)}
    (dog,) = [one for one in counts["tags"] if one["name"] == "Dog"]
    assert dog["count"] == len(dogs & inside)
    both = sounds.count(tags=["Dog", name], threshold=0.1)
    assert both == dog["count"]
    assert sounds.count(any_tags=["Dog", name], threshold=0.1) == len(dogs | inside)


def test_a_region_is_a_part(client: TestClient, found: Map, key: str) -> None:
    for number, cluster in enumerate(found.clusters):
        part = post(client, "map/selections", 201, key=key, region=number)
        assert part["num_windows"] == cluster.num_windows
    browsed = post(client, "search", tags=[part["name"]], all_windows=True, k=300)
    assert {int(one["window"]) for one in browsed["hits"]} == {
        *found.window_ids[found.cluster == number].tolist()
    }


def test_two_parts_at_once(client: TestClient, found: Map, key: str) -> None:
    halves = (
        [[-1, -1], [0.6, -1], [0.6, 2], [-1, 2]],
        [[0.4, -1], [2, -1], [2, 2], [0.4, 2]],
    )
    left, right = (post(client, "map/selections", 201, key=key, polygon=one) for one in halves)
    names = [left["name"], right["name"]]
    both = (found.xy[:, 0] > 0.4) & (found.xy[:, 0] < 0.6)
    assert get(client, "tags", tags=names)["num_matching"] == both.sum()
    assert get(client, "tags", any_tags=names)["num_matching"] == NUM_WINDOWS


def test_parts_are_forgotten(client: TestClient, desk: Desk, key: str) -> None:
    whole = [[-1, -1], [2, -1], [2, 2], [-1, 2]]
    first = post(client, "map/selections", 201, key=key, polygon=whole)["name"]
    post(client, "map/selections", 201, key=key, polygon=whole)  # too many bytes for both
    for response in (
        client.get(f"/api/v1/map/selections/{first}"),
        client.post("/api/v1/search", json={"tags": [first]}),
        client.get("/api/v1/tags", params={"not_tags": [first]}),
    ):
        assert (response.status_code, "draw it again" in response.json()["detail"]) == (404, True)
    with pytest.raises(QueryError, match="select it again"):
        desk.sounds.count(tags=first)
    small = [
        post(client, "map/selections", 201, key=key, polygon=[[0, 0], [1e-3, 0], [0, 1e-3]])["name"]
        for _ in range(LIMITS.selections + 1)
    ]
    with pytest.raises(NotThereError):
        desk.maps.selection(small[0])
    assert desk.maps.selection(small[-1]).name == small[-1]


# --- what is wrong -------------------------------------------------------------------------------


def test_another_map_is_said(client: TestClient) -> None:
    other = "0" * 32
    for response in (
        client.get("/api/v1/map/points", params={"key": other}),
        client.get("/api/v1/map/colours", params={"key": other, "by": "time"}),
        client.post("/api/v1/map/selections", json={"key": other, "region": 0}),
    ):
        assert (response.status_code, "open it again" in response.json()["detail"]) == (404, True)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"polygon": [[0, 0], [1, 1]]},
        {"polygon": [[0, 0]] * 1001},
        {"polygon": [[0, 0], [1, 1], [1, "x"]]},
        {"polygon": [[0, 0], [1, 1], [1, 1e30]]},
        {"polygon": [[0, 0], [1, 1], [1]]},
        {"polygon": [[0, 0], [1, 1], [1, 0]], "region": 1},
        {"region": -1},
        {"region": 1.5},
        {"polygon": "everything"},
        {"region": 0, "more": 1},
    ],
)
def test_wrong_parts_are_refused(client: TestClient, key: str, body: dict[str, Any]) -> None:
    response = client.post("/api/v1/map/selections", json={"key": key, **body})
    assert response.status_code == 422


def test_wrong_questions_are_refused(client: TestClient, key: str) -> None:
    for status, path, params in (
        (422, "points", {}),
        (422, "points", {"key": "../etc"}),
        (422, "colours", {"key": key, "by": "mood"}),
        (400, "colours", {"key": key, "by": "tag"}),
        (400, "colours", {"key": key, "by": "tag", "tag": "Dragon"}),
        (400, "colours", {"key": key, "by": "tag", "tag": "my.dragon"}),
        (422, "selections/my.x", {}),
        (404, "selections/selected.x", {}),
    ):
        response = client.get(f"/api/v1/map/{path}", params=params)
        assert response.status_code == status, (path, params, response.text)
        assert response.json()["detail"]


def test_flat_polygons_have_nothing_in_them(client: TestClient, key: str) -> None:
    for flat in ([[0, 0.5], [1, 0.5], [0.5, 0.5]], [[0.5, 0.5]] * 5):
        part = post(client, "map/selections", 201, key=key, polygon=flat)
        assert part["num_windows"] == 0
        assert post(client, "search", tags=[part["name"]])["hits"] == []


def test_too_few_windows_make_no_map(tmp_path: Path) -> None:
    few = make_store(tmp_path / "store")
    few.add({"one": 3})
    soundalike.open(few.store.path).build()
    apart, folder = Apart(), tmp_path / "desk"
    folder.mkdir()
    desk = Desk(soundalike.open(few.store.path), apart, folder, LIMITS)
    response = TestClient(guarded(desk, frozenset({"testserver"}), None, 1)).get("/api/v1/map")
    assert (response.status_code, "a map takes" in response.json()["detail"]) == (400, True)
