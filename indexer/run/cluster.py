"""The one way to a Ray cluster: what is not there, or does not answer, is an error of one line."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from indexer.errors import SoundalikeError, first_line

#: The cluster that is there, or a new one on this machine.
AUTO = "auto"

#: An address that does not answer within that is taken for wrong, in seconds: Ray itself tries for
#: two minutes, says so on stderr, and ends the process.
_ANSWERS_S = 5.0
#: Of a new cluster on this machine: its processes give up where one of them starts slowly
#: (ray-project/ray#65983), and the second start finds their files in memory.
_ATTEMPTS = 2
#: What a program of HTTP/2, and so of gRPC, begins with; and the kind of what it is answered with.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_HEADER_BYTES, _SETTINGS = 9, 4
#: Ray's own scheme, of a proxy for programs outside of the cluster.
_SCHEME = "ray://"

_connecting = threading.Lock()


def connect(address: str | None = None) -> Any:
    """Connect to a Ray cluster, unless this process is connected already: to one at a time.

    Args:
        address: HOST:PORT. None or "auto": the cluster that RAY_ADDRESS names, or one that runs on
            this machine, or else a new one on this machine, which ends with this process. It sends
            no statistics to anybody, unless the user has told Ray to.

    Returns:
        The module `ray`.

    Raises:
        SoundalikeError: If Ray is not installed, or no cluster answers at the address.
    """
    try:
        with _without_tips():
            import ray  # noqa: PLC0415 - an optional package, which takes a second
    except ImportError as error:
        raise SoundalikeError(
            "Ray, which spreads work over machines, is not installed", about="ray_extra"
        ) from error
    except Exception as error:  # what another's package raises where it is broken
        raise SoundalikeError(
            f"Ray cannot be loaded: {first_line(error)}", about="ray_extra"
        ) from error
    with _connecting:
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            _start(ray, None if address == AUTO else address)
    return ray


def _start(ray: Any, address: str | None) -> None:
    named = (os.environ.get("RAY_ADDRESS") or AUTO) if address is None else address
    if named not in {AUTO, "local"}:
        _require_answer(named)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with _without_tips(), _sigterm_as_it_was():
                ray.init(
                    address,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
            # It prints on stdout that a worker died, beside what the program prints.
            ray._private.worker._worker_logs_enabled = False
            return
        # Where a cluster does not answer, Ray ends the process.
        except (Exception, SystemExit) as error:
            with contextlib.suppress(Exception):
                ray.shutdown()
            if address is not None or attempt == _ATTEMPTS:
                where = f"at {named}" if named != AUTO else "on this machine"
                raise SoundalikeError(
                    f"no Ray cluster could be had {where}: {_reason(error)}"
                ) from error


def _reason(error: BaseException) -> str:
    return "it does not answer" if isinstance(error, SystemExit) else first_line(error).rstrip(".")


def _require_answer(address: str) -> None:
    """Raise unless something answers at an address as a cluster does."""
    host, _, port = address.removeprefix(_SCHEME).partition("/")[0].rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise SoundalikeError(
            f"{address!r} is no address of a Ray cluster, which is HOST:PORT, as in 10.0.0.1:6379"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWERS_S) as reached:
            reached.settimeout(_ANSWERS_S)
            if os.environ.get("RAY_USE_TLS", "0") == "0":
                reached.sendall(_PREFACE)
                header = reached.recv(_HEADER_BYTES, socket.MSG_WAITALL)
                if len(header) < _HEADER_BYTES or header[3] != _SETTINGS:
                    raise SoundalikeError(f"what answers at {address} is no Ray cluster")
    except (OSError, ValueError) as error:  # of a name that cannot be one, for one
        raise SoundalikeError(
            f"no Ray cluster answers at {address}: {first_line(error)}"
        ) from error


@contextlib.contextmanager
def _sigterm_as_it_was() -> Iterator[None]:
    """Let a program end in its own way: Ray puts its own in the place of that."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _without_tips() -> Iterator[None]:
    """Keep Ray from telling how its next version differs: whoever has programmed it, sees that."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"ray\b")
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ray\b")
        yield
