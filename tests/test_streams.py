"""What is printed goes where it can: a full disk, a pipe that nobody reads, closed streams."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY
from faults import fault
from synthetic import make_store, write_tone

import soundalike
from search.upkeep.build import build
from search.upkeep.verify import verify

FULL = Path("/dev/full")


@pytest.fixture(scope="module")
def store(whole: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_store(tmp_path_factory.mktemp("printed") / "store", frames="none")
    made.add({f"{number}": 1 for number in range(2000)})  # more than a pipe holds
    build(made.store)
    return made.store.path


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell, in which `soundalike` is this one."""
    python = shlex.quote(sys.executable)
    return subprocess.run(
        ["bash", "-c", f'soundalike() {{ {python} -m soundalike "$@"; }}\n{line}'],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
    )


@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [
        ("--help", ""),
        ("--help", "1"),
        ("files STORE --format csv", ""),
        ("search STORE --tag Dog --format json", "1"),
    ],
)
def test_full_disk_under_what_is_printed_is_one_line(
    store: Path, words: str, unbuffered: str
) -> None:
    line = f"soundalike {words.replace('STORE', str(store))} > {FULL}"
    told = shell(line, PYTHONUNBUFFERED=unbuffered)
    fault("T1").require(told.returncode, told.stderr)
    assert told.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words", ["files STORE", "export jsonl STORE --output /dev/stdout --quiet"]
)
def test_pipe_that_nobody_reads_is_told_by_the_exit_code_alone(store: Path, words: str) -> None:
    told = shell(f"soundalike {words.replace('STORE', str(store))} | true; exit ${{PIPESTATUS[0]}}")
    fault("T2").require(told.returncode, told.stderr)
    assert told.stderr == ""


def test_what_nobody_hears_changes_no_exit_code(store: Path) -> None:
    nothing = f"soundalike search {store} --where 'duration > 60'"
    for line, code in (
        (f"{nothing} 2>&-", 0),
        (f"{nothing} --fail-if-none 2>{FULL if FULL.exists() else '&-'}", 4),
        (f"soundalike info {store} >&- <&-", 0),
    ):
        told = shell(line)
        assert (told.returncode, told.stdout, told.stderr) == (code, "", "")


def test_run_whose_streams_are_closed_makes_the_store(whole: None, tmp_path: Path) -> None:
    """Whatever a library writes to standard error is in no file that came in its place."""
    write_tone(tmp_path / "library" / "a.wav", 1.0)
    (tmp_path / "library" / "b.mp3").write_bytes(b"ID3 and nothing that is audio" * 100)
    told = shell(
        f"soundalike index {tmp_path}/library --store {tmp_path}/store --checkpoint demo "
        "--workers 1 <&- >&- 2>&-"
    )
    assert (told.returncode, told.stdout, told.stderr) == (3, "", "")
    assert soundalike.open(tmp_path / "store").num_windows == 1
    assert verify(tmp_path / "store") == []
