"""The process that fetches objects: it has the network, and its owner has none of it.

What speaks to buckets keeps threads, which a fork would cut off; readers are forked. And here alone
are credentials: each kind of store takes them from its usual variables, and no message has them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import re
import socket
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from io import FileIO
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, UnauthenticatedError
from obstore.store import HTTPStore, from_url

from indexer.audio.file import new_unnamed_file
from indexer.audio.remote.wire import Receiver, send
from indexer.paths import printable

#: Objects that are fetched, and looked at, at the same time: stores allow thousands of requests a
#: second, and 32 hide 50 ms behind 1.6 ms each.
_MOST_GETS, _MOST_HEADS = 16, 32
#: Lists that are read at a time.
_MOST_LISTS = 16
#: What may pass is asked for again after 0.2 s, 0.4 s, … for a minute at most: S3 asks for that
#: ("503 Slow Down"). Bodies that break off, or are silent, are begun again as long, so often.
_RETRIES, _RETRY_S, _FIRST_WAIT_S, _LONGEST_WAIT_S = 8, 60, 0.2, 10
_BODIES = 8
#: A server that says nothing for so long is gone.
_CONNECT_S, _SILENT_S = "10s", "30s"
_BLOCK_BYTES = 1 << 20
_STATUS = re.compile(r"status code: (\d{3})|status: (\d{3})")
#: What obstore says of a body that breaks off.
_BROKEN_OFF = "IncompleteBody"
#: What S3 says of the reason: "NoSuchBucket", "ExpiredToken".
_CODE = re.compile(r"<Code>(\w+)</Code>")
#: Of a request that may be made again; and of a method that is not known, or not allowed.
_PASSING, _UNABLE = {"408", "429"}, {"405", "501"}
#: Names that obstore does not take, one of which hides all others in a list.
_MISNAMED = re.compile(
    r'Path "(.*?)"(?= contained empty path segment|: Encountered illegal character)', re.DOTALL
)


class Fetcher:
    """Answers what its owner asks, many questions at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._stores: dict[str, Any] = {}
        self._lists: dict[int, _List] = {}
        self._gets, self._heads = asyncio.Semaphore(_MOST_GETS), asyncio.Semaphore(_MOST_HEADS)
        self._doing: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Answer until the owner hangs up."""
        receiver = Receiver(self._connection)
        while True:
            try:
                asked, _ = await asyncio.to_thread(receiver.receive)
            except (EOFError, OSError):
                return
            task = asyncio.create_task(self._answer(asked))
            self._doing.add(task)
            task.add_done_callback(self._doing.discard)

    async def _answer(self, asked: dict[str, Any]) -> None:
        does = {"get": self._get, "head": self._head, "list": self._list, "page": self._page}
        file = None
        try:
            told, file = await does[asked["do"]](asked)
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for an answer
            kind, reason = _what_failed(error)
            told = {"error": kind, "reason": reason}
        try:
            send(self._connection, told | {"id": asked["id"]}, file)
        except OSError:
            os._exit(0)  # nobody waits any more
        finally:
            if file is not None:
                file.close()

    async def _head(self, asked: dict[str, Any]) -> tuple[dict[str, Any], None]:
        store, key = self._place(asked["url"])
        async with self._heads:
            return _about(await obstore.head_async(store, key)), None

    async def _get(self, asked: dict[str, Any]) -> tuple[dict[str, Any], FileIO]:
        """Fetch an object, or a part of it, whatever breaks off meanwhile."""
        store, key = self._place(asked["url"])
        part = asked["part"] and (asked["part"][0], sum(asked["part"]))
        options: Any = {"range": part} if part else None
        async with self._gets:
            failing_since_s = None
            for attempt in range(_BODIES):
                answer = await obstore.get_async(store, key, options=options)
                first, end = answer.range
                told = _about(answer.meta) | {"num_bytes": end - first}
                if part and (first, end) != part:
                    raise BrokenOffError(f"bytes {part} were asked for, {(first, end)} came")
                file = new_unnamed_file(end - first)
                try:
                    digest = await _copy(answer, file, end - first)
                except (BaseError, BrokenOffError):
                    file.close()
                    now = time.monotonic()
                    failing_since_s = failing_since_s or now
                    if attempt + 1 == _BODIES or now - failing_since_s > _RETRY_S:
                        raise
                    await asyncio.sleep(_wait_s(attempt))
                except BaseException:
                    file.close()
                    raise
                else:
                    return told | {"digest": digest.hex()}, file
        raise AssertionError("the last attempt returns or raises")

    async def _list(self, asked: dict[str, Any]) -> tuple[dict[str, Any], None]:
        store, key = self._place(asked["url"])
        self._lists[asked["id"]] = _List(store, key)
        while len(self._lists) > _MOST_LISTS:  # nobody may have wanted more than their beginning
            del self._lists[min(self._lists)]
        return {"list": asked["id"]}, None

    async def _page(self, asked: dict[str, Any]) -> tuple[dict[str, Any], None]:
        """Give the next thousand of a list; none when it has ended."""
        page = await self._lists[asked["list"]].next_page()
        if not page:
            del self._lists[asked["list"]]
        _, key = self._place(asked["url"])
        return {"page": [self._found(one, key, asked["url"]) for one in page]}, None

    def _found(self, meta: Any, key: str, url: str) -> dict[str, Any]:
        path = meta["path"].removeprefix(key).lstrip("/")
        return _about(meta) | {"path": quote(path) if _is_web(url) else path}

    def _place(self, url: str) -> tuple[Any, str]:
        """Return the store that an address is in, and the name that it has there."""
        split = urlsplit(url, allow_fragments=False)
        place = f"{split.scheme}://{split.netloc}"
        key = url.removeprefix(place).strip("/")
        if place not in self._stores:
            self._stores[place] = _open_store(place)
        return self._stores[place], unquote(key) if _is_web(url) else key


class _List:
    """A list that is read in pages; where one breaks off, it goes on behind the last name."""

    def __init__(self, store: Any, prefix: str) -> None:
        self._store, self._prefix = store, prefix
        self._pages: AsyncIterator[list[dict[str, Any]]] | None = None
        self._last: str | None = None

    async def next_page(self) -> list[dict[str, Any]]:
        for attempt in range(_BODIES):
            if self._pages is None:
                stream: Any = obstore.list(
                    self._store, self._prefix or None, offset=self._last, chunk_size=1000
                )
                self._pages = aiter(stream)
            try:
                page: list[dict[str, Any]] = await anext(self._pages, [])
            except BaseError as error:
                self._pages = None
                if _BROKEN_OFF not in str(error) or attempt + 1 == _BODIES:
                    raise
                await asyncio.sleep(_wait_s(attempt))
            else:
                self._last = page[-1]["path"] if page else None
                return page
        raise AssertionError("the last attempt returns or raises")


class BrokenOffError(Exception):
    """A body that has other than the bytes that were announced."""


def _open_store(place: str) -> Any:
    client: Any = {
        "allow_http": True,  # where an address, or the variable of an endpoint, says so
        "timeout": "1day",  # of all of an object: what is silent is noticed sooner
        "read_timeout": _SILENT_S,
        "connect_timeout": _CONNECT_S,
    }
    retry: Any = {
        "max_retries": _RETRIES,
        "retry_timeout": timedelta(seconds=_RETRY_S),
        "backoff": {
            "init_backoff": timedelta(seconds=_FIRST_WAIT_S),
            "max_backoff": timedelta(seconds=_LONGEST_WAIT_S),
            "base": 2,
        },
    }
    if place.startswith("http"):
        return HTTPStore(place, client_options=client, retry_config=retry)
    return from_url(place, client_options=client, retry_config=retry)


async def _copy(answer: Any, file: FileIO, size: int) -> Any:
    """Write a body to a file, and digest it on the way."""
    digest, copied = hashlib.blake2b(digest_size=16), 0
    async for block in answer.stream(min_chunk_size=_BLOCK_BYTES):
        rest = memoryview(block)
        digest.update(rest)
        copied += len(rest)
        while len(rest):
            rest = rest[file.write(rest) :]
    if copied != size:
        raise BrokenOffError(f"it has {copied:,} bytes, and {size:,} were announced")
    file.seek(0)
    return digest.digest()


def _wait_s(attempt: int) -> float:
    """Return how long to wait after a failure: twice as long each time, and never in step."""
    longest_s = min(_FIRST_WAIT_S * 2.0**attempt, _LONGEST_WAIT_S)
    return longest_s * random.uniform(0.5, 1.0)


def _about(meta: Any) -> dict[str, Any]:
    when = meta["last_modified"]
    # Lists may have fractions of seconds; what comes with an object has none.
    changed_s = 0 if when is None else int(when.timestamp())
    return {"size": meta["size"], "changed_s": changed_s, "etag": meta["e_tag"] or ""}


def _is_web(url: str) -> bool:
    return url.startswith("http")


def _what_failed(error: Exception) -> tuple[str, str]:
    """Return which kind of failure this is, and a line for people: never an address, or a key."""
    said = str(error)
    found, code = _STATUS.search(said), _CODE.search(said)
    status = (found[1] or found[2]) if found else ""
    shown = " ".join([status, *(code.groups() if code else ())])
    if status in _UNABLE:
        return "unable", f"the server does not do that ({shown})"
    if isinstance(error, FileNotFoundError) or status == "404":
        return "absent", f"there is nothing of this name ({shown or 404})"
    if isinstance(error, (PermissionError, UnauthenticatedError)) or status in {"401", "403"}:
        denied = f"access denied ({shown})" if shown else "access denied"
        return "refused", f"{denied}: credentials come from the environment"
    if status == "416":  # a part behind its end
        return "broken", "the object changed while it was read; run again"
    if named := _MISNAMED.search(said):
        return "misnamed", (
            f"the name {printable(named[1])} cannot be read: it has a control character, or a part "
            f"that is empty, . or .."
        )
    if isinstance(error, BrokenOffError):
        return "broken", f"it breaks off each time: {error}"
    if isinstance(error, OSError):
        return "system", f"cannot be kept: {error.strerror or type(error).__name__}".lower()
    if status.startswith("5") or status in _PASSING:
        return "unreachable", f"the server fails ({shown}), and did each time it was asked"
    if status:
        return "unreachable", f"the server answers with status {shown}"
    return "unreachable", _why_unreachable(said)


def _why_unreachable(said: str) -> str:
    for sign, meaning in _SIGNS.items():
        if sign in said:
            return meaning
    return "the server cannot be reached, or does not answer as it should"


_WHOLE_ALONE = "the server gives no parts of it, as is needed of an archive; copy it to a disk"
#: What the errors of obstore have in them, and what it means.
_SIGNS = {
    "ConnectionRefused": "the server refuses the connection",
    "MissingAccount": "the account is not known: AZURE_STORAGE_ACCOUNT_NAME says it",
    "dns error": "the server's name is not known",
    "kind: Timeout": "the server does not answer in time",
    "InvalidCertificate": "the server's certificate is not valid",
    "Content-Length": "the server does not say how long it is (Content-Length)",
    _BROKEN_OFF: "it breaks off each time",
    "NotPartial": _WHOLE_ALONE,
    "RangeNotSupported": _WHOLE_ALONE,
}


def main() -> None:
    """Serve the process that started this one, over the connection that it gave."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    asyncio.run(Fetcher(connection).serve())
    os._exit(0)


if __name__ == "__main__":
    main()
