"""The `map` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soundalike.cli.bars import Bars
from soundalike.cli.options import (
    ForceOption,
    FormatOption,
    OwnOption,
    QuietOption,
    StoreArgument,
)
from soundalike.cli.printing import print_report
from soundalike.cli.usage import require_use


def map(  # noqa: A001 - as the command is called
    context: typer.Context,
    store: StoreArgument,
    *,
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="STORE", help="Put this store on it as well. May be repeated."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Write a picture, .png; or a table of all windows, .csv or .parquet.",
        ),
    ] = None,
    anew: Annotated[
        bool, typer.Option("--anew", help="Draw it anew: everything lies elsewhere then.")
    ] = False,
    own: OwnOption = None,
    force: ForceOption = False,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Draw a map of a store: what sounds alike lies together.

    Prints its regions: windows, centre, and the tags that are heard there more often than
    elsewhere. The map is kept in STORE: new windows are placed on it, and those that are on it stay
    where they are, unless it is drawn anew. A table has window_id, path, start_s, x, y (from 0 to
    1), cluster and tags.

    Example: soundalike map recordings.soundalike --output map.png
    """
    import soundalike
    from soundalike.show.maps import map_data, map_lines

    require_use(context, ("force",), "--output", is_met=file is not None)
    with Bars(quiet=quiet) as bars:
        sounds = soundalike.open(store, *(also or ()), own=own, listen=bars)
        found = sounds.map(anew=anew, output=file, force=force)
    print_report(output, map_data(found), map_lines(found, store, file), quiet=quiet)
