"""Files of embeddings or scores, with ids: what other programs made, and what `export` writes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple
from zipfile import BadZipFile, is_zipfile
from zlib import error as ZlibError

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from indexer.arrays import Integers
from indexer.errors import SoundalikeError, first_line
from indexer.library.tables import read_parquet, whole_number

#: Names under which vectors are looked for, in this order.
_VECTORS = ("embeddings", "embedding", "scene")
_IDS = ("ids", "id")
_PROVENANCE = "provenance"
_SCORES, _TEXT_IDS, _AUDIO_IDS = "scores", "text_ids", "audio_ids"
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
#: Bytes of what is read from one file, unpacked: 1.4 million vectors of 768 floats.
MAX_BYTES = 1 << 32
#: What damaged or foreign files make their readers raise.
_UNREADABLE = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, RuntimeError),
    *(MemoryError, OverflowError, SyntaxError, BadZipFile, ZlibError),
    pa.ArrowException,
)
_FORMS = (
    "an .npz with ids and embeddings, or a .parquet with the columns id and embedding (or scene)"
)
_SCORES_FORM = f"an .npz with {_SCORES} (texts x sounds), {_TEXT_IDS} and {_AUDIO_IDS}"


class Embedded(NamedTuple):
    """Rows of one file.

    Attributes:
        ids: n of them; of a caption, that of its sound.
        vectors: (n, d) floats, all finite.
        leak: Why they must not be evaluated, if `export` was told to write them nevertheless.
        precision: At which they were computed, and where, if `export` says so.
        note: What a reader of figures must know of the checkpoint, if `project` says so.
    """

    ids: list[str]
    vectors: npt.NDArray[np.floating]
    leak: str | None = None
    precision: str | None = None
    note: str | None = None


class ScoreMatrix(NamedTuple):
    """Scores of texts and sounds that any model gave, compared as they are.

    Attributes:
        text_ids: One for each caption: that of its sound.
        audio_ids: One for each sound.
        scores: (num_texts, num_sounds) numbers, all finite.
    """

    text_ids: list[str]
    audio_ids: list[str]
    scores: npt.NDArray[Any]

    def of_texts(self, rows: Integers) -> npt.NDArray[Any]:
        """Return (len(rows), num_sounds) of some texts."""
        return self.scores[rows]

    def of_sounds(self, rows: Integers) -> npt.NDArray[Any]:
        """Return (len(rows), num_texts) of some sounds."""
        return self.scores[:, rows].T


def read_embedded(path: Path) -> Embedded:
    """Read a file of embeddings.

    Args:
        path: .npz with the arrays `ids` (n) and `embeddings` (n, d), or .parquet with a column `id`
            and a list column `embedding` or `scene`.

    Raises:
        SoundalikeError: If the file is not there or not of that form; says what is wrong.
    """
    with _explained(path, _FORMS):
        names = (*_IDS, *_VECTORS, _PROVENANCE)
        columns = _npz(path, names) if path.suffix == ".npz" else _parquet(path)
        provenance = _provenance(columns)
    ids = _one_of(path, columns, _IDS)
    vectors = _one_of(path, columns, _VECTORS)
    is_right = ids.ndim == 1 and vectors.ndim == 2 and vectors.dtype.kind == "f"
    if not is_right or len(vectors) != len(ids) or not len(ids):
        raise SoundalikeError(
            f"{path} has {ids.size} ids and embeddings of shape {vectors.shape} ({vectors.dtype}); "
            f"give one row of floats per id"
        )
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(1))[0])
        raise SoundalikeError(f"{path}: the embedding of {str(ids[row])!r} is not finite")
    leak = provenance.get("leak", "none")
    told = (None if leak == "none" else leak, provenance.get("precision"), provenance.get("note"))
    return Embedded(_texts(ids), vectors, *told)


def read_scores(path: Path) -> ScoreMatrix:
    """Read a file of scores.

    Args:
        path: .npz with the arrays `scores` (num_texts, num_sounds), the greater the nearer,
            `text_ids` (num_texts), of each the id of its sound, and `audio_ids` (num_sounds).

    Raises:
        SoundalikeError: If the file is not there or not of that form; says what is wrong.
    """
    with _explained(path, _SCORES_FORM):
        arrays = _npz(path, (_SCORES, _TEXT_IDS, _AUDIO_IDS))
        missing = [one for one in (_SCORES, _TEXT_IDS, _AUDIO_IDS) if one not in arrays]
        if missing:
            raise ValueError(f"it has no {missing[0]}")
        scores, text_ids, audio_ids = arrays[_SCORES], arrays[_TEXT_IDS], arrays[_AUDIO_IDS]
        wanted = (text_ids.size, audio_ids.size)
        is_right = scores.shape == wanted and scores.size and scores.dtype.kind in "fiu"
        if not is_right or text_ids.ndim != 1 or audio_ids.ndim != 1:
            raise ValueError(
                f"its scores are {scores.shape} of {scores.dtype}, and with {text_ids.size} "
                f"{_TEXT_IDS} and {audio_ids.size} {_AUDIO_IDS} not {wanted} numbers"
            )
        if not np.isfinite(scores).all():
            row = int(np.flatnonzero(~np.isfinite(scores).all(1))[0])
            raise ValueError(f"a score in row {row} is not finite")
    return ScoreMatrix(_texts(text_ids), _texts(audio_ids), scores)


@contextmanager
def _explained(path: Path, forms: str) -> Iterator[None]:
    """Say of whatever is wrong with a file what it is, and what the file should be."""
    try:
        if not path.is_file():
            raise ValueError("not a file" if path.exists() else "no such file")
        yield
    except OSError as error:
        raise SoundalikeError(f"cannot read {path}: {error.strerror or error}") from error
    except _UNREADABLE as error:
        raise SoundalikeError(f"cannot read {path}: {first_line(error)}; give {forms}") from error


def _texts(ids: npt.NDArray[Any]) -> list[str]:
    return [_text(one) for one in ids.tolist()]


def _text(one: object) -> str:
    if isinstance(one, bytes):
        return one.decode(errors="backslashreplace")
    return whole_number(str(one)) if isinstance(one, float) else str(one)


def _npz(path: Path, names: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    if not is_zipfile(path):
        raise ValueError("it is no .npz")
    with np.load(path, allow_pickle=False) as file:
        wanted = [one for one in file.files if one in names]
        # What is packed may stand for a thousand times as much, and what an array claims, for more.
        sizes = {entry.filename: entry.file_size for entry in file.zip.infolist()}
        if sum(sizes.get(f"{name}.npy", 0) for name in wanted) > MAX_BYTES:
            raise ValueError(f"more than {MAX_BYTES:,} bytes unpacked")
        for name in wanted:
            with file.zip.open(f"{name}.npy") as member:
                _require_size(name, member, sizes[f"{name}.npy"])
        return {name: file[name] for name in wanted}


def _require_size(name: str, member: IO[bytes], size: int) -> None:
    """Make sure that an array claims no more bytes than there are: all that it claims is taken."""
    version, formats = np.lib.format.read_magic(member), np.lib.format
    read = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
    shape, _, dtype = read[version](member)
    if math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"the array {name} claims to be {shape} of {dtype}, and is cut off")


def _parquet(path: Path) -> dict[str, npt.NDArray[Any]]:
    if path.suffix != ".parquet":
        raise ValueError(f"the suffix {path.suffix!r} is of no kind that is read")
    table = read_parquet(path, (*_IDS, *_VECTORS), MAX_BYTES)
    columns: dict[str, npt.NDArray[Any]] = {}
    if b"soundalike" in (table.schema.metadata or {}):
        columns[_PROVENANCE] = np.array(table.schema.metadata[b"soundalike"].decode())
    for name in table.column_names:
        column = table[name].combine_chunks()
        if column.null_count:
            raise ValueError(f"the column {name} has empty cells")
        if any(is_kind(column.type) for is_kind in _LISTS):
            if len(pc.unique(pc.list_value_length(column))) > 1:
                raise ValueError(f"the lists of {name} have different lengths")
            values = column.flatten().to_numpy(zero_copy_only=False)
            columns[name] = values.reshape(len(column), -1) if len(column) else values
        else:
            columns[name] = column.to_numpy(zero_copy_only=False)
    return columns


def _provenance(columns: dict[str, npt.NDArray[Any]]) -> dict[str, str]:
    """Return what `export` noted in a file of its own."""
    if _PROVENANCE not in columns:
        return {}
    noted = json.loads(str(columns[_PROVENANCE])).items()
    return {str(name): str(value) for name, value in noted}


def _one_of(
    path: Path, columns: dict[str, npt.NDArray[Any]], names: tuple[str, ...]
) -> npt.NDArray[Any]:
    for name in names:
        if name in columns:
            return columns[name]
    raise SoundalikeError(f"{path} has no {' or '.join(names)}; give {_FORMS}")
