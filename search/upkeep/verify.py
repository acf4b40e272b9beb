"""Holding a whole store against what was written: its parts, and the index built from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from indexer.arrays import contains
from indexer.errors import DamagedStoreError, StoreError
from indexer.progress import Listen, ignore
from indexer.store.disk import require_own_folder
from indexer.store.own import Own
from indexer.store.reader import Store
from indexer.store.verify import Problem, digest_problems, verify_parts
from search.filters import thresholds
from search.generation.manifest import (
    GENERATION_FILE,
    MENDED_ANEW,
    Manifest,
    OutdatedIndexError,
    digests,
)
from search.generation.missing import GET_BACK, find_missing
from search.generation.segments import (
    CURRENT_FILE,
    INDEX_FOLDER,
    SEGMENTS_FOLDER,
    Generation,
    current_name,
    is_generation_name,
)
from search.learned import labels, tags
from search.map import kept as maps
from search.projection import kept, rows


def verify(path: Path, listen: Listen = ignore, own: Own | None = None) -> list[Problem]:
    """Check every file of a store, byte by byte.

    Args:
        path: Directory of the store.
        listen: Hears how many parts are checked.
        own: What was added to it, if that is not in the store.

    Returns:
        Everything that is not as it was written: empty if all is well.

    Raises:
        StoreError: If there is no store, or its store.json cannot be read.
    """
    store = Store.open(path)
    own = own or Own.of(path)
    each = (
        own.problems(),
        thresholds.problems(own),
        kept.problems(own),
        rows.problems(own),
        labels.problems(own),
        tags.problems(own),
        maps.problems(own, path),
    )
    added = [Problem.of(*problem) for problems in each for problem in problems]
    of_parts = [*verify_parts(store, listen), *_missing_parts(store)]
    of_index = list(_index_problems(store))
    if not (of_parts or of_index):
        of_index += _other_windows(store)
    of_index = [one.mended_by(MENDED_ANEW, about="anew", value=path) for one in of_index]
    return [*of_parts, *of_index, *added]


def _missing_parts(store: Store) -> Iterator[Problem]:
    """Name the parts that the index was made from, and that are not there."""
    missing = None
    with suppress(StoreError):  # told with what cannot be read
        missing = find_missing(store)
    if missing is None:
        return
    for part in missing.parts:
        problem = Problem(part, f"the part is missing{missing.cost}")
        if missing.num_lost == 0:
            remedy = "building the index again forgets it"
            yield problem.mended_by(remedy, about="build", value=store.path)
        else:
            yield problem.mended_by(GET_BACK, about="index", value=store.path)


def _index_problems(store: Store) -> Iterator[Problem]:
    """Check the generation that queries use, the one before it, and the segments of both."""
    index = store.path / INDEX_FOLDER
    try:
        for folder in (index, index / SEGMENTS_FOLDER):
            require_own_folder(folder)
    except DamagedStoreError as error:
        yield Problem.of(folder, error)
        return
    if not index.is_dir():
        return
    names = sorted(one.name for one in index.iterdir() if is_generation_name(one.name))
    current = None
    try:
        current = current_name(store)
        if current is not None and current not in names:
            yield Problem(index / CURRENT_FILE, f"there is no generation {current}")
        elif current is None and len(names) > 1:  # one alone: the first build was cut short
            yield Problem(index / CURRENT_FILE, "it is missing")
    except DamagedStoreError as error:
        yield Problem.of(index / CURRENT_FILE, error)
    yield from _generation_problems(index, names, current)


def _generation_problems(
    index: Path, names: Sequence[str], current: str | None
) -> Iterator[Problem]:
    """Check some generations, of which one is current."""
    segments: dict[str, dict[str, str]] = {}
    for name in names:
        file = index / name / GENERATION_FILE
        try:
            manifest = Manifest.read(file)
        except OutdatedIndexError as error:
            if name == current:  # who reads the one before goes on with what he has
                reason = "another version of soundalike built the index"
                remedy = "building the index again replaces it"
                yield Problem(file, reason, remedy, error.about, error.value)
            continue
        except StoreError as error:
            yield Problem.of(file, error)
            continue
        yield from digest_problems(index / name, digests(manifest.files))
        segments.update((entry.name, digests(entry.files)) for entry in manifest.segments)
    for name, files in segments.items():
        yield from digest_problems(index / SEGMENTS_FOLDER / name, files)


def _other_windows(store: Store) -> Iterator[Problem]:
    """Say if the index, whole as it is, has other windows than the parts that it was made from.

    Each build believes the one before it, so that a mistake in one would stay.
    """
    if current_name(store) is None:
        return
    try:
        generation, parts = Generation.current(store), store.parts()
        if list(generation.parts) != [part.name for part in parts]:
            return  # a build is due
        live = np.sort(store.snapshot(parts).window_ids)
    except StoreError as error:
        yield Problem.of(store.path / INDEX_FOLDER, error)
        return
    held = np.sort(generation.window_ids(generation.live_rows()))
    lost, more = (np.count_nonzero(~contains(*pair)) for pair in ((held, live), (live, held)))
    if lost or more:
        reason = f"{lost:,} of the windows of the parts are not in it, and {more:,} others are"
        yield Problem(generation.path, reason)
