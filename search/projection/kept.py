"""Projections as files: what was added to a store, or to a folder beside it.

    samples.soundalike/own/projections/NAME.safetensors

One file holds both networks and, in its metadata, a sealed document that says what they were made
of and has the digest of all tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from indexer.arrays import ID_DTYPE, RECORDING_ID_BYTES
from indexer.errors import NotAsWrittenError, OutputError, QueryError, StoreError
from indexer.store.disk import read_own, require_own_folder, write_whole, writing
from indexer.store.own import Own
from indexer.store.part import reading
from indexer.store.schema import EMBEDDING_DIM
from indexer.store.tensors import Tensors, pack_tensors, read_document, read_tensors
from search.projection.projecting import Projection, Tower

PROJECTIONS_FOLDER = "projections"
SUFFIX = ".safetensors"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
#: What to do about a projection that is damaged.
REMEDY = "bring it back from a copy, or delete it and train again"
_FORMAT = 1
#: What its document says in words, at the least: other code relies on these.
_WORDS = ("checkpoint", "leak", "tensors", "text_encoder", "weights")


def folder_of(own: Own) -> Path:
    """Return where projections are."""
    return own.folder / PROJECTIONS_FOLDER


def file_of(own: Own, name: str) -> Path:
    """Return the file of a projection.

    Raises:
        QueryError: If that is no name for one.
    """
    if not _NAME.fullmatch(name):
        raise QueryError(
            f"{name!r} is no name for a projection: up to 64 small letters, digits, - and _"
        )
    return folder_of(own) / f"{name}{SUFFIX}"


def names(own: Own) -> list[str]:
    """Return the names of the projections, sorted.

    Raises:
        StoreError: If the folder cannot be listed, or is a link.
    """
    folder = folder_of(own)
    with reading(folder, REMEDY):
        require_own_folder(own.folder)
        require_own_folder(folder)
        files = list(folder.iterdir()) if folder.exists() else []
    stems = sorted(file.stem for file in files if file.suffix == SUFFIX)
    return [stem for stem in stems if _NAME.fullmatch(stem)]


def choose(own: Own, name: str | None, store: Path) -> str:
    """Return the name of the projection that is meant.

    Args:
        own: Where it is kept.
        name: What was asked for; None for the only one.
        store: For the error.

    Raises:
        QueryError: If there is none of that name, or none at all, or there are several.
    """
    there = names(own)
    if name is not None:
        file_of(own, name)  # that is no name is an error
    if name in there or (name is None and len(there) == 1):
        return name or there[0]
    if not there:
        raise QueryError(
            f"{store} has no projection of text and sound, which is trained on captions",
            about="projection",
            value=store,
        )
    asked = "several projections" if name is None else f"no projection {name!r}"
    raise QueryError(
        f"{store} has {asked}; there are {', '.join(there)}",
        about="which_projection",
        value=there[-1],
    )


def read(own: Own, name: str) -> Projection:
    """Read a projection.

    Raises:
        DamagedStoreError: If it is not as it was written.
        StoreError: If it cannot be read, or another version of the program wrote it.
    """
    file = file_of(own, name)
    with reading(file, REMEDY):
        require_own_folder(own.folder)
        require_own_folder(file.parent)
        content = read_own(file)
        provenance = _provenance(file, content)
        tensors = read_tensors(content, provenance)
        audio, text = (_tower(tensors, side) for side in ("audio", "text"))
        audio.require_shapes(EMBEDDING_DIM)
        text.require_shapes()
        if len(audio.bias_2) != len(text.bias_2):
            raise NotAsWrittenError("its two sides do not fit together")
        probe, heard = tensors["probe"], np.ascontiguousarray(tensors["heard"], np.uint8)
        if probe.dtype != np.float32 or probe.shape not in ((0,), text.mean.shape):
            raise NotAsWrittenError("its probe is not what it should be")
        ids = heard.reshape(-1, RECORDING_ID_BYTES).view(ID_DTYPE).ravel()
        return Projection(name, audio, text, probe, ids, provenance)


def stamp(own: Own, name: str) -> tuple[int, int, int]:
    """Return what differs where the file of a projection was replaced.

    Raises:
        StoreError: If it cannot be looked at.
    """
    file = file_of(own, name)
    with reading(file, REMEDY):
        status = file.lstat()
        return status.st_ino, status.st_size, status.st_mtime_ns


def write(own: Own, projection: Projection, *, force: bool = False) -> Projection:
    """Write a projection, whole or not at all.

    Args:
        own: Where to.
        projection: Of any digest.
        force: Whether one of that name is replaced.

    Returns:
        It, as `read` gives it.

    Raises:
        OutputError: If there is one of that name.
        StoreError: If it cannot be written.
    """
    require_no_projection(own, projection.name, force=force)
    file = file_of(own, projection.name)
    tensors: dict[str, npt.NDArray[Any]] = {
        f"{side}.{name}": np.ascontiguousarray(array)
        for side, tower in (("audio", projection.audio), ("text", projection.text))
        for name, array in tower._asdict().items()
    }
    tensors["probe"] = projection.probe
    heard = np.ascontiguousarray(projection.heard)
    tensors["heard"] = heard.view(np.uint8).reshape(-1, RECORDING_ID_BYTES)
    content = pack_tensors(tensors, {**projection.provenance, "format": _FORMAT})
    with writing(own.folder):
        require_own_folder(own.folder)
        require_own_folder(file.parent)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, content)
    return read(own, projection.name)


def require_no_projection(own: Own, name: str, *, force: bool) -> None:
    """Make sure, before the long work, that a projection can have a name.

    Raises:
        QueryError: If it is none.
        OutputError: If there is one of that name, unless by `force`.
    """
    file = file_of(own, name)
    if name in names(own) and not force:
        raise OutputError(f"{file} is there already; choose another name", about="force")


def problems(own: Own) -> Iterator[tuple[Path, StoreError]]:
    """Yield each projection that is not as it was written, and why."""
    try:
        require_own_folder(own.folder)
    except StoreError:  # `Own.problems` says so
        return
    try:
        there = names(own)
    except StoreError as error:
        yield folder_of(own), error
        return
    for name in there:
        try:
            read(own, name)
        except StoreError as error:
            yield file_of(own, name), error


def _provenance(file: Path, content: bytes) -> dict[str, Any]:
    """Return the sealed document in the metadata of a safetensors file."""
    document = read_document(content)
    if document.get("format") != _FORMAT:
        raise StoreError(f"{file} was written by another version of soundalike; train it again")
    for name in _WORDS:
        if not isinstance(document.get(name), str):
            raise NotAsWrittenError(f"it does not say its {name}")
    return document


def _tower(tensors: Tensors, side: str) -> Tower:
    return Tower(*(tensors[f"{side}.{name}"] for name in Tower._fields))
