"""A worker of a cluster: embeds shards of a library beside its store, one after the other."""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from indexer.audio.content import state_of
from indexer.errors import LibraryError, SoundalikeError, SoundalikeWarning, StoreError
from indexer.library.files import FileList, FoundFile
from indexer.library.walk import Walk
from indexer.progress import News, Step
from indexer.run.config import ExtractConfig, Settings
from indexer.run.report import ExtractReport
from indexer.store.reader import Store
from indexer.store.schema import STORE_FILE
from indexer.store.stage import Stage

if TYPE_CHECKING:  # it imports PyTorch, which only a worker needs
    from indexer.embedding.extractor import Extractor

#: How often a worker says how far it is.
_TELL_S = 0.5
#: How many files a worker looks for before it believes that it sees the library.
_SAMPLE = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """What all workers of a run know.

    Attributes:
        store: Directory of the store, as every machine sees it.
        staging: Folder in it for what they embed.
        root: Absolute path of the library.
        is_list: Whether a list named its files.
        settings: Checkpoint, device and precision.
        config: How they go about it.
        sample: Some of the files; a machine that has none of them has another library there.
        version: Of the software.
    """

    store: Path
    staging: Path
    root: Path
    is_list: bool
    settings: Settings
    config: ExtractConfig
    sample: tuple[FoundFile, ...]
    version: str


class Told(NamedTuple):
    """A warning of a worker, see `SoundalikeWarning`."""

    message: str
    about: str | None
    value: object


class Outcome(NamedTuple):
    """What a worker says of a shard that is sealed.

    Attributes:
        report: What was done.
        audio_s: Seconds of audio that were gone through, copies included.
        warnings: What a person should know.
    """

    report: ExtractReport
    audio_s: float
    warnings: list[Told]


class ShardWorker:
    """An actor: one process, on one seat, with one network.

    It writes to nothing but the folder of its shard. What becomes part of the store is for the run
    to decide: nobody else knows which of several attempts counts.
    """

    def __init__(self, cores: tuple[int, int], board: Any) -> None:
        """Take a seat.

        Args:
            cores: The first core to use, of those that this process may use, and how many.
            board: An actor, `indexer.run.tally.Board`.
        """
        self._board = board
        if hasattr(os, "sched_setaffinity"):
            first, count = cores
            usable = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {usable[(first + at) % len(usable)] for at in range(count)})

    def prepare(self, plan: Plan) -> None:
        """Look whether this machine sees what the run sees, and load the network.

        Raises:
            SoundalikeError: If it has another version, or does not see the store or the library.
            CheckpointError: If the checkpoint is not there.
            IdentityError: If it is not the one that the store was made with.
        """
        self._plan = plan
        if (here := version("soundalike")) != plan.version:
            raise SoundalikeError(
                f"soundalike is {here} there, and {plan.version} here; install the same on both"
            )
        self._require_staging()
        _require_library(plan)
        self._store = Store.open(plan.store)
        self._extractor = self._load()

    def embed(self, files: FileList, name: str) -> Outcome:
        """Embed a shard into a folder of its own, and seal it.

        Args:
            files: To read.
            name: Of the folder.

        Raises:
            LibraryError: If the library disappears.
            StoreError: If the folder cannot be written: a full disk, for one.
            SoundalikeError: With `strict`, at the first file that fails.
        """
        from indexer.run.extract import extract  # noqa: PLC0415 - it imports PyTorch

        self._require_staging()
        plan, told_at, audio_s = self._plan, 0.0, 0.0

        def listen(news: News) -> None:
            nonlocal told_at, audio_s
            if isinstance(news, Step):
                audio_s = news.audio_s
                if time.monotonic() - told_at >= _TELL_S:
                    told_at = time.monotonic()
                    self._board.tell.remote(name, news)

        found = Walk(plan.root, files=files, is_complete=False, is_list=plan.is_list)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SoundalikeWarning)
            stage = Stage.beside(self._store, plan.staging / name)
            report = extract(found, stage, self._extractor, plan.config, listen)
        return Outcome(
            report, audio_s, [_told(one.message) for one in caught if _is_ours(one.message)]
        )

    def _load(self) -> Extractor:
        from indexer.run.prepare import prepare  # noqa: PLC0415 - it imports PyTorch

        return prepare(self._plan.store, self._plan.settings)[1]

    def _require_staging(self) -> None:
        """Raise unless the run is seen to be there: it may be over, or the store another one."""
        plan = self._plan
        if not (plan.staging.is_dir() and (plan.store / STORE_FILE).exists()):
            raise StoreError(
                f"the store {plan.store} is not seen there; put it where all machines have it at "
                f"the same path"
            )


def plan_of(
    store: Store,
    staging: Path,
    found: Walk,
    files: FileList,
    config: ExtractConfig,
    settings: Settings,
) -> Plan:
    """Return what the workers of a run have to know.

    Args:
        store: Where to.
        staging: Folder in it for what they embed.
        found: The library.
        files: That are to be read.
        config: How the run behaves.
        settings: Checkpoint, device and precision.
    """
    there = [files[at] for at in range(0, len(files), max(1, len(files) // _SAMPLE))]
    return Plan(
        store=store.path.resolve(),
        staging=staging.resolve(),
        root=found.root,
        is_list=found.is_list,
        settings=settings,
        # What is read was decided already; patterns and lists too.
        config=replace(config, retry_failed=True, include=(), exclude=(), files_from=None),
        sample=tuple(file for file in there if file.size or file.mtime_ns),
        version=version("soundalike"),
    )


def _require_library(plan: Plan) -> None:
    if plan.sample and not any(_is_as_found(file, plan.root) for file in plan.sample):
        raise LibraryError(
            f"the library {plan.root} is not seen there; put it where all machines have it at the "
            f"same path"
        )


def _is_as_found(file: FoundFile, root: Path) -> bool:
    try:
        return state_of(file.local(root)) == (file.size, file.mtime_ns)
    except OSError:
        return False


def _is_ours(warning: Warning | str) -> bool:
    return isinstance(warning, SoundalikeWarning)


def _told(warning: Any) -> Told:
    value = warning.value
    return Told(str(warning), warning.about, None if value is None else str(value))
