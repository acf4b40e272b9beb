"""Captioned sounds in words: what of a table is there, what is wrong with it, what was written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from indexer.paths import printable
from search.datasets.joined import Split
from soundalike.show.words import count


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


def much_missing_line(looked_for: Sequence[str], extra: Sequence[str]) -> str:
    """Say some names of what is missing, and some of what is there instead."""
    names = ", ".join(map(printable, looked_for))
    there = ", ".join(map(printable, extra)) or "nothing"
    return f"much is missing: looked for {names} …; in no table: {there}"


def leak_line(leak: str) -> str:
    """Say what is wrong with evaluating on what was written."""
    return f"LEAK: {leak}; every file of embeddings says so"


def files_line(files: Sequence[Path]) -> str:
    """Say how many files were written, and where."""
    return f"{count(len(files), 'file')} in {files[0].parent}"
