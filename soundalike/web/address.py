"""Where a server is reached: what it listens at, and the names that it is known by."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from indexer.errors import SoundalikeError

#: Names of this machine in its own addresses.
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: What can stand for a server in an address: a name or a number, without a port.
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
#: An address of nobody (RFC 5737): what leads there leads to others, and nothing is sent.
_NOBODY = ("192.0.2.1", 9)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is reached.

    Attributes:
        host: Name or number of this machine, that it listens at; "0.0.0.0" or "::" for all.
        port: Port; 0 for one that is free.
        names: Other names that it is known by.
        has_token: Whether a token has to be known to ask; off loopback it has to in any case.
    """

    host: str = "127.0.0.1"
    port: int = 8765
    names: Sequence[str] = ()
    has_token: bool = True

    def __post_init__(self) -> None:
        if not self.host.strip():
            raise SoundalikeError("the host to listen at is empty; 127.0.0.1 is this machine alone")
        for name in self.names:
            if not _NAME.fullmatch(name.lower()):
                raise SoundalikeError(
                    f"a name of a server is as in its address, without http:// and port, got "
                    f"{name!r}"
                )
        if not self.has_token and not self.is_loopback:
            raise SoundalikeError(
                f"{self.host} can be reached from other machines, and without a token anybody "
                f"there could ask: serve on 127.0.0.1, or keep the token",
                about="token",
            )

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def is_any(self) -> bool:
        """Whether it is every address of this machine."""
        return self.host in ("0.0.0.0", "::")

    @property
    def known_as(self) -> frozenset[str]:
        """The names that browsers may know it by; if it is every address, numbers beside."""
        names = {_in_address(self.host), *self.names, *_LOOPBACK_NAMES}
        return frozenset(name.lower() for name in names)

    def listen(self) -> socket.socket:
        """Open the socket.

        Raises:
            SoundalikeError: If the port is taken, or the host is none of this machine.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            return socket.create_server((self.host, self.port), family=family)
        except OverflowError as error:
            raise SoundalikeError(f"ports reach from 0 to 65535, got {self.port}") from error
        except socket.gaierror as error:
            raise SoundalikeError(f"{self.host} is no name or number of this machine") from error
        except OSError as error:
            # Python adds the address to what the system says, in brackets.
            why = str(error.strerror or error).partition(" (while ")[0]
            is_port = error.errno in (errno.EADDRINUSE, errno.EACCES)
            raise SoundalikeError(
                f"cannot listen at {self.host}, port {self.port}: {why}",
                about="port" if is_port else None,
            ) from error

    def shown(self, port: int, token: str | None) -> str:
        """Return what opens the page, for those who shall."""
        host = _in_address(_own_number() if self.is_any else self.host)
        name = self.names[0] if self.names else host
        return f"http://{name}:{port}/{'' if token is None else f'?token={token}'}"


def is_number(name: str) -> bool:
    """Whether something is a number of a machine, as addresses have it: no page can take that over.

    A name may be made to lead anywhere.
    """
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _own_number() -> str:
    """Return by which number others reach this machine, or how it reaches itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(_NOBODY)
            return str(one.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
