"""Readers that die, hang or raise: their file pays for it, and no other loses anything.

The decoder is the real one. Files that are called "deadly" do to their process what a decoder with
a fault does: they end it by a real signal, or keep it for ever.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY
from synthetic import write_tone

from indexer.arrays import ID_DTYPE
from indexer.audio.stream import AudioStream
from indexer.errors import SoundalikeError
from indexer.library.walk import walk
from indexer.reading import dataset, readers
from indexer.reading.batches import Batch
from indexer.reading.dataset import Work
from indexer.reading.events import Done, Failure
from indexer.reading.readers import load_windows
from indexer.windows import Geometry, Samples

pytestmark = pytest.mark.whole  # Readers are processes.


def die_by(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def raise_(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what opening a file whose name has "deadly" in it does, and how often."""

    def arm(act: Callable[[], None], times: Path | None = None) -> None:
        real = dataset.open_audio

        def open_audio(path: Path, **options: Any) -> Any:
            if "deadly" in path.name and (times is None or times.exists()):
                if times is not None:
                    times.unlink()
                act()
            return real(path, **options)

        monkeypatch.setattr(dataset, "open_audio", open_audio)

    return arm


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Eight good files of 1 to 36 s, and a deadly one in their middle."""
    root = tmp_path / "library"
    for number in range(8):
        write_tone(root / f"{number}.wav", 5.0 * number + 1, 300 + number)
    write_tone(root / "4 deadly.wav", 12.0, 999)
    return root


def read(root: Path, num_workers: int = 2, timeout_s: float = 60.0) -> list[Batch]:
    work = Work(
        root=root,
        items=walk(root).files,
        geometry=Geometry(),
        batch_size=3,
        known=np.empty(0, ID_DTYPE),
        partial={},
        max_duration_s=3600.0,
    )
    found = list(load_windows(work, num_workers=num_workers, timeout_s=timeout_s))
    assert not active_children()
    return found


def assert_only_the_deadly_failed(found: list[Batch], root: Path, reason: str) -> None:
    """Every window of the good files came once, before its file's one end; no waveform is lost."""
    names = [file.path for file in walk(root).files]
    ended: dict[str, Done | Failure] = {}
    starts: dict[str, list[int]] = {name: [] for name in names}
    for batch in found:
        assert len(batch.keys) == len(batch.waveforms)
        for key in batch.keys:
            assert names[key.item] not in ended
            starts[names[key.item]].append(key.start_sample)
        for event in batch.events:
            assert names[event.item] not in ended
            ended[names[event.item]] = event
    assert set(ended) == set(names)
    failed = ended.pop("4 deadly.wav")
    assert isinstance(failed, Failure)
    assert (failed.stage, failed.reason) == ("crash", reason)
    for name, event in ended.items():
        assert isinstance(event, Done)
        planned = Geometry().plan((5 * int(name[0]) + 1) * 32_000)
        assert starts[name] == [start for start, _ in planned]


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGSEGV, "the process that read it was ended by SIGSEGV"),
        (
            signal.SIGKILL,
            "the process that read it was ended by SIGKILL, as it is when memory runs out",
        ),
    ],
)
@pytest.mark.parametrize("num_workers", [1, 3])
def test_file_that_kills_its_reader_fails_alone(
    number: int, reason: str, num_workers: int, library: Path, deadly: Callable[..., None]
) -> None:
    deadly(die_by(number))
    found = read(library, num_workers)
    assert_only_the_deadly_failed(found, library, f"{reason}; tried twice")


def test_file_that_ends_its_reader_politely_fails_alone(
    library: Path, deadly: Callable[..., None]
) -> None:
    deadly(lambda: os._exit(0))
    reason = "the process that read it ended with code 0; tried twice"
    assert_only_the_deadly_failed(read(library), library, reason)


def test_file_on_which_the_reader_hangs_fails_alone(
    library: Path, deadly: Callable[..., None]
) -> None:
    deadly(lambda: time.sleep(3600))
    found = read(library, timeout_s=2.0)
    assert_only_the_deadly_failed(found, library, "no progress for 2 s; tried twice")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_file_with_an_unforeseen_error_fails_alone(
    num_workers: int, library: Path, deadly: Callable[..., None]
) -> None:
    deadly(raise_(MemoryError("no room")))
    found = read(library, num_workers)
    assert_only_the_deadly_failed(found, library, "MemoryError: no room; tried twice")


@pytest.mark.parametrize("act", [die_by(signal.SIGKILL), raise_(MemoryError())])
def test_file_that_is_read_at_the_second_attempt_is_no_failure(
    act: Callable[[], None], library: Path, tmp_path: Path, deadly: Callable[..., None]
) -> None:
    once = tmp_path / "once"
    once.touch()
    deadly(act, once)
    events = [event for batch in read(library) for event in batch.events]
    assert not once.exists()
    assert len(events) == 9
    assert all(isinstance(event, Done) for event in events)


def test_reader_that_is_killed_between_files_costs_nothing(library: Path) -> None:
    """Nobody is to blame where a reader dies for a reason that is not in its files."""
    work = Work(
        root=library,
        items=walk(library).files,
        geometry=Geometry(),
        batch_size=1,
        known=np.empty(0, ID_DTYPE),
        partial={},
        max_duration_s=3600.0,
    )
    batches = load_windows(work, num_workers=2, timeout_s=60)
    keys, events = [], []
    for number, batch in enumerate(batches):
        keys += batch.keys
        events += batch.events
        if number in (2, 9):
            for process in active_children():
                process.kill()
    assert all(isinstance(event, Done) for event in events)
    assert sorted(event.item for event in events) == list(range(9))
    assert len(keys) == len(set(keys))
    assert len(keys) == sum(
        len(Geometry().plan(round(s * 32_000))) for s in [*(5 * n + 1 for n in range(8)), 12]
    )


def test_reader_that_died_with_a_lock_of_the_loader_ends_nothing(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch would wait for the lock for ever: here it is taken as a dead reader would keep it."""
    monkeypatch.setattr(readers, "_END_S", 1.0)
    stop = readers._Readers.stop

    def stop_with_lock(self: Any) -> None:
        self._loader._workers_done_event._cond.acquire()
        stop(self)

    monkeypatch.setattr(readers._Readers, "stop", stop_with_lock)
    batches = read(library)
    events = [event for batch in batches for event in batch.events]
    assert sorted(event.item for event in events) == list(range(9))
    assert active_children() == []


def test_readers_that_die_whatever_they_read_are_one_error(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset.Watch, "begin", lambda *_: os._exit(3))
    with pytest.raises(SoundalikeError, match="die before they read anything") as caught:
        read(library)
    assert caught.value.about == "num_workers"
    assert "run again with one such process" in str(caught.value)


def test_reading_that_fails_though_all_readers_live_is_one_error_and_leaves_none(
    library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset.Watch, "begin", lambda *_: [].pop())
    with pytest.raises(SoundalikeError, match=r"reading audio failed \(.*IndexError"):
        read(library)
    assert not active_children()


def test_reader_that_is_slow_but_gets_on_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deadline is for standing still, not for a long file: three windows take three seconds."""
    for number in range(2):
        write_tone(tmp_path / f"{number}.wav", 30.0)
    real = AudioStream.blocks

    def slowly(audio: AudioStream, beat: Callable[[], None]) -> Iterator[Samples]:
        for block in real(audio, beat):
            time.sleep(0.1)
            yield block

    monkeypatch.setattr(AudioStream, "blocks", slowly)
    events = [event for batch in read(tmp_path, timeout_s=1.0) for event in batch.events]
    assert len(events) == 2
    assert all(isinstance(event, Done) for event in events)


@pytest.mark.skipif(sys.platform != "linux", reason="the system is told so on Linux only")
def test_readers_of_a_killed_process_end_though_they_are_stuck(library: Path) -> None:
    code = f"""
        import sys, time
        from pathlib import Path
        from multiprocessing import active_children
        import test_readers
        from indexer.reading import dataset, readers
        def stuck(*_, **__):
            print(os.getpid(), flush=True)
            time.sleep(600)
        import os
        dataset.open_audio = stuck
        test_readers.read(Path({str(library)!r}))
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{Path(__file__).parent}"},
    ) as process:
        assert process.stdout
        readers = [int(process.stdout.readline()) for _ in range(2)]
        process.kill()
        process.wait()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() and not is_zombie(pid) for pid in readers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library has no mallopt"
)
def test_keep_freed_memory_uses_the_same_pages_again() -> None:
    code = textwrap.dedent(
        """
        import ctypes, resource
        from indexer.reading.dataset import keep_freed_memory

        PIECES, BYTES = 32, 2**19  # a block beside others, as a decoder's arrays are
        libc = ctypes.CDLL(None)
        libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
        libc.free.argtypes = [ctypes.c_void_p]

        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(5):
                pieces = [libc.malloc(BYTES) for _ in range(PIECES)]
                for piece in pieces:
                    ctypes.memset(piece, 1, BYTES)
                for piece in pieces:
                    libc.free(piece)
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        before = faults()
        keep_freed_memory()
        faults()  # the first pages must come from somewhere
        print(before, faults())
        """
    )
    words = [sys.executable, "-c", code]
    told = subprocess.run(words, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    before, after = map(int, told.stdout.split())
    assert before > 5 * 2**24 / os.sysconf("SC_PAGESIZE") / 2
    assert after < before / 10
