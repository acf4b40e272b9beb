"""What an archive has in it, as its headers say; of one that lies elsewhere it is kept.

To list a tar in a bucket is to read most of it. What was found is in the user's cache folder, for
the processes that read, and for the next run. Nothing depends on that but time.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.errors import SoundalikeWarning
from indexer.paths import cache_folder

#: What is kept changes with this.
_FORMAT = 1
#: How a file is called that is finished.
_SUFFIX = ".listing"
#: Bytes of all that is kept, at most: 6 to 18 a member.
_MOST_BYTES = 1 << 30
#: Of these many that are written, one looks at what all take.
_KEPT_UNTIL_LOOKED_AT = 100
#: What a file begins with: NumPy believes its headers before it has seen a checksum.
_DIGEST_BYTES = 16
#: A file that is being written is younger, in seconds.
_LONGEST_WRITING_S = 3600

_kept = itertools.count()


@dataclass
class Listing:
    """The regular files of an archive, in its order.

    Attributes:
        names: As they are kept.
        rows: (num_rows,) what else is known of each; the fields are the archive's own, and "size"
            and "mtime" in bytes and in ns since 1970.
        num_links: What is called as a sound is, and is a link.
        flaw: Why there may be more that could not be listed; empty if this is all.
    """

    names: Sequence[bytes]
    rows: npt.NDArray[np.void]
    num_links: int = 0
    flaw: str = ""


def recalled(key: str | None, fields: np.dtype[np.void], read: Callable[[], Listing]) -> Listing:
    """Return what is in an archive: as it was kept, or else by its headers.

    Args:
        key: Of an object, see `Ranges`; None of a file, of which nothing is kept.
        fields: Of the rows.
        read: Lists it.
    """
    if key is None:
        return read()
    found = _recall(key, fields)
    if found is None:
        found = read()
        try:
            _keep(key, found)
        except OSError as error:  # a home that is full or read-only costs time, no more
            _tell(error)
    return found


def _tell(error: OSError) -> None:
    """Say that nothing can be kept; of the processes that read, one has said so already."""
    if multiprocessing.parent_process() is None:
        said = f"the lists of archives in buckets cannot be kept ({error.strerror or error})"
        warnings.warn(
            SoundalikeWarning(
                f"{said}, so that each run fetches them anew; XDG_CACHE_HOME names a folder for it"
            ),
            stacklevel=2,
        )


def _recall(key: str, fields: np.dtype[np.void]) -> Listing | None:
    try:
        content = _file(key).read_bytes()
        if content[:_DIGEST_BYTES] != _digest(content[_DIGEST_BYTES:]):
            return None
        with np.load(io.BytesIO(content[_DIGEST_BYTES:]), allow_pickle=False) as kept:
            about = json.loads(bytes(kept["about"]))
            text, ends, rows = bytes(kept["names"]), kept["ends"].tolist(), kept["rows"]
    except (OSError, ValueError, KeyError, MemoryError):
        return None
    if about[:2] != [_FORMAT, key] or rows.dtype != fields or len(ends) != len(rows):
        return None
    names = [text[first:end] for first, end in zip([0, *ends], ends, strict=False)]
    return Listing(names, rows, *about[2:])


def _keep(key: str, found: Listing) -> None:
    file = _file(key)
    file.parent.mkdir(parents=True, exist_ok=True)
    about = json.dumps([_FORMAT, key, found.num_links, found.flaw]).encode()
    content = io.BytesIO()
    np.savez_compressed(
        content,
        about=np.frombuffer(about, np.uint8),
        names=np.frombuffer(b"".join(found.names), np.uint8),
        ends=np.cumsum([len(name) for name in found.names], dtype=np.int64),
        rows=found.rows,
    )
    descriptor, temporary = tempfile.mkstemp(dir=file.parent)
    try:
        with open(descriptor, "wb") as written:  # noqa: PTH123 - a descriptor
            written.write(_digest(content.getvalue()) + content.getvalue())
        os.replace(temporary, file)  # noqa: PTH105 - text, as mkstemp gives it
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if next(_kept) % _KEPT_UNTIL_LOOKED_AT == 0:
        _make_room(file.parent)


def _make_room(folder: Path) -> None:
    """Delete what was written first, until there is not too much, and what was never finished."""
    status: dict[Path, os.stat_result] = {}
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # others write there, and clear up
            status[path] = path.stat()
    left = sum(one.st_size for one in status.values())
    for path in sorted(status, key=lambda path: status[path].st_mtime_ns):
        is_old = time.time() - status[path].st_mtime > _LONGEST_WRITING_S
        if left > _MOST_BYTES if path.suffix == _SUFFIX else is_old:
            path.unlink(missing_ok=True)
            left -= status[path].st_size


def _file(key: str) -> Path:
    """Return where a listing is kept.

    Raises:
        FileNotFoundError: If the user has no home.
    """
    name = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    return cache_folder() / "archives" / f"{name}{_SUFFIX}"


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
