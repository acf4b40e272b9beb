"""The commands about what is heard: `tag` and `tags`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

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
    network: Given,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Say what the model hears in audio files.

    It goes window by window; each line is a probability, the tag's index among the 527, and its
    name. Files that cannot be read are named at the end, and the exit code is 3.

    Example: soundalike tag --checkpoint demo --top 3 dog.wav
    """
    import soundalike
    from indexer.errors import QueryError
    from soundalike.show.fitting import fit_path, terminal_width
    from soundalike.show.runs import tagged_data, tagged_lines

    with Bars(quiet=quiet) as bars:
        bars(LOADING)  # the very name that comes next imports PyTorch
        model = soundalike.load_model(**network, listen=bars)
    heard, failures = [], []
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
                    listen=bars,
                )
        except QueryError as error:
            failures.append(str(error))
            continue
        if output == "json":
            heard.append({"file": str(file), "windows": tagged_data(windows)})
            continue
        name = fit_path(printable(str(file)), terminal_width())
        print_lines([name, *(f"  {line}" for line in tagged_lines(windows))])
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
