"""The `search` command: parses, asks, and prints the hits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from indexer.paths import printable
from soundalike.cli import index as indexer_cli
from soundalike.cli.index import CheckpointOption, DeviceOption, QuietOption
from soundalike.show.words import count

if TYPE_CHECKING:
    from search.asking.answers import Hit
    from search.filters.metadata import Coverage


def search(
    stores_and_query: Annotated[
        list[str],
        typer.Argument(
            metavar="STORE… [QUERY…]",
            help="One or more stores, then what to look for: audio files, or window ids of the "
            "store. Without a QUERY: browse by tag, the most probable first.",
        ),
    ],
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="Hits, at most.")] = 10,
    start: Annotated[
        float, typer.Option(metavar="S", min=0, help="Where the clip begins in the query file.")
    ] = 0.0,
    duration: Annotated[
        float | None, typer.Option(metavar="S", min=0.001, help="Length of the clip.")
    ] = None,
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
    where: Annotated[
        str | None,
        typer.Option(
            metavar="EXPR",
            help="Must hold: tags, duration, path and other columns, with and, or, not. "
            "docs/filters.md explains.",
        ),
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV or Parquet with more columns for --where; its column 'path' says which file "
            "a row is about.",
        ),
    ] = None,
    group_by: Annotated[
        Literal["file"] | None, typer.Option(help="file: the best window of each recording.")
    ] = None,
    include_self: Annotated[
        bool, typer.Option("--include-self", help="Do not leave out the query's own recording.")
    ] = False,
    min_score: Annotated[
        float | None, typer.Option(metavar="S", help="Leave out hits below this score.")
    ] = None,
    diverse: Annotated[
        bool, typer.Option("--diverse", help="Put hits back that are like those before them.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Overlook nothing, however long it takes.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Say on stderr how the hits were found, and how long it took."
        ),
    ] = False,
    copy_to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Copy the audio of each hit to DIR.")
    ] = None,
    checkpoint: CheckpointOption = None,
    device: DeviceOption = "auto",
    output: Annotated[
        Literal["table", "json", "csv", "m3u"],
        typer.Option("--format", help="How to print the hits."),
    ] = "table",
    quiet: QuietOption = False,
) -> None:
    """Find what sounds like a clip.

    A hit is a window of 10 s; its score is the cosine similarity, 1 at best. A tag stands for those
    below it: --tag Animal finds dogs. 'soundalike tags' lists all of them.

    Example: soundalike search recordings.soundalike bark.wav --tag Dog

    Example: soundalike search recordings.soundalike --tag Rain --format m3u > rain.m3u

    Example: soundalike search recordings.soundalike --where "Dog > 0.4 and not (Speech or Music)"
    """
    from search.asking.ask import Question, ask, split_stores
    from search.asking.diversity import DEFAULT_DIVERSITY
    from search.filters.tags import TagFilter
    from soundalike.show import hits as show

    stores, queries = split_stores(stores_and_query)
    tags = TagFilter(
        tuple(tag or ()),
        tuple(any_tag or ()),
        tuple(not_tag or ()),
        threshold,
        descendants=not no_descendants,
    )
    question = Question(
        queries=queries,
        start_s=start,
        duration_s=duration,
        k=k,
        filter=tags,
        group_by=group_by,
        include_self=include_self,
        min_score=min_score,
        exact=exact,
        diversity=DEFAULT_DIVERSITY if diverse else None,
        where=where,
        metadata=metadata,
    )
    if copy_to:  # what decodes audio takes seconds to import
        from search.asking.collect import require_folder

        require_folder(copy_to)
    with indexer_cli.download_bar(quiet=quiet) as show_download:
        answer = ask(stores, question, checkpoint=checkpoint, device=device, progress=show_download)
    _print_hits(answer.hits, output)
    if explain:
        for line in show.steps_lines(answer.steps):
            typer.echo(line, err=True)
    if answer.coverage and not quiet:
        _print_coverage(answer.coverage)
    if answer.num_new_parts and not quiet:
        typer.echo(
            f"not in the index yet: {count(answer.num_new_parts, 'part')}; run 'soundalike build'",
            err=True,
        )
    failures = _copy(answer.hits, copy_to, quiet=quiet) if copy_to else []
    raise typer.Exit(3 if failures else 0)


def _print_hits(hits: list[Hit], output: str) -> None:
    from soundalike.show import hits as show

    if output == "table" and not hits:
        typer.echo("no window matches", err=True)
    else:
        shown = {
            "table": show.hits_table,
            "json": show.hits_json,
            "csv": show.hits_csv,
            "m3u": show.hits_m3u,
        }
        typer.echo(shown[output](hits))


def _print_coverage(coverage: Coverage) -> None:
    lines = [
        f"column {name!r} is not used: a built-in one has the name" for name in coverage.hidden
    ]
    lines += [
        f"column {name!r} is not used: it holds neither numbers, text, times nor true and false"
        for name in coverage.unusable
    ]
    if coverage.num_unused_rows:
        lines.append(f"no recording for {count(coverage.num_unused_rows, 'row')}")
    if coverage.num_bare_recordings:
        lines.append(f"no row for {count(coverage.num_bare_recordings, 'recording')}")
    for line in lines:
        typer.echo(printable(f"{coverage.path}: {line}"), err=True)


def _copy(hits: list[Hit], folder: Path, *, quiet: bool) -> list[str]:
    from search.asking.collect import copy_spans

    written, failures = copy_spans(hits, folder)
    if not quiet:
        copied = count(len(written), "span")
        typer.echo(f"{copied} copied to {printable(str(folder))}", err=True)
    for failure in failures:
        typer.echo(f"not copied: {failure}", err=True)
    return failures
