"""The places where a generation's recordings are, as columns."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexer.arrays import Mask, ids_from_column
from indexer.paths import text_from_bytes
from search.generation.segments import Recordings


class Places:
    """The places of recordings: those of one recording one after the other.

    Attributes:
        paths: (num_places,) text, relative to the library, as stored.
        libraries: (num_places,) text: last known root of the library; null if there is none.
        starts: (num_recordings,) first place of each recording.
    """

    def __init__(self, recordings: Recordings, roots: Mapping[str, Path]) -> None:
        """Read the places.

        Args:
            recordings: Where the recordings are.
            roots: library_id → its last known root.
        """
        table = recordings.table
        self.paths: pa.Array = table["path"].combine_chunks()
        known = pa.array(roots, pa.string())
        texts = pa.array([text_from_bytes(os.fsencode(root)) for root in roots.values()], "string")
        self.libraries: pa.Array = texts.take(
            pc.index_in(table["library_id"].combine_chunks(), value_set=known)
        )
        ids = ids_from_column(table["recording_id"])
        self.starts = np.flatnonzero(np.append(np.ones(len(ids[:1]), bool), ids[1:] != ids[:-1]))

    def __len__(self) -> int:
        return len(self.paths)

    def absolute_paths(self) -> pa.Array:
        """Return (num_places,) absolute paths as text; null where the root is not known."""
        roots = pc.utf8_rtrim(self.libraries, "/")
        return pc.binary_join_element_wise(roots, self.paths, "/")

    def anywhere(self, mask: Mask) -> Mask:
        """Return (num_places,) what holds at any place of the same recording."""
        if not len(self):
            return mask
        counts = np.diff(np.append(self.starts, len(self)))
        return np.repeat(np.logical_or.reduceat(mask, self.starts), counts)
