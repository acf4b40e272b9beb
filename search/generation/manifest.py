"""What a generation's manifest says: its segments, its lists, what was measured, and every file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeVar, get_args

from indexer.errors import DamagedStoreError, NotAsWrittenError, StoreError
from indexer.store.disk import read_sealed, seal, sha256_of, write_whole
from indexer.store.part import reading

GENERATION_FILE = "manifest.json"
#: Of a generation; the store's own parts have another.
FORMAT = 4

#: How a vector is kept in a list: "sq8" has a byte per dimension, "pq" a byte per 8 dimensions.
Kind = Literal["sq8", "pq"]
KINDS: tuple[Kind, ...] = get_args(Kind)

#: No share, time or factor in a manifest is larger; some are written as less than nothing.
_MOST = 1e12
#: What a folder or a file of an index may be called: nothing that leads elsewhere.
_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*")
_T = TypeVar("_T")


class FileEntry(NamedTuple):
    """A file as it was written.

    Attributes:
        size_bytes: Its size.
        digest: SHA-256 of its content, in hex.
    """

    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A segment that a generation holds.

    Attributes:
        name: Of its folder.
        num_rows: Its rows, dead ones included.
        num_columns: Tags and groups of tags that its codes have a row for.
        files: Name → what was written.
    """

    name: str
    num_rows: int
    num_columns: int
    files: Mapping[str, FileEntry]


@dataclass(frozen=True, slots=True)
class Level:
    """What was measured at the build, for filters that a certain share of the rows matches.

    Attributes:
        share: Of all rows, those that match.
        reach: A list is visited if its centre is nearer than the k-th hit, or less near by this.
        effort: Lists that were visited for a query: the median.
        recall: Share of the true best 10 that were found: the lowest of the filters tried.
        ms: Median milliseconds of a query, without its filter.
    """

    share: float
    reach: float
    effort: int
    recall: float
    ms: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the plans cost on the machine that built the index, and how much they find.

    Attributes:
        target: Recall at 10 that was asked for.
        num_rows: Live rows when it was measured.
        exact_row_ms: Milliseconds that an exact search takes for each matching row.
        levels: From all rows to few; none without lists.
    """

    target: float
    num_rows: int
    exact_row_ms: float
    levels: tuple[Level, ...] = ()


@dataclass(frozen=True, slots=True)
class ListsEntry:
    """Centres, and the lists of each segment around them.

    Attributes:
        trained: Name of the folder that they are in.
        kind: How the lists keep vectors.
        num_rows: Live rows when the centres were trained.
        distance: How far the windows were from their centres then, as 1 - cosine: of each segment
            the average, and of these the greatest.
        fetch: Candidates that are scored again, as a multiple of k.
        files: Name → what was written.
    """

    trained: str
    kind: Kind
    num_rows: int
    distance: float
    fetch: float
    files: Mapping[str, FileEntry]


@dataclass(frozen=True, slots=True)
class Structure:
    """How the nearest rows of a generation are found.

    Attributes:
        calibration: What the plans cost, and how much they find.
        lists: None if every answer is exact.
    """

    calibration: Calibration
    lists: ListsEntry | None = None

    @property
    def kind(self) -> Kind | None:
        """How the lists keep vectors; None without lists."""
        return self.lists.kind if self.lists else None


#: Of a generation that is being built.
UNMEASURED = Structure(Calibration(target=0.0, num_rows=0, exact_row_ms=0.0))


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a generation is made of.

    Attributes:
        num_windows: Live rows.
        segments: In order.
        structure: How the nearest rows are found.
        files: Name → what was written: the files in the generation's own folder.
    """

    num_windows: int
    segments: tuple[SegmentEntry, ...]
    structure: Structure
    files: Mapping[str, FileEntry]

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a manifest.

        Raises:
            StoreError: If another version of the program wrote it.
            DamagedStoreError: If it is not as it was written, or lacks what it has to say.
        """
        with reading(file):
            document = read_sealed(file)
            if document.get("format") != FORMAT:
                raise outdated(file.parent)
            return cls(
                _take(document, "num_windows", int),
                tuple(_read_segment(entry) for entry in _take(document, "segments", list)),
                _read_structure(_take(document, "structure", dict)),
                _read_files(document),
            )

    def write(self, file: Path) -> None:
        """Write it, whole or not at all."""
        lists = self.structure.lists
        document = {
            "format": FORMAT,
            "num_windows": self.num_windows,
            "segments": [asdict(entry) for entry in self.segments],
            "structure": {
                **(asdict(lists) if lists else {"trained": None}),
                "calibration": asdict(self.structure.calibration),
            },
            "files": self.files,
        }
        write_whole(file, seal(document))


def outdated(generation: Path) -> StoreError:
    """Return the error for a generation that another version of the program built."""
    return StoreError(
        f"the index {generation} was built by another version of soundalike; it has to be built "
        f"anew",
        about="build",
        value=generation.parents[1],
    )


def mended_by_building(store: Path, error: DamagedStoreError) -> DamagedStoreError:
    """Return what is wrong in the index of a store, with what to do; no link is built away."""
    if error.path.is_symlink():
        return error
    remedy = "building the index again mends it"
    if error.path.is_dir():  # what is in it may be somebody's
        remedy = "remove it, if nobody needs what is in it, and build the index again"
    return DamagedStoreError(error.path, error.reason, remedy, about="build", value=store)


def describe_files(paths: Iterable[Path]) -> dict[str, FileEntry]:
    """Return name → what was written of some files."""
    return {path.name: FileEntry(path.stat().st_size, sha256_of(path)) for path in paths}


def digests(files: Mapping[str, FileEntry]) -> dict[str, str]:
    """Return name → SHA-256, as `digest_problems` takes it."""
    return {name: entry.digest for name, entry in files.items()}


def _read_segment(entry: Any) -> SegmentEntry:
    return SegmentEntry(
        _check_name(_take(entry, "name", str)),
        _take(entry, "num_rows", int),
        _take(entry, "num_columns", int),
        _read_files(entry),
    )


def _read_structure(entry: Any) -> Structure:
    calibration = _read_calibration(_take(entry, "calibration", dict))
    if entry["trained"] is None:
        return Structure(calibration)
    kind = _take(entry, "kind", str)
    if kind not in KINDS:
        raise NotAsWrittenError(f"there are no lists of the kind {kind!r}")
    lists = ListsEntry(
        _check_name(_take(entry, "trained", str)),
        kind,
        _take(entry, "num_rows", int),
        _take_number(entry, "distance"),
        _take_number(entry, "fetch"),
        _read_files(entry),
    )
    return Structure(calibration, lists)


def _read_calibration(entry: Any) -> Calibration:
    levels = tuple(
        Level(
            _take_number(level, "share"),
            _take_number(level, "reach"),
            _take(level, "effort", int),
            _take_number(level, "recall"),
            _take_number(level, "ms"),
        )
        for level in _take(entry, "levels", list)
    )
    return Calibration(
        _take_number(entry, "target"),
        _take(entry, "num_rows", int),
        _take_number(entry, "exact_row_ms"),
        levels,
    )


def _read_files(entry: Any) -> dict[str, FileEntry]:
    return {
        _check_name(name): FileEntry(_check("size", size, int), _check("digest", digest, str))
        for name, (size, digest) in _take(entry, "files", dict).items()
    }


def _take(entry: Any, name: str, kind: type[_T]) -> _T:
    """Return a field of an entry, which must be there and of a type."""
    return _check(name, entry.get(name), kind)


def _take_number(entry: Any, name: str) -> float:
    value = entry.get(name)
    number: float = value if type(value) is int else _check(name, value, float)
    if not abs(number) <= _MOST:  # which NaN is not, either
        raise NotAsWrittenError(f"its {name} is out of bounds")
    return number


def _check(name: str, value: Any, kind: type[_T]) -> _T:
    if type(value) is not kind:  # a truth value is no number here
        raise NotAsWrittenError(f"its {name} is {type(value).__name__}, not {kind.__name__}")
    return value


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise NotAsWrittenError(f"{name!r} is no name of a file in an index")
    return name
