"""Learned tags: what was learned from labels, kept beside a store, as a column like any other.

    samples.soundalike/own/learned/NAME.json

In filters it is called my.NAME, and is heard from 0.5 on: learning has cut it there.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np

from indexer.arrays import Float16, Float32, Integers
from indexer.errors import IdentityError, NotAsWrittenError, QueryError, StoreError
from indexer.store.disk import LOCK_SUFFIX, read_sealed, require_own_folder, seal, sync_folder
from indexer.store.disk import writing as writing_store
from indexer.store.lock import locked
from indexer.store.own import Own
from indexer.store.part import reading
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from search.filters.computed import computed_once
from search.filters.tags import LEARNED_PREFIX
from search.generation.segments import Rows, Segment
from search.learned.labels import require_name
from search.learned.line import Line
from search.output import writing

LEARNED_FOLDER = "learned"
_FORMAT = 1
_REMEDY = "bring it back from a copy, or learn it again"
#: Rows whose probabilities are computed at a time: 2 MB of roots, which stay in the cache.
_BLOCK_ROWS = 1024
_NUM_WEIGHTS = EMBEDDING_DIM + NUM_TAGS


@dataclass(frozen=True)
class LearnedTag:
    """A tag that was learned.

    Attributes:
        name: Without the prefix.
        line: What was learned.
        weights: Digest of the checkpoint whose embeddings it was learned on.
        how: What else the embeddings have to agree in: padding and level.
        told: What it rests on, for people: how many labels said what, figures, versions, when.
        held_back: Id of each window that was learned from → its log of odds by what was learned
            from other recordings; NaN where there were too few.
    """

    name: str
    line: Line
    weights: str
    how: Mapping[str, str]
    told: Mapping[str, Any] = field(default_factory=dict)
    held_back: Mapping[int, float] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Of the line, in hex."""
        content = self.line.weights.tobytes() + np.float64(self.line.bias).tobytes()
        return hashlib.sha256(content).hexdigest()

    def column(self, segment: Segment) -> Float16:
        """Return (num_rows,) float16 probabilities of a segment's rows, computed once."""
        return computed_once(segment, self.name, self.digest, lambda: self._compute(segment))

    def logits(self, scenes: Float32, tags: Float16 | Float32) -> Float32:
        """Return (n,) float32 logs of odds of some windows."""
        with np.errstate(invalid="ignore", over="ignore"):  # what is damaged is never found
            return self.line.logits_of(scenes, tags)

    def heard_in(self, segment: Segment, rows: Integers | slice) -> Float16:
        """Return (n,) float16 probabilities of a few rows, without all of `column`."""
        scenes = segment.arrays.get("scenes", segment.vectors)  # where vectors are projected ones
        return probabilities(self.logits(scenes[rows], segment.tags[rows]))

    def _compute(self, segment: Segment) -> Float16:
        found = np.empty(len(segment), np.float16)
        for first in range(0, len(found), _BLOCK_ROWS):
            block = slice(first, first + _BLOCK_ROWS)
            found[block] = self.heard_in(segment, block)
        return found


def probabilities(logits: Float32) -> Float16:
    """Return float16 probabilities of logs of odds."""
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-logits)), np.float16)


def probabilities_of(rows: Rows, tag: LearnedTag, at: Integers) -> Float32:
    """Return (n,) float32 probabilities of a tag in some rows."""
    found = np.empty(len(at), np.float32)
    for segment, local, where in rows.locate(at):
        found[where] = tag.column(segment)[local]
    return found


def names(own: Own) -> list[str]:
    """Return the names of the learned tags, sorted, without the prefix.

    Raises:
        StoreError: If the folder cannot be listed, or is a link.
    """
    return _folder(own).names()


def read(own: Own, name: str, store: Store) -> LearnedTag:
    """Read a learned tag.

    Raises:
        QueryError: If there is none of that name.
        IdentityError: If it was learned on another checkpoint, or another kind of windows.
        DamagedStoreError: If it is not as it was written.
    """
    file = _folder(own).folder / f"{require_name(name)}.json"
    document = _folder(own).read(name)
    if not document:
        there = ", ".join(f"{LEARNED_PREFIX}{one}" for one in names(own))
        raise QueryError(
            f"{store.path} has no learned tag {LEARNED_PREFIX}{name}; "
            f"{f'it has {there}' if there else 'it has none yet'}",
            about="learn",
            value=(store.path, name),
        )
    return require_fitting(_parse(document, file, name), store)


def read_all(own: Own, store: Store) -> dict[str, LearnedTag]:
    """Return prefixed name → each learned tag that is of this store's checkpoint, and is whole."""
    found = {}
    for name in names(own):
        with suppress(StoreError):  # `verify` says so, and a question that names it
            found[f"{LEARNED_PREFIX}{name}"] = read(own, name, store)
    return found


#: Name, time of writing in ns, size in bytes and number of each file.
Stamps = tuple[tuple[str, int, int, int], ...]


def stamps(own: Own) -> Stamps:
    """Return what changes when a learned tag is written, replaced or removed."""
    folder = _folder(own).folder
    found = []
    for name in names(own):
        with suppress(FileNotFoundError):
            status = (folder / f"{name}.json").stat()
            found.append((name, status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


@contextmanager
def holding(own: Own, name: str) -> Iterator[None]:
    """Hold a learned tag alone while it is learned or taken, so that no older one replaces it.

    Raises:
        QueryError: If the name is none.
        StoreError: If it cannot be written.
    """
    folder = _folder(own).folder
    with writing_store(own.folder):
        require_own_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / f".{require_name(name)}{LOCK_SUFFIX}"):
            yield


def keep(own: Own, tag: LearnedTag) -> None:
    """Write a learned tag in the place of that of the same name.

    Raises:
        StoreError: If it cannot be written.
    """
    _folder(own).write(tag.name, _document(tag))


def forget(own: Own, name: str) -> None:
    """Remove a learned tag; its labels stay.

    Raises:
        QueryError: If there is none of that name.
        StoreError: If it cannot be removed.
    """
    file = _folder(own).folder / f"{require_name(name)}.json"
    with holding(own, name):
        if not file.exists():
            raise QueryError(f"{own.folder} has no learned tag {LEARNED_PREFIX}{name}")
        file.unlink()
        sync_folder(file.parent)


def share(tag: LearnedTag, path: Path, *, force: bool = False) -> None:
    """Write a learned tag to a file that another store can take it from.

    Raises:
        OutputError: If the file is there already, or cannot be written.
    """
    with writing(path, force=force) as file:
        file.write(seal(_document(tag)))


def take(path: Path, store: Store, name: str | None = None) -> LearnedTag:
    """Read what `share` has written.

    Args:
        path: The file.
        store: Which will have it.
        name: What it will be called there; None for what it was called.

    Raises:
        QueryError: If there is no such file, it is no shared tag, or its name is none.
        IdentityError: If it was learned on another checkpoint, or another kind of windows.
        DamagedStoreError: If it is not as it was written.
    """
    if not path.is_file():
        raise QueryError(f"no such file: {path}")
    with reading(path, "ask for it again where it comes from"):
        if not path.read_bytes()[:1] == b"{":  # a table, for one
            raise QueryError(f"{path} is no shared tag", about="share")
        document = read_sealed(path)
    called = name or str(document.get("name", ""))
    return require_fitting(_parse(document, path, require_name(called)), store)


def require_fitting(tag: LearnedTag, store: Store) -> LearnedTag:
    """Return a learned tag, if it was learned on windows as a store has them.

    Raises:
        IdentityError: If not.
    """
    ours = {"weights": store.identity.weights, **_how(store)}
    theirs = {"weights": tag.weights, **tag.how}
    differing = {key: (theirs.get(key), ours[key]) for key in ours if theirs.get(key) != ours[key]}
    if differing:
        named = "; ".join(
            f"{key} {one:.12} there and {own:.12} here" for key, (one, own) in differing.items()
        )
        raise IdentityError(
            f"{LEARNED_PREFIX}{tag.name} was learned on other embeddings than {store.path} has",
            differing,
            named,
            "Learn it here, from labels",
        )
    return tag


def made_for(
    store: Store, name: str, line: Line, told: Mapping[str, Any], held_back: Mapping[int, float]
) -> LearnedTag:
    """Return a tag that was learned on a store's windows."""
    return LearnedTag(name, line, store.identity.weights, _how(store), told, held_back)


def problems(own: Own) -> Iterator[tuple[Path, StoreError]]:
    """Yield each learned tag that is not as it was written, and why."""
    try:
        there = names(own)
    except StoreError as error:
        if not own.folder.is_symlink():  # `Own.problems` says so
            yield own.folder / LEARNED_FOLDER, error
        return
    for name in there:
        file = _folder(own).folder / f"{name}.json"
        try:
            _parse(_folder(own).read(name), file, name)
        except StoreError as error:
            yield file, error


def _folder(own: Own) -> Own:
    require_own_folder(own.folder)
    return Own(own.folder / LEARNED_FOLDER)


def _how(store: Store) -> dict[str, str]:
    return {"padding": store.identity.padding, "level": store.identity.level}


def _document(tag: LearnedTag) -> dict[str, Any]:
    packed = np.ascontiguousarray(tag.line.weights, "<f4").tobytes()
    return {
        "format": _FORMAT,
        "name": tag.name,
        "line": base64.b64encode(packed).decode(),
        "bias": tag.line.bias,
        "method": tag.line.method,
        "weights": tag.weights,
        **tag.how,
        "told": dict(tag.told),
        "held_back": {str(key): None if isnan(one) else one for key, one in tag.held_back.items()},
    }


def _parse(document: Mapping[str, Any], file: Path, name: str) -> LearnedTag:
    with reading(file, _REMEDY):
        if document.get("format") != _FORMAT:
            raise NotAsWrittenError(f"its format is {document.get('format')!r:.20}")
        packed = base64.b64decode(document["line"], validate=True)
        weights = np.frombuffer(packed, "<f4").astype(np.float32)
        bias, told = float(document["bias"]), document["told"]
        if weights.shape != (_NUM_WEIGHTS,) or not np.isfinite([*weights, bias]).all():
            raise NotAsWrittenError(f"it is no line through {_NUM_WEIGHTS:,} numbers")
        if not isinstance(told, dict):
            raise NotAsWrittenError("what it rests on is not said")
        how = {key: str(document[key]) for key in ("padding", "level")}
        line = Line(weights, bias, str(document["method"]))
        held_back = {
            int(key): nan if one is None else float(one)
            for key, one in document.get("held_back", {}).items()
        }
        return LearnedTag(name, line, str(document["weights"]), how, told, held_back)
