"""Who may ask: nobody but the page that this server gave, and who has the token that it printed.

A server on loopback is open to every page that a browser shows: a foreign name may be made to lead
there, and then that page is of the same origin. So the name in a request is held against those that
this server has, and what changes something has to come from its own page.
"""

from __future__ import annotations

import re
import secrets
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from soundalike.web.address import is_number
from soundalike.web.limits import Limits
from soundalike.web.replies import Json

#: What a page may do: nothing that is not of this server, and no script that is not a file of it.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "form-action 'self'",
    )
)
_HEADERS = {
    b"content-security-policy": _POLICY.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}
_READING = frozenset({"GET", "HEAD"})
#: What a browser says of a request that its own page makes, or somebody who typed an address.
_OWN_SITES = frozenset({"same-origin", "none"})
_NO_TOKEN = "open the address that 'soundalike serve' printed: it has a token"
_WRONG_TOKEN = f"that is not the token of this run; {_NO_TOKEN}"
#: A name, or a number of IPv6, and perhaps a port.
_HOST = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?", re.ASCII)
#: Of a multipart form, what is around the file.
_AROUND_BYTES = 64 << 10


class Guard:
    """Lets requests through to an application, or refuses them.

    Attributes:
        token: What has to be known to ask; None for nothing.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        names: frozenset[str],
        takes_numbers: bool,
        token: str | None,
        cookie: str,
        upload_path: str,
        limits: Limits,
    ) -> None:
        """Guard an application.

        Args:
            app: The application.
            names: Names of the server, as a browser has them in addresses, without the port.
            takes_numbers: Whether it goes by every number, too: those of this machine are many.
            token: As above.
            cookie: Name of the cookie that the token is kept in; it is the same for all ports.
            upload_path: Where sounds are sent.
            limits: How long requests may be, there and elsewhere.
        """
        self._app, self._names, self.token, self._cookie = app, names, token, cookie
        self._takes_numbers = takes_numbers
        self._upload_path, self._body_bytes = upload_path, limits.body_bytes
        self._upload_bytes = limits.upload_bytes + _AROUND_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request: see ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # a web socket, which is closed by that
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        given = self._token_in_address(scope)
        refusal = self._refuse(scope, headers, given)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS.items()]
                if given is not None and refusal is None:
                    message["headers"].append((b"set-cookie", self._set_cookie(scope)))
            await send(message)

        if refusal is not None:
            await refusal(scope, receive, send_guarded)
            return
        await self._app(scope, _counted(receive, self._most_bytes(scope)), send_guarded)

    def _refuse(
        self, scope: Scope, headers: dict[bytes, str], given: str | None
    ) -> Response | None:
        host = headers.get(b"host", "")
        name = _name_of(host)
        if name not in self._names and not (self._takes_numbers and is_number(name)):
            return _refusal(
                400,
                "this server does not go by that name: use the address that it printed, or serve "
                "with that name as well",
            )
        if scope["method"] not in _READING:
            site = headers.get(b"sec-fetch-site", "same-origin")
            origin = headers.get(b"origin", f"{scope['scheme']}://{host}")
            if site not in _OWN_SITES or origin != f"{scope['scheme']}://{host}":
                return _refusal(403, "only the page of this server may ask that")
        most = self._most_bytes(scope)
        length = headers.get(b"content-length", "0")
        if not length.isascii() or not length.isdigit():
            return _refusal(400, "the length of the request is no number")
        if int(length) > most:
            return _refusal(413, _too_large(most))
        if self.token is not None and not self._is_known(headers, given):
            is_wrong = given or b"authorization" in headers
            told = _WRONG_TOKEN if is_wrong else _NO_TOKEN
            if scope["path"] == "/":  # somebody has typed the address
                return PlainTextResponse(told, 401)
            return _refusal(401, told)
        return None

    def _most_bytes(self, scope: Scope) -> int:
        is_upload = scope["path"] == self._upload_path
        return self._upload_bytes if is_upload else self._body_bytes

    def _is_known(self, headers: dict[bytes, str], given: str | None) -> bool:
        kept = _cookie_in(headers.get(b"cookie", ""), self._cookie)
        bearer = headers.get(b"authorization", "").removeprefix("Bearer ")
        assert self.token is not None
        wanted = self.token.encode()
        offered = [one.encode() for one in (given, kept, bearer) if one]
        return any(secrets.compare_digest(one, wanted) for one in offered)

    def _token_in_address(self, scope: Scope) -> str | None:
        if scope["path"] != "/" or self.token is None:
            return None
        query: str = scope["query_string"].decode("latin-1")
        return next(iter(parse_qs(query).get("token", [])), None)

    def _set_cookie(self, scope: Scope) -> bytes:
        secure = "; Secure" if scope["scheme"] == "https" else ""
        value = f"{self._cookie}={self.token}; Path=/; HttpOnly; SameSite=Strict{secure}"
        return value.encode()


def _name_of(host: str) -> str:
    """Return the name in a Host header, without the port; nothing of what is none."""
    found = _HOST.fullmatch(host)
    return found[1].lower() if found else ""


def _cookie_in(header: str, name: str) -> str:
    try:
        cookies = SimpleCookie(header)
    except CookieError:
        return ""
    return cookies[name].value if name in cookies else ""


def _refusal(status: int, detail: str) -> Json:
    return Json({"detail": detail, "about": None, "at": None}, status)


def _too_large(most: int) -> str:
    return f"too large: at most {most // 1_000_000} MB can be sent here"


def _counted(receive: Receive, most: int) -> Receive:
    """Return what receives a body, of so many bytes at most."""
    num_bytes = 0

    async def receive_counted() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > most:
            raise HTTPException(413, _too_large(most))
        return message

    return receive_counted
