"""Workers for the tests of runs on a cluster: they count what they embed, and meet deadly files.

A file beside the store tells them how to be: they are other processes, and it is all they share.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from indexer.embedding.extractor import Extractor, Timed, Windows
from indexer.reading import dataset
from indexer.run.shard_worker import Plan, ShardWorker

HOW, COUNTS = "how.json", "counts.txt"


class Watched(ShardWorker):
    """A real worker, which says in a file how many windows it embedded, and when."""

    def _load(self) -> Extractor:
        folder = self._plan.store.parent
        how = json.loads((folder / HOW).read_text()) if (folder / HOW).exists() else {}
        loaded = super()._load()
        _beware(how)
        return Counted(loaded, folder / COUNTS, how.get("sleep_s", 0.0))


class OnCpu(Watched):
    """A worker that has been given a GPU which is none."""

    def _load(self) -> Extractor:
        self._plan = replace(self._plan, settings=replace(self._plan.settings, device="cpu"))
        return super()._load()


class HalfBlind(Watched):
    """A worker on a machine that has no such library, if it is the first to begin."""

    def prepare(self, plan: Plan) -> None:
        try:
            (plan.store.parent / "blind").touch(exist_ok=False)
        except FileExistsError:
            super().prepare(plan)
        else:
            super().prepare(replace(plan, root=plan.root / "elsewhere"))


class Counted(Extractor):
    """A real extractor that is as slow as it is told to be."""

    def __init__(self, like: Extractor, file: Path, sleep_s: float) -> None:
        super().__init__(like.checkpoint, device="cpu", frames=like.frames, level=like.level)
        self._file, self._sleep_s = file, sleep_s

    def embed_and_time(self, windows: Windows) -> Timed:
        began = time.time()
        time.sleep(self._sleep_s * len(windows))
        timed = super().embed_and_time(windows)
        with self._file.open("a") as file:
            file.write(f"{os.getpid()} {len(windows)} {began} {time.time()}\n")
        return timed


def counted(folder: Path) -> list[tuple[int, int, float, float]]:
    """Process, windows, begin and end of each batch that was embedded."""
    if not (folder / COUNTS).exists():
        return []
    lines = [line.split() for line in (folder / COUNTS).read_text().splitlines()]
    return [(int(pid), int(n), float(begin), float(end)) for pid, n, begin, end in lines]


def _beware(how: dict[str, Any]) -> None:
    """Let the decoder meet files that kill it, and those that kill the whole worker."""
    real = vars(dataset)["open_audio"]

    def deadly(path: Path, **options: Any) -> Any:
        if path.name in how.get("kills_reader", ()):
            os.kill(os.getpid(), signal.SIGSEGV)
        if path.name in how.get("kills_worker", ()):
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        return real(path, **options)

    if how:
        vars(dataset)["open_audio"] = deadly
