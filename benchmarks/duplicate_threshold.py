"""From which score on two windows are the same sound: encoded copies beside different recordings.

    python benchmarks/duplicate_threshold.py data/samples esc10_heldout

Every second clip of each folder is encoded anew, and compared with its original; all clips are
compared with each other, but those that are the same to the byte. Default checkpoint and padding of
the documentation: demo, repeat; fp32.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import soundfile
import torch

from indexer.audio.stream import open_audio
from indexer.embedding.extractor import Extractor
from indexer.library.walk import walk
from indexer.model.checkpoint import load_checkpoint
from indexer.windows import Geometry

#: What is told → encoder, container, bits per second; libsndfile chooses these itself.
WAYS = {
    "MP3 at 128 kbit/s": ("libmp3lame", "mp3", 128_000),
    "MP3 at 48 kbit/s": ("libmp3lame", "mp3", 48_000),
    "Ogg Vorbis": ("libsndfile", "ogg", 0),
    "Opus at 64 kbit/s": ("libopus", "ogg", 64_000),
}
THRESHOLDS = (0.95, 0.96, 0.97, 0.98, 0.99)


def encoded(file: Path, way: tuple[str, str, int]) -> bytes:
    """Decode a file, and encode it anew."""
    codec, container, bits_per_s = way
    target = io.BytesIO()
    if codec == "libsndfile":
        samples, rate = soundfile.read(file)
        soundfile.write(target, samples, rate, subtype="VORBIS", format="OGG")
        return target.getvalue()
    with av.open(str(file)) as source, av.open(target, "w", format=container) as written:
        rate = 48_000 if codec == "libopus" else 44_100
        stream = written.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = bits_per_s
        shape = av.AudioResampler(stream.codec_context.format or "fltp", "mono", rate)
        for frame in source.decode(audio=0):
            frame.pts = None
            for piece in shape.resample(frame):
                for packet in stream.encode(piece):
                    written.mux(packet)
        for piece in shape.resample(None):
            for packet in stream.encode(piece):
                written.mux(packet)
        for packet in stream.encode(None):
            written.mux(packet)
    return target.getvalue()


def scene(file: Path, extractor: Extractor) -> npt.NDArray[np.float64]:
    """The first window's scene, of length 1."""
    with open_audio(file) as audio:
        cut = next(iter(audio.windows(Geometry(padding="repeat"))))
    found = extractor(torch.from_numpy(cut.waveform)[None]).scene[0].astype(np.float64)
    return np.asarray(found / np.linalg.norm(found))


def main(folders: Sequence[Path]) -> None:
    """Print the table."""
    extractor = Extractor(load_checkpoint("demo"), device="cpu", precision="fp32", frames="none")
    files = [folder / one.path for folder in folders for one in walk(folder).files]
    scenes = np.stack([scene(file, extractor) for file in files])
    copy = Path("encoded-copy")
    print(f"| windows whose score reaches | {' | '.join(map(str, THRESHOLDS))} |")
    print("|---|" + "---|" * len(THRESHOLDS))
    for told, way in WAYS.items():
        scores = []
        for file, original in list(zip(files, scenes, strict=True))[::2]:
            copy.write_bytes(encoded(file, way))
            scores.append(scene(copy, extractor) @ original)
        shares = [f"{np.mean(np.array(scores) >= one):.1%}" for one in THRESHOLDS]
        print(f"| {told} ({len(scores)}) | {' | '.join(shares)} |", flush=True)
    copy.unlink()
    upper = np.triu_indices(len(files), 1)
    products = (scenes @ scenes.T)[upper]
    counts = [int((products >= one).sum()) for one in THRESHOLDS]
    print(f"| {len(products):,} pairs of different files | {' | '.join(map(str, counts))} |")
    for at in np.argsort(-products)[:8]:
        print(f"{products[at]:.4f} {files[upper[0][at]].name} {files[upper[1][at]].name}")


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
