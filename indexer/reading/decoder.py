"""A process that decodes for another one, which goes on if this one dies of a file.

It is there within half a second; PyTorch is loaded only where a rate has to be brought to 32 kHz.
Each line that it reads is a request, in JSON; the answer is messages: a line of JSON, and after it
the bytes of the arrays whose shapes are in it. None of that can run code in the other process,
whatever a file makes of this one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import IO, Any

import numpy as np

from indexer.arrays import Float32
from indexer.audio.decode import open_source
from indexer.audio.source import END
from indexer.audio.stream import open_audio, read_span
from indexer.errors import AudioError, first_line
from indexer.reading.apart import MOST_BYTES, Message
from indexer.windows import SAMPLE_RATE_HZ, Geometry

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

#: Samples of all channels that are sent at once: ten minutes of 48 kHz in stereo.
_MOST_VALUES = 60_000_000
#: Peaks are found of so many seconds first, and joined until they are few enough.
_PEAK_S = 0.005


def main() -> None:
    """Answer requests until there are no more; what anybody prints goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    _limit()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            for message in _REQUESTS[request.pop("do")](**request):
                _send(answers, message)
            _send(answers, ({"end": True}, []))
        except AudioError as error:
            _send(answers, ({"stage": error.stage, "reason": error.reason}, []))
        except MemoryError:
            _send(answers, ({"stage": "decode", "reason": "it takes too much memory"}, []))
        except Exception as error:  # noqa: BLE001 - a decoder may raise anything
            _send(answers, ({"stage": "decode", "reason": first_line(error)}, []))


def _limit() -> None:
    """Keep this process from taking all memory, and from leaving a core behind."""
    if not resource:
        return
    if sys.platform == "linux":  # elsewhere what is mapped counts as well, and that is PyTorch
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _send(answers: IO[bytes], message: Message) -> None:
    told, arrays = message
    answers.write(json.dumps({**told, "shapes": [one.shape for one in arrays]}).encode() + b"\n")
    for one in arrays:
        answers.write(np.ascontiguousarray(one, np.float32).tobytes())
    answers.flush()


def _cut(
    path: str,
    start_sample: int,
    num_samples: int | None,
    channel: int | None,
    geometry: dict[str, Any],
    *,
    identify: bool,
) -> Iterator[Message]:
    """Send the windows of a clip, one by one, and then what is known of it at the end."""
    with open_audio(
        Path(path), start_sample=start_sample, num_samples=num_samples, channel=channel
    ) as audio:
        if identify:
            audio.identify()
        for cut in audio.windows(Geometry(**geometry)):
            told = {"start_sample": cut.start_sample, "num_samples": cut.num_samples}
            yield {**told, "peak": audio.peak, "first": audio.start_sample}, [cut.waveform]
        audio_id = audio.audio_id
        yield (
            {
                "first": audio.start_sample,
                "peak": audio.peak,
                "audio_id": audio_id.hex() if audio_id else None,
                "absence": audio.absence(),
            },
            [],
        )


def _span(path: str, start_s: float, duration_s: float) -> Iterator[Message]:
    samples, rate_hz = read_span(Path(path), start_s, duration_s)
    if samples.size > _MOST_VALUES:
        raise AudioError("decode", f"{duration_s:g} s of it are too much at once: take a part")
    yield {"rate_hz": rate_hz}, [samples]


def _survey(path: str, num_peaks: int, most_s: float) -> Iterator[Message]:
    """Decode all of a file, and send how long it is, and its peaks."""
    with closing(open_source(Path(path), most_s)) as source:
        info = source.info
        begin_s = max(info.first_sample, 0) / SAMPLE_RATE_HZ
        size = max(1, round(_PEAK_S * info.sample_rate))
        pieces = [np.zeros((round(begin_s / _PEAK_S), 2), np.float32)]
        rest, num_samples = np.empty(0, np.float32), 0
        for channels in source.read(0, END):
            mono = np.concatenate([rest, np.mean([*channels], axis=0)])
            num_samples += len(channels[0])
            whole = len(mono) // size * size
            pieces.append(_extremes(mono[:whole], size))
            rest = mono[whole:]
        if len(rest):
            pieces.append(_extremes(rest, len(rest)))
        peaks = np.concatenate(pieces)
        joined = max(1, -(-len(peaks) // num_peaks))
        if num_samples == 0:
            raise AudioError("decode", "it has no audio")
        told = {
            "duration_s": begin_s + num_samples / info.sample_rate,
            "rate_hz": info.sample_rate,
            "channels": info.channels,
            "peaks_s": joined * size / info.sample_rate,
            "warnings": list(source.warnings()),
        }
    yield told, [_join(peaks, joined)]


def _extremes(mono: Float32, size: int) -> Float32:
    """Return (n, 2) float32 the least and the greatest of every `size` samples."""
    blocks = np.nan_to_num(mono).reshape(-1, size)
    return np.stack([blocks.min(1), blocks.max(1)], axis=1).astype(np.float32)


def _join(peaks: Float32, number: int) -> Float32:
    """Return peaks of spans that are so many times as long."""
    starts = np.arange(0, len(peaks), number)
    least = np.minimum.reduceat(peaks[:, 0], starts)
    return np.stack([least, np.maximum.reduceat(peaks[:, 1], starts)], axis=1)


_REQUESTS: dict[str, Callable[..., Iterator[Message]]] = {
    "cut": _cut,
    "span": _span,
    "survey": _survey,
}

if __name__ == "__main__":
    main()
