"""Files that mean harm, through the real run: each is one row of the ledger, and nothing else."""

from __future__ import annotations

import io
import os
import shutil
import socket
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from audio_files import error, noise, write
from conftest import REPOSITORY, Run
from synthetic import write_tone
from test_decode import NOT_AUDIO, PLAYLISTS, listener
from test_extract import IN_PROCESS, new_store, reasons, statuses
from test_memory import TOLERANCE_MB, peaks_mb, write_noise

from indexer.embedding.extractor import Extractor
from indexer.run.extract import ExtractConfig, extract

__all__ = ["listener"]

#: The longest name that a file system takes, in bytes.
NAME_MAX = 255
#: The longest path that the system takes, in bytes, with the zero at its end.
PATH_MAX = 4096

# --- length --------------------------------------------------------------------------------------


def write_silence(path: Path, hours: int) -> Path:
    """Write digital silence at 32 kHz: FLAC keeps 0.1 s of it in 14 bytes."""
    with soundfile.SoundFile(path, "w", 32_000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(hours * 60):
            file.write(np.zeros(60 * 32_000, np.int16))
    return path


@pytest.mark.whole
def test_extract_hours_in_few_bytes_stop_at_the_limit(
    tmp_path: Path, tiny_extractor: Extractor
) -> None:
    (tmp_path / "library").mkdir()
    path = write_silence(tmp_path / "library" / "silence.flac", 2)
    assert path.stat().st_size < 0.8e6
    assert error(path, max_duration_s=3600) == ("decode", "longer than 1 h")
    store = new_store(tmp_path / "store", tiny_extractor)
    config = ExtractConfig(num_workers=0, max_hours=0.01)
    report = extract(tmp_path / "library", store, tiny_extractor, config)
    assert [one.reason for one in report.failures] == ["longer than 36 s"]
    assert len(store.snapshot()) == 0


@pytest.mark.slow
def test_extract_ten_hours_in_a_few_megabytes_need_the_memory_of_ten_minutes(
    tmp_path: Path,
) -> None:
    for minutes in (10, 600):
        (tmp_path / str(minutes)).mkdir()
    write_noise(tmp_path / "10" / "noise.flac", 10)
    assert write_silence(tmp_path / "600" / "silence.flac", 10).stat().st_size < 4e6
    peaks = [max(peaks_mb(tmp_path / name, tmp_path / f"store{name}")) for name in ("10", "600")]
    # And a row group of scenes, gathered in small pieces: ten minutes do not fill one.
    assert peaks[1] - peaks[0] < 3 * TOLERANCE_MB, peaks


# --- headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.0, -1.0, 1e-300, 4e9, 2.0**63, float("inf"), float("nan")])
def test_open_audio_caf_of_an_impossible_rate_is_an_error(tmp_path: Path, rate: float) -> None:
    path = write(tmp_path / "a.caf", noise(5000), 8000)
    content = bytearray(path.read_bytes())
    assert struct.unpack_from(">d", content, 20) == (8000.0,)
    struct.pack_into(">d", content, 20, rate)
    path.write_bytes(content)
    assert error(path)[0] == "open"


@pytest.mark.parametrize("rate", [4_000_000_000, 0x7FFF_FFFF, 0x8000_0000])
def test_open_audio_wav_of_an_impossible_rate_is_an_error(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "a.wav", noise(5000), 8000)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, 24, rate)
    path.write_bytes(content)
    assert error(path)[0] == "open"


# --- other things posing as audio ----------------------------------------------------------------

OTHERS = {
    "pls": "[playlist]\nNumberOfEntries=2\nFile1={file}\nFile2={url}\nVersion=2\n",
    "xspf": "<?xml version='1.0'?><playlist version='1' xmlns='http://xspf.org/ns/0/'><trackList>"
    "<track><location>{url}</location></track></trackList></playlist>",
    "asx": "<asx version='3.0'><entry><ref href='{url}'/></entry></asx>",
    "reference": "[Reference]\nRef1={url}\n",
    "rtsp": "RTSPtext\nrtsp://127.0.0.1:{port}/a\n",
    "svg": "<svg xmlns='http://www.w3.org/2000/svg'><image href='{url}'/></svg>",
    "pdf": "%PDF-1.7\n1 0 obj<</URI({url})>>endobj\n%%EOF\n",
}


@pytest.mark.whole
@pytest.mark.timeout(60)
def test_extract_what_poses_as_audio_fails_alone_and_nothing_else_is_opened(
    tmp_path: Path, listener: socket.socket, tiny_extractor: Extractor
) -> None:
    library = tmp_path / "library"
    write_tone(library / "real.wav", 1.0)
    secret = write_tone(tmp_path / "secret.wav", 1.0, 700)
    port = listener.getsockname()[1]
    places = {"file": secret, "url": f"http://127.0.0.1:{port}/a.wav", "port": port}
    for kind, text in {**PLAYLISTS, **OTHERS}.items():
        (library / f"{kind}.mp3").write_text(text.format(**places))
        (library / f"{kind}.wav").write_text(text.format(**places))
    for name, content in NOT_AUDIO.items():
        (library / name).write_bytes(content)
    with zipfile.ZipFile(library / "archive.flac", "w") as archive:
        archive.write(secret, "a.wav")
    os.utime(secret, (0, secret.stat().st_mtime))
    store = new_store(tmp_path / "store", tiny_extractor)
    extract(library, store, tiny_extractor, IN_PROCESS)
    assert [path for path, status in statuses(store).items() if status == "ok"] == ["real.wav"]
    assert {stage for stage, _ in reasons(store).values()} <= {"open", "decode"}
    assert len(reasons(store)) == len(list(library.iterdir())) - 1
    assert secret.stat().st_atime == 0  # never read
    secret.read_bytes()


# --- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.whole
def test_load_checkpoint_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    """64 MB of zeros in less than 1 MB: PyTorch does not write such files, but reads them."""
    plain = io.BytesIO()
    torch.save({"weight": torch.zeros(1 << 24)}, plain)
    path = tmp_path / "bomb.pth"
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb,
    ):
        for name in source.namelist():
            bomb.writestr(name, source.read(name))
    assert path.stat().st_size < 2e6
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from indexer.errors import CheckpointError\n"
        "from indexer.model.checkpoint import load_checkpoint\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    load_checkpoint(Path(sys.argv[1]))\n"
        "except CheckpointError as error:\n"
        "    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, error)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    grown_mb, _, message = result.stdout.partition(" ")
    assert "compressed" in message
    assert int(grown_mb) < 30


# --- names ---------------------------------------------------------------------------------------

NAMES = [
    b"new\nline.wav",
    b"#EXTM3U\nhttp:a.wav",
    b"quote\"s'.wav",
    b",=cmd|' C calc'!A0.wav",
    b"\x1b]0;title\x07\x1b[2J.wav",
    b"\x9b31m\xc2\x9b31m.wav",
    "\u202egnp.wav".encode(),
    "\u2066\u2028\ufeff.wav".encode(),
    b"\xff\xfe\x80.wav",
    b"back\\x41slash\\.wav",
    b"%s%n{0}.wav",
    b"-rf.wav",
    b"x" * (NAME_MAX - 4) + b".wav",
    "é".encode() * ((NAME_MAX - 4) // 2) + b".wav",
]


def is_plain(text: str) -> bool:
    """Whether a terminal only shows it: no control, format or surrogate character but line ends."""
    return all(char == "\n" or char.isprintable() for char in text)


def hostile_library(root: Path) -> int:
    """Make files with hostile names, some of which fail; return how many are sound."""
    root.mkdir()
    sounds = [write_tone(root.parent / f"{hz}.wav", 0.5, hz) for hz in range(300, 300 + len(NAMES))]
    for name, sound in zip(NAMES, sounds, strict=True):
        shutil.copyfile(sound, os.fsencode(root) + b"/" + name)
    (root / "bad\x1b[31m\n.wav").write_text("not audio")
    (root / "broken\x07.wav").symlink_to("\u202e\x07")
    return len(NAMES)


@pytest.mark.whole
def test_no_output_of_any_command_lets_a_name_act_on_a_terminal(
    run: Run, tmp_path: Path, tiny_file: Path
) -> None:
    library, store, copies = tmp_path / "library", tmp_path / "st\x1bore", tmp_path / "cop\x07ies"
    num_sound = hostile_library(library)
    words = ("--checkpoint", tiny_file, "--workers", "0")
    browse = ("search", store, "--tag", "Animal", "--threshold", "0", "-k", 50)
    outcomes = {
        "index": run("index", library, "--store", store, *words, code=3),
        "strict": run(
            *("extract", library, store, *words, "--strict", "--retry-failed", "--format", "json"),
            code=1,
        ),
        "info": run("info", store),
        "info json": run("info", store, "--format", "json"),
        "verify": run("verify", store, "--deep", "--sample", 50),
        **{kind: run(*browse, "--format", kind) for kind in ("table", "csv", "json", "m3u")},
        "copy": run(*browse, "--copy-to", copies),
        "query": run("search", store, library / "bad\x1b[31m\n.wav", code=1),
        "nothing": run("search", store, library / "no\x1b[31m\n.wav", code=1),
        "tag": run("tag", library / "bad\x1b[31m\n.wav", "--checkpoint", tiny_file, code=3),
    }
    for command, outcome in outcomes.items():
        assert is_plain(outcome.out), command
        assert is_plain(outcome.err), command
        assert "Traceback" not in outcome.err
    assert outcomes["verify"].out.startswith(f"{num_sound} windows embedded again")
    assert outcomes["verify"].code == outcomes["copy"].code == 0
    assert len(outcomes["csv"].out.splitlines()) == 1 + num_sound
    assert len(outcomes["m3u"].out.splitlines()) == 1 + 4 * num_sound
    assert len(list(copies.iterdir())) == num_sound
    names = [os.fsencode(path.name) for path in copies.iterdir()]
    assert all(len(name) <= NAME_MAX and is_plain(name.decode()) for name in names)


@pytest.mark.whole
def test_extract_path_as_long_as_the_system_takes_is_read_and_a_longer_one_fails_alone(
    tmp_path: Path, tiny_extractor: Extractor
) -> None:
    library = tmp_path / "library"
    sound = write_tone(library / "plain.wav", 0.5)
    rest = PATH_MAX - 1 - len(os.fsencode(library)) - len("/deep.wav")
    folder = library
    while rest > 0:
        length = min(200, rest - 1)
        if rest - 1 - length == 1:  # no room for a slash and a name
            length -= 1
        folder, rest = folder / ("d" * length), rest - 1 - length
    folder.mkdir(parents=True)
    shutil.copyfile(sound, folder / "deep.wav")
    assert len(os.fsencode(folder / "deep.wav")) == PATH_MAX - 1
    inside = os.open(folder, os.O_RDONLY)
    try:
        os.mkdir("deeper", dir_fd=inside)
        deeper = os.open("deeper", os.O_RDONLY, dir_fd=inside)
        with os.fdopen(os.open("lost.wav", os.O_WRONLY | os.O_CREAT, dir_fd=deeper), "wb") as file:
            file.write(sound.read_bytes())
        os.close(deeper)
    finally:
        os.close(inside)
    store = new_store(tmp_path / "store", tiny_extractor)
    report = extract(library, store, tiny_extractor, IN_PROCESS)
    ok = [path for path, status in statuses(store).items() if status == "ok"]
    assert {Path(path).name for path in ok} == {"plain.wav", "deep.wav"}
    assert [one[1:] for one in report.failures] == [("access", "file name too long")]
