"""Hits as HTML for notebooks: the cards of a report, with nothing beside the page."""

from __future__ import annotations

import time
from collections.abc import Sequence

from search.asking.answers import Hit
from soundalike.show.cards import STYLE, card_html, hear_hit, hit_card
from soundalike.show.words import count

#: Hits that are shown; each takes some 130 kB.
_MAX_SHOWN = 20
#: Files are read for so long, in seconds: a cell that only shows an answer is to be done then.
_PATIENCE_S = 10.0


def hits_html(hits: Sequence[Hit]) -> str:
    """Return hits as a list: picture, player, score, file, span and tags of each.

    A hit whose audio is not there says so in the place of both, and so do those whose turn comes
    when reading has taken 10 s.
    """
    if not hits:
        return "<p>no window matches</p>"
    end, cards = time.monotonic() + _PATIENCE_S, []
    for rank, hit in enumerate(hits[:_MAX_SHOWN], start=1):
        late = time.monotonic() >= end
        sound = f"reading takes more than {_PATIENCE_S:g} s" if late else hear_hit(hit)
        cards.append(card_html(hit_card(rank, hit, sound), "p"))
    more = len(hits) - _MAX_SHOWN
    rest = f"<p>and {count(more, 'more hit')}</p>" if more > 0 else ""
    return f'<style>{STYLE}</style><ol class="sounds">{"".join(cards)}</ol>{rest}'
