"""News of long work, and who hears it: one listener for how far a step is and for sentences."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


def count(number: int, noun: str) -> str:
    """Return "1 file", "2 files", "1,234 files"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


class Step(NamedTuple):
    """How far a step of a long piece of work is.

    Attributes:
        what: What is being done, in a word: "embedding".
        done: How much of it is done.
        total: How much there is to do; None where nobody knows.
        unit: What is counted, in the singular: "file", "window", "byte"; empty if nothing is.
        audio_s: Seconds of audio gone through so far, where that is what is done.
        num_failed: How many failed so far.
        total_audio_s: About how many seconds of audio there are.
        name: Of the file that is read.
        bound: What kept it from being faster so far, in a word or two; empty where nobody measures.
    """

    what: str
    done: int
    total: int | None
    unit: str
    audio_s: float = 0.0
    num_failed: int = 0
    total_audio_s: float = 0.0
    name: str = ""
    bound: str = ""


#: Importing PyTorch and reading the weights takes seconds, and nobody knows how many.
LOADING = Step("loading the model", 0, None, "")

#: What a listener hears: how far a step is, or a sentence for people.
News = Step | str
#: Called with each piece of news, now and then, by the thread that does the work.
Listen = Callable[[News], None]


def ignore(_: News) -> None:
    """Hear nothing: for work that nobody watches."""
