"""One or several stores, held open: what the command, a notebook and a server all talk to."""

from __future__ import annotations

import os
import reprlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from indexer.audio.times import NO_SPAN, Time, span_of
from indexer.errors import QueryError, SoundalikeWarning
from indexer.paths import as_path
from indexer.store.reader import Store
from search.asking.answers import Hit
from search.asking.clip import Clip
from search.asking.duplicates import Duplicates, find_duplicates
from search.asking.facets import TagCount, count_tags
from search.asking.find import Question
from search.asking.lookup import look_around, look_up
from search.asking.many import ManyReport, write_answers
from search.asking.questions import Query, make_question, turn_away
from search.asking.scope import Resolved, Scope, resolve
from search.asking.sound_index import SoundIndex
from search.asking.sources import Per
from search.asking.terms import DuplicateTerms, Terms
from search.asking.worded import make_worded_question, take_texts
from search.filters.thresholds import are_kept
from search.projection.kept import names
from soundalike.answer import About, Answer, answer_all
from soundalike.arguments import as_several, show_fields, take_fields
from soundalike.filling import StorePath
from soundalike.maps import Maps
from soundalike.teaching import Teaching

if TYPE_CHECKING:  # torch takes seconds to import; what is stored is asked without it
    from search.evaluation.robust import RobustReport

#: What `search` takes beside the terms.
_BESIDE_TERMS = ("start", "end", "duration", "text", "projection", "text_encoder", "unlike")


class Sounds(Maps, Teaching):
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
        unlike: Sequence[Query] = (),
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
            queries: Audio files or parts of them ("hour.wav@31:10-31:13"), what `embed` has
                returned, ids of windows, or vectors of (768,) or (q, 768), of any length. Of
                several, the best counts. Without any, the windows that fit the terms best are
                found.
            unlike: The same: what hits are not to be like. The question is turned away from it,
                and what it is of is no hit.
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
            IdentityError: If the projection was trained on another checkpoint, or a clip was
                embedded in another way than the stores.
        """
        span_of(span := (start, end, duration))  # a wrong one is told before anything is opened
        resolved = self._resolve(take_fields(Terms, _located(terms), _BESIDE_TERMS))
        texts = None if text is None else take_texts(text)
        if texts and (queries or span != NO_SPAN):
            raise QueryError("either clips ask or words: both at once have no common score")
        _require_turnable(unlike, resolved.terms)
        if len(unlike) and texts:
            raise QueryError("hits of words cannot be unlike a sound: both have no common score")
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
                away = turn_away(_at_level(unlike, resolved.terms), index, hear)
                likes = _at_level(queries, resolved.terms)
                asked = make_question(likes, index, hear, span, away)
            scope = Scope.over(resolved, index.opened)
            return answer_all(index, [asked], scope, self._kept.listen)[0]

    def _resolve(self, terms: Terms, *, learned: bool = False) -> Resolved:
        """Understand terms; with those tags that were learned, if they are named or wanted.

        What was selected is known if it is named.
        """
        threshold = self._threshold(terms.threshold)
        measured = threshold if isinstance(threshold, np.ndarray) else None
        known = self._terms_of_learned(terms, all_of_them=learned)
        return resolve(terms, measured, {**known, **self._terms_of_selected(terms)})

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
        unlike: Sequence[Query] = (),
        per: Per | None = None,
        force: bool = False,
        **terms: Any,
    ) -> list[Answer] | ManyReport:
        """Ask many questions at once, as `search` answers one; with an output, see `batch`.

        Args:
            questions: Without an output: for each what `search` takes, or a list of that. With one:
                audio files, folders of audio, and stores, whose windows ask one by one.
            output: A table to be written, .parquet or .jsonl: a row for each hit.
            unlike: What hits of any of them are not to be like, as for `search`.
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
        _require_turnable(unlike, taken)
        with self._kept.holding() as index:
            scope = Scope.over(resolved, index.opened)
            hear = partial(self._kept.hear, index, level=resolved.terms.level)
            away = turn_away(_at_level(unlike, resolved.terms), index, hear)
            if output is not None:
                report = write_answers(
                    index,
                    [as_path("what asks", one) for one in questions],
                    as_path("the output", output),
                    scope,
                    hear=hear,
                    away=away,
                    per=per or "window",
                    force=force,
                    listen=self._kept.listen,
                )
                _warn_of(scope)
                return report
            several = [one if isinstance(one, (list, tuple)) else [one] for one in questions]
            each = [
                make_question(_at_level(some, resolved.terms), index, hear, away=away)
                for some in several
            ]
            return answer_all(index, each, scope, self._kept.listen)

    def about(self) -> About:
        """Say how many windows there are, and what can be asked of them.

        Raises:
            StoreError: If a store is not there, or has no index yet.
        """
        index = self._kept.open_newest()
        return About(
            num_windows=tuple(one.generation.num_windows for one in index.opened),
            num_new_parts=index.num_new_parts(),
            projections=tuple(names(self.own)),
            has_frames=index.identity.frames != "none",
            window_s=index.identity.geometry.window_s,
            has_thresholds=are_kept(self.own),
        )

    def count(self, **terms: Any) -> int:
        """Count the windows that fit terms: those that may be hits of a question with them.

        Raises:
            QueryError: If it cannot be asked so.
            StoreError: If a store is not there, or has no index yet.
            UnknownTagError: If AudioSet has no such tag.
            ExpressionError: If the filter expression cannot be understood.
        """
        resolved = self._resolve(take_fields(Terms, terms))
        with self._kept.holding() as index:
            scope = Scope.over(resolved, index.opened)
            number = scope.num_allowed
            _warn_of(scope)
            return number

    def windows(self, *window_ids: int) -> list[Hit]:
        """Say what is known of some windows, in their order.

        Raises:
            QueryError: If one of them is in none of the stores.
            StoreError: If a store is not there, or has no index yet.
        """
        with self._kept.holding() as index:
            return look_up(index, window_ids)

    def around(self, window_id: int, number: int = 3) -> list[Hit]:
        """Return a window and the windows before and after it in its recording, in order of time.

        Args:
            window_id: Of a hit, for one.
            number: How many before it, and how many after it, at most.

        Raises:
            What `windows` does.
        """
        with self._kept.holding() as index:
            return look_around(index, window_id, number)

    def facets(self, **terms: Any) -> list[TagCount]:
        """Count how many of the windows that fit terms have each tag, see `count_tags`.

        Raises:
            What `count` does.
        """
        resolved = self._resolve(take_fields(Terms, terms), learned=True)
        with self._kept.holding() as index:
            scope = Scope.over(resolved, index.opened)
            counts = count_tags(scope)
            _warn_of(scope)
            return counts

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


def _warn_of(scope: Scope) -> None:
    """Say what could not be asked, where an answer cannot."""
    for line in scope.missing:
        warnings.warn(SoundalikeWarning(line), stacklevel=3)


def _located(terms: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of terms that look for the place in hits, unless they say otherwise."""
    said = terms.get("locate", getattr(terms.get("terms"), "locate", None))
    return {**terms, "locate": True} if said is None else terms


def _at_level(queries: Sequence[Query], terms: Terms) -> list[Query]:
    """Return what asks, clips at full scale no more if terms do not want that."""
    return [
        replace(one, louder=None) if isinstance(one, Clip) and not terms.level else one
        for one in queries
    ]


def _require_turnable(unlike: Any, terms: Terms) -> None:
    if isinstance(unlike, str) or not isinstance(unlike, Sequence):
        raise QueryError(f"unlike is a list of what asks as queries do, got {reprlib.repr(unlike)}")
    if unlike and terms.by == "place":
        raise QueryError(
            "hits that are ranked by a place in them cannot be unlike something: rank them by scene"
        )


def _given(text_encoder: StorePath | None) -> str | None:
    return None if text_encoder is None else os.fspath(text_encoder)


show_fields(Sounds.search, Terms)
show_fields(Sounds.search_many, Terms)
show_fields(Sounds.duplicates, DuplicateTerms)
