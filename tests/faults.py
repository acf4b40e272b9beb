"""The table of docs/faults.md: what a command ends with, and says, when something is wrong."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).resolve().parent.parent / "docs" / "faults.md"
_ROW = re.compile(r"\| ([A-Z]\d+[a-z]?) \| (.+) \| (\d+) \| (.*?) ?\|")


class Fault(NamedTuple):
    """A row of the table.

    Attributes:
        exit: The exit code of the command.
        line: What it prints, with `…` for what differs; empty if there is nothing to say.
    """

    exit: int
    line: str

    def require(self, code: int, printed: str) -> None:
        """Assert that a command ended as the table says.

        Args:
            code: Its exit code.
            printed: All that it printed.
        """
        assert code == self.exit, printed
        assert "Traceback" not in printed
        one_space = " ".join(printed.split())  # the width of a terminal breaks lines
        wanted = r".*?".join(re.escape(" ".join(one.split())) for one in self.line.split("…"))
        assert re.search(wanted, one_space), f"not {self.line!r}, but:\n{printed}"


def fault(name: str) -> Fault:
    """Return the row of a name, such as "A1" or "C2b"."""
    return table()[name]


@cache
def table() -> dict[str, Fault]:
    """Return all rows by name."""
    rows: dict[str, Fault] = {}
    for line in PAGE.read_text().splitlines():
        if found := _ROW.fullmatch(line):
            name, _, code, said = found.groups()
            assert name not in rows, f"two rows {name}"
            rows[name] = Fault(int(code), said.replace("`", ""))
    return rows
