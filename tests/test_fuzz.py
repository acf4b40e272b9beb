"""A brief run of the fuzzer; `make fuzz` runs it for minutes, each time from another seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY


@pytest.mark.whole
@pytest.mark.timeout(120)
def test_fuzz_for_a_moment_finds_nothing(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(REPOSITORY / "tests" / "fuzz.py"), "6", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "seed 1"
    assert len(lines) == 1 + 6
    for line in lines[1:]:
        num_inputs = int(line.split(": ")[1].split()[0])
        assert num_inputs > 0, line
