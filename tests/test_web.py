"""The server of the page: what it answers, and what it refuses."""

from __future__ import annotations

import io
import shutil
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY
from PIL import Image
from starlette.testclient import TestClient
from synthetic import make_store, write_tone

import soundalike
from indexer.audio.stream import read_span
from indexer.reading.apart import Apart
from soundalike.web.desk import Desk
from soundalike.web.gate import BusyError, Gate
from soundalike.web.limits import Limits
from soundalike.web.serve import guarded

pytestmark = pytest.mark.whole

SAMPLES = REPOSITORY / "data/samples"
TOKEN = "a-token-that-nobody-guesses"
LIMITS = Limits(upload_bytes=20_000_000, upload_s=120.0, asked_s=30.0, uploads=4, hits=60, zipped=3)
OWN = {"Origin": "http://testserver", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples, copied, so that a test may move them."""
    folder = tmp_path_factory.mktemp("web")
    shutil.copytree(SAMPLES, folder / "library")
    sounds = soundalike.open(folder / "store", checkpoint="demo", device="cpu")
    sounds.index(folder / "library", num_workers=0, hop_s=5.0)
    return folder / "store"


@pytest.fixture(scope="module")
def desk(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    apart, folder = Apart(), tmp_path_factory.mktemp("desk")
    table = folder / "sheet.csv"
    table.write_text("path,station\nanimals/dog.ogg,north\n")
    sounds = soundalike.open(store, device="cpu", apart=apart)
    (folder / "kept").mkdir()
    yield Desk(sounds, apart, folder / "kept", LIMITS, table)
    apart.close()


@pytest.fixture(scope="module")
def client(desk: Desk) -> TestClient:
    app = guarded(desk, frozenset({"testserver"}), TOKEN, 1234)
    return TestClient(app, headers={"Authorization": f"Bearer {TOKEN}"})


@pytest.fixture(scope="module")
def sounds(store: Path) -> soundalike.Sounds:
    return soundalike.open(store, device="cpu")


def post(client: TestClient, path: str, **body: Any) -> Any:
    response = client.post(f"/api/v1/{path}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def send(client: TestClient, content: bytes, name: str = "clip.wav") -> httpx.Response:
    return client.post("/api/v1/clips", files={"file": (name, content)})


def some_window(sounds: soundalike.Sounds) -> soundalike.Hit:
    return sounds.search(tags="Dog", threshold=0, k=1)[0]


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        {"k": 5},
        {"tags": ["Animal"], "threshold": 0.1, "k": 50},
        {"where": "duration > 1 and station = 'north'"},
        {"group_by": "file", "diverse": 0.3},
        {"unique": True, "unique_at": 0.8, "all_windows": True},
        {"min_score": 0.5, "tag_weight": 0, "include_self": True, "exact": True},
        {"by": "place"},
    ],
)
def test_search_answers_as_the_stores_do(
    client: TestClient, desk: Desk, sounds: soundalike.Sounds, body: dict[str, Any]
) -> None:
    file = SAMPLES / "animals/dog.ogg"
    clip = send(client, file.read_bytes(), "other name.ogg").json()["id"]
    asked = {"clip": clip, "start_s": 0.5, "end_s": 2.5}
    found = post(client, "search", like=[asked], **body)
    expected = sounds.search(file, start=0.5, end=2.5, metadata=desk.metadata, **{"k": 20, **body})
    assert [one["window"] for one in found["hits"]] == [str(one.window_id) for one in expected]
    assert [one["score"] for one in found["hits"]] == [one.score for one in expected]
    for one, hit in zip(found["hits"], expected, strict=True):
        assert (one["path"], one["start_s"], one["end_s"]) == (
            str(hit.path),
            hit.start_s,
            hit.end_s,
        )
        assert one["metadata"] == dict(hit.metadata)
        match = one["match"] or {"start_s": None, "end_s": None, "score": None}
        assert (match["start_s"], match["score"]) == (hit.match_start_s, hit.match_score)
    assert found["notes"] == [note.replace("dog.ogg", "other name.ogg") for note in expected.notes]
    assert found["num_left_out"] == expected.num_left_out


def test_part_of_a_window_asks_and_is_turned_away(
    client: TestClient, sounds: soundalike.Sounds
) -> None:
    first, second = sounds.search(where="duration > 2", k=2)
    body = {
        "like": [{"window": str(first.window_id), "start_s": 1, "end_s": 2.5}],
        "unlike": [{"window": str(second.window_id)}],
    }
    found = post(client, "search", **body, k=5)
    assert first.path
    start = first.start_s + 1
    expected = sounds.search(f"{first.path}@{start}-{start + 1.5}", unlike=[second.window_id], k=5)
    assert [one["score"] for one in found["hits"]] == [one.score for one in expected]


def test_pages_are_the_whole_answer(client: TestClient, sounds: soundalike.Sounds) -> None:
    query = some_window(sounds).window_id
    whole = [str(one.window_id) for one in sounds.search(query, k=LIMITS.hits)]
    pages, cursor = [], None
    for _ in range(20):
        found = post(
            client, "search", like=[{"window": str(query)}], k=7, cursor=cursor, all_windows=None
        )
        pages += [one["window"] for one in found["hits"]]
        cursor = found["cursor"]
        if cursor is None:
            break
    assert pages == whole
    more = client.post(
        "/api/v1/search", json={"like": [{"window": str(query)}], "k": 7, "cursor": "60"}
    )
    assert (more.status_code, "at most 60 hits" in more.json()["detail"]) == (400, True)


def test_diverse_hits_are_chosen_together(tmp_path: Path) -> None:
    """Of ten times as many as are wanted: one more would be chosen of ten others, too."""
    made, rng = make_store(tmp_path / "store"), np.random.default_rng(3)
    kinds = np.where(np.arange(400) < 205, 0, rng.integers(1, 30, 400))
    scene = rng.normal(0, 1, 768) + rng.normal(0, 0.8, (30, 768))[kinds]
    scene += rng.normal(0, 0.05, scene.shape)
    made.add({str(number): 1 for number in range(400)}, scene=scene.astype(np.float32))
    sounds, apart = soundalike.open(made.store.path), Apart()
    sounds.build()
    (tmp_path / "kept").mkdir()
    desk = Desk(sounds, apart, tmp_path / "kept", LIMITS)
    client = TestClient(guarded(desk, frozenset({"testserver"}), None, 1))
    query = made.windows[0].window_id
    asked = {"like": [{"window": str(query)}], "k": 20, "diverse": 0.8}
    found, expected = post(client, "search", **asked), sounds.search(query, k=20, diverse=0.8)
    assert [one["window"] for one in found["hits"]] == [str(hit.window_id) for hit in expected]
    assert expected.hits != sounds.search(query, k=21, diverse=0.8)[:20].hits
    assert found["cursor"] is None
    more = client.post("/api/v1/search", json={**asked, "cursor": "20"})
    assert (more.status_code, "at once" in more.json()["detail"]) == (400, True)


def test_an_answer_without_hits_says_which_filter_took_how_many(
    client: TestClient, sounds: soundalike.Sounds
) -> None:
    found = post(client, "search", tags=["Dog"], not_tags=["Animal"], where="duration > 1")
    assert found["hits"] == []
    assert found["removed"] == [
        {"term": "tags: Dog", "num_windows": sounds.count(not_tags="Animal", where="duration > 1")},
        {
            "term": "not_tags: Animal",
            "num_windows": sounds.count(tags="Dog", where="duration > 1"),
        },
        {"term": "where: duration > 1", "num_windows": 0},
    ]
    rare = post(client, "search", tags=["Steam whistle"], threshold=0.9)
    assert len(rare["almost"]) == 3


def test_tags_are_counted_under_a_filter(client: TestClient, sounds: soundalike.Sounds) -> None:
    for params in ({}, {"tags": ["Animal"], "threshold": 0.2, "where": "duration > 2"}):
        found = client.get("/api/v1/tags", params=params).json()
        counts = {one["id"]: one["count"] for one in found["tags"]}
        assert counts == {one.tag.mid: one.num_windows for one in sounds.facets(**params)}
        assert found["num_matching"] == sounds.count(**params)
        below = {mid for one in found["tags"] for mid in one["children"]}
        roots = {one["id"] for one in found["tags"] if one["is_root"]}
        assert not below & roots
        assert below | roots == set(counts)


def test_stores_are_told(client: TestClient, store: Path, sounds: soundalike.Sounds) -> None:
    told = client.get("/api/v1/stores").json()
    assert told["stores"] == [
        {"name": "store", "path": str(store), "num_windows": sounds.num_windows}
    ]
    assert (told["has_index"], told["has_frames"], told["window_s"]) == (True, True, 10.0)
    assert told["metadata_columns"] == ["station"]
    assert told["limits"]["upload_bytes"] == LIMITS.upload_bytes


def test_a_newer_generation_is_picked_up(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store")
    apart = Apart()
    (tmp_path / "kept").mkdir()
    desk = Desk(soundalike.open(made.store.path, apart=apart), apart, tmp_path / "kept", LIMITS)
    client = TestClient(guarded(desk, frozenset({"testserver"}), None, 1))
    told = client.get("/api/v1/stores").json()
    assert (told["has_index"], told["stores"][0]["name"]) == (False, "store")
    response = client.post("/api/v1/search", json={"where": "duration > 0"})
    assert (response.status_code, "index" in response.json()["detail"]) == (409, True)
    for number in (1, 2):
        made.add({f"new {number}": 2}, seed=number)
        if number == 2:
            assert client.get("/api/v1/stores").json()["num_new_parts"] == 1
        soundalike.open(made.store.path).build()
        found = post(client, "search", where="duration > 0", all_windows=True)
        assert len(found["hits"]) == found["num_windows"] == 2 * number


# --- sound ---------------------------------------------------------------------------------------


def test_window_is_played_drawn_and_put_into_its_place(
    client: TestClient, sounds: soundalike.Sounds
) -> None:
    hit = sounds.search(where="duration > 2", k=1)[0]
    root = f"/api/v1/windows/{hit.window_id}"
    assert client.get(root).json()["start_s"] == hit.start_s
    assert hit.path
    for params, (start, length) in {
        (): (hit.start_s, hit.end_s - hit.start_s),
        (("start_s", 1), ("end_s", 2.5)): (hit.start_s + 1, 1.5),
        (("before_s", 1), ("after_s", 1)): (
            max(0, hit.start_s - 1),
            hit.end_s + 1 - max(0, hit.start_s - 1),
        ),
    }.items():
        response = client.get(f"{root}/audio", params=dict(params))
        assert response.headers["content-type"] == "audio/wav"
        samples, rate = soundfile.read(io.BytesIO(response.content), always_2d=True)
        expected, other = read_span(hit.path, start, length)
        assert rate == other
        np.testing.assert_allclose(samples, expected, atol=1e-4)
    picture = client.get(f"{root}/spectrogram", params={"width": 200, "height": 50}).content
    assert Image.open(io.BytesIO(picture)).size == (200, 50)
    peaks = client.get(f"{root}/peaks", params={"num": 30}).json()
    mono = read_span(hit.path, hit.start_s, hit.end_s - hit.start_s)[0].mean(1)
    assert len(peaks["peaks"]) == 30
    assert max(high for _, high in peaks["peaks"]) == pytest.approx(mono.max(), abs=1e-3)
    near = client.get(f"{root}/context", params={"num": 1}).json()["windows"]
    assert str(hit.window_id) in [one["window"] for one in near]


def test_ranges_are_those_of_http(client: TestClient, sounds: soundalike.Sounds) -> None:
    url = f"/api/v1/windows/{some_window(sounds).window_id}/audio"
    whole = client.get(url).content
    for asked, (first, last) in {
        "bytes=0-99": (0, 100),
        "bytes=100-": (100, None),
        "bytes=-50": (-50, None),
    }.items():
        part = client.get(url, headers={"Range": asked})
        assert (part.status_code, part.content) == (206, whole[first:last])
    for asked in ("bytes=999999999-", "bytes=5-2", "bytes=x-y", "pages=1-2", "bytes=1-2,99999999-"):
        assert client.get(url, headers={"Range": asked}).status_code in (200, 206, 400, 416)


def test_a_file_that_has_moved_is_said(
    client: TestClient, store: Path, sounds: soundalike.Sounds
) -> None:
    hit = sounds.search(where="path like '%rain%'", k=1)[0]
    assert hit.path
    hit.path.rename(hit.path.with_name("elsewhere"))
    try:
        (found,) = post(client, "search", where="path like '%rain%'", group_by="file")["hits"][:1]
        assert found["is_there"] is False
        response = client.get(f"/api/v1/windows/{hit.window_id}/audio")
        assert response.status_code == 404
        assert "not where it was" in response.json()["detail"]
        asked = {"window": found["window"], "start_s": 0, "end_s": 1}
        assert client.post("/api/v1/search", json={"like": [asked]}).status_code == 404
        assert post(client, "search", like=[{"window": found["window"]}])["hits"]
    finally:
        hit.path.with_name("elsewhere").rename(hit.path)


def test_sent_clip_is_told_played_and_forgotten(client: TestClient, tmp_path: Path) -> None:
    content = write_tone(tmp_path / "tone.wav", 3.0, 440, 16_000).read_bytes()
    response = send(client, content, "../../etc/a‮b.wav")
    assert response.status_code == 201
    told = response.json()
    assert "/" not in told["name"]
    assert "‮" not in told["name"]
    assert (told["duration_s"], told["rate_hz"], told["channels"]) == (3.0, 16_000, 1)
    assert 0 < len(told["peaks"]) <= 1000
    root = f"/api/v1/clips/{told['id']}"
    assert client.get(root).json() == told
    played = client.get(f"{root}/audio", params={"start_s": 1, "end_s": 2})
    assert soundfile.read(io.BytesIO(played.content))[0].shape == (16_000,)
    assert client.get(f"{root}/spectrogram").headers["content-type"] == "image/png"
    for _ in range(LIMITS.uploads):  # the oldest goes
        assert send(client, content).status_code == 201
    gone = client.get(root)
    assert (gone.status_code, "send it again" in gone.json()["detail"]) == (404, True)
    asked = client.post("/api/v1/search", json={"like": [{"clip": told["id"]}]})
    assert asked.status_code == 404


def test_long_clips_ask_with_a_part(client: TestClient, tmp_path: Path) -> None:
    told = send(client, write_tone(tmp_path / "long.wav", 40.0).read_bytes(), "long.wav").json()
    assert told["tags"] is not None
    response = client.post("/api/v1/search", json={"like": [{"clip": told["id"]}]})
    assert response.status_code == 400
    assert response.json()["detail"].startswith("40 s of long.wav are too long to ask with")
    for asked in ({"start_s": 35}, {"start_s": 1, "end_s": 31}):
        assert post(client, "search", like=[{"clip": told["id"], **asked}])["hits"]
    beyond = client.post("/api/v1/search", json={"like": [{"clip": told["id"], "start_s": 41}]})
    assert "nothing of it is at 41 s" in beyond.json()["detail"]


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (b"", 415, "x.wav: empty file"),
        (b"RIFF", 415, "x.wav: "),
        (b"no sound at all" * 100, 415, "no decoder recognises it"),
        (bytes(LIMITS.upload_bytes + (1 << 20)), 413, "too large: at most"),
    ],
)
def test_what_cannot_be_taken_is_said(
    client: TestClient, content: bytes, status: int, said: str
) -> None:
    response = send(client, content, "x.wav")
    assert (response.status_code, said in response.json()["detail"]) == (status, True)


def test_too_long_a_clip_is_said(client: TestClient, tmp_path: Path) -> None:
    content = write_tone(tmp_path / "long.flac", 121.0, rate=8_000).read_bytes()
    response = send(client, content, "long.flac")
    assert response.status_code == 415
    assert "longer than 120 s" in response.json()["detail"]


# --- exports -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "name", "begins"),
    [
        ("csv", "hits.csv", b"rank,"),
        ("json", "hits.json", b"["),
        ("m3u", "hits.m3u", b"#EXTM3U"),
        ("audacity", "hits.labels.txt", b""),
        ("raven", "hits.selections.txt", b"Selection"),
    ],
)
def test_hits_are_taken_away(
    client: TestClient, sounds: soundalike.Sounds, form: str, name: str, begins: bytes
) -> None:
    query = {"window": str(some_window(sounds).window_id)}
    body = {"format": form, "search": {"like": [query], "k": 4}}
    response = client.post("/api/v1/export", json=body)
    assert response.status_code == 200
    assert f'filename="{name}"' in response.headers["content-disposition"]
    assert response.content.startswith(begins)
    if form in ("csv", "audacity", "raven"):
        has_header = form != "audacity"
        assert len(response.text.strip().splitlines()) == 4 + has_header


def test_audio_of_chosen_hits_is_packed(client: TestClient, sounds: soundalike.Sounds) -> None:
    query = some_window(sounds).window_id
    hits = sounds.search(query, k=10)
    chosen = [str(hits[at].window_id) for at in (7, 2)]
    body = {
        "format": "zip",
        "search": {"like": [{"window": str(query)}], "k": 10},
        "windows": chosen,
    }
    with zipfile.ZipFile(io.BytesIO(client.post("/api/v1/export", json=body).content)) as packed:
        names = sorted(packed.namelist())
        assert names[-1] == "hits.csv"
        assert [name[:4] for name in names[:-1]] == ["001_", "002_"]
        samples, rate = soundfile.read(io.BytesIO(packed.read(names[0])), always_2d=True)
    assert hits[2].path
    expected, other = read_span(hits[2].path, hits[2].span[0], hits[2].span[1] - hits[2].span[0])
    assert rate == other
    np.testing.assert_allclose(samples, expected, atol=1e-6)
    refused = client.post("/api/v1/export", json={**body, "windows": [*chosen, "1", "2"]})
    assert (refused.status_code, "at most 3" in refused.json()["detail"]) == (400, True)
    none = client.post("/api/v1/export", json={**body, "windows": ["1"]})
    assert (none.status_code, "nothing to export" in none.json()["detail"]) == (400, True)


# --- who may ask ---------------------------------------------------------------------------------


def test_token_is_needed_and_becomes_a_cookie(desk: Desk) -> None:
    client = TestClient(guarded(desk, frozenset({"testserver"}), TOKEN, 1234))
    for url in ("/", "/api/v1/stores", "/page/app.js", "/api/docs", "/?token=wrong"):
        response = client.get(url)
        assert (response.status_code, "has a token" in response.text) == (401, True)
        assert "set-cookie" not in response.headers
    wrong = client.get("/api/v1/stores", headers={"Authorization": "Bearer x"})
    assert (wrong.status_code, "not the token of this run" in wrong.text) == (401, True)
    response = client.get("/", params={"token": TOKEN})
    assert response.status_code == 200
    cookie = response.headers["set-cookie"]
    assert cookie == f"soundalike-1234={TOKEN}; Path=/; HttpOnly; SameSite=Strict"
    assert client.get("/api/v1/stores").status_code == 200  # with the cookie
    assert client.get("/api/v1/stores", params={"token": "x"}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "testserver.evil.example", "127.0.0.1:80", "", "["]
)
def test_foreign_names_are_refused(client: TestClient, host: str) -> None:
    response = client.get("/api/v1/stores", headers={"Host": host})
    assert (response.status_code, "by that name" in response.text) == (400, True)


def test_numbers_are_names_of_a_server_for_others_and_names_are_not(desk: Desk) -> None:
    """A name can be made to lead anywhere, so that a foreign page is of the same origin."""
    app = guarded(desk, frozenset({"testserver"}), None, 1, takes_numbers=True)
    with TestClient(app) as client:
        for host, status in (
            *(("10.1.2.3", 200), ("10.1.2.3:80", 200), ("[fe80::1]:80", 200)),
            *(("evil.example", 400), ("10.1.2.3.evil.example", 400), ("1e3", 400)),
        ):
            found = client.get("/api/v1/stores", headers={"Host": host}).status_code
            assert (host, found) == (host, status)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        (OWN, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://testserver:81"}, 403),
        ({"Origin": "https://testserver"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 200),
    ],
)
def test_only_the_own_page_may_change_anything(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    body = {"where": "duration > 1"}
    assert client.post("/api/v1/search", json=body, headers=headers).status_code == status


@pytest.mark.parametrize("url", ["/", "/api/v1/stores", "/api/docs", "/api/v1/windows/1", "/nix"])
def test_every_answer_has_the_headers_of_a_careful_page(client: TestClient, url: str) -> None:
    headers = client.get(url).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in headers
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_modules_of_the_page_are_asked_for_anew(client: TestClient) -> None:
    """Of another version, some would be old and some new."""
    for url in ("/", "/page/app.js", "/page/page.css"):
        response = client.get(url)
        assert response.headers["cache-control"] == "no-cache"
        etag = response.headers["etag"]
        assert client.get(url, headers={"If-None-Match": etag}).status_code in (200, 304)


def test_a_body_that_grows_is_cut_off(client: TestClient) -> None:
    """It does not say how long it is, and would never end."""

    def grow() -> Iterator[bytes]:
        for _ in range(1000):
            yield b" " * 100_000

    response = client.post(
        "/api/v1/search", content=grow(), headers={"Content-Type": "application/json"}
    )
    assert (response.status_code, "too large" in response.text) == (413, True)


def test_no_path_of_a_client_is_opened(client: TestClient) -> None:
    for url in (
        "/page/../serve.py",
        "/page/%2e%2e/serve.py",
        "/page/..%2f..%2fweb/serve.py",
        "/page//etc/passwd",
        "/api/v1/clips/..%2f..%2fetc%2fpasswd/audio",
        "/api/v1/windows/..%2fetc/audio",
    ):
        response = client.get(url)
        assert response.status_code in (404, 405, 422), url
        assert "import" not in response.text


@pytest.mark.parametrize(
    ("body", "about"),
    [
        ({"like": [{"window": "1", "clip": "x"}]}, "like.0"),
        ({"like": [{}]}, "like.0"),
        ({"like": [{"clip": "x", "start_s": 2, "end_s": 1}]}, "like.0"),
        ({"k": 0}, "k"),
        ({"unknown": 1}, "unknown"),
        ({"tags": "Dog"}, "tags"),
        ({"threshold": 2}, None),
        ({"cursor": "-1"}, "cursor"),
        ({"like": [{"window": 12}]}, "like.0.window"),
    ],
)
def test_what_is_misshapen_is_named(
    client: TestClient, body: dict[str, Any], about: str | None
) -> None:
    response = client.post("/api/v1/search", json=body)
    assert response.status_code == 422
    if about:
        assert response.json()["about"] == about


def test_what_cannot_be_asked_is_said_as_the_stores_say_it(client: TestClient) -> None:
    for body, said, about in (
        ({}, "nothing to look for", None),
        ({"where": "Dog > and"}, "cannot read the filter: expected", "where"),
        ({"tags": ["Dogg"]}, "did you mean 'Dog'", "tags"),
        ({"like": [{"window": "12"}]}, "no window 12", None),
        ({"where": "duration > 1", "threshold": "auto"}, "threshold", "thresholds"),
        ({"text": ["rain"]}, "no projection", "projection"),
    ):
        response = client.post("/api/v1/search", json=body)
        assert response.status_code in (400, 404)
        assert said in response.json()["detail"]
        assert response.json()["about"] == about
    at = client.post("/api/v1/search", json={"where": "Dog > and"}).json()["at"]
    assert at == [6, 7]


# --- how many ------------------------------------------------------------------------------------


def test_gate_lets_some_pass_and_sends_too_many_away() -> None:
    gate, most = Gate(at_once=2, most_waiting=3, retry_s=7), 0
    inside, lock, go, away = 0, threading.Lock(), threading.Event(), 0

    def pass_through() -> None:
        nonlocal inside, most, away
        try:
            with gate.passing():
                with lock:
                    inside += 1
                    most = max(most, inside)
                go.wait(30)
                with lock:
                    inside -= 1
        except BusyError:
            with lock:
                away += 1

    threads = [threading.Thread(target=pass_through) for _ in range(9)]
    for one in threads:
        one.start()
    until = threading.Event()
    for _ in range(200):
        if away == 4:
            break
        until.wait(0.05)
    go.set()
    for one in threads:
        one.join()
    assert (most, away, inside) == (2, 4, 0)
    with gate.passing():
        pass


def test_who_is_sent_away_is_told_when_to_come_again(
    client: TestClient, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk, "_searching", Gate(at_once=0, most_waiting=0, retry_s=3))
    for response in (
        client.post("/api/v1/search", json={"where": "duration > 1"}),
        client.get("/api/v1/tags"),
    ):
        assert (response.status_code, response.headers["retry-after"]) == (503, "3")


def test_two_decode_at_once_whoever_asks(client: TestClient, desk: Desk, tmp_path: Path) -> None:
    content, busy = write_tone(tmp_path / "tone.wav", 30.0).read_bytes(), [0]
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(send(client, content).status_code))
        for _ in range(8)
    ]
    for one in threads:
        one.start()
    while any(one.is_alive() for one in threads):
        busy.append(len(desk.media._apart._busy))
        threads[0].join(0.002)
    assert statuses == [201] * 8
    assert 0 < max(busy) <= 3  # two that look it through, and one that is embedded


def test_a_sound_is_kept_once_however_busy_the_server_is(
    client: TestClient, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, none = write_tone(tmp_path / "new.wav", 2.5).read_bytes(), Gate(0, 0, retry_s=3)

    def kept() -> int:
        return len(list(desk.uploads._folder.iterdir()))

    with monkeypatch.context() as patched:
        patched.setattr(desk.uploads, "_decoding", none)
        before = kept()
        assert (send(client, content).status_code, kept()) == (503, before)
    with monkeypatch.context() as patched:
        patched.setattr(desk, "_embedding", none)
        response = send(client, content)
        told = response.json()
        assert (response.status_code, told["tags"]) == (201, [])
        assert "busy" in told["warnings"][0]
    again = client.get(f"/api/v1/clips/{told['id']}").json()
    assert again["warnings"] == []
