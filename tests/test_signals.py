"""What tells a run to end, at any moment and again and again: it commits, and prints no trace."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path

import pytest
from conftest import REPOSITORY, on_screen, unchanged_signals
from faults import fault
from test_extract import many_files

from indexer.store.reader import Store
from soundalike import signals
from soundalike.signals import Ended, Ending

#: More than any machine embeds between the moment when a bar shows it and the end of a run.
NUM_FILES = 400
#: What the bar shows when windows are embedded: how many times faster than real time.
_EMBEDS = re.compile(r"[1-9]\d* x")
#: Nothing that is waited for takes so long, in seconds, however slow the machine is.
_WAIT_S = 120


@pytest.fixture
def ending() -> Iterator[Ending]:
    with unchanged_signals():
        made = Ending()
        made.begin()
        yield made


# --- the rules -----------------------------------------------------------------------------------


def test_first_signal_counts_and_the_next_are_left_alone_for_a_while(
    ending: Ending, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Ended):
        signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)
    assert ending.code == 143
    later = time.monotonic() + signals._GRACE_S
    monkeypatch.setattr(time, "monotonic", lambda: later)
    with pytest.raises(Ended):
        signal.raise_signal(signal.SIGINT)
    assert ending.code == 143


def test_at_the_end_nothing_is_heard_any_more(ending: Ending) -> None:
    ending.end()
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGHUP)
    assert ending.code is None


def test_what_was_ignored_stays_ignored() -> None:
    with unchanged_signals():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ending = Ending()
        ending.begin()
        signal.raise_signal(signal.SIGHUP)
        assert ending.code is None
        ending.end()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_exception_that_is_lost_in_a_destructor_is_raised_again(
    ending: Ending, capfd: pytest.CaptureFixture[str]
) -> None:
    class Deaf:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    one = Deaf()
    del one
    assert ending.code == 130
    with pytest.raises(Ended):
        time.sleep(10)
    assert capfd.readouterr().err == ""


def test_after_a_signal_threads_that_fail_print_nothing(
    ending: Ending, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Ended):
        signal.raise_signal(signal.SIGINT)
    thread = threading.Thread(target=lambda: [].pop())
    thread.start()
    thread.join()
    assert capfd.readouterr().err == ""


# --- runs ----------------------------------------------------------------------------------------


@contextmanager
def begun(
    root: Path,
    store: Path,
    workers: int,
    terminal: tuple[int, int] | None = None,
    prepare: Callable[[], None] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Begin a run; one that is still there afterwards is killed, and says where it was.

    Args:
        terminal: Our end of one, and that of the run; without one, it writes into pipes.
    """
    words = ["index", root, "--checkpoint", "demo", "--store", store]
    numbers = ["--batch-size", 1, "--workers", workers]
    python = [sys.executable, "-X", "faulthandler", "-m", "soundalike"]
    with subprocess.Popen(
        [*python, *map(str, (*words, *numbers))],
        text=True,
        cwd=REPOSITORY,
        start_new_session=True,
        preexec_fn=prepare,
        stdin=terminal[1] if terminal else None,
        stdout=subprocess.DEVNULL if terminal else subprocess.PIPE,
        stderr=terminal[1] if terminal else subprocess.PIPE,
    ) as process:
        if terminal:
            os.close(terminal[1])
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGABRT)  # which prints its threads
                time.sleep(1.0)
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                said = read_until(terminal[0], None) if terminal else process.communicate()
                pytest.fail(f"the run did not end: {said}")


def told_to_end(
    process: subprocess.Popen[str], number: int, after_s: float, times: int
) -> tuple[int, str]:
    """Send a signal to a run and its readers some times; return its exit code and its words."""
    time.sleep(after_s)
    for _ in range(times):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        time.sleep(0.15)
    _, said = process.communicate(timeout=_WAIT_S)
    return process.returncode, said


def read_until(terminal: int, wanted: re.Pattern[str] | None) -> str:
    """Return what a terminal shows until it shows something, or until nobody writes to it."""
    said = ""
    with suppress(OSError):  # nobody has it open
        while not (wanted and wanted.search(said)):
            shows, _, _ = select.select([terminal], [], [], _WAIT_S)
            assert shows, f"nothing for {_WAIT_S} s after {said!r}"
            said += os.read(terminal, 65536).decode()
    return said


def assert_whole(store: Store) -> None:
    """What is committed is whole, and nothing else is left."""
    assert {entry.name for entry in (store.path / "parts").iterdir()} == set(store.part_names())


def assert_cut_short(store: Store) -> None:
    assert_whole(store)
    assert 0 < len(store.snapshot()) < NUM_FILES


@pytest.mark.whole
@pytest.mark.parametrize(("name", "times"), [("SIGINT", 3), ("SIGHUP", 1)])
def test_run_that_is_told_to_end_again_and_again_commits_and_prints_no_trace(
    name: str, times: int, tmp_path: Path
) -> None:
    row = {"SIGINT": fault("E5"), "SIGHUP": fault("E6")}[name]
    ours, theirs = pty.openpty()
    root = many_files(tmp_path / "library", NUM_FILES)
    with begun(root, tmp_path / "s", 2, (ours, theirs)) as process:
        read_until(ours, _EMBEDS)
        code, _ = told_to_end(process, getattr(signal, name), 0.0, times)
    row.require(code, read_until(ours, None))
    os.close(ours)
    assert_cut_short(Store.open(tmp_path / "s"))


@pytest.mark.whole
def test_run_that_is_terminated_commits_what_it_has_and_says_so(tmp_path: Path) -> None:
    """The readers are not told; the frames of so few windows fill no part yet."""
    ours, theirs = pty.openpty()
    root = many_files(tmp_path / "library", NUM_FILES)
    with begun(root, tmp_path / "s", 2, (ours, theirs)) as process:
        read_until(ours, _EMBEDS)
        process.terminate()
        assert process.wait(_WAIT_S) == 143
    *_, said = on_screen(read_until(ours, None))
    os.close(ours)
    assert said == "soundalike: stopped; what was embedded is kept, and running again continues"
    assert_cut_short(Store.open(tmp_path / "s"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_run_may_be_told_to_end_at_any_moment(name: str, tmp_path: Path) -> None:
    root, number = many_files(tmp_path / "library", NUM_FILES), getattr(signal, name)
    for moment in range(24):
        place = tmp_path / f"s{moment}"
        with begun(root, place, moment % 3) as process:
            code, said = told_to_end(process, number, 0.5 + moment * 0.3, 2 + moment % 2)
        assert code in (0, 128 + number), said
        for trace in ("Traceback", "Exception ignored", "Error"):
            assert trace not in said, (moment, said)
        if (place / "store.json").exists():
            assert_whole(Store.open(place))


@pytest.mark.whole
@pytest.mark.parametrize("is_nohup", [False, True])
def test_run_whose_terminal_is_closed_commits_and_with_nohup_goes_on(
    is_nohup: bool, tmp_path: Path
) -> None:
    """The terminal is a real one: it sends SIGHUP, and whatever is written to it fails."""
    ours, theirs = pty.openpty()

    def own_terminal() -> None:
        if is_nohup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ioctl(2, termios.TIOCSCTTY, 0)

    num_files = 40 if is_nohup else NUM_FILES
    root = many_files(tmp_path / "library", num_files)
    with begun(root, tmp_path / "s", 1, (ours, theirs), own_terminal) as process:
        read_until(ours, _EMBEDS)
        os.close(ours)
        code = process.wait(_WAIT_S)
    store = Store.open(tmp_path / "s")
    if is_nohup:
        assert_whole(store)
        assert (code, len(store.snapshot())) == (0, num_files)
    else:
        assert_cut_short(store)
        assert code == 129
