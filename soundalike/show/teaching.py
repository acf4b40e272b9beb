"""Labels, and what was learned from them, as text for people and as plain data for programs."""

from __future__ import annotations

import csv
import io
import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexer.paths import printable, text_from_bytes
from search.asking.answers import Hit
from search.export.cells import FORMULA, path_cell
from search.filters.tags import LEARNED_PREFIX
from search.learned.labels import Label, Says, said_counts
from soundalike.show.hits import hit_data
from soundalike.show.words import count, shown_path, some_of

if TYPE_CHECKING:  # to import scikit-learn takes a second
    from search.learned.importing import Imported
    from search.learned.lesson import Estimate, Lesson
    from search.learned.taught import Taught

_COLUMNS = ("window_id", "path", "start_s", "end_s", "says", "by", "via", "at")


def counted(labels: Sequence[Label]) -> str:
    """Return "5 yes, 15 no and 1 unsure"."""
    return _counts_in_words(said_counts(labels))


def _counts_in_words(counts: Mapping[Says, int]) -> str:
    return f"{counts['yes']:,} yes, {counts['no']:,} no and {counts['unsure']:,} unsure"


def taught_line(one: Taught) -> str:
    """Say of a name what its labels say, and whether it was learned."""
    said = printable(one.trouble) if one.trouble else _counts_in_words(one.counts)
    return f"{LEARNED_PREFIX}{one.name}: {said}{'; learned' if one.is_learned else ''}"


def taught_data(one: Taught) -> dict[str, Any]:
    """Return the same as plain data."""
    return {"tag": f"{LEARNED_PREFIX}{one.name}", **asdict(one)}


def imported_lines(file: Path, found: Imported) -> Iterator[str]:
    """Say what was read of a file of labels, and what of it is not in the store."""
    yield f"read from {printable(str(file))}: {counted(found.labels)}"
    if found.missing:
        yield f"not in this store: {printable(some_of(found.missing, 5))}"
    if found.num_elsewhere:
        yield (
            f"{found.num_elsewhere:,} of these are of windows that are not in this store: "
            f"another store's, or of files that are gone"
        )
    if found.num_not_drawn:
        yield f"{found.num_not_drawn:,} were drawn at random elsewhere, and count as found"


def undone_line(taken: Sequence[Label]) -> str:
    """Say what was taken back: a word, or all that was imported as one."""
    if not taken:
        return "nothing was said"
    if len(taken) == 1:
        return f"taken back: {taken[0].says} of {taken[0].window_id}"
    return f"taken back, all of one import: {counted(taken)}"


def labels_lines(name: str, labels: Sequence[Label], hits: Mapping[int, Hit]) -> Iterator[str]:
    """Say what is said of which windows, the last first.

    Args:
        name: Of the tag.
        labels: The last word on each window.
        hits: What is known of those that the store has, by their ids.
    """
    yield f"{LEARNED_PREFIX}{name}: {counted(labels)}"
    for label in reversed(labels):
        hit = hits.get(label.window_id)
        path = _place(hit) if hit else "(not in this store)"
        when = f"  {hit.start_s:.1f} to {hit.end_s:.1f} s" if hit else ""
        by = f"  {printable(label.by)}" if label.by else ""
        yield f"  {label.says:6}  {label.window_id:>19}  {path}{when}{by}"


def labels_data(name: str, labels: Sequence[Label], hits: Mapping[int, Hit]) -> dict[str, Any]:
    """Return the same as plain data."""
    rows = []
    for label in labels:
        hit = hits.get(label.window_id)
        rows.append({**asdict(label), "path": str(hit.path) if hit else None})
    return {"name": name, "labels": rows}


def labels_csv(labels: Sequence[Label], hits: Mapping[int, Hit]) -> str:
    """Return labels as a table that `import_labels` reads again."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)  # with a lone \n at the end of lines, \r in a name is not quoted
    writer.writerow(_COLUMNS)
    for label in labels:
        hit = hits.get(label.window_id)
        start_s = label.start_s if label.start_s is not None or not hit else hit.start_s
        end_s = label.end_s if label.end_s is not None or not hit else hit.end_s
        by = label.by or ""
        by = f" {by}" if by.startswith(FORMULA) else by  # no formula; what reads it strips it
        path = path_cell(text_from_bytes(os.fsencode(hit.path))) if hit and hit.path else ""
        writer.writerow(
            (label.window_id, path, start_s, end_s, label.says, by, label.via, label.at)
        )
    return buffer.getvalue()


def lesson_lines(store: Path, lesson: Lesson) -> Iterator[str]:
    """Say in a few lines what was learned, and how far it can be trusted."""
    tag, counts, estimate = lesson.tag, lesson.counts, lesson.estimate
    name, shown = f"{LEARNED_PREFIX}{tag.name}", shlex.quote(printable(str(store)))
    said = ", ".join(f"{counts[one]:,} {one}" for one in ("yes", "no", "unsure") if one in counts)
    yield f"{name}: learned from {said}, by {tag.line.method}"
    if lesson.num_elsewhere:
        yield f"{count(lesson.num_elsewhere, 'label')} of windows that the store does not have"
    if not math.isnan(lesson.average_precision):
        yield f"average precision of labels of recordings held back: {lesson.average_precision:.2f}"
    yield f"{count(estimate.num_windows, 'window')} have it; {_trust(estimate)}"
    yield f"then: soundalike search {shown} --tag {name}, soundalike review {shown} {tag.name}"


def lesson_data(lesson: Lesson) -> dict[str, Any]:
    """Return the same as plain data."""
    precision = lesson.average_precision
    return {
        "name": lesson.tag.name,
        "tag": f"{LEARNED_PREFIX}{lesson.tag.name}",
        "counts": dict(lesson.counts),
        "num_elsewhere": lesson.num_elsewhere,
        "average_precision": None if math.isnan(precision) else precision,
        "method": lesson.tag.line.method,
        "estimate": estimate_data(lesson.estimate),
    }


def estimate_data(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as plain data."""
    return {**estimate._asdict(), "precision": estimate.precision}


def estimate_lines(estimates: Sequence[Estimate]) -> Iterator[str]:
    """Return a table: how many windows have a tag from a probability on, how many rightly."""
    yield "at least  windows  right (95 %)"
    for one in estimates:
        share = "unknown"
        if one.num_judged:
            share = f"{one.num_right} of {one.num_judged}, {one.low:.2f} to {one.high:.2f}"
        yield f"{one.threshold:8.2f}  {one.num_windows:7,}  {share}"


def _trust(estimate: Estimate) -> str:
    if estimate.num_drawn and not estimate.num_judged:
        drawn, these = f"{estimate.num_drawn:,} drawn at random", f"{estimate.num_windows:,}"
        return f"none of the {drawn} is among these {these}"
    if not estimate.num_judged:
        return "how many rightly, labels of windows that 'review' draws at random would tell"
    return (
        f"{estimate.num_right} of {estimate.num_judged} drawn at random rightly "
        f"({estimate.low:.0%} to {estimate.high:.0%})"
    )


def review_data(name: str, by: str, hits: Sequence[Hit]) -> dict[str, Any]:
    """Return windows to label next as plain data; a score that is not known is null."""
    rows = [hit_data(rank, hit) for rank, hit in enumerate(hits, start=1)]
    for row in rows:
        row["score"] = None if math.isnan(row["score"]) else row["score"]
    return {"name": name, "by": by, "windows": rows}


def review_lines(store: Path, name: str, by: str, hits: Sequence[Hit]) -> Iterator[str]:
    """Say which windows to label next: id, how probable, file and time; and with which command."""
    for hit in hits:
        score = "     " if math.isnan(hit.score) else f"{hit.score:.3f}"
        when = f"{hit.start_s:.1f} to {hit.end_s:.1f} s"
        yield f"{hit.window_id:>19}  {score}  {_place(hit)}  {when}"
    if hits:
        told = shlex.join(["soundalike", "label", str(store), name, "--via", by, "--yes"])
        ids = ",".join(str(hit.window_id) for hit in hits)
        yield f"then, with those that do not have it behind --no: {printable(told)} {ids}"


def _place(hit: Hit) -> str:
    return shown_path(hit.path) if hit.path else "(no path)"
