"""Making a store, and remembering the libraries that it was made from."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import save as save_safetensors

from indexer.errors import DamagedStoreError, StoreError
from indexer.paths import address_of
from indexer.store.disk import LOCK_SUFFIX, require_own_folder, seal, write_whole, writing
from indexer.store.head import Head
from indexer.store.lock import locked
from indexer.store.own import OWN_FOLDER
from indexer.store.part import part_names
from indexer.store.published import PUBLISHED_FILE
from indexer.store.reader import (
    HEAD_FILE,
    LIBRARIES_FILE,
    PARTS_FOLDER,
    STAGING_FOLDER,
    Store,
)
from indexer.store.schema import FORMAT_VERSION, STORE_FILE, Identity


def require_place(path: Path, what: str = "store") -> None:
    """Raise unless a store can be written to at a path, or made there, as far as that can be seen.

    Args:
        path: Where it is, or will be.
        what: What it is: a "store", or the "stage" beside one.

    Raises:
        StoreError: If the place is taken, cannot be written, or a link leads to it from nowhere.
    """
    if address := address_of(path):
        raise StoreError(
            f"a {what} lies on a disk here, not at {address}; finished ones may be copied there",
            about=what,
        )
    places = (path, *path.absolute().parents)
    with writing(path):
        for place in places:
            if place.is_symlink() and not place.exists():
                raise StoreError(
                    f"{place} is a link to {place.readlink()}, which is not there; make that "
                    f"folder, or choose another place for the {what}",
                    about=what,
                )
        if not (path / STORE_FILE).exists():
            _require_free(path)
        nearest = next(place for place in places if place.exists())
        if not nearest.is_dir():
            raise StoreError(
                f"{nearest} is a file, not a directory; choose another place for the {what}",
                about=what,
            )
        if not os.access(nearest, os.W_OK | os.X_OK):
            raise StoreError(
                f"cannot write to the {what} {path}: {nearest} is not to be written by you; choose "
                f"another place for the {what}",
                about=what,
            )


def create_store(
    path: Path,
    identity: Identity,
    head: Head,
    *,
    checkpoint: str,
    written_by: str,
    known: str | None = None,
) -> Store:
    """Make an empty store, or open the one that another process made first.

    Args:
        path: Its directory; created if absent.
        identity: How everything in it will be computed.
        head: Classifier head and final LayerNorm of the checkpoint.
        checkpoint: Its name or file, for people and as the default of later commands.
        written_by: Name and version of the software.
        known: Name of the published checkpoint that has these weights.

    Raises:
        StoreError: If the directory holds something else, or cannot be written.
        IdentityError: If a store is there and its identity is another.
    """
    with writing(path):
        if not (path / STORE_FILE).exists():
            _require_free(path)
            (path / PARTS_FOLDER).mkdir(parents=True, exist_ok=True)
            # Locked, so that nobody puts another head beside the identity of the first.
            with locked(path / f".{STORE_FILE}{LOCK_SUFFIX}"):
                if not (path / STORE_FILE).exists():
                    told = {"checkpoint": checkpoint, "known": known, "written_by": written_by}
                    _write_store(path, identity, head, told)
    return open_matching(path, identity)


def _write_store(
    path: Path, identity: Identity, head: Head, told: Mapping[str, str | None]
) -> None:
    """Write what makes a directory a store; only with the lock, and if there is none yet."""
    _refuse_orphans(path)
    tensors = save_safetensors(
        {name: np.ascontiguousarray(tensor) for name, tensor in head._asdict().items()}
    )
    write_whole(path / HEAD_FILE, tensors)
    document = {
        "format_version": FORMAT_VERSION,
        "identity": asdict(identity),
        "head_sha256": hashlib.sha256(tensors).hexdigest(),
        **told,
    }
    write_whole(path / STORE_FILE, seal(document))  # last: what has it is a store


def open_matching(path: Path, identity: Identity) -> Store:
    """Open a store that must have been made the way `identity` says.

    Raises:
        IdentityError: Naming every field that differs.
    """
    store = Store.open(path)
    require_matching(store, identity)
    return store


def require_matching(store: Store, identity: Identity) -> None:
    """Raise unless a store was made the way `identity` says.

    Raises:
        IdentityError: Naming every field that differs.
    """
    store.identity.require(
        identity,
        f"the store {store.path} was made in another way",
        "Use the options of the store, or another store",
        about="store",
    )


def _require_free(path: Path) -> None:
    """Raise if a place without store.json is not free for a new store."""
    require_own_folder(path / PARTS_FOLDER)
    _refuse_orphans(path)
    _refuse_strangers(path)


def _refuse_orphans(path: Path) -> None:
    """Raise if there are parts, and nothing that says how they were computed."""
    if (path / PARTS_FOLDER).is_dir() and part_names(path / PARTS_FOLDER):
        raise DamagedStoreError(
            path,
            f"it holds embeddings, but {STORE_FILE}, which says how they were computed, is missing",
            "bring it back from a copy, or choose another place for the store",
            about="store",
        )


def _refuse_strangers(path: Path) -> None:
    """Raise if something else is there."""
    if path.exists() and not path.is_dir():
        raise StoreError(
            f"{path} is a file, not a directory; choose another place for the store", about="store"
        )
    files = {STORE_FILE, HEAD_FILE, LIBRARIES_FILE, PUBLISHED_FILE}
    ours = files | {PARTS_FOLDER, STAGING_FOLDER, OWN_FOLDER}
    names = {entry.name for entry in path.iterdir()} if path.exists() else set()
    strangers = sorted(name for name in names - ours if not name.startswith("."))
    if strangers:
        raise StoreError(
            f"{path} holds other files, {strangers[0]!r} for one; "
            f"a store needs a directory of its own",
            about="store",
        )


def library_at(store: Store, root: Path, library_id: str | None = None) -> str:
    """Return the id of the library at a root, remembering the root if it is new.

    Args:
        store: Where the library is remembered.
        root: Absolute path of the library's folder.
        library_id: Of the library that has moved to `root`, or that a new one will have.
    """
    lock = store.path / f".{LIBRARIES_FILE}{LOCK_SUFFIX}"
    if known_id := _id_at(store, root):  # and a store that may only be read can say so
        return known_id
    with writing(store.path), locked(lock):
        if known_id := _id_at(store, root):
            return known_id
        roots = {key: str(known) for key, known in store.libraries().items()}
        library_id = library_id or uuid.uuid4().hex
        roots[library_id] = str(root)
        write_whole(store.path / LIBRARIES_FILE, seal({"roots": roots}))
        return library_id


def _id_at(store: Store, root: Path) -> str | None:
    found = (key for key, known in store.libraries().items() if known == root)
    return next(found, None)


def forget_root(store: Store, library_id: str) -> None:
    """Let a store no longer know a library."""
    lock = store.path / f".{LIBRARIES_FILE}{LOCK_SUFFIX}"
    with writing(store.path), locked(lock):
        roots = {key: str(root) for key, root in store.libraries().items() if key != library_id}
        write_whole(store.path / LIBRARIES_FILE, seal({"roots": roots}))
