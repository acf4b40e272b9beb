"""What is taught of a store: each name that has labels, or a tag that was learned from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from indexer.errors import StoreError
from indexer.store.own import Own
from search.learned import tags
from search.learned.labels import LabelBook, Says, said_counts
from search.learned.labels import names as labelled_names


@dataclass(frozen=True, slots=True)
class Taught:
    """A name that is taught.

    Attributes:
        name: Without the prefix.
        counts: Labels by what they say: yes, no and unsure; nothing where they cannot be read.
        is_learned: Whether there is a learned tag of it.
        trouble: Why its labels cannot be read; None if they can.
    """

    name: str
    counts: Mapping[Says, int]
    is_learned: bool
    trouble: str | None = None


def taught(own: Own) -> list[Taught]:
    """Return all that is taught, sorted by name; a damaged file hides no other.

    Raises:
        StoreError: If the folders cannot be listed.
    """
    learned = set(tags.names(own))
    return [
        _taught(own, name, name in learned) for name in sorted({*labelled_names(own), *learned})
    ]


def _taught(own: Own, name: str, is_learned: bool) -> Taught:
    try:
        said = LabelBook(own, name).current().values()
    except StoreError as error:
        return Taught(name, {}, is_learned, str(error))
    return Taught(name, said_counts(said), is_learned)
