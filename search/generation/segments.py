"""What search opens: immutable segments of rows, memory-mapped, and generations that list them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from indexer.arrays import ID_DTYPE, Float16, Float32, Ids, Integers, Mask
from indexer.errors import DamagedStoreError, NotAsWrittenError, StoreError
from indexer.store.disk import read_own, require_own_folder
from indexer.store.part import reading
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM, NUM_TAGS
from indexer.store.snapshot import WindowTable
from indexer.store.verify import digest_problems
from search.generation.manifest import GENERATION_FILE, Manifest, digests, mended_by_building
from search.generation.mapped import Lookup, array_file, map_array, number_of
from search.generation.recordings import Recordings

INDEX_FOLDER = "index"
SEGMENTS_FOLDER = "segments"
CURRENT_FILE = "CURRENT"
RECORDINGS_FILE = "recordings.arrow"
PARTS_FILE = "parts.txt"
TEMPORARY_PREFIX = ".tmp-"

#: Arrays of a segment that have a row for each of its rows: name → (dtype, shape of a row).
SEGMENT_ARRAYS: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
    "window_id": (np.dtype("<i8"), ()),
    "recording_id": (ID_DTYPE, ()),
    "start_sample": (np.dtype("<i8"), ()),
    "num_samples": (np.dtype("<i4"), ()),
    "vectors": (np.dtype("<f4"), (EMBEDDING_DIM,)),
    "tags": (np.dtype("<f2"), (NUM_TAGS,)),
    "level_db": (np.dtype("<f4"), ()),  # as `Block.level_db`
}
#: Of these, answers take a few rows; around each the system reads 128 kB, which are some 40.
_READ_AROUND = 40
_SCATTERED = ("vectors", "tags")
CODES = "codes"
RECORDING_DTYPE = np.dtype("<i4")

#: Number and random part: publishing gives the next number.
_GENERATION_NAME = re.compile(r"[0-9]{8}-[0-9a-f]{8}")
_SHARED_NAME = re.compile(r"[0-9a-f]{32}")
_CURRENT_BYTES = 100  # more than the name of a generation has
#: A generation that is replaced while it is opened is tried again this often.
_ATTEMPTS = 5
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, repr=False)
class Segment:
    """A block of rows: memory-mapped, never changed once written.

    Attributes:
        path: Its folder.
        arrays: Its columns, one row for each of its rows: see `SEGMENT_ARRAYS`.
        codes: (num_columns, num_rows) uint8, tag by tag: `code_of` the probability. After the 527
            tags come the groups of `TagVocabulary.groups`, each the maximum of its tags.
        alive: (num_rows,) which rows a generation still holds.
        recordings: (num_rows,) int32: where `Generation.recordings` has the first place of each
            row's recording; anything for rows that are dead.
        by_id: Its rows by the ids of their windows.
        by_recording: Its rows by `number_of` their recordings.
        scattered: Some of the arrays once more, to be read here and there.
        derived: What was computed of its rows: name → of what exactly, and (num_rows,) of it.
    """

    path: Path
    arrays: Mapping[str, npt.NDArray[Any]]
    codes: npt.NDArray[np.uint8]
    alive: Mask
    recordings: npt.NDArray[np.int32]
    by_id: Lookup
    by_recording: Lookup
    scattered: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    derived: dict[str, tuple[str, Float16]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Segment({self.name!r}, {len(self):,} rows)"

    @property
    def name(self) -> str:
        """Its folder's name."""
        return self.path.name

    @property
    def windows(self) -> WindowTable:
        """The window table of its rows."""
        return WindowTable(*(self.arrays[name] for name in WindowTable._fields))

    @property
    def vectors(self) -> Float32:
        """(num_rows, 768) float32 of length 1: scene embeddings, unless these are projected."""
        return self.arrays["vectors"]

    @property
    def tags(self) -> Float16:
        """(num_rows, 527) float16 probabilities."""
        return self.arrays["tags"]

    def __len__(self) -> int:
        return len(self.alive)

    @classmethod
    def open(cls, path: Path, generation: Path, num_rows: int, num_columns: int) -> Self:
        """Map a segment's arrays, and what a generation's folder says of its rows.

        Raises:
            DamagedStoreError: If an array is missing or not of the expected size.
        """
        require_own_folder(path)
        packed = map_array(
            alive_file(generation, path.name), np.dtype("u1"), ((num_rows + 7) // 8,)
        )
        alive = np.unpackbits(packed, count=num_rows).view(bool)
        recordings = map_array(recordings_file(generation, path.name), RECORDING_DTYPE, (num_rows,))
        arrays = {
            name: map_array(array_file(path, name), dtype, (num_rows, *rest))
            for name, (dtype, rest) in SEGMENT_ARRAYS.items()
        }
        codes = map_array(array_file(path, CODES), np.dtype(np.uint8), (num_columns, num_rows))
        by_id, by_recording = (Lookup.open(path, name, num_rows) for name in ("id", "recording"))
        scattered = {
            name: map_array(array_file(path, name), dtype, (num_rows, *rest), scattered=True)
            for name, (dtype, rest) in ((one, SEGMENT_ARRAYS[one]) for one in _SCATTERED)
        }
        return cls(path, arrays, codes, alive, recordings, by_id, by_recording, scattered)

    def rows_of(self, name: str, rows: Integers) -> npt.NDArray[Any]:
        """Return one of the arrays for some rows; of many, what lies around them is read ahead."""
        array = self.arrays[name]
        if name in self.scattered and _are_far_apart(rows):
            array = self.scattered[name]
        return np.asarray(array[rows])

    def find(self, window_ids: Integers) -> Integers:
        """Return (n,) the row of each of some windows, dead or alive; -1 for all others."""
        rows = self.by_id.find(window_ids)
        at = np.clip(rows, 0, max(0, len(self) - 1))  # whatever is in the files
        return np.where((rows == at) & (self.arrays["window_id"][at] == window_ids), rows, -1)

    def rows_of_recording(self, recording_id: bytes) -> Integers:
        """Return (n,) the rows of a recording, dead or alive, in order."""
        wanted = np.array([recording_id], ID_DTYPE)
        rows = self.by_recording.find_all(int(number_of(wanted)[0]))
        rows = np.unique(rows[(rows >= 0) & (rows < len(self))])  # whatever is in the files
        return np.asarray(rows[self.arrays["recording_id"][rows] == wanted])


def _are_far_apart(rows: Integers) -> bool:
    return len(rows) < _READ_AROUND or _READ_AROUND * len(rows) < int(rows.max() - rows.min())


class Rows:
    """Segments one after the other; a row is a position in all of them, dead rows included.

    Attributes:
        segments: In order.
        starts: (num_segments + 1,) first row of each segment, and the number of all rows.
    """

    __slots__ = ()
    segments: tuple[Segment, ...]
    starts: Integers

    def locate(self, rows: Integers) -> Iterator[tuple[Segment, Integers, Integers]]:
        """Group rows by segment.

        Yields:
            (segment, rows within it, their positions in `rows`), for segments that have any.
        """
        order = np.argsort(rows, kind="stable")
        rows = rows[order]
        bounds = np.searchsorted(rows, self.starts)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            some = slice(bounds[number], bounds[number + 1])
            yield self.segments[number], rows[some] - self.starts[number], order[some]

    def vectors(self, rows: Integers) -> Float32:
        """Return (n, 768) float32 vectors of some rows."""
        return self.column("vectors", rows)

    def tags(self, rows: Integers) -> Float16:
        """Return (n, 527) float16 probabilities of some rows."""
        return self.column("tags", rows)

    def window_ids(self, rows: Integers) -> Integers:
        """Return (n,) window ids of some rows."""
        return self.column("window_id", rows)

    def recording_ids(self, rows: Integers) -> Ids:
        """Return (n,) recording ids of some rows."""
        return self.column("recording_id", rows)

    def windows(self, rows: Integers) -> WindowTable:
        """Return the windows of some rows."""
        return WindowTable(*(self.column(name, rows) for name in WindowTable._fields))

    def column(self, name: str, rows: Integers) -> npt.NDArray[Any]:
        """Return one of `SEGMENT_ARRAYS`, or what its row says, for some rows."""
        if len(self.segments) == 1:
            return self.segments[0].rows_of(name, rows)
        dtype, shape = SEGMENT_ARRAYS[name]
        shape = next((one.arrays[name].shape[1:] for one in self.segments), shape)  # or narrower
        result = np.empty((len(rows), *shape), dtype)
        for segment, local, at in self.locate(rows):
            result[at] = segment.rows_of(name, local)
        return result

    def live_rows(self) -> Integers:
        """Return (n,) all rows that are alive."""
        pairs = zip(self.starts.tolist(), self.segments, strict=False)
        each = [start + np.flatnonzero(segment.alive) for start, segment in pairs]
        return np.concatenate([np.empty(0, np.int64), *each])

    def find_all(self, window_ids: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Yield (window id, its row) of those of some windows that are alive here; each once."""
        wanted = np.unique(np.array([one for one in window_ids if 0 <= one < 2**63], np.int64))
        for start, segment in zip(self.starts.tolist(), self.segments, strict=False):
            if not len(wanted):  # as in every question by a clip
                return
            rows = segment.find(wanted)
            is_here = (rows >= 0) & segment.alive[rows]
            yield from zip(wanted[is_here].tolist(), (start + rows[is_here]).tolist(), strict=True)
            wanted = wanted[~is_here]  # of several stores, the first


@dataclass(frozen=True, slots=True, repr=False)
class Generation(Rows):
    """A consistent view for queries: it stays as it is while newer ones are published.

    Attributes:
        path: Its folder.
        segments: In order; a row is a position in their concatenation, dead rows included.
        starts: First row of each segment, and the number of all rows.
        parts: Names of the parts of the store that it holds.
        num_windows: Live rows.
        recordings: Where the recordings are.
        manifest: What is on disk, with digests.
    """

    path: Path
    segments: tuple[Segment, ...]
    starts: Integers
    parts: tuple[str, ...]
    num_windows: int
    recordings: Recordings
    manifest: Manifest

    def __repr__(self) -> str:
        return f"Generation({self.path.name!r}, {self.num_windows:,} windows)"

    def rows_of_recording(self, recording_id: bytes) -> Integers:
        """Return (n,) the live rows of a recording, in any order; none if it is unknown."""
        each = [np.empty(0, np.int64)]
        for start, segment in zip(self.starts.tolist(), self.segments, strict=False):
            rows = segment.rows_of_recording(recording_id)
            each.append(start + rows[segment.alive[rows]])
        return np.concatenate(each)

    @classmethod
    def current(cls, store: Store) -> Self:
        """Open the newest generation of a store.

        Raises:
            StoreError: If nothing was built yet.
            DamagedStoreError: If it is not as it was written.
        """
        return open_newest(store, cls.open)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a generation by its folder.

        Raises:
            StoreError: If another version of the program built it.
            DamagedStoreError: If it is not as it was written.
        """
        manifest = Manifest.read(folder / GENERATION_FILE)
        # Its own files are small, and parsed: they are checked now. Segments are neither.
        for problem in digest_problems(folder, digests(manifest.files)):
            raise DamagedStoreError(problem.path, problem.reason, problem.remedy)
        return cls.of_manifest(folder, manifest)

    @classmethod
    def of_manifest(cls, folder: Path, manifest: Manifest) -> Self:
        """Open a generation whose manifest is known, published or not.

        Raises:
            DamagedStoreError: If it is not as it was written.
        """
        with reading(folder):
            require_own_folder(folder.parent / SEGMENTS_FOLDER)
            recordings = Recordings.open(folder / RECORDINGS_FILE)
            segments = tuple(
                Segment.open(
                    folder.parent / SEGMENTS_FOLDER / entry.name,
                    folder,
                    entry.num_rows,
                    entry.num_columns,
                )
                for entry in manifest.segments
            )
            for segment in segments:
                _require_known(segment, len(recordings.ids))
            return cls(
                path=folder,
                segments=segments,
                starts=np.cumsum([0, *map(len, segments)], dtype=np.int64),
                parts=tuple((folder / PARTS_FILE).read_text("ascii").splitlines()),
                num_windows=manifest.num_windows,
                recordings=recordings,
                manifest=manifest,
            )


def _require_known(segment: Segment, num_places: int) -> None:
    """Raise if a live row of a segment says that its recording is listed where nothing is."""
    places = segment.recordings[segment.alive]
    if len(places) and not 0 <= places.min() <= places.max() < num_places:
        raise DamagedStoreError(segment.path, "it has rows of unknown recordings")


def open_newest(store: Store, open_folder: Callable[[Path], _T]) -> _T:
    """Open the generation that queries use now, again if it is replaced and deleted meanwhile.

    Args:
        store: Whose index is opened.
        open_folder: Opens a generation by its folder; a DamagedStoreError says that it cannot.

    Returns:
        What `open_folder` gave.

    Raises:
        StoreError: If nothing was built yet.
        DamagedStoreError: If the index is not as it was written.
    """
    index = store.path / INDEX_FOLDER
    for _ in range(_ATTEMPTS):
        name = current_name(store)
        if name is None:
            raise StoreError(f"{store.path} has no index yet", about="build", value=store.path)
        try:
            require_own_folder(index / name)
            if not (index / name).is_dir():
                raise DamagedStoreError(index / CURRENT_FILE, f"there is no generation {name}")
            return open_folder(index / name)
        except DamagedStoreError as error:
            if current_name(store) == name:
                raise mended_by_building(store.path, error) from error
    raise StoreError(f"the index of {store.path} changes faster than it can be opened; try again")


def current_name(store: Store) -> str | None:
    """Return the name of the generation that queries use now; None if there is none.

    Raises:
        DamagedStoreError: If the file that says so does not name a generation.
    """
    file = store.path / INDEX_FOLDER / CURRENT_FILE
    try:
        with reading(file):
            require_own_folder(file.parent)
            try:
                name = read_own(file, _CURRENT_BYTES).decode("ascii", "replace")
            except FileNotFoundError:
                return None
            if not is_generation_name(name):
                raise NotAsWrittenError("it names no generation")
            return name
    except DamagedStoreError as error:
        raise mended_by_building(store.path, error) from error


def is_generation_name(name: str) -> bool:
    """Whether a folder of that name holds a generation."""
    return _GENERATION_NAME.fullmatch(name) is not None


def is_shared_name(name: str) -> bool:
    """Whether a folder of that name holds what generations share: a segment, or former lists."""
    return _SHARED_NAME.fullmatch(name) is not None


def alive_file(folder: Path, segment: str) -> Path:
    """Return the mask of live rows of a segment, a bit each, in a generation's folder."""
    return folder / f"alive-{segment}.raw"


def recordings_file(folder: Path, segment: str) -> Path:
    """Return the recording of each row of a segment, in a generation's folder."""
    return folder / f"recordings-{segment}.raw"
