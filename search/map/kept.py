"""A map as files: it is computed, but kept as what people add is, so that nothing on it moves.

    samples.soundalike/own/map/landmarks.safetensors   vectors, where they lie, regions, their names
    samples.soundalike/own/map/points.safetensors      where each window lies

Landmarks are drawn once, and stay until somebody wants them drawn anew. Points are added to. One
that is gone keeps its place for when it comes back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float16, Float32, Integers, Mask
from indexer.errors import DamagedStoreError, IdentityError, NotAsWrittenError, StoreError
from indexer.store.disk import (
    LOCK_SUFFIX,
    read_own,
    require_own_folder,
    write_whole,
    writing,
)
from indexer.store.lock import locked
from indexer.store.own import Own
from indexer.store.part import reading
from indexer.store.schema import EMBEDDING_DIM, Identity
from indexer.store.tensors import Tensors, pack_tensors, read_document, read_tensors
from indexer.tags import Tag
from search.map.clusters import named

MAP_FOLDER = "map"
LANDMARKS_FILE = "landmarks.safetensors"
POINTS_FILE = "points.safetensors"
_FORMAT = 1
#: Longest file that is read: the points of 70 million windows.
_MOST_BYTES = 1 << 30
#: Of a coordinate from 0 to 1, as it is kept: steps of 1/65535.
_STEPS = (1 << 16) - 1
#: Array of a file → its dtype, and the shape of a row.
_Rows = Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
_LANDMARKS: _Rows = {
    "window_id": (np.dtype("<i8"), ()),
    "vectors": (np.dtype("<f2"), (EMBEDDING_DIM,)),
    "xy": (np.dtype("<u2"), (2,)),
    "cluster": (np.dtype("<i2"), ()),
}
_POINTS: _Rows = {
    "window_id": (np.dtype("<i8"), ()),
    "xy": (np.dtype("<u2"), (2,)),
    "cluster": (np.dtype("<i2"), ()),
    "is_far": (np.dtype("bool"), ()),
}


class Landmarks(NamedTuple):
    """What a map is laid out by.

    Attributes:
        window_ids: (m,) int64, ascending.
        vectors: (m, 768) float16: that is enough to tell which is nearest.
        xy: (m, 2) uint16 where they lie, see `as_kept`.
        clusters: (m,) int16 which region each is in.
        middles: The landmark in the middle of each region.
        names: What each region is called.
        weights: SHA-256 of the weights that the vectors were computed with.
        num_windows: Windows that there were when they were drawn.
        far_cosine: 99 of 100 windows were this like their nearest landmark then.
        digest: SHA-256 of all this; empty until it is kept.
    """

    window_ids: Integers
    vectors: Float16
    xy: npt.NDArray[np.uint16]
    clusters: npt.NDArray[np.int16]
    middles: tuple[int, ...]
    names: tuple[tuple[Tag, ...], ...]
    weights: str
    num_windows: int
    far_cosine: float
    digest: str = ""

    def require_weights(self, identity: Identity, own: Own) -> None:
        """Raise unless a map is of windows that were computed with the weights of a store.

        Raises:
            IdentityError: If it is not.
        """
        if self.weights != identity.weights:
            raise IdentityError(
                f"the map in {own.folder} was drawn of another checkpoint's windows",
                {"weights": (self.weights, identity.weights)},
                f"weights {self.weights[:12]} there and {identity.weights[:12]} here",
                "Keep what is added to this store in another folder, or have the map drawn anew",
                about="map",
            )


class Points(NamedTuple):
    """Where windows lie.

    Attributes:
        window_ids: (n,) int64, ascending.
        xy: (n, 2) uint16, see `as_kept`.
        clusters: (n,) int16 which region each is in.
        is_far: (n,) whether it is less like its nearest landmark than 99 of 100 windows were when
            the landmarks were drawn.
    """

    window_ids: Integers
    xy: npt.NDArray[np.uint16]
    clusters: npt.NDArray[np.int16]
    is_far: Mask

    @classmethod
    def none(cls) -> Points:
        """Return no points."""
        return cls(*(np.empty((0, *shape), dtype) for dtype, shape in _POINTS.values()))

    def take(self, at: Integers) -> Points:
        """Return some of them."""
        window_ids, xy, clusters, is_far = self
        return Points(window_ids[at], xy[at], clusters[at], is_far[at])

    def with_others(self, others: Points) -> Points:
        """Return them and others, in order."""
        pairs: Any = zip(self, others, strict=True)
        both = Points(*(np.concatenate(pair) for pair in pairs))
        return both.take(np.argsort(both.window_ids, kind="stable"))


def as_kept(xy: Float32) -> npt.NDArray[np.uint16]:
    """Return coordinates from 0 to 1 in steps of 1/65535."""
    return np.asarray(np.rint(xy * np.float32(_STEPS)), np.uint16)


def as_shown(xy: npt.NDArray[np.uint16]) -> Float32:
    """Return coordinates that are kept as float32 from 0 to 1."""
    return np.asarray(xy / np.float32(_STEPS), np.float32)


def folder_of(own: Own) -> Path:
    """Return where a map is kept."""
    return own.folder / MAP_FOLDER


def read_landmarks(own: Own, store: Path) -> Landmarks | None:
    """Return the landmarks of a map; None if none was drawn yet.

    Args:
        own: Where it is kept.
        store: For the error.

    Raises:
        DamagedStoreError: If they are not as they were written.
        StoreError: If they cannot be read, or another version of the program drew them.
    """
    file = folder_of(own) / LANDMARKS_FILE
    with _explained(file, store):
        found = _read(own, file, _LANDMARKS)
        if found is None:
            return None
        document, tensors = found
        middles, names = document["middles"], document["names"]
        number = len(tensors["window_id"])
        if not len(middles) == len(names) == int(tensors["cluster"].max()) + 1:
            raise NotAsWrittenError("its regions are not those that it names")
        if tensors["cluster"].min() < 0 or not all(0 <= one < number for one in middles):
            raise NotAsWrittenError("its regions are not among its landmarks")
        return Landmarks(
            tensors["window_id"].astype(np.int64),
            tensors["vectors"],
            tensors["xy"],
            tensors["cluster"],
            tuple(middles),
            tuple(named(mids) for mids in names),
            document["weights"],
            document["num_windows"],
            document["far_cosine"],
            document["tensors"],
        )


def read_points(own: Own, landmarks: Landmarks, store: Path) -> Points:
    """Return where windows lie among some landmarks; none if none is kept.

    Args:
        own: Where the map is kept.
        landmarks: As kept; points among others are none of these.
        store: For the error.

    Raises:
        DamagedStoreError: If they are not as they were written.
        StoreError: If they cannot be read, or another version of the program wrote them.
    """
    file = folder_of(own) / POINTS_FILE
    with _explained(file, store):
        found = _read(own, file, _POINTS)
        if found is None or found[0]["landmarks"] != landmarks.digest:
            return Points.none()
        tensors = found[1]
        clusters = tensors["cluster"]
        if len(clusters) and not 0 <= clusters.min() <= clusters.max() < len(landmarks.names):
            raise NotAsWrittenError("its regions are not those of its landmarks")
        return Points(*(tensors[name] for name in _POINTS))


def write_landmarks(own: Own, landmarks: Landmarks, store: Path) -> Landmarks:
    """Write landmarks in the place of others, and return them as they are read.

    Raises:
        StoreError: If they cannot be written.
    """
    columns = zip(_LANDMARKS, landmarks, strict=False)
    tensors = {name: np.asarray(one, _LANDMARKS[name][0]) for name, one in columns}
    document = {
        "format": _FORMAT,
        "middles": list(landmarks.middles),
        "names": [[tag.mid for tag in tags] for tags in landmarks.names],
        "weights": landmarks.weights,
        "num_windows": landmarks.num_windows,
        "far_cosine": landmarks.far_cosine,
    }
    _write(own, LANDMARKS_FILE, tensors, document)
    written = read_landmarks(own, store)
    if written is None:
        raise StoreError(f"the map in {own.folder} was deleted while it was drawn")
    return written


def write_points(own: Own, points: Points, landmarks: Landmarks) -> None:
    """Write where windows lie.

    Args:
        own: Where the map is kept.
        points: Ids ascending.
        landmarks: As kept: what they lie among.

    Raises:
        StoreError: If they cannot be written.
    """
    columns = zip(_POINTS, points, strict=True)
    tensors = {name: np.asarray(one, _POINTS[name][0]) for name, one in columns}
    document = {"format": _FORMAT, "landmarks": landmarks.digest}
    _write(own, POINTS_FILE, tensors, document)


@contextmanager
def holding(own: Own) -> Iterator[None]:
    """Hold a map alone while it is drawn or added to.

    Raises:
        StoreError: If its folder cannot be written.
    """
    folder = folder_of(own)
    with writing(own.folder):
        require_own_folder(own.folder)
        require_own_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / LOCK_SUFFIX):
            yield


def problems(own: Own, store: Path) -> Iterator[tuple[Path, StoreError]]:
    """Yield each file of a map that is not as it was written, and why."""
    try:
        require_own_folder(own.folder)
    except StoreError:  # `Own.problems` says so
        return
    file = folder_of(own) / LANDMARKS_FILE
    try:
        landmarks = read_landmarks(own, store)
        file = folder_of(own) / POINTS_FILE
        if landmarks:
            read_points(own, landmarks, store)
    except StoreError as error:
        yield file, error


def _write(own: Own, name: str, tensors: Tensors, document: dict[str, Any]) -> None:
    with writing(own.folder):
        write_whole(folder_of(own) / name, pack_tensors(tensors, document))


def _read(
    own: Own, file: Path, shapes: _Rows
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]] | None:
    """Return the document and the arrays of a file; None if there is no such file."""
    require_own_folder(own.folder)
    require_own_folder(file.parent)
    try:
        content = read_own(file, _MOST_BYTES)
    except FileNotFoundError:
        return None
    document = read_document(content)
    if document.get("format") != _FORMAT:
        raise StoreError(
            f"{file} was written by another version of soundalike; the map has to be drawn anew",
            about="map",
        )
    tensors = read_tensors(content, document)
    number = len(tensors["window_id"])
    for name, (dtype, shape) in shapes.items():
        if tensors[name].dtype != dtype or tensors[name].shape != (number, *shape):
            raise NotAsWrittenError(f"its {name} is not what it should be")
    return document, tensors


@contextmanager
def _explained(file: Path, store: Path) -> Iterator[None]:
    """Say of a file that is damaged what to do about it."""
    remedy = "bring it back from a copy, or have the map drawn anew, which moves its points"
    try:
        with reading(file):
            yield
    except DamagedStoreError as error:
        if error.path.is_symlink():
            raise
        raise DamagedStoreError(
            error.path, error.reason, remedy, about="map", value=store
        ) from error
