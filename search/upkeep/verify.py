"""Holding a whole store against what was written: its parts, and the index built from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from indexer.errors import DamagedStoreError, StoreError
from indexer.store.disk import read_sealed
from indexer.store.reader import Store
from indexer.store.verify import Problem, digest_problems, verify_parts
from search.generation.segments import (
    CURRENT_FILE,
    GENERATION_FILE,
    INDEX_FOLDER,
    SEGMENTS_FOLDER,
    current_name,
    digests_of,
    is_generation_name,
)
from search.nearest.structure import structure_problems


def verify(path: Path, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
    """Check every file of a store, byte by byte.

    Args:
        path: Directory of the store.
        progress: Called with (parts checked, parts).

    Returns:
        Everything that is not as it was written: empty if all is well.

    Raises:
        StoreError: If there is no store, or its store.json cannot be read.
    """
    store = Store.open(path)
    return [*verify_parts(store, progress), *_index_problems(store)]


def _index_problems(store: Store) -> Iterator[Problem]:
    """Check the generation that queries use, the one before it, and the segments of both."""
    index = store.path / INDEX_FOLDER
    if not index.is_dir():
        return
    names = sorted(one.name for one in index.iterdir() if is_generation_name(one.name))
    try:
        current = current_name(store)
        if current is not None and current not in names:
            yield Problem(index / CURRENT_FILE, f"there is no generation {current}")
        elif current is None and len(names) > 1:  # one alone: the first build was cut short
            yield Problem(index / CURRENT_FILE, "it is missing; 'soundalike build' makes a new one")
    except DamagedStoreError as error:
        yield Problem(index / CURRENT_FILE, str(error))
    segments: dict[str, dict[str, str]] = {}
    structures = []
    for name in names:
        manifest_file = index / name / GENERATION_FILE
        try:
            manifest = read_sealed(manifest_file)
        except StoreError as error:
            yield Problem(manifest_file, str(error))
        except OSError as error:
            yield Problem(manifest_file, f"it cannot be read: {error.strerror}")
        else:
            yield from digest_problems(index / name, digests_of(manifest))
            segments.update((entry["name"], digests_of(entry)) for entry in manifest["segments"])
            structures.append(manifest.get("structure", {"trained": None}))
    for name, digests in segments.items():
        yield from digest_problems(index / SEGMENTS_FOLDER / name, digests)
    yield from structure_problems(index, structures)
