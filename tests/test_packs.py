"""Packs: what is in them, by which names, and that a member is heard as a file would be."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import threading
import tracemalloc
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from audio_files import encode, noise, span, whole
from conftest import Run
from faults import fault
from hypothesis import given
from hypothesis import strategies as st
from pack_files import (
    Waveforms,
    names_of,
    tones,
    wave,
    write_table,
    write_tar,
    write_waveforms,
    write_zip,
)
from synthetic import Synthetic, make_store

from indexer.audio import content
from indexer.audio.content import (
    asked_state,
    exists,
    in_its_place,
    recording_digest,
    require_name,
    state_of,
)
from indexer.audio.packs import held as held_module
from indexer.audio.packs.held import held
from indexer.audio.packs.members import Members
from indexer.audio.packs.pack import not_read
from indexer.audio.stream import open_audio
from indexer.audio.times import FileSpan, file_span
from indexer.errors import AudioError, LibraryError, QueryError
from indexer.library.changes import Changes
from indexer.library.files import FoundFile
from indexer.library.walk import look_again, read_list, walk
from indexer.paths import text_from_bytes
from indexer.reading.begun import Begun
from search.asking.example import recording_of
from search.evaluation.audioset import read_segments
from search.upkeep.build import build

#: Counts by itself; what is read with it outlives the test.
POOL = pa.proxy_memory_pool(pa.default_memory_pool())


def members(names: list[bytes | None]) -> Members:
    sizes = np.arange(len(names))
    return Members(names, sizes, np.broadcast_to(np.int64(1), len(names)))


def names_in(path: Path) -> list[str]:
    return [one.path for one in walk(path).files]


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_names", "expected"),
    [
        ([b"a.wav", b"b.wav"], [b"a.wav", b"b.wav"]),
        ([b"a.wav", b"a.wav", b"a.wav"], [b"a.wav", b"row-1/a.wav", b"row-2/a.wav"]),
        ([b"", b"/", b".."], [b"row-0", b"row-1", b"row-2"]),
        ([b"/home/me/a.wav", b"../../etc/passwd"], [b"home/me/a.wav", b"etc/passwd"]),
        ([b"a//b/./c.wav", b"a/b/c.wav"], [b"a/b/c.wav", b"row-1/a/b/c.wav"]),
        ([b"a\0b", b"x" * 1025, b"x" * 1024], [b"row-0", b"row-1", b"x" * 1024]),
        ([b"row-1", b""], [b"row-0/row-1", b"row-1"]),
        ([b"row-1/a", b"a", b"a"], [b"row-0/row-1/a", b"a", b"row-2/a"]),
        ([b"caf\xe9.wav", "café.wav".encode()], [b"caf\xe9.wav", "café.wav".encode()]),
        ([b"in.h5!/a.wav", None, b".hidden"], [b"in.h5!/a.wav", b".hidden"]),
    ],
)
def test_names_are_made_fit_for_paths(given_names: list[bytes], expected: list[bytes]) -> None:
    assert [one.name for one in members(list(given_names))] == expected


@given(st.lists(st.one_of(st.none(), st.binary(max_size=6), st.sampled_from([b"row-0", b"a/b"]))))
def test_any_names_are_distinct_are_found_again_and_lead_nowhere_else(
    given_names: list[bytes | None],
) -> None:
    made = members(list(given_names))
    found = list(made)
    assert len({one.name for one in found}) == len(found)
    assert len(found) + made.num_unnamed == len(given_names)
    rows = [row for row, name in enumerate(given_names) if name is not None]
    assert [made.row_of(one.name) for one in found] == rows == [one.size for one in found]
    for one in found:
        path = FoundFile(f"p.h5!/{text_from_bytes(one.name)}", 0, 0).local(Path("/library"))
        assert os.path.normpath(path) == os.fspath(path)
        assert os.fsencode(path) == b"/library/p.h5!/" + one.name
    assert made.row_of(b"") is None
    assert made.row_of(b"no such name") is None


@pytest.mark.whole
def test_members_take_24_bytes_beside_their_names() -> None:
    num_rows = 100_000
    sizes = np.broadcast_to(np.int64(1), num_rows)
    tracemalloc.start()
    try:
        made = Members((b"%08d" % row for row in range(num_rows)), sizes, sizes)
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made.row_of(b"00000007") == 7
    assert num_rows * 32 <= held_bytes < 1.2 * num_rows * 32  # arrays that grow have some room


# --- what a member sounds like -------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"chunks": (2, 1000), "compression": "gzip"}])
@pytest.mark.parametrize("kind", ["<i2", ">i2"])
def test_waveform_is_heard_as_panns_reads_it(
    tmp_path: Path, kind: str, options: dict[str, Any]
) -> None:
    waveforms = tones(3)
    waveforms[1, :3] = -32768, 32767, -1
    pack = write_waveforms(tmp_path / "eval.h5", waveforms.astype(kind), **options)
    for row, name in enumerate(names_of(3)):
        path = tmp_path / "eval.h5!" / name.decode()
        expected = (waveforms[row] / 32767.0).astype(np.float32)
        np.testing.assert_array_equal(whole(path)[0], expected)
        np.testing.assert_array_equal(span(path, 1000, 77), expected[1000:1077])
        content = b"<i2 32000\n" + waveforms[row].astype("<i2").tobytes()
        assert recording_digest(path) == hashlib.blake2b(content, digest_size=16).digest()
        assert state_of(path) == (64_000, pack.stat().st_mtime_ns)
    with open_audio(path) as audio:
        assert (audio.info.sample_rate, audio.info.channels, audio.length_s) == (32_000, 1, 1.0)
        assert audio.info.codec == "pcm_s16le"


def test_waveform_at_another_rate_is_resampled_and_another_recording(tmp_path: Path) -> None:
    waveforms = tones(1)
    for name in ("a.h5", "b.h5"):
        write_waveforms(tmp_path / name, waveforms)
    with h5py.File(tmp_path / "b.h5", "a") as file:
        file.attrs["sample_rate"] = 16_000
    a, b = (tmp_path / f"{name}.h5!" / names_of(1)[0].decode() for name in "ab")
    assert len(whole(b)[0]) == 2 * len(whole(a)[0])
    assert recording_digest(a) != recording_digest(b)


def test_waveform_longer_than_allowed_is_an_error(tmp_path: Path) -> None:
    write_waveforms(tmp_path / "eval.h5", tones(1, 2.0))
    path = tmp_path / "eval.h5!" / names_of(1)[0].decode()
    with (
        pytest.raises(AudioError, match="longer than 1 s"),
        open_audio(path, max_duration_s=1.0) as audio,
    ):
        list(audio.blocks())


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3", "m4a"])
def test_row_of_a_table_is_the_file_that_it_holds(tmp_path: Path, kind: str) -> None:
    alone = tmp_path / f"alone.{kind.lower()}"
    if kind == "m4a":
        encode(alone, noise(44_100, 2), 44_100, "aac")
    else:
        alone.write_bytes(wave(noise(44_100, 2), 44_100, kind))
    rows = [(b"no audio", "x.wav"), (alone.read_bytes(), alone.name), (alone.read_bytes(), None)]
    write_table(tmp_path / "clips.parquet", rows)
    for name in (alone.name, "row-2"):
        path = tmp_path / "clips.parquet!" / name
        assert recording_digest(path) == recording_digest(alone)
        ours, theirs = whole(path), whole(alone)
        np.testing.assert_array_equal(ours[0], theirs[0])
        assert ours[1] == theirs[1]
        np.testing.assert_array_equal(span(path, 7000, 9000), span(alone, 7000, 9000))


@pytest.mark.parametrize("order", [range(40), range(39, -1, -1), [5, 5, 30, 6, 0, 39, 38]])
def test_rows_of_a_table_are_right_in_any_order(tmp_path: Path, order: list[int]) -> None:
    rows = [(wave(tones(1, 0.1, seed=row)[0]), f"{row}.wav") for row in range(40)]
    pack = held(write_table(tmp_path / "clips.parquet", rows, row_group_size=7))
    for row in order:
        assert b"".join(pack.content(row)) == rows[row][0]


def test_threads_that_share_a_table_each_get_their_row(tmp_path: Path) -> None:
    rows = [(wave(tones(1, 0.1, seed=row)[0]), f"{row}.wav") for row in range(30)]
    write_table(tmp_path / "clips.parquet", rows, row_group_size=10)
    wrong = []

    def read(first: int) -> None:
        for row in [*range(first, 30), *range(first)]:
            path = tmp_path / "clips.parquet!" / f"{row}.wav"
            expected = hashlib.blake2b(rows[row][0], digest_size=16).digest()
            if recording_digest(path) != expected:
                wrong.append(row)

    threads = [threading.Thread(target=read, args=(first,)) for first in (0, 7, 15, 29)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_table_is_read_a_row_at_a_time(tmp_path: Path) -> None:
    """Row groups of 32 MB, of which no more than a few rows are ever in memory."""
    content = np.random.default_rng(0).bytes(1 << 20)
    rows = [(content[row:] + content[:row], f"{row}.wav") for row in range(32)]
    options = {"use_dictionary": False, "write_batch_size": 1, "compression": "none"}
    path = write_table(tmp_path / "clips.parquet", rows, **options)
    assert pq.ParquetFile(path).num_row_groups == 1
    before = pa.default_memory_pool()
    pa.set_memory_pool(POOL)
    try:
        for row in range(32):
            recording_digest(tmp_path / "clips.parquet!" / f"{row}.wav")
    finally:
        pa.set_memory_pool(before)
    assert 0 < POOL.max_memory() < 6 << 20


# --- paths ---------------------------------------------------------------------------------------


def test_folder_of_that_very_name_comes_first(tmp_path: Path) -> None:
    write_waveforms(tmp_path / "eval.h5", tones(1), [b"a.wav"])
    assert exists(tmp_path / "eval.h5!" / "a.wav")
    (tmp_path / "eval.h5!").mkdir()
    (tmp_path / "eval.h5!" / "b.wav").write_bytes(wave(tones(1)[0]))
    assert not exists(tmp_path / "eval.h5!" / "a.wav")
    assert names_in(tmp_path) == ["eval.h5!/b.wav"]


def test_path_into_what_is_no_pack_is_a_path_like_any_other(tmp_path: Path) -> None:
    folder = tmp_path / "loud!"
    folder.mkdir()
    (folder / "a.wav").write_bytes(wave(tones(1)[0]))
    assert exists(folder / "a.wav")
    assert names_in(tmp_path) == ["loud!/a.wav"]
    for name in ("none.h5!/a.wav", "loud!/a.wav!/x", "loud!/none"):
        assert not exists(tmp_path / name)
        with pytest.raises(AudioError, match=r"no such file|not a directory"):
            recording_digest(tmp_path / name)


def test_member_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    write_waveforms(tmp_path / "eval.h5", tones(1), [b"a.wav"])
    path = tmp_path / "eval.h5!" / "b.wav"
    assert not exists(path)
    with pytest.raises(FileNotFoundError):
        require_name(path)
    with pytest.raises(AudioError, match="no such member of the pack") as caught:
        open_audio(path)
    assert caught.value.stage == "access"


def test_pack_that_asks_says_how_a_sound_in_it_is_named(tmp_path: Path, run: Run) -> None:
    """And a member that is none says which there are, the likest first: Y, endings and starts."""
    made = make_store(tmp_path / "store", frames="none")
    made.add({"a": 1})
    build(made.store)
    names = [b"other.wav", b"Yabc_30.wav", b"Yxyz.wav", b"deep/in/it.wav", b"zzz.wav"]
    pack = write_waveforms(tmp_path / "eval.h5", tones(5), names)
    table = write_table(tmp_path / "t.parquet", [(None, None), (wave(tones(1)[0]), "b.wav")])
    named = {
        pack: "it is a pack; a sound in it is named as in eval.h5!/other.wav",
        table: "it is a pack; a sound in it is named as in t.parquet!/row-0",
    }
    for path, told in named.items():
        assert run("search", made.store.path, path, code=1).err.endswith(f"{path}: {told}\n")
    meant = {
        tmp_path / "eval.h5!/abc_30.flac": "eval.h5 has Yabc_30.wav, other.wav, Yxyz.wav",
        tmp_path / "eval.h5!/Yx.wav": "eval.h5 has Yxyz.wav, Yabc_30.wav, other.wav",
        tmp_path / "eval.h5!/deep/at/it.wav": "eval.h5 has deep/in/it.wav, other.wav, Yabc_30.wav",
        tmp_path / "eval.h5!": "eval.h5 has other.wav, Yabc_30.wav, Yxyz.wav",
    }
    for path, told in meant.items():
        assert run("search", made.store.path, path, code=1).err.endswith(f"{path}; {told}\n")
        with pytest.raises(QueryError, match=rf"no such member of the pack; {re.escape(told)}$"):
            recording_of(path)
    for name in ("none.h5!/a.wav", "none.wav"):
        with pytest.raises(QueryError, match=r"cannot listen to .*: no such file$"):
            recording_of(tmp_path / name)
    with pytest.raises(AudioError, match=r"^it is a pack; "):
        open_audio(pack)


def test_of_a_large_pack_some_names_are_told_without_looking_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "_COMPARED", 2)
    write_waveforms(tmp_path / "eval.h5", tones(3), [b"a.wav", b"b.wav", b"cc.wav"])
    assert in_its_place(tmp_path / "eval.h5!" / "c.wav") == "eval.h5 has a.wav, b.wav"
    assert in_its_place(tmp_path / "eval.h5!" / "a.wav") is None
    assert in_its_place(tmp_path / "eval.h5") is None


def test_span_of_a_member_is_written_as_that_of_a_file(tmp_path: Path) -> None:
    write_waveforms(tmp_path / "eval.h5", tones(2), [b"a.wav", b"b@0:01-0:02"])
    folder = tmp_path / "eval.h5!"
    assert file_span(folder / "a.wav@0.5") == FileSpan(folder / "a.wav", 0.5)
    assert file_span(folder / "b@0:01-0:02") == FileSpan(folder / "b@0:01-0:02")


def test_pack_that_is_written_anew_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "eval.h5!" / "a.wav"
    write_waveforms(tmp_path / "eval.h5", tones(2), [b"a.wav", b"b.wav"])
    (file, _) = walk(tmp_path).files
    before = recording_digest(path)
    begun = Begun.of(path, file)
    begun.require_unchanged()
    write_waveforms(tmp_path / "eval.h5", tones(2, seed=1), [b"a.wav", b"c.wav"])
    assert recording_digest(path) != before
    assert not exists(tmp_path / "eval.h5!" / "b.wav")
    with pytest.raises(AudioError, match="changed while it was read"):
        begun.require_unchanged()
    (tmp_path / "eval.h5").unlink()
    with pytest.raises(AudioError, match="vanished while it was read"):
        begun.require_unchanged()


@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_archive_that_is_written_anew_is_seen_though_its_members_look_the_same(
    tmp_path: Path, write: Callable[..., object]
) -> None:
    """The same name, length and date, and another sound: its windows would be of other bytes."""
    one, other = (wave(clip) for clip in tones(2))
    assert len(one) == len(other)
    archive = tmp_path / ("a.tar" if write is write_tar else "a.zip")
    write(archive, [("a.wav", one)])
    (file,) = walk(tmp_path).files
    path = tmp_path / f"{archive.name}!" / "a.wav"
    begun = Begun.of(path, file)
    begun.require_unchanged()
    write(archive, [("a.wav", other)])
    (again,) = walk(tmp_path).files
    assert (again.size, again.mtime_ns) == (file.size, file.mtime_ns)
    with pytest.raises(AudioError, match="changed while it was read"):
        begun.require_unchanged()
    Begun.of(path, again).require_unchanged()


def test_what_is_wrong_with_what_asks_is_told_once(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", [("a.wav", wave(tones(1)[0]))])
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(QueryError, match="the pack cannot be read: damaged") as caught:
        asked_state(tmp_path / "a.zip!" / "a.wav")
    assert "Errno" not in str(caught.value)
    assert str(caught.value).count("a.wav") == 1
    with pytest.raises(QueryError, match=r"no such file: .*a query is an audio file"):
        asked_state(tmp_path / "b.wav")


def test_library_that_is_no_pack_says_what_could_be_one(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match=r"no such pack: .*none.tar"):
        walk(tmp_path / "none.tar")
    write_tar(tmp_path / "a.tar", [("one/a.wav", wave(tones(1)[0]))])
    with pytest.raises(LibraryError, match=r"is in a pack.*name .*a.tar, and include 'one'"):
        walk(tmp_path / "a.tar!" / "one")
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "c.tar.gz").write_bytes(b"any")
    with pytest.raises(LibraryError, match=r"1 tar compressed as a whole\); unpack"):
        walk(tmp_path / "alone")


# --- libraries -----------------------------------------------------------------------------------


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Two packs beside a file, a table of numbers, arrays, and what only is called a pack."""
    root = tmp_path / "library"
    write_waveforms(root / "b" / "eval.h5", tones(3))
    write_table(root / "a.parquet", [(wave(tones(1)[0]), "z.wav"), (wave(tones(1)[0]), "y.wav")])
    (root / "c.wav").write_bytes(wave(tones(1)[0]))
    pq.write_table(pa.table({"path": ["x"], "label": [1]}), root / "labels.parquet")
    with h5py.File(root / "weights.h5", "w") as file:
        file["audio_name"] = [b"a.wav"]
    (root / "notes.hdf5").write_text("no HDF5")
    (root / "empty.parquet").touch()
    return root


IN_LIBRARY = [
    *("a.parquet!/z.wav", "a.parquet!/y.wav"),
    *(f"b/eval.h5!/{name.decode()}" for name in names_of(3)),
    "c.wav",
]


def test_walk_lists_what_is_in_packs_in_their_own_order(library: Path) -> None:
    found = walk(library)
    assert [one.path for one in found.files] == IN_LIBRARY
    assert (found.num_skipped, found.unreadable) == (4, [])
    for file in found.files:
        assert (file.size, file.mtime_ns) == state_of(file.local(library))
    again = look_again(found)
    assert list(again.files) == list(found.files)


def test_patterns_are_those_of_members(library: Path) -> None:
    found = walk(library, ["*.wav"], ["b/*"])
    assert [one.path for one in found.files] == ["a.parquet!/z.wav", "a.parquet!/y.wav", "c.wav"]
    assert [one.path for one in walk(library, ["*!/Y*"]).files] == IN_LIBRARY[2:5]
    found = walk(library, [], ["*!/z.wav", "b/eval.h5"])
    assert [one.path for one in found.files] == ["a.parquet!/y.wav", "c.wav"]


def test_pattern_that_names_a_pack_takes_or_leaves_what_is_in_it(library: Path) -> None:
    assert [one.path for one in walk(library, ["*.h5"]).files] == [*IN_LIBRARY[2:5], "weights.h5"]
    assert [one.path for one in walk(library, [], ["*.h5"]).files] == [*IN_LIBRARY[:2], "c.wav"]
    assert [one.path for one in walk(library, ["b/*"], ["*3.wav"]).files] == IN_LIBRARY[2:5]


def test_members_of_a_pack_that_is_hidden_are_hidden(library: Path) -> None:
    write_waveforms(library / ".eval.h5", tones(2), [b"a.wav", b"b.wav"])
    (library / ".notes.h5").write_text("none")
    found = walk(library)
    assert [one.path for one in found.files] == IN_LIBRARY
    assert [one.path for one in found.hidden] == [".eval.h5!/a.wav", ".eval.h5!/b.wav"]
    assert found.num_skipped == 5
    assert ".eval.h5!/a.wav" in [one.path for one in walk(library, hidden=True).files]


def test_row_without_a_name_is_a_clip_that_was_not_there(tmp_path: Path) -> None:
    """As PANNs leaves it; in a table it is a sound of which nobody has said the name."""
    write_waveforms(tmp_path / "eval.h5", tones(3), [b"a.wav", b"", b"c.wav"])
    said: list[object] = []
    found = walk(tmp_path, listen=said.append)
    assert [one.path for one in found.files] == ["eval.h5!/a.wav", "eval.h5!/c.wav"]
    assert "rows of packs that have no name are passed over: 1" in said


def test_pack_is_a_library(library: Path) -> None:
    pack = library / "b" / "eval.h5"
    for root in (pack, library / "b" / "eval.h5!", library / "b" / ".." / "b" / "eval.h5"):
        found = walk(root)
        assert found.root == library / "b" / "eval.h5!"
        assert [one.path for one in found.files] == [name.decode() for name in names_of(3)]
        assert exists(next(iter(found.files)).local(found.root))
        assert found.is_there()
    (library / "link.h5").symlink_to(pack)
    assert walk(library / "link.h5").root == library / "b" / "eval.h5!"
    pack.unlink()
    assert not found.is_there()


def test_library_behind_a_link_to_a_file_without_an_ending_is_called_as_the_link(
    tmp_path: Path,
) -> None:
    """As downloads lie in caches: the names are links to files that are called as their digests."""
    write_table(tmp_path / "train.parquet", [(wave(tones(1)[0]), "a.wav")])
    (tmp_path / "blobs").mkdir()
    (tmp_path / "train.parquet").rename(tmp_path / "blobs" / "0f3c")
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "train.parquet").symlink_to(Path("..", "blobs", "0f3c"))
    (tmp_path / "newest").symlink_to("main")
    found = walk(tmp_path / "newest" / "train.parquet")
    assert found.root == tmp_path / "main" / "train.parquet!"
    assert [one.path for one in found.files] == ["a.wav"]
    assert exists(next(iter(found.files)).local(found.root))
    assert walk(found.root).root == found.root


def test_listed_members_are_in_the_order_of_their_rows(library: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join([*reversed(IN_LIBRARY), "a.parquet!/none.wav"]))
    listed = [one.path for one in read_list(library, tmp_path / "list.txt").files]
    assert [one for one in listed if one != "a.parquet!/none.wav"] == IN_LIBRARY
    assert sorted(IN_LIBRARY) != IN_LIBRARY


def test_list_may_spell_members_in_another_normal_form(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    rows = [(wave(tones(1)[0]), f"d{apart}/{apart}.wav"), (wave(tones(1)[0]), f"{composed}.wav")]
    write_table(tmp_path / f"p{apart}.parquet", rows)
    asked = [f"p{composed}.parquet!/{name}.wav" for name in (f"d{composed}/{composed}", composed)]
    (tmp_path / "list.txt").write_text("\n".join(asked))
    found = [one.path for one in read_list(tmp_path, tmp_path / "list.txt").files]
    assert found == [f"p{apart}.parquet!/{name}" for _, name in rows]
    (tmp_path / "list.txt").write_text(f"{composed}.wav\nd{composed}/{composed}.wav")
    inside = read_list(tmp_path / f"p{apart}.parquet", tmp_path / "list.txt")
    assert [one.path for one in inside.files] == [name for _, name in rows]


def known_members(tmp_path: Path, num_packs: int, num_clips: int) -> Synthetic:
    """A folder of packs of which a store knows all members."""
    library = tmp_path / "library"
    for number in range(num_packs):
        write_waveforms(library / f"{number}.h5", tones(num_clips, 0.01))
    made = make_store(tmp_path / "store", frames="none", root=library)
    made.add_rows(
        [
            replace(made.row(file.path, bytes(16)), size=file.size, mtime_ns=file.mtime_ns)
            for file in walk(library).files
        ]
    )
    return made


def test_packs_of_which_nothing_is_asked_for_are_not_opened_for_each_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = known_members(tmp_path, 12, 10)
    found = walk(tmp_path / "library", ["0.h5"])
    opened: list[Path] = []
    open_it = held_module._open

    def counted(path: Path, mtime_ns: int) -> Any:
        opened.append(path)
        return open_it(path, mtime_ns)

    monkeypatch.setattr(held_module, "_open", counted)
    changes = Changes(made.store, made.store.ledger(), found, retry_failed=False)
    assert list(changes.missing({}, allow_gone=False)) == []
    assert len(opened) <= 2 * 12  # whether each still is one, and what is in it


@pytest.mark.parametrize("left", ["nothing", "another beginning", "other arrays"])
def test_file_that_is_no_pack_any_more_may_be_one_again(tmp_path: Path, left: str) -> None:
    """Somebody may be copying it: what was in it is kept, and that it cannot be listed is told."""
    made, pack = known_members(tmp_path, 2, 3), tmp_path / "library" / "1.h5"
    content = pack.read_bytes()
    if left == "other arrays":
        no_pack(pack)
    else:
        pack.write_bytes(bytes(9) + content[9:] if left == "another beginning" else b"")
    changes = Changes(
        made.store, made.store.ledger(), walk(tmp_path / "library"), retry_failed=False
    )
    assert list(changes.missing({}, allow_gone=False)) == []
    ((path, reason),) = changes.unreadable
    assert path == "1.h5"
    assert reason.startswith("the pack cannot be listed: it ")
    pack.unlink()
    changes = Changes(
        made.store, made.store.ledger(), walk(tmp_path / "library"), retry_failed=False
    )
    gone = [row.path for rows in changes.missing({}, allow_gone=True) for row in rows]
    assert len(gone) == 3


def test_list_of_files_names_members(library: Path, tmp_path: Path) -> None:
    names = ["a.parquet!/y.wav", "c.wav", f"b/eval.h5!/{names_of(1)[0].decode()}"]
    (tmp_path / "list.txt").write_text("\n".join(names))
    found = read_list(library, tmp_path / "list.txt")
    assert sorted(one.path for one in found.files) == sorted(names)
    for file in found.files:
        assert (file.size, file.mtime_ns) == state_of(file.local(library))


# --- what is wrong -------------------------------------------------------------------------------


def no_hdf5(path: Path) -> None:
    path.write_text("no HDF5")


def no_pack(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["weights"] = [1.0]


def cut_off(path: Path) -> None:
    write_waveforms(path, tones(3))
    os.truncate(path, 50_000)


def missing_rows(path: Path) -> None:
    write_waveforms(path, tones(2), names_of(3))


def floats(path: Path) -> None:
    write_waveforms(path, (tones(2) / 32767).astype("f4"))


def flat(path: Path) -> None:
    write_waveforms(path, tones(2).ravel(), names_of(2))


def linked(path: Path) -> None:
    write_waveforms(path, tones(2))
    with h5py.File(path, "a") as file:
        del file["waveform"]
        file["waveform"] = h5py.ExternalLink("/etc/passwd", "/waveform")


def external(path: Path) -> None:
    write_waveforms(path, tones(2))
    (path.parent / "raw").write_bytes(bytes(400))
    with h5py.File(path, "a") as file:
        del file["waveform"]
        raw = [(str(path.parent / "raw"), 0, 400)]
        file.create_dataset("waveform", (2, 100), "i2", external=raw)


def virtual(path: Path) -> None:
    write_waveforms(path.parent / "other", tones(2))
    layout = h5py.VirtualLayout((2, 32_000), "i2")
    layout[:] = h5py.VirtualSource(path.parent / "other", "waveform", (2, 32_000))
    write_waveforms(path, tones(2))
    with h5py.File(path, "a") as file:
        del file["waveform"]
        file.create_virtual_dataset("waveform", layout)


def claimed(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["audio_name"] = names_of(2)
        file.create_dataset("waveform", (2, 2**40), "i2", chunks=(1, 1000))


def plugin(path: Path) -> None:
    write_waveforms(path, tones(2), chunks=(1, 32_000), compression="gzip")
    # The number of a filter stands in the file: that of deflate becomes that of Zstandard.
    content = path.read_bytes()
    at = content.index(b"deflate") - 8
    assert content[at : at + 2] == b"\1\0"
    path.write_bytes(content[:at] + (32015).to_bytes(2, "little") + content[at + 2 :])


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (no_hdf5, "is no pack: it is no HDF5; a library is a folder of audio, or a pack: HDF5"),
        (no_pack, "is no pack: it has no audio_name and waveform; a library is"),
        (cut_off, "cannot be listed: .*truncated file"),
        (missing_rows, "cannot be listed: 3 names for 2 waveforms"),
        (floats, "cannot be listed: waveform holds float32, not int16"),
        (flat, "cannot be listed: waveform is no array of 2 dimensions; a pack has"),
        (linked, "cannot be listed: waveform is no array of 2 dimensions"),
        (external, "cannot be listed: the data of waveform are in other files"),
        (virtual, "cannot be listed: the data of waveform are in other files"),
        (claimed, "cannot be listed: waveform claims to be .*, and is empty or cut off"),
        (plugin, "cannot be listed: the blocks of waveform are packed by the plugin 32015"),
    ],
)
def test_hdf5_that_is_no_pack_is_one_line(
    tmp_path: Path, run: Run, break_it: Any, said: str
) -> None:
    break_it(tmp_path / "eval.h5")
    with pytest.raises(LibraryError, match=said):
        walk(tmp_path / "eval.h5")
    told = run("index", tmp_path / "eval.h5", "--store", tmp_path / "s", code=None)
    assert (told.code, told.err.count("\n")) == (1, 1)
    rows = {no_pack: fault("R20a"), missing_rows: fault("R20b")}
    if break_it in rows:
        rows[break_it].require(told.code, told.err)
    assert not (tmp_path / "s").exists()
    # Beside other files it is passed over, or told as what could not be listed.
    (tmp_path / "a.wav").write_bytes(wave(tones(1)[0]))
    found = walk(tmp_path)
    is_told = break_it not in (no_hdf5, no_pack)
    assert [path for path, _ in found.unreadable] == (["eval.h5"] if is_told else [])
    assert "a.wav" in [one.path for one in found.files]


def no_parquet(path: Path) -> None:
    path.write_text("no Parquet")


def no_column(path: Path) -> None:
    pq.write_table(pa.table({"audio": ["a.wav"], "image": [{"path": "x"}]}), path)


def pictures(path: Path) -> None:
    write_table(path, [(b"x", "a.png")], "image")


def several(path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    sound = pa.array([{"bytes": b"x", "path": "a"}], kind)
    write_table(path, [(b"x", "a")], marked=["left", "right"])
    note = pq.read_schema(path).metadata
    table = pa.table({"left": sound, "right": sound}).replace_schema_metadata(note)
    pq.write_table(table, path)


def cut_table(path: Path) -> None:
    write_table(path, [(wave(tones(1)[0]), "a.wav")])
    os.truncate(path, 20_000)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (no_parquet, "is no pack: it is no Parquet"),
        (no_column, "is no pack: it has no column of bytes and path"),
        (pictures, "is no pack: it has no column of bytes and path"),
        (several, "is no pack: it has several columns of sounds, none of them 'audio'"),
        (cut_table, "cannot be listed: damaged: Parquet magic bytes not found in footer"),
    ],
)
def test_parquet_that_is_no_pack_is_one_line(tmp_path: Path, break_it: Any, said: str) -> None:
    break_it(tmp_path / "clips.parquet")
    with pytest.raises(LibraryError, match=said) as caught:
        walk(tmp_path / "clips.parquet")
    assert "\n" not in str(caught.value)


def test_column_of_another_name_is_read_where_it_is_marked(tmp_path: Path) -> None:
    rows = [(wave(tones(1)[0]), "a.wav")]
    write_table(tmp_path / "clips.parquet", rows, "sound", marked=["sound"])
    assert names_in(tmp_path / "clips.parquet") == ["a.wav"]
    assert exists(tmp_path / "clips.parquet!" / "a.wav")


def test_row_that_only_names_a_file_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(wave(tones(1)[0]))
    rows = [(None, str(tmp_path / "secret.wav")), (b"", "empty.wav"), (None, None), (None, "")]
    write_table(tmp_path / "clips.parquet", rows)
    first, second, *null = (one.local(tmp_path) for one in walk(tmp_path).files if "!" in one.path)
    with pytest.raises(AudioError, match="null: the pack only names a file, which is not followed"):
        recording_digest(first)
    for path in null:
        with pytest.raises(AudioError, match=r"^bytes is null, and the row names no file either$"):
            recording_digest(path)
    with pytest.raises(AudioError, match=r"empty file \(0 bytes\)"):
        open_audio(second)


@pytest.mark.parametrize("row", [0, 3, 6])
def test_row_group_that_is_damaged_costs_its_own_rows(tmp_path: Path, row: int) -> None:
    """Each row is a page of its own: what comes before the damage in its row group is read."""
    rows = [(wave(tones(1, 0.2, seed=row)[0]), f"{row}.wav") for row in range(8)]
    options = {"use_dictionary": False, "write_batch_size": 1, "data_page_size": 1}
    path = write_table(
        tmp_path / "clips.parquet", rows, row_group_size=4, write_page_checksum=True, **options
    )
    content = path.read_bytes()
    at = content.index(rows[row][0][60:100])
    path.write_bytes(content[:at] + bytes(40) + content[at + 40 :])
    lost = range(row, row // 4 * 4 + 4)
    for number in [*range(8), *range(8)]:
        member = tmp_path / "clips.parquet!" / f"{number}.wav"
        if number in lost:
            with pytest.raises(AudioError, match="the row group is damaged: ") as caught:
                recording_digest(member)
            assert caught.value.stage == "decode"
        else:
            expected = hashlib.blake2b(rows[number][0], digest_size=16).digest()
            assert recording_digest(member) == expected


def test_row_of_waveforms_that_is_damaged_is_an_error_of_its_own(tmp_path: Path) -> None:
    waveforms: Waveforms = tones(3, 0.2)
    path = write_waveforms(
        tmp_path / "eval.h5", waveforms, chunks=(1, 6400), compression="gzip", fletcher32=True
    )
    with h5py.File(path) as file:
        chunk = file["waveform"].id.get_chunk_info(1)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset + 30 : chunk.byte_offset + 60] = bytes(30)
    path.write_bytes(content)
    first, second, third = (tmp_path / "eval.h5!" / name.decode() for name in names_of(3))
    with pytest.raises(AudioError, match="the row is damaged"):
        recording_digest(second)
    for row, one in ((0, first), (2, third)):
        np.testing.assert_array_equal(whole(one)[0], (waveforms[row] / 32767).astype("f4"))


def test_rows_without_a_name_are_labelled_clips_that_are_missing(tmp_path: Path) -> None:
    names = [*names_of(2), b""]
    write_waveforms(tmp_path / "eval.h5", tones(3), names)
    segments = read_segments(tmp_path / "eval.h5")
    assert [one.youtube_id for one in segments] == [*(one[1:12].decode() for one in names[:2]), ""]


@pytest.mark.parametrize("kind", ["waveforms", "table"])
def test_row_that_the_system_did_not_give_is_read_another_time(tmp_path: Path, kind: str) -> None:
    """A disk that fails for a while: what is damaged is another failure, and lasting."""
    rows = [(wave(tones(1, 0.2, seed=row)[0]), f"{row}.wav") for row in range(4)]
    if kind == "table":
        pack: Any = held(write_table(tmp_path / "a.parquet", rows, row_group_size=2))
    else:
        pack = held(write_waveforms(tmp_path / "a.h5", tones(4, 0.2), chunks=(1, 6400)))
    source = pack._source.fileno()
    kept, unreadable = os.dup(source), os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    os.dup2(unreadable, source)
    try:
        with pytest.raises(AudioError, match="cannot be read: bad file descriptor") as caught:
            b"".join(pack.content(3))
    finally:
        os.dup2(kept, source)
        os.close(kept)
        os.close(unreadable)
    assert caught.value.stage == "access"
    assert b"".join(pack.content(3))


def test_want_of_memory_is_no_damage() -> None:
    told = not_read(MemoryError(), "the row")
    assert (told.stage, told.reason) == ("access", "cannot be read: not enough memory")


@pytest.mark.whole
@pytest.mark.parametrize("made", ["dictionary", "plain", "many"])
def test_names_that_unpack_to_far_more_than_the_file_take_no_memory(
    tmp_path: Path, made: str
) -> None:
    """A table of a few kB whose names would be gigabytes, and one of many names of a kilobyte."""
    long = "x" * (1 << 23) if made != "many" else "x" * 1000
    rows = 150_000 if made == "many" else 300 if made == "dictionary" else 20
    sounds = pa.StructArray.from_arrays(
        [
            pa.array([None] * rows, pa.binary()),
            pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [long]),
        ],
        ["bytes", "path"],
    )
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"audio": sounds}), path, compression="zstd", use_dictionary=made != "plain"
    )
    assert path.stat().st_size < 100_000
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        if made == "dictionary":
            assert [one.path for one in walk(path).files][:2] == ["row-0", "row-1"]
        else:
            with pytest.raises(LibraryError, match="cannot be listed: its names have more than"):
                walk(path)
        assert pool.max_memory() < 100 << 20
    finally:
        pa.set_memory_pool(before)


def test_names_of_any_length_are_read_in_blocks(tmp_path: Path) -> None:
    names = [b"%d-\xc3\xa9.wav" % (row * 7919 % 1500) for row in range(1500)]
    path = write_waveforms(tmp_path / "a.h5", np.zeros((1500, 1), np.int16))
    with h5py.File(path, "a", userblock_size=None) as file:
        del file["audio_name"]
        file["audio_name"] = [name.decode() for name in names]
    calls: list[object] = []
    read = h5py.Dataset.__getitem__

    def counted(dataset: Any, *args: Any) -> Any:
        calls.append(args)
        return read(dataset, *args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(h5py.Dataset, "__getitem__", counted)
        assert names_in(path) == [name.decode() for name in names]
    assert len(calls) == 2
    with h5py.File(path, "a") as file:
        file["audio_name"][1499] = "x" * 300
    with pytest.raises(LibraryError, match="a name in audio_name has 300 bytes"):
        walk(path)


def test_pack_that_gets_shorter_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = write_waveforms(tmp_path / "a.h5", tones(3, 0.2), compression="gzip", chunks=(1, 6400))
    pack = held(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(AudioError, match="the file ends where there should be more") as caught:
        [b"".join(pack.content(row)) for row in range(3)]
    assert caught.value.stage == "decode"


def test_no_room_for_a_member_is_an_error_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path / "a.parquet", [(wave(tones(1)[0]), "a.wav")])
    whole(tmp_path / "a.parquet!" / "a.wav")

    def fail(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "memfd_create", fail)
    with pytest.raises(AudioError, match="no room for it: too many open files") as caught:
        open_audio(tmp_path / "a.parquet!" / "a.wav")
    assert caught.value.stage == "access"


def test_pack_with_too_few_labels_is_one_line(tmp_path: Path, run: Run) -> None:
    path = write_waveforms(tmp_path / "eval.h5", tones(3))
    with h5py.File(path, "a") as file:
        targets = file["target"][:2]
        del file["target"]
        file["target"] = targets
    make_store(tmp_path / "store")
    words = ("eval", "audioset", tmp_path / "store", "--segments", path)
    told = run(*words, code=None)
    fault("R20c").require(told.code, told.err)
