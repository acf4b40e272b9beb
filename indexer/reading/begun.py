"""A file while it is read: whether it is still the one that was found."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from indexer.audio.content import may_change, state_of
from indexer.audio.packs.held import Mark, pack_mark
from indexer.errors import AudioError
from indexer.library.files import FoundFile


class Begun(NamedTuple):
    """A file that is read, and what the pack that it is in was like when that began.

    A member says its own date, which whoever writes its pack anew may leave as it is.
    """

    path: Path
    file: FoundFile
    pack: Mark | None

    @classmethod
    def of(cls, path: Path, file: FoundFile) -> Begun:
        """Look at a file before anything of it is read."""
        try:
            return cls(path, file, pack_mark(path))
        except OSError:  # for who reads it to report
            return cls(path, file, None)

    def require_unchanged(self) -> None:
        """Raise an AudioError unless it is as it was when it was found, and begun."""
        if not may_change(self.path):
            return
        try:
            state, pack = state_of(self.path), pack_mark(self.path)
        except OSError as error:
            raise AudioError("access", "the file vanished while it was read") from error
        if (*state, pack) != (self.file.size, self.file.mtime_ns, self.pack):
            raise AudioError("access", "the file changed while it was read; run again")

    def disturbance(self) -> AudioError | None:
        """Return what happened to it while it was read, if that may be why it failed."""
        try:
            self.require_unchanged()
        except AudioError as error:
            # Otherwise it could not be reached when it was found, either.
            return error if self.file.size or self.file.mtime_ns else None
        return None
