"""`soundalike serve` as a process, and `soundalike.connect`: many ask at once, some badly."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import psutil
import pytest
from conftest import REPOSITORY, Run
from synthetic import make_store, write_tone
from web_server import Running, serving

import soundalike
from indexer.errors import ExpressionError, QueryError, SoundalikeError, StoreError

pytestmark = pytest.mark.whole

SAMPLES = REPOSITORY / "data/samples"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("serve") / "store"
    soundalike.open(path, checkpoint="demo", device="cpu").index(SAMPLES, num_workers=0, hop_s=5.0)
    return path


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[Running]:
    with serving(store, "--device", "cpu", "-q") as running:
        yield running


@pytest.fixture
def remote(server: Running) -> Iterator[soundalike.Remote]:
    with soundalike.connect(server.address) as remote:
        yield remote


@pytest.fixture(scope="module")
def sounds(store: Path) -> soundalike.Sounds:
    return soundalike.open(store, device="cpu")


# --- connect -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "terms",
    [
        {},
        {"k": 3, "tags": "Animal", "threshold": 0.1},
        {"start": 0.5, "duration": 2.0, "by": "place"},
        {"group_by": "file", "diverse": True},
        {"unique": True, "unique_at": 0.8, "all_windows": True},
        {"where": "duration > 1 and not Speech", "exact": True, "tag_weight": 0.0},
    ],
)
def test_a_server_is_asked_as_stores_are(
    remote: soundalike.Remote, sounds: soundalike.Sounds, terms: dict[str, Any]
) -> None:
    file, cow = SAMPLES / "animals/dog.ogg", SAMPLES / "animals/cow.ogg"
    for more in ({}, {} if "by" in terms else {"unlike": [f"{cow}@0-1"]}):
        here, there = sounds.search(file, **terms, **more), remote.search(file, **terms, **more)
        assert [one.window_id for one in there] == [one.window_id for one in here]
        for one, other in zip(there, here, strict=True):  # what is stored whole asks as it was
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert replace(one, score=0, scene_score=0, tag_score=0, match_score=0) == replace(
                other, score=0, scene_score=0, tag_score=0, match_score=0
            )
        assert (there.notes, there.num_left_out) == (here.notes, here.num_left_out)
        assert (there.background is None) == (here.background is None)


def test_what_else_a_server_is_asked(remote: soundalike.Remote, sounds: soundalike.Sounds) -> None:
    assert remote.num_windows == sounds.num_windows
    ids = [hit.window_id for hit in sounds.search(tags="Animal", threshold=0.1, k=3)]
    assert remote.windows(*ids) == sounds.windows(*ids)
    assert remote.around(ids[0], 1) == sounds.around(ids[0], 1)
    assert remote.count(tags="Animal") == sounds.count(tags="Animal")
    assert remote.facets(where="duration > 2") == sounds.facets(where="duration > 2")
    assert [a.hits for a in remote.search_many(ids)] == [a.hits for a in sounds.search_many(ids)]
    several = [ids[:2], ids[2]]
    assert [a.hits for a in remote.search_many(several, k=3)] == [
        a.hits for a in sounds.search_many(several, k=3)
    ]
    samples, rate = remote.audio(ids[0])
    (hit,) = sounds.windows(ids[0])
    assert len(samples) / rate == pytest.approx(hit.end_s - hit.start_s, abs=0.01)
    assert remote.search(tags="Steam whistle", threshold=0.9).almost


def test_what_a_server_cannot_be_asked(
    server: Running, remote: soundalike.Remote, tmp_path: Path
) -> None:
    text = tmp_path / "text.wav"
    text.write_text("no sound")
    for kind, said, ask in (
        (ExpressionError, "cannot read the filter", lambda: remote.search(where="Dog > and")),
        (QueryError, "did you mean 'Dog'", lambda: remote.search(tags="Dogg")),
        (QueryError, "no window 12", lambda: remote.search(12)),
        (QueryError, "no such file: nix.wav", lambda: remote.search("nix.wav")),
        (QueryError, "text.wav: not audio", lambda: remote.search(text)),
        (QueryError, "an audio file or the id", lambda: remote.search(np.zeros(768))),
        (QueryError, "metadata is decided", lambda: remote.search(1, metadata="x.csv")),
        (QueryError, "there is no 'tag' here", lambda: remote.search(1, tag="x")),
        (QueryError, "unique is none", lambda: remote.count(unique=True)),
        (QueryError, "nothing to look for", remote.search),
        (SoundalikeError, "begins with http", lambda: soundalike.connect("localhost")),
        (SoundalikeError, "not the address", lambda: soundalike.connect("http://[::1")),
        (SoundalikeError, "it has a token", lambda: soundalike.connect(server.root)),
        (SoundalikeError, "does not answer", lambda: soundalike.connect("http://127.0.0.1:9")),
    ):
        with pytest.raises(kind, match=said):
            ask()  # type: ignore[operator]
    with pytest.raises(ExpressionError) as error:
        remote.search(where="Dog > and")
    assert error.value.at == 6


def test_a_store_without_an_index_is_served_and_says_so(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store")
    made.add({"a": 2})
    with (
        serving(made.store.path, "-q", token=False) as running,
        soundalike.connect(running.address) as remote,
    ):
        with pytest.raises(StoreError, match="no index"):
            _ = remote.num_windows
        with pytest.raises(StoreError, match="no index"):
            remote.search(tags="Dog")


# --- the process ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_it_ends_when_it_is_told_and_leaves_nothing(store: Path, name: str, tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    words = [sys.executable, "-m", "soundalike", "serve", store, "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout
    with soundalike.connect(process.stdout.readline().strip()) as remote:
        remote.search(write_tone(tmp_path / "tone.wav", 2.0))
    decoders = psutil.Process(process.pid).children()
    assert decoders
    began = time.monotonic()
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=30)
    assert process.returncode == 128 + getattr(signal, name)
    assert "Traceback" not in err
    assert time.monotonic() - began < 10
    assert not [one for one in tmp_path.iterdir() if one.name.startswith("soundalike-")]
    psutil.wait_procs(decoders, timeout=5)
    assert not any(one.is_running() for one in decoders)


def test_what_cannot_be_served_is_one_line(store: Path, run: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = run("serve", store, "--port", port, code=1).err
        assert f"port {port}: Address already in use; say --port 0" in said
    for words, wanted in (
        (("--host", "0.0.0.0", "--no-token"), "can be reached from other machines"),
        (("--host", "192.0.2.1"), "port 0: Cannot assign requested address\n"),
        (("--host", "a..b"), "cannot listen at a..b"),
        (("--metadata", tmp_path / "nix.csv"), "nix.csv"),
        (("--host", ""), "the host to listen at is empty"),
        (("--host", "nosuch.invalid"), "nosuch.invalid"),
        (("--name", "http://birds.example.org"), "without http:// and port"),
        (("--checkpoint", "nope"), "checkpoint 'nope' does not exist"),
    ):
        said = run("serve", store, *words, "--port", 0, code=1).err
        assert wanted in said
        assert "Unknown error" not in said
        assert len(said.strip().splitlines()) == 1
    assert "no store" in run("serve", tmp_path / "nix", "--port", 0, code=1).err


def test_decoders_that_die_cost_their_requests(server: Running, tmp_path: Path) -> None:
    """As files would that crash FFmpeg: the server lives, and answers."""
    content = write_tone(tmp_path / "long.flac", 1200.0, rate=44_100).read_bytes()
    statuses: list[int] = []

    def send() -> None:
        response = server.client.post("/api/v1/clips", files={"file": ("a.flac", content)})
        statuses.append(response.status_code)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for one in threads:
        one.start()
    until = time.monotonic() + 60
    while any(one.is_alive() for one in threads) and time.monotonic() < until:
        for one in psutil.Process(server.process.pid).children():
            one.send_signal(signal.SIGSEGV)
        time.sleep(0.05)
    for one in threads:
        one.join()
    assert statuses == [415, 415]
    assert server.send(write_tone(tmp_path / "tone.wav", 2.0))["duration_s"] == 2.0
    assert server.process.poll() is None


# --- many at once, and hostile -------------------------------------------------------------------


def ask_for(server: Running, seconds: float, bodies: list[Any], expected: list[Any]) -> list[str]:
    """Ask with 32 clients at once; return what went wrong."""
    until, wrong = time.monotonic() + seconds, []

    def ask(number: int) -> None:
        rng = random.Random(number)
        with httpx.Client(base_url=server.root, headers=server.client.headers, timeout=60) as own:
            while time.monotonic() < until:
                at = rng.randrange(len(bodies))
                response = own.post("/api/v1/search", json=bodies[at])
                if response.status_code == 503:
                    if "retry-after" not in response.headers:
                        wrong.append("503 without Retry-After")
                    time.sleep(0.05)
                elif response.status_code != 200:
                    wrong.append(response.text)
                elif response.json()["hits"] != expected[at]:
                    wrong.append(f"another answer to {bodies[at]}")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(32)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    return wrong


def questions(server: Running, sounds: soundalike.Sounds, tmp_path: Path) -> list[Any]:
    ids = [str(hit.window_id) for hit in sounds.search(where="duration > 1", k=20)]
    clip = server.send(write_tone(tmp_path / "tone.wav", 3.0))["id"]
    filters = [{}, {"tags": ["Animal"], "threshold": 0.1}, {"where": "duration > 2"}]
    asking = [{"window": one} for one in ids] + [{"clip": clip}]
    return [{"like": [one], **some, "k": 5} for one in asking for some in filters]


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_32_clients_get_the_answers_of_one(
    server: Running, sounds: soundalike.Sounds, tmp_path: Path, seconds: float
) -> None:
    bodies = questions(server, sounds, tmp_path)
    expected = [server.post("search", **one)["hits"] for one in bodies]
    assert ask_for(server, seconds / 2, bodies, expected) == []
    before = server.memory_bytes()  # of forty threads, each with some memory of its own
    assert ask_for(server, seconds / 2, bodies, expected) == []
    if seconds > 30:
        assert server.memory_bytes() < 1.1 * before


def bad_request(rng: random.Random) -> dict[str, Any]:
    """A request that is wrong in one way or another."""
    junk = "".join(chr(rng.choice([*range(32, 127), 0, 233, 0x202E, 0x1F600])) for _ in range(20))
    url = rng.choice(
        [
            *("/api/v1/search", "/api/v1/export", "/api/v1/clips", "/api/v1/tags", "/api/v1/nix"),
            *("/api/v1/windows/12/audio", "/api/v1/windows/x/peaks", "/api/v1/clips/x"),
            "/page/..%2f..%2f..%2fetc%2fpasswd",
        ]
    )
    kind = rng.randrange(10)
    how: dict[str, Any] = {"method": "POST", "url": url, "headers": {}}
    if kind == 0:
        how["headers"]["Host"] = rng.choice(["evil.example", "", "a" * 300, "127.0.0.1.evil"])
        how["url"] = "/api/v1/search"
    elif kind == 1:
        how["headers"]["Origin"] = "http://evil.example"
    elif kind == 2:
        how.update(method="GET", url="/api/v1/windows/12/audio")
        how["headers"]["Range"] = rng.choice(["bytes=9-1", "bytes=-", "x", "bytes=0-0," * 999])
    elif kind == 3:
        how["content"] = b"[" * rng.choice([10, 5_000, 900_000])
        how["headers"]["Content-Type"] = "application/json"
    elif kind == 4:
        how["content"] = junk.encode("utf-8", "surrogatepass") + b"\xff"
        how["headers"]["Content-Type"] = rng.choice(["application/json", "text/plain", "x", ""])
    elif kind == 5:
        how["content"] = b"--x\r\nContent-Disposition: form-data; name=file\r\n\r\n" + os.urandom(
            99
        )
        how["headers"]["Content-Type"] = rng.choice(
            ["multipart/form-data; boundary=x", "multipart/form-data", "multipart/form-data; =\0"]
        ).replace("\0", "")
    elif kind == 6:
        how["content"] = bytes(1_000_001)
        how["url"] = "/api/v1/search"
    elif kind == 7:
        value = rng.choice([junk, -1, 1e308, None, True, [], {"a": 1}, "NaN", "9" * 400])
        names = ["k", "like", "unlike", "tags", "where", "threshold", "cursor", "by", "min_score"]
        how["json"] = {rng.choice(names): value, rng.choice(names): value}
    elif kind == 8:
        how["method"] = rng.choice(["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "GET", "HEAD"])
        how["url"] = rng.choice([url, f"/{junk}", "/api/v1/search"])
    else:
        how["content"] = json.dumps({"where": "(" * rng.choice([50, 3000]) + "Dog"}).encode()
        how["headers"]["Content-Type"] = "application/json"
        how["url"] = "/api/v1/search"
    return how


def test_a_thousand_bad_requests_do_no_harm(server: Running) -> None:
    rng, statuses = random.Random(1), set()
    before = server.memory_bytes()
    for _ in range(1000):
        how = bad_request(rng)
        try:
            response = server.client.request(**how)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError):
            continue  # the client, or uvicorn, has closed the connection
        assert 400 <= response.status_code < 500 or (
            how["method"] in ("GET", "HEAD", "OPTIONS") or "tags" in how["url"]
        ), (how, response.status_code, response.text[:200])
        assert response.status_code < 500, (how, response.text[:200])
        statuses.add(response.status_code)
    assert {400, 403, 404, 405, 413, 422} <= statuses
    assert server.get("stores")["has_index"]
    assert server.memory_bytes() < before + 50e6


def test_bytes_that_are_no_http_do_no_harm(server: Running) -> None:
    host, port = server.root.removeprefix("http://").split(":")
    for content in (
        b"\x00" * 1000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000,
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"POST /api/v1/search HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /api/v1/search HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
    ):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(1 << 16)
        assert not answer or answer.split(b" ")[1].startswith(b"4"), (content[:40], answer[:80])
    assert server.get("stores")["has_index"]
