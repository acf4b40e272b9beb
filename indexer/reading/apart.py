"""Decoding in a process of its own: a file that crashes a decoder costs its request, and no more.

For whoever decodes what strangers send, as a server does. `indexer.reading.readers` does the same
for whole libraries.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from indexer.arrays import Float32
from indexer.errors import AudioError
from indexer.windows import Cut, Geometry

#: A line of an answer, and the arrays that go with it, float32.
Message = tuple[dict[str, Any], list[Float32]]

#: Bytes that a message's line has, at most: warnings and names are short.
_LONGEST_LINE = 1 << 20
#: Memory that a process which decodes may take, and so what it can send: PyTorch takes 0.3 GB of
#: it, a window of 96 kHz and 64 channels 0.25.
MOST_BYTES = 3 << 30
#: A process whose pipe is closed has ended by then, in seconds.
_LAST_S = 1.0
#: Processes that are kept for later, of 60 to 400 MB each: as many as decode at once in a server.
_MOST_IDLE = 2


class Survey(NamedTuple):
    """What is known of a file that was decoded once.

    Attributes:
        duration_s: Where its audio ends on its time line, in seconds.
        rate_hz: Samples a second.
        channels: How many it has.
        peaks: (n, 2) float32 least and greatest sample of each of n spans, of the mean of channels.
        peaks_s: How long such a span is, in seconds.
        warnings: What was wrong with it and did not stop the decoding.
    """

    duration_s: float
    rate_hz: int
    channels: int
    peaks: Float32
    peaks_s: float
    warnings: tuple[str, ...]


class Apart:
    """Processes that decode, started when they are needed and anew when one dies; threads share it.

    Attributes:
        timeout_s: How long one request may take, in seconds; what is done with its windows while
            they come does not count.
    """

    def __init__(self, timeout_s: float = 60.0) -> None:
        self.timeout_s = timeout_s
        self._lock = threading.Lock()
        self._idle: list[subprocess.Popen[bytes]] = []
        self._busy: set[subprocess.Popen[bytes]] = set()
        self._is_closed = False

    @contextmanager
    def open_audio(
        self,
        path: Path,
        *,
        start_sample: int = 0,
        num_samples: int | None = None,
        channel: int | None = None,
    ) -> Iterator[AudioApart]:
        """Open a clip as `indexer.audio.stream.open_audio` does, to be cut into windows."""
        span = {"start_sample": start_sample, "num_samples": num_samples, "channel": channel}
        yield AudioApart(self, path, span)

    def read_span(self, path: Path, start_s: float, duration_s: float) -> tuple[Float32, int]:
        """Decode a span, see `indexer.audio.stream.read_span`.

        Raises:
            AudioError: If it cannot be decoded, takes too long, or ends the process that decodes.
        """
        asked = {"do": "span", "path": str(path), "start_s": start_s, "duration_s": duration_s}
        (told, (samples,)), *_ = self.ask(asked)
        return samples, told["rate_hz"]

    def survey(self, path: Path, num_peaks: int, most_s: float) -> Survey:
        """Decode all of a file, and say what is in it.

        Args:
            path: A regular file.
            num_peaks: Peaks that are wanted, at most.
            most_s: A longer file is an error, in seconds.

        Raises:
            AudioError: As of `read_span`.
        """
        asked = {"do": "survey", "path": str(path), "num_peaks": num_peaks, "most_s": most_s}
        (told, (peaks,)), *_ = self.ask(asked)
        about = told["duration_s"], told["rate_hz"], told["channels"]
        return Survey(*about, peaks, told["peaks_s"], tuple(told["warnings"]))

    def ask(self, request: dict[str, Any]) -> Generator[Message, None, None]:
        """Yield the messages that answer a request, see `indexer.reading.decoder`.

        Raises:
            AudioError: As of `read_span`.
        """
        process = self._take()
        clock = _Clock(process, self.timeout_s)
        is_done = False
        try:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            while True:
                with clock.running():
                    told, arrays = _receive(process.stdout)
                if "reason" in told:
                    failure = AudioError(told["stage"], told["reason"])
                    is_done = True
                    raise failure
                if "end" in told:
                    is_done = True
                    return
                yield told, arrays
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:  # or no such message
            raise AudioError("decode", self._why(process, is_late=clock.is_late)) from error
        finally:
            self._give_back(process, is_whole=is_done and not clock.is_late)

    def close(self) -> None:
        """End all processes; what they were asked for is an error of whoever waits for it."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            for process in self._busy:
                process.kill()
        for process in idle:
            _end(process)

    def _take(self) -> subprocess.Popen[bytes]:
        with self._lock:
            while self._idle:
                process = self._idle.pop()
                if process.poll() is None:
                    self._busy.add(process)
                    return process
                _end(process)
        process = _start()
        with self._lock:
            self._busy.add(process)
            if self._is_closed:
                process.kill()
        return process

    def _give_back(self, process: subprocess.Popen[bytes], *, is_whole: bool) -> None:
        with self._lock:
            self._busy.discard(process)
            if is_whole and not self._is_closed and len(self._idle) < _MOST_IDLE:
                self._idle.append(process)
                return
        _end(process)

    def _why(self, process: subprocess.Popen[bytes], *, is_late: bool) -> str:
        if is_late:
            return f"it takes longer than {self.timeout_s:g} s"
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_S)
        process.kill()
        code = process.wait()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the process that decodes it died of it ({name})"


class AudioApart:
    """A clip that is decoded elsewhere, as `AudioStream` gives its windows.

    Attributes:
        start_sample: Where on its time line lies the first sample that is given.
        peak: See `AudioStream`.
        audio_id: The digest of its samples, at the end, if it was asked for.
    """

    def __init__(self, apart: Apart, path: Path, span: dict[str, int | None]) -> None:
        self.start_sample = span["start_sample"] or 0
        self.peak = 0.0
        self.audio_id: bytes | None = None
        self._apart, self._request = apart, {"do": "cut", "path": str(path), **span}
        self._identify, self._absence = False, ""

    def identify(self) -> None:
        """Compute the digest of what will be decoded."""
        self._identify = True

    def windows(self, geometry: Geometry) -> Iterator[Cut]:
        """Yield the windows, see `AudioStream.windows`.

        Raises:
            AudioError: As of `Apart.read_span`.
        """
        how = {"geometry": asdict(geometry), "identify": self._identify}
        for told, arrays in self._apart.ask({**self._request, **how}):
            self.start_sample, self.peak = told["first"], told["peak"]
            if arrays:
                yield Cut(told["start_sample"], told["num_samples"], arrays[0])
            else:
                self._absence = told["absence"]
                self.audio_id = bytes.fromhex(told["audio_id"]) if told["audio_id"] else None

    def absence(self) -> str:
        """Say why the span has no audio in it."""
        return self._absence


def _receive(answers: IO[bytes]) -> Message:
    line = answers.readline(_LONGEST_LINE)
    if not line.endswith(b"\n"):
        raise EOFError
    told = json.loads(line)
    return told, [_receive_array(answers, shape) for shape in told.pop("shapes")]


def _receive_array(answers: IO[bytes], shape: Sequence[int]) -> Float32:
    num_bytes = 4 * math.prod(shape)
    if not 0 <= num_bytes <= MOST_BYTES:
        raise ValueError(f"no array that it can have: {shape}")
    content = answers.read(num_bytes)
    return np.frombuffer(content, np.float32).reshape(shape)


class _Clock:
    """Ends a process for which one has waited for too long.

    Attributes:
        is_late: Whether it did.
    """

    def __init__(self, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        self.is_late = False
        self._process, self._left_s = process, timeout_s
        self._lock = threading.Lock()  # it may be given away in the moment in which its time is up
        self._is_running = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let it run, until the end of the block."""
        began, self._is_running = time.monotonic(), True
        timer = threading.Timer(max(0.0, self._left_s), self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            with self._lock:
                self._is_running = False
            self._left_s -= time.monotonic() - began

    def _end(self) -> None:
        with self._lock:
            if self._is_running:
                self.is_late = True
                self._process.kill()


def _start() -> subprocess.Popen[bytes]:
    few = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "indexer.reading.decoder"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **few, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        start_new_session=True,  # Ctrl-C is for the process that asks
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with suppress(OSError):
            if pipe:
                pipe.close()
