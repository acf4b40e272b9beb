"""Archives in buckets: what is in them is read as on a disk, and no more of them is fetched."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st
from object_server import Faults, ObjectServer
from pack_files import write_tar, write_zip
from synthetic import write_tone
from test_remote import ODD, SOUNDS, names_of, rows_of, scenes_of
from test_remote import folder as folder
from test_remote import opened as opened
from test_remote import s3 as s3
from test_remote import server as server

from indexer.arrays import ID_DTYPE
from indexer.audio.content import bytes_of, fetch_ahead, recording_digest, state_of
from indexer.audio.file import State, read_at, unnamed_file
from indexer.audio.packs import held as held_module
from indexer.audio.packs import listing, ranges
from indexer.audio.packs.held import _held, held
from indexer.audio.remote.objects import Part, objects
from indexer.audio.times import file_span
from indexer.errors import AudioError, LibraryError, SoundalikeWarning
from indexer.library.packs import require_folder
from indexer.library.walk import read_list, walk
from indexer.paths import Address, as_place
from indexer.progress import Step
from indexer.reading import dataset
from indexer.reading.dataset import WindowDataset, Work
from indexer.reading.events import Failure
from indexer.reading.readers import load_windows
from indexer.store.reader import Store
from indexer.windows import Geometry
from search.upkeep.build import build
from search.upkeep.files import list_files
from soundalike import Sounds

ENDINGS = ("tar", "zip")
WRITERS = {"tar": write_tar, "zip": write_zip}


def forget() -> None:
    """What another process would not know."""
    objects.close()
    _held._packs.clear()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    forget()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "cache" / "soundalike" / "archives"
    forget()


@pytest.fixture
def packed(folder: Path, tmp_path: Path) -> Path:
    """The sounds of the folder in archives, beside those that they are of; returns a copy of it."""
    files = [(path.name, path.read_bytes()) for path in sorted(folder.rglob("*.wav"))]
    for ending in ENDINGS:
        WRITERS[ending](folder / "packs" / f"all.{ending}", files)
    with tarfile.open(folder / "packs" / "undated.tar", "w") as tar:
        info = tarfile.TarInfo("sub/e.wav")
        info.size = len(files[0][1])
        tar.addfile(info, io.BytesIO(files[0][1]))
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_walk_of_archives_in_a_bucket_is_that_of_those_on_a_disk(
    server: ObjectServer, packed: Path
) -> None:
    local, remote = walk(packed), walk(as_place(server.address))
    paths = [one.path for one in local.files]
    assert [one.path for one in remote.files] == paths
    assert sum("!/" in path for path in paths) == 11
    there, here = ([one for one in found.files if "/all." in one.path] for found in (remote, local))
    assert [(one.path, one.size, one.mtime_ns // 10**9) for one in there] == [
        (one.path, one.size, one.mtime_ns // 10**9) for one in here
    ]
    for file in remote.files:
        there, here = file.local(remote.root), file.local(packed)
        assert state_of(there).size == state_of(here).size
        assert recording_digest(there) == recording_digest(here)
        assert bytes_of(there) == bytes_of(here)


def test_bucket_with_archives_gives_the_windows_of_the_folder(
    server: ObjectServer,
    packed: Path,
    tmp_path: Path,
    opened: Callable[[Path], Sounds],
) -> None:
    opened(tmp_path / "local").extract(packed, frames="none")
    remote = opened(tmp_path / "remote")
    server.faults = Faults(share=0.2, statuses=(500, 0))
    report = remote.extract(server.address, frames="none")
    assert report.failures == []
    assert scenes_of(tmp_path / "remote") == scenes_of(tmp_path / "local")
    assert rows_of(tmp_path / "remote") == rows_of(tmp_path / "local")
    server.faults = Faults()
    forget()
    server.asked.clear()
    again = remote.extract(server.address)
    assert (again.num_unchanged, again.num_embedded) == (len(rows_of(tmp_path / "local")), 0)
    assert server.count() == {"HEAD": 3}  # of each archive, whether it is the same


@pytest.mark.parametrize("ending", ENDINGS)
def test_archive_in_a_bucket_is_a_library(
    server: ObjectServer,
    packed: Path,
    tmp_path: Path,
    opened: Callable[[Path], Sounds],
    ending: str,
) -> None:
    for number, root in enumerate((server.address, server.endpoint)):
        store = opened(tmp_path / f"store {number}")
        report = store.extract(f"{root}/packs/all.{ending}", frames="none")
        assert (report.num_embedded, report.failures) == (5, [])
        assert set(rows_of(tmp_path / f"store {number}")) == {
            path.name for path in packed.rglob("*.wav")
        }
        server.asked.clear()
        assert store.extract(f"{root}/packs/all.{ending}").num_unchanged == 5
        assert server.count()["GET"] == 0


def test_hits_are_read_from_an_archive_in_a_bucket(
    server: ObjectServer, packed: Path, tmp_path: Path, run: Run, tiny_file: Path
) -> None:
    store, root = tmp_path / "store", f"{server.address}/packs/all.tar"
    run("index", root, "--store", store, "--checkpoint", tiny_file, "--frames", "none")
    forget()
    asked = f"{root}!/a.wav"
    copies = tmp_path / "copies"
    told = run("search", store, asked, "-k", "3", "--copy-to", copies)
    assert f"{root}!/" in told.out
    assert len(list(copies.iterdir())) == 3
    failed = run("search", store, root, code=1)
    assert "it is a pack; a sound in it is named as in all.tar!/" in failed.err
    failed = run("search", store, f"{root}!/aa.wav", code=1)
    assert "no such file" in failed.err
    assert "all.tar has a.wav" in failed.err


def test_only_what_is_read_is_fetched(server: ObjectServer, folder: Path) -> None:
    """Headers of large members lie apart, and those of small ones come together."""
    rng = np.random.default_rng(1)
    large = [(f"{row}.wav", rng.bytes(3 << 20)) for row in range(8)]
    small = [(f"{row}.wav", rng.bytes(100_000)) for row in range(400)]
    sizes = {}
    for name, files in (("large", large), ("small", small)):
        for ending in ENDINGS:
            file = f"{name}.{ending}"
            write = WRITERS[ending]
            sizes[file] = write(folder / file, files).stat().st_size
    most = {
        "large.tar": (9, 10 << 16),
        "large.zip": (2, 2 << 16),
        "small.tar": (12, sizes["small.tar"] + (1 << 16)),
        "small.zip": (2, 2 << 16),
    }
    for file, (num_requests, num_bytes) in most.items():
        server.asked.clear()
        server.num_bytes = 0
        address = as_place(f"{server.address}/{file}!")
        pack = held(as_place(f"{server.address}/{file}"))
        files = large if "large" in file else small
        assert [one.name.decode() for one in pack.members] == [name for name, _ in files]
        assert server.count()["GET"] <= num_requests, server.asked
        assert server.num_bytes <= num_bytes
        server.num_bytes = 0
        for row in (5, 7, 5):
            assert b"".join(pack.content(row)) == files[row][1]
            assert bytes_of(address / files[row][0]) == files[row][1]
        assert server.num_bytes <= 2.1 * len(files[5][1]) + 3 * ranges._FEWEST_BYTES * 2


class _Bytes(ranges.ObjectRanges):
    """Some bytes, of which it is noted what would be fetched."""

    def __init__(self, content: bytes) -> None:
        super().__init__(Address("s3://bucket/x.tar"), State(len(content), 1))
        self._file = unnamed_file([content], len(content))
        self.ahead: set[tuple[int, int]] = set()

    def part(self, offset: int, num_bytes: int) -> tuple[io.FileIO, int]:
        self.ahead.discard((offset, num_bytes))
        content = read_at(self._file.fileno(), num_bytes, offset)
        assert len(content) == num_bytes > 0
        return self._file, offset

    def close(self) -> None:
        self._file.close()

    def fetch_ahead(self, offset: int, num_bytes: int) -> None:
        self.ahead.add((offset, num_bytes))

    def forgo(self, offset: int, num_bytes: int) -> None:
        self.ahead.remove((offset, num_bytes))


@given(
    st.lists(st.tuples(st.integers(-50, 5000), st.integers(-1, 900)), max_size=30),
    st.integers(1, 4000),
)
def test_headers_of_an_object_are_read_as_those_of_a_file(
    reads: list[tuple[int, int]], num_bytes: int
) -> None:
    content = np.random.default_rng(num_bytes).bytes(num_bytes)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ranges, "_FEWEST_BYTES", 16)
        patched.setattr(ranges, "_MOST_BYTES", 128)
        patched.setattr(ranges, "_CLOSE_BYTES", 32)
        source, plain = _Bytes(content), io.BytesIO(content)
        with source.headers() as found:
            found.allow(1 << 20)
            for offset, size in reads:
                if offset >= 0:
                    assert found.seek(offset) == plain.seek(offset)
                assert found.read(size) == plain.read(size)
                assert found.tell() == plain.tell()
            assert found.seek(-1, os.SEEK_END) == num_bytes - 1
            with pytest.raises(OSError, match="below 0"):
                found.seek(-num_bytes - 1, os.SEEK_END)
        source.close()
        assert not source.ahead  # nothing is fetched that nobody waits for


def test_archive_that_changes_is_read_anew_and_never_mixed(
    server: ObjectServer, folder: Path
) -> None:
    path = as_place(f"{server.address}/x.tar")
    first, second = os.urandom(300_000), os.urandom(300_000)
    write_tar(folder / "x.tar", [("a.wav", first), ("b.wav", first)])
    member, other = Address(f"{path}!/a.wav"), Address(f"{path}!/b.wav")
    assert bytes_of(member) == first
    write_tar(folder / "new.tar", [("a.wav", second), ("b.wav", second)]).replace(folder / "x.tar")
    with pytest.raises(AudioError, match="changed while it was read; run again"):
        recording_digest(other)
    assert bytes_of(other) == second  # what came said that it is another
    forget()
    assert bytes_of(member) == second


def test_listing_is_kept_and_found_again(
    server: ObjectServer, folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tar(folder / "x.tar", [("a.wav", b"a" * 1000), ("b/c.wav", b"b" * 1000)])
    path = as_place(f"{server.address}/x.tar")
    members = list(held(path).members)
    (kept,) = own_cache.iterdir()
    forget()
    server.asked.clear()
    assert list(held(path).members) == members
    assert server.count() == {"HEAD": 1}
    whole = kept.read_bytes()
    spoiled = (b"", whole[:-20], whole[:100] + bytes(40) + whole[140:], b"x" * 500)
    for content in spoiled:  # none of them is believed, and each is written anew
        kept.write_bytes(content)
        forget()
        assert list(held(path).members) == members
        assert kept.read_bytes() != content
    monkeypatch.setattr(listing, "_FORMAT", 99)
    server.asked.clear()
    forget()
    assert list(held(path).members) == members
    assert server.count()["GET"] == 1


def test_listing_needs_no_home(
    server: ObjectServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zip(folder / "x.zip", [("a.wav", b"a" * 1000)])
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(SoundalikeWarning, match="lists of archives in buckets cannot be kept"):
        assert bytes_of(Address(f"{server.address}/x.zip!/a.wav")) == b"a" * 1000


def test_listings_are_kept_within_bounds(
    server: ObjectServer, folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        write_tar(folder / f"{number}.tar", [("a.wav", b"a" * 1000)])
    held(as_place(f"{server.address}/0.tar"))
    (first,) = own_cache.iterdir()
    monkeypatch.setattr(listing, "_MOST_BYTES", 3 * first.stat().st_size + 10)
    monkeypatch.setattr(listing, "_KEPT_UNTIL_LOOKED_AT", 1)
    unfinished, begun = own_cache / "tmp1", own_cache / "tmp2"
    for path in (unfinished, begun):
        path.touch()
    os.utime(unfinished, (1, 1))
    os.utime(first, ns=(1, 1))
    for number in range(1, 5):
        held(as_place(f"{server.address}/{number}.tar"))
    assert len(list(own_cache.iterdir())) == 3 + 1
    assert (first.exists(), unfinished.exists(), begun.exists()) == (False, False, True)


def test_what_is_wrong_with_an_archive_in_a_bucket_is_one_line(
    server: ObjectServer, folder: Path, tmp_path: Path, opened: Callable[[Path], Sounds]
) -> None:
    sound = (folder / "a.wav").read_bytes()
    shutil.rmtree(folder)
    folder.mkdir()
    write_tar(folder / "cut.tar", [("a.wav", sound), ("b.wav", sound)])
    os.truncate(folder / "cut.tar", len(sound) + 2000)
    write_zip(folder / "cut.zip", [("a.wav", sound)])
    os.truncate(folder / "cut.zip", 5000)
    write_tar(folder / "out.tar", [("../c.wav", sound)])
    (folder / "none.tar").write_bytes(b"no archive" * 100)
    (folder / "empty.zip").touch()
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("bomb.wav", bytes(10_000_000))
        bomb.writestr("d.wav", sound)
        bomb.infolist()[0].file_size = 1000
    server.faults.always = {"refused.tar": 403}
    write_tar(folder / "refused.tar", [("e.wav", sound)])
    said: list[object] = []
    found = walk(as_place(server.address), listen=said.append)
    assert [one.path for one in found.files] == [
        *("bomb.zip!/bomb.wav", "bomb.zip!/d.wav", "cut.tar!/a.wav", "out.tar!/c.wav")
    ]
    reasons = dict(found.unreadable)
    assert reasons["cut.tar"] == "the pack is cut off, behind 1 member that can be read"
    assert "damaged, or cut off" in reasons["cut.zip"]
    assert "access denied (403" in reasons["refused.tar"]
    assert "files called .tar or .zip that are empty or no archive are skipped: 2" in said
    assert "names in packs that lead out of them are taken without '..': 1" in said
    store = opened(tmp_path / "store")
    report = store.extract(server.address, frames="none")
    assert {one.path: one.reason for one in report.failures}["bomb.zip!/bomb.wav"] == (
        "it unpacks to more than its 1,000 bytes"
    )
    listed = {row.path: row.reason for row in list_files(tmp_path / "store", ["skipped"])}
    assert listed["none.tar"] == "empty, or no archive, whatever its ending says"


def test_server_that_gives_no_parts_is_named(server: ObjectServer, folder: Path) -> None:
    write_tar(folder / "x.tar", [("a.wav", b"a" * 1000)])
    server.faults.ranges = False
    for root in (server.address, server.endpoint):
        with pytest.raises(
            LibraryError, match=r"x\.tar cannot be listed: the server gives no part"
        ):
            walk(as_place(f"{root}/x.tar"))


def test_what_is_no_archive_in_a_bucket_is_said(
    server: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    (folder / "x.tar").write_bytes(b"no archive" * 100)
    (folder / "x.tar.gz").write_bytes(b"gz")
    (folder / "x.h5").write_bytes(b"h5")
    write_zip(folder / "z.zip", [("b/a.wav", b"a")])
    for name, reason in (
        ("x.tar", "is no pack: it is no tar"),
        ("y.zip", "no audio in s3://sounds/y.zip: there is no file in it"),
        ("y.zip!", "there is nothing of this name"),
        ("x.tar!/a", "is in a pack, which is a library as a whole: name s3://sounds/x.tar"),
        ("z.zip/b", "is in a pack, which is a library as a whole: name s3://sounds/z.zip"),
        ("x.tar.gz", "is compressed as a whole"),
        ("x.h5", "lies in a bucket, where tars and zips are read, and no other packs; copy it"),
        ("sub.h5", "no audio in s3://sounds/sub.h5: there is no file in it"),
    ):
        with pytest.raises(LibraryError, match=reason):
            walk(as_place(f"{server.address}/{name}"))


def test_tables_in_a_bucket_are_skipped_and_told(server: ObjectServer, folder: Path) -> None:
    (folder / "x.parquet").write_bytes(b"PAR1")
    (folder / "x.h5").write_bytes(b"HDF5")
    said: list[object] = []
    walk(as_place(server.address), listen=said.append)
    assert "HDF5 and Parquet in buckets are skipped, copy them to a disk: 2" in said


def test_part_that_was_begun_and_is_not_wanted_is_let_go(
    server: ObjectServer, folder: Path
) -> None:
    (folder / "x.bin").write_bytes(os.urandom(1000))
    path = as_place(f"{server.address}/x.bin")
    part = Part(10, 20, state_of(path))
    objects.fetch_ahead(path, part)
    assert objects._under_way
    objects.forgo_part(path, part)
    assert not objects._under_way
    file = objects.part(path, part).file
    assert read_at(file.fileno(), 100, 0) == (folder / "x.bin").read_bytes()[10:30]


def test_real_s3_gives_what_is_in_an_archive(
    s3: str, folder: Path, tmp_path: Path, opened: Callable[[Path], Sounds]
) -> None:
    client = pytest.importorskip("boto3").client("s3")
    files = [(path.name, path.read_bytes()) for path in sorted(folder.rglob("*.wav"))]
    for ending in ENDINGS:
        file = WRITERS[ending](tmp_path / f"x.{ending}", files)
        client.upload_file(str(file), "library", f"packs/x.{ending}")
    opened(tmp_path / "local").extract(tmp_path / "x.tar", frames="none")
    for ending in ENDINGS:
        remote = opened(tmp_path / ending)
        address = f"s3://library/packs/x.{ending}"
        assert remote.extract(address, frames="none").num_embedded == len(files)
        assert scenes_of(tmp_path / ending) == scenes_of(tmp_path / "local")
        assert remote.extract(address).num_unchanged == len(files)
    with pytest.raises(FileNotFoundError):
        state_of(as_place("s3://library/packs/x.zip!/nothing.wav"))


def test_archives_are_listed_several_at_a_time(server: ObjectServer, folder: Path) -> None:
    """And heard of one after the other, in the order of their names."""
    for number in range(24):
        write_zip(folder / f"{number:02}.zip", [(f"{row}.wav", bytes(1000)) for row in range(3)])
    server.faults.delay_s = 0.1
    said: list[object] = []
    began = time.monotonic()
    found = walk(as_place(server.address), listen=said.append)
    assert time.monotonic() - began < 24 * 3 * 0.1 / 2  # three requests each, by eight threads
    members = [one.path for one in found.files if "!/" in one.path]
    assert members == [f"{number:02}.zip!/{row}.wav" for number in range(24) for row in range(3)]
    steps = [one for one in said if isinstance(one, Step) and one.what == "listing archives"]
    assert {one.name for one in steps} == {f"{number:02}.zip" for number in range(24)}
    assert sorted(one.done for one in steps) == [one.done for one in steps]
    assert steps[-1].done > 24 * 200


def test_walk_that_is_given_up_waits_for_no_listing(server: ObjectServer, folder: Path) -> None:
    for number in range(24):
        write_zip(folder / f"{number:02}.zip", [("a.wav", bytes(1000))])
    server.faults.delay_s = 0.5

    def stop(said: object) -> None:
        if isinstance(said, Step) and said.what == "listing archives":
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        walk(as_place(server.address), listen=stop)
    assert time.monotonic() - began < 4
    server.faults.delay_s = 0.0
    assert len(names_of(server.address)) == len(SOUNDS) + 24


def test_others_are_opened_while_one_is_listed(
    server: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    write_tar(folder / "x.tar", [("a.wav", bytes(1000))])
    here = write_tar(tmp_path / "x.tar", [("a.wav", bytes(1000))])
    path = as_place(f"{server.address}/x.tar")
    state_of(path)
    server.faults.delay_s = 1.0
    packs: list[object] = []
    threads = [threading.Thread(target=lambda: packs.append(held(path))) for _ in range(3)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    held(here)
    assert time.monotonic() - began < 0.8
    for thread in threads:
        thread.join()
    assert len(set(map(id, packs))) == 1
    assert server.count()["GET"] == 1


# --- what a stranger found -----------------------------------------------------------------------


def test_archive_replaced_between_digest_and_decoding_is_a_failure(
    server: ObjectServer,
    folder: Path,
    tmp_path: Path,
    opened: Callable[[Path], Sounds],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or the windows of one would be kept under the digest of the other."""
    first, second = (folder / name for name in ("a.wav", "b.wav"))
    write_tar(folder / "x.tar", [("one.wav", first.read_bytes())])
    other = write_tar(tmp_path / "other.tar", [("one.wav", second.read_bytes())])
    known = WindowDataset._known

    def replace(*given: Any) -> Any:
        if other.exists():
            other.replace(folder / "x.tar")
            objects._states.clear()  # a minute later
        return known(*given)

    monkeypatch.setattr(WindowDataset, "_known", replace)
    store = opened(tmp_path / "store")
    failed = store.extract(f"{server.address}/x.tar", frames="none", num_workers=0).failures
    assert [(one.path, one.reason) for one in failed] == [
        ("one.wav", "the file changed while it was read; run again")
    ]
    forget()
    assert store.extract(f"{server.address}/x.tar", num_workers=0).num_embedded == 1
    opened(tmp_path / "plain").extract(second.parent, include=["b.wav"], frames="none")
    assert scenes_of(tmp_path / "store") == scenes_of(tmp_path / "plain")


def test_archive_that_nothing_tells_from_another_is_refused(
    server: ObjectServer, folder: Path
) -> None:
    write_tar(folder / "x.tar", [("a.wav", bytes(1000))])
    server.faults.etag = "none"
    os.utime(folder / "x.tar", (0, 0))
    with pytest.raises(LibraryError, match=r"neither a date nor a version of it \(ETag\)"):
        walk(as_place(f"{server.address}/x.tar"))


def test_readers_that_list_are_not_taken_for_dead(
    server: ObjectServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no listing can be kept, each reader lists for itself, by many requests."""
    sound, apart = (folder / "a.wav").read_bytes(), bytes(ranges._CLOSE_BYTES + (1 << 17))
    more = [(f"{row}.bin", apart) for row in range(16)]
    for number in range(2):
        write_tar(folder / "packs" / f"{number}.tar", [("a.wav", sound), *more])
    monkeypatch.setattr(held_module, "_MOST_HELD", 1)
    monkeypatch.setattr(dataset, "_AHEAD", 0)
    monkeypatch.setattr(dataset, "_MOST_AHEAD", 0)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(SoundalikeWarning, match="cannot be kept"):
        found = walk(as_place(f"{server.address}/packs"))
    server.faults.delay_s = 0.4
    work = Work(found.root, found.files, Geometry(), 4, np.empty(0, ID_DTYPE), {}, 3600.0)
    batches = list(load_windows(work, num_workers=1, timeout_s=2.5))
    assert sum(len(batch.keys) for batch in batches) == 2
    assert not [one for batch in batches for one in batch.events if isinstance(one, Failure)]


@pytest.mark.parametrize("status", [403, 404])
def test_members_of_an_archive_that_is_listed_and_cannot_be_had_are_not_gone(
    server: ObjectServer,
    packed: Path,
    tmp_path: Path,
    opened: Callable[[Path], Sounds],
    status: int,
) -> None:
    store = opened(tmp_path / "store")
    store.extract(server.address, frames="none")
    shutil.rmtree(tmp_path / "cache")
    forget()
    before = rows_of(tmp_path / "store")
    server.faults.always = {"packs/all.tar": status}
    report = store.extract(server.address)
    assert [one.path for one in report.failures] == ["packs/all.tar"]
    after = rows_of(tmp_path / "store")
    assert {path: row for path, row in after.items() if path != "packs/all.tar"} == before
    server.faults.always = {}
    (server.folder / "packs" / "all.tar").unlink()
    forget()
    store.extract(server.address)
    rows = rows_of(tmp_path / "store")
    assert {row[0] for path, row in rows.items() if "all.tar!/" in path} == {"gone"}


def test_prefixes_and_buckets_may_be_called_as_archives_are(
    server: ObjectServer, folder: Path
) -> None:
    (folder / "sub.zip").mkdir()
    shutil.copy(folder / "a.wav", folder / "sub.zip" / "e.wav")
    assert names_of(f"{server.address}/sub.zip") == ["e.wav"]
    assert "sub.zip/e.wav" in names_of(server.address)
    assert require_folder(as_place("s3://sounds.zip")) == as_place("s3://sounds.zip")


def test_failure_to_ask_costs_one_member_and_not_all(server: ObjectServer, folder: Path) -> None:
    write_tar(folder / "x.tar", [(f"{row}.wav", bytes([row]) * 1000) for row in range(1, 9)])
    member = f"{server.address}/x.tar!/{{}}.wav"
    assert bytes_of(Address(member.format(1)))
    objects._states.clear()  # a minute later
    server.faults.always = {"x.tar": 403}
    with pytest.raises(AudioError, match="access denied"):
        bytes_of(Address(member.format(2)))
    server.faults.always = {}
    assert bytes_of(Address(member.format(3))) == b"\3" * 1000


def test_what_cannot_be_read_is_not_fetched(server: ObjectServer, folder: Path) -> None:
    content = os.urandom(3 << 20)
    write_zip(folder / "x.zip", [("a.wav", content)], zipfile.ZIP_BZIP2)
    write_tar(folder / "x.tar", [("empty.wav", b""), ("a.wav", content)])
    server.num_bytes = 0
    for name, reason in (
        ("x.zip!/a.wav", "packed by method 12; only stored and deflated are read"),
        ("x.tar!/empty.wav", "empty file (0 bytes)"),
    ):
        path = Address(f"{server.address}/{name}")
        assert fetch_ahead(path)
        with pytest.raises(AudioError) as error:
            recording_digest(path)
        assert (error.value.stage, error.value.reason) == ("open", reason)
    assert server.num_bytes < 1 << 19


def test_parts_of_what_an_object_was_are_let_go(server: ObjectServer, folder: Path) -> None:
    files = [(f"{row}.wav", bytes([row]) * 1000) for row in range(1, 5)]
    write_tar(folder / "x.tar", files)
    paths = [Address(f"{server.address}/x.tar!/{name}") for name, _ in files]
    for path in paths:
        fetch_ahead(path)
    time.sleep(0.5)  # they come
    write_tar(folder / "new", [("more.wav", bytes(5000)), *files]).replace(folder / "x.tar")
    objects._states.clear()
    state_of(paths[0].parent.with_name("x.tar"))
    for path, (_, content) in zip(paths, files, strict=True):
        assert recording_digest(path) == hashlib.blake2b(content, digest_size=16).digest()
    assert not objects._under_way


def test_empty_zip_in_a_bucket_has_nothing_in_it(server: ObjectServer, folder: Path) -> None:
    write_zip(folder / "x.zip", [])
    assert list(held(as_place(f"{server.address}/x.zip")).members) == []


def test_members_have_any_names(server: ObjectServer, folder: Path, tmp_path: Path) -> None:
    names = ["what?.wav", "100%.wav", "a#b @1-2.wav", "Mo\u0308we.wav", "odd\udcff.wav", "%20.wav"]
    write_tar(folder / "x.tar", [(name, name.encode(errors="replace") * 90) for name in names])
    for root in (server.address, server.endpoint):
        found = walk(as_place(f"{root}/x.tar"))
        for file, name in zip(found.files, names, strict=True):
            path = as_place(os.fspath(file.local(found.root)))
            assert bytes_of(path) == name.encode(errors="replace") * 90
    listed = tmp_path / "list.txt"
    listed.write_text("x.tar!/M\u00f6we.wav\nx.tar!/what?.wav\n")
    found = read_list(as_place(server.address), listed)
    assert [one.size > 0 for one in found.files] == [True, True]
    shown = file_span(f"{server.address}/x.tar!/odd\\xff.wav").file
    assert bytes_of(shown) == b"odd?.wav" * 90


def test_shard_written_anew_with_the_same_headers_is_noticed(
    server: ObjectServer, folder: Path, tmp_path: Path, opened: Callable[[Path], Sounds]
) -> None:
    """Clips of one length and one date are ordinary in shards."""
    one, other = (write_tone(tmp_path / f"{hz}.wav", 3, hz).read_bytes() for hz in (300, 999))
    assert len(one) == len(other)
    write_tar(folder / "packs" / "x.tar", [("a.wav", one), ("b.wav", other)])
    store, root = opened(tmp_path / "store"), f"{server.address}/packs"
    store.extract(root, frames="none")
    before = scenes_of(tmp_path / "store")
    assert store.extract(root).num_unchanged == 2
    write_tar(folder / "packs" / "x.tar", [("a.wav", other), ("b.wav", one)])
    forget()
    report = store.extract(root)
    assert (report.num_unchanged, report.num_embedded) == (0, 0)  # the content is known
    build(Store.open(tmp_path / "store"))
    hits = store.search(f"{root}/x.tar!/a.wav", k=1, include_self=True).hits
    assert hits[0].path == as_place(f"{root}/x.tar!/a.wav")
    assert scenes_of(tmp_path / "store") == before


def test_archive_that_no_pattern_reaches_into_is_not_listed(
    server: ObjectServer, packed: Path
) -> None:
    for include, listed in (
        ("deep/*", set()),
        ("packs/all.tar!/a*", {"packs/all.tar"}),
        ("packs/all.zip", {"packs/all.zip"}),
        ("packs/u*/sub/e.wav", {"packs/undated.tar"}),
        ("*a.wav", {"packs/all.tar", "packs/all.zip", "packs/undated.tar"}),
    ):
        forget()
        shutil.rmtree(packed.parent / "cache", ignore_errors=True)
        server.asked.clear()
        found = walk(as_place(server.address), include=[include])
        local = walk(packed, include=[include])
        assert [one.path for one in found.files] == [one.path for one in local.files]
        assert {key for _, key in server.asked if key} == listed


def test_addresses_in_playlists_are_what_programs_take(
    server: ObjectServer, packed: Path, tmp_path: Path, run: Run, tiny_file: Path
) -> None:
    how = ("--checkpoint", tiny_file, "--frames", "none")
    for number, root in enumerate((server.address, server.endpoint)):
        store = tmp_path / f"store {number}"
        run("index", root, "--store", store, *how)
        told = run("search", store, packed / "a.wav", "-k", "30", "--format", "m3u").out
        lines = [line for line in told.splitlines() if not line.startswith("#")]
        assert all(line.startswith(f"{root}/") for line in lines)
        plain = next(line for line in lines if "!/" not in line and "deep/er" in line)
        assert plain.removeprefix(f"{root}/") in ("deep/er/" + ODD, quote("deep/er/" + ODD))
        assert ("%23" in plain) == (number == 1)


@pytest.mark.parametrize("kind", ["unquoted", "none"])
def test_lists_that_say_etags_otherwise_than_answers_do(
    server: ObjectServer,
    packed: Path,
    tmp_path: Path,
    opened: Callable[[Path], Sounds],
    kind: str,
) -> None:
    """As those of Azure, and of some servers of WebDAV."""
    server.faults.list_etag = kind
    for number, root in enumerate((server.address, server.endpoint)):
        store = opened(tmp_path / f"store {number}")
        report = store.extract(f"{root}/packs", frames="none")
        assert (report.num_embedded, report.failures) == (5, [])
        forget()
        assert store.extract(f"{root}/packs").num_unchanged == 11


def test_archive_of_another_date_is_another_whatever_its_etag(
    server: ObjectServer, folder: Path, tmp_path: Path, opened: Callable[[Path], Sounds]
) -> None:
    server.faults.etag = "constant"
    one, other = (write_tone(tmp_path / f"{hz}.wav", 3, hz).read_bytes() for hz in (300, 999))
    path = write_tar(folder / "packs" / "x.tar", [("a.wav", one)])
    store, root = opened(tmp_path / "store"), f"{server.address}/packs/x.tar"
    store.extract(root, frames="none")
    write_tar(folder / "packs" / "x.tar", [("a.wav", other)])
    os.utime(path, (2_000_000_000, 2_000_000_000))
    assert store.extract(root).num_embedded == 1  # by the same process, in the same minute


def test_archives_that_the_ledger_knows_and_no_pattern_reaches_are_left_alone(
    server: ObjectServer, packed: Path, tmp_path: Path, opened: Callable[[Path], Sounds]
) -> None:
    store = opened(tmp_path / "store")
    store.extract(server.address, frames="none")
    before = rows_of(tmp_path / "store")
    forget()
    shutil.rmtree(tmp_path / "cache")
    server.asked.clear()
    store.extract(server.address, include=["deep/*"])
    assert not [key for _, key in server.asked if key.startswith("packs/")]
    assert rows_of(tmp_path / "store") == before
    (server.folder / "packs" / "all.tar").unlink()
    forget()
    store.extract(server.address, include=["deep/*"])
    rows = rows_of(tmp_path / "store")
    assert {row[0] for path, row in rows.items() if "all.tar!/" in path} == {"gone"}
    assert {row[0] for path, row in rows.items() if "all.zip!/" in path} == {"ok"}


def test_list_for_an_archive_that_is_the_library(
    server: ObjectServer, folder: Path, tmp_path: Path
) -> None:
    write_tar(folder / "n.tar", [("e\u0301.wav", bytes(100))])
    listed = tmp_path / "list.txt"
    listed.write_text("\u00e9.wav\n")
    (found,) = read_list(as_place(f"{server.address}/n.tar"), listed).files
    assert found.size == 100
