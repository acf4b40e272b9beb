"""Files that a run leaves out: none of them without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Run
from faults import fault
from synthetic import write_tone


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
    assert (again["num_gone"], again["num_hidden"]) == (0, 2)
    (album / "ok" / "two.wav").unlink()
    told = run("index", album, "--store", tmp_path / "other", "--checkpoint", tiny_file, code=1)
    fault("D1b").require(told.code, told.err)
