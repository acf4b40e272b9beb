"""Publishing a generation: new rows become new segments, the old segments are shared."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Integers, Mask
from indexer.errors import DamagedStoreError, StoreError
from indexer.progress import Listen, ignore
from indexer.store.compaction import delete_replaced
from indexer.store.disk import (
    is_temporary,
    remove_all,
    require_own_folder,
    sync_file,
    sync_folder,
    write_whole,
)
from indexer.store.lock import locked
from indexer.store.own import Own
from indexer.store.part import Part
from indexer.store.reader import Store
from search.generation.frames import write_places
from search.generation.manifest import (
    GENERATION_FILE,
    UNMEASURED,
    Manifest,
    SegmentEntry,
    describe_files,
    mended_by_building,
)
from search.generation.mapped import array_file, map_array
from search.generation.missing import require_all_parts
from search.generation.recordings import Recordings
from search.generation.segments import (
    CURRENT_FILE,
    INDEX_FOLDER,
    PARTS_FILE,
    RECORDING_DTYPE,
    RECORDINGS_FILE,
    SEGMENT_ARRAYS,
    SEGMENTS_FOLDER,
    TEMPORARY_PREFIX,
    Generation,
    Segment,
    alive_file,
    current_name,
    is_generation_name,
    is_shared_name,
    recordings_file,
)
from search.nearest.structure import (
    IndexConfig,
    are_usable,
    bases_of,
    is_as_wanted,
    measure,
)
from search.projection.rows import keep_rows
from search.upkeep.reuse import Reuse, reuse
from search.upkeep.shelf import write_shelf

#: Rows of a segment, at most: 2.6 GB of vectors, tags and codes. Each that is asked costs 0.1 ms.
MAX_SEGMENT_ROWS = 1 << 19
_AS_BEFORE = IndexConfig()
#: Where indexes of older versions had their lists: nobody can use what is left of them.
_FORMER_FOLDER = "trained"


class _How(NamedTuple):
    """What a build was asked for: see `build`."""

    config: IndexConfig
    max_segment_rows: int
    listen: Listen
    anew: bool


def build(
    store: Store,
    *,
    listen: Listen = ignore,
    config: IndexConfig = _AS_BEFORE,
    max_segment_rows: int = MAX_SEGMENT_ROWS,
    anew: bool = False,
    own: Own | None = None,
) -> Generation:
    """Bring the index of a store up to date, and return the generation that queries now use.

    Segments are reused; only rows that are new, or whose segment has become too small or too empty,
    are written. If nothing changed, nothing is written. Parts that a compaction replaced are
    deleted, now that no query needs to know of them. What projections of text and sound make of the
    rows is brought up to date as well.

    Args:
        store: Whose live windows are to be searched.
        listen: Hears how many rows are written, of segments and then of their sketches.
        config: In how much memory, and how good.
        max_segment_rows: Rows of a segment, at most.
        anew: Whether it is made of nothing but the parts that are there: nothing of an earlier
            index is used or kept, and no part that is missing is asked for.
        own: What was added to the store, if that is not in the store.

    Raises:
        StoreError: If the index cannot be written.
        DamagedStoreError: If a part is not as it was written; or one that the index was made from
            is missing, and windows that queries see with it.
    """
    with _hold_index(store) as index:
        parts = store.parts()
        num_rows = min(max_segment_rows, config.max_segment_rows)
        generation = _build(store, index, parts, _How(config, num_rows, listen, anew))
        delete_replaced(store, parts)
        keep_rows(store, generation, own or Own.of(store.path), listen)
        return generation


def tidy(store: Store) -> None:
    """Delete the parts that a compaction replaced, as `build` does in the end.

    Raises:
        StoreError: If the store is read-only.
    """
    with _hold_index(store):
        delete_replaced(store, store.parts())


def has_index(store: Store) -> bool:
    """Whether an index was ever built, be it damaged."""
    return (store.path / INDEX_FOLDER / CURRENT_FILE).exists()


@contextmanager
def _hold_index(store: Store) -> Iterator[Path]:
    """Hold the index alone: nobody else builds, or deletes parts that a build may be reading."""
    index = store.path / INDEX_FOLDER
    try:
        for folder in (index, index / SEGMENTS_FOLDER):
            require_own_folder(folder)
        current = index / CURRENT_FILE
        if current.is_dir() and not current.is_symlink():  # nothing could be put in its place
            error = DamagedStoreError(current, "it is no regular file")
            raise mended_by_building(store.path, error)
        (index / SEGMENTS_FOLDER).mkdir(parents=True, exist_ok=True)
        with locked(index / ".lock"):
            yield index
    except OSError as error:
        raise StoreError(f"cannot write the index in {index}: {error.strerror or error}") from error


def _build(store: Store, index: Path, parts: Sequence[Part], how: _How) -> Generation:
    _remove_unused(index, [one.name for one in index.iterdir() if is_generation_name(one.name)])
    if not how.anew:
        _require_all_parts(store, parts, how.listen)
    previous = None if how.anew else _open_previous(store)
    is_same = previous and list(previous.parts) == [part.name for part in parts]
    if previous and is_same and is_as_wanted(previous, how.config):
        return previous
    plan = reuse(store, parts, previous)
    bases = bases_of(previous) if previous else []
    written = write_shelf(index / SEGMENTS_FOLDER, plan, how.max_segment_rows, how.listen, bases)
    folder = index / f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
    folder.mkdir()
    _write_parts(folder / PARTS_FILE, parts)
    Recordings.of_parts(store, parts, plan.recordings).write(folder / RECORDINGS_FILE)
    _write_rows_of_all(folder, plan, written)
    if store.identity.frames != "none":
        _write_frame_places(folder, plan, written)
    segments = (*(_entry_of(segment, previous) for segment, _ in plan.kept), *written)
    manifest = Manifest(plan.num_windows, segments, UNMEASURED, describe_files(folder.iterdir()))
    del plan  # 13 bytes a window, which measuring needs for itself
    before = previous.manifest.effort if previous else None
    made = Generation.of_manifest(folder, manifest)
    effort = measure(made, before, how.config, how.listen)
    replace(manifest, effort=effort).write(folder / GENERATION_FILE)
    is_sound = previous and are_usable(previous)
    _publish(index, folder, previous if is_sound else None)
    return Generation.current(store)


def _require_all_parts(store: Store, parts: Sequence[Part], listen: Listen) -> None:
    missing = require_all_parts(store, parts)
    if missing is None:
        return
    for part in missing.parts:
        listen(f"{part} is missing{missing.cost}")


def _open_previous(store: Store) -> Generation | None:
    """Return the newest generation, if there is one that can be opened."""
    try:
        return Generation.current(store) if current_name(store) else None
    except StoreError:
        return None  # whatever is wrong with it, a new one does not need it


def _entry_of(segment: Segment, previous: Generation | None) -> SegmentEntry:
    """Return what the previous manifest says of a segment: a new digest would hide damage."""
    entries = previous.manifest.segments if previous else ()
    return next(entry for entry in entries if entry.name == segment.name)


def _write_rows_of_all(folder: Path, plan: Reuse, written: Sequence[SegmentEntry]) -> None:
    """Write what a generation says of its rows, segment by segment; the new ones are all alive."""
    recordings = Recordings.open(folder / RECORDINGS_FILE)
    for segment, alive in plan.kept:
        _write_rows(folder, segment.name, alive, plan.first_places(segment, recordings))
    for entry in written:
        ids = _array_of(folder, entry.name, "recording_id", entry.num_rows)
        alive = np.ones(entry.num_rows, bool)
        _write_rows(folder, entry.name, alive, recordings.first_rows(ids))


def _write_frame_places(folder: Path, plan: Reuse, written: Sequence[SegmentEntry]) -> None:
    """Write where the frames of all rows are, segment by segment."""
    sizes = {
        **{segment.name: len(segment) for segment, _ in plan.kept},
        **{entry.name: entry.num_rows for entry in written},
    }
    for name, num_rows in sizes.items():
        ids = _array_of(folder, name, "window_id", num_rows)
        write_places(folder, name, plan.frame_places(name, ids))


def _array_of(folder: Path, segment: str, name: str, num_rows: int) -> npt.NDArray[Any]:
    """Map a column of a segment that the generation in a folder holds."""
    file = array_file(folder.parent / SEGMENTS_FOLDER / segment, name)
    return map_array(file, SEGMENT_ARRAYS[name][0], (num_rows,))


def _write_rows(folder: Path, segment: str, alive: Mask, first_places: Integers) -> None:
    """Write which rows of a segment are alive, and where their recordings are listed."""
    for path, array in (
        (alive_file(folder, segment), np.packbits(alive)),
        (recordings_file(folder, segment), first_places.astype(RECORDING_DTYPE)),
    ):
        path.write_bytes(array.data)
        sync_file(path)


def _write_parts(path: Path, parts: Sequence[Part]) -> None:
    """Write the names of the parts, a line each: no JSON, as there may be many."""
    path.write_text("".join(f"{part.name}\n" for part in parts), "ascii")
    sync_file(path)


def _publish(index: Path, folder: Path, previous: Generation | None) -> None:
    """Make a generation current, and delete what neither it nor the one before it needs."""
    names = [one.name for one in index.iterdir() if is_generation_name(one.name)]
    numbers = [int(name.partition("-")[0]) for name in names]
    target = index / f"{max(numbers, default=0) + 1:08d}-{uuid.uuid4().hex[:8]}"
    sync_folder(folder)
    folder.rename(target)
    write_whole(index / CURRENT_FILE, target.name.encode())
    _remove_unused(index, {target.name, previous.path.name if previous else target.name})


def _remove_unused(index: Path, kept: Iterable[str]) -> None:
    """Delete other generations, what no kept one names, and leftovers of dead builds.

    What has no name of ours was put there by somebody, and stays.
    """
    kept = set(kept)
    for entry in index.iterdir():
        is_old = is_generation_name(entry.name) and entry.name not in kept
        if is_old or is_temporary(entry.name):
            remove_all(entry)
    segments = index / SEGMENTS_FOLDER
    for entry in segments.iterdir():
        if is_temporary(entry.name):  # whatever others need, and it may fill the disk
            remove_all(entry)
    manifests = [found for name in kept if (found := _read_manifest(index / name))]
    if len(manifests) < len(kept):  # what others need is not known
        return
    _remove_former(index / _FORMER_FOLDER)
    named = {entry.name for manifest in manifests for entry in manifest.segments}
    for entry in segments.iterdir():
        if is_shared_name(entry.name) and entry.name not in named:
            remove_all(entry)


def _remove_former(folder: Path) -> None:
    """Delete what older versions had in a folder, and the folder if nothing else is in it."""
    if not folder.is_symlink():
        for entry in folder.glob("*"):
            if is_shared_name(entry.name):
                remove_all(entry)
        with suppress(OSError):  # it is not there, or somebody's
            folder.rmdir()


def _read_manifest(generation: Path) -> Manifest | None:
    """Return what a generation needs; None if it is damaged, so that it cannot be opened."""
    with suppress(StoreError):
        return Manifest.read(generation / GENERATION_FILE)
    return None
