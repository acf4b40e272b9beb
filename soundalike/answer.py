"""What `Sounds` answers: hits and how they were found, counts of tags, what checking has shown."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from indexer.errors import SoundalikeError, SoundalikeWarning
from indexer.paths import as_path, printable
from indexer.progress import Listen, count, ignore
from search.asking.almost import almost_heard
from search.asking.answers import Hit, Step
from search.asking.asked import Asked
from search.asking.background import Background, Beside, Told
from search.asking.find import Question, find, take_apart, unlocated
from search.asking.scope import Scope
from search.asking.sound_index import SoundIndex
from search.asking.terms import Terms
from search.filters.metadata import Coverage
from search.generation.recordings import path_text

if TYPE_CHECKING:  # torch takes seconds to import
    import pandas

    from indexer.run.recompute import DeepReport
    from indexer.store.verify import Problem
    from soundalike.show.labels import HitForm
    from soundalike.show.report import Reported

#: Hits that the short form of an answer shows.
_SHOWN = 3
#: Characters of a file's name in it.
_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class Answer(Sequence[Hit]):
    """What was found: a sequence of hits, the best first.

    In a notebook it shows each hit with its spectrogram and a player.

    Attributes:
        hits: The best first.
        num_new_parts: Parts of the stores that their indexes do not hold yet.
        steps: How each store was searched; nothing if many questions were asked at once.
        coverage: How the metadata and the stores fit together; None without metadata.
        num_left_out: Windows that are no hits because they are what was asked with, or overlap it:
            `include_self` takes them in.
        num_silent: Windows that are no hits because nothing is heard in them: a silent clip has
            them among its hits, and terms alone find them.
        failures: A line for each file that could not be read, where others asked all the same.
        notes: What of a clip asked, if that is not all of it as it is, in sentences.
        beside: What tells the background; None where nothing but the terms asked, or hits are
            ranked by place.
        almost: Where no window has the tags that were asked for, the three that come nearest; their
            score is how probable these are there.
        asked: What was asked; None where nobody knows that here, as of a server.
    """

    hits: tuple[Hit, ...]
    num_new_parts: int = 0
    steps: tuple[Step, ...] = field(default=(), compare=False)  # times differ
    coverage: Coverage | None = None
    num_left_out: int = field(default=0, compare=False)
    num_silent: int = field(default=0, compare=False)
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=(), compare=False)
    beside: Beside | Told | None = field(default=None, compare=False)
    almost: tuple[Hit, ...] = field(default=(), compare=False)
    asked: Asked | None = field(default=None, compare=False)

    @overload
    def __getitem__(self, at: int) -> Hit: ...
    @overload
    def __getitem__(self, at: slice) -> Answer: ...
    def __getitem__(self, at: int | slice) -> Hit | Answer:
        return replace(self, hits=self.hits[at]) if isinstance(at, slice) else self.hits[at]

    def __len__(self) -> int:
        return len(self.hits)

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)

    @property
    def background(self) -> Background | None:
        """How windows drawn at random score beside the hits; None where nothing tells that.

        It is computed each time, in less than a millisecond.
        """
        return self.beside.background() if self.beside else None

    @property
    def missing(self) -> tuple[Hit, ...]:
        """Hits whose recording is at none of its paths now, as after a library was moved."""
        return tuple(hit for hit in self.hits if not hit.is_there)

    def __repr__(self) -> str:
        shown = [
            f"{hit.score:.3f} {_short_name(hit)} at {hit.start_s:.1f} s"
            for hit in self.hits[:_SHOWN]
        ]
        more = [f"… {len(self) - _SHOWN:,} more"] if len(self) > _SHOWN else []
        return f"Answer({', '.join([count(len(self), 'hit'), *shown, *more])})"

    def _repr_html_(self) -> str:
        from soundalike.show.notebook import hits_html  # noqa: PLC0415 - it imports decoders

        return hits_html(self.hits)

    def copy_to(
        self, folder: str | os.PathLike[str], *, force: bool = False
    ) -> tuple[list[Path], list[str]]:
        """Write the audio of each hit into a folder, see `search.asking.collect.copy_spans`.

        Args:
            folder: Where to; created if absent.
            force: Whether files that are there are replaced.

        Returns:
            The files written, and for each hit that could not be read a line that says why.

        Raises:
            OutputError: If one of the files is there already, or one cannot be written.
        """
        from search.asking.collect import copy_spans  # noqa: PLC0415 - it imports decoders

        return copy_spans(self.hits, as_path("a folder", folder), force=force)

    def report(
        self, path: str | os.PathLike[str], *, force: bool = False, listen: Listen = ignore
    ) -> Reported:
        """Write a page that shows and plays what asked and each hit, and takes nothing else along.

        See `soundalike.show.report.write_report`.

        Args:
            path: Where to, .html.
            force: Whether a file that is there is replaced.
            listen: Hears how many hits are written.

        Returns:
            How large it is, and for each sound that could not be read a line that says why.

        Raises:
            OutputError: If the file is there already, or cannot be written.
        """
        from soundalike.show import report  # noqa: PLC0415 - it imports decoders

        beside = report.lines_beside(
            self.num_left_out, self.num_silent, self.num_new_parts, self.coverage
        )
        failures = (f"asked without it: {one}" for one in self.failures)
        said = (*failures, *self.notes, *beside)
        contents = report.Contents(self.hits, self.asked, self.background, said)
        return report.write_report(as_path("a report", path), contents, force=force, listen=listen)

    def labels(self, form: HitForm, *, clock: bool = False) -> str:
        """Return the spans of the hits as labels, see `soundalike.show.labels.hits_labels`.

        Args:
            form: "audacity" for a label track, which knows no files; "raven" for a sound selection
                table.
            clock: Whether each says the time of day, too.

        Raises:
            QueryError: If there is no such form.
        """
        from soundalike.show.labels import hits_labels  # noqa: PLC0415 - text, and seldom wanted

        return hits_labels(self.hits, form, with_clock=clock)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a table with a row for each hit: rank, score, path, start_s, end_s, ids and so on.

        `tags` holds the names of the most probable tags, the most probable first; `stands_for`,
        `match_start_s`, `match_end_s`, `match_score` and `clock` are as in `Hit`. After them come
        the columns of the metadata, with `metadata_` before a name that is taken.

        Raises:
            SoundalikeError: If pandas is not installed.
        """
        try:
            import pandas  # noqa: PLC0415 - nothing else needs it
        except ImportError as error:
            raise SoundalikeError(
                "to_pandas() needs pandas, which is not installed: 'pip install pandas' brings it"
            ) from error
        from soundalike.show.hits import metadata_columns  # noqa: PLC0415 - text, and seldom wanted

        own = (
            *("rank", "score", "path", "start_s", "end_s", "window_id", "recording_id", "tags"),
            *("stands_for", "match_start_s", "match_end_s", "match_score", "clock"),
        )
        more = metadata_columns(self.hits, own)
        rows: list[tuple[Any, ...]] = [
            (
                rank,
                hit.score,
                path_text(hit.path) if hit.path else None,
                hit.start_s,
                hit.end_s,
                hit.window_id,
                hit.recording_id.hex(),
                [one.tag.name for one in hit.tags],
                hit.stands_for,
                hit.match_start_s,
                hit.match_end_s,
                hit.match_score,
                hit.clock,
                *(hit.metadata.get(name) for name in more.values()),
            )
            for rank, hit in enumerate(self.hits, start=1)
        ]
        return pandas.DataFrame(rows, columns=[*own, *more])


def answer_all(
    index: SoundIndex,
    asked: Sequence[tuple[Question, list[str]]],
    scope: Scope,
    listen: Listen = ignore,
) -> list[Answer]:
    """Ask some questions, and warn of what cannot be read, where others ask without it.

    Args:
        index: The stores.
        asked: The questions, as `make_question` gives them.
        scope: What counts as a hit in these stores.
        listen: As for `find`.

    Returns:
        The answers, in the order of the questions.
    """
    for _, failures in asked:
        for failure in failures:
            warnings.warn(SoundalikeWarning(f"asked without it: {failure}"), stacklevel=3)
    questions = [question.weighted(scope.terms.tag_weight) for question, _ in asked]
    found, num_new = find(index, questions, scope, listen), index.num_new_parts()
    trouble = [f"where in a hit it is cannot be said: {found.trouble}"] if found.trouble else []
    trouble += scope.missing
    why = take_apart(index, questions, found, scope.terms)
    near, known = almost_heard(index, scope), (scope.resolved.metadata, scope.resolved.shown)
    almost = tuple(index.hits(near, None, *known)[0]) if near else ()
    counts = zip(found.num_left_out.tolist(), found.num_silent.tolist(), strict=True)
    said = [
        (*one.notes, *unlocated(one, index, scope.terms), *_not_looked_into(number), *trouble)
        for one, number in zip(questions, found.num_overlooked.tolist(), strict=True)
    ]
    beside = [_beside(index, one, scope.terms) for one in questions]
    each = zip(index.hits(found, why, *known), counts, asked, said, beside, strict=True)
    return [
        Answer(
            hits=tuple(hits),
            num_new_parts=num_new,
            steps=found.steps,
            coverage=scope.coverage,
            num_left_out=num_left_out,
            num_silent=num_silent,
            failures=tuple(failures),
            notes=notes,
            beside=drawn,
            almost=almost,
            asked=_asked(question, scope.terms),
        )
        for hits, (num_left_out, num_silent), (question, failures), notes, drawn in each
    ]


def _asked(question: Question, terms: Terms) -> Asked:
    return Asked(question.named, question.away.named if question.away else (), terms)


def _beside(index: SoundIndex, question: Question, terms: Terms) -> Beside | None:
    if question.vectors is None or question.ranks_by_place(terms):  # scores of places are others
        return None
    own = frozenset(one.recording_id for one in index.with_aliases(question.own))
    return Beside(index.drawn, question.vectors, own)


def _not_looked_into(number: int) -> Iterator[str]:
    if number:
        windows = count(number, "window")
        yield f"{windows} that might be hits were not looked into; if exact, all are"


def _short_name(hit: Hit) -> str:
    if hit.path is None:
        return "(no path)"
    name = printable(hit.path.name)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


class About(NamedTuple):
    """What can be asked of some stores.

    Attributes:
        num_windows: Of each store, in their indexes.
        num_new_parts: Parts of the stores that their indexes do not hold yet.
        projections: Names of what puts words and sounds into one space.
        has_frames: Whether it can be said where in a window something is.
        window_s: How long a window is, in seconds.
        has_thresholds: Whether it was measured from which probability on each tag is heard.
    """

    num_windows: tuple[int, ...]
    num_new_parts: int
    projections: tuple[str, ...]
    has_frames: bool
    window_s: float
    has_thresholds: bool


class Verified(NamedTuple):
    """What checking a store has shown.

    Attributes:
        problems: Everything that is not as it was written, or not what the audio gives.
        deep: What embedding a sample of windows again has shown; None if that was not asked for, or
            if something was wrong before.
    """

    problems: list[Problem]
    deep: DeepReport | None
