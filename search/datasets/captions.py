"""Tables of captions as AudioCaps and Clotho publish them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from indexer.errors import SoundalikeError
from indexer.library.tables import read_content, read_header, read_rows, whole_number
from search.datasets.clips import youtube_id_of

_AUDIOCAPS = ("youtube_id", "start_time")
_CAPTION, _AUDIOCAP_ID = "caption", "audiocap_id"
_CLOTHO_FILE, _CLOTHO_CAPTION = "file_name", "caption_"


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


@dataclass(slots=True)
class _Rows:
    """What the rows of one clip say."""

    caption_ids: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    audiocap_ids: list[str] = field(default_factory=list)
    num_empty: int = 0


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
    for line, row in _rows(path, (_CLOTHO_FILE,), f"{_CLOTHO_CAPTION}1"):
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


def _rows(
    path: Path, needed: tuple[str, ...], caption: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each line and its cells, none of the needed ones empty."""
    try:
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
    except OSError as error:
        raise SoundalikeError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SoundalikeError(f"cannot read {path}: {error}") from error
    if is_empty:
        raise SoundalikeError(f"{path} has no captions")
