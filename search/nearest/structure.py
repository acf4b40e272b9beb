"""The FAISS structure of a generation: whether it needs lists, of which kind, and where they are.

index/trained/<name>/trained.raw         centres and quantiser, shared by generations
index/trained/<name>/lists-<segment>.raw, sizes-<segment>.raw
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from indexer.errors import DamagedStoreError, QueryError
from indexer.progress import Listen, Step, ignore
from indexer.store.disk import is_temporary, own_size, remove_all, require_own_folder, sync_folder
from indexer.store.verify import Problem, digest_problems
from search.generation.manifest import (
    Calibration,
    FileEntry,
    Kind,
    ListsEntry,
    Structure,
    describe_files,
    digests,
    outdated,
)
from search.generation.segments import Generation, Segment, is_shared_name
from search.nearest.calibrate import measure_index
from search.nearest.centres import TRAINING_ROWS_PER_LIST
from search.nearest.index import VectorIndex
from search.nearest.limits import (
    DEFAULT_RECALL,
    LEAST_MEMORY_BYTES,
    LEAST_RECALL,
    MOST_MEMORY_BYTES,
    MOST_RECALL,
)
from search.nearest.lists import (
    CAN_MAP_LISTS,
    CODE_BYTES,
    SIZES_PREFIX,
    TRAINED_FILE,
    ListFiles,
    SegmentLists,
    Trained,
    is_lists_file,
    num_lists_for,
    write_lists,
)
from search.nearest.scan import Lists

TRAINED_FOLDER = "trained"
#: Below this, an exact search of all windows takes 6 ms (0.12 us a row on two cores).
MIN_LISTED_ROWS = 50_000
#: Below this, there are no lists whatever the kind: a codebook of a byte needs as many examples.
MIN_TRAINING_ROWS = 256
#: Trained anew when the store has so many times the windows that it was trained for.
_MAX_GROWTH = 4.0
#: Trained anew when new windows are so many times as far from their centres as the first were.
_MAX_DRIFT = 1.5
#: And are at least this share of all: what is rare may be odd.
_DRIFTED_SHARE = 0.1
_MIN_ROWS_PER_LIST = 10
_DRIFT_ROWS = 4096
_VECTOR_BYTES = 3072
#: Taken for the memory of a machine whose system does not say: Windows has no `sysconf`.
_UNTOLD_MACHINE_BYTES = 8 << 30
#: Calibrated anew when the number of windows has changed by more than this share.
_RECALIBRATED = 0.2


@dataclass(frozen=True, slots=True)
class IndexConfig:
    """How an index is to be built.

    Attributes:
        memory_bytes: What building may take, and what the codes may fill of the machine's memory
            when searching; None for half of it.
        recall: Recall at 10 to be reached where an answer is not exact; None for what the
            previous index had, or 0.95.
        kind: "auto" chooses by the number of windows and the memory; "flat" has no lists and is
            exact; "sq8" and "pq" are inverted lists of codes with 768 or 96 bytes for a window.
    """

    memory_bytes: int | None = None
    recall: float | None = None
    kind: Literal["auto", "flat", "sq8", "pq"] = "auto"

    def __post_init__(self) -> None:
        if self.recall is not None and not LEAST_RECALL <= self.recall <= MOST_RECALL:
            raise QueryError(
                f"the recall to reach is from {LEAST_RECALL} to {MOST_RECALL}, got {self.recall}; "
                f"a question that has to find all of the nearest can be answered exactly"
            )
        given = self.memory_bytes
        if given is not None and not LEAST_MEMORY_BYTES <= given <= MOST_MEMORY_BYTES:
            raise QueryError(
                f"building takes {LEAST_MEMORY_BYTES / 1e9:g} GB at least, and "
                f"{MOST_MEMORY_BYTES / 1e9:,.0f} GB at most, got {given:,} bytes"
            )

    @property
    def memory(self) -> int:
        """Bytes that may be used."""
        return self.memory_bytes or _machine_bytes() // 2

    @property
    def max_segment_rows(self) -> int:
        """Rows of a segment, at most: its codes are held in memory, twice, while it is written."""
        return max(1 << 14, self.memory // 8 // CODE_BYTES["sq8"])

    def kind_for(self, num_rows: int, previous: Kind | None = None) -> Kind | None:
        """Return how vectors are to be kept in lists; None for no lists.

        Args:
            num_rows: Windows to be indexed.
            previous: What was chosen before; it stays, unless this says otherwise, or the store has
                outgrown the memory by far.
        """
        if self.kind == "flat" or num_rows < MIN_TRAINING_ROWS or not CAN_MAP_LISTS:
            return None
        if self.kind != "auto":
            return self.kind
        if num_rows < MIN_LISTED_ROWS:
            return None
        num_bytes = num_rows * CODE_BYTES["sq8"]
        if previous == "sq8" and self.memory_bytes is None:  # not given up for a few rows too many
            return "sq8" if num_bytes <= self.memory else "pq"
        if previous == "pq" and self.memory_bytes is None:
            return "pq"
        return "sq8" if num_bytes <= self.memory // 2 else "pq"


def _machine_bytes() -> int:
    if not hasattr(os, "sysconf"):
        return _UNTOLD_MACHINE_BYTES
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def open_index(generation: Generation) -> VectorIndex:
    """Open the index of a generation.

    Raises:
        DamagedStoreError: If it is not as it was written.
    """
    structure = generation.manifest.structure
    if structure.lists is None or not CAN_MAP_LISTS:
        return VectorIndex(generation, structure.calibration)
    folder = _folder(generation.path.parent, structure.lists)
    if TRAINED_FILE not in structure.lists.files:
        raise outdated(generation.path)
    require_own_folder(folder.parent)
    require_own_folder(folder)
    for problem in digest_problems(folder, _digests_of_parsed(structure.lists)):
        raise DamagedStoreError(problem.path, problem.reason, problem.remedy)
    return VectorIndex(generation, structure.calibration, _open_lists(generation, structure.lists))


def make_structure(
    generation: Generation,
    previous: Structure | None,
    config: IndexConfig,
    listen: Listen = ignore,
) -> Structure:
    """Make the structure of a new generation, reusing the previous one's as far as it suits.

    Args:
        generation: Its segments are written; it is not published yet.
        previous: The structure of the previous generation, if there was one.
        config: How to build.
        listen: Hears how many rows of those segments that get lists are done, and why lists are
            trained anew, if they are.

    Returns:
        What the manifest is to say.
    """
    old = previous.calibration if previous else None
    recall = config.recall or (old.target if old else DEFAULT_RECALL)
    kind = config.kind_for(generation.num_windows, previous.kind if previous else None)
    before = previous.lists if previous else None
    entry = None
    if kind:
        entry = _reuse(generation, before, kind, listen) or _train(generation, kind, config, listen)
    lists = None
    if entry:
        entry = _write_missing(generation, entry, listen)
        lists = _open_lists(generation, entry)
    is_same = (before.trained if before else None) == (entry.trained if entry else None)
    if old and is_same and not _is_outdated(old, recall, generation.num_windows):
        return Structure(old, entry)
    index = measure_index(generation, lists, recall)
    if entry and index.lists:
        entry = replace(entry, fetch=index.lists.fetch)
    return Structure(index.calibration, entry)


def is_as_wanted(generation: Generation, config: IndexConfig) -> bool:
    """Whether a generation's structure is what a build with this configuration would make."""
    structure = generation.manifest.structure
    lists = structure.lists
    return (
        config.kind_for(generation.num_windows, structure.kind) == structure.kind
        and config.recall in (None, structure.calibration.target)
        and (lists is None or _is_intact(generation, lists))
    )


def _is_intact(generation: Generation, lists: ListsEntry) -> bool:
    """Whether lists can be used as they are; those of older versions have other files."""
    files = _intact_files(generation, lists)
    return TRAINED_FILE in files and len(files) == len(lists.files)


def _intact_files(generation: Generation, entry: ListsEntry) -> dict[str, FileEntry]:
    """Return those files that have their size; of those that are parsed, their content too."""
    folder = _folder(generation.path.parent, entry)
    require_own_folder(folder)
    problems = digest_problems(folder, _digests_of_parsed(entry))
    damaged = {problem.path.name for problem in problems}
    return {
        name: file
        for name, file in entry.files.items()
        if name not in damaged and _size(folder / name) == file.size_bytes
    }


def _size(path: Path) -> int | None:
    with suppress(OSError, DamagedStoreError):
        return own_size(path)
    return None


def _is_outdated(old: Calibration, recall: float, num_windows: int) -> bool:
    """Whether what was measured no longer says enough."""
    changed = abs(num_windows - old.num_rows)
    return old.target != recall or changed > _RECALIBRATED * old.num_rows


def _reuse(
    generation: Generation, previous: ListsEntry | None, kind: Kind, listen: Listen
) -> ListsEntry | None:
    """Return the previous lists with what is intact of them, if their centres still suit."""
    if previous is None or previous.kind != kind:
        return None
    files = _intact_files(generation, previous)
    if TRAINED_FILE not in files:
        listen("the centres of the lists are damaged, or of an older version: training anew")
        return None
    if generation.num_windows > _MAX_GROWTH * previous.num_rows:
        listen(
            f"training anew: {generation.num_windows:,} windows now, "
            f"{previous.num_rows:,} when the lists were trained"
        )
        return None
    folder = _folder(generation.path.parent, previous)
    trained = Trained.open(folder / TRAINED_FILE, previous.kind)
    num_drifted = 0
    for segment in generation.segments:
        if f"{SIZES_PREFIX}{segment.name}.raw" not in previous.files:
            is_far = _distance(trained, segment) > _MAX_DRIFT * previous.distance
            num_drifted += len(segment) if is_far else 0
    if num_drifted > _DRIFTED_SHARE * generation.num_windows:
        listen(
            f"training anew: {num_drifted:,} new windows are {_MAX_DRIFT:g} times as far from the "
            f"centres of the lists as any part of those that they were trained for"
        )
        return None
    return replace(previous, files=files)


def _distance(trained: Trained, segment: Segment) -> float:
    """Return how far the windows of a segment are from their centres, on average."""
    rows = np.unique(np.linspace(0, len(segment) - 1, _DRIFT_ROWS).astype(int))
    vectors = segment.vectors[rows]
    finite = vectors[np.isfinite(vectors).all(1)]
    return float(trained.distances(finite).mean()) if len(finite) else 0.0


def _train(
    generation: Generation, kind: Kind, config: IndexConfig, listen: Listen
) -> ListsEntry | None:
    """Find centres on a sample, and write them to a folder of their own; None if too small."""
    num_lists = num_lists_for(generation.num_windows)
    live = np.flatnonzero(np.concatenate([segment.alive for segment in generation.segments]))
    most = min(num_lists * TRAINING_ROWS_PER_LIST, config.memory // 4 // _VECTOR_BYTES)
    chosen = np.random.default_rng(0).choice(live, min(most, len(live)), replace=False)
    sample = generation.vectors(np.sort(chosen))
    sample = sample[np.isfinite(sample).all(1)]  # damaged ones would spoil every centre
    if len(sample) < MIN_TRAINING_ROWS:
        return None
    num_lists = min(num_lists, len(sample) // _MIN_ROWS_PER_LIST)
    trained = Trained.train(sample, kind, num_lists, listen)
    entry = ListsEntry(
        trained=uuid.uuid4().hex,
        kind=kind,
        num_rows=generation.num_windows,
        distance=max(_distance(trained, segment) for segment in generation.segments),
        fetch=1,
        files={},
    )
    folder = _folder(generation.path.parent, entry)
    folder.mkdir(parents=True)
    sync_folder(folder.parent)
    trained.write(folder / TRAINED_FILE)
    return replace(entry, files=describe_files([folder / TRAINED_FILE]))


def _write_missing(generation: Generation, entry: ListsEntry, listen: Listen) -> ListsEntry:
    """Write the lists of those segments that have none yet.

    Returns:
        The entry with all files that are used, and no others.
    """
    folder = _folder(generation.path.parent, entry)
    trained = Trained.open(folder / TRAINED_FILE, entry.kind)
    used = {TRAINED_FILE: entry.files[TRAINED_FILE]}
    missing = []
    for segment in generation.segments:
        names = [path.name for path in _paths(ListFiles.of(folder, segment.name))]
        if all(name in entry.files for name in names):
            used.update((name, entry.files[name]) for name in names)
        else:
            missing.append(segment)
    done, total = 0, sum(map(len, missing))

    def advance(num_rows: int) -> None:
        nonlocal done
        done += num_rows
        listen(Step("indexing", done, total, "window"))

    for segment in missing:
        files = ListFiles.of(folder, segment.name)
        write_lists(trained, segment.vectors, files, advance)
        used.update(describe_files(_paths(files)))
    sync_folder(folder)
    return replace(entry, files=used)


def _open_lists(generation: Generation, entry: ListsEntry) -> Lists:
    folder = _folder(generation.path.parent, entry)
    trained = Trained.open(folder / TRAINED_FILE, entry.kind)
    lists = [
        SegmentLists(trained, ListFiles.of(folder, segment.name), len(segment))
        for segment in generation.segments
    ]
    return Lists(trained, lists, entry.fetch)


def _folder(index: Path, entry: ListsEntry) -> Path:
    return index / TRAINED_FOLDER / entry.trained


def _paths(files: ListFiles) -> tuple[Path, Path]:
    return files.codes, files.sizes


def _digests_of_parsed(entry: ListsEntry) -> dict[str, str]:
    """Return name → digest of what is small and parsed, and so has to be as it was written."""
    return {
        name: digest
        for name, digest in digests(entry.files).items()
        if name == TRAINED_FILE or name.startswith(SIZES_PREFIX)
    }


def structure_problems(index: Path, structures: Iterable[Structure]) -> Iterator[Problem]:
    """Check every byte of the lists that some generations name."""
    for folder, files in _files_by_folder(index, structures).items():
        yield from digest_problems(folder, digests(files))


def remove_unused_lists(index: Path, structures: Iterable[Structure]) -> None:
    """Delete all trained folders and lists but those that some generations name."""
    kept = _files_by_folder(index, structures)
    for folder in (index / TRAINED_FOLDER).glob("*"):
        if folder not in kept and is_shared_name(folder.name):
            remove_all(folder)
        elif folder in kept and not folder.is_symlink():
            for file in folder.iterdir():
                is_old = file.name not in kept[folder] and is_lists_file(file.name)
                if is_old or is_temporary(file.name):
                    remove_all(file)


def _files_by_folder(
    index: Path, structures: Iterable[Structure]
) -> dict[Path, dict[str, FileEntry]]:
    files: dict[Path, dict[str, FileEntry]] = {}
    for structure in structures:
        if structure.lists:
            files.setdefault(_folder(index, structure.lists), {}).update(structure.lists.files)
    return files
