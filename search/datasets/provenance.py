"""Which checkpoint a store was made with, and what a reader of its figures must know of that."""

from __future__ import annotations

import functools
import hashlib
from importlib.metadata import version
from pathlib import Path

from indexer.model.known import KNOWN_CHECKPOINTS, KnownCheckpoint
from indexer.store.reader import Store


def known_checkpoint(store: Store) -> KnownCheckpoint | None:
    """Return which of the known checkpoints a store was made with; None if it is none of them.

    A store keeps the name that was given, or the file; a file is known by its bytes.
    """
    if store.checkpoint in KNOWN_CHECKPOINTS:
        return KNOWN_CHECKPOINTS[store.checkpoint]
    path = Path(store.checkpoint)
    return _known_file(path) if path.is_file() else None


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
        "precision": ", ".join(precisions(store)),
        "native": str(store.identity.native).lower(),
        "written_by": f"soundalike {version('soundalike')}",
    }


def precisions(store: Store) -> tuple[str, ...]:
    """Return how the numbers of a store were computed: "fp32", "bf16", or both."""
    return tuple(sorted({part.origin.precision for part in store.parts() if part.num_windows}))


def training_note(store: Store) -> str | None:
    """Return what a reader of a table must know of its checkpoint; nothing of a published one."""
    known = known_checkpoint(store)
    if known is None:
        name = store.checkpoint
        return f"{name} is not a published checkpoint: what it was trained on is not known"
    if known.url is None:
        return f"{known.name} was trained on {known.trained_on}: its figures are no results"
    return None
