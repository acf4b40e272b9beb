"""The `export` commands. Each parses, calls the Python API, and prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from indexer.paths import printable
from search.export.consent import Consent
from soundalike.cli.index import (
    CheckpointOption,
    DeviceOption,
    FormatOption,
    QuietOption,
    StoreArgument,
    download_bar,
    step_bar,
)

if TYPE_CHECKING:
    from indexer.embedding.extractor import Extractor
    from indexer.store.reader import Store

TablesArgument = Annotated[
    list[Path],
    typer.Argument(metavar="CAPTIONS…", help="A CSV per split, such as train.csv val.csv test.csv"),
]
FolderOption = Annotated[Path, typer.Option("--output", metavar="DIR", help="Where to.")]
FormOption = Annotated[
    Literal["parquet", "npz", "hdf5-conette", "hdf5-dcase", "webdataset"],
    typer.Option("--as", help="What the files are for; docs/experiments.md describes each."),
]
AllowLeakOption = Annotated[
    bool,
    typer.Option("--allow-leak", help="Export though the checkpoint has seen it; files say so."),
]
CleanOption = Annotated[
    bool,
    typer.Option(
        "--checkpoint-clean",
        help="Vouch that an unknown checkpoint was not trained on these clips.",
    ),
]

app = typer.Typer(
    name="export",
    help="Write what other people's code reads.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.command()
def audiocaps(
    store: StoreArgument,
    captions: TablesArgument,
    folder: FolderOption,
    form: FormOption = "parquet",
    allow_leak: AllowLeakOption = False,
    checkpoint_clean: CleanOption = False,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Join embeddings with the captions of AudioCaps.

    CAPTIONS have the columns audiocap_id, youtube_id, start_time and caption. Clips are recognised
    by the names of their files: ID_30.flac, YID.wav or ID_30000_40000.wav. Every lab has other
    clips, so the ids that are there and those that are missing are written too. A checkpoint that
    was trained on the clips is refused for val and test.

    Example: soundalike export audiocaps caps.soundalike train.csv val.csv test.csv --output caps
    """
    consent = Consent(allow_leak=allow_leak, is_clean=checkpoint_clean)
    _export("AudioCaps", store, captions, folder, form, consent, output, quiet=quiet)


@app.command()
def clotho(
    store: StoreArgument,
    captions: TablesArgument,
    folder: FolderOption,
    form: FormOption = "parquet",
    allow_leak: AllowLeakOption = False,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Join embeddings with the captions of Clotho.

    CAPTIONS are Clotho's own tables, with the columns file_name and caption_1 to caption_5. Files
    are recognised by their names, whatever folder they lie in.

    Example: soundalike export clotho clotho.soundalike development.csv --output out --as hdf5-dcase
    """
    consent = Consent(allow_leak=allow_leak)
    _export("Clotho", store, captions, folder, form, consent, output, quiet=quiet)


@app.command()
def labels(
    store: StoreArgument,
    folder: FolderOption,
    form: Annotated[
        Literal["audacity", "raven", "csv"],
        typer.Option("--as", help="A label track of Audacity, a selection table of Raven, or CSV."),
    ] = "audacity",
    tag: Annotated[
        list[str] | None, typer.Option(metavar="T", help="Only this one. May be repeated.")
    ] = None,
    threshold: Annotated[
        float, typer.Option(metavar="P", min=0, max=1, help="Probability that counts as heard.")
    ] = 0.25,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Embed the audio again: the store has no frames.")
    ] = False,
    checkpoint: CheckpointOption = None,
    device: DeviceOption = "auto",
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Write when each tag is heard: a label file for every recording.

    From the frame embeddings, every 0.32 s, averaged over a second. A group such as Animal means
    all that is below it. A store made with --frames none needs --recompute, and its audio.

    Example: soundalike export labels recordings.soundalike --tag Bird --output labels
    """
    from indexer.store.reader import Store
    from search.export.label_files import export_labels, outputs_of
    from soundalike.show.words import count

    opened = Store.open(store)
    extractor = _pooling(opened, checkpoint, device, quiet=quiet) if recompute else None
    with step_bar("listening", "recording", quiet=quiet) as show:
        report = export_labels(
            opened,
            folder,
            form,
            tags=outputs_of(tag) if tag else None,
            threshold=threshold,
            extractor=extractor,
            progress=show,
        )
    spans = sum(file.num_spans for file in report.files)
    if output == "json":
        files = {str(file.path): file.num_spans for file in report.files}
        typer.echo(json.dumps({"files": files, "num_silent": report.num_silent}, indent=1))
    elif not quiet:
        told = f"{count(spans, 'span')} in {count(len(report.files), 'file')} below {folder}"
        rest = f"; in {report.num_silent:,} nothing is heard" if report.num_silent else ""
        typer.echo(printable(told + rest))


def _pooling(store: Store, checkpoint: str | None, device: str, *, quiet: bool) -> Extractor:
    """Return what computes the frames of a store again."""
    from indexer.embedding.extractor import Extractor
    from indexer.model.checkpoint import load_checkpoint

    with download_bar(quiet=quiet) as show:
        loaded = load_checkpoint(checkpoint or store.checkpoint, progress=show)
    return Extractor(loaded, device=device, frames="pooled")


def _windows_command(form: Literal["csv", "jsonl", "npy"], summary: str) -> None:
    """Register `export csv` and its like: one function, three names."""

    def command(
        store: StoreArgument,
        file: Annotated[Path, typer.Option("--output", metavar="FILE", help="What to write.")],
        threshold: Annotated[
            float, typer.Option(metavar="P", min=0, max=1, help="From which on a tag is named.")
        ] = 0.25,
        quiet: QuietOption = False,
    ) -> None:
        from indexer.store.reader import Store
        from search.export.windows import export_windows
        from soundalike.show.words import count

        with step_bar("exporting", "window", quiet=quiet) as show:
            num_windows = export_windows(
                Store.open(store), file, form, threshold=threshold, progress=show
            )
        if not quiet:
            typer.echo(printable(f"{file}: {count(num_windows, 'window')}"))

    example = f"Example: soundalike export {form} recordings.soundalike --output windows.{form}"
    app.command(form, help=f"{summary}\n\n{example}")(command)


_windows_command("csv", "Write a table of all windows: window_id, path, start_s, end_s and tags.")
_windows_command("jsonl", "Write all windows as JSON lines, with tags and scene embeddings.")
_windows_command(
    "npy", "Write all scene embeddings as one array, (n, 768) float32, and FILE.csv with its rows."
)


def _export(
    dataset: Literal["AudioCaps", "Clotho"],
    store: Path,
    captions: list[Path],
    folder: Path,
    form: Literal["parquet", "npz", "hdf5-conette", "hdf5-dcase", "webdataset"],
    consent: Consent,
    output: str,
    *,
    quiet: bool,
) -> None:
    from indexer.store.reader import Store
    from search.export.captioned import export_captioned
    from soundalike.show.exports import export_data, export_lines

    with step_bar("exporting", "clip", quiet=quiet) as show:
        report = export_captioned(
            Store.open(store),
            dataset,
            captions,
            form,
            folder,
            consent=consent,
            progress=show,
        )
    if output == "json":
        typer.echo(json.dumps(export_data(report), indent=1))
    elif not quiet:
        for line in export_lines(report):
            typer.echo(printable(line))
