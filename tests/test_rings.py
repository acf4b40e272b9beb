"""What `make check` runs starts no process and no run, or fails."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from synthetic import write_tone
from test_extract import IN_PROCESS, new_store

from indexer.embedding.extractor import Extractor
from indexer.run.extract import extract


@pytest.fixture
def costly(whole: None) -> None:
    """Stands for what starts a process."""


def start(method: str) -> None:
    multiprocessing.get_context(method).Process(target=print).start()  # type: ignore[attr-defined]


STARTS: dict[str, Callable[[], object]] = {
    "command": lambda: subprocess.run([sys.executable, "-c", ""], check=True),
    "os.fork": lambda: os.fork() or os._exit(0),
    **{method: partial(start, method) for method in multiprocessing.get_all_start_methods()},
}


@pytest.mark.parametrize("kind", STARTS)
def test_process_fails_a_test_that_is_not_marked(kind: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="mark the test `whole`"):
        STARTS[kind]()


def test_run_fails_a_test_that_is_not_marked(tmp_path: Path, tiny_extractor: Extractor) -> None:
    write_tone(tmp_path / "library" / "a.wav", 1.0)
    store = new_store(tmp_path / "store", tiny_extractor)
    with pytest.raises(pytest.fail.Exception, match="mark the test `whole`"):
        extract(tmp_path / "library", store, tiny_extractor, IN_PROCESS)


@pytest.mark.usefixtures("costly")
def test_fixture_that_asks_for_whole_marks_its_tests(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("whole")
    assert subprocess.run([sys.executable, "-c", ""], check=False).returncode == 0
