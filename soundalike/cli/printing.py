"""What the commands have in common when they print."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from indexer.errors import OutputError
from indexer.paths import printable
from soundalike.cli.options import Format
from soundalike.show.words import count, missing_line

if TYPE_CHECKING:
    from search.filters.metadata import Coverage


class Printed:
    """Standard output; what cannot be written there, as on a full disk, is an `OutputError`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text."""
        return int(self._do(lambda: self._stream.write(text)))

    def flush(self) -> None:
        """Write what waits to be written."""
        self._do(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # nobody writes past this
            raise AttributeError(name)
        return getattr(self._stream, name)

    def _do(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"could not write what is printed: {reason}") from error


def print_report(output: Format, data: Any, lines: Iterable[str], *, quiet: bool = False) -> None:
    """Print a report, for a program or for people.

    Args:
        output: "json" or "text".
        data: The report as plain data.
        lines: The same in words.
        quiet: Whether people asked for no words.
    """
    if output == "json":
        typer.echo(json.dumps(data, indent=1))
    elif not quiet:
        print_lines(lines)


def print_lines(lines: Iterable[str]) -> None:
    """Print lines for people; none of them acts on a terminal, and long ones are broken there."""
    from soundalike.show.fitting import terminal_width, wrapped

    width = terminal_width()
    for line in lines:
        for part in wrapped(printable(line), width):
            typer.echo(part)


def say(sentence: str) -> None:
    """Print a sentence beside the output, if anybody hears it."""
    with suppress(OSError):  # the terminal may be gone: the exit code says the most important
        typer.echo(printable(sentence), err=True)


def say_what_is_missing(coverage: Coverage | None, num_new_parts: int) -> None:
    """Say what a question could not take into account: rows of metadata, and new sounds.

    Args:
        coverage: How the metadata and the stores fit together; None without metadata.
        num_new_parts: Parts of the stores that their indexes do not hold yet.
    """
    from soundalike.show.steps import coverage_lines

    if coverage:
        for line in coverage_lines(coverage):
            say(f"{coverage.path}: {line}")
    if num_new_parts:
        say(f"not in the index yet: {count(num_new_parts, 'part')}; run 'soundalike build'")


def say_what_is_left_out(number: int, what: str, where: str = "") -> None:
    """Say how many windows are no hits because they overlap what asks, if there are any."""
    overlap, were, them = ("overlaps", "was", "it") if number == 1 else ("overlap", "were", "them")
    if number:
        windows = count(number, "window")
        say(
            f"{windows} that {overlap} {what} {were} left out{where}; --include-self takes {them} "
            f"in"
        )


def say_what_is_silent(number: int, where: str = "") -> None:
    """Say how many windows are no hits because nothing is heard in them, if there are any."""
    if number:
        was = "was" if number == 1 else "were"
        say(f"{count(number, 'silent window')} {was} left out{where}")


def say_what_is_gone(recordings: Iterable[Sequence[Path]]) -> None:
    """Say which recordings are not where they were, each by its paths."""
    line = missing_line(recordings)
    if line:
        say(line)


def command_group(name: str, about: str) -> typer.Typer:
    """Return a group of commands; without one of them it prints its help."""
    return typer.Typer(
        name=name,
        help=about,
        rich_markup_mode=None,
        invoke_without_command=True,
        callback=_show_help,
    )


def _show_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
