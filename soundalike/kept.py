"""What is kept open between two questions: the index, and the network."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexer.arrays import Float32
from indexer.audio.times import FileSpan
from indexer.errors import CheckpointError, SoundalikeError, SoundalikeWarning
from indexer.model.known import recall_weights
from indexer.progress import LOADING, Listen, ignore
from indexer.reading.apart import Apart
from indexer.run.config import Settings
from indexer.run.prepare import check_place, prepare, reopen
from indexer.store.own import Own
from indexer.store.reader import Store
from indexer.store.schema import EMBEDDING_DIM
from search.asking.example import Example, find_stored, recording_of
from search.asking.levels import is_quiet
from search.asking.sound_index import SoundIndex
from search.asking.worded import as_projected
from search.filters.computed import ComputedTerm
from search.filters.tags import SELECTED_PREFIX, Learned
from search.learned.tags import Stamps, read_all, stamps
from search.projection.kept import choose, read, stamp
from search.projection.projecting import Projection

if TYPE_CHECKING:  # torch takes seconds to import; what is stored is asked without it
    from indexer.embedding.extractor import Extractor
    from search.asking.clip import Clip
    from soundalike.spread import Spread


class Kept:
    """The index of some stores and the network that they were made with; threads share them.

    Attributes:
        paths: Folders of the stores.
        settings: Checkpoint, device and precision.
        listen: Hears that the network is loaded, and how far a download is.
        apart: Decodes what asks in another process; None for this one.
        selected: Windows that were selected, by their names with the prefix.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        settings: Settings,
        listen: Listen,
        apart: Apart | None = None,
        spread: Spread | None = None,
    ) -> None:
        self.paths, self.settings, self.listen = tuple(paths), settings, listen
        self.apart, self._spread = apart, spread
        self._opening, self._loading = threading.Lock(), threading.Lock()
        self._projecting = threading.Lock()  # may take minutes, and clips need not wait for words
        self._reading_learned = threading.Lock()
        self._index: SoundIndex | None = None
        self._projection: tuple[tuple[str, tuple[int, int, int]], Projection] | None = None
        self._projected: tuple[SoundIndex, Projection, SoundIndex] | None = None
        self._learned: tuple[Stamps, Learned] | None = None
        self.selected: dict[str, ComputedTerm] = {}
        self._extractor: Extractor | None = None

    def open_newest(self) -> SoundIndex:
        """Return the stores at their newest generation, opened anew if there is a newer one."""
        with self._opening:
            if self._index is None or not self._index.is_newest:
                index = SoundIndex.open(*self.paths)
                self._index = self._spread.over(index) if self._spread else index
            return self._index

    @contextmanager
    def holding(self) -> Iterator[SoundIndex]:
        """Yield the newest generation; its parts stay on disk meanwhile, whatever replaces them."""
        index = self._index
        stores = index.stores if index else [Store.open(path) for path in self.paths]
        holds = [store.hold() for store in stores]  # before it is known which parts those are
        try:
            yield self.open_newest()
        finally:
            holds.clear()

    def projection(self, own: Own, name: str | None) -> Projection:
        """Return a projection by its name; it is read again where its file was replaced."""
        chosen = choose(own, name, self.paths[0])
        asked = chosen, stamp(own, chosen)
        with self._projecting:
            if self._projection is None or self._projection[0] != asked:
                self._projection = asked, read(own, chosen)
            return self._projection[1]

    def project(self, index: SoundIndex, projection: Projection, own: Own) -> SoundIndex:
        """Return what is open as a projection sees it, see `as_projected`; it is kept."""
        with self._projecting:
            kept = self._projected
            if kept is None or kept[0] is not index or kept[1] is not projection:
                seen = as_projected(index, projection, own, self.listen)
                self._projected = kept = index, projection, seen
            return kept[2]

    def learned(self, own: Own) -> Learned:
        """Return the tags that were learned, as filters take them; read again where one was."""
        asked = stamps(own)
        with self._reading_learned:
            if self._learned is None or self._learned[0] != asked:
                tags = read_all(own, self.store())
                # What a tag rests on is no part of a filter, which goes to each shard.
                bare = {name: replace(tag, told={}, held_back={}) for name, tag in tags.items()}
                self._learned = asked, {name: ComputedTerm(tag) for name, tag in bare.items()}
                self._forget_columns({SELECTED_PREFIX, *(tag.name for tag in tags.values())})
            return self._learned[1]

    def _forget_columns(self, names: Set[str]) -> None:
        """Forget what was computed of rows but for some names: of tags that are learned no more."""
        for segment in self._index.segments if self._index else ():
            for name in list(segment.derived):  # others may compute some meanwhile
                if name not in names:
                    segment.derived.pop(name, None)

    def store(self) -> Store:
        """Return the first store, which tells how all were made."""
        return Store.open(self.paths[0])

    def check_place(self, settings: Settings, stage: Path | None = None) -> None:
        """Raise unless the first store can be written to, or made, as the settings say.

        With a stage, it is that which has to be written to, if the store is there.
        """
        check_place(self.paths[0], settings, stage)

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

    def embed(self, store: Store, asked: FileSpan, *, level: bool = False) -> Clip:
        """Listen to a file, or a span of it, as the store's recordings were listened to."""
        return self._listen_to(store, asked, recording_of(asked.file), self.listen, level=level)

    def hear(
        self, index: SoundIndex, asked: FileSpan, listen: Listen = ignore, *, level: bool = False
    ) -> Example:
        """Make an example of a file, or a span of it; a listener hears how far that is.

        Of a whole file that is stored, what is stored is taken, and the network is not loaded.
        With `level`, one that is quiet asks at full scale as well, unless the stores bring all to
        one loudness; that takes the network. If it is stored and the network is not there, it asks
        as it is, and there is a warning.
        """
        level &= index.identity.level == "off"
        recording_id = index.recording_of(recording_of(asked.file))
        if asked.is_whole and self._asks_with_own(index):
            stored = find_stored(index, recording_id)
            if stored and not (level and is_quiet(stored.levels_db) and self._can_listen(asked)):
                return stored
        heard = self._listen_to(index.stores[0], asked, recording_id, listen, level=level)
        recording_id = index.recording_with(recording_id, heard.audio_id)
        return heard.example._replace(recording_id=recording_id)

    def _can_listen(self, asked: FileSpan) -> bool:
        """Whether the stores' network is there; if not, a warning says what goes without it."""
        try:
            self.load(self.store())
        except CheckpointError as error:
            told = f"{asked.file.name} is quiet, and asked no louder: {error}"
            warnings.warn(SoundalikeWarning(told, error.about, error.value), stacklevel=2)
            return False
        return True

    def silence(self) -> Float32:
        """Return (n, 768) vectors of length 1: what the network makes of silence.

        Without the network there is a warning, and a vector of zeros, which is like nothing.
        """
        store = self.store()
        try:
            extractor = self.load(store)
        except SoundalikeError as error:
            told = SoundalikeWarning(f"silence counts as any other sound: {error}")
            warnings.warn(told, stacklevel=2)
            return np.zeros((1, EMBEDDING_DIM), np.float32)
        from search.asking.embed import embed_silence  # noqa: PLC0415 - it imports PyTorch

        return embed_silence(extractor, store.identity.geometry)

    def _listen_to(
        self,
        store: Store,
        asked: FileSpan,
        recording_id: bytes,
        listen: Listen,
        *,
        level: bool = False,
    ) -> Clip:
        extractor = self.load(store)
        from search.asking.embed import embed_clip  # noqa: PLC0415 - it imports PyTorch

        how = store.identity, recording_id, listen
        return embed_clip(asked, extractor, *how, level=level, apart=self.apart)

    def _asks_with_own(self, index: SoundIndex) -> bool:
        """Whether the checkpoint that was asked for is, by all that is known, the stores'."""
        asked = self.settings.checkpoint
        return asked is None or recall_weights(asked) == index.identity.weights
