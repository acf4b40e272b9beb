"""Libraries with files that are broken in 25 ways, and names that nobody should use."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import soundfile

from indexer.reading import dataset

RATE_HZ = 32_000
#: A recording that is longer than this is a failure, in hours: half a minute less than `too long`.
MAX_HOURS = 0.05

#: Names of good files: line breaks, quotes, escape sequences, text from right to left, no UTF-8.
HOSTILE_NAMES = [
    b"line\nbreak.wav",
    b"tab\tand\rreturn.wav",
    b"'single' \"double\" `back`.wav",
    b"$(touch owned); rm -rf *.wav",
    b"-rf.wav",
    b"\x1b[31mred\x1b[0m\x07.wav",
    "\u202egpj.wav".encode(),
    "e\u0301 and \u00e9.wav".encode(),
    b"latin caf\xe9.wav",
    b"\xff\xfe\xfd.wav",
    b"back\\slash\\x41.wav",
    b"%s %n %2e%2e.wav",
    b"n" * 251 + b".wav",
]


def tone(seconds: float, seed: int) -> np.ndarray[Any, Any]:
    """A quiet chord with noise, another one for every seed: (num_samples,) float32."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(max(1, round(seconds * RATE_HZ))) / RATE_HZ
    pitches = rng.uniform(100, 4000, 3)
    chord = sum(np.sin(2 * np.pi * pitch * time_s) for pitch in pitches)
    return (0.1 * chord + rng.normal(0, 0.01, len(time_s))).astype(np.float32)


def wav_bytes(channels: int = 1, rate: int = RATE_HZ, data: bytes = bytes(6400)) -> bytes:
    """A WAV file whose header says whatever is asked for."""
    values = (16, 1, channels, rate, rate * channels * 2 & 0xFFFFFFFF, channels * 2 & 0xFFFF, 16)
    header = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt "
    return header + struct.pack("<IHHIIHH", *values) + b"data" + struct.pack("<I", len(data)) + data


def _written(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def _samples(value: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        samples = tone(1.0, 1)
        samples[RATE_HZ // 2] = value
        soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")

    return make


def _huge_claim(path: Path) -> None:
    """An RF64 header that claims 2^36 frames, and a second of audio."""
    content = wav_bytes(data=(tone(1.0, 2) * 32767).astype("<i2").tobytes())
    sizes = struct.pack("<QQQI", 1 << 38, 1 << 37, 1 << 36, 0)
    ds64 = b"ds64" + struct.pack("<I", len(sizes)) + sizes
    fmt_and_data = content[12:36] + b"data" + struct.pack("<I", 0xFFFFFFFF) + content[44:]
    path.write_bytes(b"RF64" + struct.pack("<I", 0xFFFFFFFF) + b"WAVE" + ds64 + fmt_and_data)


def _cut(container: str, share: float) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        soundfile.write(path, tone(4.0, 3), RATE_HZ, format=container)
        content = path.read_bytes()
        path.write_bytes(content[: round(len(content) * share)])

    return make


def _too_long(path: Path) -> None:
    """More silence than `MAX_HOURS`, in a file of some kilobytes."""
    with soundfile.SoundFile(path, "w", 8000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(round(MAX_HOURS * 3600) + 30):
            file.write(np.zeros(8000, np.float32))


def _video_only(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            file.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        file.mux(stream.encode(None))


def _socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    here = Path.cwd()
    try:
        os.fchdir(folder)  # the path of a socket has room for 108 bytes
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)
        os.close(folder)


def _locked(path: Path) -> None:
    soundfile.write(path, tone(1.0, 4), RATE_HZ)
    path.chmod(0)


def _good(seed: int) -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, tone(1.0, seed), RATE_HZ)


class _Exploit:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


#: What is wrong with a file → suffix of its name, and what writes it.
KINDS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "empty": (".wav", lambda path: path.touch()),
    "text": (".wav", _written(b"this is not audio\n" * 50)),
    "noise": (".mp3", _written(np.random.default_rng(0).bytes(20_000))),
    "header alone": (".wav", _written(wav_bytes(data=b""))),
    "half a header": (".wav", _written(wav_bytes()[:20])),
    "cut FLAC header": (".flac", _cut("FLAC", 0.001)),
    "cut FLAC": (".flac", _cut("FLAC", 0.6)),
    "cut Ogg": (".ogg", _cut("OGG", 0.02)),
    "not a number": (".wav", _samples(float("nan"))),
    "infinite": (".wav", _samples(float("inf"))),
    "concat script": (".wav", _written(b"ffconcat version 1.0\nfile good.wav\n")),
    "playlist": (".mp3", _written(b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.mp3\n")),
    "pickle": (".wav", _written(pickle.dumps(_Exploit()))),
    "1024 channels": (".wav", _written(wav_bytes(channels=1024))),
    "0 Hz": (".wav", _written(wav_bytes(rate=0))),
    "2^36 frames": (".wav", _huge_claim),
    "too long": (".flac", _too_long),
    "video alone": (".mp4", _video_only),
    "pipe": (".wav", lambda path: os.mkfifo(path)),
    "socket": (".wav", _socket),
    "broken link": (".wav", lambda path: path.symlink_to("nowhere.wav")),
    "locked": (".wav", _locked),
    "decoder crashes": (".wav", _good(5)),
    "decoder hangs": (".wav", _good(6)),
    "decoder raises": (".wav", _good(7)),
}


def arm() -> None:
    """Let the decoder do with "decoder …" files what one with a fault does to its process."""
    real = dataset.open_audio

    def open_audio(path: Path, **options: Any) -> Any:
        if "decoder crashes" in path.name:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "decoder hangs" in path.name:
            time.sleep(3600)
        if "decoder raises" in path.name:
            raise RecursionError("maximum recursion depth exceeded")
        return real(path, **options)

    dataset.open_audio = open_audio


class Library(NamedTuple):
    """What was generated: paths relative to the root; bad ones with what is wrong with them."""

    root: Path
    good: list[Path]
    bad: dict[Path, str]


def write_library(root: Path, num_good: int, num_bad: int) -> Library:
    """Write good files of 0.3 to 4 s in four formats, a few long ones and copies, and bad ones."""
    rng = np.random.default_rng(1)
    good: list[Path] = []
    for number in range(num_good):
        if number < len(HOSTILE_NAMES):
            path = Path(os.fsdecode(HOSTILE_NAMES[number]))
        else:
            suffix = (".wav", ".flac", ".ogg", ".mp3")[number % 4]
            path = Path(f"{number % 7}") / f"{number}{suffix}"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if number % 50 == 49:  # a copy
            (root / path).write_bytes((root / good[-1]).read_bytes())
        else:
            seconds = 45.0 if number % 100 == 20 else rng.uniform(0.3, 4.0)
            plain = root / f"new{path.suffix}"  # libsndfile takes no name that is not UTF-8
            soundfile.write(plain, tone(seconds, 1000 + number), RATE_HZ)
            plain.rename(root / path)
        good.append(path)
    bad: dict[Path, str] = {}
    for number in range(num_bad):
        kind = list(KINDS)[number % len(KINDS)]
        suffix, make = KINDS[kind]
        path = Path("bad") / f"{kind} {number}{suffix}"
        (root / path).parent.mkdir(exist_ok=True)
        make(root / path)
        bad[path] = kind
    return Library(root, good, bad)
