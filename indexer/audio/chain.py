"""Ogg files that are several, one after the other, as recorders of radio write them.

FFmpeg goes on with the decoder of the first: what has other channels, another rate or another codec
is lost, and it cannot seek. So each link is read as a file of its own, and all are joined.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from io import FileIO

import av

from indexer.audio.ffmpeg import FFmpegSource
from indexer.audio.file import read_at
from indexer.audio.source import END, Channels, check_duration
from indexer.errors import AudioError

#: The beginning of an Ogg page with its flags (RFC 3533, section 6): the first page of a stream is
#: marked, and no sample has come before its end.
_PAGE = re.compile(rb"OggS\x00(.)(.{8})", re.DOTALL)
_BEGINS = 0x02
_SCAN_BYTES = 2**20

#: Where a link begins and ends in the file, in bytes.
Link = tuple[int, int]


def find_links(descriptor: int, beat: Callable[[], None] | None = None) -> list[Link]:
    """Return the links of an Ogg file, none of another; what begins side by side is one link.

    All of the file is read for it.

    Args:
        descriptor: Of the open file.
        beat: Called for every megabyte, as a sign of life.

    Raises:
        OSError: If it cannot be read.
    """
    if read_at(descriptor, 4, 0) != b"OggS":
        return []
    begins, position, tail, seen_content = [0], 0, b"", False
    while data := read_at(descriptor, _SCAN_BYTES, position):
        if beat:
            beat()
        data = tail + data
        for page in _PAGE.finditer(data):
            is_first = page[1][0] & _BEGINS and page[2] == bytes(8)
            if is_first and seen_content:
                begins.append(position - len(tail) + page.start())
            seen_content = not is_first
        position += len(data) - len(tail)
        tail = data[-13:]
    return list(zip(begins, [*begins[1:], position], strict=True))


class ChainedSource:
    """An Ogg file of several links, all at the rate of the first."""

    def __init__(self, file: FileIO, links: list[Link], max_duration_s: float) -> None:
        """Take over an open file, and decode the beginning of the first link that can be read.

        Raises:
            AudioError: If none can be decoded, or it is out of bounds.
            av.FFmpegError: If none is audio.
        """
        self._file, self._links, self._max_duration_s = file, links, max_duration_s
        self._rate_hz: int | None = None
        self._warnings: list[str] = []
        self._number = 0  # of the link that is open, the first being 1
        self._source = self._following()
        if self._source is None:
            self._source = self._link(1)  # whose error is the file's
        self.info = self._source.info
        self._rate_hz = self.info.sample_rate
        first = links[self._number - 1]  # the others are as long for their bytes, by and large
        self.length_s = self._source.length_s * (links[-1][1] - links[0][0]) / (first[1] - first[0])

    def _following(self) -> FFmpegSource | None:
        """Open the next link that can be read; return None if none is left."""
        while self._number < len(self._links):
            self._number += 1
            try:
                return self._link(self._number)
            except (AudioError, av.FFmpegError):
                self._warnings.append(f"{self._where()} cannot be decoded and is lost")
        return None

    def _link(self, number: int) -> FFmpegSource:
        file = FileIO(os.dup(self._file.fileno()))
        try:
            return FFmpegSource(file, self._max_duration_s, self._links[number - 1], self._rate_hz)
        except BaseException:
            file.close()
            raise

    def _where(self) -> str:
        return f"part {self._number} of {len(self._links)}"

    def read(self, start: int, stop: int = END) -> Iterator[Channels]:
        """Decode a span, and all that comes before it; see `Source`."""
        position = 0
        for channels in self._joined():
            end = position + len(channels[0])
            check_duration(self._max_duration_s, end, self.info.sample_rate)
            if end > start:
                wanted = slice(max(start - position, 0), stop - position)
                yield [channel[wanted] for channel in channels]
            position = end
            if position >= stop:
                return

    def _joined(self) -> Iterator[Channels]:
        """Decode one link after the other."""
        while self._source:
            yield from self._source.read(0)
            self._warnings += [f"{self._where()}: {said}" for said in self._source.warnings()]
            self._source.close()
            self._source = self._following()

    def warnings(self) -> list[str]:
        """Return what was wrong with the file; see `Source`."""
        return self._warnings

    def close(self) -> None:
        """Let go of the file."""
        if self._source:
            self._source.close()
        self._file.close()
