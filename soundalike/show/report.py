"""An answer as a page of its own: one file that shows and plays everything, without a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from indexer.audio.times import FileSpan
from indexer.errors import AudioError, OutputError
from indexer.paths import printable
from indexer.progress import Listen, Step, ignore
from search.asking.answers import Hit
from search.asking.asked import Asked, GivenWindow, Named
from search.asking.background import Background
from search.filters.metadata import Coverage
from search.output import is_stream, require_file, writing
from soundalike.show.answers import background_line
from soundalike.show.asked import headline, named_as, part_of, terms_lines
from soundalike.show.cards import STYLE, Card, card_html, escaped, facts_html, hear_hit, hit_card
from soundalike.show.heard import MOST_S, Heard, hear
from soundalike.show.steps import coverage_lines
from soundalike.show.words import clock, count, shown_path, time_of_day

#: What the page may do: show and play what is in it, and nothing else.
_POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
#: Colours on light ground, and on dark: all text reaches 4.5 : 1.
_STYLE = f"""
:root{{color-scheme:light dark;--ground:#f4f5f3;--card:#fff;--text:#1a211f;--quiet:#5a645f;
--line:#dcdfda;--edge:#868e86}}
@media (prefers-color-scheme:dark){{:root{{--ground:#111514;--card:#191e1d;--text:#e6ebe8;
--quiet:#9faba6;--line:#2e3634;--edge:#7c8783}}}}
*{{box-sizing:border-box}}
body{{margin:0;padding:24px clamp(12px,3vw,40px) 48px;background:var(--ground);color:var(--text);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","Liberation Sans",sans-serif;
-webkit-text-size-adjust:100%}}
header,main{{max-width:1080px;margin:0 auto}}
h1{{margin:0;font-size:1.6em;line-height:1.25;overflow-wrap:anywhere}}
h2{{margin:0 0 10px;font-size:1.15em}}
header p{{margin:4px 0 0}}
section{{margin:20px 0 0;padding:18px 20px 6px;background:var(--card);border:1px solid var(--line);
border-radius:12px}}
section p{{margin:0 0 10px;overflow-wrap:anywhere}}
h2+.sounds>.sound:first-child{{border-top:0;padding-top:4px}}
.quiet{{color:var(--quiet)}}
.terms dl{{display:grid;grid-template-columns:fit-content(34%) minmax(0,1fr);
gap:2px 14px;margin:0 0 12px}}
.terms dt{{color:var(--quiet)}}
.terms dd{{margin:0;overflow-wrap:anywhere;white-space:pre-wrap}}
{STYLE}
@media (max-width:480px){{section{{padding:14px 14px 4px}}}}
@media print{{body{{padding:0;background:#fff}}section{{border:0;padding:0}}
:root{{--ground:#fff;--card:#fff;--text:#000;--quiet:#444;--line:#bbb;--edge:#888}}}}
"""


class Contents(NamedTuple):
    """What a report tells.

    Attributes:
        hits: The best first.
        asked: What was asked; None if nobody knows.
        background: How windows drawn at random score; None if nothing tells that.
        said: What is told beside the hits, in sentences.
    """

    hits: Sequence[Hit]
    asked: Asked | None
    background: Background | None
    said: Sequence[str]


class Reported(NamedTuple):
    """A report that was written.

    Attributes:
        path: Where.
        size_bytes: How large it is.
        failures: For each sound that could not be read, and is told of without it, a line that says
            why.
    """

    path: Path
    size_bytes: int
    failures: list[str]


def require_page(path: Path, *, force: bool = False) -> None:
    """Make sure that a page can be written, as `require_file`, and that a browser opens it.

    Raises:
        OutputError: As `require_file`; or if its name ends in neither .html nor .htm.
    """
    require_file(path, ".html", force=force)
    if path.suffix.lower() not in (".html", ".htm") and not is_stream(path):
        raise OutputError(f"{path} is no name of a page: a browser opens what ends in .html")


def write_report(
    path: Path, contents: Contents, *, force: bool = False, listen: Listen = ignore
) -> Reported:
    """Write a page with what asked and each hit: a picture, a player, and what is known of it.

    It needs nothing beside itself, and no script runs in it. What is heard is MP3 of 120 kB at
    most, of which only the first minute is played; 20 hits take less than 5 MB. Hits are read and
    written one by one, so that memory does not depend on how many they are.

    Args:
        path: Where to, .html.
        contents: What it tells.
        force: Whether a file that is there is replaced.
        listen: Hears how many hits are written.

    Raises:
        OutputError: If the file is there already, its name says that it is something else, or it
            cannot be written.
    """
    require_page(path, force=force)
    size_bytes = 0
    failures: list[str] = []
    with writing(path, force=force) as file:
        for piece in _page(contents, failures, listen):
            size_bytes += file.write(piece.encode())
    return Reported(path, size_bytes, failures)


def lines_beside(
    num_left_out: int, num_silent: int, num_new_parts: int, coverage: Coverage | None
) -> Iterator[str]:
    """Say what is no hit, and what a question could not take into account.

    Args:
        num_left_out: Windows that are what asked, or overlap it.
        num_silent: Windows in which nothing is heard.
        num_new_parts: Parts of the stores that their indexes do not hold yet.
        coverage: How the metadata and the stores fit together; None without metadata.
    """
    for number, what in (
        (num_left_out, "left out: part of what asked, or overlapping it"),
        (num_silent, "left out: silent"),
    ):
        if number:
            yield f"{count(number, 'window')} {what}"
    if num_new_parts:
        yield f"not in the index yet: {count(num_new_parts, 'part')}"
    if coverage:
        yield from (f"{coverage.path}: {line}" for line in coverage_lines(coverage))


def _page(contents: Contents, failures: list[str], listen: Listen) -> Iterator[str]:
    title = escaped(headline(contents.asked, len(contents.hits)))
    now = time_of_day(datetime.now().astimezone())
    yield (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style></head>\n<body>\n"
        f'<header><h1>{title}</h1><p class="quiet">Made by soundalike, {now}</p></header>\n<main>\n'
    )
    yield from _question(contents, failures)
    yield '<section aria-labelledby="hits"><h2 id="hits">Hits</h2>\n'
    yield '<ol class="sounds">\n' if contents.hits else "<p>no window matches</p>\n"
    for rank, hit in enumerate(contents.hits, start=1):
        listen(Step("writing the report", rank - 1, len(contents.hits), "hit"))
        card = hit_card(rank, hit, hear_hit(hit))
        _note(card, hit.paths, failures)
        yield card_html(card)
    listen(Step("writing the report", len(contents.hits), len(contents.hits), "hit"))
    yield f"{'</ol>' if contents.hits else ''}</section>\n</main></body></html>\n"


def _question(contents: Contents, failures: list[str]) -> Iterator[str]:
    asked = contents.asked
    yield '<section class="terms" aria-labelledby="asked"><h2 id="asked">What was asked</h2>\n'
    if asked:
        yield from _given(asked.like, failures)
        if asked.unlike:
            yield "<h2>What hits are not to be like</h2>\n"
            yield from _given(asked.unlike, failures)
        yield f"{facts_html(terms_lines(asked.terms))}\n"
    if contents.background:
        yield f"<p>{escaped(background_line(contents.background))}</p>\n"
    yield from (f'<p class="quiet">{escaped(one)}</p>\n' for one in contents.said)
    yield "</section>\n"


def _given(several: Sequence[Named], failures: list[str]) -> Iterator[str]:
    if several:
        yield '<ul class="sounds">\n'
        for named in several:
            card = _card(named)
            paths = named.paths if isinstance(named, GivenWindow) else ()
            _note(card, [named.file] if isinstance(named, FileSpan) else paths, failures)
            yield card_html(card)
        yield "</ul>\n"


def _card(named: Named) -> Card:
    """Return what asks as it is shown; of what is longer than a minute, the first is heard."""
    name = named_as(named)
    if isinstance(named, FileSpan):
        length_s = named.duration_s
        end_s = named.start_s + (2 * MOST_S if length_s is None else length_s)
        facts = [("asked", part_of(named)), ("file", shown_path(named.file))]
        sound = _hear([named.file], (named.start_s, end_s))
        return Card(name, facts, sound, part_of(named))
    if isinstance(named, GivenWindow):
        span = f"{clock(named.start_s)} to {clock(named.end_s)}"
        facts = [("asked", span), ("window", str(named.window_id))]
        facts += [("file", shown_path(path)) for path in named.paths]
        return Card(name, facts, _hear(named.paths, (named.start_s, named.end_s)), span)
    return Card(name, [("asked", "in words" if isinstance(named, str) else "as numbers")], None)


def _hear(paths: Sequence[Path], span: tuple[float, float]) -> Heard | str:
    try:
        return hear(paths, span)
    except AudioError as error:
        return error.reason


def _note(card: Card, paths: Sequence[Path], failures: list[str]) -> None:
    if isinstance(card.sound, str):
        where = str(paths[0]) if paths else "a recording without a path"
        failures.append(printable(f"{where}: {card.sound}"))
