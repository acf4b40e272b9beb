"""The commands about what is heard: `tag` and `tags`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from indexer import MAX_CHANNELS
from indexer.paths import printable
from indexer.progress import LOADING
from indexer.tags import DEFAULT_THRESHOLD
from soundalike.cli.bars import Bars, telling
from soundalike.cli.numbers import number_option
from soundalike.cli.options import (
    DurationOption,
    EndOption,
    FormatOption,
    Given,
    Network,
    QuietOption,
    StartOption,
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
    for file in files:
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
            document["padding"] = "zero"
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
    threshold: ThresholdOption = DEFAULT_THRESHOLD,
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
    if store is None:
        vocabulary = TagVocabulary.audioset().tags
        print_report(output, vocabulary_data(vocabulary), vocabulary_lines(vocabulary))
        return
    import soundalike

    with telling("counting"):
        counted = soundalike.open(store).tags(threshold)
    print_report(output, counted_data(counted), counted_lines(counted))
