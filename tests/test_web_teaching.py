"""Teaching over the server: what it answers is what the stores answer, whoever else labels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient
from synthetic import Synthetic, make_store
from web_server import serving

import soundalike
from indexer.errors import QueryError
from indexer.reading.apart import Apart
from search.learned.labels import Label
from soundalike.sounds import Sounds
from soundalike.web.desk import Desk
from soundalike.web.gate import BusyError
from soundalike.web.limits import Limits
from soundalike.web.serve import guarded

pytestmark = pytest.mark.whole


@pytest.fixture
def put(tmp_path: Path) -> Synthetic:
    """60 recordings of 1 to 3 windows; those called b… have scenes of their own."""
    made = make_store(tmp_path / "store", frames="none")
    recordings = {f"{'ab'[n % 4 == 0]}{n}": 1 + n % 3 for n in range(60)}
    rng = np.random.default_rng(5)
    scene = rng.normal(0, 1, (sum(recordings.values()), 768)).astype(np.float32)
    is_b = [name[0] == "b" for name, count in recordings.items() for _ in range(count)]
    scene[is_b, :20] += 4
    made.add(recordings, scene=scene)
    soundalike.open(made.store.path).build()
    return made


@pytest.fixture
def sounds(put: Synthetic) -> Sounds:
    return soundalike.open(put.store.path)


@pytest.fixture
def desk(put: Synthetic, tmp_path: Path) -> Iterator[Desk]:
    (tmp_path / "kept").mkdir()
    apart = Apart()
    yield Desk(soundalike.open(put.store.path), apart, tmp_path / "kept", Limits())
    apart.close()


@pytest.fixture
def client(desk: Desk) -> TestClient:
    return TestClient(guarded(desk, frozenset({"testserver"}), None, 1))


def ids(put: Synthetic, letter: str) -> list[int]:
    """Ids of the windows of the recordings that are called so."""
    named = {recording for path, recording in put.paths.items() if path[0] == letter}
    return [one.window_id for one in put.windows if one.recording_id in named]


def post(client: TestClient, path: str, **body: Any) -> Any:
    response = client.post(f"/api/v1/taught{path}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def get(client: TestClient, path: str, **params: Any) -> Any:
    response = client.get(f"/api/v1/taught{path}", params=params)
    assert response.status_code == 200, response.text
    return response.json()


def teach(client: TestClient, put: Synthetic) -> None:
    """Say of some windows drawn, and of some found, what they are, and learn it."""
    some = {"yes": ids(put, "b")[:8], "no": ids(put, "a")[:9]}
    for via in ("random", "found"):
        said = {
            says: [str(one) for one in each[via == "found" :: 2]] for says, each in some.items()
        }
        post(client, "/rattle/labels", **said, via=via)
    post(client, "/rattle/learn")


def told(labels: list[Label]) -> list[tuple[int, str, str | None, str, str]]:
    return [(one.window_id, one.says, one.by, one.via, one.id) for one in labels]


def test_labels_are_those_of_the_store(client: TestClient, put: Synthetic, sounds: Sounds) -> None:
    yes, no = ids(put, "b")[:3], ids(put, "a")[:2]
    said = post(
        client,
        "/rattle/labels",
        yes=[str(one) for one in yes],
        no=[str(one) for one in no],
        by="=1",
        via="random",
    )
    found = get(client, "/rattle/labels")
    assert found["counts"] == {"yes": 3, "no": 2, "unsure": 0}
    assert found["labels"] == said["labels"]
    assert [
        (int(one["window"]), one["says"], one["by"], one["via"], one["id"])
        for one in found["labels"]
    ] == told(sounds.labels("rattle"))
    sounds.label("hiss", unsure=no[:1])
    assert get(client, "")["names"] == [
        {
            "name": name,
            "tag": f"my.{name}",
            "counts": {"yes": counts[0], "no": counts[1], "unsure": counts[2]},
            "is_learned": False,
            "trouble": None,
        }
        for name, counts in (("hiss", (0, 0, 1)), ("rattle", (3, 2, 0)))
    ]


def test_a_table_of_labels_is_read_again(
    client: TestClient, put: Synthetic, sounds: Sounds, tmp_path: Path
) -> None:
    teach(client, put)
    table = client.get("/api/v1/taught/rattle/labels.csv")
    assert table.headers["content-type"].startswith("text/csv")
    assert table.headers["content-disposition"] == 'attachment; filename="rattle.labels.csv"'
    (tmp_path / "labels.csv").write_bytes(table.content)
    sounds.import_labels("again", tmp_path / "labels.csv")
    one, other = ([row[:4] for row in told(sounds.labels(name))] for name in ("rattle", "again"))
    assert one == other


def test_a_word_is_taken_back_and_what_was_said_before_counts_again(
    client: TestClient, put: Synthetic
) -> None:
    window = str(ids(put, "b")[0])
    first = post(client, "/rattle/labels", yes=[window])["labels"][0]
    second = post(client, "/rattle/labels", no=[window])["labels"][0]
    found = post(client, "/rattle/undo")
    assert (found["undone"], found["counts_again"]) == ([second], [first])
    assert found["counts"] == {"yes": 1, "no": 0, "unsure": 0}
    assert post(client, "/rattle/undo")["undone"] == [first]
    assert post(client, "/rattle/undo")["undone"] == []


def test_undo_by_its_id_leaves_what_others_said_later(client: TestClient, put: Synthetic) -> None:
    mine, others = map(str, ids(put, "b")[:2])
    word = post(client, "/rattle/labels", yes=[mine], by="me")["labels"][0]
    post(client, "/rattle/labels", no=[others], by="you")
    assert post(client, "/rattle/undo", word=word["id"])["undone"] == [word]
    assert [one["window"] for one in get(client, "/rattle/labels")["labels"]] == [others]
    assert post(client, "/rattle/undo", word=word["id"])["undone"] == []


def test_an_import_is_taken_back_as_one_and_a_word_of_it_alone(
    client: TestClient, put: Synthetic, sounds: Sounds, tmp_path: Path
) -> None:
    rows = [f"{one},yes" for one in ids(put, "b")[:4]]
    (tmp_path / "labels.csv").write_text("\n".join(["window_id,says", *rows]))
    sounds.import_labels("rattle", tmp_path / "labels.csv")
    every = get(client, "/rattle/labels")["labels"]
    assert post(client, "/rattle/undo", word=every[1]["id"])["undone"] == [every[1]]
    assert post(client, "/rattle/undo")["undone"] == [every[3], every[2], every[0]]


def test_what_is_learned_filters_counts_and_reviews_as_the_store_does(
    client: TestClient, put: Synthetic, sounds: Sounds
) -> None:
    teach(client, put)
    assert get(client, "")["names"][0]["is_learned"]
    for terms in ({"tags": ["my.rattle"]}, {"where": "my.rattle > 0.3 and not my.rattle > 0.9"}):
        found = client.post("/api/v1/search", json={**terms, "k": 40}).json()
        expected = sounds.search(k=40, **terms)
        assert len(expected)
        assert [(int(one["window"]), one["score"]) for one in found["hits"]] == [
            (one.window_id, one.score) for one in expected
        ]
        counted = client.get("/api/v1/tags", params=terms).json()
        assert counted["tags"][0] == {
            "id": "my.rattle",
            "name": "my.rattle",
            "count": sounds.count(**{**terms, "tags": ["my.rattle"]}),
            "children": [],
            "is_root": True,
        }
        assert [one["count"] for one in counted["tags"]] == [
            one.num_windows for one in sounds.facets(**terms)
        ]
    for by in ("top", "margin", "diverse", "random"):
        rows = get(client, "/rattle/review", by=by, k=6)["windows"]
        assert [(int(one["window"]), one["score"]) for one in rows] == [
            (one.window_id, pytest.approx(one.score)) for one in sounds.review("rattle", by, 6)
        ]
    shown = get(client, "/rattle/estimates")["estimates"]
    assert [tuple(one[key] for key in one if key != "precision") for one in shown] == [
        tuple(one) for one in sounds.estimates("rattle")
    ]
    assert max(one["num_judged"] for one in shown) > 2


def test_a_lesson_tells_what_it_told_the_store(
    client: TestClient, put: Synthetic, sounds: Sounds
) -> None:
    teach(client, put)
    lesson = post(client, "/rattle/learn")
    expected = sounds.learn("rattle")
    assert (lesson["counts"], lesson["method"]) == (expected.counts, expected.tag.line.method)
    assert lesson["average_precision"] == expected.average_precision
    assert lesson["estimates"] == get(client, "/rattle/estimates")["estimates"]
    assert lesson["estimate"] == lesson["estimates"][4]


def test_before_it_has_learned_there_is_nothing_but_chance(
    client: TestClient, put: Synthetic, sounds: Sounds
) -> None:
    rows = get(client, "/rattle/review", by="random", k=3)["windows"]
    assert [int(one["window"]) for one in rows] == [
        one.window_id for one in sounds.review("rattle", "random", 3)
    ]
    assert {one["score"] for one in rows} == {None}


def test_two_pages_at_once_lose_nothing(desk: Desk, put: Synthetic, sounds: Sounds) -> None:
    """Each has its own client; they label, take back and learn at the same time."""
    windows = [str(one) for one in (*ids(put, "b")[:16], *ids(put, "a")[:24])]

    clients = [TestClient(guarded(desk, frozenset({"testserver"}), None, 1)) for _ in range(2)]

    def label(number: int) -> None:
        client = clients[number]
        for at, window in enumerate(windows[number::2]):
            says = "yes" if int(window) in set(ids(put, "b")) else "no"
            post(client, "/rattle/labels", **{says: [window]}, by=f"page {number}")
            wrong = post(client, "/rattle/labels", unsure=[window], by=f"page {number}")
            assert post(client, "/rattle/undo", word=wrong["labels"][0]["id"])["undone"]
            if at > 8:
                response = client.post("/api/v1/taught/rattle/learn")
                assert response.status_code in (200, 503)

    with ThreadPoolExecutor(2) as pages:
        list(pages.map(label, range(2)))
    found = {one.window_id: (one.says, one.by) for one in sounds.labels("rattle")}
    assert found == {
        int(window): ("yes" if int(window) in set(ids(put, "b")) else "no", f"page {at % 2}")
        for at, window in enumerate(windows)
    }


@pytest.mark.parametrize("name", ["Rattle", "a-b", "%2e%2e", "..%2fx", "my.rattle", "%00", "ä"])
def test_a_name_that_is_none_is_refused(client: TestClient, name: str, put: Synthetic) -> None:
    body = {"yes": [str(ids(put, "b")[0])]}
    for response in (
        client.get(f"/api/v1/taught/{name}/labels"),
        client.get(f"/api/v1/taught/{name}/labels.csv"),
        client.get(f"/api/v1/taught/{name}/review"),
        client.get(f"/api/v1/taught/{name}/estimates"),
        client.post(f"/api/v1/taught/{name}/labels", json=body),
        client.post(f"/api/v1/taught/{name}/undo", json={}),
        client.post(f"/api/v1/taught/{name}/learn"),
    ):
        assert response.status_code in (400, 404)
        assert "\n" not in response.json()["detail"]
    assert get(client, "")["names"] == []


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "said"),
    [
        ("POST", "/rattle/labels", {}, 400, "nothing is said"),
        ("POST", "/rattle/labels", {"yes": ["12"]}, 400, "no window 12"),
        ("POST", "/rattle/labels", {"yes": ["9999999999999999999"]}, 400, "a window has an id"),
        ("POST", "/rattle/labels", {"yes": [12]}, 422, "yes.0"),
        ("POST", "/rattle/labels", {"yes": ["-1"]}, 422, "yes.0"),
        ("POST", "/rattle/labels", {"yes": ["1"] * 1001}, 422, "yes"),
        ("POST", "/rattle/labels", {"yes": ["1"], "no": ["1"]}, 400, "given as yes and as no"),
        ("POST", "/rattle/labels", {"yes": ["1"], "via": "luck"}, 422, "via"),
        ("POST", "/rattle/labels", {"yes": ["1"], "by": "ä" * 200}, 400, "at most 256 bytes"),
        ("POST", "/rattle/labels", {"maybe": ["1"]}, 422, "maybe"),
        ("POST", "/rattle/undo", {"word": "x"}, 422, "word"),
        ("POST", "/rattle/learn", {}, 400, "nothing to learn from"),
        ("GET", "/rattle/review?by=top", None, 400, "needs a learned tag"),
        ("GET", "/rattle/review?by=best", None, 422, "by"),
        ("GET", "/rattle/review?by=random&k=0", None, 422, "k"),
        ("GET", "/rattle/review?by=random&k=101", None, 422, "k"),
        ("GET", "/rattle/estimates", None, 400, "has no learned tag my.rattle"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    client: TestClient, method: str, path: str, sent: Any, status: int, said: str
) -> None:
    response = client.request(method, f"/api/v1/taught{path}", json=sent)
    assert response.status_code == status, response.text
    assert said in response.json()["detail"]
    assert "\n" not in response.json()["detail"]


def test_half_a_character_is_no_fault_of_the_server(client: TestClient, put: Synthetic) -> None:
    body = f'{{"yes": ["{ids(put, "b")[0]}"], "by": "\\ud800"}}'.encode()
    kind = {"Content-Type": "application/json"}
    response = client.post("/api/v1/taught/rattle/labels", content=body, headers=kind)
    assert response.status_code in (200, 400, 422)
    assert client.get("/api/v1/taught/rattle/labels").status_code == 200
    assert client.get("/api/v1/taught/rattle/labels.csv").status_code == 200


def test_a_tag_that_was_not_learned_is_no_filter(client: TestClient) -> None:
    response = client.post("/api/v1/search", json={"tags": ["my.rattle"]})
    assert (response.status_code, "my.rattle" in response.json()["detail"]) == (400, True)


def test_only_the_own_page_may_label(client: TestClient, put: Synthetic, sounds: Sounds) -> None:
    body = {"yes": [str(ids(put, "b")[0])]}
    foreign = {"Origin": "http://evil.example"}
    response = client.post("/api/v1/taught/rattle/labels", json=body, headers=foreign)
    assert response.status_code == 403
    assert sounds.labels("rattle") == []


def test_damaged_labels_are_told(client: TestClient, put: Synthetic, sounds: Sounds) -> None:
    sounds.label("rattle", yes=ids(put, "b")[:2])
    book = sounds.own.folder / "labels" / "rattle.jsonl"
    book.write_bytes(book.read_bytes().replace(b'"yes"', b'"no"', 1))
    sounds.label("hiss", yes=ids(put, "b")[:1])
    hiss, rattle = get(client, "")["names"]
    assert (hiss["counts"]["yes"], hiss["trouble"]) == (1, None)
    assert (rattle["name"], rattle["counts"]) == ("rattle", {})
    assert "line 1 is not what was written" in rattle["trouble"]
    response = client.get("/api/v1/taught/rattle/labels")
    assert (response.status_code, "line 1" in response.json()["detail"]) == (409, True)


def test_one_learns_at_a_time_and_too_many_are_sent_away(
    client: TestClient, desk: Desk, put: Synthetic
) -> None:
    teach(client, put)
    with (
        ThreadPoolExecutor(8) as several,
        desk._learning.passing(),
    ):
        waiting = [several.submit(client.post, "/api/v1/taught/rattle/learn") for _ in range(5)]
        done = next(one for one in _as_done(waiting) if one.status_code == 503)
        assert done.headers["Retry-After"] == "1"
        with pytest.raises(BusyError):
            desk.learn("rattle")
    assert sorted(one.result().status_code for one in waiting) == [200] * 4 + [503]


def _as_done(waiting: list[Any]) -> Iterator[Any]:
    for one in as_completed(waiting, timeout=60):
        yield one.result()


def test_a_server_is_taught_from_python(put: Synthetic, sounds: Sounds) -> None:
    yes, no = ids(put, "b")[:6], ids(put, "a")[:6]
    with (
        serving(put.store.path, "-q") as running,
        soundalike.connect(running.address) as remote,
    ):
        drawn = remote.review("rattle", "random", 3)
        assert all(math.isnan(one.score) for one in drawn)
        remote.label("rattle", no=drawn, by="me", via="random")
        said = remote.label("rattle", yes=yes, no=no)
        assert remote.labels("rattle") == sounds.labels("rattle")
        assert remote.undo_label("rattle", said[-1].id) == [said[-1]]
        lesson = remote.learn("rattle")
        assert lesson["counts"]["yes"] == 6
        assert remote.learned_names() == sounds.learned_names() == ["rattle"]
        assert remote.estimates("rattle") == sounds.estimates("rattle")
        assert remote.count(tags=["my.rattle"]) == sounds.count(tags=["my.rattle"])
        assert remote.facets() == sounds.facets()
        found = [one.tags for one in remote.search(tags=["my.rattle"], k=5)]
        assert found == [one.tags for one in sounds.search(tags=["my.rattle"], k=5)]
        assert {some[0].tag.name for some in found} == {"my.rattle"}
        assert [one.window_id for one in remote.review("rattle", "margin", 5)] == [
            one.window_id for one in sounds.review("rattle", "margin", 5)
        ]
        with pytest.raises(QueryError, match="a tag of your own is called"):
            remote.labels("../x")
        with pytest.raises(QueryError, match="no window 12"):
            remote.label("rattle", yes=[12])
