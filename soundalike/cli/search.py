"""The `search` command."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from indexer.errors import QueryError
from search.asking.terms import Terms
from soundalike.cli.bars import Bars
from soundalike.cli.options import (
    DurationOption,
    EndOption,
    ForceOption,
    Given,
    Network,
    OwnOption,
    ProjectionOption,
    QuietOption,
    StartOption,
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
from soundalike.cli.spreading import RayOption
from soundalike.cli.usage import require_terms, require_use
from soundalike.show.words import count, size

if TYPE_CHECKING:
    from soundalike.answer import Answer

#: 63 bits have 19 digits at most.
_WINDOW_ID = re.compile("[0-9]{1,19}")

Output = Literal["table", "json", "csv", "m3u", "audacity", "raven"]


@takes(terms=(Terms,), network=(Network,))
def search(
    context: typer.Context,
    stores_and_queries: Annotated[
        list[str],
        typer.Argument(
            metavar="STORE… [QUERY…]",
            help="One or more stores, then what to look for: audio files, parts of them "
            "(FILE@31:10-31:13), or window ids of the store. Without a QUERY: browse by tag, the "
            "most probable first.",
        ),
    ],
    *,
    like: Annotated[
        list[str] | None,
        typer.Option(
            metavar="QUERY",
            help="What hits are like: as QUERY, and beside it. May be repeated; the best counts.",
        ),
    ] = None,
    unlike: UnlikeOption = None,
    start: StartOption = None,
    end: EndOption = None,
    duration: DurationOption = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORDS",
            help="What to look for in words, instead of a QUERY. May be repeated; the best "
            "counts. 'soundalike train projection' makes that possible.",
        ),
    ] = None,
    projection: ProjectionOption = None,
    text_encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The model that the projection was trained with; has to be said if it is a folder "
            "or not on this machine.",
        ),
    ] = None,
    own: OwnOption = None,
    ray: RayOption = None,
    terms: Given,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Say on stderr how the hits were found, and how long it took."
        ),
    ] = False,
    clock: Annotated[
        bool,
        typer.Option(
            "--clock",
            help="Say date and time of each hit, by the names that recorders give their files, or "
            "by a column 'recorded_at' of --metadata.",
        ),
    ] = False,
    fail_if_none: Annotated[
        bool, typer.Option("--fail-if-none", help="Exit with 4 if nothing matches; otherwise 0.")
    ] = False,
    copy_to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Copy the audio of each hit to DIR.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html",
            help="Write a page with a spectrogram and a player of the clip and each hit: one file, "
            "which needs no network.",
        ),
    ] = None,
    play: Annotated[
        bool,
        typer.Option(
            "--play",
            help="Play the hits one after the other, with ffplay, mpv or another player.",
        ),
    ] = False,
    force: ForceOption = False,
    network: Given,
    output: Annotated[
        Output,
        typer.Option(
            "--format",
            help="How to print the hits; audacity: as a label track, raven: as a selection table.",
        ),
    ] = "table",
    quiet: QuietOption = False,
) -> None:
    """Find what sounds like a clip.

    A hit is a window of 10 s, the best of those that overlap it by half or more; its score says how
    like the clip it is, 1 at best. Of a shorter clip it says where in the window that is. What is
    asked with is no hit, nor what overlaps it. A tag stands for those below it: --tag Animal finds
    dogs. 'soundalike tags' lists all of them. Where nothing matches, the exit code is 0.

    Example: soundalike search recordings.soundalike bark.wav --tag Dog

    Example: soundalike search recordings.soundalike recordings/hour.wav@31:10-31:13

    Example: soundalike search recordings.soundalike bark.wav --unlike howl.wav@2-4 --play

    Example: soundalike search recordings.soundalike bark.wav -k 20 --report barks.html

    Example: soundalike search recordings.soundalike --tag Rain --format m3u > rain.m3u

    Example: soundalike search recordings.soundalike owl.wav --format json --metadata sheet.csv

    Example: soundalike search recordings.soundalike owl.wav --format raven --clock > hits.txt

    Example: soundalike search recordings.soundalike --text "a dog barks in the rain"

    Example: soundalike search recordings.soundalike --where "Dog > 0.4 and not (Speech or Music)"
    """
    import soundalike

    stores, queries = split_stores(stores_and_queries)
    queries += read_queries(like or ())
    _require_uses(context, queries, terms)
    if copy_to:
        from search.output import require_folder

        require_folder(copy_to)
    if report:
        from soundalike.show.report import require_page

        require_page(report, force=force)
    player: Sequence[str] = ()
    if play:
        from soundalike.cli.playing import find_player

        player = find_player()
    with Bars(quiet=quiet) as bars:
        spread = False if ray is None else ray
        sounds = soundalike.open(*stores, own=own, **network, listen=bars, ray=spread)
        answer = sounds.search(
            *queries,
            unlike=read_queries(unlike or ()),
            start=start,
            end=end,
            duration=duration,
            text=text or None,
            projection=projection,
            text_encoder=text_encoder,
            **terms,
        )
    _print_answer(answer, output, clock=clock, quiet=quiet)
    _say_how(answer, explain=explain, quiet=quiet)
    failures = _copy(answer, copy_to, force=force, quiet=quiet) if copy_to else []
    failures += _report(answer, report, force=force, quiet=quiet) if report else []
    failures += _play(answer, player) if player else []
    raise typer.Exit(3 if failures or answer.failures else 4 if fail_if_none and not answer else 0)


def _require_uses(context: typer.Context, queries: Sequence[str | int], terms: Given) -> None:
    has_file = any(isinstance(one, str) for one in queries)
    require_use(context, ("start", "end", "duration"), "an audio file as QUERY", is_met=has_file)
    is_written = bool(context.params.get("copy_to") or context.params.get("report"))
    require_use(context, ("force",), "--copy-to or --report", is_met=is_written)
    require_use(context, ("include_self", "by", "locate"), "a QUERY", is_met=bool(queries))
    require_use(context, ("unlike",), "a QUERY", is_met=bool(queries))
    by_place = terms["by"] == "place"
    require_use(context, ("unlike",), "--by scene", is_met=not by_place)
    require_use(context, ("tag_weight",), "--by scene", is_met=not by_place)
    if by_place and terms["locate"] is False:
        raise typer.BadParameter("--by place looks into hits, and --no-locate forbids that")
    has_text = bool(context.params.get("text"))
    require_use(context, ("projection", "text_encoder"), "--text", is_met=has_text)
    is_shown = context.params.get("clock") or context.params.get("report")
    is_shown = is_shown or context.params.get("output") in ("json", "csv")
    needs = "--where, --clock, --report, --format json or --format csv"
    require_use(context, ("metadata",), needs, is_met=bool(terms["where"] or is_shown))
    uses_own = has_text or terms["threshold"] == "auto"
    require_use(context, ("own",), "--text or --threshold auto", is_met=uses_own)
    require_terms(context, terms)


def split_stores(words: Sequence[str]) -> tuple[list[Path], list[str | int]]:
    """Divide "STORE… QUERY…": the first word, and every folder that follows it, is a store.

    Returns:
        The stores; and the queries, window ids among them.

    Raises:
        QueryError: If the first word is a file: the store and the clip changed places; or one is
            empty, as a variable of a shell that is not set.
    """
    if "" in words:
        raise QueryError("a word is empty where a store or a clip is named")
    if Path(words[0]).is_file():
        raise QueryError(f"{words[0]} is a file; the store comes first: STORE, then the clips")
    number = 1
    while number < len(words) and _is_folder(Path(words[number])):
        number += 1
    return [Path(word) for word in words[:number]], read_queries(words[number:])


def read_queries(words: Sequence[str]) -> list[str | int]:
    """Return what asks: the ids of windows as numbers, and files as they were named."""
    return [int(word) if _is_window_id(word) else word for word in words]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long, for one
        return False


def _is_window_id(word: str) -> bool:
    return _WINDOW_ID.fullmatch(word) is not None and not Path(word).exists()


def _print_answer(answer: Answer, output: Output, *, clock: bool, quiet: bool) -> None:
    from soundalike.show.answers import background_line

    if answer.background and output == "table" and not quiet:
        say(background_line(answer.background))
    if output == "table" and not answer:
        say("no window matches")
    elif text := _text_of(answer, output, clock=clock):
        typer.echo(text)
    for line in () if quiet else _said_below(answer, output, clock=clock):
        say(line)


def _text_of(answer: Answer, output: Output, *, clock: bool) -> str:
    from soundalike.show import hits as show
    from soundalike.show.answers import answer_json
    from soundalike.show.fitting import terminal_width

    match output:
        case "json":
            return answer_json(
                answer.hits,
                answer.background,
                answer.almost,
                num_left_out=answer.num_left_out,
                num_silent=answer.num_silent,
                notes=answer.notes,
            )
        case "csv":
            return show.hits_csv(answer.hits)
        case "m3u":
            return show.hits_m3u(answer.hits, with_clock=clock)
        case "audacity" | "raven":
            return answer.labels(output, clock=clock).rstrip("\n")
        case "table":
            return show.hits_table(answer.hits, terminal_width(), with_clock=clock)


def _said_below(answer: Answer, output: Output, *, clock: bool) -> Iterator[str]:
    from soundalike.show.answers import almost_line, clockless_line
    from soundalike.show.hits import packed_lines
    from soundalike.show.labels import labels_lines

    if clock and (line := clockless_line(answer.hits)):
        yield line
    if output in ("m3u", "raven"):
        yield from packed_lines(answer.hits)
    if output in ("audacity", "raven"):
        yield from labels_lines(answer.hits, output)
    if answer.almost and output != "json":
        yield almost_line(answer.almost)


def _say_how(answer: Answer, *, explain: bool, quiet: bool) -> None:
    from soundalike.show.steps import steps_lines

    if explain:
        for line in steps_lines(answer.steps):
            say(line)
    if not quiet:
        for note in answer.notes:
            say(note)
        say_what_is_left_out(answer.num_left_out, "the question")
        say_what_is_silent(answer.num_silent)
        say_what_is_missing(answer.coverage, answer.num_new_parts)
        say_what_is_gone(hit.paths for hit in answer)


def _play(answer: Answer, player: Sequence[str]) -> list[str]:
    from soundalike.cli.playing import play_hits

    failures = play_hits(answer.hits, player)
    for failure in failures:
        say(f"not played: {failure}")
    return failures


def _copy(answer: Answer, folder: Path, *, force: bool, quiet: bool) -> list[str]:
    written, failures = answer.copy_to(folder, force=force)
    if not quiet:
        say(f"{count(len(written), 'span')} copied to {folder}")
    for failure in failures:
        say(f"not copied: {failure}")
    return failures


def _report(answer: Answer, path: Path, *, force: bool, quiet: bool) -> list[str]:
    with Bars(quiet=quiet) as bars:
        written = answer.report(path, force=force, listen=bars)
    without = f", {len(written.failures):,} without sound" if written.failures else ""
    if not quiet:
        hits = count(len(answer), "hit")
        say(f"{hits} in {path}{without}: {size(written.size_bytes)}")
    for failure in written.failures:
        say(f"not heard in it: {failure}")
    return written.failures
