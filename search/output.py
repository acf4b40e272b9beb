"""Files that people asked for: each is whole or absent, takes no other's place, and is in no store.

What is written comes first into a temporary file beside its place, which is locked while its
process lives: the next one that writes to the same place removes what a dead one left.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TextIO, TypeVar

from filelock import lock_descriptor

from indexer.errors import OutputError
from indexer.paths import address_of
from indexer.store.disk import TEMPORARY_PREFIX, sync_folder
from indexer.store.reader import HEAD_FILE, PARTS_FOLDER
from indexer.store.schema import STORE_FILE

#: Hex digits of the digest of a file's name that its temporary file is called by.
_DIGITS = 32
#: How often a leftover is removed before it is taken for the file of somebody else.
_TRIES = 100
#: What file systems say that have no hard links.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
#: What they say of a name that they cannot have, while others can be written.
_OF_THE_NAME = {
    *(errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ELOOP),
    *(errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
}
#: Endings of names that say what is in a file.
_SAID = {
    ".csv": "CSV",
    ".html": "a page",
    ".jsonl": "JSON lines",
    ".json": "JSON",
    ".npy": "an array of NumPy",
    ".npz": "arrays of NumPy",
    ".parquet": "Parquet",
    **dict.fromkeys((".h5", ".hdf", ".hdf5"), "HDF5"),
    ".tar": "a tar file",
    ".xlsx": "a workbook",
}
#: Those of them that every window of a store can be written as, where rows are to be written.
_EXPORTED = {".csv", ".jsonl", ".npy"}
_NO_ROWS = {".html"}
_Done = TypeVar("_Done")


def require_free(*paths: Path, force: bool = False) -> None:
    """Make sure that files can be written, as far as can be told before.

    Args:
        paths: Where to; all of one output, so that nothing is written if one of them is taken.
        force: Whether what is there is to be replaced.

    Raises:
        OutputError: If a file is there already; or there is a folder, a device or a link to nothing
            in its place; or it would be in a store.
    """
    for path in paths:
        _require_place(path)
    taken = [path for path in paths if os.path.lexists(path) and not is_stream(path)]
    if taken and not force:
        raise _taken(taken, len(paths))


def require_file(path: Path, ending: str, *, force: bool = False) -> None:
    """Make sure that a file can be written, as `require_free`, and that its name tells no lie.

    Args:
        path: Where to; a name without an ending is as good as one with the right one.
        ending: Of what will be written, such as ".csv".
        force: Whether what is there is to be replaced.

    Raises:
        OutputError: As `require_free`; or if the name says that something else is in the file, or
            its folder is not there.
    """
    given = path.suffix.lower()
    if given in _SAID and given != ending:
        raise OutputError(
            f"{path} says that it is {_SAID[given]}, and what is written is {_SAID[ending]}; call "
            f"it {path.with_suffix(ending)}",
            about="export" if given in _EXPORTED and ending not in _NO_ROWS else None,
            value=given[1:],
        )
    require_free(path, force=force)
    _require_parent(path)


def require_folder(folder: Path) -> None:
    """Make sure that files can be written to a folder, as far as can be told before.

    Raises:
        OutputError: If it would be in a store, or a file has its name.
    """
    _require_no_store(folder)
    if os.path.lexists(folder) and not folder.is_dir():
        raise OutputError(f"cannot make the folder {folder}: a file has that name")


def make_folder(folder: Path) -> None:
    """Make a folder for files, if it is not there.

    Raises:
        OutputError: If that is not possible, or it would be in a store.
    """
    _require_no_store(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {_reason(error)}") from error


@contextmanager
def writing(path: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Write a file; nothing appears in its place until it is complete and on the disk.

    A pipe, and what this process prints to, are written as they are.

    Args:
        path: Where to.
        force: Whether what is there is to be replaced; it stays whole until then.

    Yields:
        A file to write to, to read and to seek in. Whoever wraps it must not close it.

    Raises:
        OutputError: As `require_free`; or if the disk is full or read-only, or another process is
            writing the same file. What was there before is untouched then.
    """
    require_free(path, force=force)
    if is_stream(path):
        with _streaming(path) as stream:
            yield stream
        return
    temporary, sink = _begin(path)
    try:
        file = io.BufferedRandom(sink)
        yield file
        file.flush()
        with _explained(path):
            os.fsync(sink.fileno())
            if force and path.exists():
                temporary.chmod(_mode(path))  # as it is, whatever the umask
            _publish(temporary, path, force=force)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):  # what went wrong before is what matters
            if _is_at(temporary, sink.fileno()):  # and no other's, once it has been renamed
                temporary.unlink()
        sink.drop_the_rest()
        sink.close()


@contextmanager
def writing_text(path: Path, *, force: bool = False) -> Iterator[TextIO]:
    """Write a file of UTF-8, see `writing`; line ends are written as they are given."""
    with writing(path, force=force) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            yield text
        finally:
            text.detach()


def is_of_one_name(error: OutputError) -> bool:
    """Whether a file could not be written for its name or its place, where others can."""
    return error.about == "force" or (
        isinstance(error.__cause__, OSError) and error.__cause__.errno in _OF_THE_NAME
    )


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Return the error that says what the system says of a file."""
    return OutputError(f"cannot write {path}: {_reason(error)}")


def is_printed(path: Path) -> bool:
    """Whether a path is where this process prints to, as /dev/stdout is."""
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.__stdout__.fileno()))  # type: ignore[union-attr]
    except (OSError, ValueError, AttributeError):  # nothing there, or nothing is printed to
        return False


def is_stream(path: Path) -> bool:
    """Whether nothing can be lost at a path: a pipe, or what this process prints to."""
    try:
        return stat.S_ISFIFO(path.stat().st_mode) or is_printed(path)
    except OSError:
        return False


class _Sink(io.FileIO):
    """What is below all that is written: the first failure is told, and the rest is dropped.

    So whatever writes a last block when it is closed can be closed, and HDF5 does not crash.
    """

    def __init__(self, descriptor: int, path: Path, mode: str) -> None:
        super().__init__(descriptor, mode)
        self._path, self._is_dropping = path, False

    def drop_the_rest(self) -> None:
        self._is_dropping = True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        return self._do(lambda: super(_Sink, self).write(data), memoryview(data).nbytes)

    def truncate(self, size: int | None = None) -> int:
        return self._do(lambda: super(_Sink, self).truncate(size), size or 0)

    def _do(self, work: Callable[[], _Done], otherwise: _Done) -> _Done:
        if self._is_dropping:
            return otherwise
        try:
            return work()
        except OSError as error:
            self._is_dropping = True
            raise cannot_write(self._path, error) from error


def _require_place(path: Path) -> None:
    _require_no_store(path)
    if not path.name or os.path.isdir(path):  # noqa: PTH112 - they raise nothing
        raise OutputError(f"cannot write {path}: a folder has that name")
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114
        raise OutputError(f"cannot write {path}: it is a link to nothing; remove it")
    if os.path.lexists(path) and not os.path.isfile(path) and not is_stream(path):  # noqa: PTH113
        raise OutputError(f"cannot write {path}: it is a device, not a file")


def _require_parent(path: Path) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: there is no folder {path.parent}")


def _require_no_store(path: Path) -> None:
    """Raise if a path is a store, or leads into one, through whatever links; or elsewhere."""
    if address := address_of(path):
        raise OutputError(
            f"cannot write {address}: files are written to a disk here, and may be copied there"
        )
    try:
        real = Path(os.path.realpath(path))
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path}: {error}") from error
    for folder in (real, *real.parents):
        if _is_store(folder):
            raise OutputError(
                f"cannot write {path}: it is in the store {folder}, where nothing else belongs; "
                f"choose another place"
            )


def _is_store(folder: Path) -> bool:
    has = {name: os.path.lexists(folder / name) for name in (STORE_FILE, PARTS_FOLDER, HEAD_FILE)}
    return sum(has.values()) > 1  # also one that lost a file


@contextmanager
def _streaming(path: Path) -> Iterator[BinaryIO]:
    with _explained(path):
        if is_printed(path):
            sys.stdout.flush()
            descriptor = os.dup(sys.__stdout__.fileno())  # type: ignore[union-attr]
        else:
            descriptor = os.open(path, os.O_WRONLY)
    with _Sink(descriptor, path, "w") as sink:
        stream = io.BufferedWriter(sink)  # type: ignore[type-var]
        try:
            yield stream
            stream.flush()
        finally:
            sink.drop_the_rest()
            stream.detach()


def _begin(path: Path) -> tuple[Path, _Sink]:
    """Make the temporary file of a path, and lock it."""
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:_DIGITS]  # also for a long name
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{digest}")
    with _explained(path):
        for _ in range(_TRIES):
            try:
                descriptor = os.open(temporary, _flags(os.O_CREAT | os.O_EXCL), _mode(path))
            except FileExistsError:
                _remove_leftover(path, temporary)
                continue
            # Somebody may have taken it for a leftover before it was locked.
            if _lock(descriptor, otherwise=True) and _is_at(temporary, descriptor):
                return temporary, _Sink(descriptor, path, "r+")
            os.close(descriptor)
    raise _busy(path, temporary)


def _remove_leftover(path: Path, temporary: Path) -> None:
    """Remove what a dead process left; the lock of one that lives keeps it."""
    try:
        descriptor = os.open(temporary, _flags(os.O_NONBLOCK))
    except FileNotFoundError:  # its process has just ended
        return
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OutputError(f"cannot write {path}: {temporary} is in the way; remove it")
        if not _lock(descriptor, otherwise=False):
            raise _busy(path, temporary)
        if _is_at(temporary, descriptor):
            temporary.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _flags(more: int) -> int:
    return os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | more


def _lock(descriptor: int, *, otherwise: bool) -> bool:
    """Lock a file, if nobody else has; `otherwise` is the answer of file systems without locks."""
    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError:
        return otherwise


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _mode(path: Path) -> int:
    """Return who may read and write a file: if it replaces another, no more people than that."""
    with suppress(OSError):
        return stat.S_IMODE(path.stat().st_mode)
    return 0o666


def _publish(temporary: Path, path: Path, *, force: bool) -> None:
    if force:
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)  # a rename would replace what another process made meanwhile
    except FileExistsError:
        raise _taken([path], 1) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _claim(path)
        temporary.replace(path)


def _claim(path: Path) -> None:
    """Be the one whose file has a name, where there are no hard links."""
    try:
        os.close(os.open(path, _flags(os.O_CREAT | os.O_EXCL), 0o600))
    except FileExistsError:
        raise _taken([path], 1) from None


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _taken(taken: Sequence[Path], number: int) -> OutputError:
    them = "it" if number == 1 else "them"
    what = (
        f"{taken[0]} is there already"
        if number == 1
        else f"{len(taken):,} of the {number:,} files that would be written are there already, "
        f"{taken[0]} for one"
    )
    return OutputError(f"{what}; choose another place", about="force", value=them)


def _busy(path: Path, temporary: Path) -> OutputError:
    return OutputError(
        f"cannot write {path}: another process is writing it, as {temporary.name}; wait for its end"
    )
