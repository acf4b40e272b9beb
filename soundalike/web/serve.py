"""Serving the page: a socket, a token, and uvicorn until the process is told to end."""

from __future__ import annotations

import logging
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from threadpoolctl import threadpool_limits

from indexer.reading.apart import Apart
from indexer.store.reader import Store
from soundalike.sounds import Sounds
from soundalike.web.address import Address
from soundalike.web.app import make_app
from soundalike.web.desk import Desk
from soundalike.web.guard import Guard
from soundalike.web.limits import Limits

#: So long what is on its way may take when the server is told to end, in seconds.
_LAST_S = 3


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
        SoundalikeError: If the port is taken, or the host is none of this machine.
    """
    limits = limits or Limits()
    for path in sounds.paths:
        Store.open(path)  # an index may come later
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    with (
        address.listen() as listener,
        tempfile.TemporaryDirectory(prefix="soundalike-") as folder,
    ):
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe(24) if address.has_token else None
        desk = Desk(sounds, apart, Path(folder), limits, metadata)
        app = guarded(desk, address.known_as, token, port, takes_numbers=address.is_any)
        config = uvicorn.Config(
            app,
            log_level="error",  # what strangers send is no news
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_LAST_S,
        )
        began(address.shown(port, token))
        server = uvicorn.Server(config)
        # What is cut off at the end is no fault of anybody.
        logging.getLogger("uvicorn.error").addFilter(lambda _: not server.should_exit)
        try:
            # The threads of a product wait for the next one in a loop, and take what others need.
            with threadpool_limits(1, "blas"):
                server.run(sockets=[listener])
        finally:
            apart.close()


def guarded(
    desk: Desk, names: frozenset[str], token: str | None, port: int, *, takes_numbers: bool = False
) -> ASGIApp:
    """Return the application behind its guard."""
    return Guard(
        make_app(desk),
        names=names,
        takes_numbers=takes_numbers,
        token=token,
        cookie=f"soundalike-{port}",  # cookies are the same for all ports of a machine
        upload_path="/api/v1/clips",
        limits=desk.limits,
    )
