"""Hits as HTML for notebooks: a spectrogram and a player for each, with nothing beside the page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile
from PIL import Image, ImageDraw

from indexer.arrays import Float32
from indexer.errors import AudioError
from indexer.paths import printable
from search.asking.answers import Hit
from search.asking.collect import read_hit
from soundalike.show.words import clock, count

#: Hits that are shown; a player takes some 50 kB.
_MAX_SHOWN = 20
#: Tags that are named of each.
_MAX_TAGS = 3
#: Samples and hop of a spectrum, at 32 kHz 32 ms and 8 ms, and least and most of its frequencies.
_FRAME_S, _HOP_S = 0.032, 0.008
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 14_000.0
#: Of the picture, in pixels; the lower end of its colours, in dB below the loudest.
_WIDTH, _HEIGHT = 320, 72
_RANGE_DB = 70.0
#: From quiet to loud, in equal steps: night blue, violet, red, yellow, white.
_COLOURS = np.array(
    [(8, 10, 36), (74, 26, 110), (190, 54, 88), (248, 146, 62), (252, 248, 200)], np.float64
)
#: The frame around what matched: no colour of the picture.
_MARK = (120, 255, 220)
#: What an MP3 file may be sampled at.
_MP3_RATES_HZ = frozenset({8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000})
_CELL = 'style="text-align:left;vertical-align:middle;padding:2px 8px"'


class _Span(NamedTuple):
    """The audio of a hit: (num_samples,) float32, mono, and its rate."""

    samples: Float32
    rate_hz: int


def hits_html(hits: Sequence[Hit]) -> str:
    """Return hits as a table: score, picture, player, file, span and tags of each.

    A hit whose audio is not there says so in the place of both.
    """
    if not hits:
        return "<p>no window matches</p>"
    rows = "".join(_row(rank, hit) for rank, hit in enumerate(hits[:_MAX_SHOWN], start=1))
    more = len(hits) - _MAX_SHOWN
    rest = f"<p>and {count(more, 'more hit')}</p>" if more > 0 else ""
    return f"<table>{rows}</table>{rest}"


def _row(rank: int, hit: Hit) -> str:
    name = html.escape(printable(hit.path.name)) if hit.path else "(no path)"
    title = html.escape("\n".join(printable(str(path)) for path in hit.paths), quote=True)
    tags = ", ".join(f"{one.tag.name} {one.probability:.2f}" for one in hit.tags[:_MAX_TAGS])
    said = f'<b title="{title}">{name}</b><br>{clock(hit.start_s)} to {clock(hit.end_s)}'
    if hit.has_match:
        start_s, end_s = hit.span
        said += f"<br>match {clock(start_s)} to {clock(end_s)}"
    said += f"<br><small>{html.escape(tags)}</small>"
    if hit.stands_for > 1:
        said += f"<br><small>and {count(hit.stands_for - 1, 'hit')} like it</small>"
    return (
        f"<tr><td {_CELL}>{rank}</td><td {_CELL}>{hit.score:.3f}</td>"
        f"<td {_CELL}>{_sound(hit)}</td><td {_CELL}>{said}</td></tr>"
    )


def _sound(hit: Hit) -> str:
    """Show all of the window, and play what matched in it."""
    try:
        window = _read(hit, whole_window=True)
        played = _read(hit, whole_window=False) if hit.has_match else window
    except AudioError as error:
        return f"<small>its audio cannot be played: {html.escape(printable(str(error)))}</small>"
    start_s, end_s = hit.span
    mark = (start_s - hit.start_s, end_s - hit.start_s) if hit.has_match else None
    picture = base64.b64encode(spectrogram_png(*window, mark)).decode()
    kind, content = _playable(played)
    audio = base64.b64encode(content).decode()
    return (
        f'<img src="data:image/png;base64,{picture}" width="{_WIDTH}" height="{_HEIGHT}"><br>'
        f'<audio controls preload="none" src="data:audio/{kind};base64,{audio}" '
        f'style="width:{_WIDTH}px;height:28px"></audio>'
    )


def _read(hit: Hit, *, whole_window: bool) -> _Span:
    _, samples, rate_hz = read_hit(hit, whole_window=whole_window)
    return _Span(samples.mean(1), rate_hz)


def _playable(span: _Span) -> tuple[str, bytes]:
    """Return samples as a browser plays them: the kind, and the file."""
    is_mp3 = span.rate_hz in _MP3_RATES_HZ
    file = io.BytesIO()
    how = {"format": "MP3"} if is_mp3 else {"format": "WAV", "subtype": "PCM_16"}
    soundfile.write(file, span.samples, span.rate_hz, **how)
    return ("mpeg" if is_mp3 else "wav"), file.getvalue()


def spectrogram_png(
    samples: Float32, rate_hz: int, mark: tuple[float, float] | None = None
) -> bytes:
    """Return a picture of what is heard when: time to the right, frequency upwards, as PNG.

    Args:
        samples: (num_samples,) float32, mono.
        rate_hz: Their rate.
        mark: From when to when a frame is drawn, in seconds from their start; None for none.
    """
    levels = _levels(samples, rate_hz)
    at = np.clip(levels / _RANGE_DB + 1, 0, 1) * (len(_COLOURS) - 1)
    steps = np.arange(len(_COLOURS))
    colours = np.stack([np.interp(at, steps, one) for one in _COLOURS.T], axis=-1)
    picture = Image.fromarray(colours[::-1].astype(np.uint8))
    picture = picture.resize((_WIDTH, _HEIGHT), Image.Resampling.BILINEAR)
    if mark:
        left, right = (round(one * rate_hz / len(samples) * (_WIDTH - 1)) for one in mark)
        ImageDraw.Draw(picture).rectangle((left, 0, right, _HEIGHT - 1), outline=_MARK)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _levels(samples: Float32, rate_hz: int) -> npt.NDArray[np.float64]:
    """Return (num_bands, num_frames) dB below the loudest; bands lie as an octave's steps do."""
    size, hop = round(_FRAME_S * rate_hz), max(1, round(_HOP_S * rate_hz))
    padded = np.pad(samples.astype(np.float64), (0, max(0, size - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(size))) ** 2  # (num_frames, size // 2 + 1)
    bands_hz = np.geomspace(_LOWEST_HZ, min(_HIGHEST_HZ, rate_hz / 2), _HEIGHT)
    levels = 10 * np.log10(np.maximum(power, 1e-12))
    bins = np.interp(bands_hz, np.fft.rfftfreq(size, 1 / rate_hz), np.arange(power.shape[1]))
    low = np.minimum(bins.astype(int), power.shape[1] - 2)
    share = bins - low
    of_bands = levels[:, low] * (1 - share) + levels[:, low + 1] * share
    return np.asarray((of_bands - max(of_bands.max(), -60)).T)
