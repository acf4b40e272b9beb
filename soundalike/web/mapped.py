"""The map as a server has it: the last one that was drawn, and the parts of it that are kept."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from indexer.arrays import Integers
from search.asking.shades import By, Shades
from search.map.drawing import Map
from search.map.inside import lie_inside
from search.map.kept import as_kept
from soundalike.sounds import Sounds
from soundalike.web.bodies import Selecting
from soundalike.web.gate import Gate
from soundalike.web.gone import NotThereError
from soundalike.web.limits import Limits

_BYTES_EACH = 8


class Drawn(NamedTuple):
    """A map, and what it is asked for by."""

    key: str
    map: Map


class Selection(NamedTuple):
    """A part of a map.

    Attributes:
        name: What filters name it by, as a tag.
        num_windows: How many are in it.
    """

    name: str
    num_windows: int


class MapDesk:
    """The map of some stores; threads share it."""

    def __init__(self, sounds: Sounds, limits: Limits) -> None:
        """Begin without a map."""
        self._sounds, self._limits = sounds, limits
        # The first drawing may take a minute: one draws, one waits, and others are to come again.
        self._drawing = Gate(at_once=1, most_waiting=1, retry_s=5)
        self._colouring = Gate(at_once=1, most_waiting=8, retry_s=1)
        self._lock = threading.Lock()
        self._last: Drawn | None = None
        self._kept: OrderedDict[str, tuple[Selection, float]] = OrderedDict()  # last asked for

    def draw(self) -> Drawn:
        """Return the map with all windows that are there now; it is drawn if there is none.

        Raises:
            What `Sounds.map` does.
            BusyError: If others wait for it already.
        """
        with self._drawing.passing():
            found = self._sounds.map()
            digest = hashlib.blake2b(found.window_ids.tobytes(), digest_size=16)
            digest.update(found.xy.tobytes())
            self._last = Drawn(digest.hexdigest(), found)
            return self._last

    def last(self, key: str) -> Map:
        """Return the map that was asked for last.

        Raises:
            NotThereError: If it is another one than that of the key.
        """
        last = self._last
        if last is None or last.key != key:
            raise NotThereError("the map has changed since: open it again")
        return last.map

    def points(self, key: str) -> bytes:
        """Return window ids (8 bytes each), x, y (2 each, 65,535 is 1) and regions (1 each).

        Little-endian, one column after the other, ids ascending.

        Raises:
            What `last` does.
        """
        found = self.last(key)
        x, y = as_kept(found.xy).astype("<u2").T
        columns = (found.window_ids.astype("<u8"), x, y, found.cluster.astype("u1"))
        return b"".join(one.tobytes() for one in columns)

    def shades(self, key: str, by: By, tag: str | None) -> Shades:
        """Return what points are coloured by.

        Raises:
            What `last` and `Sounds.shades` do.
            BusyError: If too many wait.
        """
        found = self.last(key)
        with self._colouring.passing():
            return self._sounds.shades(found, by, tag)

    # --- parts -----------------------------------------------------------------------------------

    def select(self, asked: Selecting) -> Selection:
        """Keep the windows of a part of the map for a while, so that filters can name it.

        Raises:
            What `last` does.
            BusyError: If too many wait.
        """
        found = self.last(asked.key)
        with self._colouring.passing():
            if asked.polygon is None:
                inside = found.cluster == asked.region
            else:
                inside = lie_inside(found.xy, np.array(asked.polygon, np.float64))
        return self._keep(found.window_ids[inside])

    def selection(self, name: str) -> Selection:
        """Return a part that is kept.

        Raises:
            NotThereError: If it is not, or not any more.
        """
        with self._lock:
            self._forget()
            if name not in self._kept:
                raise NotThereError(
                    "that part of the map is not kept any more, or never was: draw it again"
                )
            selection, _ = self._kept.pop(name)
            self._kept[name] = selection, time.monotonic()
            return selection

    def _keep(self, window_ids: Integers) -> Selection:
        selection = Selection(self._sounds.select(window_ids), len(window_ids))
        with self._lock:
            self._kept[selection.name] = selection, time.monotonic()
            self._forget()
        return selection

    def _forget(self) -> None:
        """Forget what nobody asked for any more, and the oldest of too many; never the last."""
        now, limits = time.monotonic(), self._limits
        held = sum(one.num_windows * _BYTES_EACH for one, _ in self._kept.values())
        for name, (selection, asked_at) in list(self._kept.items()):
            is_full = len(self._kept) > limits.selections or held > limits.selected_bytes
            if now - asked_at <= limits.kept_s and not (is_full and len(self._kept) > 1):
                break
            del self._kept[name]
            self._sounds.unselect(name)
            held -= selection.num_windows * _BYTES_EACH
