"""Commands that need no index: extract, tag, tags, checkpoints. Each parses, calls and prints."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from tqdm import tqdm

from indexer.errors import SoundalikeError
from indexer.paths import printable

Format = Literal["text", "json"]

LibraryArgument = Annotated[
    Path, typer.Argument(metavar="LIBRARY", help="Folder of audio; walked with its subfolders.")
]
StoreArgument = Annotated[
    Path, typer.Argument(metavar="STORE", help="A directory that 'index' made.")
]
CheckpointOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="Checkpoint; 'soundalike checkpoints' lists the names. "
        "Default: the store's, or convnext-tiny-471.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")]
FormatOption = Annotated[Format, typer.Option("--format", help="json is for programs.")]
PrecisionOption = Annotated[
    Literal["auto", "fp32", "bf16"], typer.Option(help="auto: bf16 on a GPU, fp32 on a CPU.")
]
FramesOption = Annotated[
    Literal["pooled", "full", "none"] | None,
    typer.Option(
        help="Frame embeddings to keep: pooled over frequency (48 kB a window), full (333 kB) "
        "or none. Default: the store's, or pooled."
    ),
]
HopOption = Annotated[
    float | None,
    typer.Option(metavar="S", help="Seconds between windows. Default: the store's, or 10."),
]
NativeOption = Annotated[
    bool | None,
    typer.Option(
        "--native",
        help="Embed recordings of up to 30 s as one window of their own length, unpadded.",
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option(metavar="N", min=0, help="Processes that decode audio.")
]
BatchOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Windows per forward pass.")
]
IncludeOption = Annotated[
    list[str] | None,
    typer.Option(metavar="GLOB", help="Only paths that match, whatever their extension."),
]
ExcludeOption = Annotated[
    list[str] | None, typer.Option(metavar="GLOB", help="Leave out paths that match.")
]
FilesFromOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Read the files that FILE lists, one path a line, or a .csv of path,start,end "
        "in seconds. Paths are relative to LIBRARY.",
    ),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at the first file that fails.")]
RetryOption = Annotated[
    bool, typer.Option("--retry-failed", help="Try files again that failed in an earlier run.")
]
AllowGoneOption = Annotated[
    bool,
    typer.Option("--allow-gone", help="Accept that more than half of the library was deleted."),
]
MaxHoursOption = Annotated[
    float, typer.Option(metavar="H", min=0.001, help="A longer file is a failure.")
]
TimeoutOption = Annotated[
    float,
    typer.Option(
        metavar="S", min=1, help="Give up on a file that is not got on with for S seconds."
    ),
]


def register(app: typer.Typer) -> None:
    """Add this module's commands to the root command."""
    for command in (extract, tag, tags, checkpoints):
        app.command()(command)


def extract(
    library: LibraryArgument,
    store: StoreArgument,
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
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Embed a folder of audio, without an index.

    The first half of 'index': embeds what is new or changed in LIBRARY. Run it as often as you
    like: files that have not changed are not read again. The second half is 'soundalike build'.

    Example: soundalike extract recordings recordings.soundalike
    """
    from indexer.run.config import ExtractConfig
    from indexer.run.prepare import Settings

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
    report = run_extraction(library, store, settings, config, quiet=quiet)
    print_report(report, output, quiet=quiet)
    raise typer.Exit(3 if report.failures else 0)


def run_extraction(library: Path, store: Path, settings: Any, config: Any, *, quiet: bool) -> Any:
    """Prepare a store and extract into it, with progress bars; shared with 'index'."""
    from indexer.run.extract import extract as extract_library
    from indexer.run.extract import find_files
    from indexer.run.prepare import prepare

    with step_bar("walking", "file", quiet=quiet) as show_walk:
        found = find_files(library, config, show_walk)  # before a store is made, or a download
    with download_bar(quiet=quiet) as show_download:
        opened, extractor = prepare(store, settings, show_download)
    tell = None if quiet else say
    with extraction_bar(quiet=quiet) as show:
        return extract_library(found, opened, extractor, config, show, tell)


def say(text: str) -> None:
    """Print a sentence for people, beside the output."""
    typer.echo(printable(text), err=True)


def print_report(report: Any, output: Format, *, quiet: bool) -> None:
    """Print what a run did."""
    from soundalike.show.runs import report_data, report_lines

    if output == "json":
        typer.echo(json.dumps(report_data(report), indent=1))
    elif not quiet:
        for line in report_lines(report):
            typer.echo(line)


def tag(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Audio files.")],
    threshold: Annotated[
        float, typer.Option(metavar="P", min=0, max=1, help="Probability that counts as heard.")
    ] = 0.25,
    top: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="At most N tags per window.")
    ] = None,
    checkpoint: CheckpointOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Say what the model hears in audio files.

    It goes window by window; each line is a probability, the tag's index among the 527, and its
    name. Files that cannot be read are named at the end, and the exit code is 3.

    Example: soundalike tag --checkpoint demo --top 3 dog.wav
    """
    from indexer.embedding.extractor import Extractor
    from indexer.embedding.tagging import tag_file
    from indexer.errors import AudioError
    from indexer.model.checkpoint import DEFAULT_CHECKPOINT, load_checkpoint
    from soundalike.show.runs import tagged_data, tagged_lines

    with download_bar(quiet=quiet) as show_download:
        loaded = load_checkpoint(checkpoint or DEFAULT_CHECKPOINT, progress=show_download)
    extractor = Extractor(loaded, device=device, precision=precision)
    heard, failures = [], []
    for file in files:
        try:
            windows = tag_file(file, extractor, threshold=threshold, top=top)
        except AudioError as error:
            failures.append(f"{printable(str(file))}: {printable(error.reason)}")
            continue
        if output == "json":
            heard.append({"file": str(file), "windows": tagged_data(windows)})
            continue
        typer.echo(printable(str(file)))
        for line in tagged_lines(windows):
            typer.echo(f"  {line}")
    if output == "json":
        typer.echo(json.dumps(heard, indent=1))
    for failure in failures:
        typer.echo(f"cannot listen to {failure}", err=True)
    raise typer.Exit(3 if failures else 0)


def tags(
    store: Annotated[
        Path | None, typer.Argument(help="Count in how many windows of STORE each was heard.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(metavar="P", min=0, max=1, help="Probability that counts as heard.")
    ] = 0.25,
    output: FormatOption = "text",
) -> None:
    """List the 527 tags.

    Each line is the tag's index, its AudioSet id and its name. With a STORE, a count comes first,
    and the most frequent tag is at the top.

    Example: soundalike tags recordings.soundalike
    """
    from indexer.store.reader import Store
    from indexer.tags import TagVocabulary

    rows = [asdict(tag) for tag in TagVocabulary.audioset().tags]
    if store is not None:
        counts = Store.open(store).snapshot().count_tags(threshold)
        rows = [{"windows": int(counts[row["index"]]), **row} for row in rows]
        rows.sort(key=lambda row: -row["windows"])
    if output == "json":
        typer.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        number = f"{row['windows']:>9,}  " if store is not None else ""
        typer.echo(f"{number}{row['index']:>3}  {row['mid']:<12}  {row['name']}")


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
    from indexer.model.checkpoint import KNOWN_CHECKPOINTS, fetch

    if action == "fetch":
        if name is None:
            raise SoundalikeError(f"fetch needs a name: {', '.join(KNOWN_CHECKPOINTS)}")
        with download_bar(quiet=quiet) as show_download:
            path = fetch(name, progress=show_download)
        typer.echo(printable(str(path)))
        return
    known = [
        {
            "name": one.name,
            "is_here": one.path.exists(),
            "path": str(one.path),
            "url": one.url,
            "trained_on": one.trained_on,
            "description": one.description,
        }
        for one in KNOWN_CHECKPOINTS.values()
    ]
    if output == "json":
        typer.echo(json.dumps(known, indent=1))
        return
    for row in known:
        where = "here" if row["is_here"] else "not here yet"
        typer.echo(f"{row['name']:<31} {where:<13} {row['description']}")


def _bar(**options: Any) -> tqdm[Any]:
    """Return a bar that follows the terminal's width; some terminals do not say what it is."""
    try:
        is_sized = os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except OSError:
        is_sized = False
    size = {"dynamic_ncols": True} if is_sized else {"ncols": 80, "nrows": 24}
    return tqdm(**options, **size)


@contextmanager
def extraction_bar(*, quiet: bool) -> Iterator[Callable[[Any], None] | None]:
    """Show files, hours of audio, times real time, failures and time left, if any file is read."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    bars: list[tqdm[Any]] = []
    started_s = time.monotonic()

    def show(progress: Any) -> None:
        if not bars:
            bars.append(_bar(unit="file", desc="embedding", total=progress.files_total))
        speed = progress.audio_s / max(time.monotonic() - started_s, 1e-3)
        audio = {"hours": f"{progress.audio_s / 3600:.2f}", "x": f"{speed:.0f}"}
        bars[0].set_postfix(audio, failed=progress.num_failed, refresh=False)
        bars[0].update(progress.files_done - bars[0].n)

    try:
        yield show
    finally:
        for bar in bars:
            bar.close()


@contextmanager
def download_bar(*, quiet: bool) -> Iterator[Callable[[int, int | None], None] | None]:
    """Show the bytes of a download; nothing appears if there is none."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    bars: list[tqdm[Any]] = []

    def show(done: int, total: int | None) -> None:
        if not bars:
            bars.append(_bar(unit="B", unit_scale=True, desc="downloading"))
        bars[0].total = total
        bars[0].update(done - bars[0].n)

    try:
        yield show
    finally:
        for bar in bars:
            bar.close()


@contextmanager
def step_bar(what: str, unit: str, *, quiet: bool) -> Iterator[Callable[..., None] | None]:
    """Show progress in steps, called with (done, total or nothing); it goes when it is done."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with _bar(unit=unit, desc=what, leave=False) as bar:

        def show(done: int, total: int | None = None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
