"""Fixtures that several test files share, and the rings. Nothing here reaches the network.

What is heavy is imported where it is used: the process that hands out the tests reads this as well.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from ast import literal_eval
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import hypothesis
import pytest

from soundalike.__main__ import main

if TYPE_CHECKING:
    from indexer.embedding.extractor import Extractor
    from indexer.model.checkpoint import Checkpoint

# Two processes run tests, on two cores: threads that wait for each other would be slower by far.
os.environ["OMP_NUM_THREADS"] = "1"
# Where a processor computes bfloat16 much faster, that would be chosen, and tests know what float32
# gives. Some machines have such processors and some have not.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")

# Of a machine that others use as well, it is no fault if examples are long in coming.
hypothesis.settings.register_profile(
    "shared", suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("shared")

# What is seen in a browser is asserted there.
pytest.register_assert_rewrite("browsing")

REPOSITORY = Path(__file__).parent.parent
#: Recordings that are not part of the project; tests that want them are skipped where they are not.
SHARED_AUDIO = REPOSITORY.parent / "shared" / "audio"

# --- rings: `make check` leaves out what is marked `whole` ---------------------------------------

_running: pytest.Item | None = None


@pytest.fixture(scope="session")
def whole() -> None:
    """Marks every test that asks for it, or for a fixture that does, for the whole run alone."""


@pytest.fixture
def rounded() -> Iterator[None]:
    """A program that has products rounded to TF32."""
    import torch

    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32"
    yield
    matmul.fp32_precision = before


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "whole" in getattr(item, "fixturenames", ()) or item.get_closest_marker("slow"):
            item.add_marker("whole")


@pytest.fixture(scope="session", autouse=True)
def _guards() -> None:
    """Let processes and runs begin nowhere but in tests that are marked `whole`."""
    from indexer.run.embed import Embedder

    platform.processor()  # h5py asks for it when it is imported; a process answers, once
    processes = ((subprocess.Popen, "__init__"), (BaseProcess, "start"), (os, "fork"))
    for owner, name in (*processes, (Embedder, "embed")):
        setattr(owner, name, _guarded(getattr(owner, name)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    global _running  # noqa: PLW0603 - pytest runs one test at a time
    _running = item


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that fails the test that calls it, unless that is marked `whole`."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        if _running and not _running.get_closest_marker("whole"):
            pytest.fail(
                f"this calls {function.__qualname__}: mark the test `whole`, or let the fixture "
                "that does it ask for `whole` (see CONTRIBUTING.md)"
            )
        return function(*args, **options)

    return call


# --- what tests share ----------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither read nor write what the user's own runs remember."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _lists_are_visited() -> None:
    """Stores of tests are small: to look at all of them would always be quicker."""
    from search.nearest import scan

    scan._VISIT_NS = 0


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Checkpoint:
    """A seeded network of the published design, narrow enough to run in milliseconds."""
    import torch

    from indexer.model.checkpoint import Checkpoint, state_digest
    from indexer.model.convnext import ConvNeXt

    torch.manual_seed(7)
    model = ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 8, 768)).eval()
    return Checkpoint("tiny", Path("tiny.safetensors"), state_digest(model), model)


@pytest.fixture(scope="session")
def tiny_file(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as a file, for what takes a checkpoint by its path."""
    from safetensors.torch import save_file

    file = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_file(tiny_checkpoint.model.state_dict(), file)
    return file


@pytest.fixture(scope="session")
def tiny_extractor(tiny_checkpoint: Checkpoint) -> Extractor:
    from indexer.embedding.extractor import Extractor

    return Extractor(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="session")
def demo_extractor() -> Extractor:
    from indexer.embedding.extractor import Extractor
    from indexer.model.checkpoint import load_checkpoint

    return Extractor(load_checkpoint("demo"), device="cpu")


@pytest.fixture
def three_threads() -> Iterator[None]:
    """Let PyTorch use more than the one thread that it has in tests."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


class Outcome(NamedTuple):
    """What a command left: its exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What it printed as JSON."""
        return json.loads(self.out)

    @property
    def hits(self) -> Any:
        """The hits of an answer that it printed as JSON."""
        return self.data["hits"]


Run = Callable[..., Outcome]


@contextlib.contextmanager
def unchanged_signals() -> Iterator[None]:
    """Put back what the command leaves to the end of its process."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    hooks = sys.unraisablehook, threading.excepthook
    try:
        yield
    finally:
        sys.unraisablehook, threading.excepthook = hooks
        for one, handler in before.items():
            signal.signal(one, handler)


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process, as the installed script does; None stands for any `code`."""

    def call(*words: object, code: int | None = 0) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["soundalike", *map(str, words)])
        with unchanged_signals(), pytest.raises(SystemExit) as stopped:
            main()
        told = capfd.readouterr()
        outcome = Outcome(int(stopped.value.code or 0), told.out, told.err)
        assert code in (None, outcome.code), f"exit code {outcome.code}, not {code}: {told.err}"
        return outcome

    return call


def on_screen(text: str) -> list[str]:
    """Return the lines that a terminal is left with; a carriage return goes back to the start."""
    lines = []
    for line in text.split("\n"):
        shown = ""
        for piece in line.split("\r"):
            shown = piece + shown[len(piece) :]
        lines.append(shown.rstrip())
    return [line for line in lines if line]


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that any user may read; pytest's own temporary folders are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def run_as_nobody(work: Callable[[], object]) -> Any:
    """Do some work in a process without rights, and return what it returns: plain data.

    The process is a fork. What it does is to be done once before, so that all is imported: the
    interpreter's own files may be readable by root alone.
    """
    with tempfile.TemporaryFile("w+") as result:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                result.write(repr(work()))
                result.flush()
                code = 0
            except BaseException:  # noqa: BLE001 - whatever it is, the tests go on in the parent
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert status == 0, "the work failed in the child: see its traceback above"
        result.seek(0)
        return literal_eval(result.read())


def installed(config: pytest.Config, *requirements: str) -> Path:
    """Return a folder with packages that only their own process imports, as their consumers do.

    They are kept beside what pytest remembers. Where they cannot be had, the test is skipped.
    """
    folder = Path(config.cache.mkdir("-".join(requirements[0].split("=="))))  # type: ignore[union-attr]
    if not any(folder.iterdir()):
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        ended = subprocess.run(
            [*pip, "--target", folder, *requirements], capture_output=True, text=True, check=False
        )
        if ended.returncode:
            pytest.skip(f"pip cannot install {requirements[0]}: {ended.stderr.strip()[-200:]}")
    return folder


def run_with(folder: Path, code: str, *words: object) -> str:
    """Run code of Python where the packages of a folder come first, and return what it prints."""
    ended = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, to become a user who may not read"
)
