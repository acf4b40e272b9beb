"""Holding a store against what was written: digests, schemas, and tags against scenes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from indexer.errors import DamagedStoreError, StoreError
from indexer.progress import Listen, Step, ignore
from indexer.store.disk import sha256_of
from indexer.store.head import Head
from indexer.store.parquet import SCENE_FILE
from indexer.store.part import MANIFEST_FILE, Part
from indexer.store.published import PUBLISHED_FILE, published_names
from indexer.store.reader import HEAD_FILE, LIBRARIES_FILE, PARTS_FOLDER, Store

#: Tags are stored as float16, in steps of at most 2^-11; the network's own rounding adds to it.
_TAG_TOLERANCE = 2.0**-11 + 1e-4
_BLOCK_ROWS = 4096


class Problem(NamedTuple):
    """Something in a store that is not as it was written.

    Attributes:
        path: The file.
        reason: What is wrong with it.
        remedy: What to do.
        about: As in `SoundalikeError`.
        value: Likewise.
    """

    path: Path
    reason: str
    remedy: str = ""
    about: str | None = None
    value: object = None

    @classmethod
    def of(
        cls,
        path: Path,
        error: StoreError,
        remedy: str = "",
        about: str | None = None,
        value: object = None,
    ) -> Problem:
        """Return what an error says of a file; what to do as well, if that is not to verify it.

        Args:
            path: Of the file.
            error: Met while it was read.
            remedy: What to do, where the error does not say it.
            about: As in `SoundalikeError`.
            value: Likewise.
        """
        if isinstance(error, DamagedStoreError):
            if error.remedy and error.about != "verify":
                return cls(error.path, error.reason, error.remedy, error.about, error.value)
            return cls(error.path, error.reason, remedy, about, value)
        cause = error.__cause__
        why = f"it cannot be read: {cause.strerror}" if isinstance(cause, OSError) else str(error)
        return cls(path, why, remedy, about, value)

    def mended_by(self, remedy: str, about: str, value: object) -> Problem:
        """Return it with what to do, unless it says that."""
        return self if self.remedy else self._replace(remedy=remedy, about=about, value=value)


def verify_parts(store: Store, listen: Listen = ignore) -> list[Problem]:
    """Check every file of a store's parts, its libraries, and what came with shards, byte by byte.

    Args:
        store: To be checked.
        listen: Hears how many parts are checked.

    Returns:
        Everything that is not as it was written, in the order of the files.
    """
    problems = list(_library_problems(store))
    try:
        published_names(store.path)
    except StoreError as error:
        problems.append(Problem.of(store.path / PUBLISHED_FILE, error))
    head: Head | None = None
    try:
        head = store.head()
    except StoreError as error:
        problems.append(Problem.of(store.path / HEAD_FILE, error))
    try:
        names = store.part_names()
    except StoreError as error:
        return [*problems, Problem.of(store.path / PARTS_FOLDER, error)]
    of_part: dict[str, list[Problem]] = {}
    for number, name in enumerate(names):
        path = store.path / PARTS_FOLDER / name
        of_part[name] = [
            problem.mended_by(embedding_again(path), about="index", value=store.path)
            for problem in _part_problems(path, head)
        ]
        listen(Step("verifying", number + 1, len(names), "part"))
    replaced = _replaced_and_deleted(store, {name for name in names if of_part[name]})
    return problems + [one for name in names if name not in replaced for one in of_part[name]]


def embedding_again(part: Path) -> str:
    """Return what to do about a part that is damaged."""
    return (
        f"bring it back from a copy; without one, remove the folder {part}, and index the "
        f"libraries again, which embeds anew what was in it"
    )


def _replaced_and_deleted(store: Store, names: set[str]) -> set[str]:
    """Return those parts in whose place another has come meanwhile: that they are gone is right."""
    now = store.part_names()
    gone = names.difference(now)
    replaced: set[str] = set()
    for name in now if gone else ():
        with suppress(StoreError):  # told with the part that is damaged
            replaced.update(Part.from_manifest(store.path / PARTS_FOLDER / name).replaces)
    return gone & replaced


def _library_problems(store: Store) -> Iterator[Problem]:
    file = store.path / LIBRARIES_FILE
    try:
        known = store.libraries()
    except StoreError as error:
        yield Problem.of(file, error)
        return
    try:
        ledger = store.ledger()
    except StoreError:
        return  # told with the part that is damaged
    named = [one for one in ledger.library_ids if len(ledger.present(one))]  # not forgotten
    for library_id in sorted(set(named) - set(known)):
        reason = f"it does not say where the library {library_id} is"
        yield Problem(file, reason, "index that library again", about="index", value=store.path)


def _part_problems(path: Path, head: Head | None) -> Iterator[Problem]:
    try:
        part = Part.from_manifest(path)
    except StoreError as error:
        yield Problem.of(path / MANIFEST_FILE, error)
        return
    damaged = list(
        digest_problems(path, {name: digest for name, (_, digest) in part.files.items()})
    )
    yield from damaged
    if damaged:
        return
    for name in part.files:  # as they were written, but were they written well?
        try:
            with part.open_file(name):
                pass
            if head and name == SCENE_FILE:
                yield from _tag_problems(part, head)
        except StoreError as error:
            yield Problem.of(path / name, error)


def digest_problems(folder: Path, digests: Mapping[str, str]) -> Iterator[Problem]:
    """Compare the files of a folder with their SHA-256.

    Args:
        folder: Where they are.
        digests: Name → SHA-256 in hex.

    Yields:
        A problem for each file that is missing or different; what to do is open.
    """
    for name, digest in digests.items():
        try:
            if sha256_of(folder / name) != digest:
                reason = "its content is not what was written (SHA-256 differs)"
                yield Problem(folder / name, reason)
        except FileNotFoundError:
            yield Problem(folder / name, "it is missing")
        except OSError as error:
            yield Problem(folder / name, f"it cannot be read: {error.strerror}")
        except DamagedStoreError as error:
            yield Problem.of(folder / name, error)


def _tag_problems(part: Part, head: Head) -> Iterator[Problem]:
    worst = np.float32(0)
    for _, scene, tags, _ in part.blocks(_BLOCK_ROWS):
        worst = np.maximum(worst, np.abs(head.tags(scene) - tags.astype(np.float32)).max())
    if not worst <= _TAG_TOLERANCE:  # which NaN is not, either
        yield Problem(
            part.path / SCENE_FILE,
            f"tags are not those that the stored head gives for the scenes (by up to {worst:.2g})",
        )
