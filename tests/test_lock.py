"""Locks beside other processes: those of older versions, which call `flock`, and forks of ours."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY
from synthetic import make_store

from indexer.progress import News
from indexer.store.lock import READERS_LOCK_FILE, WRITER_LOCK_FILE, locked, sole_writer

pytestmark = pytest.mark.whole  # Most start a process.


def is_free(path: Path) -> bool:
    """Whether somebody who only knows `flock` could take a lock."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def test_writer_waits_for_one_of_an_older_version_and_says_who(tmp_path: Path) -> None:
    code = (
        "import fcntl, sys\n"
        "lock = open(sys.argv[1], 'a+b')\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "lock.write(b'process 12 on there since 2026\\n'); lock.flush()\n"
        "print('held', flush=True); sys.stdin.read()\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path / WRITER_LOCK_FILE)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as old:
        assert old.stdout
        assert old.stdout.readline() == "held\n"
        said: list[News] = []

        def listen(news: News) -> None:
            said.append(news)
            threading.Timer(0.5, old.kill).start()

        began = time.monotonic()
        with sole_writer(tmp_path, listen) as has_waited:
            assert has_waited
            assert time.monotonic() - began > 0.4
    assert said == [
        f"{tmp_path} is being written by process 12 on there since 2026; waiting for it to end"
    ]


def test_locks_keep_out_an_older_version_until_their_end(tmp_path: Path) -> None:
    file = tmp_path / WRITER_LOCK_FILE
    with sole_writer(tmp_path) as has_waited:
        assert not has_waited
        assert not is_free(file)
        assert file.read_text().startswith(f"\nprocess {os.getpid()} on ")
    assert is_free(file)
    with locked(tmp_path / "lock"):
        assert not is_free(tmp_path / "lock")
    assert is_free(tmp_path / "lock")


@pytest.mark.parametrize("taking", ["sole_writer(path)", "locked(path / '.writer.lock')"])
def test_lock_of_a_killed_process_is_free_though_its_fork_lives(
    taking: str, tmp_path: Path
) -> None:
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from indexer.store.lock import locked, sole_writer\n"
        "path = Path(sys.argv[1])\n"
        f"with {taking}:\n"
        "    if os.fork() == 0:\n"
        "        print(os.getpid(), flush=True)\n"
        "    time.sleep(600)\n"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        assert not is_free(tmp_path / WRITER_LOCK_FILE)
        process.kill()
        process.wait()
        assert is_free(tmp_path / WRITER_LOCK_FILE)
        os.kill(child, 9)


def test_threads_take_a_lock_one_after_the_other(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(5):
            with locked(tmp_path / "lock"):
                inside += 1
                most = max(most, inside)
                time.sleep(0.005)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_writer_makes_the_lock_of_readers_for_those_who_may_only_read(tmp_path: Path) -> None:
    store = make_store(tmp_path / "s", frames="none").store
    (store.path / READERS_LOCK_FILE).unlink(missing_ok=True)
    with sole_writer(store.path):
        assert (store.path / READERS_LOCK_FILE).is_file()
