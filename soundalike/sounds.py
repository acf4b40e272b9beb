"""One or several stores, held open: what the command, a notebook and a server all talk to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from indexer.audio.times import Time, file_span, span_of
from indexer.errors import QueryError, SoundalikeError
from indexer.paths import as_path
from indexer.progress import Listen
from indexer.run.config import ExtractConfig, Settings
from indexer.run.forget import Forgotten, forget
from indexer.run.survey import find_files, survey
from indexer.store.own import Own
from indexer.store.reader import Store
from indexer.tags import DEFAULT_THRESHOLD, TagVocabulary
from search.asking.duplicates import Duplicates, find_duplicates
from search.asking.many import ManyReport, write_answers
from search.asking.questions import Query, make_question
from search.asking.scope import Scope, resolve
from search.asking.sources import Per
from search.asking.terms import DuplicateTerms, Terms
from search.nearest.structure import IndexConfig
from search.upkeep.build import build
from search.upkeep.files import FileRow, Kind, list_files
from search.upkeep.overview import Overview, overview
from soundalike.answer import Answer, TagCount, Verified, answer_all
from soundalike.arguments import as_several, show_fields, split_fields, take_fields
from soundalike.kept import Kept

if TYPE_CHECKING:  # torch takes seconds to import; what is stored is asked without it
    from indexer.embedding.tagging import TaggedWindow
    from indexer.run.report import ExtractReport
    from indexer.store.compaction import CompactReport
    from search.asking.embed import Clip
    from search.generation.segments import Generation
    from soundalike.arrays import StoredWindows

StorePath = str | os.PathLike[str]
#: What `search` takes beside the terms.
_SPAN = ("start", "end", "duration")


class Sounds:
    """One or several stores. Several threads may ask at the same time.

    The network is loaded with the first audio that no store knows, and kept. When a store has
    published another generation of its index, or a library has moved, the next question sees it.

    Attributes:
        paths: Folders of the stores.
        own: What was added to the first of them.
    """

    def __init__(
        self, paths: Sequence[Path], settings: Settings, listen: Listen, own: Path | None = None
    ) -> None:
        """See `soundalike.open`."""
        self._kept = Kept(paths, settings, listen)
        self.paths, self.own = self._kept.paths, Own.of(paths[0], own)

    def __repr__(self) -> str:
        return f"Sounds({', '.join(repr(str(path)) for path in self.paths)})"

    @property
    def num_windows(self) -> int:
        """Windows that questions see.

        Raises:
            StoreError: If a store is not there, or has no index yet.
        """
        return self._kept.open_newest().num_windows

    # --- asking ----------------------------------------------------------------------------------

    def search(
        self,
        *queries: Query,
        start: Time | None = None,
        end: Time | None = None,
        duration: Time | None = None,
        **terms: Any,
    ) -> Answer:
        """Find what sounds like something.

        Args:
            queries: Audio files or parts of them ("hour.wav@31:10-31:13"), ids of windows, or
                vectors of (768,) or (q, 768), of any length. Of several, the best counts. Without
                any, the windows that fit the terms best are found.
            start: Where the clip begins in each file: seconds, or as in "31:10".
            end: Where it ends; None for the end of the file.
            duration: How long it is, instead of an end.
            terms: What counts as a hit, and how many: the fields of `Terms`; or `terms=Terms(...)`.

        Raises:
            QueryError: If it cannot be asked so, or nothing that asks can be read. Where only some
                files cannot be read, the others ask, and there is a warning for each of those.
            StoreError: If a store is not there, or has no index yet.
            UnknownTagError: If AudioSet has no such tag.
            ExpressionError: If the filter expression cannot be understood.
            CheckpointError: If a file asks, and the checkpoint is not there.
        """
        span_of(span := (start, end, duration))  # a wrong one is told before anything is opened
        resolved, index = resolve(take_fields(Terms, terms, _SPAN)), self._kept.open_newest()
        scope = Scope.over(resolved, index.opened)
        hear = partial(self._kept.hear, index, listen=self._kept.listen)
        return answer_all(index, [make_question(queries, index, hear, span)], scope)[0]

    @overload
    def search_many(
        self, questions: Iterable[Query | Sequence[Query]], **terms: Any
    ) -> list[Answer]: ...
    @overload
    def search_many(
        self, questions: Iterable[StorePath], output: StorePath, **how: Any
    ) -> ManyReport: ...
    def search_many(
        self,
        questions: Iterable[Any],
        output: StorePath | None = None,
        *,
        per: Per | None = None,
        force: bool = False,
        **terms: Any,
    ) -> list[Answer] | ManyReport:
        """Ask many questions at once, as `search` answers one; with an output, see `batch`.

        Args:
            questions: Without an output: for each what `search` takes, or a list of that. With one:
                audio files, folders of audio, and stores, whose windows ask one by one.
            output: A table to be written, .parquet or .jsonl: a row for each hit.
            per: With an output: whether each "window" is a question, as by default, or each "clip"
                with all its windows.
            force: With an output: whether a table that is there is replaced.
            terms: What counts as a hit, and how many for each question: the fields of `Terms`.

        Returns:
            The answers, in the order of the questions; or what was written.

        Raises:
            QueryError: If it cannot be asked so, or nothing that asks can be read: of one question
                or, with an output, of all.
            OutputError: If the table is there already, or cannot be written.
            LibraryError: If a folder has no audio in it.
            StoreError: If a store is not there, or has no index yet.
            IdentityError: If a store that asks was computed in another way.
            UnknownTagError: If AudioSet has no such tag.
        """
        questions = as_several(questions)
        if output is None and (per is not None or force):
            raise QueryError("per and force go with an output, and none is given")
        resolved, index = resolve(take_fields(Terms, terms)), self._kept.open_newest()
        scope = Scope.over(resolved, index.opened)
        hear = partial(self._kept.hear, index)
        if output is not None:
            return write_answers(
                index,
                [as_path("what asks", one) for one in questions],
                as_path("the output", output),
                scope,
                hear=hear,
                per=per or "window",
                force=force,
                listen=self._kept.listen,
            )
        each = [
            make_question(one if isinstance(one, (list, tuple)) else [one], index, hear)
            for one in questions
        ]
        return answer_all(index, each, scope)

    def duplicates(self, against: StorePath | None = None, **terms: Any) -> Duplicates:
        """Find recordings that hold the same sound, see `find_duplicates`.

        Args:
            against: Another store: only what is in both counts then.
            terms: From when on two windows match: the fields of `DuplicateTerms`.

        Raises:
            QueryError: If a number is out of range.
            StoreError: If a store is not there, or has no index yet.
            IdentityError: If the two were not computed the same way.
        """
        taken = take_fields(DuplicateTerms, terms)
        self._require_one("duplicates are looked for in")
        opened = self._kept.open_newest().opened[0]
        other = None if against is None else opened.beside(as_path("a store", against))
        return find_duplicates(opened, other, taken, self._kept.listen, self._kept.silence)

    # --- listening -------------------------------------------------------------------------------

    def embed(
        self,
        file: StorePath,
        *,
        start: Time | None = None,
        end: Time | None = None,
        duration: Time | None = None,
    ) -> Clip:
        """Embed a file as the store's recordings were: scenes, frames and tags of its windows.

        Raises:
            QueryError: If it is not there, cannot be read, or has no audio there.
            CheckpointError: If the checkpoint is not there.
        """
        asked = file_span(as_path("a file", file), (start, end, duration))
        return self._kept.embed(self._kept.store(), asked)

    def tag(
        self,
        file: StorePath,
        *,
        threshold: float = DEFAULT_THRESHOLD,
        top: int | None = None,
        start: Time | None = None,
        end: Time | None = None,
        duration: Time | None = None,
    ) -> list[TaggedWindow]:
        """Say what is heard in a file, window by window: see `soundalike.Model.tag`.

        Raises:
            QueryError: If the file cannot be read, or a number is none that can be.
            CheckpointError: If the checkpoint is not there.
        """
        asked = file_span(as_path("a file", file), (start, end, duration))
        store = self._kept.store()
        extractor = self._kept.load(store)
        from indexer.embedding.tagging import listen_to  # noqa: PLC0415 - it imports PyTorch

        how, listen = store.identity, self._kept.listen
        return listen_to(asked, extractor, threshold, top, how.geometry, how.channel, listen)

    def tags(self, threshold: float = DEFAULT_THRESHOLD) -> list[TagCount]:
        """Count in how many windows each of the 527 tags is heard, the most frequent first.

        Raises:
            QueryError: If the threshold is no probability.
            StoreError: If a store is not there, or cannot be read.
        """
        threshold = Terms(threshold=threshold).threshold  # that is no probability is an error
        each = [Store.open(path).count_tags(threshold) for path in self.paths]
        counts = sum(each[1:], each[0]).tolist()
        vocabulary = TagVocabulary.audioset().tags
        found = [TagCount(tag, counts[tag.index]) for tag in vocabulary if tag.index is not None]
        return sorted(found, key=lambda one: -one.num_windows)

    # --- the stores ------------------------------------------------------------------------------

    def index(
        self,
        library: StorePath,
        *,
        memory_bytes: int | None = None,
        recall: float | None = None,
        **settings: Any,
    ) -> ExtractReport:
        """Make a folder of audio searchable: `extract`, then `build`; it raises what these do."""
        config = IndexConfig(memory_bytes, recall)  # a wrong one is told before the long work
        report = self.extract(library, **settings)
        build(self._kept.store(), config=config, listen=self._kept.listen)
        return report

    def extract(self, library: StorePath, **settings: Any) -> ExtractReport:
        """Embed what is new or changed in a folder of audio; the store is made if there is none.

        Args:
            library: The folder; or a pack, see docs/libraries.md.
            settings: `frames`, `hop_s`, `native`, `native_max_s` and `channel` of `Settings`, and
                the fields of `ExtractConfig`.

        Raises:
            LibraryError: If the library is missing or empty, or most of it has disappeared.
            CheckpointError: If the checkpoint is not there.
            StoreError: If the store cannot be read or written, or was made with other settings.
        """
        path, listen = self._require_one("a folder is indexed into"), self._kept.listen
        shaping, behaving = split_fields((Settings, ExtractConfig), settings)
        config = ExtractConfig(**behaving)
        shaped = replace(self._kept.settings, **shaping)
        self._kept.check_place(shaped)  # before the walk, and before a checkpoint is downloaded
        found = find_files(as_path("a library", library), config, listen, store=path)
        store = self._kept.prepare(shaped)
        with survey(found, store, config, listen) as surveyed:
            if not surveyed.has_files_to_read:
                return surveyed.settle(config)
            extractor = self._kept.load(store)
            from indexer.run.extract import embed_new  # noqa: PLC0415 - it imports PyTorch

            return embed_new(surveyed, extractor, config, listen)

    def build(
        self, *, memory_bytes: int | None = None, recall: float | None = None, anew: bool = False
    ) -> Generation:
        """Bring the index up to date, and return what queries see now, see `search.upkeep.build`.

        Args:
            memory_bytes: What building may take; None for half of the machine's memory.
            recall: Share of the true best 10 to find where answers are not exact; None for 0.95.
            anew: Whether nothing of an earlier index is used, and missing parts are done without.

        Raises:
            StoreError: If there is none, a part is damaged or missing, or the disk is full.
        """
        config, path = IndexConfig(memory_bytes, recall), self._require_one("an index is built of")
        return build(Store.open(path), config=config, listen=self._kept.listen, anew=anew)

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


show_fields(Sounds.search, Terms)
show_fields(Sounds.search_many, Terms)
show_fields(Sounds.duplicates, DuplicateTerms)
show_fields(Sounds.index, Settings, ExtractConfig)
show_fields(Sounds.extract, Settings, ExtractConfig)
