"""A question in words: what asked, and the terms that are not as usual."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from indexer.audio.times import FileSpan
from indexer.paths import printable
from search.asking.asked import Asked, GivenVectors, GivenWindow, Named
from search.asking.terms import DEFAULT_UNIQUE_AT, Terms
from search.nearest.limits import DEFAULT_TAG_WEIGHT
from soundalike.show.words import clock, count


def named_as(named: Named) -> str:
    """Return what something that asks is called."""
    match named:
        case FileSpan():
            return printable(named.file.name)
        case GivenWindow():
            return printable(named.paths[0].name) if named.paths else f"window {named.window_id}"
        case GivenVectors():
            return count(named.number, "vector")
        case _:
            return f"“{printable(named)}”"


def part_of(named: FileSpan) -> str:
    """Say which part of a file asks."""
    if named.is_whole:
        return "all of it"
    if named.duration_s is None:
        return f"{clock(named.start_s)} to its end"
    return f"{clock(named.start_s)} to {clock(named.start_s + named.duration_s)}"


def headline(asked: Asked | None, num_hits: int) -> str:
    """Return what an answer is called: how many hits, and of what."""
    hits = count(num_hits, "hit") if num_hits else "No hits"
    if asked is None:
        return hits
    if not asked.like:
        tags = [*_several(asked.terms.tags), *_several(asked.terms.any_tags)]
        return f"{hits} for {printable(', '.join(tags))}" if tags else hits
    more = f" and {count(len(asked.like) - 1, 'other')}" if len(asked.like) > 1 else ""
    return f"{hits} for {named_as(asked.like[0])}{more}"


def terms_lines(terms: Terms) -> Iterator[tuple[str, str]]:
    """Yield what of terms is not as usual, and how many hits are wanted: what it is, and its value.

    The values are as they were given: whoever shows them makes them printable.
    """
    yield "hits", f"{terms.k:,} at most"
    yield from _tags(terms)
    if terms.where is not None:
        yield "must hold", terms.where
    if terms.metadata is not None:
        yield "columns of", str(terms.metadata)
    if terms.min_score is not None:
        yield "least cosine", f"{terms.min_score:g}, of scenes"
    yield from _chosen(terms)
    yield from _scored(terms)


def _tags(terms: Terms) -> Iterator[tuple[str, str]]:
    """Say which tags are to be heard, and what that means, which matters to a filter as well."""
    for what, tags, joint in (
        ("heard", terms.tags, " and "),
        ("heard, one of", terms.any_tags, ", "),
        ("not heard", terms.not_tags, ", "),
    ):
        if tags:
            yield what, joint.join(_several(tags))
    usual = Terms()
    if terms.tags or terms.any_tags or terms.not_tags or terms.threshold != usual.threshold:
        is_number = not isinstance(terms.threshold, str)
        measured = "the probability that was measured for each tag"
        yield "heard means", f"from {terms.threshold if is_number else measured} on"
    if not terms.descendants:
        yield "a tag means", "itself, and none of those below it"


def _chosen(terms: Terms) -> Iterator[tuple[str, str]]:
    """Say which of the windows that fit are hits."""
    if terms.group_by:
        yield "one hit for", f"each {terms.group_by}"
    if terms.include_self:
        yield "what asks", "may be a hit"
    if terms.all_windows:
        yield "windows that overlap", "may all be hits"
    if terms.unique:
        yield "near-copies", f"shown once, from a cosine of {terms.unique_at:g} on"
    elif terms.unique_at != DEFAULT_UNIQUE_AT:
        yield "near-copies", f"from a cosine of {terms.unique_at:g} on, and all shown"
    if terms.diversity:
        yield "diversity", f"{terms.diversity:g}: hits like those before them are put back"


def _scored(terms: Terms) -> Iterator[tuple[str, str]]:
    """Say how hits are ranked and looked into."""
    if terms.by == "place":
        yield "ranked by", "the place in each window that is most like what asks"
    if terms.tag_weight != DEFAULT_TAG_WEIGHT:
        yield "share of tags", f"{terms.tag_weight:g} of a score"
    if not terms.level:
        yield "a quiet clip", "asks as it is, and no louder"
    if terms.locate is False:
        yield "place in hits", "not looked for"
    if terms.exact:
        yield "exact", "nothing is overlooked"


def _several(tags: Sequence[str]) -> list[str]:
    return [tags] if isinstance(tags, str) else list(tags)
