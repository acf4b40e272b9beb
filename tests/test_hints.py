"""Library messages name no flag and no command; the command adds what it has that helps."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from conftest import REPOSITORY

from indexer.errors import IdentityError, StoreError
from soundalike.cli.app import app
from soundalike.hints import HINTS, with_hint

SOURCES = sorted(
    path for room in ("indexer", "search") for path in (REPOSITORY / room).rglob("*.py")
)
#: What may raise an error that is about something: the front door does as well.
RAISING = [
    *SOURCES,
    *sorted((REPOSITORY / "soundalike").glob("*.py")),
    *sorted((REPOSITORY / "soundalike/web").glob("*.py")),
]
COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
#: A flag, or one of our commands, in a text for people.
NAMED = re.compile(rf"(?<![\w-])--[a-z]|\bsoundalike (?:{'|'.join(COMMANDS)})\b")


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every string of a module, docstrings and pieces of f-strings included."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def words_about() -> set[str]:
    """Return what errors say that they are about."""
    return {
        word.value
        for path in RAISING
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "about"
        for word in ast.walk(keyword.value)
        if isinstance(word, ast.Constant) and isinstance(word.value, str)
    }


def test_sources_are_found() -> None:
    assert len(SOURCES) > 80
    assert len(COMMANDS) > 12
    assert NAMED.search("try --strict")
    assert NAMED.search("'soundalike build' makes one")
    assert not NAMED.search("a version of soundalike -- or another")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_libraries_name_no_flag_and_no_command(path: Path) -> None:
    assert [(line, text) for line, text in texts(path) if NAMED.search(text)] == []


def test_every_word_has_a_hint_and_every_hint_is_used() -> None:
    assert words_about() == set(HINTS)


def test_every_flag_and_command_of_a_hint_is_there() -> None:
    root = typer.main.get_command(app)
    groups = [root, *(one for one in root.commands.values() if hasattr(one, "commands"))]  # type: ignore[attr-defined]
    flags = {
        flag
        for group in groups
        for command in group.commands.values()
        for one in command.params
        for flag in one.opts
    }
    flags.add("--shm-size")  # Docker's
    for hint, _ in HINTS.values():
        assert set(re.findall(r"--[a-z-]+", hint)) <= flags
        assert set(re.findall(r"soundalike (\w+)", hint)) <= set(COMMANDS)


def test_hint_stands_behind_the_message_with_its_value() -> None:
    error = StoreError("a b has no index yet", about="build", value="a b")
    assert with_hint(error) == "a b has no index yet; run: soundalike build 'a b'"
    assert with_hint(StoreError("x", about="build")) == "x; run: soundalike build STORE"
    assert with_hint(StoreError("nothing helps.")) == "nothing helps."
    differing = IdentityError(
        "not alike", {"hop": (1, 2)}, "hop is 1 there and 2 here", "Use another.", about="store"
    )
    assert with_hint(differing) == (
        "not alike: hop is 1 there and 2 here. Use another; --store DIR says where it is"
    )
