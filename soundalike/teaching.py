"""Teaching a store what its own user means: labels, tags that are learned, what to label next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, SupportsIndex

from indexer.errors import OutputError, QueryError
from indexer.paths import as_path
from indexer.store.reader import Store
from search.asking.answers import Hit
from search.asking.lookup import look_up
from search.asking.terms import Terms
from search.filters.tags import LEARNED_PREFIX, Learned
from search.learned.importing import Imported, read_labels
from search.learned.labels import By, Label, LabelBook, Says, Via, require_name
from search.learned.labels import names as labelled_names
from search.learned.review import choose_next
from search.learned.tags import (
    LearnedTag,
    forget,
    holding,
    keep,
    names,
    probabilities_of,
    read,
    share,
    take,
)
from search.learned.taught import Taught, taught
from search.output import writing_text
from soundalike.filling import StorePath
from soundalike.projections import Projections
from soundalike.show.teaching import labels_csv

if TYPE_CHECKING:  # scikit-learn takes a second to import
    from search.learned.lesson import Estimate, Lesson

#: A window: its id, or a hit.
Window = SupportsIndex | Hit


class Teaching(Projections):
    """Stores that can be taught tags."""

    def label(
        self,
        name: str,
        *,
        yes: Iterable[Window] = (),
        no: Iterable[Window] = (),
        unsure: Iterable[Window] = (),
        by: str | None = None,
        via: Via = "found",
    ) -> list[Label]:
        """Say of windows whether a sound is in them; it is kept, word after word.

        Args:
            name: Of the tag, small letters, digits and _.
            yes: Ids of windows, or hits, that have it.
            no: Those that do not.
            unsure: Those of which nobody can tell: nothing is learned from them.
            by: Who says so.
            via: How they were found; "random" ones, as `review` draws them, tell how often a tag
                that was learned is right.

        Raises:
            QueryError: If the name is none, a window is not there, or is given as two of them.
            StoreError: If there is no store, or it cannot be written.
        """
        book = LabelBook(self.own, name)
        given: list[tuple[Says, Iterable[Window]]] = [("yes", yes), ("no", no), ("unsure", unsure)]
        said = dict[int, Says]()
        for says, some in given:
            for one in map(id_of, some):
                if said.setdefault(one, says) != says:
                    raise QueryError(
                        f"window {one} is given as {said[one]} and as {says}: choose one"
                    )
        labels = [Label(one, says, by=by, via=via) for one, says in said.items()]
        if not labels:
            raise QueryError("nothing is said of any window")
        with self._kept.holding() as index:
            index.rows_of(said)
        return book.add(labels)

    def import_labels(self, name: str, file: StorePath) -> Imported:
        """Read labels from a table, a label track, or another store: see `read_labels`.

        `undo_label` takes them back together.

        Raises:
            QueryError: If the name is none.
            SoundalikeError: If it cannot be read, or names nothing that the store has.
            StoreError: If there is no store, or it cannot be written.
        """
        book = LabelBook(self.own, name)
        store = Store.open(self._require_one("windows are labelled in"))
        with self._kept.holding() as index:
            found = read_labels(as_path("labels", file), name, store, index.opened[0].generation)
        book.add(found.labels, as_one=True)
        return found

    def labels(self, name: str) -> list[Label]:
        """Return what is said of windows: the last word on each, in the order of saying.

        Raises:
            QueryError: If the name is none.
            StoreError: If they cannot be read.
        """
        return list(LabelBook(self.own, name).current().values())

    def labelled_hits(self, name: str) -> tuple[list[Label], dict[int, Hit]]:
        """Return `labels`, and what is known of their windows, by id; the store has not all.

        Raises:
            QueryError: If the name is none.
            StoreError: If they cannot be read, or the store is not there, or has no index yet.
        """
        labels = self.labels(name)
        with self._kept.holding() as index:
            here = [window_id for window_id, _ in index.find_all(one.window_id for one in labels)]
            return labels, dict(zip(here, look_up(index, here), strict=True))

    def export_labels(self, name: str, file: StorePath, *, force: bool = False) -> None:
        """Write the labels of a name as a table, which `import_labels` reads.

        Raises:
            QueryError: If the name is none.
            OutputError: If the file is there already, or cannot be written.
            StoreError: If they cannot be read, or the store is not there, or has no index yet.
        """
        with writing_text(as_path("the table", file), force=force) as written:
            written.write(labels_csv(*self.labelled_hits(name)))

    def label_names(self) -> list[str]:
        """Return the names that have labels, sorted.

        Raises:
            StoreError: If they cannot be listed.
        """
        return labelled_names(self.own)

    def undo_label(self, name: str, word: str | None = None) -> list[Label]:
        """Take the last word back; return it, or nothing if there is none.

        If it was imported, all that was imported with it is taken back and returned, the last
        first.

        Args:
            name: Of the tag.
            word: Id of the one that is meant, as `label` has returned it, where others label too.

        Raises:
            QueryError: If the name is none.
            StoreError: If it cannot be read or written.
        """
        return LabelBook(self.own, name).undo(word)

    def learn(self, name: str) -> Lesson:
        """Learn a tag from its labels, and keep it: from now on it is called my.NAME in filters.

        See `search.learned.lesson.learn`.

        Raises:
            QueryError: If the name is none, or nothing is labelled yes.
            StoreError: If there is no store, or it cannot be read or written.
        """
        from search.learned.lesson import learn  # noqa: PLC0415 - it imports scikit-learn

        book = LabelBook(self.own, name)
        store = Store.open(self._require_one("a tag is learned in"))
        with holding(self.own, name):
            with self._kept.holding() as index:
                lesson = learn(index, store, name, book.current())
            keep(self.own, lesson.tag)
        return lesson

    def learned(self, name: str) -> LearnedTag:
        """Return a tag that was learned.

        Raises:
            QueryError: If there is none of that name.
            StoreError: If it cannot be read, or was learned on other embeddings.
        """
        return read(self.own, name, Store.open(self.paths[0]))

    def learned_names(self) -> list[str]:
        """Return the names of the learned tags, sorted, without the prefix.

        Raises:
            StoreError: If they cannot be listed.
        """
        return names(self.own)

    def forget_learned(self, name: str) -> None:
        """Remove a learned tag; its labels stay, and it can be learned from them again.

        Raises:
            QueryError: If there is none of that name.
            StoreError: If it cannot be removed.
        """
        forget(self.own, name)

    def taught(self) -> list[Taught]:
        """Return each name that has labels or a learned tag, and what is known of it, sorted.

        Raises:
            StoreError: If they cannot be listed.
        """
        return taught(self.own)

    def share_learned(self, name: str, file: StorePath, *, force: bool = False) -> None:
        """Write a learned tag to a file, for another store of the same checkpoint.

        Raises:
            QueryError: If there is none of that name.
            OutputError: If the file is there already, or cannot be written.
        """
        share(self.learned(name), as_path("the file", file), force=force)

    def import_learned(
        self, file: StorePath, name: str | None = None, *, force: bool = False
    ) -> LearnedTag:
        """Take a learned tag from a file that `share_learned` has written.

        Args:
            file: The file.
            name: What it is to be called here; None for what it was called.
            force: Whether one of that name is replaced.

        Raises:
            QueryError: If there is no such file, or the name is none.
            OutputError: If there is one of that name.
            StoreError: If it was learned on other embeddings, or cannot be read or written.
        """
        store = Store.open(self._require_one("a learned tag is taken into"))
        tag = take(as_path("the file", file), store, None if name is None else require_name(name))
        with holding(self.own, tag.name):
            if tag.name in names(self.own) and not force:
                raise OutputError(
                    f"{store.path} has a learned tag {tag.name} already",
                    about="force",
                    value=tag.name,
                )
            keep(self.own, tag)
        return tag

    def review(self, name: str, by: By = "top", k: int = 20) -> list[Hit]:
        """Return windows to label next, see `search.learned.review.choose_next`.

        The scores of the hits are how probable the tag is; NaN while nothing was learned.

        Raises:
            QueryError: If the name or the order is none, or nothing was learned yet.
            StoreError: If the store is not there, or has no index yet.
        """
        if not 1 <= k <= _MOST_REVIEWED:
            raise QueryError(
                f"from 1 to {_MOST_REVIEWED:,} windows are reviewed at a time, got {k}"
            )
        labels: Mapping[int, Label] = LabelBook(self.own, name).current()
        tag = self.learned(name) if name in names(self.own) else None
        self._require_one("windows are reviewed of")
        with self._kept.holding() as index:
            rows = choose_next(index, tag, labels.keys(), by, k, name)
            found = look_up(index, index.window_ids(rows).tolist())
            scores: Sequence[float] = (
                probabilities_of(index, tag, rows).tolist() if tag else [float("nan")] * len(rows)
            )
        return [replace(one, score=score) for one, score in zip(found, scores, strict=True)]

    def _terms_of_learned(self, terms: Terms, *, all_of_them: bool = False) -> Learned:
        """Return the learned tags that terms name, or all, as filters take them."""
        named = [*terms.tags, *terms.any_tags, *terms.not_tags, terms.where or ""]
        if not all_of_them and not any(LEARNED_PREFIX in one for one in named):
            return {}
        known = self._kept.learned(self.own)
        for name in names(self.own):
            if LEARNED_PREFIX + name not in known and terms.names(LEARNED_PREFIX + name):
                self.learned(name)  # which says what is wrong with it
        return known

    def estimates(self, name: str) -> list[Estimate]:
        """Return precision and yield of a learned tag at ten thresholds, see `estimate_at`.

        Raises:
            QueryError: If there is none of that name.
            StoreError: If the store is not there, or has no index yet.
        """
        from search.learned.lesson import estimate_at  # noqa: PLC0415 - it imports scikit-learn

        tag, labels = self.learned(name), LabelBook(self.own, name).current()
        with self._kept.holding() as index:
            return estimate_at(index, tag, labels)


#: Windows that are reviewed at a time, at most.
_MOST_REVIEWED = 10_000


def id_of(one: Window) -> int:
    """Return the id of a window.

    Raises:
        QueryError: If it is neither an id nor a hit.
    """
    if isinstance(one, Hit):
        return one.window_id
    if isinstance(one, bool) or not isinstance(one, SupportsIndex):
        raise QueryError(f"a window is labelled by its id, or as a hit, got {one!r:.80}")
    return one.__index__()
