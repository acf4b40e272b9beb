"""An example clip as a question sees it, and what tells that a store has heard it before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from indexer.arrays import Float16, Float32
from indexer.audio.content import recording_digest
from indexer.audio.file import asked_with
from indexer.errors import QueryError
from indexer.windows import Window
from search.asking.sound_index import SoundIndex

#: What cannot be read is told of so many files.
_SHOWN = 3


def recording_of(file: Path) -> bytes:
    """Return the digest of a file's bytes, which is the id of its recording.

    Raises:
        QueryError: If the file is not there or cannot be read.
    """
    with asked_with(file):
        return recording_digest(file)


def nothing_heard(failures: Sequence[str]) -> QueryError:
    """Return the error for a question whose files can all not be read.

    Args:
        failures: A line for each of them.
    """
    if len(failures) == 1:
        return QueryError(failures[0])
    more = f"; and {len(failures) - _SHOWN:,} more" if len(failures) > _SHOWN else ""
    return QueryError(
        f"none of {len(failures):,} that ask can be read: {'; '.join(failures[:_SHOWN])}{more}"
    )


class Example(NamedTuple):
    """What an audio file asks with.

    Attributes:
        vectors: (n, 768) float32 of length 1, one for each of its windows.
        recording_id: Digest of the file's bytes, so that the same recording can be left out.
        windows: Where each of them is in the file.
        tags: (n, 527) probabilities of what is heard in each.
    """

    vectors: Float32
    recording_id: bytes
    windows: list[Window]
    tags: Float16 | Float32


def find_stored(index: SoundIndex, recording_id: bytes) -> Example | None:
    """Return a recording as an example, if a store holds the whole of it: nothing is embedded then.

    Args:
        index: The stores.
        recording_id: Of the recording.
    """
    stored = index.whole_recording(recording_id)
    return None if stored is None else Example(stored[0], recording_id, *stored[1:])
