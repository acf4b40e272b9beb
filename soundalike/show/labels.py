"""Hits as labels, in the forms that editors of sound read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

from indexer.errors import QueryError
from search.asking.answers import Hit
from search.export.label_forms import Label, audacity_text, raven_text
from search.filters.tags import LEARNED_PREFIX, LEARNED_THRESHOLD
from soundalike.show.hits import address_of
from soundalike.show.words import count, time_of_day

#: How an editor wants its labels.
HitForm = Literal["audacity", "raven"]


def hits_labels(hits: Sequence[Hit], form: HitForm, *, with_clock: bool = False) -> str:
    """Return the spans of hits as labels; times are seconds in the file of each.

    - "audacity": a label track, in the order of time. A label is called by the score; where the
      hits are of several files, by that of its file as well, as a track does not know any.
    - "raven": a sound selection table, the best first, with the file of each row, and a tag that
      is heard: a learned one that was asked for, or else the most probable. What has no known path
      cannot be opened, and is left out.

    Args:
        hits: The best first.
        form: One of these.
        with_clock: Whether labels say the time of day at which each begins.

    Raises:
        QueryError: If there is no such form.
    """
    if form not in get_args(HitForm):
        raise QueryError(f"labels are {' or '.join(get_args(HitForm))}, got {form!r}")
    return (_audacity if form == "audacity" else _raven)(hits, with_clock)


def labels_lines(hits: Sequence[Hit], form: HitForm) -> list[str]:
    """Say what of some hits their labels do not say, for people."""
    if form == "raven":
        number = sum(address_of(hit) is None for hit in hits)
        told = f"{count(number, 'hit')} left out of the table: no path is known on this machine"
        return [told] if number else []
    number = _num_files(hits)
    return [
        f"a label track is of one file, and these labels are of {count(number, 'file')}, which "
        f"they name; --where \"path like '%NAME'\" asks one of them"
    ] * (number > 1)


def _audacity(hits: Sequence[Hit], with_clock: bool) -> str:
    names_files = _num_files(hits) > 1
    labels = []
    for hit in hits:
        said = [f"{hit.score:.3f}"]
        if names_files:
            said.append(hit.path.name if hit.path else "(no path)")
        if with_clock and hit.clock:
            said.append(time_of_day(hit.clock))
        labels.append(Label(*hit.span, [" ".join(said)]))
    return audacity_text(sorted(labels, key=lambda one: one[:2]))


def _raven(hits: Sequence[Hit], with_clock: bool) -> str:
    columns: dict[str, Callable[[Hit], str]] = {
        "Begin Path": lambda hit: str(address_of(hit)),
        "File Offset (s)": lambda hit: f"{hit.span[0]:.3f}",
        "Score": lambda hit: f"{hit.score:.4f}",
        "Tag": _tag,
    }
    if with_clock:
        columns["Clock"] = lambda hit: time_of_day(hit.clock)
    known = filter(address_of, hits)
    labels = [Label(*hit.span, [value(hit) for value in columns.values()]) for hit in known]
    return raven_text(labels, list(columns))


def _tag(hit: Hit) -> str:
    """Return the first tag that is heard: no learned one that was asked not to be there."""
    told = (
        one.tag.name
        for one in hit.tags
        if not one.tag.name.startswith(LEARNED_PREFIX) or one.probability >= LEARNED_THRESHOLD
    )
    return next(told, "")


def _num_files(hits: Sequence[Hit]) -> int:
    return len({hit.recording_id for hit in hits})
