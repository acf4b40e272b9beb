"""A /dev/shm that is small, as in containers, or cannot be used at all: a run goes on without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY, Run
from faults import fault
from synthetic import write_tone

import soundalike

pytestmark = pytest.mark.whole  # Readers are processes, and so is who may mount.

NUM_FILES = 12
#: Mounts another /dev/shm, which nobody else sees, and runs a command.
MOUNT = 'mount -t tmpfs -o "$0" tmpfs /dev/shm && exec "$@"'


def within(shm: str, *words: object) -> tuple[int, str]:
    """Run the command where /dev/shm is a tmpfs with these options."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("nobody may mount here")
    command = [sys.executable, "-m", "soundalike", *map(str, words)]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", MOUNT, shm, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for number in range(NUM_FILES):
        write_tone(tmp_path / "library" / f"{number}.wav", 12.0, 300 + 20 * number)
    return tmp_path / "library"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /dev/shm")
@pytest.mark.parametrize("row", ["B3a", "B3b"])
def test_run_goes_on_with_little_shared_memory_or_none_and_says_so_once(
    row: str, library: Path, tmp_path: Path, tiny_file: Path, run: Run
) -> None:
    shm, fits = {"B3a": ("size=8m", fault("B3a")), "B3b": ("ro", fault("B3b"))}[row]
    words = ("index", library, "--checkpoint", tiny_file, "--batch-size", 2)
    code, told = within(shm, *words, "--store", tmp_path / "without", "--workers", 2)
    fits.require(code, told)
    assert told.count("/dev/shm") == 1
    run(*words, "--store", tmp_path / "with", "--workers", 0)
    one, other = (soundalike.open(tmp_path / name).rows() for name in ("without", "with"))
    assert len(one.window_ids) == 2 * NUM_FILES
    here, there = np.argsort(one.window_ids), np.argsort(other.window_ids)
    np.testing.assert_array_equal(one.window_ids[here], other.window_ids[there])
    np.testing.assert_allclose(one.scene[here], other.scene[there], atol=1e-4)
