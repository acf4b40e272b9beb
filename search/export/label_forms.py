"""Labels as Audacity and Raven read them: from when to when in a file, and what is there."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from indexer.paths import printable

#: Upper edge of the box that Raven draws: what the network hears ends here, in Hz.
_HIGH_HZ = 14_000
#: Columns that every selection table has.
_BOX = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
    *("Low Freq (Hz)", "High Freq (Hz)"),
)


class Label(NamedTuple):
    """One of a file.

    Attributes:
        start_s: Where it begins in the file, in seconds.
        end_s: Where it ends.
        values: What is there: in a label track one text, in a selection table a column each.
    """

    start_s: float
    end_s: float
    values: Sequence[str]


def audacity_text(labels: Iterable[Label]) -> str:
    """Return a label track: a line for each label, with start, end and text between tabs."""
    return "".join(
        f"{one.start_s:.3f}\t{one.end_s:.3f}\t{' '.join(_cells(one))}\n" for one in labels
    )


def raven_text(labels: Iterable[Label], columns: Sequence[str]) -> str:
    """Return a selection table: the columns that Raven draws by, and some of one's own.

    Args:
        labels: In the order in which they are numbered.
        columns: Names for the values of each.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    writer.writerow((*_BOX, *columns))
    for number, one in enumerate(labels, start=1):
        times = (f"{one.start_s:.3f}", f"{one.end_s:.3f}")
        writer.writerow((number, "Spectrogram 1", 1, *times, 0, _HIGH_HZ, *_cells(one)))
    return buffer.getvalue()


def _cells(label: Label) -> list[str]:
    """Return what is there as text without tabs, line ends or other control characters."""
    return [printable(value) for value in label.values]
