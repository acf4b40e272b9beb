"""What became of every file of a store's libraries, those that were left out included."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.arrays import Integers, contains
from indexer.audio.packs.held import is_compressed_tar, is_named_as_archive, split
from indexer.errors import LibraryError, QueryError
from indexer.library.listed import with_members
from indexer.library.packs import require_folder
from indexer.library.passed_over import PassedOver, is_hidden, why_passed_over
from indexer.library.walk import Walk, files_below
from indexer.paths import local_path, path_id
from indexer.store.lock import Hold
from indexer.store.part import Part
from indexer.store.reader import Store
from indexer.store.schema import NO_FILE
from indexer.store.words import last_words
from indexer.windows import SAMPLE_RATE_HZ

#: Which files are asked for: those that failed; those that are "ok" and have something that a
#: listener should know; those that were never looked at, and folders that cannot be listed; those
#: that are no longer there.
Kind = Literal["failed", "warnings", "skipped", "gone"]
Status = Literal["ok", "failed", "moved", "gone", "skipped", "absent"]

_COLUMNS = (
    "path_id",
    "library_id",
    "path",
    "span_start",
    "span_samples",
    "size",
    "status",
    "stage",
    "reason",
    "num_samples",
    "first_sample",
    "warnings",
)
#: Stage of a folder that could not be listed.
_FOLDER = pa.array(["walk"])
#: Files of a library that are looked for in the ledger at a time.
_FILES_AT_A_TIME = 4096
_HIDDEN = "hidden: a name in its path begins with a dot"
_COMPRESSED = "compressed as a whole: unpack it to .tar"
_NO_ARCHIVE = "empty, or no archive, whatever its ending says"
_NESTED = "an archive in an archive: unpack it"
_REASONS: dict[PassedOver | None, str] = {"ending": "no ending of audio", "hidden": _HIDDEN}
#: Which patterns a run had is not recorded.
_OTHER_REASON = "left out by a pattern or a list, newer than the last run, or not reached by it"


class FileRow(NamedTuple):
    r"""What became of a file, or of a span of it.

    Attributes:
        status: "ok", "failed", "moved" (the content is at another path), "gone", or "skipped": it
            was never looked at. "absent" is no file but a library: its folder is not there, or
            cannot be listed, so that nobody knows what was skipped in it.
        library: Folder where the library was last seen; None if nobody knows.
        library_id: Its id.
        path: Relative to that, as stored: what is not UTF-8, and backslashes, as `\xNN`.
        start_s: Of the span that was asked for; None for the whole file.
        end_s: Likewise; cut at the end of the file, where that is known.
        duration_s: Length as decoded, in seconds; None where it was not.
        stage: Of a failure: "walk", "access", "open", "decode", "samples", "embed" or "crash".
        reason: Why it failed or was skipped, or where it moved to.
        warnings: What a listener should know although it is "ok".
    """

    status: Status
    library: str | None
    library_id: str
    path: str
    start_s: float | None = None
    end_s: float | None = None
    duration_s: float | None = None
    stage: str | None = None
    reason: str | None = None
    warnings: str | None = None


def list_files(path: Path, kinds: Collection[Kind] = ()) -> Iterator[FileRow]:
    """Say what became of every file of a store's libraries.

    First what the ledger has, in the order in which it was recorded; then what the libraries hold
    now and the ledger does not know. Of libraries that were forgotten, nothing is gone. A million
    files need some 130 MB.

    Args:
        path: Directory of the store.
        kinds: Only files of these; none for all, those that are "ok" without warnings too.

    Raises:
        QueryError: If there is no such kind.
        StoreError: If there is no store at `path`, or it cannot be read.
    """
    known = frozenset(get_args(Kind))
    for kind in kinds:
        if kind not in known:
            raise QueryError(f"files are of the kinds {', '.join(sorted(known))}, got {kind!r}")
    store = Store.open(path)
    wanted: frozenset[str] = frozenset(kinds) or known.union(["ok"])
    hold, parts = store.hold(), store.parts()
    listed = _recorded(store, parts, wanted)
    if "skipped" in wanted:
        listed = chain(listed, _passed_over(store, parts))
    return _while_held(listed, hold)


def _while_held(rows: Iterator[FileRow], hold: Hold) -> Iterator[FileRow]:
    """Yield rows, and keep the parts that they are read from until the last."""
    yield from rows
    del hold


def _recorded(store: Store, parts: Sequence[Part], wanted: frozenset[str]) -> Iterator[FileRow]:
    """Yield the last word of the ledger on every path, if it is of a kind that is wanted."""
    roots = {key: str(root) for key, root in store.libraries().items()}
    for batch in last_words(parts, _COLUMNS):
        status = batch["status"]
        has_warnings = pc.is_valid(batch["warnings"])
        is_of = {
            "failed": pc.equal(status, "failed"),
            "warnings": pc.and_(pc.equal(status, "ok"), has_warnings),
            "gone": is_departed(batch, roots),
            "skipped": pc.and_(
                pc.equal(status, "failed"), pc.is_in(batch["stage"], value_set=_FOLDER)
            ),
            "ok": pc.equal(status, "ok"),
        }
        chosen = np.any(
            [mask.to_numpy(zero_copy_only=False) for kind, mask in is_of.items() if kind in wanted],
            0,
        )
        if np.any(chosen):
            rows = batch.filter(pa.array(chosen)).to_pylist()
            yield from (_recorded_row(row, roots) for row in rows)


def is_departed(rows: pa.RecordBatch | pa.Table, libraries: Collection[str]) -> pa.Array:
    """Return which ledger rows are of files that were there, and no longer are.

    Args:
        rows: With the columns status, size and library_id.
        libraries: Ids of those that the store knows; the files of others were forgotten.
    """
    has_left = pc.is_in(rows["status"], value_set=pa.array(["gone", "moved"]))
    is_known = pc.is_in(rows["library_id"], value_set=pa.array(list(libraries), pa.string()))
    was_file = pc.not_equal(rows["size"], NO_FILE)
    return pc.and_(has_left, pc.and_(is_known, was_file))


def _recorded_row(row: dict[str, Any], roots: dict[str, str]) -> FileRow:
    start_s = end_s = None
    length = row["num_samples"]
    if row["span_start"] is not None:
        start_s = max(row["span_start"], row["first_sample"] or 0) / SAMPLE_RATE_HZ
        end_s = start_s + (length or row["span_samples"] or 0) / SAMPLE_RATE_HZ
    return FileRow(
        status=row["status"],
        library=roots.get(row["library_id"]),
        library_id=row["library_id"],
        path=row["path"],
        start_s=start_s,
        end_s=end_s,
        duration_s=None if length is None else length / SAMPLE_RATE_HZ,
        stage=row["stage"],
        reason=row["reason"],
        warnings=row["warnings"],
    )


def _passed_over(store: Store, parts: Sequence[Part]) -> Iterator[FileRow]:
    """Yield the files in the libraries, as they are now, that the ledger does not know."""
    known = _known_paths(parts)
    for library_id, root in store.libraries().items():
        try:
            yield from _left_out_of(library_id, root, known)
        except LibraryError as error:
            yield FileRow("absent", str(root), library_id, ".", reason=str(error))


def _left_out_of(library_id: str, root: Path, known: Integers) -> Iterator[FileRow]:
    """Yield the files in one library that the ledger does not know, then folders likewise."""
    library = str(root)
    found = Walk(require_folder(root))
    below = _paths_below(found)
    while paths := list(islice(below, _FILES_AT_A_TIME)):
        for path in _not_in(known, library_id, paths):
            yield FileRow("skipped", library, library_id, path, reason=_why_skipped(root, path))
    reasons = dict(found.unreadable)
    for folder in _not_in(known, library_id, list(reasons)):
        # Nobody looks into a hidden one, be it locked or not.
        why = (None, _HIDDEN) if is_hidden(folder) else ("walk", reasons[folder])
        yield FileRow("skipped", library, library_id, folder, stage=why[0], reason=why[1])


def _why_skipped(root: Path, path: str) -> str:
    parts = split(root / local_path(path))
    if parts and not is_named_as_archive(parts[0].name):  # names have no ending to be judged by
        is_below = parts[0].is_relative_to(root)  # and not the library itself
        is_seen = not is_below or not is_hidden(os.fspath(parts[0].relative_to(root)))
        return _OTHER_REASON if is_seen else _HIDDEN
    why = why_passed_over(path)
    if why == "ending" and is_compressed_tar(path):
        return _COMPRESSED
    if why == "ending" and is_named_as_archive(path):
        return _NESTED if parts else _NO_ARCHIVE
    said = _REASONS.get(why, _OTHER_REASON)
    return f"{said}; {_HIDDEN}" if why == "ending" and is_hidden(path) else said


def _not_in(known: Integers, library_id: str, paths: Sequence[str]) -> list[str]:
    path_ids = np.array([path_id(library_id, path) for path in paths], np.int64)
    is_known = contains(known, path_ids).tolist()
    return [path for path, one in zip(paths, is_known, strict=True) if not one]


def _paths_below(found: Walk) -> Iterator[str]:
    """Yield the paths of all files, and in the place of a pack those of what is in it."""
    paths = (path for path, _ in files_below(found))
    for path, members in with_members(found.root, paths, str, found.unreadable):
        yield from [path] if members is None else (one.path for one in members)


def _known_paths(parts: Sequence[Part]) -> Integers:
    """Return the sorted ids of the paths that were there when last seen, be it for spans only."""
    known = [np.empty(0, np.int64)]
    for batch in last_words(parts, _COLUMNS):
        was_there = pc.is_in(batch["status"], value_set=pa.array(["ok", "failed"]))
        present = batch.filter(was_there)
        known.append(present["path_id"].to_numpy())
        spans = present.filter(pc.is_valid(present["span_start"]))
        pairs = zip(spans["library_id"].to_pylist(), spans["path"].to_pylist(), strict=True)
        known.append(np.fromiter((path_id(*pair) for pair in pairs), np.int64))
    return np.unique(np.concatenate(known))
