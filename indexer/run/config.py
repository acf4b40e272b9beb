"""What is asked of a run: what shapes the numbers, and how it goes about its work."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from indexer import MAX_CHANNELS
from indexer.embedding.cores import require_device_name
from indexer.errors import QueryError
from indexer.paths import as_path, as_texts

# Nothing here takes long to import: the help of the command is made from these fields.


@dataclass(frozen=True, slots=True)
class Settings:
    """What shapes the numbers; what is None is taken from the store, or from the defaults.

    Attributes:
        checkpoint: Name or file.
        frames: "pooled", "full" or "none"; for a new store "pooled".
        hop_s: From one window's start to the next, in seconds; for a new store 10.
        native: Embed recordings of up to `native_max_s` as one window of their own length.
        native_max_s: The longest that are, in seconds; for a new store 60.
        padding: What follows audio that is shorter than a window: "repeat" or "zero"; for a new
            store "repeat", with `native` "zero".
        level: What is done to the loudness of each window: "off" or "rms"; for a new store "off".
        channel: Which channel of each recording, counted from 1; for a new store the mean of all.
        device: "auto", "cpu", "cuda" or "cuda:N".
        precision: "auto", "fp32" or "bf16", see `Extractor`.
    """

    checkpoint: str | None = None
    frames: Literal["pooled", "full", "none"] | None = field(
        default=None,
        metadata={
            "help": "Frame embeddings to keep: pooled over frequency (48 kB a window), full "
            "(333 kB) or none. Default: the store's, or pooled."
        },
    )
    hop_s: float | None = field(
        default=None,
        metadata={
            "help": "Seconds between the starts of windows. Default: the store's, or 10.",
            "unit": "S",
            "least": 0.01,  # below is a mistake in the unit rather than a wish
            "most": 86_400,
        },
    )
    native: bool | None = field(
        default=None,
        metadata={
            "help": "Embed each recording of up to 60 s as one window of its own length, unpadded."
        },
    )
    native_max_s: float | None = field(
        default=None,
        metadata={
            "help": "Longest recording that is so embedded as one window. Longer ones are in "
            "windows of 10 s, and have a warning. Default: the store's, or 60.",
            "unit": "S",
            "least": 0.25,
            "most": 600,
        },
    )
    padding: Literal["repeat", "zero"] | None = field(
        default=None,
        metadata={
            "help": "What fills a window after a shorter recording: itself, again and again, or "
            "silence (zero), as published figures have it. Default: the store's, or repeat; zero "
            "if windows are native."
        },
    )
    level: Literal["off", "rms"] | None = field(
        default=None,
        metadata={
            "help": "Bring all windows to one loudness, -20 dBFS (rms), where how loud a sound is "
            "means nothing; or leave it (off). Default: the store's, or off."
        },
    )
    channel: int | None = field(
        default=None,
        metadata={
            "help": "Channel to embed of each recording, counted from 1. Default: the store's, or "
            "the mean of all.",
            "unit": "N",
            "least": 1,
            "most": MAX_CHANNELS,
        },
    )
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def __post_init__(self) -> None:
        check_fields(self)
        require_device_name(self.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtractConfig:
    """How a run behaves; what shapes the numbers is in the store's identity instead.

    Attributes:
        include: Patterns of relative paths; if given, only these.
        exclude: Patterns of relative paths to leave out.
        hidden: Take files and folders, too, whose names begin with a dot.
        files_from: A list of files (or a table of path, start, end) instead of a walk.
        num_workers: Processes that decode; None chooses by device.
        batch_size: Windows per forward pass; None chooses by device.
        strict: Stop at the first file that fails.
        retry_failed: Try files again that failed before and have not changed.
        allow_gone: Accept that more than half of a library has disappeared.
        max_hours: A file that decodes to more than this is a failure.
        timeout_s: A file on which reading makes no progress for this long is a failure. A reader
            gives a sign of life for every megabyte that it reads, and for every second of audio or
            so that it decodes; network disks stall for a minute.
        part_windows: Commit after this many windows …
        part_seconds: … or this many seconds, whichever comes first.
    """

    num_workers: int | None = field(
        default=None,
        metadata={
            "help": "Processes that decode audio.",
            "unit": "N",
            "least": 0,
            "most": 1024,
        },
    )
    batch_size: int | None = field(
        default=None,
        metadata={"help": "Windows per forward pass.", "unit": "N", "least": 1, "most": 4096},
    )
    include: tuple[str, ...] = field(
        default=(),
        metadata={"help": "Only paths that match, whatever their extension.", "unit": "GLOB"},
    )
    exclude: tuple[str, ...] = field(
        default=(), metadata={"help": "Leave out paths that match.", "unit": "GLOB"}
    )
    hidden: bool = field(
        default=False,
        metadata={"help": "Read files and folders, too, whose names begin with a dot."},
    )
    files_from: Path | None = field(
        default=None,
        metadata={
            "help": "Read the files that FILE lists, one path a line, or a table (.csv, .tsv, "
            ".parquet) of path,start,end in seconds. Paths are relative to LIBRARY.",
            "unit": "FILE",
        },
    )
    strict: bool = field(default=False, metadata={"help": "Stop at the first file that fails."})
    retry_failed: bool = field(
        default=False, metadata={"help": "Try files again that failed in an earlier run."}
    )
    allow_gone: bool = field(
        default=False,
        metadata={"help": "Accept that more than half of the library was deleted."},
    )
    max_hours: float = field(
        default=24.0,
        metadata={
            "help": "A longer file is a failure.",
            "unit": "H",
            "least": 0.001,
            "most": 100_000,
        },
    )
    timeout_s: float = field(
        default=120.0,
        metadata={
            "help": "Give up on a file when nothing more of it could be read for S seconds.",
            "unit": "S",
            "least": 1,
            "most": 1_000_000,
        },
    )
    part_windows: int = 4096
    part_seconds: float = 300.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.files_from and (self.include or self.exclude):
            raise QueryError(
                f"the list {self.files_from} says which files are read: patterns that include or "
                f"exclude go with a walk"
            )


def check_fields(given: Any) -> None:
    """Hold the fields of a frozen dataclass against their types, and `least` and `most` of each.

    One text where several are meant becomes several, and text where a path is meant a path.

    Raises:
        QueryError: If a field is something else; it says which, what is wanted and what was given.
    """
    for name, default, kind, meant, fits, least, most in _wanted_of(given.__class__):
        value = getattr(given, name)
        if value is default:  # most are, in every question
            continue
        if meant:
            object.__setattr__(given, name, meant(name, value))
        elif not fits(value):
            raise QueryError(f"{name} is {_in_words(kind)}, got {reprlib.repr(value)}")
        if value is None or isinstance(value, (bool, str)):
            continue
        if least is not None and not value >= least:
            raise QueryError(f"{name} must be at least {least:g}, got {_shown(value)}")
        if most is not None and not value <= most:
            raise QueryError(f"{name} must be at most {most:g}, got {_shown(value)}")


def _shown(number: Any) -> str:
    return reprlib.repr(number.item() if hasattr(number, "item") else number)  # one of NumPy's


class _Wanted(NamedTuple):
    """What is wanted of a field, with its name.

    Attributes:
        name: Its name.
        default: What it is where nothing is given, which is right.
        kind: Its type.
        meant: Makes of its name and its value what is meant; None where that is the value.
        fits: Whether a value is of the type.
        least: The least that it may be; None for any.
        most: The most.
    """

    name: str
    default: Any
    kind: Any
    meant: Callable[[str, Any], Any] | None
    fits: Callable[[object], bool]
    least: float | None
    most: float | None


@cache
def _wanted_of(owner: Any) -> tuple[_Wanted, ...]:
    """Return what is wanted of each field of a dataclass: every question is checked."""
    kinds = get_type_hints(owner)
    return tuple(
        _Wanted(
            one.name,
            one.default,
            kinds[one.name],
            _meant_by(kinds[one.name]),
            _test_of(kinds[one.name]),
            one.metadata.get("least"),
            one.metadata.get("most"),
        )
        for one in fields(owner)
    )


def _meant_by(kind: Any) -> Callable[[str, Any], Any] | None:
    if get_origin(kind) is tuple:
        return as_texts
    if Path in get_args(kind):
        return lambda name, value: None if value is None else as_path(name, value)
    return None


def _test_of(kind: Any) -> Callable[[object], bool]:
    if get_origin(kind) in (Union, UnionType):
        tests = [_test_of(one) for one in get_args(kind)]
        return lambda value: any(test(value) for test in tests)
    if get_origin(kind) is Literal:
        return lambda value: isinstance(value, str) and value in get_args(kind)
    if kind is float:  # NaN is no number that anything could be compared with
        return lambda value: (
            isinstance(value, Real) and not isinstance(value, bool) and value == value
        )
    if kind is int:
        return lambda value: isinstance(value, Integral) and not isinstance(value, bool)
    return lambda value: isinstance(value, kind)


def _in_words(kind: Any) -> str:
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_in_words(one) for one in get_args(kind) if one is not type(None))
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, get_args(kind)))
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}
    return words[kind]
