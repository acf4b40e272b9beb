"""What it costs to decode a recording: ours, beside the libraries that could do it.

    python benchmarks/decode_ways.py FOLDER

Milliseconds of the processor for 10 s of audio at the file's own rate, in one thread, the least of
many turns. Ours ends in mono float32 that was checked for numbers that are none; libsndfile's in
interleaved float32; FFmpeg's in frames that nobody looks at, or in frames that it joined.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import av
import soundfile

from indexer.audio.stream import open_audio
from indexer.errors import SoundalikeError
from indexer.reading.dataset import keep_freed_memory

TURNS = 60
#: Columns of the table; a ratio is that of the first to the lesser of the next two.
WAYS = ("soundalike", "libsndfile", "FFmpeg", "FFmpeg, frames joined")


def ours(path: Path) -> None:
    """Read as a reader beside a GPU does."""
    with open_audio(path) as audio:
        for _ in audio.source_blocks():
            pass


def libsndfile(path: Path) -> None:
    """Read all of it."""
    soundfile.read(path, dtype="float32")


def ffmpeg(path: Path) -> None:
    """Decode, and let go of each frame."""
    with av.open(str(path)) as container:
        container.streams.audio[0].codec_context.thread_count = 1
        for _ in container.decode(audio=0):
            pass


def joined(path: Path) -> None:
    """Decode, and join the frames."""
    fifo = av.AudioFifo()
    with av.open(str(path)) as container:
        container.streams.audio[0].codec_context.thread_count = 1
        for frame in container.decode(audio=0):
            frame.pts = None
            fifo.write(frame)
    frame = fifo.read()
    assert frame is not None
    frame.to_ndarray()


CALLS: Mapping[str, Callable[[Path], None]] = dict(
    zip(WAYS, (ours, libsndfile, ffmpeg, joined), strict=True)
)


def decoding_ms(path: Path, turns: int = TURNS) -> dict[str, float]:
    """Return the least time of each way to decode a file, by turns, in ms of the processor."""
    keep_freed_memory()  # as in a reader; it serves them all
    least = dict.fromkeys(WAYS, float("inf"))
    for _ in range(turns):
        for way, call in CALLS.items():
            start = time.process_time()
            call(path)
            least[way] = min(least[way], 1000 * (time.process_time() - start))
    return least


def ratio(found: Mapping[str, float]) -> float:
    """Return how many times as long ours takes as the better of libsndfile and FFmpeg."""
    return found["soundalike"] / min(found["libsndfile"], found["FFmpeg"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of recordings of 10 s that all three can read")
    for path in sorted(parser.parse_args().folder.iterdir()):
        try:
            found = decoding_ms(path)
        except (OSError, SoundalikeError, av.FFmpegError, soundfile.LibsndfileError) as error:
            print(f"{path.name:20}  cannot be compared: {error}")
            continue
        cells = "  ".join(f"{way} {ms:.1f}" for way, ms in found.items())
        print(f"{path.name:20}  {cells}  ratio {ratio(found):.2f}")


if __name__ == "__main__":
    main()
