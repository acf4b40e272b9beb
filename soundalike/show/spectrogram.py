"""Pictures of sound: what is heard when, time to the right and frequency upwards."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from indexer.arrays import Float32

#: Samples and hop of a spectrum, at 32 kHz 32 ms and 8 ms, and least and most of its frequencies.
_FRAME_S, _HOP_S = 0.032, 0.008
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 14_000.0
#: Of the picture, in pixels, unless told otherwise; the lower end of its colours, in dB below the
#: loudest.
WIDTH, HEIGHT = 320, 72
_RANGE_DB = 70.0
#: From quiet to loud, in equal steps: night blue, violet, red, yellow, white.
_COLOURS = np.array(
    [(8, 10, 36), (74, 26, 110), (190, 54, 88), (248, 146, 62), (252, 248, 200)], np.float64
)
#: Levels that are told apart, 1.1 dB each: with this palette a picture takes a quarter of what it
#: takes in all colours.
_NUM_LEVELS = 64
#: The frame around what matched: no colour of the picture.
_MARK = (120, 255, 220)
#: Its lines are that share of the width: 3 pixels of a picture that is shown at half its size.
_FRAME_SHARE = 200
#: Spectra for each pixel of the width, at most: of what is long, some are left out.
_MOST_FRAMES = 4


def spectrogram_png(
    samples: Float32,
    rate_hz: int,
    mark: tuple[float, float] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> bytes:
    """Return a picture of what is heard when: time to the right, frequency upwards, as PNG.

    Args:
        samples: (num_samples,) float32, mono.
        rate_hz: Their rate.
        mark: From when to when a frame is drawn, in seconds from their start; None for none.
        size: Its width and height, in pixels.
    """
    width, height = size
    levels = _levels(samples, rate_hz, width, height)
    at = np.clip(levels / _RANGE_DB + 1, 0, 1) * (_NUM_LEVELS - 1)
    picture = Image.fromarray(at[::-1].round().astype(np.uint8))
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    picture.putpalette(_palette())
    if mark:
        left, right = (round(one * rate_hz / len(samples) * (width - 1)) for one in mark)
        frame = (min(left, width - 1), 0, min(right, width - 1), height - 1)
        thick = max(1, width // _FRAME_SHARE)
        ImageDraw.Draw(picture).rectangle(frame, outline=_NUM_LEVELS, width=thick)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _palette() -> bytes:
    """Return the colours of all levels, and behind them that of the frame."""
    at = np.linspace(0, len(_COLOURS) - 1, _NUM_LEVELS)
    steps = np.arange(len(_COLOURS))
    colours = np.stack([np.interp(at, steps, one) for one in _COLOURS.T], axis=-1)
    return np.vstack([colours, _MARK]).astype(np.uint8).tobytes()


def _levels(samples: Float32, rate_hz: int, width: int, height: int) -> npt.NDArray[np.float64]:
    """Return (num_bands, num_frames) dB below the loudest; bands lie as an octave's steps do."""
    size = round(_FRAME_S * rate_hz)
    hop = max(1, round(_HOP_S * rate_hz), len(samples) // (_MOST_FRAMES * width))
    padded = np.pad(samples, (0, size - len(samples))) if len(samples) < size else samples
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(size))) ** 2  # (num_frames, size // 2 + 1)
    bands_hz = np.geomspace(_LOWEST_HZ, min(_HIGHEST_HZ, rate_hz / 2), height)
    levels = 10 * np.log10(np.maximum(power, 1e-12))
    bins = np.interp(bands_hz, np.fft.rfftfreq(size, 1 / rate_hz), np.arange(power.shape[1]))
    low = np.minimum(bins.astype(int), power.shape[1] - 2)
    share = bins - low
    of_bands = levels[:, low] * (1 - share) + levels[:, low + 1] * share
    return np.asarray((of_bands - max(of_bands.max(), -60)).T)
