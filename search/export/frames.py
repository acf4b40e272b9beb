"""Frame embeddings of a store; of one that keeps none, from the audio once more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from indexer.arrays import Integers, id_bytes
from indexer.embedding.extractor import Extractor
from indexer.errors import AudioError, SoundalikeError
from indexer.model.known import name_now
from indexer.reading.recorded import RecordedFiles, decode_window
from indexer.store.reader import Store
from indexer.store.snapshot import Snapshot
from search.generation.frames import pooled

Frames = npt.NDArray[np.floating]


class StoredFrames:
    """Reads what the store has."""

    def __init__(self, store: Store, snapshot: Snapshot) -> None:
        """Check that there is something to read.

        Raises:
            SoundalikeError: If the store keeps no frames.
        """
        if store.identity.frames == "none":
            raise SoundalikeError(
                f"{store.path} has no frame embeddings, and they say when a tag is heard; they "
                f"can be computed again from the audio",
                about="recompute",
            )
        self._snapshot = snapshot

    def __call__(self, rows: Integers) -> Sequence[Frames]:
        """Return (T, 768) of each row, averaged over frequency."""
        return [pooled(one) for one in self._snapshot.frames(rows)]


class RecomputedFrames:
    """Embeds the audio again."""

    def __init__(self, store: Store, snapshot: Snapshot, extractor: Extractor) -> None:
        """Prepare.

        Args:
            store: Whose files are looked for where they were when they were last read.
            snapshot: Of it.
            extractor: Of the store's checkpoint, with frames="pooled".

        Raises:
            SoundalikeError: If the extractor is of another checkpoint.
        """
        if extractor.checkpoint.digest != store.identity.weights:
            made_with = name_now(store.checkpoint, store.identity.weights)
            raise SoundalikeError(
                f"{extractor.checkpoint.name} is not the checkpoint of {store.path}, which was "
                f"made with {made_with}",
                about="checkpoint",
                value=made_with,
            )
        self._identity, self._snapshot, self._extractor = store.identity, snapshot, extractor
        self._files = RecordedFiles(store, np.unique(snapshot.windows.recording_id))

    def __call__(self, rows: Integers) -> Sequence[Frames]:
        """Return (T, 768) of each row, averaged over frequency.

        Raises:
            SoundalikeError: If the audio is no longer there, has changed, or cannot be decoded, or
                an embedding is not finite.
        """
        return [self._frames(int(row)) for row in rows]

    def _frames(self, row: int) -> Frames:
        window = self._snapshot.windows.window(row)
        found = self._files.holding(id_bytes(window.recording_id))
        if found.path is None:
            raise SoundalikeError(
                f"the audio of window {window.window_id} is not where it was, or has changed; "
                f"index its library again"
            )
        try:
            cut, _ = decode_window(found.path, window, self._identity, found.first_sample)
        except AudioError as error:
            raise SoundalikeError(
                f"{found.path} cannot be decoded again: {error.reason}"
            ) from error
        embeddings = self._extractor.embed_cut(cut)
        try:
            peak = float(np.abs(cut.waveform).max())
            embeddings.require_finite(peak if peak > 1 else 0.0)
        except AudioError as error:
            raise SoundalikeError(f"{found.path} cannot be embedded again: {error}") from error
        assert embeddings.frames is not None
        heard: Frames = embeddings.frames[0]
        return heard
