"""The quick part of `benchmarks/torture.py` on a small library: nothing lost, doubled, hidden."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import REPOSITORY


@pytest.mark.whole
@pytest.mark.timeout(400)
def test_torture_of_a_small_library_loses_doubles_and_hides_nothing() -> None:
    words = ["--brief", "--files", "60", "--kills", "1"]
    result = subprocess.run(
        [sys.executable, REPOSITORY / "benchmarks" / "torture.py", *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [line.strip("|").split("|") for line in result.stdout.splitlines()[2:]]
    assert len(rows) == 8
    for trial, tried, survived, lost, doubled, harmed, unreported, *_ in rows:
        assert int(tried.replace(",", "")) > 0, trial
        assert tried == survived, trial
        assert [int(one) for one in (lost, doubled, harmed, unreported)] == [0, 0, 0, 0], trial
