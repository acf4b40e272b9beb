"""Where recordings of a store are today, and the audio of their windows once more."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import pyarrow.compute as pc

from indexer.arrays import Ids, contains, ids_from_column
from indexer.audio.file import recording_digest
from indexer.audio.stream import open_audio
from indexer.errors import AudioError
from indexer.paths import local_path
from indexer.store.reader import Store
from indexer.store.schema import Identity
from indexer.windows import Samples, Window


class Found(NamedTuple):
    """A file that holds a recording, or whether some file that held it has other content now."""

    path: Path | None
    has_changed: bool


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
        self._paths = _live_paths(store, recordings)
        self._known: dict[bytes, Found] = {}

    def holding(self, recording_id: bytes) -> Found:
        """Return a file whose content is the recording's, by the digest of its bytes."""
        if recording_id not in self._known:
            self._known[recording_id] = self._look(recording_id)
        return self._known[recording_id]

    def _look(self, recording_id: bytes) -> Found:
        has_changed = False
        for path, own_digest in self._paths.get(recording_id, []):
            try:
                if recording_digest(path) in (recording_id, own_digest):
                    return Found(path, has_changed=False)
            except AudioError as error:
                has_changed |= error.stage != "access"  # an empty file, or a folder
            else:
                has_changed = True
        return Found(None, has_changed)


def _live_paths(store: Store, recordings: Ids) -> dict[bytes, list[tuple[Path, bytes | None]]]:
    """Return recording → the files that held it when they were last read.

    With each the digest of its bytes, if it was another than the recording's.
    """
    rows = store.latest_files(("recording_id", "library_id", "path", "status", "file_digest"))
    present = rows.filter(pc.equal(rows["status"], "ok"))
    wanted = present.filter(contains(recordings, ids_from_column(present["recording_id"])))
    roots = store.libraries()
    paths: dict[bytes, list[tuple[Path, bytes | None]]] = {}
    for row in wanted.to_pylist():
        if row["library_id"] in roots:
            path = roots[row["library_id"]] / local_path(row["path"])
            paths.setdefault(row["recording_id"], []).append((path, row["file_digest"]))
    return paths


def decode_window(path: Path, window: Window, identity: Identity) -> tuple[Samples, str]:
    """Return a window's waveform as the network was given it, and the codec of its file.

    Args:
        path: A file that holds the window's recording.
        window: Of it.
        identity: Of the store.

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
    ) as audio:
        cuts = list(audio.windows(identity.geometry))
    if audio.num_samples != window.num_samples:
        raise AudioError(
            "decode", f"{audio.num_samples} samples at 32 kHz, not {window.num_samples}"
        )
    return cuts[0].waveform, audio.info.codec
