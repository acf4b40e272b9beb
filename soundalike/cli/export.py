"""The `export` commands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from indexer.progress import LOADING, Listen
from indexer.tags import DEFAULT_THRESHOLD
from search.datasets.consent import Consent
from soundalike.cli.bars import Bars
from soundalike.cli.options import (
    AllowLeakOption,
    CaptionsArgument,
    CleanOption,
    ForceOption,
    Format,
    FormatOption,
    Given,
    MatchOption,
    MeasuredOption,
    Network,
    OwnOption,
    QuietOption,
    StoreArgument,
    complete_tag,
    takes,
)
from soundalike.cli.printing import command_group, print_report, say
from soundalike.cli.usage import require_use
from soundalike.show.words import count

if TYPE_CHECKING:
    from indexer.embedding.extractor import Extractor
    from indexer.store.reader import Store
    from indexer.tags import Threshold
    from search.export.forms.kinds import Form

FolderOption = Annotated[Path, typer.Option("--output", metavar="DIR", help="Where to.")]
FORMS = ("parquet", "npz", "hdf5-dcase2023", "hdf5-dcase2024", "hdf5-conette", "webdataset")


def form_named(name: str) -> str:
    """Return a form by its name; an old one is answered with the new one."""
    if name == "hdf5-dcase":
        raise typer.BadParameter("'hdf5-dcase' is called 'hdf5-dcase2023' now")
    if name not in FORMS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, FORMS))}")
    return name


FormOption = Annotated[
    str,
    typer.Option(
        "--as",
        parser=form_named,
        metavar=f"[{'|'.join(FORMS)}]",
        autocompletion=lambda: list(FORMS),
        help="What the files are for; docs/experiments.md describes each.",
    ),
]
VectorsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Vectors of the captions for hdf5-dcase2023: an .npz or .parquet of ids (audiocap_id, "
        "or FILE_NAME#1 of Clotho) and embeddings.",
    ),
]

app = command_group("export", "Write what other people's code reads.")


@app.command()
def audiocaps(
    store: StoreArgument,
    captions: CaptionsArgument,
    folder: FolderOption,
    form: FormOption = "parquet",
    match: MatchOption = None,
    text_vectors: VectorsOption = None,
    allow_leak: AllowLeakOption = False,
    checkpoint_clean: CleanOption = False,
    force: ForceOption = False,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Join embeddings with the captions of AudioCaps.

    CAPTIONS have the columns audiocap_id, youtube_id, start_time and caption. Clips are recognised
    by the names of their files: ID_30.flac, YID.wav, ID_30_40.wav, ID_30000_40000.wav, or the
    audiocap_id alone, in folders such as train and val. Every lab has other clips, so the ids that
    are there and those that are missing are written too. A checkpoint that was trained on the clips
    is refused for val and test.

    Example: soundalike export audiocaps caps.soundalike train.csv val.csv test.csv --output caps
    """
    consent = Consent(allow_leak=allow_leak, is_clean=checkpoint_clean)
    _export(
        "AudioCaps",
        store,
        captions,
        folder,
        form,
        match,
        text_vectors,
        consent,
        output,
        force=force,
        quiet=quiet,
    )


@app.command()
def clotho(
    store: StoreArgument,
    captions: CaptionsArgument,
    folder: FolderOption,
    form: FormOption = "parquet",
    match: MatchOption = None,
    text_vectors: VectorsOption = None,
    allow_leak: AllowLeakOption = False,
    force: ForceOption = False,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Join embeddings with the captions of Clotho.

    CAPTIONS are Clotho's own tables, with the columns file_name and caption_1 to caption_5. Files
    are recognised by their names, whatever folder they lie in.

    Example: soundalike export clotho STORE development.csv --output HDF --as hdf5-dcase2024
    """
    consent = Consent(allow_leak=allow_leak)
    _export(
        "Clotho",
        store,
        captions,
        folder,
        form,
        match,
        text_vectors,
        consent,
        output,
        force=force,
        quiet=quiet,
    )


@app.command()
@takes(network=(Network,))
def labels(
    context: typer.Context,
    store: StoreArgument,
    *,
    folder: FolderOption,
    form: Annotated[
        Literal["audacity", "raven", "csv"],
        typer.Option("--as", help="A label track of Audacity, a selection table of Raven, or CSV."),
    ] = "audacity",
    tag: Annotated[
        list[str] | None,
        typer.Option(
            metavar="T",
            help="Only this one, or a learned one (my.NAME). May be repeated.",
            autocompletion=complete_tag,
        ),
    ] = None,
    threshold: MeasuredOption = DEFAULT_THRESHOLD,
    own: OwnOption = None,
    recompute: Annotated[
        bool, typer.Option("--recompute", help="Embed the audio again: the store has no frames.")
    ] = False,
    network: Given,
    force: ForceOption = False,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Write when each tag is heard: a label file for every recording.

    From the frame embeddings, every 0.32 s, averaged over a second. A group such as Animal means
    all that is below it. A store made with --frames none needs --recompute, and its audio. A
    learned tag is heard in whole windows, and needs neither.

    Example: soundalike export labels recordings.soundalike --tag Bird --output labels
    """
    embedding = ("checkpoint", "device", "precision")
    require_use(context, embedding, "--recompute", is_met=recompute)
    from indexer.store.own import Own
    from indexer.store.reader import Store
    from search.export.label_files import export_labels, outputs_of
    from search.filters.tags import LEARNED_PREFIX
    from search.learned.tags import read
    from soundalike.show.exports import label_files_data, label_files_lines

    opened = Store.open(store)
    mine = [one for one in tag or () if one.startswith(LEARNED_PREFIX)]
    with Bars(quiet=quiet) as bars:
        report = export_labels(
            opened,
            folder,
            form,
            tags=outputs_of([one for one in tag if one not in mine]) if tag else None,
            learned=[
                read(Own.of(store, own), one.removeprefix(LEARNED_PREFIX), opened)
                for one in dict.fromkeys(mine)
            ],
            threshold=_threshold(context, threshold, opened, own, uses_own=bool(mine)),
            extractor=_pooling(opened, network, bars) if recompute else None,
            force=force,
            listen=bars,
        )
    print_report(output, label_files_data(report), label_files_lines(report, folder), quiet=quiet)
    for failure in report.failures:
        say(failure)
    raise typer.Exit(3 if report.failures else 0)


def _threshold(
    context: typer.Context,
    threshold: float | str,
    store: Store,
    own: Path | None,
    *,
    uses_own: bool = False,
) -> Threshold:
    """Return a threshold, or for "auto" those that are kept with a store."""
    require_use(context, ("own",), "--threshold auto", is_met=uses_own or threshold == "auto")
    if not isinstance(threshold, str):
        return threshold
    from indexer.store.own import Own
    from search.filters.thresholds import read

    return read(Own.of(store.path, own), store).of_outputs()


def _pooling(store: Store, network: Given, listen: Listen) -> Extractor:
    """Return what computes the frames of a store again."""
    listen(LOADING)
    from indexer.embedding.extractor import Extractor
    from indexer.model.checkpoint import load_checkpoint
    from indexer.model.known import name_now

    made_with = name_now(store.checkpoint, store.identity.weights)
    loaded = load_checkpoint(network["checkpoint"] or made_with, listen=listen)
    device, precision = network["device"], network["precision"]
    level = store.identity.level
    return Extractor(loaded, device=device, precision=precision, frames="pooled", level=level)


def _windows_command(form: Literal["csv", "jsonl", "npy"], summary: str) -> None:
    """Register `export csv` and its like: one function, three names."""

    def command(
        context: typer.Context,
        store: StoreArgument,
        file: Annotated[Path, typer.Option("--output", metavar="FILE", help="What to write.")],
        threshold: MeasuredOption = DEFAULT_THRESHOLD,
        own: OwnOption = None,
        force: ForceOption = False,
        quiet: QuietOption = False,
    ) -> None:
        from indexer.store.reader import Store
        from search.export.windows import export_windows
        from search.output import is_printed

        opened = Store.open(store)
        bound = _threshold(context, threshold, opened, own)
        with Bars(quiet=quiet) as bars:
            num_windows = export_windows(
                opened, file, form, threshold=bound, force=force, listen=bars
            )
        told = f"{file}: {count(num_windows, 'window')}"
        if not is_printed(file):
            print_report("text", None, [told], quiet=quiet)
        elif not quiet:
            say(told)

    example = f"Example: soundalike export {form} recordings.soundalike --output windows.{form}"
    app.command(form, help=f"{summary}\n\n{example}")(command)


_windows_command("csv", "Write a table of all windows: window_id, path, start_s, end_s and tags.")
_windows_command("jsonl", "Write all windows as JSON lines, with tags and scene embeddings.")
_windows_command(
    "npy", "Write all scene embeddings as one array, (n, 768) float32, and FILE.csv with its rows."
)


def _folder_command(form: Literal["perch-hoplite", "embedding-reader"], summary: str) -> None:
    """Register `export perch-hoplite` and its like: one function, two names."""

    def command(
        store: StoreArgument,
        folder: FolderOption,
        force: ForceOption = False,
        quiet: QuietOption = False,
    ) -> None:
        from indexer.store.reader import Store
        from search.export.folders import export_folder

        with Bars(quiet=quiet) as bars:
            num_windows = export_folder(Store.open(store), folder, form, force=force, listen=bars)
        print_report("text", None, [f"{folder}: {count(num_windows, 'window')}"], quiet=quiet)

    example = f"Example: soundalike export {form} recordings.soundalike --output embeddings"
    app.command(form, help=f"{summary}\n\n{example}")(command)


_folder_command(
    "perch-hoplite",
    "Write all windows as a database of perch-hoplite 1, with the package usearch.",
)
_folder_command(
    "embedding-reader",
    "Write all scene embeddings as .npy and tables of their windows as .parquet, in files of "
    "100,000: for embedding_reader, autofaiss, clip-retrieval.",
)


def _export(
    dataset: Literal["AudioCaps", "Clotho"],
    store: Path,
    captions: list[Path],
    folder: Path,
    form: str,
    match: Path | None,
    text_vectors: Path | None,
    consent: Consent,
    output: Format,
    *,
    force: bool,
    quiet: bool,
) -> None:
    from indexer.store.reader import Store
    from search.datasets.text_vectors import TextVectors
    from search.export.captioned import export_captioned
    from soundalike.show.exports import export_data, export_lines

    with Bars(quiet=quiet) as bars:
        report = export_captioned(
            Store.open(store),
            dataset,
            captions,
            cast("Form", form),
            folder,
            match=match,
            text_vectors=TextVectors.read(text_vectors) if text_vectors else None,
            consent=consent,
            force=force,
            listen=bars,
        )
    print_report(output, export_data(report), export_lines(report), quiet=quiet)
