"""Where recordings of a store are today, and the audio of their windows once more."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc

from indexer.arrays import Ids, contains, ids_from_column
from indexer.audio.content import recording_digest
from indexer.audio.stream import open_audio
from indexer.errors import AudioError
from indexer.paths import local_path
from indexer.store.reader import Store
from indexer.store.schema import Identity
from indexer.windows import Cut, Window


class Found(NamedTuple):
    """A file that holds a recording.

    Attributes:
        path: None if there is none.
        has_changed: Whether there is none, and some file that held it has other content now.
        first_sample: Where its audio began on the time line of the store's windows, at 32 kHz.
    """

    path: Path | None
    has_changed: bool
    first_sample: int = 0


class RecordedFiles:
    """Where recordings are today; each file is read once.

    A file holds a recording if its bytes are the recording's, or those that the ledger says.
    """

    def __init__(self, store: Store, recordings: Ids) -> None:
        """Prepare to look.

        Args:
            store: Whose ledger says where recordings were.
            recordings: Which are to be looked for: sorted 16-byte ids.
        """
        self._files = _live_files(store, recordings)
        self._known: dict[bytes, Found] = {}

    def holding(self, recording_id: bytes) -> Found:
        """Return a file whose content is the recording's, by the digest of its bytes."""
        if recording_id not in self._known:
            self._known[recording_id] = self._look(recording_id)
        return self._known[recording_id]

    def _look(self, recording_id: bytes) -> Found:
        has_changed = False
        for path, digest, first_sample in self._files.get(recording_id, []):
            try:
                if recording_digest(path) in (digest, recording_id):
                    return Found(path, has_changed=False, first_sample=first_sample)
            except AudioError as error:
                has_changed |= error.stage != "access"  # an empty file, or a folder
            else:
                has_changed = True
        return Found(None, has_changed)


class _Place(NamedTuple):
    """A file that held a recording: the digest of its bytes, and where the audio began in it."""

    path: Path
    digest: bytes
    first_sample: int


def _live_files(store: Store, recordings: Ids) -> dict[bytes, list[_Place]]:
    """Return recording → the files that held it when they were last read."""
    rows = store.latest_files(
        ("recording_id", "library_id", "path", "status", "first_sample", "file_digest")
    )
    present = rows.filter(pc.equal(rows["status"], "ok"))
    wanted = present.filter(contains(recordings, ids_from_column(present["recording_id"])))
    roots = store.libraries()
    files: dict[bytes, list[_Place]] = {}
    for row in wanted.to_pylist():
        if row["library_id"] in roots:
            path = roots[row["library_id"]] / local_path(row["path"])
            digest = row["file_digest"] or row["recording_id"]
            place = _Place(path, digest, row["first_sample"] or 0)
            files.setdefault(row["recording_id"], []).append(place)
    return files


def decode_window(
    path: Path, window: Window, identity: Identity, first_sample: int
) -> tuple[Cut, str]:
    """Return a window as it was cut, and the codec of its file.

    Args:
        path: A file that holds the window's recording.
        window: Of it.
        identity: Of the store.
        first_sample: Where the store has the beginning of the audio: stores that were made before
            late beginnings were heeded have it at 0.

    Raises:
        AudioError: If it cannot be decoded, or is not as long as it was.
    """
    with open_audio(
        path,
        start_sample=window.start_sample,
        num_samples=window.num_samples,
        max_duration_s=math.inf,  # the store may have been made with a greater limit than usual
        channel=identity.channel,
        spares_bad=True,
        first_sample=first_sample,
    ) as audio:
        cuts = list(audio.windows(identity.geometry))
    if audio.num_samples != window.num_samples:
        raise AudioError(
            "decode", f"{audio.num_samples} samples at 32 kHz, not {window.num_samples}"
        )
    return cuts[0], audio.info.codec
