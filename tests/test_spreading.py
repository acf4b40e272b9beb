"""The option --ray, and what is told where there is no Ray, or no cluster."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Run
from synthetic import make_store

import soundalike
from indexer.errors import SoundalikeError
from indexer.run.cluster import connect
from search.upkeep.build import build
from soundalike.cli.spreading import spell_out


@pytest.mark.parametrize(
    ("words", "spelt"),
    [
        ("--ray", "--ray=auto"),
        ("STORE --ray clip.wav", "STORE --ray=auto clip.wav"),
        ("STORE --ray --quiet", "STORE --ray=auto --quiet"),
        ("STORE --ray 10.0.0.1:6379 clip.wav", "STORE --ray 10.0.0.1:6379 clip.wav"),
        ("--ray head-1.example.org:6379", "--ray head-1.example.org:6379"),
        ("--ray ray://head:10001", "--ray ray://head:10001"),
        ("--ray [fe80::1]:6379", "--ray [fe80::1]:6379"),
        ("--ray auto STORE", "--ray auto STORE"),
        ("--ray=10.0.0.1:6379", "--ray=10.0.0.1:6379"),
        ("--ray hour.wav@31:10-31:13", "--ray=auto hour.wav@31:10-31:13"),
        ("STORE -- --ray", "STORE -- --ray"),
        ("STORE clip.wav", "STORE clip.wav"),
        ("", ""),
    ],
)
def test_what_is_behind_the_option_is_its_value_if_it_reads_as_an_address(
    words: str, spelt: str
) -> None:
    assert list(spell_out(words.split())) == spelt.split()


def test_without_ray_one_line_says_what_brings_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SoundalikeError, match=r"Ray, which spreads .*, is not installed"):
        soundalike.open(tmp_path, ray=True)
    told = run("search", tmp_path / "store", "--tag", "Dog", "--ray", code=1)
    assert told.err == (
        "soundalike: Ray, which spreads work over machines, is not installed; "
        "'pip install \"soundalike[ray]\"' brings it\n"
    )
    assert told.out == ""


@pytest.mark.whole
@pytest.mark.parametrize("address", ["", "nonsense", "a b:6379", "host:", ":6379", "host:0"])
def test_an_address_that_is_none_is_named(address: str) -> None:
    with pytest.raises(SoundalikeError) as told:
        connect(address)
    assert repr(address) in str(told.value) or address in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.whole
def test_an_address_where_nothing_answers_is_named_within_seconds(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "store")
    store.add({"one": 3})
    build(store.store)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    told = run("search", store.store.path, "--tag", "Dog", "--ray", address, code=1)
    assert told.err.startswith(f"soundalike: no Ray cluster answers at {address}: ")
    assert told.err.endswith("Connection refused\n")
    assert told.err.count("\n") == 1
    assert told.out == ""
    monkeypatch.setenv("RAY_ADDRESS", address)  # of the cluster that is meant
    with pytest.raises(SoundalikeError, match=f"no Ray cluster answers at {address}"):
        soundalike.open(store.store.path, ray=True)
    assert time.monotonic() - began < 30


@contextmanager
def answering(reply: bytes | None) -> Iterator[str]:
    """Something else that listens: it sends some bytes, and ends; or it says nothing."""

    def serve() -> None:
        reached, _ = listening.accept()
        with reached:
            if reply is None:
                ended.wait(60)
            else:
                reached.sendall(reply)

    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        ended.set()
        thread.join()


@pytest.mark.whole
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers at .* is no Ray cluster"),
        (b"", "what answers at .* is no Ray cluster|no Ray cluster answers at .*reset"),
        (None, "no Ray cluster answers at .*: timed out"),
    ],
)
def test_what_is_no_cluster_is_told_within_seconds(reply: bytes | None, reason: str) -> None:
    began = time.monotonic()
    with answering(reply) as address, pytest.raises(SoundalikeError, match=reason):
        connect(address)
    assert time.monotonic() - began < 20
