"""Downloads against a real server on the loopback, well-behaved and not."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from listener import Listener, on_step

from indexer.errors import CheckpointError
from indexer.model import download
from indexer.model import known as known_module
from indexer.model.download import download_file
from indexer.model.known import (
    DEFAULT_CHECKPOINT,
    KNOWN_CHECKPOINTS,
    checkpoint_folder,
    fetch,
    known_as,
    locate,
)
from indexer.paths import bundled_path
from indexer.progress import Step

REPOSITORY = Path(__file__).parents[1]
CONTENT = bytes(range(256)) * 4096  # 1 MiB
MD5 = hashlib.md5(CONTENT).hexdigest()
HALF = len(CONTENT) // 2
#: Nothing listens there: port 9 is "discard", which no system serves any more.
REFUSED = "http://127.0.0.1:9/file"


class FileServer(ThreadingHTTPServer):
    """Serves one file; each request takes the next behaviour, and the last one is kept.

    Attributes:
        behaviours: Names of methods of `Handler`.
        ranges: The Range header of every request so far.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.behaviours = ["serve"]
        self.ranges: list[str | None] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/file"


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server = self.server
        server.ranges.append(self.headers.get("Range"))
        behaviour = (
            server.behaviours[0] if len(server.behaviours) == 1 else server.behaviours.pop(0)
        )
        method: Callable[[], None] = getattr(self, behaviour)
        method()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass

    def serve(self, num_bytes: int | None = None) -> None:
        """Serve what was asked for, or only the first bytes of it."""
        whole = self.server.content
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        if start >= len(whole):
            self.answer(416, **{"Content-Range": f"bytes */{len(whole)}", "Content-Length": "0"})
            return
        headers = {"Content-Length": str(len(whole) - start)}
        if match:
            headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
        self.answer(206 if match else 200, **headers)
        stop = len(whole) if num_bytes is None else start + num_bytes
        self.wfile.write(whole[start:stop])

    def answer(self, code: int, **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def drop(self) -> None:
        self.serve(num_bytes=100_000)

    def drop_before_answering(self) -> None:
        pass

    def stall(self) -> None:
        self.serve(num_bytes=HALF)
        self.wfile.flush()
        self.server.released.wait(30)

    def wait_then_serve(self) -> None:
        self.server.released.wait(30)
        self.serve()

    def ignore_range(self) -> None:
        del self.headers["Range"]
        self.serve()

    def drop_ignoring_range(self) -> None:
        del self.headers["Range"]
        self.serve(num_bytes=100_000)

    def serve_another_range(self) -> None:
        self.answer(206, **{"Content-Range": f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}"})
        self.wfile.write(CONTENT[7:])

    def serve_without_length(self) -> None:
        self.answer(200)
        self.wfile.write(CONTENT)

    def serve_login_page(self) -> None:
        self.answer(200)
        self.wfile.write(b"<html>Please log in to the network</html>")

    def not_found(self) -> None:
        self.send_error(404)

    def unavailable(self) -> None:
        self.send_error(503)

    def redirect(self) -> None:
        self.answer(302, Location="/elsewhere")

    def redirect_to_ftp(self) -> None:
        self.answer(302, Location="ftp://127.0.0.1/file")

    def redirect_to_file(self) -> None:
        self.answer(302, Location="file:///etc/hostname")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "file.pth"


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nobody sleeps for long here; lists for how long they wanted to, in seconds."""
    wanted: list[float] = []
    sleep = time.sleep

    def sleep_little(seconds: float) -> None:
        wanted.append(seconds)
        sleep(min(seconds, 0.01))

    monkeypatch.setattr(time, "sleep", sleep_little)
    monkeypatch.setenv("no_proxy", "*")
    return wanted


def part_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def leave_part(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(content)


def test_download_file_places_the_file(server: FileServer, target: Path) -> None:
    download_file(server.url, target, MD5)
    assert target.read_bytes() == CONTENT
    assert not part_of(target).exists()
    assert server.ranges == [None]


def test_download_file_reports_every_byte_once(server: FileServer, target: Path) -> None:
    heard = Listener()
    download_file(server.url, target, MD5, heard)
    assert heard.counts[0] == (0, len(CONTENT))
    assert heard.counts[-1] == (len(CONTENT), len(CONTENT))
    assert len(heard.counts) > 3
    assert heard.done == sorted(set(heard.done))


def test_download_file_length_not_told_reports_no_total(server: FileServer, target: Path) -> None:
    server.behaviours = ["serve_without_length"]
    heard = Listener()
    download_file(server.url, target, MD5, heard)
    assert target.read_bytes() == CONTENT
    assert heard.counts[-1] == (len(CONTENT), None)


def test_download_file_already_there_asks_nobody(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"placed by another process")
    download_file(server.url, target, MD5)
    assert server.ranges == []
    assert target.read_bytes() == b"placed by another process"


def test_download_file_part_is_there_resumes(server: FileServer, target: Path) -> None:
    leave_part(target, CONTENT[:HALF])
    heard = Listener()
    download_file(server.url, target, MD5, heard)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={HALF}-"]
    assert heard.counts[0] == (HALF, len(CONTENT))
    assert heard.counts[-1] == (len(CONTENT), len(CONTENT))


def test_download_file_part_is_whole_asks_nobody(server: FileServer, target: Path) -> None:
    leave_part(target, CONTENT)
    download_file(server.url, target, MD5)
    assert target.read_bytes() == CONTENT
    assert server.ranges == []


def test_download_file_part_is_too_long_starts_over(server: FileServer, target: Path) -> None:
    leave_part(target, CONTENT + b"more")
    download_file(server.url, target, MD5)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(CONTENT) + 4}-", None]


def test_download_file_part_of_another_version_starts_over(
    server: FileServer, target: Path
) -> None:
    leave_part(target, b"x" * HALF)
    download_file(server.url, target, MD5)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={HALF}-", None]


def test_download_file_server_ignores_range_starts_over(server: FileServer, target: Path) -> None:
    server.behaviours = ["ignore_range"]
    leave_part(target, CONTENT[:HALF])
    heard = Listener()
    download_file(server.url, target, MD5, heard)
    assert target.read_bytes() == CONTENT
    assert heard.counts[0] == (0, len(CONTENT))


def test_download_file_server_sends_another_range_starts_over(
    server: FileServer, target: Path
) -> None:
    server.behaviours = ["serve_another_range", "serve"]
    leave_part(target, CONTENT[:HALF])
    download_file(server.url, target, MD5)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={HALF}-", None]


def test_download_file_connection_drops_resumes(server: FileServer, target: Path) -> None:
    server.behaviours = ["drop", "drop_before_answering", "drop", "serve"]
    heard = Listener()
    download_file(server.url, target, MD5, heard)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-", "bytes=100000-", "bytes=200000-"]
    assert heard.done == sorted(heard.done)
    assert [text.split(" to ")[0] for text in heard.sentences] == [
        "attempt 1",
        "attempt 2",
        "attempt 3",
    ]


def test_download_file_drops_without_range_gets_there(server: FileServer, target: Path) -> None:
    server.behaviours = ["drop_ignoring_range", "drop_ignoring_range", "ignore_range"]
    download_file(server.url, target, MD5)
    assert target.read_bytes() == CONTENT


def test_download_file_drops_every_time_says_how_to_resume(
    server: FileServer, target: Path, waits: list[float]
) -> None:
    server.behaviours = ["drop"]
    with pytest.raises(CheckpointError, match=r"5 attempts .* resumes after the 500000 bytes"):
        download_file(server.url, target, MD5)
    assert waits == [0.5, 1, 2, 4]
    assert not target.exists()
    server.behaviours = ["serve"]
    download_file(server.url, target, MD5)
    assert target.read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=500000-"


def test_download_file_server_stalls_resumes(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_TIMEOUT_S", 0.2)
    server.behaviours = ["stall", "serve"]
    download_file(server.url, target, MD5)
    assert target.read_bytes() == CONTENT
    assert server.ranges[0] is None
    assert server.ranges[1] is not None


def test_download_file_unavailable_at_first_tries_again(server: FileServer, target: Path) -> None:
    server.behaviours = ["unavailable", "unavailable", "serve"]
    download_file(server.url, target, MD5)
    assert target.read_bytes() == CONTENT


def test_download_file_not_found_raises_at_once(server: FileServer, target: Path) -> None:
    server.behaviours = ["not_found"]
    with pytest.raises(CheckpointError, match="answers 404 Not Found"):
        download_file(server.url, target, MD5)
    assert len(server.ranges) == 1


def test_download_file_refused_raises_at_once(target: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot reach 127\.0\.0\.1:9 .*refused"):
        download_file(REFUSED, target, MD5)


def test_download_file_wrong_digest_names_both_and_leaves_nothing(
    server: FileServer, target: Path
) -> None:
    server.behaviours = ["serve_login_page"]
    with pytest.raises(CheckpointError) as caught:
        download_file(server.url, target, MD5)
    page = hashlib.md5(b"<html>Please log in to the network</html>").hexdigest()
    assert page in str(caught.value)
    assert MD5 in str(caught.value)
    assert not target.exists()
    assert not part_of(target).exists()


def test_download_file_changed_on_the_server_raises_wrong_digest(
    server: FileServer, target: Path
) -> None:
    server.content = b"y" * len(CONTENT)
    leave_part(target, CONTENT[:HALF])
    with pytest.raises(CheckpointError, match="MD5"):
        download_file(server.url, target, MD5)
    assert server.ranges == [f"bytes={HALF}-", None]
    assert not part_of(target).exists()


def test_download_file_endless_answer_raises(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 300_000)
    with pytest.raises(CheckpointError, match="more than 300000 bytes"):
        download_file(server.url, target, MD5)
    assert not part_of(target).exists()


def test_download_file_redirected_follows(server: FileServer, target: Path) -> None:
    server.behaviours = ["redirect", "serve"]
    leave_part(target, CONTENT[:HALF])
    download_file(server.url, target, MD5)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={HALF}-"] * 2


@pytest.mark.parametrize("behaviour", ["redirect_to_ftp", "redirect_to_file"])
def test_download_file_redirected_out_of_http_raises(
    server: FileServer, target: Path, behaviour: str
) -> None:
    server.behaviours = [behaviour]
    with pytest.raises(CheckpointError):
        download_file(server.url, target, MD5)
    assert not target.exists()


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/file", "file.pth", ""])
def test_download_file_not_http_raises(target: Path, url: str) -> None:
    with pytest.raises(CheckpointError, match="only http and https"):
        download_file(url, target, MD5)


def test_download_file_folder_cannot_be_made_raises(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(CheckpointError, match="cannot write"):
        download_file(server.url, tmp_path / "taken" / "file.pth", MD5)


def test_download_file_progress_raises_keeps_the_part(server: FileServer, target: Path) -> None:
    def stop(step: Step) -> None:
        if step.done > HALF:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download_file(server.url, target, MD5, on_step(stop))
    kept = part_of(target).stat().st_size
    assert kept > HALF
    download_file(server.url, target, MD5)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={kept}-"]


def test_download_file_two_threads_at_once_download_once(server: FileServer, target: Path) -> None:
    server.behaviours = ["wait_then_serve"]
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(download_file, server.url, target, MD5) for _ in range(2)]
        wait_until(lambda: len(server.ranges) == 1)
        server.released.set()
        for future in both:
            future.result(timeout=30)
    assert target.read_bytes() == CONTENT
    assert len(server.ranges) == 1


@pytest.mark.whole
def test_download_file_two_processes_at_once_download_once(
    server: FileServer, target: Path
) -> None:
    server.behaviours = ["wait_then_serve"]
    both = [start_process(server, target) for _ in range(2)]
    wait_until(lambda: len(server.ranges) == 1)
    server.released.set()
    for process in both:
        assert process.wait(30) == 0
    assert target.read_bytes() == CONTENT
    assert len(server.ranges) == 1


@pytest.mark.whole
def test_download_file_killed_half_way_resumes(server: FileServer, target: Path) -> None:
    server.behaviours = ["stall", "serve"]
    process = start_process(server, target)
    wait_until(lambda: part_of(target).exists() and part_of(target).stat().st_size > 0)
    process.kill()
    process.wait(30)
    kept = part_of(target).stat().st_size
    download_file(server.url, target, MD5)
    assert target.read_bytes() == CONTENT
    assert server.ranges == [None, f"bytes={kept}-"]


def start_process(server: FileServer, target: Path) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pathlib import Path; from indexer.model.download import download_file; "
        "download_file(sys.argv[1], Path(sys.argv[2]), sys.argv[3])"
    )
    command = [sys.executable, "-c", code, server.url, str(target), MD5]
    return subprocess.Popen(command, cwd=REPOSITORY)


def wait_until(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


# Names.


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "checkpoints"
    monkeypatch.setenv("SOUNDALIKE_CHECKPOINTS", str(folder))
    return folder


def publish(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """Publish CONTENT as the default checkpoint."""
    known = replace(KNOWN_CHECKPOINTS[DEFAULT_CHECKPOINT], url=url, md5=MD5)
    everything = {**KNOWN_CHECKPOINTS, DEFAULT_CHECKPOINT: known}
    monkeypatch.setattr(known_module, "KNOWN_CHECKPOINTS", everything)


def test_known_checkpoints_are_well_formed() -> None:
    assert list(KNOWN_CHECKPOINTS) == [
        "convnext-tiny-471",
        "convnext-tiny-465-audiocaps-70",
        "convnext-tiny-465-audiocaps-75",
        "hf:topel/ConvNeXt-Tiny-AT",
        "demo",
        "demo-0.1.0",
    ]
    assert DEFAULT_CHECKPOINT == "convnext-tiny-471"
    for name, known in KNOWN_CHECKPOINTS.items():
        assert known.name == name
        if known.md5 is None:
            assert known.saw_audiocaps
            continue
        assert re.fullmatch(r"[0-9a-f]{32}", known.md5)
        if known.url is not None:
            assert known.url.startswith("https://zenodo.org/record/")
            assert known.url.endswith(f"/files/{known.filename}?download=1")
    others = [one for known in KNOWN_CHECKPOINTS.values() for one in known.others]
    assert len(set(others)) == len(others)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("cnext_nobl", "convnext-tiny-471"),
        ("cnext_bl_70", "convnext-tiny-465-audiocaps-70"),
        ("cnext_bl_75", "convnext-tiny-465-audiocaps-75"),
        ("convnext_tiny_465mAP_BL_AC_75kit.pth", "convnext-tiny-465-audiocaps-75"),
        ("hf:topel/ConvNeXt-Tiny-AT", "hf:topel/ConvNeXt-Tiny-AT"),
        ("topel/ConvNeXt-Tiny-AT", "hf:topel/ConvNeXt-Tiny-AT"),
        (
            "https://zenodo.org/record/8020843/files/convnext_tiny_471mAP.pth?download=1",
            "convnext-tiny-471",
        ),
        (
            "https://zenodo.org/records/10987498/files/convnext_tiny_465mAP_BL_AC_75kit.pth",
            "convnext-tiny-465-audiocaps-75",
        ),
        ("https://zenodo.org/records/1/files/convnext_tiny_471mAP.pth", None),
        ("https://zenodo.org.evil.example/records/8020843/files/convnext_tiny_471mAP.pth", None),
        ("https://zenodo.org/records/8020843/files/other.pth", None),
        ("demo.safetensors", None),  # what is called so is somebody's file
        ("cnext", None),
        ("https://huggingface.co/topel/ConvNeXt-Tiny-AT/", "hf:topel/ConvNeXt-Tiny-AT"),
        (
            "https://huggingface.co/topel/ConvNeXt-Tiny-AT/resolve/main/model.safetensors",
            "hf:topel/ConvNeXt-Tiny-AT",
        ),
    ],
)
def test_known_as_of_every_name_that_others_use(asked: str, name: str | None) -> None:
    found = known_as(asked)
    assert (found and found.name) == name
    assert known_as(Path(asked)) is None


def test_known_as_of_a_file_that_is_there_is_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("convnext_tiny_471mAP.pth").write_bytes(b"mine")
    Path("demo").write_bytes(b"mine")
    assert known_as("convnext_tiny_471mAP.pth") is None
    assert locate("convnext_tiny_471mAP.pth")[1].read_bytes() == b"mine"
    assert known_as("demo") == KNOWN_CHECKPOINTS["demo"]


def test_fetch_of_another_name_downloads_what_it_means(
    server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, server.url)
    assert fetch("cnext_nobl") == folder / "convnext_tiny_471mAP.pth"
    assert locate("convnext_tiny_471mAP.pth") == (DEFAULT_CHECKPOINT, fetch(DEFAULT_CHECKPOINT))
    assert len(server.ranges) == 1


def test_fetch_of_what_has_no_digest_takes_what_comes_once_it_is_whole(
    server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "hf:topel/ConvNeXt-Tiny-AT"
    known = replace(KNOWN_CHECKPOINTS[name], url=server.url)
    monkeypatch.setattr(known_module, "KNOWN_CHECKPOINTS", {name: known})
    server.behaviours = ["drop", "serve"]
    path = fetch(name)
    assert path.read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=100000-"]
    assert list(folder.glob("*.part")) == []
    assert fetch("topel/ConvNeXt-Tiny-AT") == path
    assert len(server.ranges) == 2


def test_known_checkpoints_are_in_the_table_of_the_readme() -> None:
    readme = (REPOSITORY / "checkpoints" / "README.md").read_text("utf-8")
    for known in KNOWN_CHECKPOINTS.values():
        row = next(line for line in readme.splitlines() if line.startswith(f"| `{known.name}` |"))
        assert f"`{known.filename}`" in row
        assert (f"`{known.md5}`" if known.md5 else "| none |") in row


def test_checkpoint_folder_variable_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOUNDALIKE_CHECKPOINTS", "~/elsewhere")
    assert checkpoint_folder() == Path.home() / "elsewhere"
    monkeypatch.setenv("SOUNDALIKE_CHECKPOINTS", "")
    assert checkpoint_folder().parts[-2:] == ("soundalike", "checkpoints")


def test_fetch_downloads_once(
    server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, server.url)
    heard = Listener()
    path = fetch(DEFAULT_CHECKPOINT, listen=heard)
    assert path == folder / "convnext_tiny_471mAP.pth"
    assert path.read_bytes() == CONTENT
    assert heard.counts[-1] == (len(CONTENT), len(CONTENT))
    assert fetch(DEFAULT_CHECKPOINT) == path
    assert len(server.ranges) == 1


def test_fetch_placed_by_hand_asks_nobody(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, REFUSED)
    folder.mkdir()
    path = folder / "convnext_tiny_471mAP.pth"
    path.write_bytes(CONTENT)
    assert fetch(DEFAULT_CHECKPOINT) == path


def test_fetch_placed_by_hand_wrong_digest_raises_and_keeps_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, REFUSED)
    folder.mkdir()
    path = folder / "convnext_tiny_471mAP.pth"
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(CheckpointError) as caught:
        fetch(DEFAULT_CHECKPOINT)
    message = str(caught.value)
    assert str(path) in message
    assert MD5 in message
    assert hashlib.md5(CONTENT[:-1]).hexdigest() in message
    assert path.exists()


def test_fetch_offline_says_which_file_to_put_where(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, REFUSED)
    with pytest.raises(CheckpointError) as caught:
        fetch(DEFAULT_CHECKPOINT)
    message = str(caught.value)
    assert "\n" not in message
    wanted = (DEFAULT_CHECKPOINT, "cannot reach", REFUSED, MD5, "use the checkpoint 'demo'")
    assert all(text in message for text in wanted)
    assert str(folder / "convnext_tiny_471mAP.pth") in message


def test_fetch_download_not_allowed_asks_nobody(
    server: FileServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, server.url)
    with pytest.raises(CheckpointError, match=r"not there; put .* checkpoint 'demo'") as caught:
        fetch(DEFAULT_CHECKPOINT, download=False)
    assert (caught.value.about, caught.value.value) == ("checkpoint", "demo")
    assert server.ranges == []
    assert not folder.exists()


def test_fetch_file_is_a_folder_raises(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, REFUSED)
    (folder / "convnext_tiny_471mAP.pth").mkdir(parents=True)
    with pytest.raises(CheckpointError, match=r"cannot read .*[Dd]irectory"):
        fetch(DEFAULT_CHECKPOINT)


def test_fetch_demo_is_the_bundled_file() -> None:
    assert fetch("demo") == bundled_path("checkpoints/demo.safetensors")


def test_demo_has_the_sha256_that_the_readme_tells() -> None:
    found = hashlib.sha256(bundled_path("checkpoints/demo.safetensors").read_bytes()).hexdigest()
    assert found == "a01c50cdda85703c161c3cb3d658a486c795a82436ffd3f26198a5f7fc1b1f3c"
    assert found in (REPOSITORY / "checkpoints" / "README.md").read_text("utf-8")


def test_fetch_unknown_name_suggests_and_lists() -> None:
    with pytest.raises(CheckpointError, match="did you mean 'convnext-tiny-471'") as caught:
        fetch("convnext-tiny-417")
    assert all(name in str(caught.value) for name in KNOWN_CHECKPOINTS)
    with pytest.raises(CheckpointError, match="did you mean 'cnext_bl_75'"):
        fetch("cnext_bl75")


def test_locate_name_returns_name_and_file() -> None:
    assert locate("demo") == ("demo", bundled_path("checkpoints/demo.safetensors"))


def test_locate_path_returns_file_name_even_if_it_is_a_known_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "demo").write_bytes(b"mine")
    monkeypatch.chdir(tmp_path)
    assert locate("./demo") == ("demo", Path("demo"))
    assert locate(Path("demo")) == ("demo", Path("demo"))


@pytest.mark.parametrize("path", ["nowhere.pth", "x" * 5000, "nul\0byte"])
def test_locate_no_file_raises(path: str) -> None:
    with pytest.raises(CheckpointError, match=r"does not exist; .*demo|cannot read"):
        locate(path)


def test_locate_folder_raises(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a file"):
        locate(tmp_path)


@pytest.mark.whole
def test_download_waiting_for_another_process_says_so(server: FileServer, target: Path) -> None:
    heard = Listener()
    server.behaviours = ["wait_then_serve"]
    process = start_process(server, target)
    wait_until(lambda: len(server.ranges) == 1)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(download_file, server.url, target, MD5, heard)
        wait_until(lambda: bool(heard.sentences))
        server.released.set()
        waiting.result(timeout=30)
    assert heard.sentences == [f"waiting for another process that downloads to {target.parent}"]
    assert process.wait(30) == 0
