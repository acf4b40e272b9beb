"""What a projection makes of all windows that queries see: vectors to be scanned, kept as files.

    samples.soundalike/own/projections/NAME.rows/SEGMENT-DIGEST-STORE.raw

A file for each segment of the index: its rows as (n, d) float32, then the SHA-256 of these bytes.
Its name says of which segment and of which projection it is, so that it is either right or not
looked at; and of which store, as seen from this folder, because several may share it. They can be
computed again at any time.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Set
from dataclasses import replace
from pathlib import Path

import numpy as np

from indexer.arrays import Float32
from indexer.errors import IdentityError, NotAsWrittenError, StoreError
from indexer.progress import Listen, Step, ignore
from indexer.store.disk import (
    LOCK_SUFFIX,
    is_temporary,
    map_own,
    own_size,
    remove_all,
    replacing,
    require_own_folder,
    writing,
)
from indexer.store.lock import locked
from indexer.store.own import Own
from indexer.store.part import reading
from indexer.store.reader import Store
from search.generation.segments import Generation, Segment
from search.projection.kept import folder_of, names, read
from search.projection.projecting import Projection

#: Rows that are projected at a time.
_BLOCK_ROWS = 8192
_DIGEST_BYTES = hashlib.sha256().digest_size
#: Digits of digests in the names of files.
_DIGITS = 16
#: What to do about rows that are damaged.
_REMEDY = "delete it: it is computed again where it is missing"
_ITEM = np.dtype("<f4")
_FILE = re.compile(rf"[0-9a-f]{{32}}-[0-9a-f]{{{_DIGITS}}}-([0-9a-f]{{{_DIGITS}}})\.raw")


def require_weights(projection: Projection, store: Store) -> None:
    """Raise unless a projection was trained on embeddings of a store's own checkpoint.

    Raises:
        IdentityError: If it was not.
    """
    if projection.weights != store.identity.weights:
        theirs, ours = projection.weights, store.identity.weights
        raise IdentityError(
            f"the projection {projection.name} was trained on another checkpoint, "
            f"{projection.provenance['checkpoint']}, than {store.path} was made with",
            {"weights": (theirs, ours)},
            f"weights {theirs[:12]} there and {ours[:12]} here",
            "Train one on this store",
        )


def project_generation(
    store: Store,
    generation: Generation,
    projection: Projection,
    own: Own,
    listen: Listen = ignore,
) -> Generation:
    """Return a generation as a projection sees it: all is the same but for the vectors.

    Rows that are kept are mapped; others are computed, and held in memory.

    Args:
        store: Whose generation it is.
        generation: What queries see.
        projection: Of the same checkpoint.
        own: Where the projection, and what it made of the rows, is kept.
        listen: Hears how many rows are computed, if any are.

    Raises:
        DamagedStoreError: If a file of rows has another size than it was written with.
    """
    files = [_file(store, own, one, projection) for one in generation.segments]
    kept = [
        _map(file, one, projection) for file, one in zip(files, generation.segments, strict=True)
    ]
    total = sum(
        len(one) for one, rows in zip(generation.segments, kept, strict=True) if rows is None
    )
    done, segments = 0, []
    for segment, rows in zip(generation.segments, kept, strict=True):
        if rows is None:
            rows = np.empty((len(segment), projection.dim), np.float32)
            for first, block in _blocks(segment, projection):
                rows[first : first + len(block)] = block
                done += len(block)
                listen(Step("projecting", done, total, "window"))
        arrays = {**segment.arrays, "vectors": rows, "scenes": segment.vectors}
        scattered = {"tags": segment.scattered["tags"]}
        segments.append(replace(segment, arrays=arrays, scattered=scattered))
    return replace(generation, segments=tuple(segments))


def keep_rows(store: Store, generation: Generation, own: Own, listen: Listen = ignore) -> None:
    """Write what every projection of a store makes of the rows that it has not seen yet.

    A projection that cannot be read, or is of another checkpoint, is told of and stops nothing.

    Args:
        store: Whose projections they are.
        generation: What queries see of it now.
        own: Where they are kept.
        listen: Hears how many rows are computed, and what is left out.

    Raises:
        StoreError: If they cannot be written, or the folder cannot be listed.
    """
    for name in names(own):
        try:
            projection = read(own, name)
            require_weights(projection, store)
        except StoreError as error:
            listen(f"not kept up to date: {error}")
            continue
        _keep(store, generation, projection, own, listen)


def problems(own: Own) -> Iterator[tuple[Path, StoreError]]:
    """Yield each file of rows that is not as it was written, and why."""
    try:
        there = names(own)
    except StoreError:  # `kept.problems` says so
        return
    for name in there:
        folder = folder_of(own) / f"{name}.rows"
        try:
            with reading(folder, _REMEDY):
                require_own_folder(folder)
                files = sorted(folder.iterdir()) if folder.exists() else []
        except StoreError as error:
            yield folder, error
            continue
        for file in files:
            if _FILE.fullmatch(file.name):
                try:
                    _require_intact(file)
                except StoreError as error:
                    yield file, error


def _keep(
    store: Store, generation: Generation, projection: Projection, own: Own, listen: Listen
) -> None:
    folder = _folder(own, projection)
    files = {_file(store, own, one, projection): one for one in generation.segments}
    missing = {file: one for file, one in files.items() if not file.exists()}
    total, done = sum(map(len, missing.values())), 0
    with writing(folder):
        require_own_folder(folder)
        folder.mkdir(exist_ok=True)
        with locked(folder / LOCK_SUFFIX):
            for file, segment in missing.items():
                with replacing(file) as opened:
                    for block in _sealed(segment, projection):
                        opened.write(block)
                        done += len(block) // (projection.dim * _ITEM.itemsize)
                        listen(Step("projecting", done, total, "window"))
            _remove_others(folder, _place(store, own), files.keys())


def _sealed(segment: Segment, projection: Projection) -> Iterator[bytes]:
    """Yield the projected rows of a segment, block by block, and then their digest."""
    digest = hashlib.sha256()
    for _, block in _blocks(segment, projection):
        content = np.ascontiguousarray(block, _ITEM).tobytes()
        digest.update(content)
        yield content
    yield digest.digest()


def _remove_others(folder: Path, place: str, kept: Set[Path]) -> None:
    """Delete rows of a store's segments that are no more, and what dead processes left."""
    for file in folder.iterdir():
        named = _FILE.fullmatch(file.name)
        is_old = named is not None and named[1] == place and file not in kept
        if is_old or is_temporary(file.name):
            remove_all(file)


def _folder(own: Own, projection: Projection) -> Path:
    return folder_of(own) / f"{projection.name}.rows"


def _file(store: Store, own: Own, segment: Segment, projection: Projection) -> Path:
    name = f"{segment.name}-{projection.digest[:_DIGITS]}-{_place(store, own)}.raw"
    return _folder(own, projection) / name


def _place(store: Store, own: Own) -> str:
    """Return which of the stores that share a folder one is: the same after both have moved."""
    path = os.path.relpath(store.path.resolve(), own.folder.resolve())
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:_DIGITS]


def _map(file: Path, segment: Segment, projection: Projection) -> Float32 | None:
    """Map the rows of a segment; None if there is no such file."""
    with reading(file, _REMEDY):
        require_own_folder(file.parent)
        if not file.exists():
            return None
        shape = (len(segment), projection.dim)
        num_bytes = shape[0] * shape[1] * _ITEM.itemsize
        if own_size(file) != num_bytes + _DIGEST_BYTES:
            raise NotAsWrittenError(
                f"{own_size(file):,} bytes, written as {num_bytes + _DIGEST_BYTES:,}"
            )
        return np.frombuffer(map_own(file), _ITEM, shape[0] * shape[1]).reshape(shape)


def _require_intact(file: Path) -> None:
    with reading(file, _REMEDY):
        content = memoryview(map_own(file))
        digest = hashlib.sha256(content[:-_DIGEST_BYTES]).digest()
        if bytes(content[-_DIGEST_BYTES:]) != digest:
            raise NotAsWrittenError("its content does not match its digest")


def _blocks(segment: Segment, projection: Projection) -> Iterator[tuple[int, Float32]]:
    for first in range(0, len(segment), _BLOCK_ROWS):
        with np.errstate(invalid="ignore", over="ignore"):  # what is damaged is never found
            yield first, projection.audio(segment.vectors[first : first + _BLOCK_ROWS])
