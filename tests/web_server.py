"""A server of the tests: a real one, in a process of its own, or its application in this one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx2 as httpx


class Running(NamedTuple):
    """A server.

    Attributes:
        address: What opens the page, with the token.
        root: The same without it.
        process: What runs it.
        client: Asks it, with the token.
    """

    address: str
    root: str
    process: subprocess.Popen[str]
    client: httpx.Client

    def post(self, path: str, **body: Any) -> Any:
        """What a request is answered with."""
        response = self.client.post(f"/api/v1/{path}", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    def get(self, path: str, **params: Any) -> Any:
        response = self.client.get(f"/api/v1/{path}", params=params)
        assert response.status_code == 200, response.text
        return response.json()

    def send(self, file: Path) -> Any:
        with file.open("rb") as content:
            response = self.client.post("/api/v1/clips", files={"file": (file.name, content)})
        assert response.status_code == 201, response.text
        return response.json()

    def cpu_s(self) -> float:
        """Processor time that the server has taken, without the processes that decode."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024


@contextmanager
def serving(*words: object, token: bool = True, port: int = 0) -> Iterator[Running]:
    """Run `soundalike serve` until the end of the block; port 0 is one that is free."""
    command = [sys.executable, "-m", "soundalike", "serve", *map(str, words), "--port", str(port)]
    process = subprocess.Popen(
        [*command, *([] if token else ["--no-token"])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        address = process.stdout.readline().strip()
        assert address, process.stderr.read() if process.stderr else ""
        root, _, given = address.partition("?token=")
        headers = {"Authorization": f"Bearer {given}"} if given else {}
        with httpx.Client(base_url=root, headers=headers, timeout=90) as client:
            _wait_for(client)
            yield Running(address, root.rstrip("/"), process, client)
    finally:
        process.terminate()
        process.communicate(timeout=30)


def _wait_for(client: httpx.Client) -> None:
    until = time.monotonic() + 30
    while True:
        try:
            client.get("/api/v1/stores")
        except httpx.TransportError:
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            return
