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
        [sys.executable, str(REPOSITORY / "tests" / "fuzz.py"), "8", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "seed 1"
    assert len(lines) == 1 + 8
    for line in lines[1:]:
        num_inputs = int(line.split(": ")[1].split()[0])
        assert num_inputs > 0, line


def fuzz_stores(folder: Path, *words: str) -> list[str]:
    result = subprocess.run(
        [sys.executable, str(REPOSITORY / "tests" / "fuzz_stores.py"), *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()


@pytest.mark.whole
@pytest.mark.timeout(240)
def test_one_store_of_each_kind_is_refused_or_answered_by_every_command(tmp_path: Path) -> None:
    kinds = ["blind", "blind_resealed", "document", "rows", "numbers", "sketch", "places", "shape"]
    assert fuzz_stores(tmp_path, "8", "1") == ["seed 1", ", ".join(f"{one} 1" for one in kinds)]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_300_stores_damaged_and_forged_are_refused_or_answered(tmp_path: Path) -> None:
    lines = fuzz_stores(tmp_path, "300")
    assert len(lines) == 2, lines
