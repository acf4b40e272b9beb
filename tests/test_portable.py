"""Other systems and Pythons: what only POSIX has is not needed to search, nor a guard in scripts.

Windows is not among the machines that run this. A process stands in for it from which everything
was taken that is only there on POSIX, or not on every system; our own modules are then loaded.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
from conftest import REPOSITORY, Run
from sketched import scenes_of, sketching
from synthetic import make_store, write_tone

from indexer.audio.stream import open_audio
from indexer.store.reader import Store
from search.upkeep.build import build

pytestmark = pytest.mark.whole  # Each starts a process.

#: Loads all our modules with everything there, so that other people's are loaded and have found
#: what they need; takes away what Windows lacks; and lets ours be loaded anew.
_WITHOUT_POSIX = """
import importlib, os, pkgutil, signal, sys

OURS = ("indexer", "search", "soundalike")
ABSENT = {"fcntl", "grp", "posix_ipc", "pty", "pwd", "resource", "simsimd", "syslog", "termios",
          "tty"}

def load_all():
    names = []
    for package in OURS:
        root = importlib.import_module(package)
        names += [one.name for one in pkgutil.walk_packages(root.__path__, package + ".")]
    for name in names:
        importlib.import_module(name)
    return names

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

load_all()
for name in list(sys.modules):
    if name.split(".")[0] in {*OURS, "filelock", *ABSENT}:
        del sys.modules[name]
sys.meta_path.insert(0, Finder())
for name in ("O_DIRECTORY", "O_NONBLOCK", "chown", "fork", "getpgid", "getuid", "geteuid", "killpg",
             "mkfifo", "pread", "preadv", "pwrite", "register_at_fork", "sched_getaffinity",
             "setsid", "statvfs", "sysconf", "uname"):
    delattr(os, name)
for name in ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGUSR1", "alarm", "pthread_sigmask"):
    delattr(signal, name)
"""


def without_posix(code: str, *words: str | Path) -> str:
    """Run code where what only POSIX has is absent; return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", _WITHOUT_POSIX + code, *map(str, words)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_module_can_be_loaded_without_what_only_posix_has() -> None:
    names = json.loads(without_posix("import json; print(json.dumps(load_all()))"))
    files = [
        path.relative_to(REPOSITORY).with_suffix("").as_posix().replace("/", ".")
        for package in ("indexer", "search", "soundalike")
        for path in (REPOSITORY / package).rglob("*.py")
    ]
    assert {name for name in files if not name.endswith("__init__")} <= set(names)


@pytest.mark.parametrize("how", [nullcontext, sketching], ids=["exact", "sketched"])
def test_search_by_window_prints_the_exact_hits_without_what_only_posix_has(
    how: Callable[[], AbstractContextManager[None]], tmp_path: Path, run: Run
) -> None:
    put = make_store(tmp_path / "store")
    put.add({f"r{number}": 50 for number in range(10)}, scene=scenes_of(500))
    with how():
        build(Store.open(put.store.path))
    window = str(put.store.snapshot().windows.window_id[7])
    words = ["search", str(put.store.path), window, "-k", "8", "--format", "json"]
    expected = run(*words, "--exact").hits
    code = "import sys; from soundalike.__main__ import main; main()"
    found = json.loads(without_posix(code, *words))["hits"]
    assert len(found) > 0
    assert found == expected


def test_audio_is_decoded_to_the_same_samples_without_what_only_posix_has(tmp_path: Path) -> None:
    """Plain WAV, Ogg through FFmpeg, and an Ogg of two streams, in which FFmpeg cannot seek."""
    dog = REPOSITORY / "data/samples/animals/dog.ogg"
    chained = tmp_path / "chained.ogg"
    chained.write_bytes(dog.read_bytes() * 2)
    files = [write_tone(tmp_path / "tone.wav", 3.0), dog, chained]
    code = (
        "import hashlib; from pathlib import Path; from indexer.audio.stream import open_audio\n"
        "for name in sys.argv[1:]:\n"
        "    with open_audio(Path(name)) as audio:\n"
        "        print(hashlib.sha256(b''.join(map(bytes, audio.blocks()))).hexdigest())\n"
    )
    expected = []
    for file in files:
        with open_audio(file) as audio:
            samples = b"".join(map(bytes, audio.blocks()))
            assert len(samples) > 32_000
            expected.append(hashlib.sha256(samples).hexdigest())
    assert without_posix(code, *files).split() == expected


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere readers are not forked")
def test_script_without_a_guard_indexes_though_python_would_start_processes_anew(
    tmp_path: Path, tiny_file: Path
) -> None:
    """Python 3.14 does so by default: each process would run the script's own lines once more."""
    for name in ("a", "b", "c"):
        write_tone(tmp_path / "library" / f"{name}.wav", 2.0, 300 + ord(name))
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "multiprocessing.set_start_method('forkserver')\n"
        "import soundalike\n"
        "sounds = soundalike.open(sys.argv[1], checkpoint=sys.argv[2])\n"
        "report = sounds.index(sys.argv[3], num_workers=2)\n"
        "print(report.num_embedded, len(sounds.rows().window_ids))\n"
    )
    words = [str(script), str(tmp_path / "store"), str(tiny_file), str(tmp_path / "library")]
    result = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["3", "3"]
