"""Tables of captions for training: which form each has, and which split it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from indexer.errors import SoundalikeError
from indexer.store.reader import Store
from search.datasets.captions import (
    Captioned,
    Form,
    form_of,
    read_audiocaps,
    read_clotho,
    read_paths,
    split_names,
)
from search.datasets.consent import Consent
from search.datasets.finding import Dataset, Unused, unused
from search.datasets.leaks import require_no_leak
from search.datasets.matches import matches_of
from search.datasets.splits import Role, role_of

#: Whose sounds the tables of each form are about.
DATASETS: Mapping[Form, Dataset] = {"audiocaps": "AudioCaps", "clotho": "Clotho", "paths": "paths"}


class Table(NamedTuple):
    """The captions of a split.

    Attributes:
        name: Of its file, without the suffix.
        form: What it looks like.
        role: What it is for; None if no word of its name says so.
        captions: By sound, in the order of the table.
    """

    name: str
    form: Form
    role: Role | None
    captions: list[Captioned]


def read_tables(paths: Sequence[Path], form: Form | None = None) -> list[Table]:
    """Read some tables of captions.

    Args:
        paths: A CSV per split; a word of its name says which, see `role_of`.
        form: What they look like; None to tell by the columns of each.

    Raises:
        SoundalikeError: If one cannot be read, or has no such columns; or two have one name.
    """
    if form is not None and form not in get_args(Form):
        raise SoundalikeError(f"captions are {', '.join(get_args(Form))}, got {form!r}")
    read = {"audiocaps": read_audiocaps, "clotho": read_clotho, "paths": read_paths}
    tables = []
    for name, path in zip(split_names(paths), paths, strict=True):
        found = form or form_of(path)
        tables.append(Table(name, found, role_of(name), read[found](path)))
    return tables


def read_matches(
    store: Store, match: Path | None, tables: Sequence[Table]
) -> tuple[dict[str, str], Unused]:
    """Read which file is which sound, and what of that is to no avail.

    Args:
        store: With the sounds in it.
        match: See `matches_of`; None if nobody says it.
        tables: Of captions.

    Raises:
        SoundalikeError: If it cannot be read, or none of its files or sounds is there.
    """
    captions = [one.captions for one in tables]
    matches = {} if match is None else matches_of(match, captions)
    return matches, unused(store, matches, captions)


def for_training(tables: Sequence[Table]) -> list[Table]:
    """Return tables of which each is for something; one alone is for training, if nothing says so.

    Raises:
        SoundalikeError: If there are several, and the name of one says no split.
    """
    unsaid = [one for one in tables if one.role is None]
    if unsaid and len(tables) > 1:
        raise SoundalikeError(
            f"{unsaid[0].name} does not say which split it is; call it train, val or test"
        )
    return [one._replace(role=one.role or "train") for one in tables]


def measured(tables: Sequence[Table]) -> list[Table]:
    """Return the tables, and once more for val those of which a part is held out for it."""
    if any(one.role == "val" for one in tables):
        return list(tables)
    return [*tables, *(one._replace(role="val") for one in tables if one.role == "train")]


def require_no_leaks(store: Store, tables: Sequence[Table], consent: Consent) -> str | None:
    """Stop before a checkpoint is measured on clips that it has heard: see `require_no_leak`.

    A table that does not say what it is for counts as one that is measured on. Tables of one's own
    say nothing of where their sounds are from, and are not guarded.
    """
    found = None
    for form, dataset in DATASETS.items():
        roles = [one.role or one.name for one in tables if one.form == form]
        if roles and form != "paths":
            found = found or require_no_leak(store, dataset, roles, consent)
    return found
