"""Some stores that belong together: filling them, listening with their network, checking them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from indexer.audio.times import Time, file_span
from indexer.errors import QueryError, SoundalikeError
from indexer.paths import as_path
from indexer.progress import Listen, count
from indexer.reading.apart import Apart
from indexer.run.commit import CommitReport, commit
from indexer.run.config import ExtractConfig, Settings
from indexer.run.forget import Forgotten, forget
from indexer.store.own import Own
from indexer.store.reader import Store
from indexer.tags import DEFAULT_PRECISION, DEFAULT_THRESHOLD, TagVocabulary, Threshold
from search.asking.facets import TagCount
from search.asking.terms import Terms
from search.filters.thresholds import (
    Thresholds,
    keep,
    read,
    require_none,
)
from search.nearest.structure import IndexConfig
from search.upkeep.build import build
from search.upkeep.files import FileRow, Kind, list_files
from search.upkeep.overview import Overview, overview
from soundalike.answer import Verified
from soundalike.arguments import show_fields
from soundalike.filling import Means, StorePath, extract, keeping
from soundalike.kept import Kept

if TYPE_CHECKING:  # torch takes seconds to import; what is stored is asked without it
    from indexer.embedding.tagging import TaggedWindow
    from indexer.run.report import ExtractReport
    from indexer.store.compaction import CompactReport
    from search.asking.clip import Clip
    from search.generation.segments import Generation
    from soundalike.arrays import StoredWindows
    from soundalike.spread import Spread


class Stores:
    """What can be done with one or several stores beside asking them.

    Attributes:
        paths: Their folders.
        own: What was added to the first of them.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        settings: Settings,
        listen: Listen,
        own: Path | None = None,
        apart: Apart | None = None,
        spread: Spread | None = None,
    ) -> None:
        """See `soundalike.open`."""
        self._kept = Kept(paths, settings, listen, apart, spread)
        self.paths, self.own = self._kept.paths, Own.of(paths[0], own)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(repr(str(path)) for path in self.paths)})"

    def index(
        self,
        library: StorePath,
        *,
        memory_bytes: int | None = None,
        recall: float | None = None,
        ray: bool | str = False,
        ray_workers: int | None = None,
        **settings: Any,
    ) -> ExtractReport:
        """Make a folder of audio searchable: `extract`, then `build`; it raises what these do.

        If no index can be built, what was embedded is kept, and `build` can be called again: the
        error says so in a note, and has the report of what was embedded as its `report`.
        """
        config = IndexConfig(memory_bytes, recall)  # a wrong one is told before the long work
        if settings.keys() & {"shard", "stage"}:
            raise QueryError("a share of a library has no index: extract stages it, commit follows")
        report = self.extract(library, ray=ray, ray_workers=ray_workers, **settings)
        files, windows = count(report.num_embedded, "file"), count(report.num_windows, "window")
        failed = f", {count(len(report.failures), 'failure')}" if report.failures else ""
        with keeping(report, f"{files} and {windows} were embedded{failed}"):
            build(self._kept.store(), config=config, listen=self._kept.listen, own=self.own)
        return report

    def extract(
        self,
        library: StorePath,
        *,
        shard: str | None = None,
        stage: StorePath | None = None,
        ray: bool | str = False,
        ray_workers: int | None = None,
        **settings: Any,
    ) -> ExtractReport:
        """Embed what is new or changed in a folder of audio; the store is made if there is none.

        Args:
            library: The folder; or a pack, see docs/libraries.md.
            shard: Embed one share of the library only, "3/16" the third of sixteen, beside the
                store, which `commit` publishes it into: several machines can do so at once.
            stage: Folder for the shards; each has a folder of its own in it.
            ray: Address of a Ray cluster that embeds, "10.0.0.1:6379"; True for the one that
                RAY_ADDRESS names or that runs here, or else a new one on this machine. Every
                machine of it has to see the library and the store at the same paths.
            ray_workers: How many workers it gives; None for one for each GPU, or for each machine
                if there is no GPU.
            settings: `frames`, `hop_s`, `native`, `native_max_s` and `channel` of `Settings`, and
                the fields of `ExtractConfig`.

        Raises:
            LibraryError: If the library is missing or empty, or most of it has disappeared.
            CheckpointError: If the checkpoint is not there.
            StoreError: If the store cannot be read or written, or was made with other settings.
            SoundalikeError: If Ray is not installed, no cluster answers, or none of its machines
                can do the work.
        """
        self._require_one("a folder is indexed into")
        return extract(self._kept, library, Means(shard, stage, ray, ray_workers), settings)

    def commit(self, *stages: StorePath) -> CommitReport:
        """Publish shards that `extract` has staged: each once, in any order.

        See `indexer.run.commit.commit`. The index sees them after the next `build`.

        Args:
            stages: Folders of shards, or of folders of shards.

        Raises:
            StoreError: If there is no store, or it cannot be written; if a folder has no shard.
        """
        path = self._require_one("shards are published into")
        folders = [as_path("a stage", one) for one in stages]
        if not folders:
            raise QueryError("nothing is published: name folders of shards", about="stage")
        return commit(path, folders, self._kept.listen)

    def build(
        self, *, memory_bytes: int | None = None, recall: float | None = None, anew: bool = False
    ) -> Generation:
        """Bring the index up to date, and return what queries see now, see `search.upkeep.build`.

        Args:
            memory_bytes: What building may take; None for half of the machine's memory.
            recall: Share of the true best 10 to find where answers are not exact; None for 0.99.
            anew: Whether nothing of an earlier index is used, and missing parts are done without.

        Raises:
            StoreError: If there is none, a part is damaged or missing, or the disk is full.
        """
        config, path = IndexConfig(memory_bytes, recall), self._require_one("an index is built of")
        listen = self._kept.listen
        return build(Store.open(path), config=config, listen=listen, anew=anew, own=self.own)

    def info(self) -> Overview:
        """Count what the store holds.

        Raises:
            StoreError: If there is none, or it cannot be read.
        """
        return overview(self._require_one("an overview is of"), self.own)

    def files(self, *kinds: Kind) -> Iterator[FileRow]:
        """Say what became of every file, or of the "failed", "warnings", "skipped" and "gone" ones.

        See `search.upkeep.files.list_files`.

        Raises:
            QueryError: If there is no such kind.
            StoreError: If there is no store, or it cannot be read.
        """
        return list_files(self._require_one("files are listed of"), kinds)

    def forget(self, library: StorePath, *, dry_run: bool = False) -> Forgotten:
        """Take a library out of the store, or say what would go, see `indexer.run.forget.forget`.

        Args:
            library: Its folder, which need not be there; or its id.
            dry_run: Only say what would go.

        Raises:
            LibraryError: If the store has no such library; it names those that it has.
            StoreError: If there is no store, or it cannot be written.
        """
        path = self._require_one("a library is forgotten by")
        return forget(path, os.fspath(library), dry_run=dry_run, listen=self._kept.listen)

    def verify(self, *, deep: bool = False, num_windows: int = 20) -> Verified:
        """Check every byte of the store.

        Args:
            deep: Whether some windows are embedded again from their audio, if the bytes are well.
            num_windows: How many, at most.

        Raises:
            StoreError: If there is no store, or its store.json cannot be read.
            CheckpointError: If the checkpoint is not there; only with `deep`.
        """
        from search.upkeep.verify import verify  # noqa: PLC0415 - beside a method of its name

        problems = verify(self._require_one("what is checked is"), self._kept.listen, self.own)
        if not deep or problems:  # what is damaged is not parsed
            return Verified(problems, None)
        store, listen = self._kept.store(), self._kept.listen
        extractor = self._kept.load(store)
        from indexer.run.recompute import recompute  # noqa: PLC0415 - it imports PyTorch

        report = recompute(store, extractor, num_windows=num_windows, listen=listen)
        return Verified(report.problems, report)

    def thresholds(
        self,
        labels: StorePath | None = None,
        *,
        precision: float = DEFAULT_PRECISION,
        force: bool = False,
    ) -> Thresholds:
        """Measure from which probability on each tag is heard, and keep that for "auto".

        See `search.evaluation.thresholds.measure_thresholds`.

        Args:
            labels: A table of files and their tags; None for what is kept already.
            precision: Share that has to be right of the files in which a tag is heard.
            force: Whether thresholds that are kept are replaced.

        Raises:
            QueryError: If the precision is none; or without labels if nothing is kept.
            OutputError: If there are thresholds already.
            SoundalikeError: If the labels cannot be read, or name nothing that is in the store.
            StoreError: If the store cannot be read, or the thresholds not be written.
        """
        store = Store.open(self._require_one("thresholds are measured in"))
        if labels is None:
            return read(self.own, store)
        require_none(self.own, force=force)
        from search.evaluation.thresholds import measure_thresholds  # noqa: PLC0415 - scikit-learn

        measured = measure_thresholds(store, as_path("labels", labels), precision)
        keep(self.own, measured, force=force)
        return measured

    def _threshold(self, threshold: float | Literal["auto"]) -> Threshold:
        """Return a threshold as it is, or for "auto" those that are kept with the first store."""
        if threshold == "auto":
            return read(self.own, Store.open(self.paths[0])).of_outputs()
        return threshold

    def load(self) -> None:
        """Load the network now, and not with the first audio that no store knows.

        Raises:
            CheckpointError: If the checkpoint is not there.
            SoundalikeError: If the device is not there, or cannot compute so.
        """
        self._kept.load(self._kept.store())

    def embed(
        self,
        file: StorePath,
        *,
        start: Time | None = None,
        end: Time | None = None,
        duration: Time | None = None,
        level: bool = False,
    ) -> Clip:
        """Embed a file as the store's recordings were: scenes, frames and tags of its windows.

        What comes back can ask, again and again, and is not listened to again.

        Args:
            file: Audio, or a part of it, "FILE@31:10-31:13".
            start: Where the clip begins: seconds, or as in "31:10".
            end: Where it ends; None for the end of the file.
            duration: How long it is, instead of an end.
            level: Whether a quiet one is embedded at full scale as well, and then asks with both,
                as files do: see `Terms`.

        Raises:
            QueryError: If it is not there, cannot be read, or has no audio there.
            CheckpointError: If the checkpoint is not there.
        """
        asked = file_span(as_path("a file", file), (start, end, duration))
        return self._kept.embed(self._kept.store(), asked, level=level)

    def tag(
        self,
        file: StorePath,
        *,
        threshold: float | Literal["auto"] = DEFAULT_THRESHOLD,
        top: int | None = None,
        start: Time | None = None,
        end: Time | None = None,
        duration: Time | None = None,
    ) -> list[TaggedWindow]:
        """Say what is heard in a file, window by window: see `soundalike.Model.tag`.

        Raises:
            QueryError: If the file cannot be read, a number is none that can be, or thresholds are
                to be "auto" and none are kept.
            CheckpointError: If the checkpoint is not there.
        """
        asked = file_span(as_path("a file", file), (start, end, duration))
        bound, store = self._threshold(threshold), self._kept.store()
        extractor = self._kept.load(store)
        from indexer.embedding.tagging import listen_to  # noqa: PLC0415 - it imports PyTorch

        how, listen = store.identity, self._kept.listen
        return listen_to(asked, extractor, bound, top, how.geometry, how.channel, listen)

    def tags(self, threshold: float | Literal["auto"] = DEFAULT_THRESHOLD) -> list[TagCount]:
        """Count in how many windows each of the 527 tags is heard, the most frequent first.

        Raises:
            QueryError: If the threshold is no probability, or to be "auto" and none are kept.
            StoreError: If a store is not there, or cannot be read.
        """
        bound = self._threshold(Terms(threshold=threshold).threshold)  # or it is an error
        each = [Store.open(path).count_tags(bound) for path in self.paths]
        counts = sum(each[1:], each[0]).tolist()
        vocabulary = TagVocabulary.audioset().tags
        found = [TagCount(tag, counts[tag.index]) for tag in vocabulary if tag.index is not None]
        return sorted(found, key=lambda one: -one.num_windows)

    def compact(self) -> CompactReport:
        """Remove what is dead from the store, and make few parts of many.

        Raises:
            StoreError: If there is none, a part is damaged or missing, or the disk is full.
        """
        from search.upkeep.compact import compact  # noqa: PLC0415 - beside a method of its name

        return compact(self._require_one("what is compacted is"), self._kept.listen)

    def rows(self) -> StoredWindows:
        """Return all live windows as arrays, as they were embedded: see `StoredWindows`.

        Raises:
            StoreError: If a store is not there, or cannot be read.
        """
        from soundalike.arrays import read_windows  # noqa: PLC0415 - only for those who ask

        return read_windows([Store.open(path) for path in self.paths])

    def _require_one(self, what: str) -> Path:
        if len(self.paths) > 1:
            raise SoundalikeError(f"{what} one store, and {len(self.paths)} are open: {self!r}")
        return self.paths[0]


show_fields(Stores.index, Settings, ExtractConfig)
show_fields(Stores.extract, Settings, ExtractConfig)
