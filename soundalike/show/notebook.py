"""Hits as HTML for notebooks: a spectrogram and a player for each, with nothing beside the page."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

import soundfile

from indexer.arrays import Float32
from indexer.errors import AudioError
from indexer.paths import printable
from search.asking.answers import Hit
from search.asking.collect import read_hit
from soundalike.show.spectrogram import HEIGHT, WIDTH, spectrogram_png
from soundalike.show.words import clock, count

#: Hits that are shown; a player takes some 50 kB.
_MAX_SHOWN = 20
#: Tags that are named of each.
_MAX_TAGS = 3
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
        f'<img src="data:image/png;base64,{picture}" width="{WIDTH}" height="{HEIGHT}"><br>'
        f'<audio controls preload="none" src="data:audio/{kind};base64,{audio}" '
        f'style="width:{WIDTH}px;height:28px"></audio>'
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
