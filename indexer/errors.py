"""Every error that soundalike raises on purpose.

    SoundalikeError            anything below; the command prints it in one line and exits with 1
    ├── AudioError             one file could not be opened, decoded or resampled; names the stage
    ├── CheckpointError        a checkpoint is missing, damaged or another network
    ├── LibraryError           the folder of audio is missing, empty, or lost too much
    ├── OutputError            a file that was asked for cannot be written, or must not be
    ├── QueryError             a question that cannot be asked: a window id that is not there, k = 0
    │   └── ExpressionError    a filter expression that cannot be read; two more lines show where
    ├── StoreError             a store cannot be opened, read or written
    │   ├── DamagedStoreError       bytes on disk are not the bytes that were written
    │   └── IdentityError   two things that were not computed the same way; names the fields
    └── UnknownTagError             a tag name that AudioSet does not have, or that has no output

A message says what happened, with which value, and what to do about it. What does not stop the work
is a `SoundalikeWarning`, by Python's own means.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class SoundalikeError(Exception):
    """An expected failure: its text is written for the person at the keyboard.

    Attributes:
        about: What helps, in a word: an argument, such as "strict", or a method, such as "build".
            The text does not say how it is given; the command, which knows, adds that.
        value: What to give it, or what to call the method on; None if that is open.
        report: Of what was done before in the same call, and is kept; None if there is nothing.
    """

    report: Any = None

    def __init__(self, *args: object, about: str | None = None, value: object = None) -> None:
        super().__init__(*args)
        self.about = about
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        """Return how another process gets it: as it is, however it was made."""
        return _as_it_was, (type(self), self.args, self.__dict__)


def _as_it_was(
    kind: type[SoundalikeError], args: tuple[object, ...], state: dict[str, object]
) -> SoundalikeError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class AudioError(SoundalikeError):
    """One file could not be turned into samples.

    Attributes:
        stage: Where it failed: "access" (the system did not give the file), "open" (it is no
            audio that can be read), "decode" or "samples".
        reason: What happened, without the file's name.
    """

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(stage, reason)
        self.stage = stage
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


def first_line(error: BaseException) -> str:
    """Return the first line of what another program's error says, or its type if it is empty."""
    return (str(error) or type(error).__name__).splitlines()[0]


class CheckpointError(SoundalikeError):
    """A checkpoint is missing, damaged, or does not fit the network."""


class LibraryError(SoundalikeError):
    """The folder of audio cannot be walked as asked."""


class OutputError(SoundalikeError):
    """A file that was asked for cannot be written, or would take the place of something else."""


class QueryError(SoundalikeError):
    """A question that cannot be answered as asked."""


class ExpressionError(QueryError):
    """A filter expression that cannot be read.

    Attributes:
        lines: What is wrong; the line of the expression; and a caret below the spot.
        at: Position of the spot in the expression, in characters; its length if it ends too early.
    """

    def __init__(self, *lines: str, at: int = 0) -> None:
        super().__init__(*lines)
        self.lines, self.at = lines, at

    def __str__(self) -> str:
        return "\n".join(self.lines)


class StoreError(SoundalikeError):
    """A store cannot be opened, read or written."""


class DamagedStoreError(StoreError):
    """Bytes in a store are not the bytes that were written.

    Attributes:
        path: Of the file or folder.
        reason: What is wrong with it, without its name: "its digest …", "it is missing".
        remedy: What to do; empty if `about` says all.
    """

    def __init__(
        self,
        path: Path,
        reason: str,
        remedy: str = "",
        *,
        about: str | None = None,
        value: object = None,
    ) -> None:
        is_state = reason.startswith("it is ")
        said = f"{path}{reason.removeprefix('it')}" if is_state else f"{path} is damaged: {reason}"
        super().__init__(f"{said}; {remedy}" if remedy else said, about=about, value=value)
        self.path, self.reason, self.remedy = path, reason, remedy


class NotAsWrittenError(ValueError):
    """What is wrong with the content of a file of a store, said without its name.

    Whoever reads the file makes a `DamagedStoreError` of it; it goes no further.
    """


class IdentityError(StoreError):
    """Two things that must have been computed the same way were not."""

    def __init__(
        self,
        message: str,
        differences: Mapping[str, tuple[object, object]],
        named: str,
        advice: str,
        about: str | None = None,
    ) -> None:
        super().__init__(f"{message}: {named}. {advice}", about=about)
        self.differences = dict(differences)


class UnknownTagError(SoundalikeError):
    """A tag that AudioSet does not have, or one without an output in the model."""


class SoundalikeWarning(UserWarning):
    """Something that a person should know while the work goes on; the command says it in one line.

    Attributes:
        about: As in `SoundalikeError`.
        value: Likewise.
    """

    def __init__(self, message: str, about: str | None = None, value: object = None) -> None:
        super().__init__(message)
        self.about = about
        self.value = value
