"""Opening a file: plain WAV as it lies, nearly all else with FFmpeg, the rest with libsndfile.

The rest is what FFmpeg does not know, and what it would take for something else.

None is given a file name: the file is opened here, found to be a regular one, and passed on as a
descriptor. So no name is ever taken for an address, and nothing can take the place of the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path

import av
import soundfile

from indexer.audio.chain import ChainedSource, find_links
from indexer.audio.content import open_content
from indexer.audio.ffmpeg import FFmpegSource
from indexer.audio.file import read_at
from indexer.audio.misread import is_misread
from indexer.audio.source import END, AudioInfo, Channels, Source, check_duration, truncation
from indexer.audio.wav import open_wav
from indexer.errors import AudioError


def open_source(
    path: Path, max_duration_s: float, beat: Callable[[], None] | None = None
) -> Source:
    """Open a file and decode its first samples.

    Args:
        path: A regular file, a link to one, or a member of a pack.
        max_duration_s: Decoding further than this is an error, in seconds.
        beat: Called as a sign of life where much has to be read before the first sample.

    Returns:
        The open file, to be closed.

    Raises:
        AudioError: With stage "open" if this is no audio file that could be read, "decode" if no
            sample could be decoded.
    """
    content = open_content(path, max_duration_s)
    if not isinstance(content, FileIO):
        return content
    try:
        return _source(content, max_duration_s, beat)
    except BaseException:
        content.close()
        raise


def _source(file: FileIO, max_duration_s: float, beat: Callable[[], None] | None) -> Source:
    try:
        if wav := open_wav(file, max_duration_s):
            return wav
        if is_misread(file.fileno()):
            return _by_sndfile(file, max_duration_s)
        if len(links := find_links(file.fileno(), beat)) > 1:
            return ChainedSource(file, links, max_duration_s)
        return FFmpegSource(file, max_duration_s)
    except (av.error.InvalidDataError, av.error.EOFError):
        pass  # no container that FFmpeg knows; of a small file it says that it ends
    except av.error.ArgumentError as error:  # one that it knows and may not open
        raise AudioError("open", "not audio, or a container that is not read") from error
    except (OSError, av.FFmpegError) as error:
        raise AudioError("open", f"cannot be read: {error.strerror}".lower()) from error
    try:
        # MPEG audio that FFmpeg refuses: libsndfile would only print what it thinks of it.
        if read_at(file.fileno(), 1, 0) != b"\xff":
            return SndfileSource(file, max_duration_s)
    except (OSError, soundfile.LibsndfileError):
        pass
    raise AudioError("open", "not audio, or damaged: no decoder recognises it")


def _by_sndfile(file: FileIO, max_duration_s: float) -> Source:
    """Open what FFmpeg would misread."""
    try:
        return SndfileSource(file, max_duration_s)
    except soundfile.LibsndfileError as error:
        raise AudioError("open", f"not read: libsndfile says {error.error_string}") from error


class SndfileSource:
    """A file that libsndfile reads."""

    def __init__(self, file: FileIO, max_duration_s: float) -> None:
        """Take over an open file, if it can be read.

        Raises:
            AudioError: If it is out of bounds or has no samples.
            soundfile.LibsndfileError: If it is not audio.
        """
        self._file = file
        self._max_duration_s = max_duration_s
        self._end: int | None = None  # where the file ended, once it was read that far
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        self._sound = soundfile.SoundFile(file.fileno(), closefd=False)
        try:
            self.info = AudioInfo(
                sample_rate=self._sound.samplerate,
                channels=self._sound.channels,
                codec=self._sound.subtype,
                container=self._sound.format,
                decoder=f"soundfile {soundfile.__version__}",
            )
            self.length_s = self._sound.frames / self.info.sample_rate
            if self._sound.frames == 0:
                raise AudioError("decode", "no sample could be decoded")
        except BaseException:
            self._sound.close()
            raise

    def read(self, start: int, stop: int = END) -> Iterator[Channels]:
        """Decode a span; see `Source`."""
        position = min(start, self._sound.frames)
        try:
            if position:  # some formats cannot seek
                self._sound.seek(position)
            while position < stop:
                wanted = min(self.info.chunk_samples, stop - position)
                chunk = self._sound.read(wanted, dtype="float32", always_2d=True)
                if len(chunk) == 0:
                    self._end = position
                    return
                position += len(chunk)
                check_duration(self._max_duration_s, position, self.info.sample_rate)
                yield chunk.T
        except soundfile.LibsndfileError as error:
            raise AudioError("decode", f"damaged: {error.error_string}") from error

    def warnings(self) -> list[str]:
        """Return what was wrong with the file; see `Source`."""
        if self._end is None:
            return []
        rate = self.info.sample_rate
        return truncation(self._end / rate, self._sound.frames / rate)

    def close(self) -> None:
        """Let go of the file."""
        self._sound.close()
        self._file.close()
