"""Vectors of captions that any model made, joined with the captions that they are of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from indexer.arrays import Float32, Integers
from indexer.errors import SoundalikeError
from indexer.library.tables import whole_number
from search.datasets.captions import Captioned
from search.datasets.embedded import read_embedded

#: Where a caption has no vector.
NO_VECTOR = -1


class TextVectors:
    """Vectors by the id of a caption, or of its sound.

    A caption is called `{file_id}#{what the table calls it}`, see `names_of`, or by that alone if
    the table has a name for it: an audiocap_id. The number of a line is no name: every table has
    a first line.

    Attributes:
        source: Where they are from, for errors.
        vectors: (n, d) float32.
    """

    def __init__(
        self, ids: Sequence[str], vectors: npt.NDArray[np.floating], source: str = "the vectors"
    ) -> None:
        """Take n ids, and (n, d) vectors."""
        self.source, self.vectors = source, np.asarray(vectors, np.float32)
        self._rows: dict[str, list[int]] = defaultdict(list)
        for row, one in enumerate(ids):
            self._rows[whole_number(one)].append(row)  # called as captions of tables are

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file of them, as `read_embedded` does.

        Raises:
            SoundalikeError: If it cannot be read.
        """
        embedded = read_embedded(path)
        return cls(embedded.ids, embedded.vectors, str(path))

    @property
    def example(self) -> str:
        """The first of the ids."""
        return next(iter(self._rows))

    def of_captions(self, sounds: Sequence[Captioned]) -> list[Integers]:
        """Return the row of each caption of some sounds, `NO_VECTOR` where there is none.

        Raises:
            SoundalikeError: If one has two vectors, or a vector may be of two captions: it cannot
                be told which is meant.
        """
        texts: dict[str, tuple[str, str]] = {}
        found = []
        for one in sounds:
            rows = []
            for full, short, text in zip(names_of(one), one.caption_ids, one.captions, strict=True):
                key = full if full in self._rows else short
                if key not in self._rows:
                    rows.append(NO_VECTOR)
                    continue
                is_named = key == full or short in one.audiocap_ids
                if not is_named or texts.setdefault(key, (full, text)) != (full, text):
                    raise SoundalikeError(
                        f"{self.source}: {key} may be the id of several captions; call one {full}, "
                        f"and so on"
                    )
                rows.append(self._only_row(key))
            found.append(np.array(rows, np.int64))
        return found

    def of_sound(self, captioned: Captioned) -> Integers:
        """Return the rows that have the id of a sound: its captions, as many as there are."""
        return np.array(self._rows.get(captioned.file_id, []), np.int64)

    def take(self, rows: Integers) -> Float32:
        """Return (len(rows), d) float32."""
        return self.vectors[rows]

    def _only_row(self, key: str) -> int:
        rows = self._rows[key]
        if len(rows) > 1:
            raise SoundalikeError(
                f"{self.source}: the id {key} comes {len(rows)} times; give each caption one vector"
            )
        return rows[0]


def names_of(captioned: Captioned) -> Iterator[str]:
    """Yield what captions of a sound are called: never a number, which pandas would read as one."""
    for caption_id in captioned.caption_ids:
        is_said = caption_id.startswith(f"{captioned.file_id}#")
        yield caption_id if is_said else f"{captioned.file_id}#{caption_id}"
