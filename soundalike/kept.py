"""What is kept open between two questions: the index, and the network."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.progress import Listen
from indexer.run.config import Settings
from indexer.store.reader import Store
from search.asking.sound_index import SoundIndex

if TYPE_CHECKING:  # torch takes seconds to import; what is stored is asked without it
    from indexer.embedding.extractor import Extractor
    from search.asking.embed import Clip


class Kept:
    """The index of some stores and the network that they were made with; threads share them.

    Attributes:
        paths: Folders of the stores.
        settings: Checkpoint, device and precision.
        listen: Hears how far a download is.
    """

    def __init__(self, paths: Sequence[Path], settings: Settings, listen: Listen) -> None:
        self.paths, self.settings, self.listen = tuple(paths), settings, listen
        self._opening, self._loading = threading.Lock(), threading.Lock()
        self._index: SoundIndex | None = None
        self._extractor: Extractor | None = None

    def open_newest(self) -> SoundIndex:
        """Return the stores at their newest generation, opened anew if there is a newer one."""
        with self._opening:
            if self._index is None or not self._index.is_newest:
                self._index = SoundIndex.open(*self.paths)
            return self._index

    def store(self) -> Store:
        """Return the first store, which tells how all were made."""
        return Store.open(self.paths[0])

    def prepare(self, path: Path, settings: Settings) -> tuple[Store, Extractor]:
        """Open the store at a path, or create it; keep the network that its embeddings need."""
        from indexer.run.prepare import prepare  # noqa: PLC0415 - it imports torch

        with self._loading:
            store, self._extractor = prepare(path, settings, self.listen)
            return store, self._extractor

    def load(self, store: Store) -> Extractor:
        """Return the network that a store was made with; it is loaded once."""
        from search.asking.embed import extractor_for  # noqa: PLC0415 - it imports torch

        with self._loading:
            extractor, identity = self._extractor, store.identity
            if extractor is None or extractor.identity(identity.geometry) != identity:
                how = self.settings
                extractor = extractor_for(
                    store, how.checkpoint, how.device, how.precision, self.listen
                )
                self._extractor = extractor
            return extractor

    def embed(
        self, store: Store, file: Path, start_s: float = 0.0, duration_s: float | None = None
    ) -> Clip:
        """Listen to a file, or a span of it, as the store's recordings were listened to."""
        from search.asking.embed import embed_clip  # noqa: PLC0415 - it imports torch

        return embed_clip(file, self.load(store), store.identity, start_s, duration_s)
