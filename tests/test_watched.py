"""Files that are read again only where they changed: no change goes unseen."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic import Synthetic, make_store

import soundalike
from indexer.store.creation import library_at
from indexer.store.disk import write_whole
from indexer.store.watched import Watched
from search.generation.segments import CURRENT_FILE, INDEX_FOLDER
from search.upkeep.build import build
from soundalike.sounds import Sounds

#: From then on files are told by their times.
SETTLED_S = 2.1


class Reader:
    """Reads a file, or lists a folder, and counts how often."""

    def __init__(self, path: Path) -> None:
        self.path, self.times = path, 0

    def __call__(self) -> bytes | list[str]:
        self.times += 1
        if self.path.is_dir():
            return sorted(one.name for one in self.path.iterdir())
        return self.path.read_bytes()


def replace(file: Path) -> None:
    """Put another in its place, of its size and its time."""
    before = file.stat()
    write_whole(file, b"new")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def overwrite(file: Path) -> None:
    """Write other bytes into it, and set its time back."""
    before = file.stat()
    file.write_bytes(b"new")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def bring_back(file: Path) -> None:
    """Put a file in its place that was written before it."""
    file.with_name("earlier").replace(file)


@pytest.mark.whole
@pytest.mark.parametrize("change", [replace, overwrite, bring_back])
def test_file_is_read_again_where_it_changed_and_only_there(
    change: Callable[[Path], None], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.with_name("earlier").write_bytes(b"new")
    file.write_bytes(b"old")
    time.sleep(SETTLED_S)
    watched = Watched([file], reader := Reader(file))
    assert [watched.now() for _ in range(3)] == 3 * [b"old"]
    assert reader.times == 1
    change(file)
    time.sleep(SETTLED_S)
    assert [watched.now() for _ in range(3)] == 3 * [b"new"]
    assert reader.times == 2
    file.unlink()
    with pytest.raises(FileNotFoundError):
        watched.now()
    file.write_bytes(b"old")
    assert watched.now() == b"old"
    other = file.with_name("other")
    other.write_bytes(b"led")
    file.unlink()
    file.symlink_to(other)
    assert watched.now() == b"led"


@pytest.mark.whole
def test_folder_is_listed_again_where_a_name_came_or_went(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "a").mkdir(parents=True)
    time.sleep(SETTLED_S)
    watched = Watched([folder], reader := Reader(folder))
    assert [watched.now(), watched.now()] == [["a"], ["a"]]
    assert reader.times == 1
    (folder / "b").mkdir()
    assert watched.now() == ["a", "b"]
    (folder / "a").rename(folder / "c")
    time.sleep(SETTLED_S)
    assert watched.now() == ["b", "c"]
    (folder / "c").rmdir()
    time.sleep(SETTLED_S)
    assert watched.now() == ["b"]


def test_file_is_read_each_time_while_its_clock_may_stand_still(tmp_path: Path) -> None:
    """Bytes that were written within a tick of it have its size, its times and its inode."""
    file = tmp_path / "file"
    file.write_bytes(b"000")
    watched = Watched([file], reader := Reader(file))
    for number in range(100):
        content = f"{number:03}".encode()
        file.write_bytes(content)
        assert [watched.now(), watched.now()] == [content, content]
    assert reader.times == 200


def publish(made: Synthetic, add: str) -> None:
    """Add a recording to a store, and let another process build its index."""
    made.add({add: 1})
    code = "import sys, soundalike; soundalike.open(sys.argv[1]).build()"
    subprocess.run([sys.executable, "-c", code, made.store.path], check=True)


@pytest.fixture
def asked(whole: None, tmp_path: Path) -> tuple[Synthetic, Sounds]:
    """A store that was asked when its files were settled."""
    made = make_store(tmp_path / "store", root=tmp_path / "library", frames="none")
    made.add({"a": 2})
    build(made.store)
    time.sleep(SETTLED_S)
    sounds = soundalike.open(made.store.path)
    for _ in range(2):
        assert len(sounds.search(tags="Dog", threshold=0)) == 2
    return made, sounds


def test_generation_that_another_process_published_answers_the_next_question(
    asked: tuple[Synthetic, Sounds],
) -> None:
    made, sounds = asked
    made.add({"b": 1})
    assert sounds.search(tags="Dog", threshold=0).num_new_parts == 1
    publish(made, "c")
    answer = sounds.search(tags="Dog", threshold=0)
    assert (len(answer), answer.num_new_parts) == (4, 0)


def test_generation_is_seen_though_its_name_is_in_a_file_of_the_same_size_and_time(
    asked: tuple[Synthetic, Sounds],
) -> None:
    made, sounds = asked
    current = made.store.path / INDEX_FOLDER / CURRENT_FILE
    before = current.stat()
    publish(made, "b")
    os.utime(current, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = current.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    time.sleep(SETTLED_S)
    assert len(sounds.search(tags="Dog", threshold=0)) == 3


def test_library_that_has_moved_is_seen_by_the_next_question(
    asked: tuple[Synthetic, Sounds], tmp_path: Path
) -> None:
    made, sounds = asked
    moved = tmp_path / "elsewhe"  # as long as it was
    library_at(made.store, moved, made.library_id)
    assert {hit.path for hit in sounds.search(tags="Dog", threshold=0)} == {moved / "a.wav"}


def test_parts_that_were_compacted_are_no_new_ones(asked: tuple[Synthetic, Sounds]) -> None:
    made, sounds = asked
    for name in ("b", "c"):
        made.add({name: 1})
    assert sounds.search(tags="Dog", threshold=0).num_new_parts == 2
    soundalike.open(made.store.path).compact()
    told = sounds.search(tags="Dog", threshold=0).num_new_parts
    assert told == soundalike.open(made.store.path).search(tags="Dog", threshold=0).num_new_parts
