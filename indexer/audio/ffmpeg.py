"""Decoding with FFmpeg, through PyAV, from a descriptor and nothing else.

A playlist posing as audio makes FFmpeg open other files and addresses. Here it may open none: only
containers that hold their own samples are on the list, and the one protocol is the descriptor.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from io import FileIO
from itertools import islice

import av
import numpy as np
from av.stream import Disposition

from indexer.audio.file import read_at
from indexer.audio.frames import OneRate, Run
from indexer.audio.riff import UNKNOWN_BYTES
from indexer.audio.source import (
    END,
    AudioInfo,
    Channels,
    check_duration,
    truncation,
)
from indexer.errors import AudioError
from indexer.windows import SAMPLE_RATE_HZ

#: Containers that may be opened, by FFmpeg's names. Raw streams without a signature are not among
#: them: anything would be taken for one.
CONTAINERS = (
    *("aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dsf", "dts", "dtshd", "eac3"),
    *("flac", "flv", "iff", "ircam", "loas", "matroska", "mov", "mp3", "mpc", "mpc8", "mpeg"),
    *("mpegts", "mxf", "nistsphere", "nut", "ogg", "oma", "pvf", "qcp", "rm", "shn", "tak", "tta"),
    *("voc", "w64", "wav", "wv"),
)
#: Those whose stream duration is from a header, not from what is there or from the bit rate.
_DECLARES_LENGTH = {
    *("aiff", "ape", "asf", "au", "caf", "dsf", "flac", "mov", "tak", "tta", "w64", "wav", "wv")
}
#: Raw streams whose timestamps FFmpeg counts itself, in whole ticks of 1/90,000 s. At 44.1 kHz a
#: frame is no whole number of them, and the count falls behind by 0.02 %.
_COUNTED = {"ac3", "eac3", "dts", "dtshd"}
#: How far before a span decoding starts, so that no decoder's memory reaches into it, in seconds.
PREROLL_S = 1.0
#: How many frames must agree that there is a gap, or where the first of them belongs.
_WITNESSES = 4
#: How many frames are decoded before they are looked at: decoder and interpreter each find more of
#: what they need in the processor's caches than if they took turns.
_AHEAD = 16
#: Sound that comes less late than this begins with the pictures, in seconds: nobody notices it
#: (Recommendation ITU-R BT.1359-1), and a codec's priming is shorter (AAC at 22 kHz: 96 ms).
UNNOTICED_DELAY_S = 0.125
#: Gaps that add up to less are not worth a warning, in seconds.
REPORTED_GAP_S = 0.01

av.logging.set_level(av.logging.PANIC)


class FFmpegSource:
    """A file that FFmpeg reads.

    Samples are placed by appending, and by their timestamps only where those leave a gap: then the
    gap becomes silence. After a seek the timestamps say where the samples belong. A single one is
    not believed: where Vorbis changes its block size, FFmpeg stamps one frame 448 samples late.
    """

    _container: av.container.InputContainer
    _stream: av.AudioStream
    _packets: Iterator[av.Packet[av.AudioStream]]

    def __init__(
        self,
        file: FileIO,
        max_duration_s: float,
        part: tuple[int, int] | None = None,
        rate_hz: int | None = None,
    ) -> None:
        """Take over an open file, if it can be read, and decode its first frame.

        Args:
            file: With anything that FFmpeg reads in it.
            max_duration_s: Decoding further than this is an error, in seconds.
            part: Where what is read begins and ends in the file, in bytes, if not all of it is.
            rate_hz: Of the samples that are given, if not that of the first frame.

        Raises:
            AudioError: If it has no audio, is out of bounds, or nothing in it can be decoded.
            av.FFmpegError: If it is not audio (`InvalidDataError`), or of a kind that is not read.
        """
        self._file, self._part = file, part
        self._max_duration_s = max_duration_s
        self._rate = OneRate(rate_hz)
        self._num_damaged = 0
        self._num_silent = 0
        self._end: int | None = None  # where the file ended, once it was read that far
        self._unreadable = False  # whether it ended in an error
        self._waiting: deque[av.AudioFrame] = deque()  # decoded, and not looked at yet
        self._open()
        try:
            if not self._decode_until(1):
                reasons = ["no sample could be decoded", *self._damage()]
                raise AudioError("decode", ": ".join(reasons))
            first = self._waiting[0]
            # What a codec swallows at its beginning (WMA) is no gap, unless packets were damaged
            # there.
            begin = self._stream.start_time or 0
            self._origin = begin if self._num_damaged or first.pts is None else first.pts
            self.info = AudioInfo(
                # Of these the first frame knows best: HE-AAC has twice the rate its header says.
                sample_rate=first.sample_rate,
                channels=first.layout.nb_channels,
                codec=self._stream.codec_context.codec.canonical_name,
                container=self._container.format.name,
                decoder=f"pyav {av.__version__}",
                num_streams=len(self._container.streams.audio),
                first_sample=_first_sample(self._container, self._stream, self._origin),
            )
            check_duration(max_duration_s, self.info.first_sample, SAMPLE_RATE_HZ)
        except BaseException:
            self._container.close()
            raise
        # A timestamp t lies at sample (t - origin) * num / den; one tick may be many samples.
        tick = (self._stream.time_base or Fraction(0)) * self.info.sample_rate
        self._num, self._den = tick.numerator, tick.denominator
        self._tolerance = max(2, math.ceil(2 * tick))
        self.length_s = float((self._stream.duration or 0) * (self._stream.time_base or 0))
        self._declared_s = _declared_s(self._stream, self.info.container, tick)
        self._riff_excess = _riff_excess(file.fileno())

    def _open(self) -> None:
        """Open the container at its beginning."""
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)
        part = "subfile,,start,{},end,{},,:".format(*self._part) if self._part else ""
        self._container = av.open(
            f"{part}fd:",  # FFmpeg duplicates the descriptor, and closes what it duplicated
            container_options={
                "fd": str(self._file.fileno()),
                "protocol_whitelist": "subfile,fd" if self._part else "fd",
                "format_whitelist": ",".join(CONTAINERS),
                # 16-bit WAV is searched for DTS, for 28 ms by default; one packet is enough.
                "max_probe_packets": "1",
            },
            metadata_errors="replace",
        )
        stream = self._container.streams.best("audio")
        if not isinstance(stream, av.AudioStream) or stream.codec_context is None:
            self._container.close()
            raise AudioError("open", "no audio stream that can be decoded")
        stream.codec_context.thread_count = 1  # files are decoded side by side already
        for other in self._container.streams:
            if other.index != stream.index:
                other.discard = av.stream.Discard.all
        self._stream = stream
        self._begin()

    def _begin(self) -> None:
        """Decode from where the container is."""
        self._packets = self._container.demux(self._stream)
        self._waiting.clear()
        self._rate = OneRate(self._rate.rate_hz)

    def read(self, start: int, stop: int = END) -> Iterator[Channels]:
        """Decode a span; see `Source`."""
        position = start
        end = 0
        try:
            for at, channels in self._joined(start, stop):
                end = at + len(channels[0])
                check_duration(self._max_duration_s, end, self.info.sample_rate)
                while position < min(at, stop):
                    missing = min(min(at, stop) - position, self.info.chunk_samples)
                    yield np.zeros((self.info.channels, missing), np.float32)
                    self._num_silent += missing
                    position += missing
                if position < min(end, stop):
                    wanted = slice(position - at, stop - at)
                    position = min(end, stop)
                    yield [channel[wanted] for channel in channels]
                if position >= stop:
                    return
        except (OSError, av.FFmpegError) as error:  # the file changed, or the disk fails
            raise AudioError("decode", "it can no longer be read") from error
        self._end = end

    def _joined(self, start: int, stop: int) -> Iterator[tuple[int, Channels]]:
        """Yield where frames that follow each other begin, and their samples, joined.

        The first holds `start`, or begins earlier. What is done for every frame here is done
        hundreds of times in ten seconds, and costs as much as some decoders do.
        """
        run = Run()
        position = self._seek(start)
        chunk_samples = self.info.chunk_samples
        num, den, origin = self._num, self._den, self._origin
        late = self._tolerance * den
        frame_samples, waiting = 0, self._waiting
        while waiting or self._decode_some(stop - position, frame_samples):
            frame = waiting.popleft()
            frame_samples = frame.samples
            begin, stamp = position, frame.pts
            if stamp is not None and (stamp - origin) * num - position * den > late:
                begin = self._resumed(position, frame)
            if begin != position or not run.append(frame):
                if run.num_samples:
                    yield position - run.num_samples, run.take()
                run.restart(frame)
            position = begin + frame_samples
            if run.num_samples >= chunk_samples:
                yield position - run.num_samples, run.take()
            elif position >= stop:
                break
        if run.num_samples:
            yield position - run.num_samples, run.take()

    def _decode_some(self, missing: int, frame_samples: int) -> bool:
        """Let a few frames wait, but none behind a span; return False if none is left.

        Args:
            missing: Samples until the span ends.
            frame_samples: Length of the frame before, by which those to come are judged.
        """
        num_frames = -(-missing // frame_samples) if frame_samples else 1
        return self._decode_until(max(1, min(num_frames, _AHEAD)))

    def _decode_until(self, num_frames: int) -> bool:
        """Let so many frames wait, if there are so many; return False if none is left.

        Packets that cannot be decoded are counted.
        """
        while len(self._waiting) < num_frames:
            if self._file.closed:  # FFmpeg would follow a null pointer
                raise ValueError("the file is closed")
            try:
                packet = next(self._packets, None)
            except av.FFmpegError:
                self._unreadable = True
                break
            except IndexError:  # PyAV 18.1, at the end, if streams were added on the way
                break
            if packet is None:
                break
            try:
                self._waiting.extend(self._rate.take(packet.decode()))
            except av.error.EOFError:
                break
            except av.FFmpegError:
                self._num_damaged += 1
        if len(self._waiting) < num_frames:
            self._waiting.extend(self._rate.rest())
        if self._rate.has_changed and self._container.format.name == "flac":
            raise AudioError("decode", "its sample rate changes, which is not read in FLAC")
        return bool(self._waiting)

    def _resumed(self, position: int, frame: av.AudioFrame) -> int:
        """Return where a frame begins that is stamped later than the one before it ended."""
        stamped = self._stamped(frame)
        if stamped is None or stamped - position <= self._tolerance:
            return position
        if not self._decode_until(_WITNESSES - 1):
            return position  # the last frame of all has no witness
        return max(position, self._agreed([frame, *self._waiting]) or 0)

    def _seek(self, start: int) -> int:
        """Let the frames begin a little before `start`; return where the first of them begins.

        Where one tick of the clock is longer than a sample (Matroska: 1 ms) a timestamp cannot say
        where exactly a frame belongs, so those files are decoded from their beginning.
        """
        target = start - int(PREROLL_S * self.info.sample_rate)
        if target <= 0 or not 0 < self._num <= self._den or not self._holds(target):
            return 0
        position = None
        try:
            self._container.seek(
                self._origin + target * self._den // self._num, stream=self._stream
            )
            self._begin()
            self._decode_until(_WITNESSES)
            position = self._agreed(self._waiting)
        except av.FFmpegError:
            pass
        self._num_damaged = 0  # frames that lean on what was skipped may fail, and are not wanted
        if position is not None and 0 <= position <= start and not self._rate.has_changed:
            return position
        self._container.close()
        self._open()
        return 0

    def _holds(self, target: int) -> bool:
        """Whether a sample can be sought: not in or behind what was appended to a whole file."""
        if self.info.container in _COUNTED:
            return False
        num_ticks = self._stream.duration
        return num_ticks is None or target * self._den // self._num < num_ticks

    def _agreed(self, frames: Iterable[av.AudioFrame]) -> int | None:
        """Return where the first frame begins at the earliest, by its and its witnesses' stamps."""
        positions = []
        num_samples = 0
        for frame in islice(frames, _WITNESSES):
            stamped = self._stamped(frame)
            if stamped is not None:
                positions.append(stamped - num_samples)
            num_samples += frame.samples
        return min(positions, default=None)

    def _stamped(self, frame: av.AudioFrame) -> int | None:
        """Return where a frame's timestamp puts its first sample, rounded."""
        if frame.pts is None:
            return None
        return (2 * (frame.pts - self._origin) * self._num + self._den) // (2 * self._den)

    def warnings(self) -> list[str]:
        """Return what was wrong with the file; see `Source`."""
        found = [f"{damage} skipped" for damage in self._damage()]
        rate = self.info.sample_rate
        if self._rate.has_changed:
            found.append(f"its sample rate changes; all of it was brought to {rate} Hz")
        silent_s = self._num_silent / rate
        if silent_s >= REPORTED_GAP_S:
            found.append(f"{silent_s:.2f} s are missing and became silence")
        if self._end is not None:
            end_s = self._end / rate
            if self._unreadable:
                found.append(f"cannot be read beyond {end_s:.1f} s")
            found += truncation(end_s, max(self._declared_s, end_s * self._riff_excess))
        return found

    def _damage(self) -> list[str]:
        plural = "" if self._num_damaged == 1 else "s"
        return [f"{self._num_damaged} damaged packet{plural}"] if self._num_damaged else []

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()
        self._file.close()


def _first_sample(
    container: av.container.InputContainer, stream: av.AudioStream, origin: int
) -> int:
    """Return where the audio begins on the time line that a player shows, at 32 kHz.

    That begins with the pictures, if there are others than one of the cover, or with the sound.
    """
    starts = [
        other.start_time * (other.time_base or 0)
        for other in container.streams.video
        if other.start_time is not None and not other.disposition & Disposition.attached_pic
    ]
    begin = origin * (stream.time_base or Fraction(0))
    delay_s = begin - min(starts, default=begin)
    return round(delay_s * SAMPLE_RATE_HZ) if delay_s > UNNOTICED_DELAY_S else 0


def _declared_s(stream: av.AudioStream, container: str, tick: Fraction) -> float:
    """Return the duration that a header declares, in seconds; 0 if none does.

    An MP3 declares one in the tag that also holds the encoder's delay. Otherwise FFmpeg guesses
    from the bit rate, and the guess is no whole number of samples.
    """
    names = set(container.split(","))
    duration = stream.duration or 0
    tagged = "mp3" in names and stream.start_time and (duration * tick).denominator == 1
    declares = tagged or names & _DECLARES_LENGTH
    return float(duration * (stream.time_base or 0)) if declares else 0.0


def _riff_excess(descriptor: int) -> float:
    """Return how many times as large as the file a RIFF header says it is; 0 if it does not say.

    FFmpeg shortens a WAV to what is there, and does not tell.
    """
    header = read_at(descriptor, 8, 0)
    num_bytes = int.from_bytes(header[4:], "little") + 8
    if not header.startswith(b"RIFF") or num_bytes >= UNKNOWN_BYTES:
        return 0.0
    return num_bytes / os.fstat(descriptor).st_size
