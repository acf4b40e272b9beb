"""Tables of captions for training: which form each has, and which split it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from indexer.errors import SoundalikeError
from indexer.library.tables import find_column, read_content, read_header, read_rows
from indexer.store.reader import Store
from search.datasets.captions import Captioned, read_audiocaps, read_clotho
from search.datasets.consent import Consent
from search.datasets.finding import Dataset
from search.datasets.leaks import require_no_leak
from search.datasets.splits import Role, role_of

#: What tables of captions look like: AudioCaps' own, Clotho's own, or path and caption.
Form = Literal["audiocaps", "clotho", "paths"]

_AUDIOCAPS = {"youtube_id", "start_time", "caption"}
_CLOTHO = {"file_name", "caption_1"}
_CAPTION = "caption"
#: Whose sounds the tables of each form are about.
DATASETS: Mapping[Form, Dataset] = {"audiocaps": "AudioCaps", "clotho": "Clotho", "paths": "paths"}


class Table(NamedTuple):
    """The captions of a split.

    Attributes:
        name: Of its file, without the suffix.
        form: What it looks like.
        role: What it is for; None if no word of its name says so.
        captions: By sound, in the order of the table.
    """

    name: str
    form: Form
    role: Role | None
    captions: list[Captioned]


def read_tables(paths: Sequence[Path], form: Form | None = None) -> list[Table]:
    """Read some tables of captions.

    Args:
        paths: A CSV per split; a word of its name says which, see `role_of`.
        form: What they look like; None to tell by the columns of each.

    Raises:
        SoundalikeError: If one cannot be read, or has no such columns; or two have one name.
    """
    if form is not None and form not in get_args(Form):
        raise SoundalikeError(f"captions are {', '.join(get_args(Form))}, got {form!r}")
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        twice = max(stems, key=stems.count)
        raise SoundalikeError(f"two tables of captions are called {twice}; name them by split")
    read = {"audiocaps": read_audiocaps, "clotho": read_clotho, "paths": read_paths}
    tables = []
    for path in paths:
        found = form or form_of(path)
        tables.append(Table(path.stem, found, role_of(path.stem), read[found](path)))
    return tables


def for_training(tables: Sequence[Table]) -> list[Table]:
    """Return tables of which each is for something; one alone is for training, if nothing says so.

    Raises:
        SoundalikeError: If there are several, and the name of one says no split.
    """
    unsaid = [one for one in tables if one.role is None]
    if unsaid and len(tables) > 1:
        raise SoundalikeError(
            f"{unsaid[0].name} does not say which split it is; call it train, val or test"
        )
    return [one._replace(role=one.role or "train") for one in tables]


def measured(tables: Sequence[Table]) -> list[Table]:
    """Return the tables, and once more for val those of which a part is held out for it."""
    if any(one.role == "val" for one in tables):
        return list(tables)
    return [*tables, *(one._replace(role="val") for one in tables if one.role == "train")]


def form_of(path: Path) -> Form:
    """Tell by the columns of a table what it looks like.

    Raises:
        SoundalikeError: If it cannot be read, or has other columns.
    """
    try:
        names = [name.strip() for name in read_header(read_content(path)).names]
    except OSError as error:
        raise SoundalikeError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SoundalikeError(f"cannot read {path}: {error}") from error
    if set(names) >= _AUDIOCAPS:
        return "audiocaps"
    if set(names) >= _CLOTHO:
        return "clotho"
    if find_column(names) and find_column(names, (_CAPTION,)):
        return "paths"
    raise SoundalikeError(
        f"{path} is no table of captions: it takes the columns of AudioCaps (youtube_id, "
        f"start_time, caption), those of Clotho (file_name, caption_1), or path and caption; it "
        f"has {', '.join(names) or 'none'}"
    )


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
    try:
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
    except OSError as error:
        raise SoundalikeError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SoundalikeError(f"cannot read {path}: {error}") from error
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


def require_no_leaks(store: Store, tables: Sequence[Table], consent: Consent) -> str | None:
    """Stop before a checkpoint is measured on clips that it has heard: see `require_no_leak`.

    A table that does not say what it is for counts as one that is measured on. Tables of one's own
    say nothing of where their sounds are from, and are not guarded.
    """
    found = None
    for form, dataset in DATASETS.items():
        roles = [one.role or one.name for one in tables if one.form == form]
        if roles and form != "paths":
            found = found or require_no_leak(store, dataset, roles, consent)
    return found
