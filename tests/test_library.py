"""Walking a folder: what is found, skipped, followed, reported."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from conftest import Run, needs_root, run_as_nobody
from faults import fault

from indexer.errors import LibraryError
from indexer.library.files import FileList, FoundFile
from indexer.library.walk import read_list, walk
from indexer.paths import text_from_bytes


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def paths(found: FileList) -> list[str]:
    return [file.path for file in found]


def test_walk_folder_finds_audio_in_order_and_counts_the_rest(tmp_path: Path) -> None:
    touch(tmp_path, "b/two.FLAC", "a.wav", "b/one.mp3", "notes.txt", "b/cover.jpg")
    found = walk(tmp_path)
    assert paths(found.files) == ["a.wav", "b/one.mp3", "b/two.FLAC"]
    assert found.num_skipped == 2
    assert found.is_complete


def test_walk_file_records_size_and_time(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    os.utime(tmp_path / "a.wav", ns=(5, 123_456_789))
    assert list(walk(tmp_path).files) == [FoundFile("a.wav", 1, 123_456_789)]


def test_walk_hidden_files_are_counted_and_taken_if_asked_for(tmp_path: Path) -> None:
    touch(tmp_path, ".a.wav", "...And Justice/b.wav", "c.wav", "x/.y/z/d.mp3", ".notes.txt")
    found = walk(tmp_path)
    assert paths(found.files) == ["c.wav"]
    assert (len(found.hidden), found.num_skipped) == (3, 1)
    found = walk(tmp_path, hidden=True)
    assert paths(found.files) == ["...And Justice/b.wav", ".a.wav", "c.wav", "x/.y/z/d.mp3"]
    assert (len(found.hidden), found.num_skipped) == (0, 1)
    chosen = walk(tmp_path, include=["*.wav", "*.txt"], exclude=["*Justice*"])
    assert paths(chosen.files) == ["c.wav"]
    assert (len(chosen.hidden), chosen.num_excluded) == (2, 2)  # what --hidden would not change


def test_walk_what_the_system_keeps_for_itself_is_never_looked_at(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "._a.wav", ".git/b.wav", ".Trash-1000/c.wav", "x/.AppleDouble/d.wav")
    found = walk(tmp_path, include=["*"], hidden=True)
    assert paths(found.files) == ["a.wav"]
    assert len(found.hidden) == found.num_skipped == found.num_excluded == 0


def test_walk_with_nothing_but_hidden_files_is_an_error_that_says_what_takes_them(
    tmp_path: Path,
) -> None:
    touch(tmp_path, ".x/a.wav")
    with pytest.raises(LibraryError, match="what is hidden: 1 file whose name") as caught:
        walk(tmp_path)
    assert caught.value.about == "hidden"


def test_walk_folder_named_like_audio_is_walked(tmp_path: Path) -> None:
    touch(tmp_path, "x.wav/y.wav")
    assert paths(walk(tmp_path).files) == ["x.wav/y.wav"]


def test_walk_links_in_a_circle_end_and_each_folder_is_seen_once(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.wav")
    (tmp_path / "again").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    assert paths(walk(tmp_path).files) == ["loop.wav", "real/a.wav"]


def test_walk_link_to_a_folder_outside_is_followed(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "a.wav")
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "link").symlink_to(tmp_path / "elsewhere")
    assert paths(walk(tmp_path / "library").files) == ["link/a.wav"]


def test_walk_link_to_a_file_is_a_file_and_a_broken_one_is_kept_for_the_decoder(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "b.wav").symlink_to(tmp_path / "a.wav")
    (tmp_path / "c.wav").symlink_to(tmp_path / "nothing")
    found = walk(tmp_path).files
    assert [(file.path, file.size) for file in found] == [("a.wav", 1), ("b.wav", 1), ("c.wav", 0)]


def test_walk_name_that_is_not_utf8_is_reversible(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    Path(os.fsdecode(raw)).write_bytes(b"x")
    (file,) = walk(tmp_path).files
    assert file.path == text_from_bytes(b"caf\xe9.wav") == r"caf\xe9.wav"
    assert os.fsencode(file.local(tmp_path)) == raw


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.wav"], [], ["a.wav", "sub/b.wav"]),
        (["sub/*"], [], ["sub/b.wav", "sub/c.flac", "sub/d.dat"]),
        ([], ["sub/*"], ["a.wav"]),
        (["*.wav"], ["sub/*"], ["a.wav"]),
        (["*.dat"], [], ["sub/d.dat"]),
    ],
)
def test_walk_patterns_choose_relative_paths(
    tmp_path: Path, include: list[str], exclude: list[str], expected: list[str]
) -> None:
    touch(tmp_path, "a.wav", "sub/b.wav", "sub/c.flac", "sub/d.dat")
    assert paths(walk(tmp_path, include, exclude).files) == expected


def test_walk_store_inside_the_library_is_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "s/store.json", "s/head.safetensors", "s/parts/1/scene.parquet")
    found = walk(tmp_path, include=["*"])
    assert paths(found.files) == ["a.wav"]
    assert found.num_skipped == 0


def test_walk_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="no such folder"):
        walk(tmp_path / "nothing")


def test_walk_file_instead_of_folder_is_an_error_about_tagging(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    with pytest.raises(LibraryError, match=r"a\.wav is not a folder; .* listen to it") as caught:
        walk(tmp_path / "a.wav")
    assert caught.value.about == "tag"


def test_walk_folder_without_audio_is_an_error_that_counts(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    message = r"no audio in .* \(1 file with other extensions\); include those"
    with pytest.raises(LibraryError, match=message) as caught:
        walk(tmp_path)
    assert caught.value.about == "include"


def test_walk_patterns_that_leave_nothing_are_an_error_that_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    with pytest.raises(LibraryError, match=r"passes the patterns \(1 left out\); include more"):
        walk(tmp_path, exclude=["*"])


@pytest.mark.whole
@needs_root
def test_walk_unreadable_folder_is_reported_and_the_rest_is_found(public_folder: Path) -> None:
    touch(public_folder, "a.wav", "locked/b.wav")
    (public_folder / "locked").chmod(0)

    def look() -> object:
        found = walk(public_folder)
        return [file.path for file in found.files], found.unreadable

    reason = "the folder cannot be listed: Permission denied"
    assert run_as_nobody(look) == (["a.wav"], [("locked", reason)])


def test_listed_lines_name_files_relative_or_absolute(tmp_path: Path) -> None:
    touch(tmp_path / "library", "a.wav", "sub/b.wav", "c.wav")
    names = tmp_path / "names.txt"
    names.write_text(f"sub/b.wav\n\n{tmp_path}/library/a.wav\na.wav\n")
    found = read_list(tmp_path / "library", names)
    assert paths(found.files) == ["a.wav", "sub/b.wav"]
    assert not found.is_complete


def test_listed_csv_spans_are_in_samples_at_32_khz(tmp_path: Path) -> None:
    touch(tmp_path, "a,b.wav", "c.wav")
    names = tmp_path / "names.csv"
    names.write_text('path,start,end\n"a,b.wav",1.5,2\n"a,b.wav",,\nc.wav,3,\n')
    first, second, third = read_list(tmp_path, names).files
    assert (first.path, first.span) == ("a,b.wav", None)
    assert (second.path, second.span) == ("a,b.wav", (48_000, 16_000))
    assert third.path == "c.wav"
    assert third.span is not None
    assert third.span[0] == 96_000
    assert third.span[1] > 10**12  # to the end, wherever that is


def test_listed_lines_may_have_a_byte_order_mark_or_zero_bytes_between_them(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b c.wav")
    names = tmp_path / "names.txt"
    for content in (b"\xef\xbb\xbfa.wav\r\nb c.wav\r\n", b"a.wav\0b c.wav\0"):
        names.write_bytes(content)
        assert [(file.path, file.size) for file in read_list(tmp_path, names).files] == [
            ("a.wav", 1),
            ("b c.wav", 1),
        ]


def test_listed_absolute_names_may_go_through_a_link_to_the_library(tmp_path: Path) -> None:
    touch(tmp_path / "real", "a.wav", "b.wav")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    names = tmp_path / "names.txt"
    names.write_text(f"{tmp_path}/link/a.wav\n{tmp_path}/real/b.wav\n")
    assert paths(read_list(tmp_path / "link", names).files) == ["a.wav", "b.wav"]


def test_listed_csv_blanks_after_commas_and_line_breaks_in_names_are_read(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b\nc.wav", "d\u2028e.wav")
    names = tmp_path / "names.csv"
    names.write_text('path, start, end\na.wav, 1, 2\n"b\nc.wav", 0, 1\nd\u2028e.wav\n')
    assert [(file.path, file.size, file.span) for file in read_list(tmp_path, names).files] == [
        ("a.wav", 1, (32_000, 32_000)),
        ("b\nc.wav", 1, (0, 32_000)),
        ("d\u2028e.wav", 1, None),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,start,end\na.wav,0,1\n", "no column 'path', 'file' or 'filename'; .*'name', "),
        ("path,start,end\na.wav,2,1\n", "line 2: need start < end"),
        ("path,start,end\na.wav,x,1\n", "line 2: a time is in seconds"),
        ("path,start,end\na.wav,nan,1\n", "line 2: a time is in seconds"),
        ("path,start,end\n../a.wav,0,1\n", "outside the library"),
        ("path,start,end\n", "names no file"),
        ("path,start,end\n,0,1\n", "line 2: need a path, got ''"),
        ("start,path\n1\n", "line 2: need a path, got ''"),
        ("path\na\0.wav\n", "line 2: need a path"),
        (f"path\n{'a' * 200_000}\n", "after line 1: field larger than"),
    ],
)
def test_listed_csv_that_is_wrong_is_an_error_that_says_where(
    tmp_path: Path, content: str, message: str
) -> None:
    names = tmp_path / "names.csv"
    names.write_text(content)
    with pytest.raises(LibraryError, match=message):
        read_list(tmp_path, names)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("column", ["path", "Path", "FILE", "filename "])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_listed_tables_are_read_as_metadata_is(
    tmp_path: Path, delimiter: str, column: str, encoding: str
) -> None:
    touch(tmp_path, "é.wav", "b.wav")
    rows = (["n", column, "Start", "end"], ["1", "é.wav", "1", "2"], ["2", "b.wav", "", ""])
    text = "\r\n".join(delimiter.join(row) for row in rows)
    names = tmp_path / ("names.tsv" if delimiter == "\t" else "names.csv")
    names.write_bytes(text.encode(encoding))
    found = [(file.path, file.size, file.span) for file in read_list(tmp_path, names).files]
    assert found == [("b.wav", 1, None), ("é.wav", 1, (32_000, 32_000))]


def test_listed_table_without_a_column_of_paths_is_one_line(tmp_path: Path, run: Run) -> None:
    touch(tmp_path / "library", "a.wav")
    (tmp_path / "names.csv").write_text("name;start\na.wav;1\n", "utf-16")
    told = run("index", tmp_path / "library", "--files-from", tmp_path / "names.csv", code=1)
    fault("F8").require(told.code, told.err)
    assert "'name', 'start'" in told.err


def test_listed_parquet_and_lines_in_utf_16(tmp_path: Path) -> None:
    touch(tmp_path, "é.wav", "b.wav")
    names = tmp_path / "names.parquet"
    table = pa.table({"File": [b"b.wav", "é.wav".encode()], "start": [None, 1.0], "end": [None, 2]})
    pa.parquet.write_table(table, names)
    found = [(file.path, file.span) for file in read_list(tmp_path, names).files]
    assert found == [("b.wav", None), ("é.wav", (32_000, 32_000))]
    names = tmp_path / "names.txt"
    names.write_text("é.wav\nb.wav\n", "utf-16")
    assert paths(read_list(tmp_path, names).files) == ["b.wav", "é.wav"]


@pytest.mark.parametrize("form", ["txt", "csv"])
def test_listed_names_may_have_their_accents_written_in_another_way(
    tmp_path: Path, form: str
) -> None:
    nfc, nfd = "caf\u00e9", "cafe\u0301"
    touch(tmp_path, f"{nfd}/{nfc}.wav", f"both/{nfc}.wav", f"both/{nfd}.wav")
    names = tmp_path / f"names.{form}"
    head = ["path"] if form == "csv" else []
    asked = [f"{nfc}/{nfd}.wav", f"both/{nfd}.wav", f"{nfd}/none {nfc}.wav", f"no {nfc}/a.wav"]
    names.write_text("\n".join([*head, *asked]))
    found = {file.path: file.size for file in read_list(tmp_path, names).files}
    assert found == {
        f"{nfd}/{nfc}.wav": 1,
        f"both/{nfd}.wav": 1,
        f"{nfd}/none {nfc}.wav": 0,  # which is not there: as it is written
        f"no {nfc}/a.wav": 0,
    }


def test_listed_names_may_come_from_a_pipe_that_is_open(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    ours, theirs = os.pipe()
    os.write(theirs, b"a.wav\n")
    os.close(theirs)
    assert paths(read_list(tmp_path, Path(f"/dev/fd/{ours}")).files) == ["a.wav"]
    os.close(ours)
    os.mkfifo(tmp_path / "pipe")  # nobody will ever write to this one
    with pytest.raises(LibraryError, match=r"cannot read the list .*pipe: not a file"):
        read_list(tmp_path, tmp_path / "pipe")


def test_listed_missing_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="cannot read the list"):
        read_list(tmp_path, tmp_path / "names.txt")
