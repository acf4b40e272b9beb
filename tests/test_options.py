"""Options that are made from fields: a field is an option by its name, type and default."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from conftest import REPOSITORY

from indexer.run.config import ExtractConfig, Settings
from search.asking.terms import Terms
from soundalike import Sounds
from soundalike.cli.app import app
from soundalike.cli.options import Given, takes

HELP = {"help": "What it means."}
LIMITS = {"least": 0, "most": 9}


@dataclass
class Some:
    k: int = field(default=10, metadata={**HELP, "unit": "N", "least": 1, "most": 20})
    any_tags: tuple[str, ...] = field(default=(), metadata={**HELP, "unit": "T"})
    include: tuple[str, ...] = field(default=(), metadata=HELP)
    descendants: bool = field(default=True, metadata={**HELP, "opposite": "What it means."})
    strict: bool = field(default=False, metadata=HELP)
    native: bool | None = field(default=None, metadata=HELP)
    all_windows: bool | None = field(default=None, metadata={**HELP, "otherwise": "places"})
    diverse: bool | float = field(default=False, metadata=HELP)
    hop_s: float | None = field(default=None, metadata={**HELP, **LIMITS, "unit": "S"})
    num_workers: int | None = field(default=None, metadata={**HELP, **LIMITS})
    files_from: Path | None = field(default=None, metadata=HELP)
    group_by: Literal["file"] | None = field(default=None, metadata=HELP)
    inner: int = 5


@dataclass
class Other:
    device: str = field(default="auto", metadata=HELP)


DEFAULTS = {
    "k": 10,
    "any_tags": (),
    "include": (),
    "descendants": True,
    "strict": False,
    "native": None,
    "all_windows": None,
    "diverse": False,
    "hop_s": None,
    "num_workers": None,
    "files_from": None,
    "group_by": None,
}


def given(*words: str) -> tuple[Given, Given, str]:
    """Parse words of a command that takes both groups."""
    heard: list[tuple[Given, Given, str]] = []
    tried = typer.Typer()

    @tried.command()
    @takes(some=(Some,), both=(Other,))
    def command(name: str, *, some: Given, both: Given) -> None:
        heard.append((some, both, name))

    tried(["x", *words], standalone_mode=False)
    return heard[0]


def test_without_options_a_command_is_given_the_defaults() -> None:
    assert given() == (DEFAULTS, {"device": "auto"}, "x")


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["-k", "3"], "k", 3),
        (["--any-tag", "a", "--any-tag", "b"], "any_tags", ("a", "b")),
        (["--include", "*.wav"], "include", ("*.wav",)),
        (["--no-descendants"], "descendants", False),
        (["--strict"], "strict", True),
        (["--native"], "native", True),
        (["--all-windows"], "all_windows", True),
        (["--places"], "all_windows", False),
        (["--diverse"], "diverse", True),
        (["--hop", "2.5"], "hop_s", 2.5),
        (["--workers", "0"], "num_workers", 0),
        (["--files-from", "a.csv"], "files_from", Path("a.csv")),
        (["--group-by", "file"], "group_by", "file"),
    ],
)
def test_field_is_an_option_by_its_name_type_and_default(
    words: list[str], name: str, value: Any
) -> None:
    assert given(*words) == ({**DEFAULTS, name: value}, {"device": "auto"}, "x")


@pytest.mark.parametrize(
    "words", [["-k", "0"], ["-k", "21"], ["--inner", "6"], ["--strict", "no"], ["--group-by", "x"]]
)
def test_option_out_of_its_limits_or_none_at_all_is_refused(words: list[str]) -> None:
    with pytest.raises(typer.exceptions.TyperException):
        given(*words)


def options_of(name: str) -> dict[str, Any]:
    """Return the options of one of our own commands, by the names of their fields."""
    commands: Any = typer.main.get_command(app)
    return {one.name: one for one in commands.commands[name].params}


@pytest.mark.parametrize(
    ("name", "owners"),
    [
        ("search", [Terms]),
        ("batch", [Terms]),
        ("index", [Settings, ExtractConfig]),
        ("extract", [Settings, ExtractConfig]),
    ],
)
def test_commands_have_an_option_for_every_field_that_is_explained(
    name: str, owners: list[type]
) -> None:
    options = options_of(name)
    explained = [one for owner in owners for one in fields(owner) if "help" in one.metadata]
    assert len(explained) >= 13
    for one in explained:
        assert options[one.name].help == one.metadata.get("opposite", one.metadata["help"])


def test_search_takes_every_term_and_says_so() -> None:
    for method in (Sounds.search, Sounds.search_many):
        parameters = inspect.signature(method).parameters
        for one in fields(Terms):
            assert parameters[one.name].default == one.default


@pytest.mark.whole
def test_term_that_is_new_is_an_option_of_search_and_of_batch_and_an_argument() -> None:
    code = """
import inspect
from dataclasses import dataclass, field
from search.asking import terms

@dataclass(frozen=True, slots=True, kw_only=True)
class Longer(terms.Terms):
    least_loud_db: float = field(
        default=-60.0, metadata={"help": "Louder only.", "unit": "DB", "least": -99, "most": 0}
    )

terms.Terms = Longer
import typer
from soundalike import Sounds
from soundalike.cli.app import app

commands = typer.main.get_command(app).commands
for name in ("search", "batch"):
    print(*[one.opts for one in commands[name].params if one.name == "least_loud_db"])
print(inspect.signature(Sounds.search).parameters["least_loud_db"].default)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert result.stdout.splitlines() == ["['--least-loud-db']"] * 2 + ["-60.0"], result.stderr
