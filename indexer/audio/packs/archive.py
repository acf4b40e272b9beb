"""What archives have in common: headers are read within bounds, the last of a name counts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from io import FileIO

from indexer.audio.file import kept_date, read_at
from indexer.audio.packs.members import MAX_NAME_BYTES, plain_name
from indexer.audio.packs.pack import not_read
from indexer.errors import AudioError

#: Bytes of a member that are read, or unpacked, at a time.
BLOCK_BYTES = 1 << 20


class TooLongError(ValueError):
    """There are more bytes of headers than are read."""


class Headers(FileIO):
    """An open file of which only so much is read as headers may have."""

    _most = _left = 0

    def allow(self, num_bytes: int) -> None:
        """Let so many bytes be read from now on."""
        self._most = self._left = num_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        """Read some bytes.

        Raises:
            TooLongError: If they are more than headers may have.
        """
        self._left -= max(size or 0, 0)
        if self._left < 0:
            raise TooLongError(f"more than {self._most:,} bytes of headers")
        return super().read(size) or b""


def kept_name(name: bytes) -> bytes:
    """Return a name as it is kept: nothing in the place of one that is too long."""
    return name if len(name) <= MAX_NAME_BYTES else b""


def last_of_each_name(names: Sequence[bytes]) -> list[int]:
    """Return, in order, the rows of which no later one has the same name.

    What is unpacked later takes the place of what was unpacked before. Rows without a name stay.

    Args:
        names: Of all rows.
    """
    last = {plain_name(name): row for row, name in enumerate(names)}
    return [row for row, name in enumerate(names) if not name or last[plain_name(name)] == row]


def date_in_ns(seconds: float, otherwise: int) -> int:
    """Return a date in ns since 1970.

    Args:
        seconds: Since 1970; 0 is what stands for no date.
        otherwise: The date of the archive, for a member without one, in ns since 1970.
    """
    if not seconds or not math.isfinite(seconds):
        return otherwise
    return kept_date(round(seconds * 1_000_000_000))


def blocks(source: FileIO, offset: int, num_bytes: int) -> Iterator[bytes]:
    """Yield a span of an archive, some bytes at a time; where it stands does not matter.

    Raises:
        AudioError: If it cannot be read, or ends before.
    """
    end = offset + num_bytes
    while offset < end:
        try:
            block = read_at(source.fileno(), min(BLOCK_BYTES, end - offset), offset)
        except OSError as error:
            raise not_read(error, "the member") from error
        if not block:
            raise AudioError("decode", "the pack ends where there should be more of the member")
        offset += len(block)
        yield block
