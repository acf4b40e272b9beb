"""What was found out once and holds until something changes, kept in the user's cache folder.

Nothing depends on it but time: what is not there, or cannot be kept, is found out again. The folder
may be removed at any time. Each version of the program has memories of its own, but for what is so
whoever finds it out.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

from indexer.paths import cache_folder

#: Longest value that is read back: whatever has taken the place of a file of ours.
_MAX_BYTES = 4096


def recall(kind: str, key: str, *, by_any: bool = False) -> str | None:
    """Return what was remembered under a key; None if nothing was, or it cannot be read.

    Args:
        kind: What is remembered, in a word.
        key: All that it depends on.
        by_any: By any version of the program.
    """
    try:
        with _file(kind, _one_line(key, by_any=by_any)).open("rb") as file:
            kept, _, value = file.read(_MAX_BYTES).decode().partition("\n")
    except (OSError, UnicodeDecodeError):
        return None
    return value if kept == _one_line(key, by_any=by_any) else None


def remember(kind: str, key: str, value: str, *, by_any: bool = False) -> None:
    """Keep a value for `recall`, if there is a place; whoever reads meanwhile sees all or none.

    Args:
        kind: What is remembered, in a word.
        key: All that it depends on.
        value: Short text.
        by_any: It is so for any version of the program.
    """
    line = _one_line(key, by_any=by_any)
    with contextlib.suppress(OSError):  # a home that is full or read-only costs time, no more
        file = _file(kind, line)
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=file.parent)
        try:
            with open(descriptor, "w", encoding="utf-8") as written:  # noqa: PTH123 - a descriptor
                written.write(f"{line}\n{value}")
            os.replace(temporary, file)  # noqa: PTH105 - text, as mkstemp gives it
        except OSError:
            os.unlink(temporary)  # noqa: PTH108
            raise


def file_key(path: Path) -> str:
    """Return what tells a file from any other, and from what it was before it was written to."""
    status = path.stat()
    where = path.resolve()
    changed = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
    return f"{where} {status.st_dev} {status.st_ino} {changed}"


def _file(kind: str, line: str) -> Path:
    """Return where a value is kept, by the line that it begins with.

    Raises:
        FileNotFoundError: If the user has no home.
    """
    name = hashlib.blake2b(line.encode("utf-8"), digest_size=16).hexdigest()
    return cache_folder() / f"{kind}-{name}.txt"


def _one_line(key: str, *, by_any: bool) -> str:
    return repr(key) if by_any else f"soundalike {version('soundalike')}: {key!r}"
