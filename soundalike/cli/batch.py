"""The `batch` and `duplicates` commands. Each parses, calls the Python API, and prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from indexer.paths import printable
from soundalike.cli import index as indexer_cli
from soundalike.cli.index import (
    CheckpointOption,
    DeviceOption,
    QuietOption,
    StoreArgument,
    step_bar,
)
from soundalike.show.words import count


def batch(
    store: StoreArgument,
    queries: Annotated[
        list[Path],
        typer.Argument(
            metavar="QUERY…",
            help="Audio files, folders of audio, and stores: STORE itself, for one.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The table: .parquet, or .jsonl for JSON lines."),
    ],
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="Hits for each, at most.")] = 10,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="T", help="Must be heard. May be repeated.")
    ] = None,
    any_tag: Annotated[
        list[str] | None, typer.Option(metavar="T", help="One of these must be heard.")
    ] = None,
    not_tag: Annotated[
        list[str] | None, typer.Option(metavar="T", help="Must not be heard.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(metavar="P", min=0, max=1, help="Probability that counts as heard.")
    ] = 0.25,
    no_descendants: Annotated[
        bool, typer.Option("--no-descendants", help="Do not count Dog as an Animal.")
    ] = False,
    min_score: Annotated[
        float | None, typer.Option(metavar="S", help="Leave out hits below this score.")
    ] = None,
    include_self: Annotated[
        bool, typer.Option("--include-self", help="Do not leave out a query's own recording.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every window, however long it takes.")
    ] = False,
    checkpoint: CheckpointOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Ask with thousands of clips at once.

    Every window of every QUERY is asked about on its own, and FILE gets a row for each of its hits.
    A file that cannot be read stops nothing: it is named at the end, and the exit code is 3. Hits
    are those that 'search' would give, the query's own recording left out.

    Example: soundalike batch recordings.soundalike clips --output hits.parquet

    Example: soundalike batch recordings.soundalike recordings.soundalike -k 5 --output near.jsonl
    """
    from search.asking.batch import BatchOptions, run_batch
    from search.filters.tags import TagFilter

    tags = TagFilter(
        tuple(tag or ()),
        tuple(any_tag or ()),
        tuple(not_tag or ()),
        threshold,
        descendants=not no_descendants,
    )
    options = BatchOptions(k, tags, min_score, include_self, exact, checkpoint, device)
    with (
        indexer_cli.download_bar(quiet=quiet) as show_download,
        step_bar("asking", "query", quiet=quiet) as show,
    ):
        report = run_batch(store, queries, output, options, show, show_download)
    if not quiet:
        asked, hits = count(report.num_queries, "window"), count(report.num_hits, "hit")
        typer.echo(f"asked about {asked}; {hits} in {printable(str(output))}", err=True)
    if report.num_new_parts and not quiet:
        behind = count(report.num_new_parts, "part")
        typer.echo(f"not in the index yet: {behind}; run 'soundalike build'", err=True)
    for failure in report.failures:
        typer.echo(printable(failure), err=True)
    raise typer.Exit(3 if report.failures else 0)


def duplicates(
    store: StoreArgument,
    against: Annotated[
        Path | None,
        typer.Option(metavar="STORE", help="Look only for what is in this other store as well."),
    ] = None,
    min_score: Annotated[
        float, typer.Option(metavar="S", help="Windows match from this score on, above 0.")
    ] = 0.98,
    max_matches: Annotated[
        int,
        typer.Option(metavar="N", min=1, help="Windows that match more others link nothing."),
    ] = 50,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare all windows, however long it takes.")
    ] = False,
    output: Annotated[
        Literal["table", "json", "csv"],
        typer.Option("--format", help="How to print the groups."),
    ] = "table",
    quiet: QuietOption = False,
) -> None:
    """Find recordings that hold the same sound.

    Copies, other encodings and shared passages come as groups of recordings, with the time ranges
    that match. Exact copies are marked '='. The score is that with the first of the group. Nothing
    is deleted.

    Example: soundalike duplicates recordings.soundalike

    Example: soundalike duplicates new.soundalike --against archive.soundalike --format csv
    """
    from search.asking.duplicates import find_duplicates
    from soundalike.show import groups as show_groups

    with step_bar("comparing", "window", quiet=quiet) as show:
        found = find_duplicates(
            store,
            against,
            min_score=min_score,
            max_matches=max_matches,
            exact=exact,
            progress=show,
        )
    shown = {
        "table": show_groups.groups_table,
        "json": show_groups.groups_json,
        "csv": show_groups.groups_csv,
    }
    if output == "table" and not found.groups:
        typer.echo("no duplicates", err=True)
    else:
        typer.echo(shown[output](found.groups))
    if found.num_common and not quiet:
        ignored = count(found.num_common, "window")
        typer.echo(
            f"left out: {ignored} with more than {max_matches} matches each (silence, hum?); "
            f"--max-matches N takes them in",
            err=True,
        )
