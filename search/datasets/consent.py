"""What users take upon themselves when they export for an evaluation."""

from __future__ import annotations

from typing import NamedTuple


class Consent(NamedTuple):
    """Answers to the guard against leaks.

    Attributes:
        allow_leak: Export even if the checkpoint was trained on what is evaluated with it.
        is_clean: Vouch that a checkpoint which is not known was not.
    """

    allow_leak: bool = False
    is_clean: bool = False
