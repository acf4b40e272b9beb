"""Fixtures that several test files share. Nothing here reaches the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import pytest
import torch
from safetensors.torch import save_file

from indexer.embedding.extractor import Extractor
from indexer.model.checkpoint import Checkpoint, load_checkpoint, state_digest
from indexer.model.convnext import ConvNeXt
from soundalike.__main__ import main

# Two processes run tests, on two cores: threads that wait for each other would be slower by far.
faiss.omp_set_num_threads(1)

REPOSITORY = Path(__file__).parent.parent
#: Recordings that are not part of the project; tests that want them are skipped where they are not.
SHARED_AUDIO = REPOSITORY.parent / "shared" / "audio"


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Neither read nor write what the user's own runs remember."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Checkpoint:
    """A seeded network of the published design, narrow enough to run in milliseconds."""
    torch.manual_seed(7)
    model = ConvNeXt(depths=(1, 1, 1, 1), dims=(8, 8, 8, 768)).eval()
    return Checkpoint("tiny", Path("tiny.safetensors"), state_digest(model), model)


@pytest.fixture(scope="session")
def tiny_file(tiny_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network as a file, for what takes a checkpoint by its path."""
    file = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_file(tiny_checkpoint.model.state_dict(), file)
    return file


@pytest.fixture(scope="session")
def tiny_extractor(tiny_checkpoint: Checkpoint) -> Extractor:
    return Extractor(tiny_checkpoint, device="cpu")


@pytest.fixture(scope="session")
def demo_extractor() -> Extractor:
    return Extractor(load_checkpoint("demo"), device="cpu")


class Outcome(NamedTuple):
    """What a command left: its exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """What it printed as JSON."""
        return json.loads(self.out)


Run = Callable[..., Outcome]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in this process, as the installed script does; None stands for any `code`."""

    def call(*words: object, code: int | None = 0) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["soundalike", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
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


def run_as_nobody(imports: str, code: str) -> str:
    """Run code as a user without rights, and return what it prints.

    Args:
        imports: Lines that run before the rights are given up: the interpreter's own files may be
            readable by root alone.
        code: Lines that run after.
    """
    drop = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)"
    result = subprocess.run(
        [sys.executable, "-c", f"{imports}\n{drop}\n{code}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, to become a user who may not read"
)
