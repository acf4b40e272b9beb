"""What every pack can do: say what is in it, and open one of its members."""

from __future__ import annotations

from collections.abc import Iterator
from io import FileIO
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # neither is for the help of a command, which loads no NumPy
    from indexer.audio.packs.members import Members
    from indexer.audio.source import Source


class NotAPackError(Exception):
    """A file that is no pack, as most are; the text is the reason."""


class Pack(Protocol):
    """An open pack. Several threads may ask it at the same time; the last to let go closes it.

    Attributes:
        members: What is in it.
    """

    members: Members

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
