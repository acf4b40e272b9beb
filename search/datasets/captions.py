"""Tables of captions: as AudioCaps and Clotho publish them, or paths and captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from indexer.errors import SoundalikeError
from indexer.library.tables import (
    find_column,
    read_content,
    read_header,
    read_rows,
    reading_table,
    whole_number,
)
from search.datasets.clips import youtube_id_of

_AUDIOCAPS = ("youtube_id", "start_time")
_CAPTION, _AUDIOCAP_ID = "caption", "audiocap_id"
_CLOTHO_FILE, _CLOTHO_CAPTION = "file_name", "caption_"
_CLOTHO_FIRST = f"{_CLOTHO_CAPTION}1"
#: What tables of captions look like: AudioCaps' own, Clotho's own, or path and caption.
Form = Literal["audiocaps", "clotho", "paths"]


class Captioned(NamedTuple):
    """A sound that somebody described.

    Attributes:
        file_id: What it is called in exported files: `{youtube_id}_{start in s}` or a file's name.
        youtube_id: Of the video; None if it is from elsewhere.
        start_s: Where the clip begins in the video, in seconds.
        caption_ids: One for each caption.
        captions: In the order of the table; empty ones are left out.
        audiocap_ids: What AudioCaps calls it, one name for each row; none if the table does not
            say.
        num_empty: Captions that were left out.
    """

    file_id: str
    youtube_id: str | None
    start_s: float
    caption_ids: tuple[str, ...]
    captions: tuple[str, ...]
    audiocap_ids: tuple[str, ...] = ()
    num_empty: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """What it may be called in a list of which file is which sound."""
        return self.file_id, *self.audiocap_ids


@dataclass(slots=True)
class _Rows:
    """What the rows of one clip say."""

    caption_ids: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    audiocap_ids: list[str] = field(default_factory=list)
    num_empty: int = 0


def split_names(tables: Sequence[Path]) -> list[str]:
    """Return what the splits of some tables are called: as their files, without the suffix.

    Raises:
        SoundalikeError: If two have one name.
    """
    names = [path.stem for path in tables]
    if len(set(names)) < len(names):
        twice = max(names, key=names.count)
        raise SoundalikeError(f"two tables of captions are called {twice}; name them by split")
    return names


def form_of(path: Path) -> Form:
    """Tell by the columns of a table what it looks like.

    Raises:
        SoundalikeError: If it cannot be read, or has other columns.
    """
    with reading_table(path):
        names = [name.strip() for name in read_header(read_content(path)).names]
    if {*_AUDIOCAPS, _CAPTION} <= set(names):
        return "audiocaps"
    if {_CLOTHO_FILE, _CLOTHO_FIRST} <= set(names):
        return "clotho"
    if find_column(names) and find_column(names, (_CAPTION,)):
        return "paths"
    raise SoundalikeError(
        f"{path} is no table of captions: it takes the columns of AudioCaps (youtube_id, "
        f"start_time, caption), those of Clotho (file_name, caption_1), or path and caption; it "
        f"has {', '.join(names) or 'none'}"
    )


def read_audiocaps(path: Path) -> list[Captioned]:
    """Read a split of AudioCaps: one row per caption, several for a clip.

    Args:
        path: A CSV with the columns audiocap_id, youtube_id, start_time (whole seconds), caption.

    Returns:
        One entry per clip, in the order of their first captions.

    Raises:
        SoundalikeError: If it is not there, or not of that form; names column or line.
    """
    clips: dict[tuple[str, int], _Rows] = {}
    for line, row in _rows(path, _AUDIOCAPS, _CAPTION):
        key = (youtube_id_of(row["youtube_id"]), _start_s(path, line, row["start_time"]))
        clip = clips.setdefault(key, _Rows())
        audiocap_id, caption = whole_number(row.get(_AUDIOCAP_ID, "")), row[_CAPTION]
        if audiocap_id:
            clip.audiocap_ids.append(audiocap_id)
        if caption.strip():
            clip.caption_ids.append(audiocap_id or str(line - 1))
            clip.captions.append(caption)
        else:
            clip.num_empty += 1
    return [
        Captioned(
            f"{youtube_id}_{start_s}",
            youtube_id,
            float(start_s),
            tuple(clip.caption_ids),
            tuple(clip.captions),
            tuple(clip.audiocap_ids),
            clip.num_empty,
        )
        for (youtube_id, start_s), clip in clips.items()
    ]


def _start_s(path: Path, line: int, text: str) -> int:
    """Return a start in whole seconds."""
    try:
        return int(whole_number(text.strip()))
    except ValueError as error:
        what = f"the start_time {text!r} is no whole number of seconds"
        raise SoundalikeError(f"{path}, line {line}: {what}") from error


def read_clotho(path: Path) -> list[Captioned]:
    """Read a split of Clotho: one row per file, with the columns caption_1 to caption_5.

    Args:
        path: A CSV with a column file_name and columns caption_1 and so on.

    Raises:
        SoundalikeError: If it is not there, or not of that form; names column or line.
    """
    found = []
    lines: dict[str, int] = {}
    for line, row in _rows(path, (_CLOTHO_FILE,), _CLOTHO_FIRST):
        name = row[_CLOTHO_FILE]
        if (first := lines.setdefault(name, line)) != line:
            raise SoundalikeError(
                f"{path}, line {line}: {name!r} is there already, in line {first}"
            )
        texts = {
            f"{name}#{column.removeprefix(_CLOTHO_CAPTION)}": text
            for column, text in row.items()
            if column.startswith(_CLOTHO_CAPTION)
        }
        captions = {key: text for key, text in texts.items() if text.strip()}
        words = (tuple(captions), tuple(captions.values()))
        num_empty = len(texts) - len(captions)
        found.append(Captioned(name, None, 0.0, *words, num_empty=num_empty))
    return found


def read_paths(path: Path) -> list[Captioned]:
    """Read a table of paths and captions: one row per caption, several for a sound.

    Args:
        path: A CSV with the columns path (or file, or filename) and caption.

    Returns:
        One entry per path, in the order of their first rows; the path is its id, and a caption is
        called by its number among those of the path, empty ones counted.

    Raises:
        SoundalikeError: If it is not there, or not of that form; names column or line.
    """
    sounds: dict[str, list[str]] = {}
    with reading_table(path):
        content = read_content(path)
        names = read_header(content).names
        key, caption = find_column(names), find_column(names, (_CAPTION,))
        if key is None or caption is None:
            raise ValueError(f"it takes the columns path and caption, and has {', '.join(names)}")
        for line, row in read_rows(content):
            where, text = row[key.strip()].strip(), row[caption.strip()].strip()
            if not where:
                raise ValueError(f"line {line}: the path is empty")
            sounds.setdefault(where, []).append(text)
    if not sounds:
        raise SoundalikeError(f"{path} has no captions")
    return [
        Captioned(
            file_id=where,
            youtube_id=None,
            start_s=0.0,
            caption_ids=tuple(f"{where}#{at}" for at, text in enumerate(texts, start=1) if text),
            captions=tuple(filter(None, texts)),
            num_empty=texts.count(""),
        )
        for where, texts in sounds.items()
    ]


def _rows(
    path: Path, needed: tuple[str, ...], caption: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each line and its cells, none of the needed ones empty."""
    with reading_table(path):
        content = read_content(path)
        columns = [name.strip() for name in read_header(content).names]
        missing = [name for name in (*needed, caption) if name not in columns]
        if missing:
            raise SoundalikeError(f"{path} has no column {missing[0]}, only {', '.join(columns)}")
        is_empty = True
        for line, row in read_rows(content):
            is_empty = False
            gaps = [name for name in needed if not row[name]]
            if gaps:
                raise SoundalikeError(f"{path}, line {line}: {gaps[0]} is empty")
            yield line, row
    if is_empty:
        raise SoundalikeError(f"{path} has no captions")
