"""The `soundalike` command. Each function parses, calls the Python API, and prints."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from indexer.paths import printable
from soundalike.cli import batch as cli_batch
from soundalike.cli import evaluate as cli_eval
from soundalike.cli import export as cli_export
from soundalike.cli import index as indexer_cli
from soundalike.cli import search as cli_search
from soundalike.cli.index import (
    AllowGoneOption,
    BatchOption,
    CheckpointOption,
    DeviceOption,
    ExcludeOption,
    FilesFromOption,
    FormatOption,
    FramesOption,
    HopOption,
    IncludeOption,
    LibraryArgument,
    MaxHoursOption,
    NativeOption,
    PrecisionOption,
    QuietOption,
    RetryOption,
    StoreArgument,
    StrictOption,
    TimeoutOption,
    WorkersOption,
    print_report,
    run_extraction,
    step_bar,
)
from soundalike.show.words import count

if TYPE_CHECKING:
    from indexer.run.recompute import DeepReport
    from indexer.store.reader import Store
    from search.generation.segments import Generation
    from search.nearest.structure import IndexConfig

MemoryOption = Annotated[
    float | None,
    typer.Option(
        metavar="GB",
        min=0.3,
        help="What the index may take while it is built, and its codes when it is searched. "
        "Default: half of the machine's memory.",
    ),
]
RecallOption = Annotated[
    float | None,
    typer.Option(
        metavar="R",
        min=0.5,
        max=0.999,
        help="Share of the true best 10 to find where answers are not exact. Default: 0.95.",
    ),
]

app = typer.Typer(
    name="soundalike",
    help="Index a library of sounds once, then ask it what else sounds like a clip.\n\n"
    "Start with: soundalike index FOLDER, then: soundalike search FOLDER.soundalike CLIP",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Print the version, or without a command the help."""
    if version:
        typer.echo(f"soundalike {metadata.version('soundalike')}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def index(
    library: LibraryArgument,
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to. Default: ./<name of LIBRARY>.soundalike"),
    ] = None,
    checkpoint: CheckpointOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    frames: FramesOption = None,
    hop: HopOption = None,
    native: NativeOption = None,
    workers: WorkersOption = None,
    batch_size: BatchOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    files_from: FilesFromOption = None,
    strict: StrictOption = False,
    retry_failed: RetryOption = False,
    allow_gone: AllowGoneOption = False,
    max_hours: MaxHoursOption = 24.0,
    timeout: TimeoutOption = 120.0,
    memory: MemoryOption = None,
    recall: RecallOption = None,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Make a folder of audio searchable.

    Embeds what is new or changed in LIBRARY, then refreshes the index. Run it again after adding
    files: only those are read. A file that cannot be read is recorded and the run goes on; the exit
    code is 3 then. Interrupted, it continues where it stopped.

    Example: soundalike index recordings --checkpoint demo
    """
    from indexer.run.config import ExtractConfig
    from indexer.run.prepare import Settings, default_store
    from indexer.store.reader import Store

    index_config = _index_config(memory, recall)  # a wrong one is told before the long work
    path = store or default_store(library)
    settings = Settings(checkpoint, frames, hop, native, device, precision)
    config = ExtractConfig(
        include=tuple(include or ()),
        exclude=tuple(exclude or ()),
        files_from=files_from,
        num_workers=workers,
        batch_size=batch_size,
        strict=strict,
        retry_failed=retry_failed,
        allow_gone=allow_gone,
        max_hours=max_hours,
        timeout_s=timeout,
    )
    report = run_extraction(library, path, settings, config, quiet=quiet)
    generation = _build(Store.open(path), index_config, quiet=quiet)
    print_report(report, output, quiet=quiet)
    if output == "text" and not quiet:
        name = printable(str(path))
        held = count(generation.num_windows, "window")
        typer.echo(f"{name}: {held}; soundalike search {shlex.quote(name)} CLIP")
    raise typer.Exit(3 if report.failures else 0)


@app.command()
def build(
    store: StoreArgument,
    memory: MemoryOption = None,
    recall: RecallOption = None,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Bring the index of a store up to date.

    The second half of 'index'. Only new windows are written; if nothing changed, nothing is. Up to
    50,000 windows are searched exactly. Above, vectors are sorted into lists, and how many of them
    a query must visit is measured; an exact answer can still be asked for.

    Example: soundalike build recordings.soundalike --memory 8
    """
    from indexer.store.reader import Store
    from soundalike.show import hits as show

    generation = _build(Store.open(store), _index_config(memory, recall), quiet=quiet)
    if output == "json":
        typer.echo(json.dumps(show.generation_data(generation), indent=1))
    elif not quiet:
        for line in show.generation_lines(generation):
            typer.echo(line)


def _index_config(memory_gb: float | None, recall: float | None) -> IndexConfig:
    from search.nearest.structure import IndexConfig

    return IndexConfig(round(memory_gb * 1e9) if memory_gb else None, recall)


def _build(store: Store, config: IndexConfig, *, quiet: bool) -> Generation:
    from search.upkeep.build import build as build_index

    with step_bar("indexing", "window", quiet=quiet) as show:
        tell = None if quiet else indexer_cli.say
        return build_index(store, config=config, progress=show, tell=tell)


app.command()(cli_search.search)
app.command()(cli_batch.batch)
app.command()(cli_batch.duplicates)
app.add_typer(cli_eval.app)
app.add_typer(cli_export.app)


@app.command()
def info(store: StoreArgument, output: FormatOption = "text") -> None:
    """Say what a store holds.

    Windows, recordings, failures and their reasons, libraries, and the state of the index.

    Example: soundalike info recordings.soundalike
    """
    from search.upkeep.overview import overview
    from soundalike.show.hits import overview_data, overview_lines

    found = overview(store)
    if output == "json":
        typer.echo(json.dumps(overview_data(found), indent=1))
        return
    for line in overview_lines(found):
        typer.echo(line)


@app.command()
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
    from search.upkeep.compact import compact as compact_store
    from soundalike.show.hits import compact_lines

    with step_bar("compacting", "row", quiet=quiet) as show:
        report = compact_store(store, None if quiet else indexer_cli.say, show)
    if output == "json":
        typer.echo(json.dumps(asdict(report), indent=1))
    elif not quiet:
        for line in compact_lines(store, report):
            typer.echo(line)


@app.command()
def verify(
    store: StoreArgument,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Embed some windows again from their audio, and compare."),
    ] = False,
    sample: Annotated[
        int, typer.Option(metavar="N", min=1, help="How many windows --deep embeds, at most.")
    ] = 20,
    checkpoint: CheckpointOption = None,
    device: DeviceOption = "auto",
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Check every byte of a store.

    Holds every file of STORE against the digest it was written with, and the stored tags against
    the stored scenes. With --deep, if that finds nothing, a random sample of windows is embedded
    again from the audio files. The exit code is 1 if anything is wrong, and 3 if --deep was asked
    for and no audio is there to compare with.

    Example: soundalike verify recordings.soundalike --deep --sample 50
    """
    from search.upkeep.verify import verify as verify_store
    from soundalike.show import hits as show

    with step_bar("verifying", "part", quiet=quiet) as show_part:
        problems = verify_store(store, show_part)
    report = None
    if deep and not problems:  # what is damaged is not parsed
        report = _recompute(store, sample, checkpoint, device, quiet=quiet)
        problems = report.problems
    if output == "json":
        typer.echo(json.dumps(show.verified_data(problems, report), indent=1))
    else:
        for problem in problems:
            typer.echo(f"{printable(str(problem.path))}: {printable(problem.reason)}")
        if not quiet:
            for line in show.verified_lines(store, problems, report):
                typer.echo(line)
    raise typer.Exit(1 if problems else 3 if report and report.has_heard_nothing else 0)


def _recompute(
    path: Path, sample: int, checkpoint: str | None, device: str, *, quiet: bool
) -> DeepReport:
    from indexer.run.recompute import recompute
    from indexer.store.reader import Store
    from search.asking.embed import extractor_for

    store = Store.open(path)
    with indexer_cli.download_bar(quiet=quiet) as show_download:
        extractor = extractor_for(store, checkpoint, device, show_download)
    with step_bar("listening", "window", quiet=quiet) as show:
        return recompute(store, extractor, num_windows=sample, progress=show)


indexer_cli.register(app)
