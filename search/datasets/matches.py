"""Tables in which people say which file a sound of a published set is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from indexer.errors import SoundalikeError
from indexer.library.tables import (
    KEYS,
    find_column,
    read_content,
    read_header,
    read_rows,
    reading_table,
    whole_number,
)
from search.datasets.captions import Captioned

_ID = "id"


def matches_of(path: Path, tables: Iterable[Sequence[Captioned]]) -> dict[str, str]:
    """Read which file is which sound.

    Args:
        path: A CSV with the columns path (or file, or filename): a file as the store has it, below
            its library, or from the root; and id: `{youtube_id}_{start in s}` or an audiocap_id,
            of Clotho a file_name.
        tables: Of captions, whose sounds are meant.

    Returns:
        id → path.

    Raises:
        SoundalikeError: If it is not there, or not of that form, or about none of the sounds, or
            gives one of them two files, or two of them one; names column, line or id.
    """
    found = _read(path)
    sounds = [one for table in tables for one in table]
    if not any(matched(one, found) for one in sounds):
        ids = f"{next(iter(found))!r} for one"
        raise SoundalikeError(
            f"none of the ids of {path}, {ids}, is in the tables, which have {sounds[0].file_id!r}"
        )
    _require_one_of_each(path, sounds, found)
    return found


def _require_one_of_each(path: Path, sounds: Sequence[Captioned], found: Mapping[str, str]) -> None:
    """Raise if one file is said to be two sounds, as both of which it would count; or a sound two.

    A sound may have several names, all of them with one file.
    """
    first: dict[str, str] = {}
    for one in sounds:
        files = list(dict.fromkeys(_said(one, found)))
        if len(files) > 1:
            raise SoundalikeError(
                f"{path}: {one.file_id!r} is said to be both {files[0]!r} and {files[1]!r}"
            )
        for file in files:
            if first.setdefault(file, one.file_id) != one.file_id:
                raise SoundalikeError(
                    f"{path}: {file!r} is said to be both {first[file]!r} and {one.file_id!r}"
                )


def matched(captioned: Captioned, matches: Mapping[str, str]) -> str | None:
    """Return the path that somebody gave for a sound."""
    return next(_said(captioned, matches), None)


def _said(captioned: Captioned, matches: Mapping[str, str]) -> Iterator[str]:
    """Yield the path that somebody gave for each of a sound's names."""
    return (matches[name] for name in captioned.names if name in matches)


def _read(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    with reading_table(path):
        content = read_content(path)
        names = [name.strip() for name in read_header(content).names]
        file, key = find_column(names, KEYS), find_column(names, (_ID,))
        if file is None or key is None:
            wanted = _ID if key is None else KEYS[0]
            raise SoundalikeError(f"{path} has no column {wanted}, only {', '.join(names)}")
        for line, row in read_rows(content):
            if not row[file] or not row[key]:
                empty = key if row[file] else file
                raise SoundalikeError(f"{path}, line {line}: {empty} is empty")
            name = whole_number(row[key])
            first = lines.setdefault(name, line)
            if found.setdefault(name, row[file]) != row[file]:
                what = f"{name!r} is another file already, in line {first}"
                raise SoundalikeError(f"{path}, line {line}: {what}")
    if not found:
        raise SoundalikeError(f"{path} has no rows")
    return found
