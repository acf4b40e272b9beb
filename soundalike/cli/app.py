"""The `soundalike` command. Each function parses, makes one call, and prints."""

from __future__ import annotations

from importlib import metadata
from typing import Annotated

import typer

from soundalike.cli import (
    checkpoints,
    evaluate,
    export,
    index,
    listen,
    many,
    project,
    search,
    serve,
    store,
)
from soundalike.cli.bars import telling
from soundalike.cli.spreading import Command

app = typer.Typer(
    name="soundalike",
    help="Index a library of sounds once, then ask it what else sounds like a clip.\n\n"
    "Start with: soundalike index FOLDER, then: soundalike search FOLDER.soundalike CLIP\n\n"
    "Exit codes: 0 done, 1 not possible, 2 wrong usage, 3 done but for some files, 4 nothing found "
    "(only with search --fail-if-none), 129, 130 and 143 told to end, 141 nobody reads the output.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="With --version: of all that computes here.")
    ] = False,
) -> None:
    """Print the version, or without a command the help."""
    if verbose and not version:
        raise typer.BadParameter("--verbose goes with --version")
    if version:
        if verbose:
            _print_machine()
        else:
            typer.echo(f"soundalike {metadata.version('soundalike')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _print_machine() -> None:
    from soundalike.machine import machine

    with telling("looking at this machine"):
        found = machine()
    width = max(map(len, found))
    for name, value in found.items():
        typer.echo(f"{name:{width}}  {value}")


for command in (
    index.index,
    index.build,
    search.search,
    serve.serve,
    many.batch,
    many.duplicates,
    store.info,
    store.files,
    store.compact,
    store.verify,
    store.forget,
    index.extract,
    index.commit,
    project.project,
    listen.tag,
    listen.tags,
    listen.thresholds,
    checkpoints.checkpoints,
):
    app.command(cls=Command)(command)
app.add_typer(project.app)
app.add_typer(evaluate.app)
app.add_typer(export.app)
