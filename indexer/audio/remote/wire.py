"""Messages between a process and the one that fetches for it: JSON, and with some an open file."""

from __future__ import annotations

import array
import json
import os
import socket
import struct
import weakref
from collections import deque
from io import FileIO
from typing import Any

#: Before each message its length, in bytes.
_HEADER = struct.Struct("!I")
#: Bytes that are read at once, and descriptors that may come with them.
_READ_BYTES, _MOST_FILES = 1 << 16, 64


def send(connection: socket.socket, message: dict[str, Any], file: FileIO | None = None) -> None:
    """Send a message, and with it an open file.

    Raises:
        OSError: If nobody is there any more.
    """
    text = json.dumps(message | {"has_file": file is not None}).encode()
    content = memoryview(_HEADER.pack(len(text)) + text)
    if file is not None:
        descriptors = array.array("i", [file.fileno()])
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)]
        content = content[connection.sendmsg([content], ancillary) :]
    connection.sendall(content)


class Receiver:
    """The end of a connection that messages come out of."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._content = connection, bytearray()
        self._files: deque[FileIO] = deque()

    def receive(self) -> tuple[dict[str, Any], FileIO | None]:
        """Wait for the next message, and the file that came with it.

        Raises:
            EOFError: If the other end is closed.
            OSError: If that cannot be told.
        """
        self._fill(_HEADER.size)
        (length,) = _HEADER.unpack_from(self._content)
        self._fill(_HEADER.size + length)
        message = json.loads(self._content[_HEADER.size : _HEADER.size + length])
        del self._content[: _HEADER.size + length]
        return message, self._files.popleft() if message["has_file"] else None

    def _fill(self, num_bytes: int) -> None:
        while len(self._content) < num_bytes:
            # Descriptors come with the first byte of their message, never after it.
            content, descriptors, _, _ = socket.recv_fds(self._connection, _READ_BYTES, _MOST_FILES)
            self._files.extend(map(_file_of, descriptors))
            if not content:
                raise EOFError("the other end is closed")
            self._content += content


def _file_of(descriptor: int) -> FileIO:
    """Return a file that is closed, without a word, when nobody holds it any more."""
    file = FileIO(descriptor, "r+b", closefd=False)
    weakref.finalize(file, os.close, descriptor)
    return file
