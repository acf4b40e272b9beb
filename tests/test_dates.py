"""Dates of files that 64 bits of nanoseconds do not hold: a disk may have them, a run goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import Run
from faults import fault
from synthetic import write_tone

from indexer.audio.file import date_of
from indexer.errors import AudioError
from indexer.library.files import FileList, FoundFile
from indexer.library.walk import walk
from indexer.reading.begun import Begun

SECOND_NS = 10**9
#: The years 1601 (where Windows begins to count), 1969, 2262 and 2400, and as far as 64 bits of
#: seconds go.
DATES_S = (-11_644_473_600, -1, 9_223_372_036, 13_569_465_600, -(2**63), 2**63 - 1)


def status_at(date_s: int) -> os.stat_result:
    """What the system says of a file of that date."""
    times = {"st_mtime_ns": date_s * SECOND_NS}
    return os.stat_result((0o100644, 1, 1, 1, 0, 0, 1, 0, 0, 0), times)


@pytest.mark.parametrize("date_s", DATES_S)
def test_date_is_held_by_64_bits_and_is_itself_where_it_can_be(date_s: int) -> None:
    held, real = date_of(status_at(date_s)), date_s * SECOND_NS
    assert list(FileList([FoundFile("a.wav", 1, held)])) == [("a.wav", 1, held, None)]
    assert held == real or abs(held) >= 2**63 - 1
    assert (held < 0) == (real < 0)


@pytest.mark.whole
def test_files_of_impossible_dates_are_indexed_and_then_unchanged(
    tmp_path: Path, tiny_file: Path, run: Run
) -> None:
    library = tmp_path / "library"
    for name, date_s in (("late.wav", 13_569_465_600), ("early.wav", -11_644_473_600)):
        write_tone(library / name, 1.0, 300 + len(name))
        os.utime(library / name, ns=(0, date_s * SECOND_NS))
    words = ("index", library, "--store", tmp_path / "s", "--checkpoint", tiny_file)
    first = run(*words, "--workers", 0)
    fault("B1a").require(first.code, first.out + first.err)
    again = run(*words)
    fault("B1b").require(again.code, again.out + again.err)


def test_file_that_changes_while_it_is_read_is_seen_whatever_its_date(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_tone(path, 1.0)
    os.utime(path, ns=(0, 13_569_465_600 * SECOND_NS))
    (file,) = walk(tmp_path).files
    begun = Begun.of(path, file)
    begun.require_unchanged()
    os.utime(path, ns=(0, 0))
    with pytest.raises(AudioError, match="changed while it was read"):
        begun.require_unchanged()
