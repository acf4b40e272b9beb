"""Serving the page: a socket, a token, and uvicorn until the process is told to end."""

from __future__ import annotations

import errno
import ipaddress
import logging
import secrets
import socket
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from threadpoolctl import threadpool_limits

from indexer.errors import SoundalikeError
from indexer.reading.apart import Apart
from indexer.store.reader import Store
from soundalike.sounds import Sounds
from soundalike.web.app import make_app
from soundalike.web.desk import Desk
from soundalike.web.guard import Guard
from soundalike.web.limits import Limits

#: Names of this machine in its own addresses.
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: So long what is on its way may take when the server is told to end, in seconds.
_LAST_S = 3


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is reached.

    Attributes:
        host: Name or number of this machine, that it listens at.
        port: Port; 0 for one that is free.
        names: Other names that it is known by.
        has_token: Whether a token has to be known to ask; off loopback it has to in any case.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    names: Sequence[str] = ()
    has_token: bool = True


def serve(
    sounds: Sounds,
    apart: Apart,
    address: Address,
    metadata: Path | None = None,
    limits: Limits | None = None,
    began: Callable[[str], None] = print,
) -> None:
    """Serve the page of some stores until this process is told to end.

    Args:
        sounds: The stores, opened with `apart`.
        apart: Decodes what is sent.
        address: Where it is reached.
        metadata: File with more columns for filters, see `soundalike.Terms`.
        limits: What is given at most; None for the usual.
        began: Called with the address that opens the page, once it is served.

    Raises:
        StoreError: If a store is not there.
        SoundalikeError: If the port is taken, the host is none of this machine, or a token is to be
            left out off loopback.
    """
    limits = limits or Limits()
    for path in sounds.paths:
        Store.open(path)  # an index may come later
    is_loopback = _is_loopback(address.host)
    if not address.has_token and not is_loopback:
        raise SoundalikeError(
            f"{address.host} can be reached from other machines, and without a token anybody there "
            f"could ask: serve on 127.0.0.1, or keep the token",
            about="token",
        )
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    with (
        _listening(address) as listener,
        tempfile.TemporaryDirectory(prefix="soundalike-") as folder,
    ):
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(24) if address.has_token else None
        desk = Desk(sounds, apart, Path(folder), limits, metadata)
        names = {_in_address(address.host), *address.names, *_LOOPBACK_NAMES}
        app = guarded(desk, frozenset(one.lower() for one in names), token, port)
        config = uvicorn.Config(
            app,
            log_level="error",  # what strangers send is no news
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_LAST_S,
        )
        shown = "localhost" if _is_any(address.host) else _in_address(address.host)
        began(f"http://{shown}:{port}/{'' if token is None else f'?token={token}'}")
        try:
            # The threads of a product wait for the next one in a loop, and take what others need.
            with threadpool_limits(1, "blas"):
                uvicorn.Server(config).run(sockets=[listener])
        finally:
            apart.close()


def guarded(desk: Desk, names: frozenset[str], token: str | None, port: int) -> ASGIApp:
    """Return the application behind its guard."""
    return Guard(
        make_app(desk),
        names=names,
        token=token,
        cookie=f"soundalike-{port}",  # cookies are the same for all ports of a machine
        upload_path="/api/v1/clips",
        upload_bytes=desk.limits.upload_bytes,
        body_bytes=desk.limits.body_bytes,
    )


def _listening(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family)
    except OverflowError as error:
        raise SoundalikeError(f"ports reach from 0 to 65535, got {address.port}") from error
    except OSError as error:
        # Python adds the address to what the system says, in brackets.
        why = str(error.strerror or error).partition(" (while ")[0]
        is_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
        raise SoundalikeError(
            f"cannot listen at {address.host}, port {address.port}: {why}",
            about="port" if is_port else None,
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_any(host: str) -> bool:
    """Whether it is every address of this machine."""
    return host in ("0.0.0.0", "::", "")


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
