"""Sounds that a page has sent: kept in a temporary folder, for a while, and so many at most."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import IO, NamedTuple

from indexer.errors import AudioError
from indexer.paths import printable
from indexer.reading.apart import Apart, Survey
from soundalike.web.gate import Gate
from soundalike.web.limits import Limits

#: Pairs of least and greatest samples that a waveform is drawn of, at most.
_NUM_PEAKS = 1000
#: Characters of a name that are kept.
_LONGEST_NAME = 200


class Upload(NamedTuple):
    """A sound that was sent.

    Attributes:
        id: What it is asked for by.
        path: Where it is.
        name: What it was called.
        survey: What is in it.
    """

    id: str
    path: Path
    name: str
    survey: Survey


class Uploads:
    """The sounds that were sent; threads share them."""

    def __init__(self, folder: Path, apart: Apart, decoding: Gate, limits: Limits) -> None:
        """Keep them in a folder of one's own."""
        self._folder, self._apart, self._limits = folder, apart, limits
        self._decoding = decoding
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Upload, float]] = OrderedDict()  # last asked for

    def add(self, file: IO[bytes], name: str) -> Upload:
        """Keep a sound, once it was decoded from beginning to end.

        Raises:
            AudioError: If it cannot be decoded, or is too long.
            BusyError: If too many wait.
        """
        number = secrets.token_urlsafe(12)
        path = self._folder / number
        try:
            self._folder.mkdir(parents=True, exist_ok=True)  # somebody may have cleaned up
            with path.open("xb") as out:
                shutil.copyfileobj(file, out)
            with self._decoding.passing():
                survey = self._apart.survey(path, _NUM_PEAKS, self._limits.upload_s)
        except AudioError as error:
            path.unlink()
            raise AudioError(error.stage, f"{_shown(name)}: {error.reason}") from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        upload = Upload(number, path, _shown(name), survey)
        with self._lock:
            self._kept[number] = upload, time.monotonic()
            self._forget()
        return upload

    def get(self, number: str) -> Upload:
        """Return a sound that is kept.

        Raises:
            KeyError: If it is not, or not any more.
        """
        with self._lock:
            self._forget()
            upload, _ = self._kept.pop(number)
            self._kept[number] = upload, time.monotonic()
            return upload

    def _forget(self) -> None:
        """Delete what nobody asked for any more, and the oldest of too many."""
        now = time.monotonic()
        for number, (upload, asked_at) in list(self._kept.items()):
            is_old = now - asked_at > self._limits.kept_s
            if not is_old and len(self._kept) <= self._limits.uploads:
                break
            del self._kept[number]
            upload.path.unlink(missing_ok=True)


def _shown(name: str) -> str:
    """Return the last part of a name, as it can be shown anywhere."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    shown = printable(last)[:_LONGEST_NAME]
    return "sound" if shown in ("", ".", "..") else shown
