"""The `checkpoints` command."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from soundalike.cli.bars import Bars
from soundalike.cli.options import FormatOption, QuietOption
from soundalike.cli.printing import print_report


def checkpoints(
    action: Annotated[Literal["list", "fetch"], typer.Argument(help="list or fetch.")] = "list",
    name: Annotated[str | None, typer.Argument(help="Which one to fetch.")] = None,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """List or download checkpoints.

    Nothing but a checkpoint is ever downloaded, and only when it is named or used.

    Example: soundalike checkpoints fetch convnext-tiny-471
    """
    from indexer.model.known import KNOWN_CHECKPOINTS, fetch
    from soundalike.show.checkpoints import checkpoints_data, checkpoints_lines

    if action == "list" and name is not None:
        raise typer.BadParameter(f"list takes no name, got {name}; fetch does")
    if action == "fetch":
        if name is None:
            raise typer.BadParameter(f"fetch needs a name: {', '.join(KNOWN_CHECKPOINTS)}")
        with Bars(quiet=quiet) as bars:
            path = str(fetch(name, listen=bars))
        print_report(output, {"name": name, "path": path}, [path])
        return
    known = list(KNOWN_CHECKPOINTS.values())
    print_report(output, checkpoints_data(known), checkpoints_lines(known))
