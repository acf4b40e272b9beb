"""The commands about what is heard: `tag`, `tags` and `thresholds`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from indexer import MAX_CHANNELS
from indexer.paths import as_place, printable
from indexer.progress import LOADING
from indexer.tags import DEFAULT_PRECISION, DEFAULT_THRESHOLD
from soundalike.cli.bars import Bars, telling
from soundalike.cli.numbers import number_option
from soundalike.cli.options import (
    DurationOption,
    EndOption,
    ForceOption,
    FormatOption,
    Given,
    MeasuredOption,
    Network,
    OwnOption,
    QuietOption,
    StartOption,
    StoreArgument,
    ThresholdOption,
    takes,
)
from soundalike.cli.printing import print_lines, print_report, say
from soundalike.cli.usage import require_use


@takes(network=(Network,))
def tag(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", help="Audio files, or parts of them: FILE@31:10-31:13."),
    ],
    *,
    start: StartOption = None,
    end: EndOption = None,
    duration: DurationOption = None,
    threshold: ThresholdOption = DEFAULT_THRESHOLD,
    top: Annotated[
        int | None, number_option(int, 1, 527, "N", "At most N tags per window.")
    ] = None,
    channel: Annotated[
        int | None,
        number_option(int, 1, MAX_CHANNELS, "N", "Channel, from 1. Default: the mean of all."),
    ] = None,
    native: Annotated[
        bool,
        typer.Option("--native", help="Take each file as one window of its own length, unpadded."),
    ] = False,
    native_max: Annotated[
        float,
        number_option(
            float, 0.25, 600, "S", "With --native, what is longer is in windows of 10 s."
        ),
    ] = 60.0,
    frames: Annotated[
        Literal["pooled", "full"] | None,
        typer.Option(
            help="Print the shapes of the embeddings; of frames averaged over frequency, time x "
            "768, or of all, 768 x time x 7."
        ),
    ] = None,
    by_index: Annotated[
        bool, typer.Option("--by-index", help="Tags in the order of AudioSet.")
    ] = False,
    network: Given,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Say what the model hears in audio files.

    It goes window by window; each line is a probability, the tag's index among the 527, and its
    name. JSON has logits, too, and the shapes of the embeddings. Files that cannot be read are
    named at the end, and the exit code is 3.

    Example: soundalike tag --checkpoint demo --top 3 dog.wav
    """
    require_use(context, ("native_max",), "--native", is_met=native)
    import soundalike
    from indexer.errors import QueryError
    from soundalike.show.fitting import fit_path, terminal_width
    from soundalike.show.runs import tagged_data, tagged_lines

    with Bars(quiet=quiet) as bars:
        bars(LOADING)  # the very name that comes next imports PyTorch
        model = soundalike.load_model(**network, listen=bars)
    heard, failures = [], []
    if output == "text":
        how = f"{model.precision} on {model.device_name}, padding zero"
        print_lines([f"what {model.checkpoint.name} hears, at {how}"])
    for file in map(as_place, files):
        try:
            with Bars(quiet=quiet) as bars:
                windows = model.tag(
                    file,
                    threshold=threshold,
                    top=top,
                    start=start,
                    end=end,
                    duration=duration,
                    channel=channel,
                    native=native,
                    native_max_s=native_max,
                    listen=bars,
                )
        except QueryError as error:
            failures.append(str(error))
            continue
        if output == "json":
            document = {"file": str(file), "checkpoint": model.checkpoint.name}
            document |= {"precision": model.precision, "device": model.device_name}
            document |= {"padding": "zero", "level": "off"}
            told = tagged_data(windows, frames, by_index=by_index)
            heard.append({**document, "windows": told})
            continue
        name = fit_path(printable(str(file)), terminal_width())
        lines = tagged_lines(windows, frames, by_index=by_index)
        print_lines([name, *(f"  {line}" for line in lines)])
    if output == "json":
        typer.echo(json.dumps(heard, indent=1))
    for failure in failures:
        say(failure)
    raise typer.Exit(3 if failures else 0)


def tags(
    context: typer.Context,
    store: Annotated[
        Path | None, typer.Argument(help="Count in how many windows of STORE each was heard.")
    ] = None,
    threshold: MeasuredOption = DEFAULT_THRESHOLD,
    own: OwnOption = None,
    output: FormatOption = "text",
) -> None:
    """List the 527 tags.

    Each line is the tag's index, its AudioSet id and its name. With a STORE, a count comes first,
    and the most frequent tag is at the top.

    Example: soundalike tags recordings.soundalike
    """
    from indexer.tags import TagVocabulary
    from soundalike.show.tags import counted_data, counted_lines, vocabulary_data, vocabulary_lines

    require_use(context, ("threshold",), "a STORE", is_met=store is not None)
    require_use(context, ("own",), "--threshold auto", is_met=str(threshold) == "auto")
    if store is None:
        vocabulary = TagVocabulary.audioset().tags
        print_report(output, vocabulary_data(vocabulary), vocabulary_lines(vocabulary))
        return
    import soundalike

    with telling("counting"):
        sounds = soundalike.open(store, own=own)
        counted = sounds.tags(threshold)
        mine = [f"my.{name}" for name in sounds.learned_names()]
    print_report(output, counted_data(counted), counted_lines(counted))
    if mine:
        say(f"and tags of your own: {', '.join(mine)}; 'soundalike info' tells more")


def thresholds(
    context: typer.Context,
    store: StoreArgument,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A CSV with the columns path (or filename) and tag (or label): several with ; "
            "between or in rows of their own. Or AudioSet's list of segments, or PANNs' eval.h5. "
            "Default: print what is kept.",
        ),
    ] = None,
    precision: Annotated[
        float,
        number_option(float, 0.01, 0.99, "P", "Share that has to be right of what is heard."),
    ] = DEFAULT_PRECISION,
    own: OwnOption = None,
    force: ForceOption = False,
    output: FormatOption = "text",
) -> None:
    """Measure from which probability on each tag is heard, for '--threshold auto'.

    One threshold is wrong for 527 tags. For each tag that the labels name, this takes the lowest
    one that is right often enough on the labelled files, as far as so few can tell, and keeps it
    with the store. A tag that fewer than 5 files have gets none.

    Example: soundalike thresholds recordings.soundalike --labels heard.csv
    """
    require_use(context, ("precision", "force"), "--labels", is_met=labels is not None)
    import soundalike
    from soundalike.show.tags import thresholds_data, thresholds_lines

    with telling("comparing tags with labels"):
        found = soundalike.open(store, own=own).thresholds(labels, precision=precision, force=force)
    print_report(output, thresholds_data(found), thresholds_lines(found))
