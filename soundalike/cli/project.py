"""The commands about text and sound: `train projection`, and `project`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from search.projection.config import Training
from soundalike.cli.bars import Bars
from soundalike.cli.options import (
    AllowLeakOption,
    CaptionsArgument,
    CleanOption,
    ForceOption,
    FormatOption,
    Given,
    MatchOption,
    OwnOption,
    ProjectionOption,
    QuietOption,
    StoreArgument,
    takes,
)
from soundalike.cli.printing import command_group, print_report

FormOption = Annotated[
    Literal["audiocaps", "clotho", "paths"] | None,
    typer.Option("--as", help="What CAPTIONS are. Default: told by their columns."),
]

app = command_group("train", "Train what asks a store in other ways.")


@app.command()
@takes(how=(Training,))
def projection(
    store: StoreArgument,
    captions: CaptionsArgument,
    *,
    form: FormOption = None,
    match: MatchOption = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="What it is called.")] = "text",
    folder: Annotated[
        Path | None,
        typer.Option("--output", metavar="DIR", help="Write what 'project' writes there, too."),
    ] = None,
    how: Given,
    own: OwnOption = None,
    allow_leak: AllowLeakOption = False,
    checkpoint_clean: CleanOption = False,
    force: ForceOption = False,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Train a projection that puts sounds and captions into one space.

    Two small networks, for the embeddings of STORE and for vectors of texts, are trained on a CPU.
    CAPTIONS are AudioCaps' or Clotho's own tables, or have the columns path and caption. The split
    is told by their names: train (or dev), val, test (or eval); of a table alone a tenth of the
    recordings is held out. Sounds of val and test are left out of training, wherever they come
    from. Then 'soundalike search STORE --text WORDS' asks in words.

    Example: soundalike train projection caps.soundalike train.csv val.csv test.csv --output figures

    Example: soundalike train projection birds.soundalike notes.csv --text-encoder all-MiniLM-L6-v2
    """
    import soundalike
    from soundalike.show.projections import trained_data, trained_lines

    with Bars(quiet=quiet) as bars:
        trained = soundalike.open(store, own=own, listen=bars).train_projection(
            *captions,
            name=name,
            form=form,
            match=match,
            output=folder,
            allow_leak=allow_leak,
            is_clean=checkpoint_clean,
            force=force,
            **how,
        )
    print_report(output, trained_data(trained), trained_lines(store, trained, own), quiet=quiet)


def project(
    store: StoreArgument,
    captions: CaptionsArgument,
    *,
    folder: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where to.")],
    projection: ProjectionOption = None,
    form: FormOption = None,
    match: MatchOption = None,
    text_encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="An .npz or .parquet of ids and vectors, if it was trained with such; else the "
            "model it was trained with, if that is a folder or not on this machine.",
        ),
    ] = None,
    own: OwnOption = None,
    allow_leak: AllowLeakOption = False,
    checkpoint_clean: CleanOption = False,
    force: ForceOption = False,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Write sounds and captions in one space, for 'eval retrieval'.

    For each of CAPTIONS, such as test.csv, DIR has test_audio.npz and test_text.npz: ids and
    embeddings, a caption's id being that of its sound. Files of sounds that the projection was
    trained on say so.

    Example: soundalike project caps.soundalike test.csv --output figures
    """
    import soundalike
    from soundalike.show.projections import projected_data, projected_lines

    with Bars(quiet=quiet) as bars:
        written = soundalike.open(store, own=own, listen=bars).project(
            *captions,
            output=folder,
            projection=projection,
            text_encoder=text_encoder,
            form=form,
            match=match,
            allow_leak=allow_leak,
            is_clean=checkpoint_clean,
            force=force,
        )
    print_report(output, projected_data(written), projected_lines(written), quiet=quiet)
