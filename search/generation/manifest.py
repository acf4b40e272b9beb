"""What a generation's manifest says: segments, their sketches, what was measured, every file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

from indexer.errors import DamagedStoreError, NotAsWrittenError, StoreError
from indexer.store.disk import read_sealed, seal, sha256_of, write_whole
from indexer.store.part import reading

GENERATION_FILE = "manifest.json"
#: What to do where something of the index is found to be damaged that a build would use again.
MENDED_ANEW = "building the index anew, from nothing but the parts, mends it"
#: Of a generation; the store's own parts have another.
FORMAT = 12

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


class OutdatedIndexError(StoreError):
    """Another version of the program built a generation."""

    def __init__(self, generation: Path) -> None:
        super().__init__(
            f"the index {generation} was built by another version of soundalike; it has to be "
            f"built anew",
            about="build",
            value=generation.parents[1],
        )


@dataclass(frozen=True, slots=True)
class SketchEntry:
    """The sketch of a segment, see `search.nearest.sketch`.

    Attributes:
        num_scenes: Components of scenes.
        num_roots: Components of the roots of what is heard.
        num_lists: Lists of rows.
        num_listed: Rows in them: all but the last ones, which are damaged.
        num_clumps: Clumps of rows in them.
        half_width: Codes reach from minus this to this, from the centre of a list.
    """

    num_scenes: int
    num_roots: int
    num_lists: int
    num_listed: int
    num_clumps: int
    half_width: float

    @property
    def width(self) -> int:
        """Components of a row, a byte each."""
        return self.num_scenes + self.num_roots


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A segment that a generation holds.

    Attributes:
        name: Of its folder.
        shelf: Of the segments that were written together, and share their rows by what is alike.
        num_rows: Its rows, dead ones included.
        num_columns: Tags and groups of tags that its codes have a row for.
        files: Name → what was written.
        sketch: Of its rows, which are in the order of its lists; None if it has none.
    """

    name: str
    shelf: str
    num_rows: int
    num_columns: int
    files: Mapping[str, FileEntry]
    sketch: SketchEntry | None = None


class Measured(NamedTuple):
    """What was measured at the build, for filters that a certain share of the rows matches.

    Attributes:
        share: Of all rows, those that match.
        reach: How much nearer than its middle a clump is looked for rows, see `Ranking.rank` of
            `search.nearest.ranking`; a list, than its centre, more: see `search.nearest.scan`.
        num_scanned: Rows that match whose sketches were looked at, on average.
        margin: How much less near than the tenth best a row may be by its code, and be among the
            ten: of these, finer codes are looked at.
        finer_margin: The same by its finer code: these are scored exactly.
        num_scored: How many these were, on average.
        recall: Share of the true best 10 that were found.
        ms: Median milliseconds of a query, without its filter.
    """

    share: float
    reach: float
    num_scanned: int
    margin: float
    finer_margin: float
    num_scored: int
    recall: float
    ms: float


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of the sketches is looked at, and what that finds.

    Attributes:
        target: Recall at 10 that was asked for.
        num_rows: Live rows when it was measured.
        measured: From all rows to few; none if every answer is exact.
        segments: Names of the segments that it was measured with.
    """

    target: float
    num_rows: int = 0
    measured: tuple[Measured, ...] = ()
    segments: tuple[str, ...] = ()


#: Of a generation that is being built, or is searched exactly.
UNMEASURED = Effort(target=0.0)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a generation is made of.

    Attributes:
        num_windows: Live rows.
        segments: In order.
        effort: How the nearest rows are found.
        files: Name → what was written: the files in the generation's own folder.
    """

    num_windows: int
    segments: tuple[SegmentEntry, ...]
    effort: Effort
    files: Mapping[str, FileEntry]

    @property
    def is_sketched(self) -> bool:
        """Whether rows are proposed by sketches; if not, every answer is exact."""
        return bool(self.effort.measured)

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read a manifest.

        Raises:
            OutdatedIndexError: If another version of the program wrote it.
            DamagedStoreError: If it is not as it was written, or lacks what it has to say.
        """
        with reading(file):
            document = read_sealed(file)
            if document.get("format") != FORMAT:
                raise OutdatedIndexError(file.parent)
            return cls(
                _take(document, "num_windows", int),
                tuple(_read_segment(entry) for entry in _take(document, "segments", list)),
                _read_effort(_take(document, "effort", dict)),
                _read_files(document),
            )

    def write(self, file: Path) -> None:
        """Write it, whole or not at all."""
        document = {
            "format": FORMAT,
            "num_windows": self.num_windows,
            "segments": [asdict(entry) for entry in self.segments],
            "effort": asdict(self.effort),
            "files": self.files,
        }
        write_whole(file, seal(document))


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
    sketch = entry.get("sketch")
    return SegmentEntry(
        _check_name(_take(entry, "name", str)),
        _check_name(_take(entry, "shelf", str)),
        _take_count(entry, "num_rows"),
        _take_count(entry, "num_columns"),
        _read_files(entry),
        None if sketch is None else _read_sketch(sketch),
    )


def _read_sketch(entry: Any) -> SketchEntry:
    return SketchEntry(
        num_scenes=_take_count(entry, "num_scenes"),
        num_roots=_take_count(entry, "num_roots"),
        num_lists=_take_count(entry, "num_lists"),
        num_listed=_take_count(entry, "num_listed"),
        num_clumps=_take_count(entry, "num_clumps"),
        half_width=_take_number(entry, "half_width"),
    )


def _read_effort(entry: Any) -> Effort:
    return Effort(
        target=_take_number(entry, "target"),
        num_rows=_take_count(entry, "num_rows"),
        measured=tuple(_read_measured(one) for one in _take(entry, "measured", list)),
        segments=tuple(
            _check_name(_check("segments", one, str)) for one in _take(entry, "segments", list)
        ),
    )


def _read_measured(entry: Any) -> Measured:
    if not isinstance(entry, list) or len(entry) != len(Measured._fields):
        raise NotAsWrittenError("what was measured is not eight numbers each")
    named = dict(zip(Measured._fields, entry, strict=True))
    return Measured(
        _take_number(named, "share"),
        _take_number(named, "reach"),
        _take_count(named, "num_scanned"),
        _take_number(named, "margin"),
        _take_number(named, "finer_margin"),
        _take_count(named, "num_scored"),
        _take_number(named, "recall"),
        _take_number(named, "ms"),
    )


def _read_files(entry: Any) -> dict[str, FileEntry]:
    return {
        _check_name(name): FileEntry(_check("size", size, int), _check("digest", digest, str))
        for name, (size, digest) in _take(entry, "files", dict).items()
    }


def _take(entry: Any, name: str, kind: type[_T]) -> _T:
    """Return a field of an entry, which must be there and of a type."""
    return _check(name, entry.get(name), kind)


def _take_count(entry: Any, name: str) -> int:
    value = _take(entry, name, int)
    if not 0 <= value <= _MOST:
        raise NotAsWrittenError(f"its {name} is out of bounds")
    return value


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
