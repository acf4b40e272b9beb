"""Asking a server, as one asks stores that lie here: `soundalike.connect`."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, urlsplit

import httpx2 as httpx
import numpy as np
import numpy.typing as npt
import soundfile

from indexer.audio.content import asked_state, asked_with, bytes_of
from indexer.audio.times import NO_SPAN, Span, Time, file_span
from indexer.errors import ExpressionError, QueryError, SoundalikeError, StoreError
from indexer.paths import as_path, as_place
from indexer.tags import HeardTag, Tag, TagVocabulary
from search.asking.answers import Hit
from search.asking.background import Background, Told
from search.asking.facets import TagCount
from search.asking.terms import Terms
from search.filters.tags import LEARNED_PREFIX
from search.learned.labels import By, Label, Via, require_name
from soundalike.answer import Answer
from soundalike.arguments import show_fields, take_fields
from soundalike.teaching import Window, id_of

if TYPE_CHECKING:  # scikit-learn takes a second to import
    from search.learned.lesson import Estimate

#: What asks a server: an audio file or a part of it, or the id of a window.
Asking = str | os.PathLike[str] | int

#: Names of this machine.
_HERE = ("localhost", "127.0.0.1", "::1")
#: A clip is sent and listened to in this time, or nobody answers; in seconds.
_TIMEOUT_S = 120.0
#: A server that is busy is asked again so often.
_MOST_TRIES = 10
#: Fields of `Terms` that are decided where the server runs.
_SERVERS = ("metadata", "level", "locate")
#: Those that say which windows may be hits.
_FILTER = ("tags", "any_tags", "not_tags", "where", "threshold", "descendants")


def connect(address: str) -> Remote:
    """Connect to a server that `soundalike serve` runs.

    Args:
        address: What it printed, with the token: "http://127.0.0.1:8765/?token=…".

    Raises:
        SoundalikeError: If it is no such address, or nobody answers there.
    """
    remote = Remote(address)
    try:
        remote.about()
    except BaseException:
        remote.close()
        raise
    return remote


class Remote:
    """The stores of a server: asked as `Sounds` are.

    Paths of hits are those of the server; `audio` gets what is to be heard there. As a context
    manager it closes the connection at the end.
    """

    def __init__(self, address: str) -> None:
        """See `connect`."""
        try:
            parts = urlsplit(address)
        except ValueError as error:
            raise SoundalikeError(f"not the address of a server: {address!r}; {error}") from error
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise SoundalikeError(
                f"an address of a server begins with http:// or https://, got {address!r}"
            )
        token = parse_qs(parts.query).get("token", [])
        self._shown = f"{parts.scheme}://{parts.netloc}"
        self._client = httpx.Client(
            base_url=f"{self._shown}/api/v1/",
            headers={"Authorization": f"Bearer {token[0]}"} if token else {},
            timeout=_TIMEOUT_S,
            trust_env=parts.hostname not in _HERE,  # no proxy is between a machine and itself
        )
        self._sent: dict[tuple[object, ...], str] = {}

    def __repr__(self) -> str:
        return f"Remote({self._shown!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def about(self) -> dict[str, Any]:
        """Return what the server says of its stores.

        Raises:
            SoundalikeError: If nobody answers, or the token is wrong.
        """
        return self._get("stores")

    @property
    def num_windows(self) -> int:
        """Number of windows that are searched.

        Raises:
            StoreError: If a store has no index yet.
        """
        about = self.about()
        if not about["has_index"]:
            raise StoreError(about["detail"])
        return int(about["num_windows"])

    def search(
        self,
        *queries: Asking,
        unlike: Sequence[Asking] = (),
        start: Time | None = None,
        end: Time | None = None,
        duration: Time | None = None,
        text: str | Sequence[str] | None = None,
        projection: str | None = None,
        **terms: Any,
    ) -> Answer:
        """Find what sounds like something, or like what some words say: see `Sounds.search`.

        Files are sent, each once. What of `Terms` is decided where the server runs cannot be given.

        Raises:
            QueryError: If it cannot be asked so.
            StoreError: If a store has no index yet.
            SoundalikeError: If nobody answers, or the server is busy for long.
        """
        beside = ("unlike", "start", "end", "duration", "text", "projection")
        body = _sent_terms(take_fields(Terms, terms, beside))
        body["like"] = [self._asking(one, (start, end, duration)) for one in queries]
        body["unlike"] = [self._asking(one, NO_SPAN) for one in unlike]
        body["text"] = [text] if isinstance(text, str) else list(text or ())
        body["projection"] = projection
        return _answer(self._post("search", json=body))

    def search_many(
        self, questions: Iterable[Asking | Sequence[Asking]], **terms: Any
    ) -> list[Answer]:
        """Ask some questions, one after the other; of each what `search` takes, or a list of it."""
        each = [list(one) if isinstance(one, (list, tuple)) else [one] for one in questions]
        return [self.search(*one, **terms) for one in each]

    def count(self, **terms: Any) -> int:
        """Count the windows that fit terms, see `Sounds.count`."""
        return int(self._counted(terms)["num_matching"])

    def facets(self, **terms: Any) -> list[TagCount]:
        """Count how many of the windows that fit terms have each tag, see `Sounds.facets`."""
        found = self._counted(terms)["tags"]
        return [TagCount(_tag(one["id"]), one["count"]) for one in found]

    def windows(self, *window_ids: int) -> list[Hit]:
        """Say what is known of some windows, see `Sounds.windows`."""
        return [_hit(self._get(f"windows/{one}")) for one in window_ids]

    def around(self, window_id: int, number: int = 3) -> list[Hit]:
        """Return a window and those before and after it, see `Sounds.around`."""
        found = self._get(f"windows/{window_id}/context", params={"num": number})
        return [_hit(one) for one in found["windows"]]

    def audio(self, window_id: int) -> tuple[npt.NDArray[np.float32], int]:
        """Return the audio of a window: (num_samples, channels) float32 of 16 bits, and the rate.

        Raises:
            QueryError: If there is no such window, or its file is not there.
        """
        response = self._ask("GET", f"windows/{window_id}/audio")
        samples, rate_hz = soundfile.read(io.BytesIO(response.content), dtype="float32")
        return samples.reshape(len(samples), -1), rate_hz

    # --- teaching --------------------------------------------------------------------------------

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
        """Say of windows whether a sound is in them, see `Sounds.label`; 1,000 of a kind at most.

        They are windows of the server: their ids, or hits of its answers.
        """
        given = {"yes": yes, "no": no, "unsure": unsure}
        body = {says: [str(id_of(one)) for one in some] for says, some in given.items()}
        said = self._post(f"{_taught(name)}/labels", json={**body, "by": by, "via": via})
        return [_label(one) for one in said["labels"]]

    def labels(self, name: str) -> list[Label]:
        """Return what is said of windows, see `Sounds.labels`."""
        return [_label(one) for one in self._get(f"{_taught(name)}/labels")["labels"]]

    def undo_label(self, name: str, word: str | None = None) -> list[Label]:
        """Take words back, see `Sounds.undo_label`."""
        undone = self._post(f"{_taught(name)}/undo", json={"word": word})["undone"]
        return [_label(one) for one in undone]

    def learned_names(self) -> list[str]:
        """Return the names of the learned tags, see `Sounds.learned_names`."""
        return [one["name"] for one in self._get("taught")["names"] if one["is_learned"]]

    def learn(self, name: str) -> dict[str, Any]:
        """Learn a tag from its labels, and return what is told of it; the tag stays there."""
        return self._post(f"{_taught(name)}/learn")

    def review(self, name: str, by: By = "top", k: int = 20) -> list[Hit]:
        """Return windows to label next, 100 at most, see `Sounds.review`."""
        found = self._get(f"{_taught(name)}/review", params={"by": by, "k": k})["windows"]
        return [_hit(one if one["score"] is not None else {**one, "score": nan}) for one in found]

    def estimates(self, name: str) -> list[Estimate]:
        """Return precision and yield of a learned tag at ten thresholds, see `Sounds.estimates`."""
        from search.learned.lesson import Estimate  # noqa: PLC0415 - it imports scikit-learn

        found = self._get(f"{_taught(name)}/estimates")["estimates"]
        return [Estimate(**{key: one[key] for key in Estimate._fields}) for one in found]

    def _counted(self, terms: dict[str, Any]) -> dict[str, Any]:
        sent = _sent_terms(take_fields(Terms, terms))
        beyond = sorted(set(sent) - {*_FILTER, "k"})
        if beyond:
            raise QueryError(f"windows are counted by a filter, and {', '.join(beyond)} is none")
        params = {name: sent[name] for name in _FILTER if name in sent}
        return self._get("tags", params=params)

    def _asking(self, query: Asking, span: Span) -> dict[str, Any]:
        if isinstance(query, int) and not isinstance(query, bool):
            return {"window": str(query)}
        if not isinstance(query, (str, os.PathLike)):
            raise QueryError(
                f"what asks a server is an audio file or the id of a window, got {query!r:.60}"
            )
        asked = file_span(as_path("a query", query), span)
        sent: dict[str, Any] = {"clip": self._send(asked.file)}
        if not asked.is_whole:
            sent["start_s"] = asked.start_s
            if asked.duration_s is not None:
                sent["end_s"] = asked.start_s + asked.duration_s
        return sent

    def _send(self, file: Path) -> str:
        """Return by what the server knows a file: it is sent unless it is kept there."""
        key = (file, *asked_state(file))
        if key in self._sent and self._is_kept(self._sent[key]):
            return self._sent[key]
        with asked_with(file):
            content = bytes_of(file)
        self._sent[key] = str(self._post("clips", files={"file": (file.name, content)})["id"])
        return self._sent[key]

    def _is_kept(self, clip: str) -> bool:
        try:
            self._get(f"clips/{clip}")
        except QueryError:
            return False
        return True

    def _get(self, path: str, **how: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("GET", path, **how).json()
        return found

    def _post(self, path: str, **how: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._ask("POST", path, **how).json()
        return found

    def _ask(self, method: str, path: str, **how: Any) -> httpx.Response:
        for _ in range(_MOST_TRIES):
            try:
                response = self._client.request(method, path, **how)
            except httpx.HTTPError as error:
                raise SoundalikeError(f"{self._shown} does not answer: {error}") from error
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                break
            time.sleep(float(response.headers.get("Retry-After", 1)))
        if response.is_success:
            return response
        raise _error(response)


def _sent_terms(terms: Terms) -> dict[str, Any]:
    """Return the fields of terms that are not as usual, as they are sent.

    Raises:
        QueryError: If one of them is decided by the server.
    """
    usual = Terms()
    given = {one.name: getattr(terms, one.name) for one in fields(Terms)}
    given = {name: value for name, value in given.items() if value != getattr(usual, name)}
    if beyond := [name for name in _SERVERS if name in given]:
        raise QueryError(f"{', '.join(beyond)} is decided where the server runs")
    return {**given, "k": terms.k}


def _answer(found: Mapping[str, Any]) -> Answer:
    told = found["background"]
    background = None
    if told:
        background = Background(told["num_windows"], tuple(told["quartiles"]), told["highest"])
    return Answer(
        hits=tuple(map(_hit, found["hits"])),
        num_new_parts=found["num_new_parts"],
        num_left_out=found["num_left_out"],
        num_silent=found["num_silent"],
        notes=tuple(found["notes"]),
        beside=Told(background) if background else None,
        almost=tuple(map(_hit, found["almost"])),
    )


def _hit(found: Mapping[str, Any]) -> Hit:
    match = found["match"] or {"start_s": None, "end_s": None, "score": None}
    return Hit(
        score=found["score"],
        window_id=int(found["window"]),
        recording_id=bytes.fromhex(found["recording"]),
        paths=tuple(map(as_place, found["paths"])),
        start_s=found["start_s"],
        end_s=found["end_s"],
        tags=tuple(HeardTag(_tag(one["id"]), one["probability"]) for one in found["tags"]),
        scene_score=found["scene_score"],
        tag_score=found["tag_score"],
        query_start_s=found["query_start_s"],
        stands_for=found["stands_for"],
        match_start_s=match["start_s"],
        match_end_s=match["end_s"],
        match_score=match["score"],
        metadata=found["metadata"],
    )


def _tag(name: str) -> Tag:
    if name.startswith(LEARNED_PREFIX):
        return Tag(name, name, None)
    return TagVocabulary.audioset().resolve(name)


def _taught(name: str) -> str:
    return f"taught/{require_name(name)}"


def _label(found: Mapping[str, Any]) -> Label:
    given = {name: value for name, value in found.items() if name != "window"}
    return Label(window_id=int(found["window"]), **given)


def _error(response: httpx.Response) -> SoundalikeError:
    """Return the error that would have been raised if the stores were here."""
    try:
        told = response.json()
        detail, about, at = str(told["detail"]), told["about"], told["at"]
    except (ValueError, KeyError, TypeError):
        return SoundalikeError(f"{response.url} answers with status {response.status_code}")
    if at:
        return ExpressionError(detail, at=int(at[0]))
    if response.status_code == httpx.codes.CONFLICT:
        return StoreError(detail)
    if response.status_code in (400, 404, 415, 422):
        return QueryError(detail, about=about if about == "tags" else None)
    return SoundalikeError(detail)


show_fields(Remote.search, Terms)
