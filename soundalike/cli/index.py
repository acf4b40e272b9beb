"""The commands that make a library searchable: `index`, and its halves `extract` and `build`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from indexer.run.config import ExtractConfig, Settings
from soundalike.cli.bars import Bars
from soundalike.cli.numbers import number_option
from soundalike.cli.options import (
    Format,
    FormatOption,
    Given,
    LibraryArgument,
    MemoryOption,
    Network,
    OwnOption,
    QuietOption,
    RecallOption,
    StoreArgument,
    takes,
)
from soundalike.cli.printing import print_report
from soundalike.cli.spreading import RayOption

if TYPE_CHECKING:
    from indexer.run.report import ExtractReport

RayWorkersOption = Annotated[
    int | None,
    number_option(
        int,
        1,
        100_000,
        "N",
        "Workers of the cluster that embed. Default: one for each GPU, or for each machine if "
        "there is no GPU.",
        "--ray-workers",
    ),
]


@takes(network=(Network,), settings=(Settings, ExtractConfig))
def index(
    library: LibraryArgument,
    *,
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to. Default: ./<name of LIBRARY>.soundalike"),
    ] = None,
    ray: RayOption = None,
    ray_workers: RayWorkersOption = None,
    network: Given,
    settings: Given,
    memory: MemoryOption = None,
    recall: RecallOption = None,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Make a folder of audio searchable.

    Embeds what is new or changed in LIBRARY, then refreshes the index. Run it again after adding
    files: only those are read. The sounds in a pack are called as in eval.h5!/NAME. A file that
    cannot be read is recorded and the run goes on; the exit code is 3 then. Interrupted, it
    continues where it stopped.

    With --ray, workers on the machines of a Ray cluster embed; all of them have to see LIBRARY and
    the store at the same paths. A worker that is lost costs what it has in hand.

    Example: soundalike index recordings --checkpoint demo
    """
    import soundalike
    from indexer.run.prepare import default_store
    from search.nearest.structure import IndexConfig
    from soundalike.show.runs import searchable_line

    path = store or default_store(library)
    how = IndexConfig(_num_bytes(memory), recall)  # a wrong one is told before the long work
    bars = Bars(quiet=quiet)
    with bars:
        sounds = soundalike.open(path, **network, listen=bars)
        spread = False if ray is None else ray
        report = sounds.extract(library, ray=spread, ray_workers=ray_workers, **settings)
    _print_run(report, path, output, quiet=quiet)  # what was embedded, be the index built or not
    with bars:
        sounds.build(memory_bytes=how.memory_bytes, recall=how.recall)
    if output == "text" and not quiet:
        typer.echo(searchable_line(path, sounds.num_windows, report))
    raise typer.Exit(3 if report.failures else 0)


@takes(network=(Network,), settings=(Settings, ExtractConfig))
def extract(
    library: LibraryArgument,
    store: StoreArgument,
    *,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Embed one of N shares of LIBRARY, as one of N machines would: 1/N to N/N.",
        ),
    ] = None,
    stage: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where shards are kept until 'commit' publishes them."),
    ] = None,
    ray: RayOption = None,
    ray_workers: RayWorkersOption = None,
    network: Given,
    settings: Given,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Embed a folder of audio, without an index.

    The first half of 'index': embeds what is new or changed in LIBRARY. Run it as often as you
    like: files that have not changed are not read again. The second half is 'soundalike build'.

    With --shard and --stage, several machines share the work, under any scheduler: each embeds a
    share into a folder of its own, and 'soundalike commit' publishes those that are done. With
    --ray, workers of a Ray cluster do so, and nothing is left to commit.

    Example: soundalike extract recordings recordings.soundalike
    """
    import soundalike
    from soundalike.show.runs import staged_line

    with Bars(quiet=quiet) as bars:
        sounds = soundalike.open(store, **network, listen=bars)
        spread = False if ray is None else ray
        report = sounds.extract(
            library, shard=shard, stage=stage, ray=spread, ray_workers=ray_workers, **settings
        )
    _print_run(report, None if stage else store, output, quiet=quiet)
    if stage and output == "text" and not quiet:
        typer.echo(staged_line(store, stage))
    raise typer.Exit(3 if report.failures else 0)


def commit(
    store: StoreArgument,
    stages: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR…", help="What 'extract --stage' was given, or folders of shards in it."
        ),
    ],
    *,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Publish what 'extract --shard' has staged.

    Each shard that is done becomes part of STORE, once, however often it is committed. One whose
    run was cut short or goes on, or that was made with other options, is named and left alone; the
    exit code is 3 then. The files in DIR stay: they can be deleted once all is in the store.
    Afterwards, 'index' of the same library builds the index, and records what is gone.

    Example: soundalike commit recordings.soundalike staged
    """
    import soundalike
    from soundalike.show.runs import commit_data, commit_lines

    with Bars(quiet=quiet) as bars:
        report = soundalike.open(store, listen=bars).commit(*stages)
    print_report(output, commit_data(report), commit_lines(store, report), quiet=quiet)
    raise typer.Exit(3 if report.refused else 0)


def build(
    store: StoreArgument,
    memory: MemoryOption = None,
    recall: RecallOption = None,
    *,
    anew: Annotated[
        bool,
        typer.Option(
            "--anew",
            help="Use nothing of the index that is there, and do without parts that are missing.",
        ),
    ] = False,
    own: OwnOption = None,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Bring the index of a store up to date.

    The second half of 'index'. Only new windows are written; if nothing changed, nothing is. Up to
    10,000 windows are searched exactly. Above, windows have sketches, and how many of these have to
    be looked at is measured; an exact answer can still be asked for. Projections of text and
    sound, if there are any, see the new windows from then on.

    If a part that the index was made from is missing, and windows with it, nothing is built: what
    was there may be on a backup. --anew goes on without, and mends an index that is damaged.

    Example: soundalike build recordings.soundalike --memory 8
    """
    import soundalike
    from soundalike.show.stores import generation_data, generation_lines

    with Bars(quiet=quiet) as bars:
        generation = soundalike.open(store, own=own, listen=bars).build(
            memory_bytes=_num_bytes(memory), recall=recall, anew=anew
        )
    print_report(output, generation_data(generation), generation_lines(generation), quiet=quiet)


def _num_bytes(memory_gb: float | None) -> int | None:
    return None if memory_gb is None else round(memory_gb * 1e9)


def _print_run(report: ExtractReport, store: Path | None, output: Format, *, quiet: bool) -> None:
    from soundalike.show.runs import report_data, report_lines
    from soundalike.show.words import files_command

    lines = list(report_lines(report))
    if report.failures and store:
        lines.append(f"  by name: {files_command(store, 'failed')}")
    print_report(output, report_data(report), lines, quiet=quiet)
