"""What is said of damage: what, which file, and what to do; in words of our own, and once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from conftest import Run, needs_root, run_as_nobody
from faults import fault
from synthetic import make_store

import soundalike
from indexer.errors import SoundalikeError, StoreError
from indexer.run.config import Settings
from indexer.run.prepare import check_place
from indexer.store.disk import remove_all
from indexer.store.own import Own
from search.upkeep.build import build
from search.upkeep.verify import verify
from soundalike.hints import with_hint
from soundalike.show.stores import problem_lines

#: Words of Python, of Parquet and of Arrow.
FOREIGN = (
    "Errno",
    "Error",
    "None",
    "codec",
    "Expecting",
    "magic",
    "hrift",
    "rrow",
    "{",
    "KeyError",
)
#: What to do begins with one of these.
TO_DO = (
    "bring it back",
    "bring back from a copy",
    "bring store.json",
    "run: soundalike ",
    "remove it",
    "put in its place",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_store(tmp_path_factory.mktemp("advice") / "s")
    made.add({"a": 3}, num_frames=1)
    build(made.store)
    Own.of(made.store.path).write("mine", {"a": 1})
    return made.store.path


def missing(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_bytes(b"")


def junk(file: Path) -> None:
    file.write_bytes(b"\xff{junk" * 100)


def other_json(file: Path) -> None:
    file.write_bytes(b'{"digest": "x", "files": []}')


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def link(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")


def same_size(file: Path) -> None:
    file.write_bytes(b"U" * file.stat().st_size)


CHANGES = [missing, empty, junk, other_json, pipe, folder, link, same_size]


def require_good(text: str, file: Path) -> None:
    assert text.count(str(file)) <= 1, text
    text = text.replace(str(file), "FILE")
    assert not any(word in text for word in FOREIGN), text
    assert any(word in text for word in TO_DO), text


#: Of the files of each kind, one; the others are looked at where there is time.
SOME = ("store.json", "head.safetensors", "libraries.json", "scene.parquet", "CURRENT", "tags.raw")


@pytest.mark.parametrize(
    ("change", "share"),
    [
        *((one, "some") for one in (missing, junk, folder)),
        *(pytest.param(one, "all", marks=pytest.mark.slow) for one in CHANGES),
    ],
)
def test_damage_of_any_file_is_told_once_in_plain_words_with_what_to_do(
    change: Callable[[Path], None], share: str, store: Path, tmp_path: Path
) -> None:
    files = [one for one in store.rglob("*") if one.is_file() and not one.name.startswith(".")]
    assert len(files) == 27
    chosen = [one for one in files if share == "all" or one.name in SOME]
    for number, name in enumerate(sorted(str(file.relative_to(store)) for file in chosen)):
        copy = Path(shutil.copytree(store, tmp_path / str(number)))
        change(copy / name)
        try:
            lines = list(problem_lines(verify(copy)))
        except StoreError as error:  # without its first document there is no store
            lines = [with_hint(error)]
            assert name == "store.json"
        unseen = change is missing and name in ("libraries.json", "index/CURRENT", "own/mine.json")
        assert lines or unseen, name
        for line in lines:
            require_good(line, copy / name)
            assert "verify" not in line, line
        sounds = soundalike.open(copy)
        for ask in (sounds.info, sounds.rows, partial(sounds.search, tags="Dog"), sounds.build):
            try:
                ask()
            except SoundalikeError as error:
                require_good(with_hint(error), copy / name)
        shutil.rmtree(copy)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
@pytest.mark.parametrize(
    ("lock", "words"),
    [
        (".writer.lock", ("compact",)),
        (".readers.lock", ("compact",)),
        (".readers.lock", ("tags",)),
        ("index/.lock", ("build",)),
    ],
)
def test_lock_that_is_no_file_says_that_it_may_be_removed(
    make: Callable[[Path], None],
    lock: str,
    words: tuple[str, ...],
    store: Path,
    tmp_path: Path,
    run: Run,
) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "s"))
    (copy / lock).unlink(missing_ok=True)
    make(copy / lock)
    told = run(*words, copy, code=None)
    fault("P3b").require(told.code, told.err)
    remove_all(copy / lock)
    run(*words, copy)


def test_damaged_part_says_how_to_go_on_without_a_copy(
    store: Path, tmp_path: Path, run: Run
) -> None:
    copy = Path(shutil.copytree(store, tmp_path / "s"))
    junk(next(copy.glob("parts/*/scene.parquet")))
    told = run("verify", copy, code=None)
    fault("P3").require(told.code, told.out)


# --- where a store cannot be made -----------------------------------------------------------------


@pytest.mark.parametrize("command", ["index", "extract"])
def test_place_that_cannot_be_a_store_is_told_before_anything_else(
    command: str, store: Path, tmp_path: Path, run: Run
) -> None:
    """The library is not there, and the checkpoint neither: neither is looked for."""
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("mine")
    rows = {
        "dangling": fault("P5a"),
        "dangling/s": fault("P5a"),
        "file": fault("P5b"),
        "file/s": fault("P5b"),
        "taken": fault("P5c"),
    }
    for name, row in rows.items():
        place = ("--store", tmp_path / name) if command == "index" else (tmp_path / name,)
        words = (command, tmp_path / "no-library", *place, "--checkpoint", "no-checkpoint")
        told = run(*words, code=None)
        row.require(told.code, told.err)
        assert "a new store" not in told.out + told.err
    place = ("--store", store) if command == "index" else (store,)
    words = (command, tmp_path / "no-library", *place, "--hop", "5", "--checkpoint", "nowhere")
    told = run(*words, code=None)
    fault("P5d").require(told.code, told.err)


@pytest.mark.whole
@needs_root
def test_place_that_may_not_be_written_is_told_before_anything_else(public_folder: Path) -> None:
    def told() -> str:
        try:
            check_place(public_folder / "a" / "s", Settings())
        except StoreError as error:
            return with_hint(error)
        return ""

    assert told() == ""  # root may
    fault("P5e").require(1, run_as_nobody(told))
