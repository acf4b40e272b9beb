"""Labels: what people say of windows, kept as they say it, word after word.

    samples.soundalike/own/labels/NAME.jsonl

A line for each word: yes, no or unsure of one window, or that an earlier word is taken back. Lines
are only added, each with its own digest, and on disk before it counts as said. What a process that
died left of a line is no word, and goes with the next.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from indexer.errors import NotAsWrittenError, QueryError, StoreError
from indexer.store.disk import (
    LOCK_SUFFIX,
    open_own,
    require_own_folder,
    sync_folder,
    writing,
)
from indexer.store.lock import locked
from indexer.store.own import Own
from indexer.store.part import reading

LABELS_FOLDER = "labels"
_SUFFIX = ".jsonl"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_REMEDY = "bring it back from a copy, or remove the line: all others count"
#: Digits of a line's own digest.
_DIGITS = 16
#: Longest line and longest name of whoever labels, in bytes.
_MOST_LINE_BYTES, _MOST_BY_BYTES = 4096, 256
#: Lines of one file, at most: nobody labels so many.
_MOST_BYTES = 1 << 30
#: Stands in ids of words that were said as one, before their number.
_PART = "-"

Says = Literal["yes", "no", "unsure"]
#: In which order windows are proposed to be labelled, see `search.learned.review`.
By = Literal["top", "margin", "random", "diverse"]
#: How a window came to be labelled: found by the user, or proposed.
Via = Literal["found"] | By


@dataclass(frozen=True, slots=True)
class Label:
    """A word on one window.

    Attributes:
        window_id: Of the window.
        says: Whether the sound is there.
        start_s: Where the part of its file begins that was meant, in seconds; None for the whole
            window.
        end_s: Where that ends.
        by: Who says so, if that was told.
        via: How the window was found; what was drawn at random tells how often a tag is right.
        at: When, UTC, ISO 8601.
        id: Of this word, drawn at random.
    """

    window_id: int
    says: Says
    start_s: float | None = None
    end_s: float | None = None
    by: str | None = None
    via: Via = "found"
    at: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        is_id = isinstance(self.window_id, int) and not isinstance(self.window_id, bool)
        if not is_id or not 0 <= self.window_id < 1 << 63:
            raise QueryError(f"a window has an id from 0 to 2^63 - 1, got {self.window_id!r:.80}")
        for at_s in (self.start_s, self.end_s):
            if at_s is not None and not (isinstance(at_s, (int, float)) and isfinite(at_s)):
                raise QueryError(f"a part begins and ends at some second, got {at_s!r:.80}")
        if not isinstance(self.at, str) or not isinstance(self.id, str):
            raise QueryError("when a label was said, and its id, are text")
        if self.says not in get_args(Says):
            raise QueryError(f"a label says yes, no or unsure, got {self.says!r}")
        if self.via not in ("found", *get_args(By)):
            raise QueryError(
                f"a window is found, or proposed by {', '.join(get_args(By))}, got {self.via!r}"
            )
        if self.by is not None and len(self.by.encode("utf-8", "replace")) > _MOST_BY_BYTES:
            raise QueryError(f"who labels has a name of at most {_MOST_BY_BYTES} bytes")


class _Word(NamedTuple):
    """A line: a label, or the id of one that is taken back."""

    label: Label | None
    undoes: str


def require_name(name: str) -> str:
    """Return the name of a tag of one's own, if it is one.

    Raises:
        QueryError: If it is none.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise QueryError(
            f"a tag of your own is called by a small letter, and then small letters, digits and _, "
            f"64 at most; got {name!r:.80}"
        )
    return name


def said_counts(labels: Iterable[Label]) -> dict[Says, int]:
    """Return how many labels say yes, no and unsure."""
    counts = Counter(label.says for label in labels)
    return {says: counts[says] for says in get_args(Says)}


def names(own: Own) -> list[str]:
    """Return the names that have labels, sorted.

    Raises:
        StoreError: If the folder cannot be listed, or is a link.
    """
    folder = own.folder / LABELS_FOLDER
    with reading(folder, _REMEDY):
        require_own_folder(own.folder)
        require_own_folder(folder)
        files = list(folder.iterdir()) if folder.exists() else []
    return sorted(one.stem for one in files if one.suffix == _SUFFIX and _NAME.fullmatch(one.stem))


class LabelBook:
    """The labels of one name; several processes and threads may add to them at the same time."""

    def __init__(self, own: Own, name: str) -> None:
        """Open the labels of a name; there may be none yet.

        Raises:
            QueryError: If that is no name.
        """
        self.name, self._own = require_name(name), own
        self.path = own.folder / LABELS_FOLDER / f"{name}{_SUFFIX}"

    def add(self, labels: Sequence[Label], *, as_one: bool = False) -> list[Label]:
        """Say something of some windows; when this returns, it is on the disk.

        Args:
            labels: What is said.
            as_one: Whether it is taken back together, too: their ids begin alike then.

        Returns:
            The same labels, with when they were said and their ids.

        Raises:
            DamagedStoreError: If what was said before cannot be read: nothing is added to it.
            StoreError: If it cannot be written.
        """
        at, together = datetime.now(UTC).isoformat(timespec="milliseconds"), uuid.uuid4().hex
        ids = [f"{together}{_PART}{n}" if as_one else uuid.uuid4().hex for n in range(len(labels))]
        said = [
            Label(**{**asdict(one), "at": one.at or at, "id": word})
            for one, word in zip(labels, ids, strict=True)
        ]
        lines = [_line(asdict(one)) for one in said]
        with writing(self.path), self._sole():
            self.history()
            self._write(lines)
        return said

    def undo(self, word: str | None = None) -> list[Label]:
        """Take the last word back that counts, with all that were said as one with it.

        Args:
            word: Id of the one that is meant, where others add to the book as well; it alone is
                taken back.

        Returns:
            What was taken back, the last first; nothing if there is none.

        Raises:
            StoreError: If it cannot be read or written.
        """
        with self._sole():
            said = self.history()[::-1]
            if word is None:
                taken = [one for one in said if _is_one(one, said[0])]
            else:
                taken = [one for one in said if one.id == word]
            if taken:
                self._write([_line({"undoes": one.id}) for one in taken])
        return taken

    def history(self) -> list[Label]:
        """Return all words that were not taken back, the oldest first.

        Raises:
            DamagedStoreError: If a line is not what was written.
        """
        with reading(self.path, _REMEDY):
            require_own_folder(self._own.folder)
            require_own_folder(self.path.parent)
            try:
                with open_own(self.path) as file:
                    return _parse_all(file.read(_MOST_BYTES))
            except FileNotFoundError:
                return []

    def current(self) -> dict[int, Label]:
        """Return window id → the last word on it, in the order of these.

        Raises:
            DamagedStoreError: If a line is not what was written.
        """
        return _last_words(self.history())

    def _sole(self) -> Any:
        with writing(self.path):
            require_own_folder(self._own.folder)
            require_own_folder(self.path.parent)
            self.path.parent.mkdir(parents=True, exist_ok=True)
        return locked(self.path.with_name(f".{self.path.name}{LOCK_SUFFIX}"))

    def _write(self, lines: Sequence[bytes]) -> None:
        """Add lines behind the last whole one, with one call; whoever calls holds the lock."""
        is_new = not self.path.exists()
        flags = os.O_RDWR | os.O_CREAT
        with writing(self.path), reading(self.path, _REMEDY), open_own(self.path, flags) as file:
            end = _end_of_last_line(file)
            file.seek(end)
            rest = file.read(_MOST_LINE_BYTES)
            if _is_word(rest):
                end, lines = end + len(rest), [b"\n", *lines]
            file.truncate(end)
            file.seek(end)
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self.path.parent)


def problems(own: Own) -> Iterator[tuple[Path, StoreError]]:
    """Yield each file of labels that is not as it was written, and why."""
    try:
        there = names(own)
    except StoreError as error:
        if not own.folder.is_symlink():  # `Own.problems` says so
            yield own.folder / LABELS_FOLDER, error
        return
    for name in there:
        book = LabelBook(own, name)
        try:
            book.history()
        except StoreError as error:
            yield book.path, error


def parse_lines(content: bytes) -> list[Label]:
    """Return the labels of a file of labels, the last word on each window.

    Raises:
        ValueError: If a line is not what was written; names it.
    """
    return list(_last_words(_parse_all(content)).values())


def _parse_all(content: bytes) -> list[Label]:
    """Return all words that were not taken back."""
    whole, _, rest = content.rpartition(b"\n")
    lines = whole.splitlines() + ([rest] if _is_word(rest) else [])  # else it was never said
    words = [_read(line, number) for number, line in enumerate(lines, start=1)]
    undone = {word.undoes for word in words}
    return [word.label for word in words if word.label and word.label.id not in undone]


def _last_words(labels: Sequence[Label]) -> dict[int, Label]:
    """Return window id → the last word on it, in the order of these."""
    found: dict[int, Label] = {}
    for label in labels:
        found.pop(label.window_id, None)
        found[label.window_id] = label
    return found


def _is_one(label: Label, last: Label) -> bool:
    """Whether a word was said as one with another, or is it."""
    return label.id.partition(_PART)[0] == last.id.partition(_PART)[0]


def _end_of_last_line(file: Any) -> int:
    """Return how many bytes of a file are whole lines."""
    size = file.seek(0, os.SEEK_END)
    begin = max(0, size - _MOST_LINE_BYTES)
    file.seek(begin)
    newline = int(file.read(size - begin).rfind(b"\n"))
    if begin and newline < 0:
        raise NotAsWrittenError("its last line is longer than any that was written")
    return int(begin + newline + 1)


def _line(document: dict[str, Any]) -> bytes:
    kept = {key: value for key, value in document.items() if value is not None}
    line = json.dumps({**kept, "digest": _digest(kept)}, sort_keys=True).encode() + b"\n"
    if len(line) > _MOST_LINE_BYTES:
        raise QueryError(f"a label takes at most {_MOST_LINE_BYTES} bytes")
    return line


def _digest(document: dict[str, Any]) -> str:
    content = json.dumps(document, sort_keys=True).encode()
    return hashlib.blake2b(content, digest_size=_DIGITS // 2).hexdigest()


def _is_word(rest: bytes) -> bool:
    """Whether what stands behind the last line is a whole one: editors leave out its end."""
    try:
        _read(rest, 0)
    except NotAsWrittenError:
        return False
    return True


def _read(line: bytes, number: int) -> _Word:
    problem = NotAsWrittenError(f"line {number} is not what was written")
    try:
        document = json.loads(line)
        if document.pop("digest") != _digest(document):
            raise problem
        if set(document) == {"undoes"}:
            return _Word(None, str(document["undoes"]))
        return _Word(Label(**document), "")
    except (
        *(ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError),
        QueryError,
    ) as error:
        raise problem from error
