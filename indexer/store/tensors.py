"""Arrays as one file that says what they are: safetensors, with a sealed document in its metadata.

The document carries its own digest and, as `tensors`, that of all arrays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from indexer.errors import NotAsWrittenError
from indexer.store.disk import seal

Tensors = Mapping[str, npt.NDArray[Any]]

_METADATA_KEY = "soundalike"
#: A safetensors file begins with the size of its header, in so many bytes.
_SIZE_BYTES = 8


def pack_tensors(tensors: Tensors, document: Mapping[str, Any]) -> bytes:
    """Return arrays and a document about them as the content of a file."""
    whole = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    told = {**document, "tensors": _digest(whole)}
    return save(whole, {_METADATA_KEY: seal(told).decode()})


def read_document(content: bytes) -> dict[str, Any]:
    """Return the document in a file of arrays.

    Raises:
        NotAsWrittenError: If it is not as it was written.
        ValueError: If there is none, as `KeyError` and `TypeError`.
    """
    size = int.from_bytes(content[:_SIZE_BYTES], "little")
    header = json.loads(content[_SIZE_BYTES : _SIZE_BYTES + size])
    sealed = header["__metadata__"][_METADATA_KEY]
    document: dict[str, Any] = json.loads(sealed)
    with suppress(KeyError):
        del document["digest"]
    if seal(document) != sealed.encode():
        raise NotAsWrittenError("what it says of itself was changed")
    return document


def read_tensors(content: bytes, document: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of a file, held against what its document says of them.

    Raises:
        NotAsWrittenError: If they are not as they were written.
    """
    tensors: dict[str, npt.NDArray[Any]] = load(content)
    if _digest(tensors) != document["tensors"]:
        raise NotAsWrittenError("its tensors do not match their digest")
    return tensors


def _digest(tensors: Tensors) -> str:
    """Return the SHA-256 of all tensors: their names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
