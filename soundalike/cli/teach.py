"""The commands by which a store is taught: `label`, `learn` and `review`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from soundalike.cli.bars import Bars
from soundalike.cli.numbers import number_option
from soundalike.cli.options import ForceOption, FormatOption, OwnOption, QuietOption, StoreArgument
from soundalike.cli.printing import print_report

NameArgument = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Of your tag: small letters, digits and _, as in rattle."),
]


def _ids(name: str, text: str) -> Any:
    return typer.Option(
        f"--{name}", metavar="ID…", help=f"Windows {text}: their ids. May be repeated."
    )


def label(
    store: StoreArgument,
    name: NameArgument,
    *,
    yes: Annotated[list[str] | None, _ids("yes", "with the sound")] = None,
    no: Annotated[list[str] | None, _ids("no", "without it")] = None,
    unsure: Annotated[list[str] | None, _ids("unsure", "of which nobody can tell")] = None,
    by: Annotated[str | None, typer.Option(metavar="WHO", help="Who says so.")] = None,
    via: Annotated[
        Literal["found", "top", "margin", "random", "diverse"],
        typer.Option(help="How they were found: as 'review --by' has proposed them, or by you."),
    ] = "found",
    labels: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Read labels: a table (window_id, or path, start, end; says yes, no, unsure), a "
            "label track of Audacity's (.txt), or another store's (.jsonl).",
        ),
    ] = None,
    undo: Annotated[
        bool, typer.Option("--undo", help="Take the last word back; of an import all.")
    ] = False,
    table: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="Write all labels of NAME as a table (.csv)."
        ),
    ] = None,
    force: ForceOption = False,
    own: OwnOption = None,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Say of windows whether a sound is in them.

    Words are kept in STORE, one after the other; the last on a window counts. From some yes and no,
    'soundalike learn' makes a tag. Ids are those that 'search --format json' and 'review' print.
    Without an option, all labels of NAME are listed.

    Example: soundalike label birds.soundalike rattle --yes 8213490123 --no 123,456
    """
    import soundalike
    from soundalike.show.teaching import (
        counted,
        imported_lines,
        labels_data,
        labels_lines,
        undone_line,
    )

    if table:
        from search.output import require_file

        require_file(table, ".csv", force=force)  # before anything is said
    sounds = soundalike.open(store, own=own)
    given = {"yes": _read(yes), "no": _read(no), "unsure": _read(unsure)}
    told: list[str] = []
    if any(given.values()):
        said = sounds.label(name, **given, by=by, via=via)
        told.append(f"labelled: {counted(said)}")
    if labels:
        told += imported_lines(labels, sounds.import_labels(name, labels))
    if undo:
        told.append(undone_line(sounds.undo_label(name)))
    if table:
        sounds.export_labels(name, table, force=force)
        told.append(f"written: {table}")
    every, hits = sounds.labelled_hits(name)
    lines = told if told else list(labels_lines(name, every, hits))
    print_report(output, labels_data(name, every, hits), lines, quiet=quiet)


def learn(
    store: StoreArgument,
    name: NameArgument,
    *,
    share: Annotated[
        Path | None,
        typer.Option(
            "--share",
            metavar="FILE",
            help="Write what was learned, for other stores; learn it only if it was not yet.",
        ),
    ] = None,
    taken: Annotated[
        Path | None,
        typer.Option(
            "--import", metavar="FILE", help="Do not learn: take what was shared, and call it NAME."
        ),
    ] = None,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="Do not learn: remove what was learned. Labels stay."),
    ] = False,
    force: ForceOption = False,
    own: OwnOption = None,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Learn a tag from labels.

    Five yes and some no are a beginning. The tag is called my.NAME wherever tags are: --tag
    my.NAME, --where "my.NAME > 0.8", in batch and in facets. It is heard from 0.5 on. How
    often it is right is estimated from windows that 'review --by random' has drawn.

    Example: soundalike learn birds.soundalike rattle
    """
    import soundalike
    from soundalike.show.teaching import estimate_data, estimate_lines, lesson_data, lesson_lines

    if forget and (share or taken):
        raise typer.BadParameter("--forget goes with neither --share nor --import")
    with Bars(quiet=quiet) as bars:
        sounds = soundalike.open(store, own=own, listen=bars)
        if forget:
            sounds.forget_learned(name)
            data: Any = {"name": name}
            lines = [f"my.{name}: forgotten; its labels stay"]
        elif taken:
            tag = sounds.import_learned(taken, name, force=force)
            data = {"name": tag.name, **tag.told}
            lines = [f"my.{tag.name}: taken from {taken}"]
        elif share and name in sounds.learned_names():
            data, lines = (
                {"name": name, **sounds.learned(name).told},
                [f"my.{name}: as it was learned before"],
            )
        else:
            lesson = sounds.learn(name)
            estimates = sounds.estimates(name)
            data = {**lesson_data(lesson), "estimates": [estimate_data(one) for one in estimates]}
            lines = list(lesson_lines(store, lesson))
            if any(one.num_judged for one in estimates):
                lines += estimate_lines(estimates)
    if share:
        sounds.share_learned(name, share, force=force)
        lines.append(f"written: {share}")
    print_report(output, data, lines, quiet=quiet)


def review(
    store: StoreArgument,
    name: NameArgument,
    *,
    by: Annotated[
        Literal["top", "margin", "random", "diverse"],
        typer.Option(
            help="top: most probable; margin: least sure; random: drawn, which alone tells how "
            "often the tag is right; diverse: probable, and unlike each other."
        ),
    ] = "top",
    k: Annotated[int, number_option(int, 1, 10_000, "K", "How many windows.", "-k")] = 20,
    own: OwnOption = None,
    output: FormatOption = "text",
    quiet: QuietOption = False,
) -> None:
    """Say which windows to label next.

    None that is labelled, and of each recording one at most, but for those drawn at random. Listen
    to them, and say what you hear with 'soundalike label', or with keys on the page that
    'soundalike serve' opens.

    Example: soundalike review birds.soundalike rattle --by margin -k 10
    """
    import soundalike
    from soundalike.show.teaching import review_data, review_lines

    hits = soundalike.open(store, own=own).review(name, by, k)
    print_report(
        output, review_data(name, by, hits), review_lines(store, name, by, hits), quiet=quiet
    )


def _read(given: list[str] | None) -> list[int]:
    """Return the ids in some words: several may stand in one, between commas or spaces."""
    words = [word for one in given or () for word in re.split(r"[,\s]+", one.strip()) if word]
    wrong = [word for word in words if not re.fullmatch("[0-9]{1,19}", word)]
    if wrong:
        raise typer.BadParameter(f"{wrong[0]!r} is no id of a window")
    return [int(word) for word in words]
