"""Captioned sounds in words: what of a table is there, what is wrong with it, what was written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from indexer.paths import printable
from search.datasets.finding import PATHS_ARE, Unused
from search.datasets.joined import Shared, Split
from soundalike.show.words import count, some_of


def split_lines(split: Split, what: str, num_captions: int) -> Iterator[str]:
    """Say what of a split is there.

    Args:
        split: Joined with a store.
        what: "clip" or "sound": what its sounds are called.
        num_captions: That are used.
    """
    present, missing = len(split.present), len(split.missing)
    share = f" ({present / split.num_wanted:.1%})" if split.num_wanted else ""
    yield (
        f"{split.name}: {present:,} of {count(split.num_wanted, what)}{share}, "
        f"{count(num_captions, 'caption')}; {missing:,} missing"
    )
    if split.num_empty:
        only = count(split.num_without_words, what)
        others = f"; {only} without any other" if split.num_without_words else ""
        yield f"  empty, and left out: {count(split.num_empty, 'caption')}{others}"


def much_missing_line(
    looked_for: Sequence[str], extra: Sequence[str], *, are_paths: bool = False
) -> str:
    """Say some names of what is missing, and some of what is there instead.

    Args:
        looked_for: What is missing.
        extra: What no table has.
        are_paths: Whether a table says where its sounds are.
    """
    names = ", ".join(map(printable, looked_for))
    there = ", ".join(map(printable, extra)) or "nothing"
    how = f", each {PATHS_ARE}" if are_paths else ""
    return f"much is missing: looked for {names} …{how}; in no table: {there}"


def unused_lines(unused: Unused) -> Iterator[str]:
    """Say what of a list of which file is which sound finds nothing."""
    if unused.paths:
        paths, names = count(len(unused.paths), "path"), _some_of(unused.paths)
        yield f"matches, of no file in the store: {paths}: {names}; looked for {PATHS_ARE}"
    if unused.ids:
        yield f"matches, of no sound in a table: {count(len(unused.ids), 'id')}: " + _some_of(
            unused.ids
        )


def shared_lines(shared: Sequence[Shared], what: str) -> Iterator[str]:
    """Say which tables have sounds in common.

    Args:
        shared: See `Source.shared`.
        what: "clip" or "sound": what their sounds are called.
    """
    for (first, second), number, example in shared:
        sounds = count(number, what)
        yield f"in both {first} and {second}: {sounds}, such as {printable(example)}"


def unused_data(unused: Unused) -> dict[str, list[str]]:
    """Return the same as plain data."""
    return {"unused_paths": list(unused.paths), "unused_ids": list(unused.ids)}


def shared_data(shared: Sequence[Shared]) -> list[dict[str, Any]]:
    """Return the same as plain data."""
    return [{**one._asdict(), "tables": list(one.tables)} for one in shared]


def _some_of(names: Sequence[str]) -> str:
    return printable(some_of(names))


def leak_line(leak: str) -> str:
    """Say what is wrong with evaluating on what was written."""
    return f"LEAK: {leak}; every file of embeddings says so"


def files_line(files: Sequence[Path]) -> str:
    """Say how many files were written, and where."""
    return f"{count(len(files), 'file')} in {files[0].parent}"
