"""What every pack can do: say what is in it, and open one of its members."""

from __future__ import annotations

from collections.abc import Iterator
from io import FileIO
from typing import TYPE_CHECKING, Protocol, TypeGuard

from indexer.errors import AudioError, first_line

if TYPE_CHECKING:  # neither is for the help of a command, which loads no NumPy
    from indexer.audio.packs.members import Members
    from indexer.audio.source import Source


class NotAPackError(Exception):
    """A file that is no pack, as most are; the text is the reason."""


def not_read(error: BaseException, damage: str) -> AudioError:
    """Return what to say of something that was not read, and at which stage.

    What the system refused may be had another time; what is damaged stays as it is.

    Args:
        error: As a reader raised it.
        damage: What is damaged, if it was not the system.
    """
    if is_of_the_system(error):
        return AudioError("access", f"cannot be read: {_of_the_system(error)}")
    return AudioError("decode", f"{damage} is damaged: {first_line(error)}")


def is_of_the_system(error: BaseException | None) -> TypeGuard[OSError | MemoryError]:
    """Whether the system refused something, so that it may be had another time."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and bool(error.errno))


def _of_the_system(error: OSError | MemoryError) -> str:
    said = error.strerror if isinstance(error, OSError) else "not enough memory"
    return (said or first_line(error)).lower()


class Pack(Protocol):
    """An open pack. Several threads may ask it at the same time; the last to let go closes it.

    Attributes:
        members: What is in it.
        outlives_fork: Whether a forked process may go on with it: who reads shares no position.
    """

    members: Members
    outlives_fork: bool

    def content(self, row: int) -> Iterator[bytes | memoryview]:
        """Yield what the digest of a member is of, some at a time.

        That is the bytes of a file, as they would be by themselves; or of samples, how they are
        kept, and all of them.

        Args:
            row: Of `members`.

        Raises:
            AudioError: If it cannot be read: nothing is said of the others.
        """
        ...

    def fetch_ahead(self, row: int) -> None:
        """Say which member is read soon; nothing need be done where the pack is on a disk."""
        return

    def fetch(self, row: int) -> bytes | None:
        """Have a member on this machine.

        Returns:
            The digest of its `content`, if that was made on the way.

        Raises:
            AudioError: With stage "access", if it cannot be had.
        """
        return None

    def open(self, row: int, max_duration_s: float) -> FileIO | Source:
        """Open a member, to be closed by who asks.

        Args:
            row: Of `members`.
            max_duration_s: Samples beyond this are an error, in seconds.

        Returns:
            A file that stands at its beginning, for any decoder; or samples.

        Raises:
            AudioError: If it cannot be read.
        """
        ...
