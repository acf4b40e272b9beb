"""Tar and zip as packs: members are heard as files would be, and what is wrong is one line."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import shutil
import struct
import subprocess
import tarfile
import threading
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from audio_files import noise, span, whole
from conftest import Run
from hypothesis import given
from hypothesis import strategies as st
from pack_files import DATE_S, tones, wave, write_tar, write_zip
from synthetic import make_store

import soundalike
from indexer.audio import file as file_module
from indexer.audio.content import (
    exists,
    in_its_place,
    open_content,
    recording_digest,
    require_name,
    state_of,
)
from indexer.audio.packs import held as held_module
from indexer.audio.packs import ranges, tar, zipped
from indexer.audio.packs.held import held
from indexer.audio.times import file_span
from indexer.errors import AudioError, LibraryError, QueryError
from indexer.library.walk import look_again, read_list, walk
from indexer.paths import printable, text_from_bytes
from search.asking.example import recording_of
from search.upkeep.build import build
from search.upkeep.files import list_files
from soundalike.show.words import missing_line

ENDINGS = ("tar", "zip")
WRITE: dict[str, Any] = {"tar": write_tar, "zip": write_zip}
CLIP = wave(tones(1, 0.2)[0])


def listed(path: Path) -> list[str]:
    return [one.path for one in walk(path).files]


def digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def error_of(path: Path) -> tuple[str, str]:
    with pytest.raises(AudioError) as caught:
        recording_digest(path)
    with pytest.raises(AudioError, match=r"^[^\n]+$"):
        open_content(path, 60)
    return caught.value.stage, caught.value.reason


# --- what a member is ----------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3"])
def test_member_is_the_file_that_it_holds(tmp_path: Path, ending: str, kind: str) -> None:
    alone = tmp_path / f"alone.{kind.lower()}"
    alone.write_bytes(wave(noise(44_100, 2), 44_100, kind))
    files = [("x.wav", b"no audio"), (f"deep/é/{alone.name}", alone.read_bytes())]
    WRITE[ending](tmp_path / f"a.{ending}", files)
    path = tmp_path / f"a.{ending}!" / "deep" / "é" / alone.name
    assert recording_digest(path) == recording_digest(alone)
    assert state_of(path) == (alone.stat().st_size, DATE_S * 10**9)
    ours, theirs = whole(path), whole(alone)
    np.testing.assert_array_equal(ours[0], theirs[0])
    assert ours[1] == theirs[1]
    np.testing.assert_array_equal(span(path, 7000, 9000), span(alone, 7000, 9000))


@pytest.mark.whole
@pytest.mark.parametrize("form", ["v7", "ustar", "oldgnu", "gnu", "pax"])
def test_tars_of_other_programs_are_read(tmp_path: Path, form: str) -> None:
    """GNU tar writes them: long names and others than ASCII, folders, links and a FIFO beside."""
    folder = tmp_path / "in"
    long = "x" * 90 if form == "v7" else "/".join(["long" * 10] * 5)
    names = ["a.wav", "sub/é.wav"] if form in ("v7", "ustar") else ["a.wav", f"sub/{long}/é.wav"]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(wave(tones(1, 0.1, seed=number)[0]))
    (folder / "b.wav").symlink_to("a.wav")
    os.link(folder / "a.wav", folder / "zz.wav")
    if form != "v7":
        os.mkfifo(folder / "c.wav")
    path = tmp_path / "a.tar"
    subprocess.run(["tar", f"--format={form}", "-C", folder, "-cf", path, "."], check=True)
    found = walk(path).files
    # One of two names of a file is it, the other a link to it.
    assert sorted(one.path.replace("zz", "a") for one in found) == sorted(names)
    for one in found:
        assert recording_digest(one.local(tmp_path / "a.tar!")) == recording_digest(
            folder / one.path
        )
        assert one.size == (folder / one.path).stat().st_size


@pytest.mark.parametrize("ending", ENDINGS)
def test_links_to_sounds_are_told(tmp_path: Path, ending: str) -> None:
    """A folder of links, as caches of downloads are, would otherwise be empty without a word."""
    path = write_tar(tmp_path / "x.tar", [("blob", CLIP), ("a.wav", CLIP)])
    if ending == "tar":
        with tarfile.open(path, "a") as found:
            for name, kind in (("l.wav", b"2"), ("h.WAV", b"1"), ("l.txt", b"2"), ("d.wav", b"5")):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, "blob"
                found.addfile(info)
    else:
        path.unlink()
        path = write_zip(tmp_path / "x.zip", [("blob", CLIP), ("a.wav", CLIP)])
        with zipfile.ZipFile(path, "a") as packed:
            for name, mode in (("l.wav", 0o12), ("h.WAV", 0o12), ("l.txt", 0o12), ("d.wav/", 0o4)):
                link = zipfile.ZipInfo(name)
                link.create_system, link.external_attr = 3, mode << 28
                packed.writestr(link, "" if name.endswith("/") else "blob")
    said: list[object] = []
    assert [one.path for one in walk(path, listen=said.append).files] == ["a.wav"]
    told = "links to sounds in archives are passed over, pack what they lead to: 2"
    assert [one for one in said if isinstance(one, str)] == [told]


def test_shards_that_webdataset_writes_are_folders_of_clips(tmp_path: Path) -> None:
    clips = [wave(clip, kind="FLAC") for clip in tones(7, 0.2)]
    (tmp_path / "shards").mkdir()
    pattern = str(tmp_path / "shards" / "s-%02d.tar")
    with webdataset.ShardWriter(pattern, maxcount=3, verbose=0) as writer:
        for row, clip in enumerate(clips):
            writer.write({"__key__": f"{row:04}", "flac": clip, "json": {"a": row}, "cls": row})
    found = walk(tmp_path / "shards")
    assert [one.path for one in found.files] == [
        f"s-{row // 3:02}.tar!/{row:04}.flac" for row in range(7)
    ]
    assert found.num_skipped == 14
    for row, one in enumerate(found.files):
        assert recording_digest(one.local(found.root)) == digest(clips[row])


def test_zips_of_other_programs_are_read(tmp_path: Path) -> None:
    """Stored and deflated, of unknown length, 64 bits wide, and behind other bytes."""
    clips = [wave(clip) for clip in tones(4, 0.1)]
    path = tmp_path / "a.zip"
    piped = io.BytesIO()
    piped.seekable = lambda: False  # type: ignore[method-assign]
    with zipfile.ZipFile(piped, "w", zipfile.ZIP_DEFLATED) as found:
        found.writestr("folder/", b"")
        with found.open("0.wav", "w", force_zip64=True) as member:
            member.write(clips[0])
        for row, method in ((1, zipfile.ZIP_STORED), (2, zipfile.ZIP_DEFLATED)):
            found.writestr(f"{row}.wav", clips[row], method)
        link = zipfile.ZipInfo("link.wav")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        found.writestr(link, "0.wav")
        found.comment = b"what is in it"
    path.write_bytes(piped.getvalue())
    assert listed(path) == ["0.wav", "1.wav", "2.wav"]
    for row in range(3):
        assert recording_digest(tmp_path / "a.zip!" / f"{row}.wav") == digest(clips[row])
    path.write_bytes(b"PK and other bytes" + piped.getvalue())
    assert recording_digest(tmp_path / "a.zip!" / "2.wav") == digest(clips[2])


def test_names_in_zips_are_utf_8_or_as_they_were_before(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [("ä1.wav", CLIP), ("é2.wav", CLIP), ("├⌐.wav", CLIP)])
    content = path.read_bytes()
    # macOS writes UTF-8 and does not say so; programs of before wrote the letters of their system.
    for name, written in (("ä1", "ä1".encode()), ("é2", "é2".encode())):
        at = [at for at in range(len(content)) if content[at:].startswith(name.encode())]
        for place, back in zip(at, (24, 38), strict=True):
            content = bytes_set(content, place - back, b"\0\0")
            content = bytes_set(content, place, written)
    content = content.replace("é2.wav".encode(), b"\x82_2.wav")
    path.write_bytes(content)
    assert listed(path) == ["ä1.wav", "é_2.wav", "├⌐.wav"]


def test_old_zips_of_windows_have_backslashes_between_folders(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as found:
        for system, name in ((0, "sub\\"), (0, r"sub\a.wav"), (0, r"..\b.wav"), (3, r"c\d.wav")):
            info = zipfile.ZipInfo(name)
            info.create_system = system
            found.writestr(info, b"" if name.endswith("\\") else CLIP)
    found_there = walk(path)
    assert [one.path for one in found_there.files] == ["sub/a.wav", "b.wav", r"c\x5cd.wav"]
    assert found_there.num_skipped == 0
    assert recording_digest(tmp_path / "a.zip!" / "sub" / "a.wav") == digest(CLIP)


@pytest.mark.parametrize("ending", ENDINGS)
def test_folder_of_an_archive_may_be_called_as_rows_are(tmp_path: Path, ending: str) -> None:
    """Only what has no name is called so there, since no name is there twice."""
    files = [("row-5/a.wav", CLIP), ("row-0/row-1.wav", CLIP), ("row-0", b""), ("row-1", b"")]
    path = WRITE[ending](tmp_path / f"x.{ending}", files)
    assert listed(path) == ["row-5/a.wav", "row-0/row-1.wav"]
    assert recording_digest(tmp_path / f"x.{ending}!" / "row-5" / "a.wav") == digest(CLIP)
    assert [one.name for one in held(path).members][2:] == [b"row-2/row-0", b"row-3/row-1"]


def bytes_set(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


@pytest.mark.parametrize("ending", ENDINGS)
def test_threads_that_share_an_archive_each_get_their_member(tmp_path: Path, ending: str) -> None:
    clips = [wave(clip) for clip in tones(20, 0.1)]
    WRITE[ending](tmp_path / f"a.{ending}", [(f"{row}.wav", one) for row, one in enumerate(clips)])
    wrong = []

    def read(first: int) -> None:
        for row in [*range(first, 20), *range(first)] * 3:
            path = tmp_path / f"a.{ending}!" / f"{row}.wav"
            if recording_digest(path) != digest(clips[row]):
                wrong.append(row)

    threads = [threading.Thread(target=read, args=(first,)) for first in (0, 5, 11, 19)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- which members are sounds --------------------------------------------------------------------

BESIDE = [
    *("a.wav", "sub/b.WAV", "sub/c.json", "d.cls", ".e.wav", ".sub/f.wav"),
    *("__MACOSX/._a.wav", "sub/._b.WAV", "PaxHeaders.7/a.wav", "in.zip", ".DS_Store"),
]


@pytest.mark.parametrize("ending", ENDINGS)
def test_members_are_sounds_as_files_of_a_folder_are(tmp_path: Path, ending: str) -> None:
    (tmp_path / "library").mkdir()
    WRITE[ending](tmp_path / "library" / f"x.{ending}", [(name, CLIP) for name in BESIDE])
    for name in BESIDE:
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(CLIP[:1] if name == "in.zip" else CLIP)
    ours, theirs = walk(tmp_path / "library"), walk(tmp_path / "folder")
    start = f"x.{ending}!/"
    assert {one.path for one in ours.files} == {start + one.path for one in theirs.files}
    assert {one.path for one in ours.hidden} == {start + one.path for one in theirs.hidden}
    assert (ours.num_skipped, ours.num_excluded) == (theirs.num_skipped, 0) == (3, 0)
    assert set(walk(tmp_path / "library", hidden=True).files) > set(ours.files)
    for file in ours.files:
        assert (file.size, file.mtime_ns) == state_of(file.local(ours.root))
    assert list(look_again(ours).files) == list(ours.files)
    as_library = walk(tmp_path / "library" / f"x.{ending}")
    assert {one.path for one in as_library.files} == {one.path for one in theirs.files}
    assert not exists(tmp_path / "library" / f"x.{ending}!" / "in.zip!" / "a.wav")


@pytest.mark.parametrize("ending", ENDINGS)
def test_patterns_take_and_leave_members(tmp_path: Path, ending: str) -> None:
    WRITE[ending](tmp_path / f"x.{ending}", [(name, CLIP) for name in BESIDE[:4]])
    (tmp_path / "y.flac").write_bytes(wave(tones(1, 0.2)[0], kind="FLAC"))
    start = f"x.{ending}!/"

    def taken(include: list[str], exclude: list[str]) -> list[str]:
        return [one.path for one in walk(tmp_path, include, exclude).files]

    assert taken([f"*.{ending}"], []) == [f"{start}a.wav", f"{start}sub/b.WAV"]
    assert taken([f"x.{ending}!/a.*"], []) == [f"{start}a.wav"]
    assert taken(["*.json"], []) == [f"{start}sub/c.json"]
    WRITE[ending](tmp_path / f"x.{ending}", [("a.wav", CLIP), (f"in.{ending}", CLIP)])
    assert taken([f"*.{ending}"], []) == [f"{start}a.wav"]  # nothing looks into the inner one
    WRITE[ending](tmp_path / f"x.{ending}", [(name, CLIP) for name in BESIDE[:4]])
    assert taken([], ["*!/sub/*"]) == [f"{start}a.wav", "y.flac"]
    assert taken([], [f"*.{ending}"]) == ["y.flac"]
    (tmp_path / "list.txt").write_text(f"{start}sub/b.WAV\ny.flac")
    assert [one.path for one in read_list(tmp_path, tmp_path / "list.txt").files] == [
        *(f"{start}sub/b.WAV", "y.flac")
    ]


@pytest.mark.parametrize("ending", ENDINGS)
def test_archive_that_asks_says_how_a_sound_in_it_is_named(tmp_path: Path, ending: str) -> None:
    files = [("a.json", b"{}"), ("__MACOSX/._a.wav", b"x"), ("a.wav", CLIP)]
    path = WRITE[ending](tmp_path / f"x.{ending}", files)
    with pytest.raises(QueryError, match=rf"it is a pack; .* named as in x.{ending}!/a.wav$"):
        recording_of(path)
    with pytest.raises(QueryError, match=rf"no such member of the pack; x.{ending} has a.wav$"):
        recording_of(tmp_path / f"x.{ending}!" / "a.flac")
    through = tmp_path / f"x.{ending}" / "a.wav"
    named = f"x.{ending} is a pack; a sound in it is named as in x.{ending}!/a.wav"
    assert in_its_place(through) == named
    made = make_store(tmp_path / "store", frames="none")
    made.add({"a": 1})
    build(made.store)
    with pytest.raises(QueryError, match=rf"^no such file: .*a.wav; {named}$"):
        soundalike.open(made.store.path).search(through)


def test_member_is_named_as_it_is_shown(tmp_path: Path) -> None:
    names = [b"latin\xe4.wav", b"new\nline.wav", b"back\\slash.wav"]
    files = [(os.fsdecode(name), CLIP) for name in names]
    write_tar(tmp_path / "x.tar", files, tarfile.GNU_FORMAT)
    (tmp_path / "x").mkdir()
    for path, content in files:
        (tmp_path / "x" / path).write_bytes(content)
    for folder, name in itertools.product((tmp_path / "x.tar!", tmp_path / "x"), names):
        meant = folder / os.fsdecode(name)
        for shown in (printable(os.fsdecode(name)), printable(text_from_bytes(name))):
            assert file_span(folder / f"{shown}@1-2") == (meant, 1, 1)
            assert file_span(folder / shown) == (meant, 0, None)
    assert file_span(tmp_path / r"x\xe4.wav") == (tmp_path / r"x\xe4.wav", 0, None)  # is not there
    literal = tmp_path / "x" / r"latin\xe4.wav"
    literal.write_bytes(CLIP)
    assert file_span(literal) == (literal, 0, None)  # the very name comes first


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_last_of_a_name_counts_as_where_it_is_unpacked(tmp_path: Path, ending: str) -> None:
    clips = [wave(clip) for clip in tones(4, 0.1)]
    names = ["a.wav", "b.wav", "./a.wav", "a.wav"]
    path = WRITE[ending](tmp_path / f"x.{ending}", list(zip(names, clips, strict=True)))
    assert listed(path) == ["b.wav", "a.wav"]
    assert recording_digest(tmp_path / f"x.{ending}!" / "a.wav") == digest(clips[3])
    shutil.unpack_archive(path, tmp_path / "out")
    assert (tmp_path / "out" / "a.wav").read_bytes() == clips[3]


@pytest.mark.parametrize("ending", ENDINGS)
def test_name_that_leads_out_leads_nowhere_and_is_told(tmp_path: Path, ending: str) -> None:
    (tmp_path / "secret.wav").write_bytes(wave(tones(1, 0.1, seed=9)[0]))
    (tmp_path / "in").mkdir()
    path = WRITE[ending](
        tmp_path / "in" / f"x.{ending}", [("../secret.wav", CLIP), ("/b.wav", CLIP)]
    )
    said: list[object] = []
    found = walk(path, listen=said.append)
    assert [one.path for one in found.files] == ["secret.wav", "b.wav"]
    for one in found.files:
        assert recording_digest(one.local(found.root)) == digest(CLIP)
    assert said[-1] == "names in packs that lead out of them are taken without '..': 1"
    assert [one for one in said if isinstance(one, str)] == said[-1:]


@pytest.mark.parametrize("ending", ENDINGS)
def test_member_without_a_date_has_that_of_its_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Otherwise other bytes of the same length would be taken for known."""
    path = tmp_path / f"x.{ending}"
    if ending == "tar":
        monkeypatch.setattr("pack_files.DATE_S", 0)
        write_tar(path, [("a.wav", CLIP)])
    else:
        with zipfile.ZipFile(path, "w") as found:
            found.writestr(zipfile.ZipInfo("a.wav"), CLIP)
    assert state_of(tmp_path / f"x.{ending}!" / "a.wav").mtime_ns == path.stat().st_mtime_ns


# --- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize("left", [5, 4.5, 1.0, 0.3])
def test_tar_that_is_cut_off_has_its_whole_members_and_says_so(tmp_path: Path, left: float) -> None:
    """And of those behind the cut nobody says that they are gone."""
    clips = [wave(clip) for clip in tones(8, 0.1)]
    path = write_tar(tmp_path / "x.tar", [(f"{row}.wav", one) for row, one in enumerate(clips)])
    each = 512 + -(-len(clips[0]) // 512) * 512
    os.truncate(path, round(each * left))
    (tmp_path / "y.wav").write_bytes(CLIP)
    found = walk(tmp_path)
    names = [f"x.tar!/{row}.wav" for row in range(int(left))]
    assert [one.path for one in found.files] == [*names, "y.wav"]
    members = f"{int(left)} member{'s' * (int(left) != 1)}"
    assert found.unreadable == [
        ("x.tar", f"the pack is cut off, behind {members} that can be read")
    ]
    for row in range(int(left)):
        assert recording_digest(tmp_path / "x.tar!" / f"{row}.wav") == digest(clips[row])
    with pytest.raises(OSError, match="the pack is cut off") as caught:
        require_name(tmp_path / "x.tar!" / "7.wav")
    assert not isinstance(caught.value, FileNotFoundError)


def test_tar_that_is_damaged_in_the_middle_has_what_comes_before(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [(f"{row}.wav", CLIP) for row in range(4)])
    each = 512 + -(-len(CLIP) // 512) * 512
    path.write_bytes(bytes_set(path.read_bytes(), 2 * each + 3, b"other"))
    found = walk(path)
    assert [one.path for one in found.files] == ["0.wav", "1.wav"]
    said = f"the pack is damaged at byte {2 * each:,}, behind 2 members that can be read"
    assert found.unreadable == [(".", said)]


@pytest.mark.parametrize(
    ("follows", "last_bytes"), [("holes", 2 << 20), ("another tar", 2 << 20), ("another tar", 99)]
)
def test_tar_that_ends_long_before_its_file_says_so(
    tmp_path: Path, follows: str, last_bytes: int
) -> None:
    """What is downloaded in pieces has holes, in which nobody knows what will be."""
    path = write_tar(tmp_path / "x.tar", [("a.wav", CLIP), ("b.wav", bytes(last_bytes))])
    each, content = 512 + -(-len(CLIP) // 512) * 512, path.read_bytes()
    path.write_bytes(bytes_set(content, each, bytes(512)) if follows == "holes" else content * 2)
    found = walk(path)
    assert [one.path for one in found.files] == ["a.wav", "b.wav"][: 1 + (follows != "holes")]
    ((_, reason),) = found.unreadable
    assert reason.startswith("the pack is at its end at byte ")


@pytest.mark.parametrize("what", ["cut off in it", "too long"])
def test_tar_whose_first_header_is_damaged_is_one_all_the_same(tmp_path: Path, what: str) -> None:
    """It is told, and not passed over as what is no tar."""
    headers = hostile_tar(path="é" * (150 if what == "cut off in it" else 50_000))
    (tmp_path / "x.tar").write_bytes(headers[: 700 if what == "cut off in it" else None])
    (tmp_path / "y.wav").write_bytes(CLIP)
    found = walk(tmp_path)
    assert ([one.path for one in found.files], found.num_skipped) == (["y.wav"], 0)
    ((path, reason),) = found.unreadable
    assert (path, reason[:31]) == ("x.tar", "the pack is damaged at byte 0 (")
    assert reason.endswith("), behind 0 members that can be read")


def hostile_tar(**fields: Any) -> bytes:
    info = tarfile.TarInfo("b.wav")
    info.pax_headers = {name: str(value) for name, value in fields.items()}
    return info.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (hostile_tar(size=-1), "damaged at byte"),
        (hostile_tar(size=2**62), "cut off, behind 1 member"),
        (hostile_tar(size=10**30), "cut off, behind 1 member"),
        (hostile_tar(path="x" * 70_000), "damaged at byte"),
        (hostile_tar(x="y")[:1024] * 500, "damaged at byte"),
        (hostile_tar(**{"GNU.sparse.major": 1, "GNU.sparse.minor": 0}), "damaged at byte"),
    ],
)
def test_headers_that_claim_what_cannot_be_are_one_line(
    tmp_path: Path, headers: bytes, said: str
) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.wav", CLIP)])
    each = 512 + -(-len(CLIP) // 512) * 512
    path.write_bytes(path.read_bytes()[:each] + headers + bytes(2048))
    tracemalloc.start()
    try:
        found = walk(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert [one.path for one in found.files][:1] == ["a.wav"]
    ((_, reason),) = found.unreadable
    assert said in reason
    assert "\n" not in reason


@pytest.mark.whole
def test_member_with_holes_is_refused_by_itself(tmp_path: Path) -> None:
    with (tmp_path / "a.wav").open("wb") as file:
        file.write(CLIP)
        file.truncate(1 << 20)
    (tmp_path / "b.wav").write_bytes(CLIP)
    for form in ("gnu", "pax"):
        path = tmp_path / f"{form}.tar"
        words = ["tar", f"--format={form}", "-S", "-C", tmp_path, "-cf", path, "a.wav", "b.wav"]
        subprocess.run(words, check=True)
        assert path.stat().st_size < 1 << 17
        assert listed(path) == ["a.wav", "b.wav"]
        told = error_of(tmp_path / f"{form}.tar!" / "a.wav")
        assert told == ("open", "it is packed as a sparse file; pack it anew, holes and all")
        assert recording_digest(tmp_path / f"{form}.tar!" / "b.wav") == digest(CLIP)


@pytest.mark.parametrize("ending", ENDINGS)
def test_empty_member_is_an_empty_file(tmp_path: Path, ending: str) -> None:
    WRITE[ending](tmp_path / f"x.{ending}", [("a.wav", b"")])
    assert error_of(tmp_path / f"x.{ending}!" / "a.wav") == ("open", "empty file (0 bytes)")


def damaged_zip(path: Path, at: int, new: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    """A zip of a.wav and b.wav, of which some bytes are set in the directory's row of a.wav."""
    write_zip(path, [("a.wav", CLIP), ("b.wav", CLIP)], method)
    content = path.read_bytes()
    row = content.index(b"PK\1\2")
    path.write_bytes(bytes_set(content, row + at, new))
    return path


@pytest.mark.parametrize(
    ("at", "new", "stage", "said"),
    [
        (8, b"\1\0", "open", "it is encrypted; unpack it with its password"),
        (8, b"\x20\0", "open", "packed by method 0; only stored and deflated are read"),
        (10, b"\x0c\0", "open", "packed by method 12; only stored and deflated are read"),
        (10, b"\x08\0", "decode", "the member is damaged: Error -3 while decompressing data"),
        (16, b"\0\0\0\0", "decode", "the member is damaged: its CRC-32 is another"),
        (24, b"\1\0\0\0", "decode", "it unpacks to more than its 1 bytes"),
        (24, b"\xff\xff\xff\x0f", "decode", "the member is damaged: its CRC-32 is another"),
        (42, b"\2\0\0\0", "decode", "the member is damaged: it is not where it should be"),
    ],
)
def test_member_of_a_zip_that_cannot_be_had_costs_its_own_entry(
    tmp_path: Path, at: int, new: bytes, stage: str, said: str
) -> None:
    assert listed(damaged_zip(tmp_path / "x.zip", at, new)) == ["a.wav", "b.wav"]
    told = error_of(tmp_path / "x.zip!" / "a.wav")
    assert told[0] == stage
    assert told[1].startswith(said)
    assert recording_digest(tmp_path / "x.zip!" / "b.wav") == digest(CLIP)


def test_zip_of_which_a_piece_is_missing_has_what_comes_behind_it(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.zip", [("a.wav", CLIP), ("b.wav", CLIP)])
    content = path.read_bytes()
    path.write_bytes(content[:500] + content[600:])
    told = error_of(tmp_path / "x.zip!" / "a.wav")
    assert told == ("decode", "the member is damaged: it is not where it should be")
    assert recording_digest(tmp_path / "x.zip!" / "b.wav") == digest(CLIP)


@pytest.mark.parametrize(
    ("at", "new"),
    [(20, struct.pack("<I", len(CLIP) + 31)), (42, struct.pack("<I", len(CLIP) + 34))],
)
def test_zip_whose_members_overlap_is_one_line(tmp_path: Path, at: int, new: bytes) -> None:
    with pytest.raises(LibraryError, match="cannot be listed: members of it overlap"):
        walk(damaged_zip(tmp_path / "x.zip", at, new))


@pytest.mark.whole
@pytest.mark.parametrize("claims", [True, False])
def test_zip_bomb_takes_no_memory_and_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claims: bool
) -> None:
    """What a member says is its size, and what it unpacks to, both are bounded."""
    monkeypatch.setattr(zipped, "MAX_MEMBER_BYTES", 100 << 20)
    path = tmp_path / "x.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as found,
        found.open("a.wav", "w") as member,
    ):
        for _ in range(200):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 18
    if not claims:
        content = path.read_bytes()
        row = content.index(b"PK\1\2")
        path.write_bytes(bytes_set(content, row + 24, struct.pack("<I", 1 << 20)))
    tracemalloc.start()
    try:
        told = error_of(tmp_path / "x.zip!" / "a.wav")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    if claims:
        assert told == ("open", "it unpacks to 209,715,200 bytes, 104,857,600 at most")
    else:
        assert told == ("decode", "it unpacks to more than its 1,048,576 bytes")


def test_silence_that_is_packed_a_thousandfold_is_a_sound(tmp_path: Path) -> None:
    silence = wave(np.zeros(32_000 * 60, np.int16))
    path = write_zip(tmp_path / "x.zip", [("a.wav", silence)])
    assert path.stat().st_size < len(silence) / 900
    assert len(whole(tmp_path / "x.zip!" / "a.wav")[0]) == 32_000 * 60


@pytest.mark.parametrize("ending", ENDINGS)
def test_large_member_is_kept_on_disk_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(file_module, "_MOST_IN_MEMORY", len(CLIP) - 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    WRITE[ending](tmp_path / f"x.{ending}", [("a.wav", CLIP)])
    opened = open_content(tmp_path / f"x.{ending}!" / "a.wav", 60)
    assert isinstance(opened, io.FileIO)
    with opened:
        assert opened.read() == CLIP
        assert os.fstat(opened.fileno()).st_dev == tmp_path.stat().st_dev
        assert os.fstat(opened.fileno()).st_nlink == 0
    assert [one.name for one in tmp_path.iterdir()] == [f"x.{ending}"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_bounds_are_those_of_what_is_read_and_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    path = WRITE[ending](tmp_path / f"x.{ending}", [(f"{row}.wav", b"x") for row in range(9)])
    monkeypatch.setattr(tar, "MAX_ROWS", 8)
    monkeypatch.setattr(zipped, "_MAX_DIRECTORY_BYTES", 8 * 51)
    monkeypatch.setattr(zipped, "_MAX_END_BYTES", 44)
    said = {
        "tar": "more than 8 members",
        "zip": "its directory is too long: more than 452 bytes of headers; unpack it",
    }
    with pytest.raises(LibraryError, match=f"cannot be listed: .*{said[ending]}$"):
        walk(path)


def cut_zip(path: Path) -> None:
    os.truncate(write_zip(path, [("a.wav", CLIP)]), 4000)


def later_zip(path: Path) -> None:
    write_zip(path, [("a.wav", CLIP)])
    content = path.read_bytes()
    row = content.index(b"PK\1\2")
    path.write_bytes(bytes_set(content, row + 6, b"\xff"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.zip", b"text", "is no pack: it is no zip; a library is"),
        ("x.tar", b"text", "is no pack: it is no tar, or a compressed one; a library is"),
        ("x.tar", bytes(10_240), "is no pack: it begins with zeros, as the end of a tar"),
        ("x.zip", cut_zip, "cannot be listed: damaged, or cut off: File is not a zip file"),
        ("x.zip", later_zip, "cannot be listed: damaged, or cut off: zip file version 25.5"),
        ("x.tar.gz", b"any", "is compressed as a whole, and nothing in it can be read by itself"),
    ],
)
def test_archive_that_cannot_be_listed_is_one_line(
    tmp_path: Path, run: Run, name: str, content: Any, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content) if isinstance(content, bytes) else content(path)
    with pytest.raises(LibraryError, match=said):
        walk(path)
    told = run("index", path, "--store", tmp_path / "s", code=1)
    assert told.err.count("\n") == 1
    # Beside other files it is passed over, or told as what could not be listed.
    (tmp_path / "a.wav").write_bytes(CLIP)
    found = walk(tmp_path)
    assert [one.path for one in found.files] == ["a.wav"]
    assert [one for one, _ in found.unreadable] == (["x.zip"] if callable(content) else [])


def test_compressed_tars_are_told_once_and_skipped(tmp_path: Path) -> None:
    names = ["a.tar.gz", "b.TGZ", "c.tar.bz2", "d.tar.xz", "e.tar.zst", "f.gz", ".g.tgz"]
    for name in [*names, "a.wav"]:
        (tmp_path / name).write_bytes(CLIP)
    said: list[object] = []
    found = walk(tmp_path, listen=said.append)
    assert said[-1] == "tars that are compressed are skipped, unpack them to .tar: 5"
    assert (found.num_skipped, found.unreadable) == (7, [])
    made = make_store(tmp_path / "store", frames="none", root=tmp_path)
    made.add({"a": 1})
    rows = {row.path: row.reason for row in list_files(made.store.path, ["skipped"])}
    assert rows["a.tar.gz"] == "compressed as a whole: unpack it to .tar"
    assert rows["f.gz"] == "no ending of audio"


def test_what_is_called_an_archive_and_is_none_is_told(tmp_path: Path) -> None:
    write_tar(tmp_path / "in.tar", [("a.wav", CLIP)])
    write_zip(tmp_path / "whole.zip", [("b.wav", CLIP), ("in.tar", b"x"), ("c.txt", b"x")])
    for name, content in {"gz.tar": b"\x1f\x8b", "text.ZIP": b"<html>", "empty.zip": b""}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / ".hidden.tar").touch()
    said: list[object] = []
    walk(tmp_path, listen=said.append)
    assert said[-1] == "files called .tar or .zip that are empty or no archive are skipped: 3"
    made = make_store(tmp_path / "store", frames="none", root=tmp_path)
    made.add({"a": 1})
    rows = {row.path: row.reason for row in list_files(made.store.path, ["skipped"])}
    for name in ("gz.tar", "text.ZIP", "empty.zip"):
        assert rows[name] == "empty, or no archive, whatever its ending says"
    assert rows["whole.zip!/in.tar"] == "an archive in an archive: unpack it"
    assert rows["whole.zip!/c.txt"] == "no ending of audio"


@given(
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT]),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=24),
    st.integers(0, 8**11 - 1),
    st.integers(0, 8**11 - 1),
    st.lists(st.tuples(st.integers(0, 511), st.integers(0, 255)), max_size=2),
)
def test_header_is_what_tarfile_makes_of_it(
    form: int, name: str, size: int, mtime: int, changes: list[tuple[int, int]]
) -> None:
    """Whatever is in it, as far as tarfile takes it for one."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime = size, mtime
    header = bytearray(info.tobuf(form, "utf-8", "surrogateescape")[-512:])
    for at, value in changes:
        header[at] = value
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 256)
    try:
        theirs = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return
    ours = tar._Header.frombuf(header, "utf-8", "surrogateescape")
    for field in ("name", "size", "mtime", "type"):
        assert getattr(ours, field) == getattr(theirs, field)


# --- what it costs -------------------------------------------------------------------------------


def test_tar_is_listed_by_its_headers_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "x.tar", [(f"{row}.wav", bytes(1 << 20)) for row in range(8)])
    read: list[int] = []
    plain = ranges.FileHeaders.read

    def counted(file: Any, size: int | None = -1, /) -> bytes:
        read.append(len(found := plain(file, size)))
        return found

    monkeypatch.setattr(ranges.FileHeaders, "read", counted)
    assert len(held(path).members.row_of(b"7.wav") * [0]) == 7  # type: ignore[operator]
    assert sum(read) < 20 * tarfile.BLOCKSIZE  # with its end, of 10,240 bytes and less


@pytest.mark.whole
@pytest.mark.parametrize("ending", ENDINGS)
def test_forked_process_goes_on_with_what_was_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    clips = [wave(clip) for clip in tones(4, 0.1)]
    files = [(f"{row}.wav", clip) for row, clip in enumerate(clips)]
    path = WRITE[ending](tmp_path / f"x.{ending}", files)
    held(path)
    monkeypatch.setattr(held_module, "_open", None)  # it is not opened again
    child = os.fork()
    if child == 0:
        code = 1
        try:
            held(path).members.row_of(b"2.wav")
            found = recording_digest(tmp_path / f"x.{ending}!" / "2.wav")
            code = 0 if found == digest(clips[2]) else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert recording_digest(tmp_path / f"x.{ending}!" / "3.wav") == digest(clips[3])


def test_libraries_of_many_shards_hold_few_files(tmp_path: Path) -> None:
    for shard in range(30):
        write_tar(tmp_path / f"{shard:02}.tar", [("a.wav", CLIP)])
    before = len(list(Path("/proc/self/fd").iterdir()))
    found = walk(tmp_path)
    assert {recording_digest(one.local(tmp_path)) for one in found.files} == {digest(CLIP)}
    assert len(list(Path("/proc/self/fd").iterdir())) - before <= 8


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The packs that were opened, be it in vain, one entry for each time."""
    found: list[Path] = []
    open_it = held_module._open

    def counted(path: Path, mtime_ns: int) -> Any:
        found.append(path)
        return open_it(path, mtime_ns)

    monkeypatch.setattr(held_module, "_open", counted)
    return found


@pytest.mark.parametrize("is_zip", [True, False])
def test_archive_that_cannot_be_listed_is_not_listed_for_each_of_its_members(
    tmp_path: Path, opened: list[Path], is_zip: bool
) -> None:
    """Of a library with 30,000 known members that takes a second, not a night."""
    path = tmp_path / "x.zip"
    if is_zip:
        damaged_zip(path, 42, struct.pack("<I", len(CLIP) + 34))
    else:
        path.write_bytes(b"text")
    said = set()
    for row in range(9):
        with pytest.raises(OSError, match=r"members of it overlap|it is no pack") as caught:
            require_name(tmp_path / "x.zip!" / f"{row}.wav")
        said.add(str(caught.value).rpartition(": ")[0])
    assert (len(opened), len(said)) == (1, 1)
    assert path not in [one.resolve() for one in Path("/proc/self/fd").iterdir()]
    write_zip(path, [("a.wav", CLIP)])  # the one that was meant
    assert recording_digest(tmp_path / "x.zip!" / "a.wav") == digest(CLIP)


@pytest.mark.parametrize("stage", ["access", "open"])
def test_what_the_system_refuses_once_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    path = write_tar(tmp_path / "x.tar", [("a.wav", CLIP)])

    def refuse(*_: object) -> None:
        raise AudioError(stage, "too many open files") from OSError(24, "too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(held_module, "_open", refuse)
        with pytest.raises(AudioError, match="too many open files"):
            held(path)
    assert len(list(held(path).members)) == 1


def test_whether_hits_are_there_is_asked_of_one_archive_after_the_other(
    tmp_path: Path, opened: list[Path]
) -> None:
    for shard in range(20):
        write_tar(tmp_path / f"{shard:02}.tar", [(f"{row}.wav", CLIP) for row in range(9)])
    hits = [
        (tmp_path / f"{shard:02}.tar!" / f"{row}.wav",) for row in range(9) for shard in range(20)
    ]
    assert missing_line(hits) is None
    assert len(opened) == 20
