"""A server of objects on loopback that does what real ones do on bad days.

It speaks as much of S3 as reading takes (lists, GET, HEAD), and WebDAV for those who list over
plain HTTP. Objects are the files of a folder.
"""

from __future__ import annotations

import email.utils
import hashlib
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "sounds"
_PAGE = 100


@dataclass
class Faults:
    """What goes wrong.

    Attributes:
        share: Of all requests for objects that fail in one of these ways, 0 to 1.
        lists_share: Likewise of all pages of lists.
        statuses: What these answer with; 0 cuts the connection in the middle of a body.
        always: Key → status that it has each time.
        delay_s: Added to each request.
        etag: "true", "changing" (another at each answer), "constant" (the same for all), or "none".
        list_etag: How lists have them: "same", "unquoted" as Azure, or "none".
        lists: Whether it lists, as plain web servers do not.
        ranges: Whether it gives parts of objects.
    """

    share: float = 0.0
    lists_share: float = 0.0
    statuses: tuple[int, ...] = (500, 0)
    always: dict[str, int] = field(default_factory=dict)
    delay_s: float = 0.0
    etag: str = "true"
    list_etag: str = "same"
    lists: bool = True
    ranges: bool = True
    random: random.Random = field(default_factory=lambda: random.Random(1))


class ObjectServer(ThreadingHTTPServer):
    """Serves a folder.

    Attributes:
        faults: May be changed while it runs.
        asked: (method, key) of each request.
        num_bytes: Of all bodies of objects that were sent, without what was cut off.
        endpoint: Its address.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.faults = folder, Faults()
        self.asked: list[tuple[str, str]] = []
        self.num_bytes = 0
        self.endpoint = f"http://127.0.0.1:{self.server_port}"

    @property
    def address(self) -> str:
        """Of the folder, as a bucket of S3."""
        return f"s3://{BUCKET}"

    def count(self) -> Counter[str]:
        """Return how many requests for objects there were, by method."""
        return Counter(method for method, key in self.asked if key)

    def handle_error(self, *_: object) -> None:
        """Say nothing: connections that break are what this is for."""

    def variables(self) -> dict[str, str]:
        """Return what tells a process to use it as S3."""
        return {
            "AWS_ACCESS_KEY_ID": "the-key-id",
            "AWS_SECRET_ACCESS_KEY": "the-secret-key",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ObjectServer

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._list(query)
        else:
            self._give(has_body=True)

    def do_HEAD(self) -> None:
        self._give(has_body=False)

    def do_PROPFIND(self) -> None:
        """List a folder as WebDAV does."""
        if not self.server.faults.lists:
            self._send(405, b"", "text/plain")
            return
        prefix = self._key()
        self.server.asked.append(("PROPFIND", ""))
        found = [
            f"<D:response><D:href>/{quote(key)}</D:href><D:propstat><D:prop>"
            f"<D:getlastmodified>{_http_date(path)}</D:getlastmodified>"
            f"<D:getcontentlength>{path.stat().st_size}</D:getcontentlength>"
            f"<D:resourcetype/><D:getetag>{escape(self._listed_etag(path))}</D:getetag></D:prop>"
            "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
            for key, path in self._objects(prefix)
        ]
        content = f'<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">{"".join(found)}'
        self._send_list(207, f"{content}</D:multistatus>".encode())

    def _list(self, query: dict[str, list[str]]) -> None:
        time.sleep(self.server.faults.delay_s)
        self.server.asked.append(("LIST", ""))
        prefix = query.get("prefix", [""])[0]
        after = query.get("continuation-token", query.get("start-after", [""]))[0]
        objects = [one for one in self._objects(prefix) if one[0] > after]
        rows = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{_iso_date(path)}</LastModified>"
            f"<ETag>{escape(self._listed_etag(path))}</ETag><Size>{path.stat().st_size}</Size>"
            f"<StorageClass>STANDARD</StorageClass></Contents>"
            for key, path in objects[:_PAGE]
        )
        more = len(objects) > _PAGE
        last = escape(objects[_PAGE - 1][0]) if more else ""
        token = f"<NextContinuationToken>{last}</NextContinuationToken>" if more else ""
        self._send_list(
            200,
            f'<?xml version="1.0"?><ListBucketResult><Name>{BUCKET}</Name><Prefix>'
            f"{escape(prefix)}</Prefix><KeyCount>{len(objects)}</KeyCount><MaxKeys>{_PAGE}"
            f"</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>{token}{rows}"
            f"</ListBucketResult>".encode(),
        )

    def _send_list(self, status: int, content: bytes) -> None:
        faults = self.server.faults
        if faults.random.random() < faults.lists_share:
            status = faults.random.choice(faults.statuses)
        self._send(status or 200, content, "application/xml", is_cut=not status)

    def _objects(self, prefix: str) -> list[tuple[str, Path]]:
        folder = self.server.folder
        files = (path for path in folder.rglob("*") if path.is_file())
        found = ((path.relative_to(folder).as_posix(), path) for path in files)
        return sorted(one for one in found if one[0].startswith(prefix))

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).strip("/").removeprefix(f"{BUCKET}/")

    def _give(self, *, has_body: bool) -> None:
        faults, key = self.server.faults, self._key()
        self.server.asked.append((self.command, key))
        time.sleep(faults.delay_s)
        path = self.server.folder / key
        status = faults.always.get(key) or (200 if path.is_file() else 404)
        if status == 200 and faults.random.random() < faults.share:
            status = faults.random.choice(faults.statuses)
        if status and status != 200:
            self._send(status, b"<Error><Code>Injected</Code></Error>", "application/xml")
            return
        size = path.stat().st_size
        part = self._part(size)
        first, end = part or (0, size)
        self.send_response(206 if part else 200)
        if part:
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{size}")
        self.send_header("Content-Length", str(end - first))
        self.send_header("Last-Modified", _http_date(path))
        self.send_header("ETag", self._etag(path))
        self.end_headers()
        if has_body:
            self._copy(path, first, end if status else first + (end - first) // 2)
        if not status:
            self.close_connection = True

    def _part(self, size: int) -> tuple[int, int] | None:
        """Return which bytes are asked for; None if all are."""
        asked = self.headers.get("Range") if self.server.faults.ranges else None
        if asked is None:
            return None
        first, last = map(int, asked.removeprefix("bytes=").split("-"))
        return first, min(last + 1, size)

    def _copy(self, path: Path, at: int, end: int) -> None:
        self.wfile.flush()
        self.server.num_bytes += end - at
        with path.open("rb") as file:
            while at < end:
                at += os.sendfile(self.connection.fileno(), file.fileno(), at, end - at)

    def _listed_etag(self, path: Path) -> str:
        kind, etag = self.server.faults.list_etag, self._etag(path)
        return {"same": etag, "unquoted": etag.strip('"'), "none": ""}[kind]

    def _etag(self, path: Path) -> str:
        kind = self.server.faults.etag
        if kind == "changing":
            return f'"{os.urandom(8).hex()}"'
        if kind in ("constant", "none"):
            return '"always"' if kind == "constant" else ""
        status = path.stat()
        mark = f"{path} {status.st_size} {status.st_mtime_ns} {status.st_ino}"
        return f'"{hashlib.md5(mark.encode(), usedforsecurity=False).hexdigest()}"'

    def _send(self, status: int, content: bytes, kind: str, *, is_cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if is_cut else content)
        if is_cut:
            self.close_connection = True


def _http_date(path: Path) -> str:
    return email.utils.formatdate(path.stat().st_mtime, usegmt=True)


def _iso_date(path: Path) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.123Z", time.gmtime(path.stat().st_mtime))


@contextmanager
def serving(folder: Path) -> Iterator[ObjectServer]:
    """Serve a folder until the block ends."""
    server = ObjectServer(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
