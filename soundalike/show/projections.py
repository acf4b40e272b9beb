"""What was learnt from captions, and written of it, as text for people and data for programs."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from indexer.paths import printable
from search.datasets.splits import Role
from search.projection.figures import RECALLS_AT
from search.projection.pairs import Joined
from search.projection.tables import Projected
from search.projection.training import Trained
from soundalike.show.captioned import (
    files_line,
    leak_line,
    much_missing_line,
    shared_data,
    shared_lines,
    split_lines,
    unused_data,
    unused_lines,
)
from soundalike.show.words import count


def trained_lines(store: Path, trained: Trained, own: Path | None = None) -> Iterator[str]:
    """Say what a projection was trained on, and how well captions find sounds by it.

    Args:
        store: The store.
        trained: What was trained.
        own: Where it is kept, if not in the store.
    """
    projection, told = trained.projection, trained.projection.provenance
    yield from _table_lines(trained.tables)
    yield from unused_lines(trained.unused)
    yield from shared_lines(trained.shared, "sound")
    for role, (number, example) in trained.left_out.items():
        yield (
            f"left out of {role}: {count(number, 'sound')} that val or test has as well, or that "
            f"sound the same, such as {example}"
        )
    roles = [role for role in get_args(Role) if role in told["splits"]]
    splits = ", ".join(f"{told['splits'][role]:,} for {role}" for role in roles)
    yield f"sounds: {splits}"
    yield (
        f"text encoder {told['text_encoder']}, {projection.dim} dimensions; trained for "
        f"{count(told['num_epochs'], 'epoch')}, best after {told['best_epoch']:,}"
    )
    if told["num_epochs"] and not told["best_epoch"]:
        yield "nothing was learned: no epoch was better than the random start, which was kept"
    for role in roles[1:]:
        figures, num_sounds = told["figures"][role], told["splits"][role]
        # A recall among as many as there are is 100 % of any model.
        known = [f"R@{k} {figures[f'R@{k}']:.1%}" for k in RECALLS_AT if k < num_sounds]
        known.append(f"median rank {figures['median rank']:.0f} of {num_sounds:,}")
        yield f"{role}, text to audio: {', '.join(known)}"
    if told["leak"] != "none":
        yield leak_line(told["leak"])
    elif trained.note:
        yield trained.note
    if trained.written:
        yield files_line(trained.written.files)
    at = shlex.quote(printable(str(store)))
    kept = f" --own {shlex.quote(printable(str(own)))}" if own else ""
    asked = f"soundalike search {at}{kept} --text WORDS --projection {projection.name}"
    first = "" if trained.has_index else f"soundalike build {at}, and then "
    yield f"projection {projection.name} of {printable(str(store))}; {first}{asked}"


def trained_data(trained: Trained) -> dict[str, Any]:
    """Return the same as plain data."""
    return {
        "name": trained.projection.name,
        **trained.projection.provenance,
        "training_note": trained.note,
        **unused_data(trained.unused),
        "shared": shared_data(trained.shared),
        "files": [str(path) for path in trained.written.files] if trained.written else [],
    }


def projected_lines(report: Projected) -> Iterator[str]:
    """Say what of each table is there, and what is wrong with it."""
    yield from _table_lines(report.tables)
    yield from unused_lines(report.unused)
    yield from shared_lines(report.shared, "sound")
    for name, number in report.num_heard.items():
        if number:
            yield f"{name}: the projection was trained on {number:,} of them; its files say so"
    if report.leak:
        yield leak_line(report.leak)
    yield files_line(report.files)


def projected_data(report: Projected) -> dict[str, Any]:
    """Return the same as plain data."""
    return {
        "tables": {
            one.table.name: {
                "num_sounds": len(one.pairs.ids),
                "num_captions": len(one.pairs.owners),
                "num_missing": len(one.split.missing),
                "num_trained_on": report.num_heard[one.table.name],
            }
            for one in report.tables
        },
        **unused_data(report.unused),
        "shared": shared_data(report.shared),
        "leak": report.leak,
        "files": [str(path) for path in report.files],
    }


def _table_lines(tables: Sequence[Joined]) -> Iterator[str]:
    for one in tables:
        split = one.split
        yield from split_lines(split, "sound", len(one.pairs.owners))
        if one.num_without_text:
            yield f"  without a vector of text: {count(one.num_without_text, 'sound')}"
        if split.num_of_several_windows:
            several = count(split.num_of_several_windows, "sound")
            yield f"  longer than one window, of which the first counts: {several}"
        if one.looked_for:
            are_paths = one.table.form == "paths"
            yield f"  {much_missing_line(one.looked_for, one.extra, are_paths=are_paths)}"
