"""Objects in buckets and on web servers: read as files are, whatever servers do meanwhile."""

from __future__ import annotations

import logging
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import REPOSITORY, Run
from object_server import Faults, ObjectServer, serving
from synthetic import write_tone
from web_server import serving as web_serving

import soundalike
from indexer.audio.content import recording_digest, state_of
from indexer.audio.remote import objects as remote_objects
from indexer.audio.remote.link import Link
from indexer.audio.remote.objects import Objects, objects
from indexer.errors import (
    AudioError,
    LibraryError,
    OutputError,
    QueryError,
    SoundalikeError,
    StoreError,
)
from indexer.library.walk import read_list, walk
from indexer.paths import Address, address_of, as_place
from indexer.store.creation import require_place
from indexer.store.reader import Store
from search.output import make_folder, require_file, require_folder, require_free
from soundalike import Sounds

#: Names as buckets have them, and addresses should not mind.
ODD = "Möwe #1 + 100% ?.wav"
NAMES = ["a.wav", "b.wav", f"deep/er/{ODD}", "deep/c.wav", "notes.txt", ".hidden/d.wav"]
SOUNDS = sorted(name for name in NAMES if name.endswith(".wav") and not name.startswith("."))


# --- addresses -----------------------------------------------------------------------------------


def test_address_is_used_like_a_path() -> None:
    root = as_place("s3://bucket/some folder/")
    below = root / "a/b.wav"
    assert isinstance(below, Address)
    assert str(below) == os.fspath(below) == "s3://bucket/some folder/a/b.wav"
    assert str(below.relative_to(root)) == "a/b.wav"
    assert below.is_relative_to(root)
    assert (below.name, below.suffix, str(below.parent)) == ("b.wav", ".wav", str(root / "a"))
    assert below.is_absolute()
    assert below.absolute() == below.resolve() == below
    assert not below.exists()
    assert pickle.loads(pickle.dumps(below)) == below  # noqa: S301 - it was just made
    assert as_place(Path("s3://bucket/x")) == as_place("s3://bucket/x")  # as a command takes it
    assert str(as_place(Path("https://host:8080/a%20b"))) == "https://host:8080/a%20b"


@pytest.mark.parametrize(
    "text", ["a.wav", "s3", "s3:x.wav", "/s3:/x", "C:/x", "ftp://x/y", "", "azure:/x"]
)
def test_what_is_no_address_stays_a_path(text: str) -> None:
    assert address_of(text) is None
    assert as_place(text) == Path(text)


@pytest.mark.parametrize(
    "text",
    [
        *("https://me:secret@host/x", "https://host/x?sig=secret", "s3://id:secret@bucket/x"),
        *("https://host/a!/x.wav?sig=secret", "https://host/a.tar?sig=secret"),
    ],
)
def test_address_with_a_secret_in_it_is_refused_without_saying_it(text: str) -> None:
    with pytest.raises(QueryError, match="credentials come from the environment") as refused:
        address_of(text)
    assert "secret" not in str(refused.value)


# --- a bucket as a library -----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        write_tone(tmp_path / "sounds" / f"{name}.wav", 3 + number, 300 + 50 * number)
        (tmp_path / "sounds" / f"{name}.wav").rename(tmp_path / "sounds" / name)
    return tmp_path / "sounds"


@pytest.fixture
def server(whole: None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    with serving(folder) as server:
        for name, value in server.variables().items():
            monkeypatch.setenv(name, value)
        yield server
    objects.close()


def names_of(root: str) -> list[str]:
    return [one.path for one in walk(as_place(root)).files]


def test_walk_of_a_bucket_is_that_of_the_folder(server: ObjectServer, folder: Path) -> None:
    local, remote = walk(folder), walk(as_place(server.address))
    assert [one.path for one in remote.files] == [one.path for one in local.files] == SOUNDS
    assert [one.path for one in remote.hidden] == [one.path for one in local.hidden]
    assert remote.files.sizes.tolist() == local.files.sizes.tolist()
    assert remote.num_skipped == local.num_skipped
    assert server.count() == {}  # what the list says is not asked again
    web = walk(as_place(server.endpoint))
    assert [one.path for one in web.files if "deep/er" not in one.path] == [
        one for one in SOUNDS if one != f"deep/er/{ODD}"
    ]
    odd = next(one for one in web.files if "deep/er" in one.path)
    assert recording_digest(odd.local(web.root)) == recording_digest(folder / "deep/er" / ODD)


def test_part_of_a_bucket_is_a_library(server: ObjectServer) -> None:
    assert names_of(f"{server.address}/deep") == ["c.wav", f"er/{ODD}"]
    assert names_of(f"{server.address}/deep/er/") == [ODD]
    with pytest.raises(LibraryError, match="no audio in s3://sounds/dee: there is no file in it"):
        walk(as_place(f"{server.address}/dee"))  # a name that begins so is not below it
    with pytest.raises(LibraryError, match=r"s3://sounds/a.wav is not a folder; name the folder"):
        walk(as_place(f"{server.address}/a.wav"))


def test_long_lists_come_in_pages(server: ObjectServer, folder: Path) -> None:
    for number in range(1200):
        (folder / f"{number:04}.mp3").write_bytes(b"x")
    expected = names_of(server.address)
    assert len(expected) == 1200 + len(SOUNDS)
    assert [method for method, _ in server.asked].count("LIST") == 13
    web = names_of(server.endpoint)
    server.faults = Faults(lists_share=0.1, statuses=(0,))
    for _ in range(4):
        assert names_of(server.address) == expected
        assert names_of(server.endpoint) == web
    assert [method for method, _ in server.asked].count("LIST") > 5 * 13


def test_list_of_addresses_or_of_names_below_one(server: ObjectServer, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text(f"{server.address}/a.wav\ndeep/c.wav\ngone.wav\n")
    found = read_list(as_place(server.address), names)
    assert [one.path for one in found.files] == ["a.wav", "deep/c.wav", "gone.wav"]
    assert [bool(one.size) for one in found.files] == [True, True, False]
    for outside in ("s3://other/a.wav", "../a.wav", "/etc/passwd"):
        names.write_text(outside)
        with pytest.raises(LibraryError, match="outside the library"):
            read_list(as_place(f"{server.address}/deep"), names)


def test_object_is_read_as_the_file_is(server: ObjectServer, folder: Path) -> None:
    root = as_place(server.address)
    for name in SOUNDS:
        assert recording_digest(root / name) == recording_digest(folder / name)
        assert state_of(root / name).size == (folder / name).stat().st_size
    assert server.count() == {"GET": len(SOUNDS)}


def test_what_is_fetched_twice_by_threads_is_fetched_once(server: ObjectServer) -> None:
    server.faults.delay_s = 0.2
    some, got = Objects(), list[bytes]()
    work = [
        threading.Thread(target=lambda: got.append(some.digest(as_place(server.address) / "a.wav")))
        for _ in range(6)
    ]
    for one in work:
        one.start()
    for one in work:
        one.join()
    assert len(got) == 6
    assert len(set(got)) == 1
    assert server.count() == {"GET": 1}


def test_opened_files_of_one_object_do_not_move_each_other(server: ObjectServer) -> None:
    path = as_place(server.address) / "a.wav"
    with objects.open(path) as first, objects.open(path) as second:
        assert first.read(4) == second.read(4) == b"RIFF"
        assert first.read(4) == second.read(4)


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("statuses", [(500, 0), (503, 429), (0,), (408, 502)])
def test_what_may_pass_is_asked_for_again(
    server: ObjectServer, folder: Path, statuses: tuple[int, ...]
) -> None:
    server.faults = Faults(share=0.3, statuses=statuses)
    some, root = Objects(), as_place(server.address)
    for _ in range(4):
        some.close()
        for name in SOUNDS:
            assert some.digest(root / name) == recording_digest(folder / name)
    assert server.count()["GET"] > 4 * len(SOUNDS)


@pytest.mark.parametrize(
    ("status", "reason", "num_asked"),
    [
        (403, r"access denied \(403 Injected\): credentials come from the environment", 1),
        (404, r"there is nothing of this name \(404 Injected\)", 1),
    ],
)
def test_what_does_not_pass_is_said_at_once(
    server: ObjectServer, status: int, reason: str, num_asked: int
) -> None:
    server.faults.always = {"a.wav": status}
    with pytest.raises(AudioError, match=reason) as failed:
        objects.open(as_place(server.address) / "a.wav")
    assert failed.value.stage == "access"
    assert server.count() == {"GET": num_asked}
    assert "secret" not in str(failed.value)


def test_server_that_keeps_failing_is_named(server: ObjectServer) -> None:
    server.faults.always = {"a.wav": 500}
    with pytest.raises(AudioError, match=r"the server fails \(500 Injected\), and did each time"):
        objects.open(as_place(server.address) / "a.wav")
    assert server.count()["GET"] > 3


def test_process_that_fetches_is_started_anew(server: ObjectServer) -> None:
    path = as_place(server.address) / "a.wav"
    some = Objects()
    before = some.digest(path)
    link = some._linked()
    link._process.kill()
    link._process.wait()
    some._contents.clear()
    link._listener.join()
    assert some.digest(path) == before
    assert some._linked() is not link


def test_what_is_fetched_while_that_process_dies_is_fetched_by_the_next(
    server: ObjectServer, folder: Path
) -> None:
    server.faults.delay_s = 0.5
    some, got = Objects(), list[bytes]()
    path = as_place(server.address) / "a.wav"
    asks = threading.Thread(target=lambda: got.append(some.digest(path)))
    asks.start()
    while not server.asked:
        time.sleep(0.01)
    some._linked()._process.kill()
    asks.join()
    assert got == [recording_digest(folder / "a.wav")]


@pytest.mark.whole
@pytest.mark.timeout(60)
def test_many_questions_at_once_are_all_answered() -> None:
    """Neither end waits for the other to hear it before it hears the other itself."""
    link = Link()
    answers = [link.ask({"do": "nothing", "url": ""}) for _ in range(5000)]
    assert all(isinstance(one.exception(), OSError) for one in answers)
    link.end()


def test_contents_that_threads_wait_for_may_be_let_go_meanwhile(
    server: ObjectServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_objects, "_MOST_HELD", 1)
    some, root, failed = Objects(), as_place(server.address), list[object]()

    def ask(name: str) -> None:
        try:
            assert some.digest(root / name) == recording_digest(folder / name)
        except Exception as error:  # noqa: BLE001 - threads keep them to themselves
            failed.append(error)

    for _ in range(10):
        some._contents.clear()
        work = [threading.Thread(target=ask, args=(name,)) for name in SOUNDS * 8]
        for one in work:
            one.start()
        for one in work:
            one.join()
    assert failed == []


def test_other_variables_are_heard_of(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = as_place(server.address) / "a.wav"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{server.endpoint}/nowhere")
    with pytest.raises(FileNotFoundError):
        state_of(path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    assert state_of(path).size
    objects.open(path).close()
    before = objects._linked()
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    assert objects._linked() is before
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{server.endpoint}/nowhere")
    with pytest.raises(AudioError, match="404"):  # what came from the other is not given for it
        objects.open(path)


@pytest.mark.whole
def test_without_obstore_one_line_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['obstore'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'obstore' else find(name, *rest)\n"
        "sys.argv = ['soundalike', 'extract', 's3://bucket/x', 'store', '--checkpoint', 'demo']\n"
        "from soundalike.__main__ import main; main()"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert told.returncode == 1
    assert told.stderr.count("\n") == 1
    assert "soundalike[remote]" in told.stderr


def test_store_lies_on_a_disk() -> None:
    with pytest.raises(StoreError, match="lies on a disk here, not at s3://bucket/x"):
        require_place(Path("s3://bucket/x"))


def test_nothing_is_written_to_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder may be there that is called as the scheme is: it is not what was meant."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:" / "bucket").mkdir(parents=True)
    for path in (Path("s3://bucket/hits.csv"), Path("https://host/hits.csv")):
        for require in (make_folder, require_folder, require_free):
            with pytest.raises(OutputError, match=f"cannot write {as_place(path)}: files are"):
                require(path)
        with pytest.raises(OutputError, match=f"cannot write {as_place(path)}: files are"):
            require_file(path, ".csv")
    with pytest.raises(StoreError, match="a store lies on a disk here, not at s3://bucket/store"):
        Store.open(Path("s3://bucket/store"))


# --- runs ----------------------------------------------------------------------------------------


@pytest.fixture
def opened(tiny_file: Path) -> Callable[[Path], Sounds]:
    """Opens a store, or makes one, with a small network."""

    def open_store(path: Path) -> Sounds:
        return soundalike.open(path, checkpoint=tiny_file, device="cpu", precision="fp32")

    return open_store


def scenes_of(path: Path) -> dict[int, bytes]:
    """Window id → scene, to the bit."""
    snapshot = Store.open(path).snapshot()
    rows = np.arange(len(snapshot))
    ids = snapshot.windows.window_id.tolist()
    return dict(zip(ids, (one.tobytes() for one in snapshot.scene(rows)), strict=True))


def rows_of(path: Path) -> dict[str, tuple[str, str | None]]:
    """Path → status and reason."""
    return {
        row["path"]: (row["status"], row["reason"])
        for row in Store.open(path).files(("path", "status", "reason")).to_pylist()
    }


def test_bucket_gives_the_windows_of_the_folder(
    server: ObjectServer, folder: Path, tmp_path: Path, opened: Callable[[Path], Sounds]
) -> None:
    local = opened(tmp_path / "local")
    local.extract(folder, frames="none")
    for name, root in (("bucket", server.address), ("web", server.endpoint)):
        store = tmp_path / name
        server.faults = Faults(share=0.2, statuses=(500, 0))
        report = opened(store).extract(root, frames="none")
        assert (report.num_embedded, report.failures) == (len(SOUNDS), [])
        assert scenes_of(store) == scenes_of(tmp_path / "local")
        server.faults = Faults()
        server.asked.clear()
        again = opened(store).extract(root)
        assert (again.num_unchanged, again.num_embedded) == (len(SOUNDS), 0)
        assert server.count() == {}
        told = b"".join(one.read_bytes() for one in store.rglob("*") if one.is_file())
        assert b"secret" not in told
        assert b"the-key-id" not in told


def test_what_changes_in_a_bucket_is_noticed(
    server: ObjectServer, folder: Path, tmp_path: Path, opened: Callable[[Path], Sounds]
) -> None:
    root, sounds = server.address, opened(tmp_path / "store")
    sounds.extract(root, frames="none")
    before = folder / "a.wav"
    status = before.stat()
    new = write_tone(tmp_path / "new.wav", 3, 999)
    assert new.stat().st_size == status.st_size
    new.replace(before)
    os.utime(before, ns=(status.st_atime_ns, status.st_mtime_ns))  # its etag alone is another
    (folder / "b.wav").rename(folder / "z.wav")
    (folder / "deep" / "c.wav").unlink()
    server.asked.clear()
    objects.close()
    report = sounds.extract(root)
    assert report.num_embedded == 1
    assert server.count()["GET"] == 2  # the changed one, and the one with a new name
    rows = rows_of(tmp_path / "store")
    assert rows["b.wav"] == ("moved", "now at z.wav")
    assert rows["deep/c.wav"][0] == "gone"
    assert rows["a.wav"][0] == rows["z.wav"][0] == "ok"


def test_object_that_is_refused_or_gone_has_a_row_and_is_tried_again(
    server: ObjectServer, tmp_path: Path, opened: Callable[[Path], Sounds]
) -> None:
    sounds = opened(tmp_path / "store")
    server.faults.always = {"a.wav": 403, "b.wav": 404}
    report = sounds.extract(server.address, frames="none")
    assert sorted((one.path, one.stage) for one in report.failures) == [
        ("a.wav", "access"),
        ("b.wav", "access"),
    ]
    assert report.num_embedded == len(SOUNDS) - 2
    assert "(403 Injected)" in str(rows_of(tmp_path / "store")["a.wav"])
    server.faults.always = {}
    objects.close()
    assert sounds.extract(server.address).num_embedded == 2


@pytest.mark.parametrize("etag", ["changing", "constant"])
def test_etags_that_lie_spoil_nothing(
    server: ObjectServer, folder: Path, tmp_path: Path, opened: Callable[[Path], Sounds], etag: str
) -> None:
    """At worst an object is fetched again; what it is called by is its content."""
    server.faults.etag = etag
    sounds = opened(tmp_path / "store")
    assert sounds.extract(server.address, frames="none").num_embedded == len(SOUNDS)
    before = scenes_of(tmp_path / "store")
    objects.close()
    assert sounds.extract(server.address).num_embedded == 0
    assert scenes_of(tmp_path / "store") == before
    write_tone(folder / "a.wav", 7, 777)
    objects.close()
    assert sounds.extract(server.address).num_embedded == 1
    opened(tmp_path / "local").extract(folder, frames="none")
    assert scenes_of(tmp_path / "store") == scenes_of(tmp_path / "local")


def test_list_of_files_on_a_server_that_lists_nothing(
    server: ObjectServer, tmp_path: Path, opened: Callable[[Path], Sounds]
) -> None:
    server.faults = Faults(always={"b.wav": 403}, lists=False)
    names = tmp_path / "names.txt"
    names.write_text("a.wav\nb.wav\ngone.wav\ndeep/c.wav\n")
    sounds = opened(tmp_path / "store")
    report = sounds.extract(server.endpoint, files_from=names, frames="none")
    assert report.num_embedded == 2
    assert sorted(one.path for one in report.failures) == ["b.wav", "gone.wav"]
    with pytest.raises(
        LibraryError, match=r"cannot be listed: .*\(405\); name the files in a list"
    ):
        walk(as_place(server.endpoint))


def test_server_that_vanishes_takes_nothing_with_it(
    server: ObjectServer, folder: Path, tmp_path: Path, opened: Callable[[Path], Sounds]
) -> None:
    sounds = opened(tmp_path / "store")
    sounds.extract(server.address, frames="none")
    away = folder.rename(tmp_path / "away")
    folder.mkdir()
    with pytest.raises(SoundalikeError, match="no longer in s3://sounds"):
        sounds.extract(server.address)
    folder.rmdir()
    away.rename(folder)
    objects.close()
    assert sounds.extract(server.address).num_unchanged == len(SOUNDS)


def test_hits_are_read_from_where_they_are(
    server: ObjectServer, folder: Path, tmp_path: Path, tiny_file: Path, run: Run
) -> None:
    store = tmp_path / "store"
    run("index", server.address, "--store", store, "--checkpoint", tiny_file)
    report = tmp_path / "hits.html"
    told = run(
        "search",
        store,
        f"{server.address}/a.wav",
        "--format",
        "json",
        "--copy-to",
        tmp_path / "copies",
        "--report",
        report,
    )
    assert {hit["paths"][0] for hit in told.hits} == {
        f"{server.address}/{name}" for name in SOUNDS if name != "a.wav"
    }
    assert all(hit["is_there"] for hit in told.hits)
    assert len(list((tmp_path / "copies").iterdir())) == len(told.hits)
    assert report.read_text().count("data:audio/") >= len(told.hits)
    run("tag", f"{server.address}/a.wav", "--checkpoint", tiny_file)
    listed = run("files", store).out
    assert f"{server.address}/a.wav" in listed
    assert "s3:/s" not in listed
    assert "s3://sounds" in run("forget", store, server.address, "--yes").out


def test_page_and_programs_that_ask_it_read_objects(
    server: ObjectServer, folder: Path, tmp_path: Path, tiny_file: Path, run: Run
) -> None:
    store = tmp_path / "store"
    run("index", server.address, "--store", store, "--checkpoint", tiny_file)
    with web_serving(store) as running, soundalike.connect(running.address) as remote:
        local = soundalike.open(store).search(f"{server.address}/a.wav", k=2)
        answer = remote.search(f"{server.address}/a.wav", k=2)
        assert [hit.window_id for hit in answer] == [hit.window_id for hit in local]
        assert [hit.paths for hit in answer] == [hit.paths for hit in local]
        hit = answer[0]
        samples, rate_hz = remote.audio(hit.window_id)
        path = folder / str(hit.paths[0]).removeprefix(f"{server.address}/")
        expected, expected_hz = soundfile.read(path, dtype="float32", always_2d=True)
        assert rate_hz == expected_hz
        np.testing.assert_allclose(samples, expected[: len(samples)], atol=1e-4)


@pytest.fixture
def s3(whole: None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The folder in a bucket of a server that others wrote."""
    server_module = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "key",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="library")
    for name in NAMES:
        client.upload_file(str(folder / name), "library", f"all/{name}")
    yield "s3://library/all"
    server.stop()
    objects.close()


def test_real_s3_gives_the_windows_of_the_folder(
    s3: str, folder: Path, tmp_path: Path, opened: Callable[[Path], Sounds]
) -> None:
    opened(tmp_path / "local").extract(folder, frames="none")
    remote = opened(tmp_path / "remote")
    assert remote.extract(s3, frames="none").num_embedded == len(SOUNDS)
    assert scenes_of(tmp_path / "remote") == scenes_of(tmp_path / "local")
    assert remote.extract(s3).num_unchanged == len(SOUNDS)


def test_names_that_consoles_and_programs_give(s3: str, folder: Path) -> None:
    """An empty object stands for a folder; one name that no path can have hides all others."""
    client = pytest.importorskip("boto3").client("s3")
    for key in ("all/", "all/deep/", "all/er\u0301.wav", "all/back\\slash.wav", "all/q?#%20.wav"):
        client.put_object(Bucket="library", Key=key, Body=b"x" if key.endswith("wav") else b"")
    found = walk(as_place(s3))
    odd = ["back\\x5cslash.wav", "er\u0301.wav", "q?#%20.wav"]
    assert sorted(one.path for one in found.files) == sorted(SOUNDS + odd)
    assert found.unreadable == []
    assert all(recording_digest(one.local(found.root)) for one in found.files)
    for key, shown in (("all/a//b.wav", "all/a//b.wav"), ("all/\x01.wav", r"all/\x01.wav")):
        client.put_object(Bucket="library", Key=key, Body=b"x")
        with pytest.raises(LibraryError, match=re.escape(f"the name {shown} cannot be read")):
            walk(as_place(s3))
        client.delete_object(Bucket="library", Key=key)
