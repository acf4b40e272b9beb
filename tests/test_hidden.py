"""Files that a run leaves out: none of them without a word."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from conftest import Run
from faults import fault
from synthetic import write_tone

from indexer.library.walk import walk


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A library with two hidden songs: in a folder, and by their own name."""
    library = tmp_path / "library"
    for number, name in enumerate(("...And Then/one.wav", "ok/two.wav", ".three.wav")):
        write_tone(library / name, 1.0, 300 + 50 * number)
    return library


@pytest.mark.whole
def test_hidden_songs_are_counted_and_read_with_hidden(
    album: Path, tmp_path: Path, tiny_file: Path, run: Run
) -> None:
    words = ("index", album, "--store", tmp_path / "s", "--checkpoint", tiny_file)
    first = run(*words)
    fault("D1a").require(first.code, first.out + first.err)
    report = run(*words, "--hidden", "--format", "json").data
    assert (report["num_embedded"], report["num_hidden"]) == (2, 0)
    again = run(*words, "--format", "json").data  # what was read once stays
    assert (again["num_gone"], again["num_hidden"], again["num_unchanged"]) == (0, 0, 3)
    write_tone(album / ".three.wav", 2.0)
    assert run(*words, "--format", "json").data["num_hidden"] == 1  # --hidden would read it
    (album / "ok" / "two.wav").unlink()
    (album / ".three.wav").unlink()
    told = run(*words, "--allow-gone")
    fault("L3a").require(told.code, told.out + told.err)
    write_tone(album / ".three.wav", 1.0)
    told = run("index", album, "--store", tmp_path / "other", "--checkpoint", tiny_file, code=1)
    fault("D1b").require(told.code, told.err)


def test_folder_that_a_link_shows_is_read_though_its_own_name_is_hidden(tmp_path: Path) -> None:
    root = tmp_path / "library"
    write_tone(root / ".data" / "show" / "a.wav", 1.0)
    write_tone(root / "b.wav", 1.0)
    (root / "show").symlink_to(root / ".data" / "show")
    found = walk(root)
    assert [file.path for file in found.files] == ["b.wav", "show/a.wav"]
    assert [file.path for file in walk(root, hidden=True).files] == ["b.wav", "show/a.wav"]


def test_hidden_folder_that_cannot_be_listed_is_nobodys_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "library"
    write_tone(root / "b.wav", 1.0)
    write_tone(root / ".locked" / "a.wav", 1.0)
    scan = os.scandir

    def refuse(folder: Path) -> object:
        if str(folder).endswith(".locked"):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert (walk(root).unreadable, walk(root).unlisted) == ([], [".locked"])
    assert [path for path, _ in walk(root, hidden=True).unreadable] == [".locked"]


@pytest.mark.parametrize(
    ("name", "files", "options"),
    [
        ("L3b", ("a.wav", ".b.flac"), ("--include", "*.flac")),
        ("L3c", (".x/notes.txt", ".more.txt"), ()),
        ("L3d", (), ()),
    ],
)
def test_library_without_a_file_to_read_is_told_what_it_has(
    name: str, files: tuple[str, ...], options: tuple[str, ...], tmp_path: Path, run: Run
) -> None:
    (tmp_path / "library").mkdir()
    for file in files:
        (tmp_path / "library" / file).parent.mkdir(exist_ok=True)
        (tmp_path / "library" / file).touch()
    told = run("index", tmp_path / "library", "--store", tmp_path / "s", *options, code=1)
    rows = {"L3b": fault("L3b"), "L3c": fault("L3c"), "L3d": fault("L3d")}
    rows[name].require(told.code, told.err)
    assert not (tmp_path / "s").exists()
