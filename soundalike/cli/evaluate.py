"""The `eval` commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soundalike.cli.bars import Bars, telling
from soundalike.cli.numbers import number_option
from soundalike.cli.options import (
    ForceOption,
    FormatOption,
    Given,
    Network,
    QuietOption,
    StoreArgument,
    takes,
)
from soundalike.cli.printing import command_group, print_report, say
from soundalike.cli.usage import require_use

ResamplesOption = Annotated[
    int, number_option(int, 10, 1_000_000, "N", "Bootstrap resamples for the intervals.")
]

app = command_group(
    "eval", "Measure embeddings and tags, with figures that can be put beside published ones."
)


@app.command()
def audioset(
    context: typer.Context,
    store: StoreArgument,
    segments: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="AudioSet's eval_segments.csv, as published, or PANNs' eval.h5."
        ),
    ],
    classes: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Write a table of all 527 classes.")
    ] = None,
    force: ForceOption = False,
    output: FormatOption = "text",
) -> None:
    """Compare the tags of a store with AudioSet's labels: mAP, AUC and d', in both definitions.

    Clips are recognised by the names of their files: ID.wav, YID.wav, ID_30.flac, ID_30_40.wav
    (in seconds) or ID_30000_40000.wav (milliseconds). A pack of PANNs with its waveforms is both
    the audio and the list. Means are over the classes that have a clip. Hardly anybody has the
    whole evaluation set, so the coverage is told with the figures.

    Example: soundalike eval audioset eval.soundalike --segments eval_segments.csv
    """
    require_use(context, ("force",), "--classes", is_met=classes is not None)
    with telling("comparing tags with labels"):
        from indexer.store.reader import Store
        from search.evaluation.audioset import evaluate_audioset, read_segments
        from search.output import require_file

        if classes:  # before the long work
            require_file(classes, ".csv", force=force)
        report = evaluate_audioset(Store.open(store), read_segments(segments))
    from soundalike.show.evaluations import audioset_data, audioset_lines, write_classes

    if classes:
        write_classes(report, classes, force=force)
    print_report(output, audioset_data(report), audioset_lines(report))


@app.command()
def labels(
    store: StoreArgument,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Columns path (or filename), label (or category) and, if there are official "
            "folds, fold. Default: the label is the folder that a file lies in.",
        ),
    ] = None,
    resamples: ResamplesOption = 1000,
    output: FormatOption = "text",
) -> None:
    """Judge a checkpoint by labels of your own: neighbours, k-NN and logistic regression.

    For each file: how many of the nearest others have its label, by the cosine of scenes and by its
    blend with tags; and whether a few files are near to many. And two probes, trained on all folds
    but one and tested on that. ESC-50's esc50.csv is read as it is.

    Example: soundalike eval labels esc50.soundalike --labels esc50.csv
    """
    with telling("comparing neighbours with labels"):
        from indexer.store.reader import Store
        from search.evaluation.labels import evaluate_labels, labels_of_folders, read_labels

        opened = Store.open(store)
        asked = read_labels(labels) if labels else labels_of_folders(opened)
        report = evaluate_labels(opened, asked, num_resamples=resamples)
    from soundalike.show.evaluations import labels_data, labels_lines

    print_report(output, labels_data(report), labels_lines(report))


@app.command()
def retrieval(
    context: typer.Context,
    audio: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Embeddings of sounds.")
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Embeddings of captions, each with its sound's id."),
    ] = None,
    score_matrix: Annotated[
        Path | None,
        typer.Option(
            metavar="NPZ",
            help="Scores of any model in place of embeddings: the arrays scores (captions x "
            "sounds), text_ids (of each caption, its sound's id) and audio_ids.",
        ),
    ] = None,
    ranks: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Write the rank of every query.")
    ] = None,
    resamples: ResamplesOption = 1000,
    force: ForceOption = False,
    output: FormatOption = "text",
) -> None:
    """Measure how well captions find sounds, and sounds find captions.

    A FILE is an .npz with the arrays ids and embeddings, or a .parquet with the columns id and
    embedding (or scene). Ranked by cosine; ties count against you. Papers count in two ways, and
    both are printed: 'Mei' takes the best caption of a sound, 'DCASE' all of them.

    Example: soundalike eval retrieval --audio sounds.npz --text captions.npz
    """
    require_use(context, ("force",), "--ranks", is_met=ranks is not None)
    require_use(context, ("audio", "text"), "no --score-matrix", is_met=score_matrix is None)
    from search.datasets.embedded import read_embedded, read_scores
    from search.evaluation.retrieval import evaluate_retrieval, evaluate_scores
    from search.output import require_file
    from soundalike.show.evaluations import retrieval_data, retrieval_lines, write_ranks

    if ranks:  # before the long work
        require_file(ranks, ".csv", force=force)
    with telling("ranking sounds and captions"):
        if score_matrix:
            report = evaluate_scores(read_scores(score_matrix), num_resamples=resamples)
        elif audio and text:
            sounds, captions = read_embedded(audio), read_embedded(text)
            report = evaluate_retrieval(sounds, captions, num_resamples=resamples)
        else:
            raise typer.BadParameter("give --audio and --text, or --score-matrix")
    if ranks:
        write_ranks(report, ranks, force=force)
    print_report(output, retrieval_data(report), retrieval_lines(report))


@app.command()
@takes(network=(Network,))
def robust(
    context: typer.Context,
    store: StoreArgument,
    *,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV", help="Columns path (or filename) and label: is what comes next alike?"
        ),
    ] = None,
    most: Annotated[
        int, number_option(int, 1, 1_000_000, "N", "Clips that are drawn, at most.", "--max")
    ] = 100,
    seed: Annotated[
        int, number_option(int, 0, 2**31, "N", "Of the drawing, the noise and the intervals.")
    ] = 0,
    resamples: ResamplesOption = 1000,
    ranks: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Write what became of every copy.")
    ] = None,
    network: Given,
    force: ForceOption = False,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Judge a checkpoint by changed copies of the store's own clips: are they found again?

    Clips are drawn from the audio and asked with as files: 20 dB quieter, in noise 20 dB below
    them, as MP3 of 64 kbit/s, cut to 1 and 3 s, moved by half a window, 5 % faster and slower. For
    each change: how often the own recording is found first and among ten, and how often the first
    other one has the same label. The audio has to be where it was.

    Example: soundalike eval robust recordings.soundalike --labels labels.csv
    """
    require_use(context, ("force",), "--ranks", is_met=ranks is not None)
    import soundalike
    from search.output import require_file
    from soundalike.show.evaluations import robust_data, robust_lines, write_asked

    if ranks:  # before the long work
        require_file(ranks, ".csv", force=force)
    with Bars(quiet=quiet) as bars:
        report = soundalike.open(store, **network, listen=bars).robust(
            labels, max_clips=most, seed=seed, num_resamples=resamples
        )
    if ranks:
        write_asked(report, ranks, force=force)
    print_report(output, robust_data(report), robust_lines(report))
    for failure in report.failures:
        say(failure)
    raise typer.Exit(3 if report.failures or report.num_absent else 0)
