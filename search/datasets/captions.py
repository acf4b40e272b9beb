"""Tables of captions as AudioCaps and Clotho publish them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from indexer.errors import SoundalikeError
from indexer.library.tables import read_content, read_header, read_rows

_AUDIOCAPS = ("youtube_id", "start_time", "caption")
_CLOTHO_FILE, _CLOTHO_CAPTION = "file_name", "caption_"


class Captioned(NamedTuple):
    """A sound that somebody described.

    Attributes:
        file_id: What it is called in exported files: `{youtube_id}_{start in s}` or a file's name.
        youtube_id: Of the video; None if it is from elsewhere.
        start_s: Where the clip begins in the video, in seconds.
        caption_ids: One for each caption.
        captions: In the order of the table.
    """

    file_id: str
    youtube_id: str | None
    start_s: float
    caption_ids: tuple[str, ...]
    captions: tuple[str, ...]


def read_audiocaps(path: Path) -> list[Captioned]:
    """Read a split of AudioCaps: one row per caption, several for a clip.

    Args:
        path: A CSV with the columns audiocap_id, youtube_id, start_time (whole seconds), caption.

    Returns:
        One entry per clip, in the order of their first captions.

    Raises:
        SoundalikeError: If it is not there, or not of that form; names column or line.
    """
    clips: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for line, row in _rows(path, _AUDIOCAPS):
        try:
            start_s = int(row["start_time"])
        except ValueError as error:
            what = f"the start_time {row['start_time']!r} is no whole number of seconds"
            raise SoundalikeError(f"{path}, line {line}: {what}") from error
        captions = clips.setdefault((row["youtube_id"], start_s), [])
        captions.append((row.get("audiocap_id") or str(line - 1), row["caption"]))
    return [
        Captioned(
            f"{youtube_id}_{start_s}", youtube_id, float(start_s), *zip(*captions, strict=True)
        )
        for (youtube_id, start_s), captions in clips.items()
    ]


def read_clotho(path: Path) -> list[Captioned]:
    """Read a split of Clotho: one row per file, with the columns caption_1 to caption_5.

    Args:
        path: A CSV with a column file_name and columns caption_1 and so on.

    Raises:
        SoundalikeError: If it is not there, or not of that form; names column or line.
    """
    found = []
    for _, row in _rows(path, (_CLOTHO_FILE, f"{_CLOTHO_CAPTION}1")):
        name = row[_CLOTHO_FILE]
        captions = {
            f"{name}#{column.removeprefix(_CLOTHO_CAPTION)}": text
            for column, text in row.items()
            if column.startswith(_CLOTHO_CAPTION) and text
        }
        found.append(Captioned(name, None, 0.0, tuple(captions), tuple(captions.values())))
    return found


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each line and its cells, none of the needed ones empty."""
    try:
        content = read_content(path)
        columns = [name.strip() for name in read_header(content).names]
        missing = [name for name in needed if name not in columns]
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
