"""The commands that compare whole stores and folders: `batch` and `duplicates`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from search.asking.terms import DuplicateTerms, Terms
from soundalike.cli.bars import Bars
from soundalike.cli.options import (
    ForceOption,
    Given,
    Network,
    OwnOption,
    QuietOption,
    StoreArgument,
    UnlikeOption,
    takes,
)
from soundalike.cli.printing import (
    say,
    say_what_is_gone,
    say_what_is_left_out,
    say_what_is_missing,
    say_what_is_silent,
)
from soundalike.cli.search import read_queries
from soundalike.cli.usage import require_terms, require_use
from soundalike.show.words import count


@takes(terms=(Terms,), network=(Network,))
def batch(
    context: typer.Context,
    store: StoreArgument,
    queries: Annotated[
        list[Path],
        typer.Argument(
            metavar="QUERY…",
            help="Audio files, parts of them (FILE@31:10-31:13), folders of audio, and stores: "
            "STORE itself, for one.",
        ),
    ],
    *,
    output: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The table: .parquet, or .jsonl for JSON lines."),
    ],
    per: Annotated[
        Literal["window", "clip"],
        typer.Option(help="Ask about each window of a QUERY, or about each recording as a whole."),
    ] = "window",
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="STORE", help="Look in this store as well. May be repeated."),
    ] = None,
    unlike: UnlikeOption = None,
    terms: Given,
    own: OwnOption = None,
    network: Given,
    force: ForceOption = False,
    quiet: QuietOption = False,
) -> None:
    """Ask with thousands of clips at once.

    Every window of every QUERY is asked about on its own, and FILE gets a row for each of its hits.
    With --per clip the windows of a recording ask together, and the best counts. A file that cannot
    be read stops nothing: it is named at the end, and the exit code is 3. Hits are those that
    'search --all-windows' would give; of a whole file or a store, the recordings that ask are left
    out.

    Example: soundalike batch recordings.soundalike clips --output hits.parquet

    Example: soundalike batch recordings.soundalike recordings.soundalike -k 5 --output near.jsonl
    """
    import soundalike

    require_terms(context, terms)
    require_use(context, ("own",), "--threshold auto", is_met=terms["threshold"] == "auto")
    require_use(context, ("unlike",), "--by scene", is_met=terms["by"] == "scene")
    with Bars(quiet=quiet) as bars:
        sounds = soundalike.open(store, *(also or ()), own=own, **network, listen=bars)
        report = sounds.search_many(
            queries, output, unlike=read_queries(unlike or ()), per=per, force=force, **terms
        )
    if not quiet:
        asked, hits = count(report.num_queries, per), count(report.num_hits, "hit")
        say(f"asked about {asked}; {hits} in {output}")
        say_what_is_left_out(report.num_left_out, "what asks", ", over all questions")
        say_what_is_silent(report.num_silent, ", over all questions")
        say_what_is_missing(report.coverage, report.num_new_parts)
    for failure in report.failures:
        say(failure)
    raise typer.Exit(3 if report.failures else 0)


@takes(terms=(DuplicateTerms,))
def duplicates(
    store: StoreArgument,
    against: Annotated[
        Path | None,
        typer.Option(metavar="STORE", help="Look only for what is in this other store as well."),
    ] = None,
    *,
    terms: Given,
    output: Annotated[
        Literal["table", "json", "csv"],
        typer.Option("--format", help="How to print the groups."),
    ] = "table",
    quiet: QuietOption = False,
) -> None:
    """Find recordings that hold the same sound.

    Copies, other encodings and shared passages come as groups of recordings, with the time ranges
    that match. Exact copies are marked '='. The score is that with the first of the group. Silence
    links nothing. Nothing is deleted.

    Example: soundalike duplicates recordings.soundalike

    Example: soundalike duplicates new.soundalike --against archive.soundalike --format csv
    """
    import soundalike
    from soundalike.show.fitting import terminal_width
    from soundalike.show.groups import groups_csv, groups_json, groups_table

    with Bars(quiet=quiet) as bars:
        found = soundalike.open(store, listen=bars).duplicates(against, **terms)
    if output == "table" and not found.groups:
        say("no duplicates")
    else:
        groups = found.groups
        typer.echo(
            groups_table(groups, terminal_width())
            if output == "table"
            else groups_json(groups)
            if output == "json"
            else groups_csv(groups)
        )
    if found.num_silent and not quiet:
        say(f"left out: {count(found.num_silent, 'window')} of silence")
    if found.num_common and not quiet:
        ignored, most = count(found.num_common, "window"), terms["max_matches"]
        say(
            f"left out: {ignored} with more than {most} matches each (hum, a jingle?); "
            f"--max-matches N takes them in"
        )
    if not quiet:
        say_what_is_gone(member.paths for group in found.groups for member in group)
