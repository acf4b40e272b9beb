"""Files of embeddings with ids: what other programs made, and what `export` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from indexer.errors import SoundalikeError

#: Names under which vectors are looked for, in this order.
_VECTORS = ("embeddings", "embedding", "scene")
_IDS = ("ids", "id")
_PROVENANCE = "provenance"
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
_FORMS = (
    "an .npz with ids and embeddings, or a .parquet with the columns id and embedding (or scene)"
)


class Embedded(NamedTuple):
    """Rows of one file.

    Attributes:
        ids: n of them; of a caption, that of its sound.
        vectors: (n, d) floats, all finite.
        leak: Why they must not be evaluated, if `export` was told to write them nevertheless.
    """

    ids: list[str]
    vectors: npt.NDArray[np.floating]
    leak: str | None = None


def read_embedded(path: Path) -> Embedded:
    """Read a file of embeddings.

    Args:
        path: .npz with the arrays `ids` (n) and `embeddings` (n, d), or .parquet with a column `id`
            and a list column `embedding` or `scene`.

    Raises:
        SoundalikeError: If the file is not there or not of that form; says what is wrong.
    """
    try:
        columns = _npz(path) if path.suffix == ".npz" else _parquet(path)
    except OSError as error:
        raise SoundalikeError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, EOFError, BadZipFile, pa.ArrowException) as error:
        raise SoundalikeError(f"cannot read {path}: {error}; give {_FORMS}") from error
    ids = _one_of(path, columns, _IDS)
    vectors = _one_of(path, columns, _VECTORS)
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or len(vectors) != len(ids) or not len(ids):
        raise SoundalikeError(
            f"{path} has {len(ids)} ids and embeddings of shape {vectors.shape} ({vectors.dtype}); "
            f"give one row of floats per id"
        )
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(1))[0])
        raise SoundalikeError(f"{path}: the embedding of {str(ids[row])!r} is not finite")
    names = [one.decode() if isinstance(one, bytes) else str(one) for one in ids.tolist()]
    return Embedded(names, vectors, _leak(columns))


def _npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    with np.load(path, allow_pickle=False) as file:
        wanted = (*_IDS, *_VECTORS, _PROVENANCE)
        return {name: file[name] for name in file.files if name in wanted}


def _parquet(path: Path) -> dict[str, npt.NDArray[Any]]:
    if path.suffix != ".parquet":
        raise ValueError(f"the suffix {path.suffix!r} is of no kind that is read")
    held = pq.read_schema(path).names
    table = pq.read_table(path, columns=[name for name in held if name in (*_IDS, *_VECTORS)])
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


def _leak(columns: dict[str, npt.NDArray[Any]]) -> str | None:
    """Return what `export` noted in a file of its own."""
    if _PROVENANCE not in columns:
        return None
    reason = str(json.loads(str(columns[_PROVENANCE])).get("leak", "none"))
    return None if reason == "none" else reason


def _one_of(
    path: Path, columns: dict[str, npt.NDArray[Any]], names: tuple[str, ...]
) -> npt.NDArray[Any]:
    for name in names:
        if name in columns:
            return columns[name]
    raise SoundalikeError(f"{path} has no {' or '.join(names)}; give {_FORMS}")
