"""Splits of published sets, however their tables and folders are called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Literal

#: What a split is for. Clotho calls its training split "development".
Role = Literal["train", "val", "test"]
_ROLES: dict[str, Role] = {
    **dict.fromkeys(("train", "training", "dev", "development"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}


def role_of(name: str) -> Role | None:
    """Return what a split is for, by a word of its name: "clotho_captions_evaluation" is "test".

    Returns:
        None if no word says so, or several differ.
    """
    words = re.split(r"[^a-z]+", name.lower())
    roles = {_ROLES[word] for word in words if word in _ROLES}
    return roles.pop() if len(roles) == 1 else None


def role_of_folder(path: str) -> Role | None:
    """Return what the split of a file is for, by the innermost of its folders that says so."""
    folders = reversed(PurePosixPath(path).parts[:-1])
    return next((role for folder in folders if (role := role_of(folder))), None)


def renamed(split: str, names: Mapping[Role, str]) -> str:
    """Return what somebody calls a split; one whose name does not say what it is for keeps it."""
    role = role_of(split)
    return names[role] if role else split
