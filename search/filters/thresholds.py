"""From which probability on each tag is heard: measured on labels, kept beside a store.

    samples.soundalike/own/thresholds.json

They are of one network: another one's probabilities mean something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from indexer.arrays import Float32
from indexer.errors import (
    IdentityError,
    NotAsWrittenError,
    OutputError,
    QueryError,
    StoreError,
)
from indexer.store.own import Own
from indexer.store.part import reading
from indexer.store.reader import Store
from indexer.store.schema import NUM_TAGS
from indexer.tags import DEFAULT_THRESHOLD, Tag, TagVocabulary

#: What the document is called.
NAME = "thresholds"
_FORMAT = 1
#: What to do about thresholds that are damaged.
_REMEDY = "bring them back from a copy, or measure them again"


class TagThreshold(NamedTuple):
    """What was measured of one tag, as it is asked for: with all that is below it.

    Attributes:
        tag: Of the vocabulary.
        threshold: Probability from which on it is heard; None if none was found.
        positives: Files that have it, or something below it.
        unknown: Files of which the labels do not tell: they name something above it.
        predicted: Files in which it is heard at the threshold; 0 without one.
        right: Those of them that have it.
        reason: Why there is no threshold; empty if there is one.
    """

    tag: Tag
    threshold: float | None
    positives: int
    unknown: int
    predicted: int = 0
    right: int = 0
    reason: str = ""

    @property
    def precision(self) -> float | None:
        """Share of the files in which it is heard that have it; None if it is heard in none."""
        return self.right / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Share of the files that have it in which it is heard; None if none has it."""
        return self.right / self.positives if self.positives else None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What was measured of each tag that labels name.

    Attributes:
        tags: By name.
        precision: What was to be reached.
        num_files: Files with labels that the store has.
        num_missing: Files with labels that it has not.
        labels: Name of the file with the labels.
        checkpoint: What the store was made with.
        weights: Its weights, as a store's identity has them.
        padding: What followed audio that is shorter than a window there.
        level: What was done to the loudness of windows there.
    """

    tags: tuple[TagThreshold, ...]
    precision: float
    num_files: int
    num_missing: int
    labels: str
    checkpoint: str
    weights: str
    padding: str
    level: str

    def of_outputs(self) -> Float32:
        """Return (527,) from which probability on each tag is heard: unmeasured, the usual."""
        found = np.full(NUM_TAGS, DEFAULT_THRESHOLD, np.float32)
        for one in self.tags:
            if one.threshold is not None and one.tag.index is not None:
                found[one.tag.index] = one.threshold
        return found


def require_none(own: Own, *, force: bool) -> None:
    """Make sure, before the long work, that thresholds may be kept.

    Raises:
        OutputError: If there are some already, unless by `force`.
    """
    if NAME in own.names() and not force:
        raise OutputError(f"{_file(own)} is there already", about="force")


def keep(own: Own, thresholds: Thresholds, *, force: bool = False) -> None:
    """Write thresholds, whole or not at all.

    Raises:
        OutputError: If there are some already, unless by `force`.
        StoreError: If they cannot be written.
    """
    require_none(own, force=force)
    tags = {
        one.tag.mid: {"name": one.tag.name, **{name: getattr(one, name) for name in _MEASURED}}
        for one in thresholds.tags
    }
    beside = {name: getattr(thresholds, name) for name in _BESIDE}
    own.write(NAME, {"format": _FORMAT, **beside, "tags": tags})


def read(own: Own, store: Store) -> Thresholds:
    """Return the thresholds that are kept for a store.

    Raises:
        QueryError: If there are none.
        IdentityError: If they were measured with another network.
        DamagedStoreError: If they are not as they were written.
        StoreError: If they cannot be read, or another version of the program wrote them.
    """
    document = own.read(NAME)
    if not document:
        raise QueryError(
            f"{store.path} has no thresholds of its own, which are measured on labelled files",
            about="thresholds",
            value=store.path,
        )
    thresholds = _understood(own, document)
    _require_same(thresholds, store)
    return thresholds


def are_kept(own: Own) -> bool:
    """Whether thresholds are kept for a store, be they as they should or not."""
    return bool(own.read(NAME))


def problems(own: Own) -> Iterator[tuple[Path, StoreError]]:
    """Yield the file of thresholds if it is whole and says what cannot be, and why."""
    document: dict[str, Any] = {}
    with suppress(StoreError):  # `Own.problems` says so
        document = own.read(NAME)
    try:
        if document:
            _understood(own, document)
    except StoreError as error:
        yield _file(own), error


def _require_same(thresholds: Thresholds, store: Store) -> None:
    for name in ("padding", "level"):
        there, here = getattr(thresholds, name), getattr(store.identity, name)
        if there != here:
            raise IdentityError(
                f"thresholds were measured with another {name} than {store.path} was made with",
                {name: (there, here)},
                f"{name} {there} there and {here} here",
                "Measure them on this store",
            )
    theirs, ours = thresholds.weights, store.identity.weights
    if theirs != ours:
        raise IdentityError(
            f"thresholds were measured with another checkpoint, {thresholds.checkpoint}, than "
            f"{store.path} was made with",
            {"weights": (theirs, ours)},
            f"weights {theirs[:12]} there and {ours[:12]} here",
            "Measure them on this store",
        )


def _file(own: Own) -> Path:
    return own.folder / f"{NAME}.json"


#: What is kept of a tag beside what it is called, and what each is.
_MEASURED = {
    "threshold": (float, int, type(None)),
    "positives": (int,),
    "unknown": (int,),
    "predicted": (int,),
    "right": (int,),
    "reason": (str,),
}
#: What is kept beside the tags.
_BESIDE = {
    "precision": (float, int),
    "num_files": (int,),
    "num_missing": (int,),
    "labels": (str,),
    "checkpoint": (str,),
    "weights": (str,),
    "padding": (str,),
    "level": (str,),
}


def _understood(own: Own, document: Mapping[str, Any]) -> Thresholds:
    """Return what a document says.

    Raises:
        StoreError: If it cannot be, or another version of the program wrote it.
    """
    if document.get("format") != _FORMAT:
        raise StoreError(f"{_file(own)} was written by another version of soundalike; {_REMEDY}")
    with reading(_file(own), _REMEDY):
        known = {tag.mid: tag for tag in TagVocabulary.audioset().nodes}
        tags = [
            TagThreshold(known[mid], **_taken(measured, _MEASURED))
            for mid, measured in document["tags"].items()
        ]
        if not all(0 <= (one.threshold or 0) <= 1 for one in tags):
            raise NotAsWrittenError("a threshold of it is no probability")
        by_name = sorted(tags, key=lambda one: one.tag.name)
        beside = {"level": "off", **document}  # what was written before it could be told
        return Thresholds(tuple(by_name), **_taken(beside, _BESIDE))


def _taken(document: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]]) -> dict[str, Any]:
    for name, some in kinds.items():
        if not isinstance(document[name], some) or isinstance(document[name], bool):
            raise NotAsWrittenError(f"its {name} is not what it should be")
    return {name: document[name] for name in kinds}
