"""Which files of a library are not looked at: by their ending, a pattern, or what hides them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from indexer.audio.file import AUDIO_EXTENSIONS

#: What the system, or a tool, keeps beside the files for itself: never part of a library. What is
#: called "._something" is what macOS puts beside each file on a foreign disk, and in archives into
#: "__MACOSX"; a tar that is unpacked by an old program has more of its names in "PaxHeaders".
OF_THE_SYSTEM = re.compile(
    r"\._.*|\.DS_Store|\.AppleDouble|\.Trash(es|-\d+)?|\.Spotlight-V100|\.fseventsd"
    r"|\.TemporaryItems|\.DocumentRevisions-V100|\.git|\.hg|\.svn|__MACOSX|PaxHeaders?(\.\d+)?",
    re.DOTALL,
)
#: What is no letter in a pattern.
_WILD = re.compile(r"[*?[]")
#: Why a file is not looked at: its ending, `include` or `exclude`, a name that begins with a dot.
PassedOver = Literal["ending", "pattern", "hidden"]


def why_passed_over(
    path: str, include: Sequence[str] = (), exclude: Sequence[str] = (), *, hidden: bool = False
) -> PassedOver | None:
    """Return why a walk leaves out a file, see `walk`; None if it takes it.

    Args:
        path: Relative to the library, as stored.
        include: The patterns of the walk.
        exclude: Likewise.
        hidden: Whether it takes hidden files.
    """
    if not include and Path(path).suffix.lower() not in AUDIO_EXTENSIONS:
        return "ending"
    if matches(path, exclude) or not is_included(path, include):
        return "pattern"
    return "hidden" if is_hidden(path) and not hidden else None


def is_hidden(path: str) -> bool:
    """Whether a name in a relative path begins with a dot; the library itself, ".", has none."""
    return "/." in f"/{path}" and path != "."


def is_included(path: str, include: Sequence[str]) -> bool:
    """Whether a path matches one of some patterns, or there are none."""
    return not include or matches(path, include)


def may_reach(pack: str, include: Sequence[str]) -> bool:
    """Whether a pack, or something in it, may match one of some patterns, or there are none.

    Args:
        pack: Its path, relative to the library; empty for the library itself.
        include: See `walk`.
    """
    below = f"{pack}!/" if pack else ""
    begins = (_WILD.split(pattern, maxsplit=1)[0] for pattern in include)
    return not include or any(below.startswith(one) or one.startswith(below) for one in begins)


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path matches one of some patterns; `*` crosses folders."""
    return any(fnmatchcase(path, pattern) for pattern in patterns)
