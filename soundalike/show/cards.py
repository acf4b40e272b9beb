"""Sounds as HTML: a picture, a player and what is known of each, for pages and notebooks alike.

All that is shown is escaped; nothing is fetched, and no script runs.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from indexer.errors import AudioError
from indexer.paths import printable
from search.asking.answers import Hit
from soundalike.show.heard import HEIGHT, MOST_S, WIDTH, Heard, hear
from soundalike.show.hits import plain_value
from soundalike.show.words import clock, count, shown_path, time_of_day

#: What is known of a sound: what it is, and its value, not yet escaped.
Facts = Iterable[tuple[str, str]]

#: How cards look, on light and on dark ground: their colours are those of the text around them,
#: unless a page says others. They stand side by side with what is known where there is room.
STYLE = """
.sounds{list-style:none;margin:0;padding:0}
.sounds .sound{display:flex;flex-wrap:wrap;gap:10px 20px;margin:0;padding:16px 0;
border-top:1px solid var(--line,#8886)}
.sounds .shown{flex:1 1 400px;max-width:480px;min-width:0}
.sounds .shown img{display:block;width:100%;max-width:100%;height:96px;margin:0;border-radius:6px;
background:#080a24;image-rendering:auto}
.sounds .shown audio{display:block;width:100%;height:36px;margin:6px 0 0}
.sounds .gone{margin:0;padding:12px 14px;border:1px dashed var(--edge,#888);border-radius:6px;
overflow-wrap:anywhere}
.sounds .told{flex:999 1 280px;min-width:0}
.sounds .title{display:flex;align-items:baseline;gap:10px;margin:0 0 6px;padding:0;
font-size:1.05em;font-weight:600;line-height:1.35}
.sounds .title .name{flex:1;min-width:0;overflow-wrap:anywhere}
.sounds .title .rank{min-width:1.6em;color:var(--quiet,inherit);font-weight:400}
.sounds .title .score{font-variant-numeric:tabular-nums}
.sounds dl{display:grid;grid-template-columns:fit-content(28%) minmax(0,1fr);gap:1px 12px;margin:0;
padding:0;font-size:.92em;line-height:1.45}
.sounds dt{float:none;margin:0;padding:0;width:auto;font-weight:400;text-align:left;
color:var(--quiet,inherit);overflow-wrap:anywhere}
.sounds dd{margin:0;padding:0;overflow-wrap:anywhere;white-space:pre-wrap}
@media print{.sounds .shown audio{display:none}.sounds .sound{break-inside:avoid}
.sounds .shown img{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
"""


class Card(NamedTuple):
    """A sound as it is shown.

    Attributes:
        name: What it is called.
        facts: What is known of it.
        sound: What is seen and heard; why it cannot be; None of what has no sound.
        span: From when to when, in words, for those who do not see the picture.
        rank: Of a hit, from 1 on.
        score: Of a hit.
    """

    name: str
    facts: Facts
    sound: Heard | str | None
    span: str = ""
    rank: int | None = None
    score: float | None = None


def hear_hit(hit: Hit) -> Heard | str:
    """Return what is seen and heard of a hit: all of its window, and what matched in it.

    Returns:
        That, or why it cannot be read.
    """
    try:
        return hear(hit.paths, (hit.start_s, hit.end_s), hit.span if _is_part(hit) else None)
    except AudioError as error:
        return error.reason


def hit_card(rank: int, hit: Hit, sound: Heard | str | None) -> Card:
    """Return a hit as it is shown, with what is heard of it, or why that is nothing."""
    name = printable(hit.path.name) if hit.path else "(no path)"
    span = f"{clock(hit.start_s)} to {clock(hit.end_s)}"
    if _is_part(hit):
        start_s, end_s = hit.span
        span += f"; framed is the match, {clock(start_s)} to {clock(end_s)}"
    return Card(name, _facts(hit), sound, span, rank, hit.score)


def card_html(card: Card, heading: str = "h3") -> str:
    """Return a card as an item of a list with the class `sounds`.

    Args:
        card: What is shown.
        heading: The element that its name stands in.
    """
    name = escaped(card.name)
    rank = "" if card.rank is None else f'<span class="rank">{card.rank}</span>'
    score = ""
    if card.score is not None:
        score = f'<span class="score" title="score">{card.score:.3f}</span>'
    facts = [*card.facts]
    if isinstance(card.sound, Heard) and not card.sound.is_whole:
        facts.append(("played", f"its first {MOST_S:g} s"))
    return (
        f'<li class="sound">{_shown(card)}<div class="told"><{heading} class="title">{rank}'
        f'<span class="name">{name}</span>{score}</{heading}>{facts_html(facts)}</div></li>\n'
    )


def facts_html(facts: Facts) -> str:
    """Return facts as a list of terms and their values."""
    rows = (f"<dt>{escaped(what)}</dt><dd>{escaped(value)}</dd>" for what, value in facts)
    return f"<dl>{''.join(rows)}</dl>"


def escaped(text: str) -> str:
    """Return a text, which may be anything, as HTML that only shows it."""
    return html.escape(printable(text), quote=True)


def _shown(card: Card) -> str:
    if card.sound is None:
        return ""
    if isinstance(card.sound, str):
        why = escaped(card.sound)
        return f'<div class="shown"><p class="gone">its audio cannot be played: {why}</p></div>'
    picture = base64.b64encode(card.sound.picture).decode()
    sound = base64.b64encode(card.sound.sound).decode()
    what = f"{escaped(card.name)}, {escaped(card.span)}"
    played = f"{clock(card.sound.start_s)} to {clock(card.sound.end_s)}"
    return (
        f'<div class="shown"><img src="data:image/png;base64,{picture}" width="{WIDTH}" '
        f'height="{HEIGHT}" alt="Spectrogram of {what}">'
        f'<audio controls preload="none" src="data:audio/mpeg;base64,{sound}" '
        f'aria-label="{escaped(card.name)}, {played}"></audio></div>'
    )


def _is_part(hit: Hit) -> bool:
    """Whether what matched is not all of the window, as far as is told."""
    return [*map(clock, hit.span)] != [clock(hit.start_s), clock(hit.end_s)]


def _facts(hit: Hit) -> Iterator[tuple[str, str]]:
    yield "time", f"{clock(hit.start_s)} to {clock(hit.end_s)}"
    if hit.has_match:
        start_s, end_s = hit.span
        framed = ", framed and played" if _is_part(hit) else ""
        like = "" if hit.match_score is None else f"; score {hit.match_score:.3f}"
        yield "match", f"{clock(start_s)} to {clock(end_s)}{framed}{like}"
    if hit.clock:
        yield "clock", time_of_day(hit.clock)
    if hit.tags:
        yield "heard", ", ".join(f"{one.tag.name} {one.probability:.2f}" for one in hit.tags)
    parts = (("scenes", hit.scene_score), ("tags", hit.tag_score))
    if any(score is not None for _, score in parts):
        told = (f"{score:.3f} of {what}" for what, score in parts if score is not None)
        yield "score", f"{hit.score:.3f}: {', '.join(told)}"
    if hit.stands_for > 1:
        yield "stands for", f"itself and {count(hit.stands_for - 1, 'hit')} like it"
    for at, path in enumerate(hit.paths):
        yield "also at" if at else "file", shown_path(path)
    for name, value in hit.metadata.items():
        plain = plain_value(value)
        if plain is not None:
            yield name, ("true" if plain else "false") if isinstance(plain, bool) else str(plain)
