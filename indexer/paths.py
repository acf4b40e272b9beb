r"""File names as they are stored and as they are shown.

A name on disk is bytes. In a store it is text: bytes that are not UTF-8 become `\xNN`, and so
does the backslash itself, which makes the text reversible. On a terminal, control characters and
those that reorder text are escaped as well, so that a file's name cannot act.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import unicodedata
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PosixPath
from typing import Self
from urllib.parse import urlsplit

from indexer.errors import QueryError

#: (first sample, number of samples) at 32 kHz of the part of a file that was asked for.
Span = tuple[int, int]

#: How addresses begin: buckets of S3, Google and Azure, and web servers.
_SCHEMES = ("s3:", "gs:", "az:", "https:", "http:")
#: Where the address of an archive ends, and the name of a member begins.
_IN_ARCHIVE = re.compile(r"(?<=\.tar)!/|(?<=\.zip)!/", re.IGNORECASE)
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")


class Address(PosixPath):
    """The address of something that lies elsewhere, `s3://bucket/key`, where paths are taken.

    Nothing on this machine has such a path: what asks the system for it is told that there is
    nothing. `indexer.audio.content` knows where to ask.
    """

    def __str__(self) -> str:
        scheme, *rest = self.parts or (".",)
        return "/".join([f"{scheme}/", *rest] if self.is_absolute() else self.parts) or "."

    def is_absolute(self) -> bool:
        """Whether it says where it is, rather than what is below another address."""
        return bool(self.parts) and self.parts[0] in _SCHEMES

    def absolute(self) -> Self:
        """Return the address itself."""
        return self

    def resolve(self, strict: bool = False) -> Self:
        """Return the address itself: there are no links."""
        return self


def address_of(path: str | os.PathLike[str]) -> Address | None:
    """Return a path as the address that it is; None of one on this machine.

    Raises:
        QueryError: If it has a password in it, or a signature: both would be kept beside it.
    """
    if isinstance(path, Address):
        return path
    text = os.fspath(path)
    if not text.startswith(_SCHEMES) or "/" not in text[:7]:
        return None
    address = Address(text)
    # What a member of an archive is called is asked of nobody.
    said = urlsplit(_IN_ARCHIVE.split(str(address), maxsplit=1)[0], allow_fragments=False)
    if "@" in said.netloc or (said.query and said.scheme.startswith("http")):
        shown = said._replace(netloc=said.netloc.rpartition("@")[2], query="").geturl()
        raise QueryError(
            f"the address {shown} has a password or a question in it, which would be kept with "
            f"every path; leave it out: credentials come from the environment"
        )
    return address


def as_place(path: str | os.PathLike[str]) -> Path:
    """Return a path, or the address that it is, see `address_of`."""
    return address_of(path) or Path(path)


def as_path(name: str, value: object) -> Path:
    """Return a path that a user gave as text or as a path; `~/` is the home folder.

    Args:
        name: What it is, for the error.
        value: The path.

    Raises:
        QueryError: If it is something else.
    """
    if isinstance(value, (str, os.PathLike)):
        text = os.fsdecode(value)  # that of a few is bytes
        return Path.home() / text[2:] if text == "~" or text.startswith("~/") else as_place(text)
    raise QueryError(f"{name} is a path, got {value!r}")


def as_name_or_path(name: str, value: object) -> str:
    """Return text as it is, which may be a name, and a path as an absolute one, which is none.

    Raises:
        QueryError: If it is something else.
    """
    return value if isinstance(value, str) else str(as_path(name, value).absolute())


def as_texts(name: str, value: object) -> tuple[str, ...]:
    """Return what a user gave as one text or as several: one is meant as one, not as its letters.

    Args:
        name: What they are, for the error.
        value: Text, or several.

    Raises:
        QueryError: If it is something else.
    """
    values = (value,) if isinstance(value, str) else value
    texts = tuple(values) if isinstance(values, Iterable) else (None,)
    if all(isinstance(one, str) for one in texts):
        return texts
    raise QueryError(f"{name} is a name or several names, got {value!r}")


def text_from_bytes(name: bytes) -> str:
    r"""Return a name as text: UTF-8, with `\xNN` for backslashes and bytes that are not UTF-8."""
    text = name.decode("utf-8", "surrogateescape").replace("\\", r"\x5c")
    return "".join(
        rf"\x{ord(char) - 0xDC00:02x}" if 0xDC80 <= ord(char) <= 0xDCFF else char for char in text
    )


def bytes_from_text(text: str) -> bytes:
    """Return the name that `text_from_bytes` was given."""
    pieces = _ESCAPE.split(text)  # text, hex, text, hex, … text
    return b"".join(
        bytes.fromhex(piece) if position % 2 else piece.encode("utf-8")
        for position, piece in enumerate(pieces)
    )


def local_path(text: str) -> str:
    """Return stored text as a path that the operating system opens (surrogates for odd bytes)."""
    return os.fsdecode(bytes_from_text(text))


def printable(text: str) -> str:
    r"""Return text that is safe to print: control, format and surrogate characters escaped.

    Format characters (Unicode class Cf) are those that reorder or hide text, such as U+202E.
    """
    return "".join(char if _is_plain(char) else _escape(char) for char in text)


def num_columns(text: str) -> int:
    """Return how many columns of a terminal a text takes, if it is `printable`.

    A letter of East Asia and most emoji take two, a mark on the letter before it none.
    """
    return sum(map(_columns_of, text))


@cache
def _columns_of(char: str) -> int:
    is_mark = unicodedata.category(char) in {"Mn", "Me"} or "\u1160" <= char <= "\u11ff"
    return 0 if is_mark else 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _is_plain(char: str) -> bool:
    return unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as Python holds it in a path
        return rf"\x{code - 0xDC00:02x}"
    return (
        rf"\x{code:02x}"
        if code < 0x100
        else rf"\u{code:04x}"
        if code < 0x10000
        else rf"\U{code:08x}"
    )


def path_id(library_id: str, path: str, span: Span | None = None) -> int:
    """Return the 63-bit key under which the ledger knows a path, or one span of it.

    Args:
        library_id: The library that the path belongs to.
        path: As stored: POSIX-relative to the library's root, escaped.
        span: The part of the file that was asked for; None for the whole.
    """
    key = f"{library_id}\0{path}".encode()
    return _hash63(key if span is None else key + b"\0" + struct.pack("<qq", *span))


def content_id(recording_id: bytes, span: Span | None = None) -> bytes:
    """Return the 16 bytes that name what was asked for: a whole recording, or one span of it."""
    if span is None:
        return recording_id
    return hashlib.blake2b(recording_id + struct.pack("<qq", *span), digest_size=16).digest()


def share_of(path: str, count: int) -> int:
    """Return which of so many shares a path is in, from 0 on: the same on every machine.

    Args:
        path: As stored.
        count: How many shares there are; about as many of all paths are in each.
    """
    return _hash63(path.encode()) % count


def _hash63(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1


def cache_folder() -> Path:
    """Return the folder of the user in which what was found out once is kept; it may not exist.

    Raises:
        FileNotFoundError: If the user has no home.
    """
    import platformdirs  # noqa: PLC0415 - most that asks for paths asks for no cache

    folder = platformdirs.user_cache_path("soundalike")
    if not folder.is_absolute():
        raise FileNotFoundError(f"no home folder, but {folder}")
    return folder


def bundled_path(relative: str) -> Path:
    """Return the path of a file that comes with the package.

    Args:
        relative: Path below the top level of the source tree, such as "metadata/SOURCES.md".

    Returns:
        The file inside the installed package, or beside it in a source checkout; it may not exist.
    """
    package = Path(__file__).parent
    installed = package / "_bundled" / relative
    return installed if installed.exists() else package.parent / relative
