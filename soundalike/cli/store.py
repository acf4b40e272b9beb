"""The commands about a store as a whole: `info`, `files`, `verify`, `compact` and `forget`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from soundalike.cli.bars import Bars, telling
from soundalike.cli.numbers import number_option
from soundalike.cli.options import (
    FormatOption,
    Given,
    Network,
    OwnOption,
    QuietOption,
    StoreArgument,
    takes,
)
from soundalike.cli.printing import print_lines, print_report
from soundalike.cli.usage import require_use

if TYPE_CHECKING:
    from search.upkeep.files import FileRow


def info(store: StoreArgument, *, own: OwnOption = None, output: FormatOption = "text") -> None:
    """Say what a store holds.

    Windows, recordings, failures and their reasons, libraries, the state of the index, and what was
    added to it.

    Example: soundalike info recordings.soundalike
    """
    import soundalike
    from soundalike.show.stores import overview_data, overview_lines

    with telling("counting"):
        found = soundalike.open(store, own=own).info()
    print_report(output, overview_data(found), overview_lines(found))


def files(
    store: StoreArgument,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Those that failed, and why.")] = False,
    warnings: Annotated[
        bool, typer.Option("--warnings", help="Those that were read, with something to know.")
    ] = False,
    skipped: Annotated[
        bool, typer.Option("--skipped", help="Those that no run has looked at, and why.")
    ] = False,
    gone: Annotated[
        bool, typer.Option("--gone", help="Those that are no longer there: deleted or moved.")
    ] = False,
    output: Annotated[
        Literal["text", "json", "csv"], typer.Option("--format", help="json and csv: for programs.")
    ] = "text",
) -> None:
    """Say what became of every file.

    A line for each: what the store has recorded, then what no run has looked at, for which the
    folders of the libraries are walked. Several of --failed, --warnings, --skipped and --gone may
    be given; without any, all files are listed. The exit code is 3 if the folder of a library is
    not there, or one in it cannot be listed, so that nobody knows what was skipped in it.

    Example: soundalike files recordings.soundalike --failed --skipped
    """
    import soundalike
    from soundalike.show.files import files_csv, files_json, files_lines
    from soundalike.show.fitting import terminal_width

    asked = {"failed": failed, "warnings": warnings, "skipped": skipped, "gone": gone}
    kinds: list[Any] = [kind for kind, is_asked in asked.items() if is_asked]
    unknown: list[FileRow] = []
    rows = soundalike.open(store).files(*kinds)

    def noted() -> Iterator[FileRow]:
        for row in rows:
            if row.status == "absent" or (row.stage == "walk" and (skipped or not kinds)):
                unknown.append(row)
            yield row

    if output == "text":
        lines = files_lines(noted(), terminal_width())
    else:
        lines = files_json(noted()) if output == "json" else files_csv(noted())
    for line in lines:
        print(line)
    raise typer.Exit(3 if unknown else 0)


def forget(
    store: StoreArgument,
    library: Annotated[
        str,
        typer.Argument(
            metavar="LIBRARY", help="Its folder, which need not be there, or its id: see 'info'."
        ),
    ],
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; otherwise say what would go.")] = False,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Take a library out of a store.

    Says how many files and windows would go; with --yes, they go. What another library holds as
    well stays. Searches see it after the next 'build', 'compact' gives the room back. Until then,
    'index' of the same folder brings everything back without embedding it again.

    Example: soundalike forget recordings.soundalike old/field --yes
    """
    import soundalike
    from soundalike.show.stores import forgotten_lines

    with Bars(quiet=quiet) as bars:
        found = soundalike.open(store, listen=bars).forget(library, dry_run=not yes)
    data = {**asdict(found), "root": str(found.root)}
    print_report(output, data, forgotten_lines(store, found), quiet=quiet)


@takes(network=(Network,))
def verify(
    context: typer.Context,
    store: StoreArgument,
    *,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Embed some windows again from their audio, and compare."),
    ] = False,
    sample: Annotated[
        int,
        number_option(int, 1, 1_000_000_000, "N", "How many windows --deep embeds, at most."),
    ] = 20,
    own: OwnOption = None,
    network: Given,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Check every byte of a store.

    Holds every file of STORE, and of what was added to it, against the digest it was written with,
    and the stored tags against the stored scenes. With --deep, if that finds nothing, a random
    sample of windows is embedded again from the audio files. The exit code is 1 if anything is
    wrong, and 3 if --deep was asked for and no audio is there to compare with.

    Example: soundalike verify recordings.soundalike --deep --sample 50
    """
    import soundalike
    from soundalike.show.stores import problem_lines, verified_data, verified_lines

    needs_deep = ("sample", "checkpoint", "device", "precision")
    require_use(context, needs_deep, "--deep", is_met=deep)
    with Bars(quiet=quiet) as bars:
        sounds = soundalike.open(store, own=own, **network, listen=bars)
        problems, report = sounds.verify(deep=deep, num_windows=sample)
    if output == "text":
        print_lines(problem_lines(problems))
    print_report(
        output,
        verified_data(problems, report),
        verified_lines(store, problems, report),
        quiet=quiet,
    )
    raise typer.Exit(1 if problems else 3 if report and report.has_heard_nothing else 0)


def compact(
    store: StoreArgument,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Remove what is dead from a store.

    Windows of deleted files go, and old rows of the ledger; many small parts become a few large
    ones. STORE can be searched meanwhile. While it runs, what is written anew needs its room on the
    disk a second time.

    Example: soundalike compact recordings.soundalike
    """
    import soundalike
    from soundalike.show.stores import compact_lines

    with Bars(quiet=quiet) as bars:
        report = soundalike.open(store, listen=bars).compact()
    print_report(output, asdict(report), compact_lines(store, report), quiet=quiet)
