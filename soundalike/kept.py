"""What is kept open between two questions: the index, and the network."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from indexer.model.known import recall_weights
from indexer.progress import LOADING, Listen, ignore
from indexer.run.config import Settings
from indexer.run.prepare import prepare, reopen
from indexer.store.reader import Store
from search.asking.example import Example, find_stored, recording_of
from search.asking.sound_index import SoundIndex

if TYPE_CHECKING:  # torch takes seconds to import; what is stored is asked without it
    from indexer.embedding.extractor import Extractor
    from search.asking.embed import Clip


class Kept:
    """The index of some stores and the network that they were made with; threads share them.

    Attributes:
        paths: Folders of the stores.
        settings: Checkpoint, device and precision.
        listen: Hears that the network is loaded, and how far a download is.
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

    def prepare(self, settings: Settings) -> Store:
        """Open the first store, or create it, if its embeddings are made as the settings say.

        The network is loaded only where nothing else can tell, or a store is to be created.
        """
        with self._loading:
            store = reopen(self.paths[0], settings)
            if store is None:
                store, self._extractor = prepare(self.paths[0], settings, self.listen)
            return store

    def load(self, store: Store) -> Extractor:
        """Return the network that a store was made with; it is loaded once."""
        with self._loading:
            extractor, identity = self._extractor, store.identity
            if (
                extractor is None
                or extractor.identity(identity.geometry, identity.channel) != identity
            ):
                self._extractor = None  # two need not be in memory
                extractor = self._load(store)
                self._extractor = extractor
            return extractor

    def _load(self, store: Store) -> Extractor:
        how = self.settings
        self.listen(LOADING)
        from search.asking.embed import extractor_for  # noqa: PLC0415 - it imports PyTorch

        return extractor_for(store, how.checkpoint, how.device, how.precision, self.listen)

    def embed(
        self, store: Store, file: Path, start_s: float = 0.0, duration_s: float | None = None
    ) -> Clip:
        """Listen to a file, or a span of it, as the store's recordings were listened to."""
        return self._listen_to(store, file, recording_of(file), (start_s, duration_s), self.listen)

    def hear(
        self,
        index: SoundIndex,
        file: Path,
        start_s: float = 0.0,
        duration_s: float | None = None,
        listen: Listen = ignore,
    ) -> Example:
        """Make an example of a file, or a span of it; a listener hears how far that is.

        Of a whole file that is stored, what is stored is taken, and the network is not loaded.
        """
        recording_id, span = index.recording_of(recording_of(file)), (start_s, duration_s)
        if span == (0.0, None) and self._asks_with_own(index):
            stored = find_stored(index, recording_id)
            if stored is not None:
                return stored
        return self._listen_to(index.stores[0], file, recording_id, span, listen).example

    def _listen_to(
        self,
        store: Store,
        file: Path,
        recording_id: bytes,
        span: tuple[float, float | None],
        listen: Listen,
    ) -> Clip:
        extractor = self.load(store)
        from search.asking.embed import embed_clip  # noqa: PLC0415 - it imports PyTorch

        return embed_clip(file, extractor, store.identity, *span, recording_id, listen)

    def _asks_with_own(self, index: SoundIndex) -> bool:
        """Whether the checkpoint that was asked for is, by all that is known, the stores'."""
        asked = self.settings.checkpoint
        return asked is None or recall_weights(asked) == index.identity.weights
