"""What the routes work with: the stores, what was sent, and what was listened to."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from indexer.errors import QueryError
from indexer.reading.apart import Apart
from search.asking.answers import Hit
from search.asking.clip import Clip
from search.asking.facets import TagCount
from search.asking.terms import Terms
from search.filters.metadata import Metadata
from search.filters.tags import SELECTED_PREFIX
from search.learned.labels import By
from soundalike.answer import Answer
from soundalike.sounds import Sounds
from soundalike.web.bodies import Asking, Filter, Search
from soundalike.web.gate import Gate
from soundalike.web.gone import NotThereError
from soundalike.web.limits import Limits
from soundalike.web.mapped import MapDesk
from soundalike.web.media import Media, Span, state_at
from soundalike.web.uploads import Upload, Uploads

if TYPE_CHECKING:  # scikit-learn takes a second to import
    from search.learned.lesson import Estimate, Lesson

#: Clips that are kept as they were listened to: some 20 kB each.
_MOST_CLIPS = 200
#: What is heard in a long clip is told of so much of its beginning, in seconds.
_TOLD_S = 30.0


class Asked(NamedTuple):
    """What a question has found.

    Attributes:
        answer: All hits up to those that were asked for.
        hits: Those that were asked for.
        cursor: Asks for those after them; None if there are no more.
        seconds: It took.
    """

    answer: Answer
    hits: Sequence[Hit]
    cursor: str | None
    seconds: float


class Desk:
    """One `Sounds`, and what belongs to its server; threads share it.

    Attributes:
        sounds: The stores.
        limits: What is given at most.
        media: Decoded spans, and pictures.
        uploads: What was sent.
        maps: The map, and parts of it that were selected.
        folder: A temporary one, for what is sent and decoded, and for exports on their way.
        metadata: File with what is known of recordings beside the stores; None for none.
        columns: Its columns.
    """

    def __init__(
        self,
        sounds: Sounds,
        apart: Apart,
        folder: Path,
        limits: Limits,
        metadata: Path | None = None,
    ) -> None:
        """Begin, with a temporary folder of one's own."""
        self.sounds, self.limits, self.metadata = sounds, limits, metadata
        self.folder = folder
        for name in ("media", "uploads"):
            (folder / name).mkdir()
        # Who waits holds one of the server's 40 threads; some are left for what waits for nobody.
        decoding = Gate(at_once=2, most_waiting=12, retry_s=1)
        self.media = Media(folder / "media", apart, decoding, limits.cache_bytes)
        self.uploads = Uploads(folder / "uploads", apart, decoding, limits)
        self.maps = MapDesk(sounds, limits)
        self.columns = Metadata.read(metadata).shown.column_names if metadata else []
        self._embedding = Gate(at_once=1, most_waiting=4, retry_s=2)
        self._searching = Gate(at_once=2, most_waiting=17, retry_s=1)
        self._learning = Gate(at_once=1, most_waiting=4, retry_s=1)
        self._lock = threading.Lock()
        self._clips: OrderedDict[tuple[object, ...], Clip] = OrderedDict()

    # --- what asks -------------------------------------------------------------------------------

    def upload(self, number: str) -> Upload:
        """Return a sound that was sent.

        Raises:
            NotThereError: If it is not kept, or not any more.
        """
        try:
            return self.uploads.get(number)
        except KeyError:
            raise NotThereError(
                "that sound is not kept any more, or never was: send it again"
            ) from None

    def window(self, number: str) -> Hit:
        """Return what is known of a window.

        Raises:
            NotThereError: If no store has it.
        """
        try:
            (hit,) = self.sounds.windows(int(number))
        except QueryError as error:
            raise NotThereError(str(error)) from None
        return hit

    def listen(self, asking: Asking) -> Clip | int:
        """Return what asks: a stored window by its id, and of anything else what is heard in it.

        Raises:
            NotThereError: If it is not there.
            QueryError: If it cannot be listened to, or is too long.
            BusyError: If too many wait.
        """
        is_whole = asking.start_s is None and asking.end_s is None
        if asking.window is not None:
            hit = self.window(asking.window)
            if is_whole:
                return hit.window_id
            begin, length = hit.start_s, hit.end_s - hit.start_s
            path, name = self._path_of(hit), hit.paths[0].name
        else:
            assert asking.clip is not None
            upload = self.upload(asking.clip)
            begin, length = 0.0, upload.survey.duration_s
            path, name = upload.path, upload.name
        if is_whole and length <= self.limits.asked_s:
            return self._embed(path, name, {})
        start_s = asking.start_s or 0.0
        end_s = length if asking.end_s is None else min(asking.end_s, length)
        if start_s >= length:
            raise QueryError(f"{name} is {length:g} s long, and nothing of it is at {start_s:g} s")
        if end_s - start_s > self.limits.asked_s:
            raise QueryError(
                f"{end_s - start_s:.0f} s of {name} are too long to ask with: choose a part of it, "
                f"of at most {self.limits.asked_s:g} s"
            )
        span = {"start": begin + start_s, "duration": end_s - start_s}
        return self._embed(path, name, span)

    def heard_in(self, upload: Upload) -> Clip:
        """Return what is heard in a sound that was sent, or in the beginning of a long one."""
        is_long = upload.survey.duration_s > _TOLD_S
        end_s = _TOLD_S / 3 if is_long else None
        clip = self.listen(Asking(clip=upload.id, start_s=0.0 if is_long else None, end_s=end_s))
        assert isinstance(clip, Clip)
        return clip

    def _embed(self, path: Path, name: str, span: dict[str, float]) -> Clip:
        key = (path, *state_at(path), *span.values())
        if clip := self._kept_clip(key):
            return clip
        with self._embedding.passing():
            if clip := self._kept_clip(key):
                return clip
            try:
                clip = self.sounds.embed(path, **span, level=True)
            except QueryError as error:  # nobody knows it by where it is kept
                raise QueryError(str(error).replace(str(path), name)) from error
        clip = replace(clip, asked=clip.asked._replace(file=Path(name)))
        with self._lock:
            self._clips[key] = clip
            while len(self._clips) > _MOST_CLIPS:
                self._clips.popitem(last=False)
        return clip

    def _kept_clip(self, key: tuple[object, ...]) -> Clip | None:
        with self._lock:
            if key not in self._clips:
                return None
            self._clips.move_to_end(key)
            return self._clips[key]

    # --- answers ---------------------------------------------------------------------------------

    def search(self, body: Search, most: int | None = None) -> Asked:
        """Answer a question.

        Args:
            body: The question.
            most: How many hits are wanted of it, in place of a page of them.

        Raises:
            SoundalikeError: If it cannot be asked so.
            NotThereError: If something that asks is not there.
            BusyError: If too many wait.
        """
        first, last = (body.first, body.first + body.k) if most is None else (0, most)
        last = min(last, self.limits.hits)
        if first >= self.limits.hits:
            raise QueryError(f"an answer has at most {self.limits.hits:,} hits, in all its pages")
        has_pages = not body.diverse  # of more hits, others are chosen
        if first and not has_pages:
            raise QueryError("diverse hits are chosen together: ask for more of them at once")
        began = time.perf_counter()
        like, unlike = ([self.listen(one) for one in each] for each in (body.like, body.unlike))
        with self._searching.passing():
            answer = self.sounds.search(
                *like,
                unlike=unlike,
                text=body.text or None,
                projection=body.projection,
                terms=self.terms(body, k=min(last + has_pages, self.limits.hits)),
            )
        cursor = str(last) if len(answer.hits) > last and last < self.limits.hits else None
        seconds = time.perf_counter() - began
        return Asked(answer, answer.hits[first:last], cursor, seconds)

    def terms(self, body: Filter, **more: Any) -> Terms:
        """Return terms as a body has them.

        Raises:
            NotThereError: If they name a part of the map that is not kept any more.
        """
        for name in (*body.tags, *body.any_tags, *body.not_tags):
            if name.startswith(SELECTED_PREFIX):
                self.maps.selection(name)
        return Terms(**body.fields(), metadata=self.metadata, **more)

    def count(self, body: Filter) -> tuple[int, list[TagCount]]:
        """Count the windows that a filter leaves, and in how many of them each tag is heard.

        Raises:
            SoundalikeError: If it cannot be asked so.
            BusyError: If too many wait.
        """
        terms = self.terms(body)
        with self._searching.passing():
            return self.sounds.count(terms=terms), self.sounds.facets(terms=terms)

    def removed(self, body: Filter) -> list[tuple[str, int]]:
        """Return each filter, and how many windows match without it.

        Raises:
            BusyError: If too many wait.
        """
        with self._searching.passing():
            return [
                (term, self.sounds.count(terms=self.terms(body.without(term))))
                for term in body.terms()
            ]

    # --- teaching --------------------------------------------------------------------------------

    def learn(self, name: str) -> tuple[Lesson, list[Estimate]]:
        """Learn a tag from its labels, and estimate how far it can be trusted.

        Raises:
            SoundalikeError: If there is nothing to learn from.
            BusyError: If too many wait.
        """
        with self._learning.passing():
            return self.sounds.learn(name), self.sounds.estimates(name)

    def estimates(self, name: str) -> list[Estimate]:
        """Estimate how far a learned tag can be trusted.

        Raises:
            QueryError: If there is none of that name.
            BusyError: If too many wait.
        """
        with self._searching.passing():
            return self.sounds.estimates(name)

    def review(self, name: str, by: By, k: int) -> list[Hit]:
        """Return windows to label next.

        Raises:
            QueryError: If nothing was learned yet, and they are not to be drawn.
            BusyError: If too many wait.
        """
        with self._searching.passing():
            return self.sounds.review(name, by, k)

    # --- sound -----------------------------------------------------------------------------------

    def span_of_upload(self, number: str, start_s: float, end_s: float | None) -> Span:
        """Return a part of a sound that was sent, as far as it can be played."""
        upload = self.upload(number)
        length = upload.survey.duration_s
        return self._span(upload.path, start_s, length if end_s is None else min(end_s, length))

    def span_of_window(self, number: str, start_s: float, end_s: float | None) -> Span:
        """Return a part of a recording, by times from the start of one of its windows."""
        hit = self.window(number)
        begin = max(0.0, hit.start_s + start_s)
        end = hit.end_s if end_s is None else hit.start_s + end_s
        return self._span(self._path_of(hit), begin, end)

    def _span(self, path: Path, start_s: float, end_s: float) -> Span:
        if end_s <= start_s:
            raise QueryError(f"nothing is between {start_s:g} s and {end_s:g} s")
        return Span(path, start_s, min(end_s - start_s, self.limits.played_s))

    def _path_of(self, hit: Hit) -> Path:
        if not hit.is_there or hit.path is None:
            shown = hit.path.name if hit.path else "it"
            raise NotThereError(f"{shown} is not where it was when it was indexed")
        return hit.path
