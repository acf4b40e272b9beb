"""Folders that are listed ahead by threads, held against a listing of one after the other."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import LibraryError
from indexer.library import folders
from indexer.library.folders import files_in_folders


def one_by_one(root: Path, unreadable: list[str]) -> Iterator[str]:
    """The oracle: what is visible and no link, then what links lead to, then what is hidden."""
    queues: list[list[str]] = [[""], [], []]
    visited = set()
    while any(queues):
        folder = next(queue for queue in queues if queue).pop()
        status = (root / folder).stat()
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        try:
            entries = list(os.scandir(root / folder))
        except OSError:
            unreadable.append(folder)
            continue
        if {"store.json", "parts", "head.safetensors"} <= {one.name for one in entries}:
            continue
        for one in entries:
            path = os.path.join(folder, one.name)  # noqa: PTH118
            if one.name in (".git", ".DS_Store"):
                continue
            if not os.path.isdir(root / path):  # noqa: PTH112
                yield path
            elif "/." in f"/{path}":
                queues[2].append(path)
            else:
                queues[1 if one.is_symlink() else 0].append(path)


def make_tree(root: Path, shape: list[tuple[int, str, str]]) -> None:
    """Make folders below those before them, a file in each, and links between them."""
    places = [root]
    root.mkdir()
    for number, (parent, prefix, kind) in enumerate(shape):
        place = places[parent % len(places)] / f"{prefix}{number}"
        if kind == "link":
            place.symlink_to(places[number * 7 % len(places)])
        elif kind == "store":
            (place / "parts").mkdir(parents=True)
            for name in ("store.json", "head.safetensors"):
                (place / name).touch()
        else:
            place.mkdir()
            (place / f"{number}.wav").touch()
            places.append(place)
    (root / ".git").mkdir()
    (root / ".git" / "config.wav").touch()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 30),
            st.sampled_from(["a", "a", ".h"]),
            st.sampled_from(["folder", "folder", "folder", "link", "store"]),
        ),
        max_size=40,
    )
)
def test_files_come_in_the_order_of_one_listing_after_the_other(
    tmp_path_factory: pytest.TempPathFactory, shape: list[tuple[int, str, str]]
) -> None:
    root = tmp_path_factory.mktemp("tree") / "library"
    make_tree(root, shape)
    (root / "circle").symlink_to(root / "circle")
    assert list(files_in_folders(root, [])) == list(one_by_one(root, []))


def test_more_folders_than_are_listed_ahead_are_all_found(tmp_path: Path) -> None:
    make_tree(tmp_path / "library", [(0, "a", "folder")] * 300 + [(5, "b", "folder")] * 300)
    found = list(files_in_folders(tmp_path / "library", []))
    assert len(found) == 600
    assert found == list(one_by_one(tmp_path / "library", []))


def test_folder_that_cannot_be_listed_is_told_and_the_library_itself_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "library"
    make_tree(root, [(0, "a", "folder")] * 3)
    scan, refused = os.scandir, {root / "a1"}

    def refuse(folder: Path) -> object:
        if folder in refused:
            raise PermissionError(13, "Permission denied", str(folder))
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    unreadable: list[tuple[str, str]] = []
    assert sorted(files_in_folders(root, unreadable)) == ["a0/0.wav", "a2/2.wav"]
    assert unreadable == [("a1", "the folder cannot be listed: Permission denied")]
    refused.add(root)
    with pytest.raises(LibraryError, match="library: the folder cannot be listed"):
        list(files_in_folders(root, []))


def test_folders_of_a_slow_disk_are_listed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tree(tmp_path / "library", [(0, "a", "folder")] * 100)
    scan = os.scandir

    def late(folder: Path) -> object:
        time.sleep(0.01)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", late)
    began = time.perf_counter()
    assert len(list(files_in_folders(tmp_path / "library", []))) == 100
    assert time.perf_counter() - began < 0.5  # one after the other it is a second and more


def test_folder_that_many_links_lead_to_is_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "library"
    (root / "all").mkdir(parents=True)
    (root / "all" / "a.wav").touch()
    for number in range(200):
        (root / f"{number}").symlink_to(root / "all")
    scan, listed = os.scandir, []

    def counted(folder: Path) -> object:
        listed.append(folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", counted)
    assert list(files_in_folders(root, [])) == ["all/a.wav"]
    assert listed == [root, root / "all"]


def test_names_of_large_folders_are_not_all_held_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits may be as much as `_MOST_WAITING`, and a folder more for each thread."""
    monkeypatch.setattr(folders, "_MOST_WAITING", 40)
    for number in range(100):
        (tmp_path / f"{number}").mkdir()
        for name in range(10):
            (tmp_path / f"{number}" / f"{name}.wav").touch()
    scan, listed = os.scandir, []

    def counted(folder: Path) -> object:
        listed.append(folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", counted)
    found = []
    for path in files_in_folders(tmp_path, []):
        if path.endswith("/0.wav"):
            time.sleep(0.002)  # the threads list what they may
            assert 10 * len(listed) - len(found) <= 40 + 16 * 10 + 2 * 10
        found.append(path)
    assert found == list(one_by_one(tmp_path, []))
    assert len(found) == 1_000
