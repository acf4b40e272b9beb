"""Labels that people bring: a table, a label track of Audacity's, or those of another store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import NamedTuple, cast

import numpy as np

from indexer.arrays import Integers
from indexer.errors import QueryError, SoundalikeError
from indexer.library.names import ByName
from indexer.library.tables import find_column, read_content, read_header, read_rows, reading_table
from indexer.store.reader import Store
from indexer.windows import SAMPLE_RATE_HZ
from search.filters.tags import LEARNED_PREFIX
from search.generation.segments import Generation
from search.learned.labels import Label, Says, Via, parse_lines

#: Columns of a table, the first that is there counts.
_COLUMNS = {
    "window": ("window_id",),
    "path": ("path", "filename", "file", "fname"),
    "start": ("start_s", "start", "begin time (s)"),
    "end": ("end_s", "end", "end time (s)"),
    "says": ("says", "label"),
    "tag": ("tag", "name"),
    **{name: (name,) for name in ("by", "via", "at")},
}
#: What says yes, no and unsure in a table.
_WORDS: dict[str, Says] = {
    **dict.fromkeys(("yes", "y", "1", "true", "x"), "yes"),
    **dict.fromkeys(("no", "n", "0", "false"), "no"),
    **dict.fromkeys(("unsure", "?", "maybe"), "unsure"),
}
#: What is said of parts of a window, from that which counts least.
_STRENGTH = ("no", "unsure", "yes")


class _Said(NamedTuple):
    """A line: a word on a window, or on a file by its name, with a span of it or without.

    Attributes:
        label: The word; of a file, that on each of its windows.
        path: The name of the file; None for the window alone that the label is of.
    """

    label: Label
    path: str | None


@dataclass(frozen=True, slots=True)
class Imported:
    """Labels as they were brought.

    Attributes:
        labels: One of each window: of the store, or of ids that were named.
        missing: What was named and the store does not have, in order: files, or spans of files.
        num_elsewhere: Labels of windows that the store does not have.
        num_not_drawn: Labels of windows that were drawn at random elsewhere, and count as found.
    """

    labels: list[Label]
    missing: list[str]
    num_elsewhere: int
    num_not_drawn: int


def read_labels(file: Path, name: str, store: Store, generation: Generation) -> Imported:
    """Read labels for a tag of one's own.

    - A table (.csv, .tsv) has a column `window_id`, or `path` with or without `start` and `end` in
      seconds; `says` is yes, no or unsure, and yes where there is no such column. With a column
      `tag`, only lines of this tag count. `by`, `via` and `at`, a time in ISO 8601, may be there.
    - A label track of Audacity's (.txt) is called like the sound that it is of, and its labels
      whose text is the tag's name say yes.
    - Labels of another store (.jsonl, from its `own/labels`) are of windows by their ids, which are
      the same wherever the same file is cut in the same way.

    A span says something of each window that it overlaps by half of the shorter of the two; a point
    of those that it lies in; a file without a span, of all of its windows. Of what a table or a
    track says of one window a yes counts more than an unsure, and that more than a no, whatever
    their order: a window has the sound if a part of it has.

    Ids of windows that the store does not have tell that the labels are another store's. What was
    drawn at random there was not drawn here, and does not tell how often a tag is right: then all
    of it counts as found.

    Args:
        file: What is read.
        name: Of the tag, without the prefix.
        store: Whose files are meant.
        generation: What queries see of it.

    Raises:
        SoundalikeError: If it cannot be read, or names nothing that the store has.
    """
    with reading_table(file):
        content = read_content(file)
        said = list(_read(content, file, name))
    if not said:
        raise SoundalikeError(f"{file} says nothing of {LEARNED_PREFIX}{name}")
    labels, missing = _on_windows(said, store, generation)
    if not labels:
        raise SoundalikeError(
            f"{store.path} has nothing of what {file} names: {missing[0]} for one"
        )
    elsewhere = len(labels) - len([*generation.find_all(one.window_id for one in labels)])
    drawn = [one for one in labels if one.via == "random"] if elsewhere else []
    if drawn:
        labels = [replace(one, via="found") if one.via == "random" else one for one in labels]
    return Imported(labels, missing, elsewhere, len(drawn))


def _read(content: bytes, file: Path, name: str) -> Iterator[_Said]:
    """Yield what a file says, by its ending."""
    if file.suffix == ".jsonl":  # a book: of each window its last word
        return (_Said(one, None) for one in parse_lines(content))
    return _track(content, file, name) if file.suffix == ".txt" else _table(content, name)


def _table(content: bytes, name: str) -> Iterator[_Said]:
    names = read_header(content).names
    found = {one: find_column(names, some) for one, some in _COLUMNS.items()}
    if not found["window"] and not found["path"]:
        raise ValueError("it has neither a column window_id nor a column path")
    for number, row in read_rows(content):
        cells = {one: row[column].strip() if column else "" for one, column in found.items()}
        if found["tag"] and cells["tag"].removeprefix(LEARNED_PREFIX) != name:
            continue
        word = cells["says"].casefold() if found["says"] else "yes"
        if word not in _WORDS:
            raise ValueError(f"line {number} says {word!r:.40}, not yes, no or unsure")
        try:
            label = Label(
                int(cells["window"] or 0),
                _WORDS[word],
                _seconds(cells["start"]),
                _seconds(cells["end"]),
                cells["by"] or None,
                cast(Via, cells["via"] or "found"),
                _time(cells["at"]),
            )
        except (ValueError, QueryError) as error:
            raise ValueError(f"line {number}: {error}") from error
        yield _Said(label, None if cells["window"] else cells["path"])


def _track(content: bytes, file: Path, name: str) -> Iterator[_Said]:
    for number, line in enumerate(content.decode().splitlines(), start=1):
        cells = line.split("\t")
        if cells[0] == "\\":  # the frequencies of the label before
            continue
        try:
            start_s, end_s = _finite(cells[0]), _finite(cells[1])
            text = "\t".join(cells[2:]).strip()
        except (ValueError, IndexError) as error:
            raise ValueError(f"line {number} is none of a label track: start, end, text") from error
        if text.removeprefix(LEARNED_PREFIX).casefold() == name:
            yield _Said(Label(0, "yes", start_s, end_s), file.stem)


def _seconds(cell: str) -> float | None:
    """Return a number of seconds, or None where nothing is written."""
    return _finite(cell) if cell else None


def _finite(cell: str) -> float:
    """Return a number of seconds.

    Raises:
        ValueError: If it is none.
    """
    number = float(cell)
    if not isfinite(number):
        raise ValueError(f"{cell.strip()!r:.40} is no number of seconds")
    return number


def _time(cell: str) -> str:
    """Return a time as it is written, or nothing where nothing is.

    Raises:
        ValueError: If it is none.
    """
    if cell:
        datetime.fromisoformat(cell)
    return cell


def _on_windows(
    said: Sequence[_Said], store: Store, generation: Generation
) -> tuple[list[Label], list[str]]:
    """Return a label for each window that lines say something of, and what is not there."""
    live = store.live_files() if any(one.path is not None for one in said) else []
    by_path = ByName(live)
    by_name = ByName((PurePosixPath(path).name, recording) for path, recording in live)
    by_stem = ByName((PurePosixPath(path).stem, recording) for path, recording in live)
    labels, missing = list[Label](), dict[str, None]()
    for label, path in said:
        if path is None:
            labels.append(label)
            continue
        asked = path.removeprefix("./")
        recordings = set(by_path[asked] or by_name[asked] or by_stem[asked])
        if len(recordings) > 1:
            raise SoundalikeError(f"{path} may be several files; give the path in the library")
        rows = [generation.rows_of_recording(recording) for recording in recordings]
        ids = [window_id for some in rows for window_id in _overlapped(generation, some, label)]
        labels += [replace(label, window_id=one) for one in ids]
        if not ids:
            missing[path + (_span(label) if recordings else "")] = None
    return _strongest(labels), list(missing)


def _strongest(labels: Sequence[Label]) -> list[Label]:
    """Return of each window the word that counts most; of several such, the last."""
    found: dict[int, Label] = {}
    for label in labels:
        before = found.get(label.window_id)
        if not before or _STRENGTH.index(label.says) >= _STRENGTH.index(before.says):
            found[label.window_id] = label
    return list(found.values())


def _span(label: Label) -> str:
    """Return in words which span of a file is meant; nothing for all of it."""
    begins = "" if label.start_s is None else f" from {label.start_s:g} s"
    return begins + ("" if label.end_s is None else f" to {label.end_s:g} s")


def _overlapped(generation: Generation, rows: Integers, one: Label) -> list[int]:
    """Return the ids of those windows of a recording that a line is about."""
    windows = generation.windows(rows)
    start = windows.start_sample / SAMPLE_RATE_HZ
    end = start + windows.num_samples / SAMPLE_RATE_HZ
    begin_s = 0.0 if one.start_s is None else one.start_s
    end_s = np.inf if one.end_s is None else one.end_s
    shared = np.minimum(end, end_s) - np.maximum(start, begin_s)
    if begin_s == end_s:  # a point, as Audacity has them
        is_about = (start <= begin_s) & (begin_s < end)
    else:
        is_about = (2 * shared >= np.minimum(end - start, end_s - begin_s)) & (shared > 0)
    order = np.argsort(start[is_about])
    return cast(list[int], windows.window_id[is_about][order].tolist())
