"""One or several stores, held open: what the command, a notebook and a server all talk to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from indexer.audio.times import NO_SPAN, Time, span_of
from indexer.errors import QueryError
from indexer.paths import as_path
from indexer.store.reader import Store
from search.asking.duplicates import Duplicates, find_duplicates
from search.asking.find import Question
from search.asking.many import ManyReport, write_answers
from search.asking.questions import Query, make_question
from search.asking.scope import Resolved, Scope, resolve
from search.asking.sound_index import SoundIndex
from search.asking.sources import Per
from search.asking.terms import DuplicateTerms, Terms
from search.asking.worded import make_worded_question, take_texts
from search.datasets.captions import Form
from search.datasets.consent import Consent
from search.generation.segments import Generation
from search.projection.config import Training
from search.projection.rows import keep_rows
from search.projection.tables import Projected, write_projected
from search.projection.training import DEFAULT_NAME, Trained, train_projection
from search.upkeep.build import has_index
from soundalike.answer import Answer, answer_all
from soundalike.arguments import as_several, show_fields, take_fields
from soundalike.stores import StorePath, Stores, keeping

if TYPE_CHECKING:  # torch takes seconds to import; what is stored is asked without it
    from search.evaluation.robust import RobustReport

#: What `search` takes beside the terms.
_BESIDE_TERMS = ("start", "end", "duration", "text", "projection", "text_encoder")


class Sounds(Stores):
    """One or several stores. Several threads may ask at the same time.

    The network is loaded with the first audio that no store knows, and kept. When a store has
    published another generation of its index, or a library has moved, the next question sees it.

    Attributes:
        paths: Folders of the stores.
        own: What was added to the first of them.
    """

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
        text: str | Sequence[str] | None = None,
        projection: str | None = None,
        text_encoder: StorePath | None = None,
        **terms: Any,
    ) -> Answer:
        """Find what sounds like something, or like what some words say.

        Args:
            queries: Audio files or parts of them ("hour.wav@31:10-31:13"), ids of windows, or
                vectors of (768,) or (q, 768), of any length. Of several, the best counts. Without
                any, the windows that fit the terms best are found.
            start: Where the clip begins in each file: seconds, or as in "31:10".
            end: Where it ends; None for the end of the file.
            duration: How long it is, instead of an end.
            text: What is looked for in words, in the place of queries; of several texts, the best
                counts. It takes a projection, see `train_projection`.
            projection: Its name; None for the only one.
            text_encoder: That of the projection, which has to be named if it is a folder, or not on
                this machine yet.
            terms: What counts as a hit, and how many: the fields of `Terms`; or `terms=Terms(...)`.

        Raises:
            QueryError: If it cannot be asked so, or nothing that asks can be read. Where only some
                files cannot be read, the others ask, and there is a warning for each of those.
            StoreError: If a store is not there, or has no index yet.
            UnknownTagError: If AudioSet has no such tag.
            ExpressionError: If the filter expression cannot be understood.
            CheckpointError: If a file asks, and the checkpoint is not there.
            IdentityError: If the projection was trained on another checkpoint.
        """
        span_of(span := (start, end, duration))  # a wrong one is told before anything is opened
        resolved = self._resolve(take_fields(Terms, _located(terms), _BESIDE_TERMS))
        texts = None if text is None else take_texts(text)
        if texts and (queries or span != NO_SPAN):
            raise QueryError("either clips ask or words: both at once have no common score")
        if text_encoder is not None and not texts:
            raise QueryError("a text encoder is for what is asked in words, and no words are given")
        if projection is not None and not texts:
            raise QueryError("a projection is for what is asked in words, and no words are given")
        with self._kept.holding() as index:
            if texts:
                index, asked = self._in_words(index, texts, projection, _given(text_encoder))
            else:
                level = resolved.terms.level
                hear = partial(self._kept.hear, index, listen=self._kept.listen, level=level)
                asked = make_question(queries, index, hear, span)
            scope = Scope.over(resolved, index.opened)
            return answer_all(index, [asked], scope, self._kept.listen)[0]

    def _resolve(self, terms: Terms) -> Resolved:
        threshold = self._threshold(terms.threshold)
        return resolve(terms, threshold if isinstance(threshold, np.ndarray) else None)

    def _in_words(
        self, index: SoundIndex, texts: Sequence[str], name: str | None, text_encoder: str | None
    ) -> tuple[SoundIndex, tuple[Question, list[str]]]:
        projection = self._kept.projection(self.own, name)
        question = make_worded_question(texts, projection, text_encoder)
        return self._kept.project(index, projection, self.own), (question, [])

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
            terms: What counts as a hit, and how many for each question: the fields of `Terms`. With
                an output all windows may be hits unless `all_windows` is False, and where in them
                what asks is is not looked for unless `locate` is True.

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
        taken = take_fields(Terms, terms if output is not None else _located(terms))
        if output is not None and taken.metadata and taken.where is None:
            raise QueryError(
                f"nothing is asked of {taken.metadata}: name its columns in a filter expression",
                about="where",
            )
        if output is not None and taken.all_windows is None and not taken.group_by:
            taken = replace(taken, all_windows=True)
        resolved = self._resolve(taken)
        with self._kept.holding() as index:
            scope = Scope.over(resolved, index.opened)
            hear = partial(self._kept.hear, index, level=resolved.terms.level)
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
            return answer_all(index, each, scope, self._kept.listen)

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

    # --- text and sound --------------------------------------------------------------------------

    def train_projection(
        self,
        *captions: StorePath,
        name: str = DEFAULT_NAME,
        form: Form | None = None,
        match: StorePath | None = None,
        output: StorePath | None = None,
        allow_leak: bool = False,
        is_clean: bool = False,
        force: bool = False,
        **how: Any,
    ) -> Trained:
        """Train what puts texts and sounds into one space, and let it see all windows.

        See `search.projection.training.train_projection`.

        Args:
            captions: A table per split: train, val and test in their names say which.
            name: What the projection will be called.
            form: "audiocaps", "clotho" or "paths" (path and caption); None to tell by the columns.
            match: A table of which file is which sound, with the columns path and id.
            output: Folder where `project` then writes these captions and their sounds.
            allow_leak: Whether a checkpoint that has heard val and test is taken nevertheless.
            is_clean: Vouch that an unknown checkpoint has not.
            force: Whether a projection of that name is replaced, and files in the folder.
            how: The fields of `Training`.

        Raises:
            SoundalikeError: If it cannot be trained on these.
            OutputError: If there is a projection of that name.
            StoreError: If there is no store, or it cannot be read or written.
        """
        store = Store.open(self._require_one("a projection is trained on"))
        trained = train_projection(
            store,
            [as_path("captions", one) for one in captions],
            self.own,
            take_fields(Training, how),
            name=name,
            form=form,
            match=None if match is None else as_path("matches", match),
            consent=Consent(allow_leak, is_clean),
            output=None if output is None else as_path("the output", output),
            force=force,
            listen=self._kept.listen,
        )
        if has_index(store):
            with keeping(trained, f"the projection {name} was trained and written"):
                keep_rows(store, Generation.current(store), self.own, self._kept.listen)
        return trained

    def project(  # noqa: PLR0913 - each is a choice of its own
        self,
        *captions: StorePath,
        output: StorePath,
        projection: str | None = None,
        text_encoder: StorePath | None = None,
        form: Form | None = None,
        match: StorePath | None = None,
        allow_leak: bool = False,
        is_clean: bool = False,
        force: bool = False,
    ) -> Projected:
        """Write projected sounds and captions into a folder, for `eval retrieval`.

        See `search.projection.tables.write_projected`.

        Args:
            captions: As for `train_projection`.
            output: The folder.
            projection: Its name; None for the only one.
            text_encoder: A file of vectors, if it was trained with such; else as for `search`.
            form: As for `train_projection`.
            match: Likewise.
            allow_leak: Likewise.
            is_clean: Likewise.
            force: Whether files that are there are replaced.

        Raises:
            SoundalikeError: If these captions cannot be projected.
            OutputError: If one of the files is there already, or cannot be written.
            StoreError: If there is no store, or it cannot be read.
        """
        store = Store.open(self._require_one("what is projected is in"))
        return write_projected(
            store,
            [as_path("captions", one) for one in captions],
            self._kept.projection(self.own, projection),
            as_path("the output", output),
            text_encoder=_given(text_encoder),
            form=form,
            match=None if match is None else as_path("matches", match),
            consent=Consent(allow_leak, is_clean),
            force=force,
            listen=self._kept.listen,
        )

    # --- judging ---------------------------------------------------------------------------------

    def robust(
        self,
        labels: StorePath | None = None,
        *,
        max_clips: int = 100,
        seed: int = 0,
        num_resamples: int = 1000,
    ) -> RobustReport:
        """Ask with changed copies of the store's own clips, and count what is found.

        See `search.evaluation.robust.evaluate_robustness`.

        Args:
            labels: A table of files and their labels, see `read_labels`.
            max_clips: How many clips are drawn, at most.
            seed: Of the drawing, the noise and the intervals.
            num_resamples: Of which the intervals are made.

        Raises:
            SoundalikeError: If none of the clips can be read.
            StoreError: If the store is not there, or has no index yet.
            CheckpointError: If the checkpoint is not there.
        """
        from search.evaluation.labels import read_labels  # noqa: PLC0415 - scikit-learn takes long
        from search.evaluation.robust import evaluate_robustness  # noqa: PLC0415

        def ask(files: Sequence[Path]) -> list[list[bytes]]:
            answers = self.search_many(files, group_by="file", include_self=True, locate=False)
            return [[hit.recording_id for hit in answer] for answer in answers]

        return evaluate_robustness(
            Store.open(self._require_one("clips are drawn from")),
            ask,
            read_labels(as_path("labels", labels)) if labels is not None else (),
            max_clips=max_clips,
            seed=seed,
            num_resamples=num_resamples,
            listen=self._kept.listen,
        )


def _located(terms: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of terms that look for the place in hits, unless they say otherwise."""
    said = terms.get("locate", getattr(terms.get("terms"), "locate", None))
    return {**terms, "locate": True} if said is None else terms


def _given(text_encoder: StorePath | None) -> str | None:
    return None if text_encoder is None else os.fspath(text_encoder)


show_fields(Sounds.search, Terms)
show_fields(Sounds.search_many, Terms)
show_fields(Sounds.duplicates, DuplicateTerms)
show_fields(Sounds.train_projection, Training)
