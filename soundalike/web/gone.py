"""What was asked for and is not there."""

from __future__ import annotations


class NotThereError(Exception):
    """What was asked for is not there, or not any more; the text says what."""
