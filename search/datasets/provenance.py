"""Which checkpoint a store was made with, and what a reader of its figures must know of that."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from indexer.model.known import KNOWN_CHECKPOINTS, KnownCheckpoint, known_by_weights
from indexer.store.reader import Store


class Computed(NamedTuple):
    """How some of a store's windows were computed.

    Attributes:
        precision: "fp32" or "bf16".
        device: Such as "cpu", or what a GPU calls itself.
        num_windows: How many are stored.
    """

    precision: str
    device: str
    num_windows: int

    def __str__(self) -> str:
        return f"{self.precision} on {self.device}"


def how_computed(store: Store) -> tuple[Computed, ...]:
    """Return at which precisions, and where, a store's windows were computed; most first."""
    counts: Counter[tuple[str, str]] = Counter()
    for part in store.parts():
        counts[part.origin.precision, part.origin.device] += part.num_windows
    return tuple(Computed(*how, number) for how, number in counts.most_common() if number)


def precision_of(store: Store) -> str:
    """Return the same in words: "fp32 on cpu"; where it is mixed, all, each with its share."""
    return in_words(how_computed(store))


def in_words(computed: Sequence[Computed]) -> str:
    """Say how windows were computed; where it is mixed, of what share each is true."""
    total = sum(one.num_windows for one in computed)
    if len(computed) == 1:
        return str(computed[0])
    each = (f"{one} ({one.num_windows / total:.0%} of the windows)" for one in computed)
    return ", ".join(each) or "nothing yet"


def known_checkpoint(store: Store) -> KnownCheckpoint | None:
    """Return which of the known checkpoints a store was made with; None if it is none of them.

    What counts is the weights, whose digest a store has: by what this user's files have taught of
    it, then by the word of the store. A store from before it kept that has the name that was given,
    or the file, which is known by its bytes.
    """
    weights = store.identity.weights
    if by_weights := known_by_weights(weights):
        return by_weights
    path = Path(store.checkpoint)
    told = KNOWN_CHECKPOINTS.get(store.known or store.checkpoint)
    told = told or (_known_file(path) if path.is_file() else None)
    # A file may have been replaced, and a name may lie: these weights are others.
    is_another = told is not None and told.weights not in (None, weights)
    return None if is_another else told


@functools.cache
def _known_file(path: Path) -> KnownCheckpoint | None:
    """Read a checkpoint's 100 MB only once, however often it is asked for."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return next((one for one in KNOWN_CHECKPOINTS.values() if one.md5 == digest), None)


def store_provenance(store: Store) -> dict[str, str]:
    """Return what files that were made of a store say of it."""
    known = known_checkpoint(store)
    return {
        "checkpoint": store.checkpoint,
        "weights": store.identity.weights,
        "trained_on": known.trained_on if known else "unknown",
        "precision": precision_of(store),
        "native": str(store.identity.native).lower(),
        "padding": store.identity.padding,
        "level": store.identity.level,
        "written_by": f"soundalike {version('soundalike')}",
    }


def padding_note(store: Store) -> str | None:
    """Return how windows differ from those of published figures; nothing if they do not."""
    notes = []
    if store.identity.padding != "zero":
        notes.append(
            "windows repeat audio that is shorter than they are (padding repeat); published "
            "figures are of such audio with silence after it (padding zero)"
        )
    if store.identity.level != "off":
        notes.append(
            "windows are brought to one loudness (level rms); published figures are of audio as "
            "loud as it is (level off)"
        )
    return "; ".join(notes) or None


def training_note(store: Store) -> str | None:
    """Return what a reader of a table must know of its checkpoint; nothing of a published one."""
    known = known_checkpoint(store)
    if known is None:
        name = store.checkpoint
        return f"{name} is not a published checkpoint: what it was trained on is not known"
    if known.md5 is None:
        return f"{known.name} is known by its name only: no digest of its file is published"
    if known.url is None:
        return f"{known.name} was trained on {known.trained_on}: its figures are no results"
    return None
