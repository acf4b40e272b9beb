"""Every row of docs/faults.md is held by a test."""

from __future__ import annotations

import re
from pathlib import Path

from faults import PAGE, table

TESTS = Path(__file__).parent


def test_every_row_of_the_table_is_asked_for_by_a_test() -> None:
    asked = {
        name
        for file in TESTS.glob("test_*.py")
        for name in re.findall(r"\bfault\(\"([A-Z]\d+[a-z]?)\"\)", file.read_text())
    }
    assert asked == set(table())


def test_every_line_of_the_table_is_a_row() -> None:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    assert len(lines) == len(table()) + 1  # the head
