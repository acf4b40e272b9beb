"""A library that is no longer where it was: whoever prints its paths says so."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from faults import fault
from synthetic import Synthetic, make_store, write_tone

import soundalike
from search.upkeep.build import build
from soundalike.show.words import missing_line


@pytest.fixture
def stored(tmp_path: Path) -> Synthetic:
    """Four recordings, of which one has two windows; a is in two places."""
    made = make_store(tmp_path / "store", root=tmp_path / "library")
    made.add({"a": 2, "b": 1, "c": 1, "d": 1})
    made.add_rows([made.row("copy of a.wav", made.paths["a.wav"])])
    build(made.store)
    for name in ("a", "b", "c", "d"):
        write_tone(tmp_path / "library" / f"{name}.wav", 1.0)
    return made


@pytest.mark.parametrize("form", ["table", "m3u", "csv", "json"])
def test_search_in_a_library_that_has_moved_says_so(
    stored: Synthetic, tmp_path: Path, run: Run, form: str
) -> None:
    words = ("search", stored.store.path, "--tag", "Speech", "--threshold", 0, "--format", form)
    assert run(*words).err == ""
    (tmp_path / "library").rename(tmp_path / "elsewhere")
    told = run(*words)
    fault("D3").require(told.code, told.err)
    assert told.err.startswith(f"4 of 4 files are not where the library was last seen: {tmp_path}")
    assert run(*words, "-q").err == ""
    if form == "json":
        assert [hit["is_there"] for hit in told.hits] == 5 * [False]


def test_hits_say_which_of_them_are_there(stored: Synthetic, tmp_path: Path, run: Run) -> None:
    for name in ("b", "c"):
        (tmp_path / "library" / f"{name}.wav").unlink()
    (tmp_path / "library" / "a.wav").rename(tmp_path / "library" / "copy of a.wav")
    answer = soundalike.open(stored.store.path).search(tags="Speech", threshold=0.0)
    assert {hit.path.name for hit in answer.missing if hit.path} == {"b.wav", "c.wav"}
    assert [hit.is_there for hit in answer].count(True) == 3  # both windows of a, which has moved


def test_copies_of_what_is_not_there_are_failures_as_ever(
    stored: Synthetic, tmp_path: Path, run: Run
) -> None:
    shutil.rmtree(tmp_path / "library")
    words = ("search", stored.store.path, "--tag", "Speech", "--threshold", 0)
    told = run(*words, "--copy-to", tmp_path / "out", code=3)
    assert told.err.count("not copied: ") == 5
    assert "4 of 4 files are not where" in told.err


def test_duplicates_in_a_library_that_has_moved_say_so(tmp_path: Path, run: Run) -> None:
    made = make_store(tmp_path / "store", root=tmp_path / "library")
    scene = np.random.default_rng(0).normal(0, 1, (1, 768)).astype(np.float32)
    made.add({"a": 1, "b": 1}, scene=np.repeat(scene, 2, axis=0))
    build(made.store)
    told = run("duplicates", made.store.path)
    assert "group 1" in told.out
    fault("D3").require(told.code, told.err)
    for name in made.paths:
        write_tone(tmp_path / "library" / name, 1.0)
    assert run("duplicates", made.store.path).err == ""


def test_missing_line_counts_recordings_with_a_path() -> None:
    here, gone = Path(__file__), Path("/nowhere/a.wav")
    assert missing_line([]) is None
    assert missing_line([(here,), (gone, here), ()]) is None
    line = missing_line([(gone,), (here,), (gone,), ()])
    assert line == (
        "1 of 2 files is not where the library was last seen: /nowhere/a.wav; index the library "
        "where it is now"
    )


@pytest.mark.parametrize("form", ["m3u", "csv"])
def test_copy_that_is_there_is_named_in_the_place_of_one_that_is_gone(
    stored: Synthetic, tmp_path: Path, run: Run, form: str
) -> None:
    library = tmp_path / "library"
    (library / "a.wav").rename(library / "copy of a.wav")
    words = ("search", stored.store.path, "--tag", "Speech", "--threshold", 0, "--format", form)
    lines = [line for line in run(*words).out.splitlines() if "a.wav" in line]
    assert lines
    assert all("copy" in line for line in lines)


@pytest.mark.whole
def test_output_that_is_closed_is_no_trace(stored: Synthetic) -> None:
    word = f"{sys.executable} -m soundalike"
    for command in ("info STORE", "search STORE --tag Speech --threshold 0 --format csv"):
        line = f"{word} {command.replace('STORE', str(stored.store.path))} >&-"
        told = subprocess.run(line, shell=True, capture_output=True, text=True, check=False)
        assert "Traceback" not in told.stderr, told.stderr
