"""What is opened and what is refused: irregular files, strange names, what is not audio."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from audio_files import at_32_khz, error, noise, span, whole, write

from indexer.audio import ffmpeg
from indexer.audio.decode import open_source
from indexer.audio.stream import AudioStream, open_audio
from indexer.errors import AudioError


def test_open_audio_unknown_to_ffmpeg_uses_libsndfile(tmp_path: Path) -> None:
    original = noise(100_000, 1)
    path = write(tmp_path / "a.mat", original, 44_100, "FLOAT", "MAT5")
    with open_audio(path) as audio:
        assert audio.info.decoder == f"soundfile {soundfile.__version__}"
        assert audio.info.container == "MAT5"
        samples = np.concatenate(list(audio.blocks()))
    assert audio.warnings == ()
    np.testing.assert_allclose(samples, at_32_khz(original, 44_100), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(span(path, 40_000, 10_000), samples[40_000:50_000])


def test_open_audio_irregular_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.wav")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "broken.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "empty.wav").touch()
    expected = {
        "fifo.wav": ("open", "not a regular file (FIFO)"),
        "folder.wav": ("open", "not a regular file (folder)"),
        "broken.wav": ("access", "broken link"),
        "loop.wav": ("access", "too many levels of symbolic links"),
        "empty.wav": ("open", "empty file (0 bytes)"),
        "missing.wav": ("access", "no such file"),
        "empty.wav/x.wav": ("access", "not a directory"),
        "nul\0.wav": ("open", "not a file name"),
        "/dev/zero": ("open", "not a regular file (device)"),
    }
    assert {name: error(tmp_path / name) for name in expected} == expected


def test_open_audio_socket_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("a.wav")
        assert error(Path("a.wav")) == ("open", "not a regular file (socket)")


@pytest.mark.timeout(20)
def test_open_audio_fifo_taking_the_place_of_a_file_does_not_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "a.wav")
    regular = write(tmp_path / "b.wav", noise(100), 8000).stat()
    monkeypatch.setattr(Path, "stat", lambda self: regular)
    assert error(tmp_path / "a.wav") == ("open", "not a regular file (FIFO)")


def test_open_audio_link_is_followed(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", noise(1000), 8000)
    (tmp_path / "b.wav").symlink_to("a.wav")
    assert len(whole(tmp_path / "b.wav")[0]) == 4000


@pytest.mark.whole
def test_open_audio_unreadable_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(1000), 8000)
    path.chmod(0)
    code = """if True:
        import os, sys
        from pathlib import Path
        from indexer.audio.decode import open_source
        from indexer.errors import AudioError
        if os.getuid() == 0:
            os.setuid(65534)
        try:
            open_source(Path(sys.argv[1]), 10.0)
        except AudioError as error:
            print(error.stage, error.reason)
    """
    if os.getuid() == 0:  # nobody may pass through root's temporary folders either
        for folder in list(tmp_path.parents)[:2]:
            folder.chmod(0o755)
        tmp_path.chmod(0o755)
    output = subprocess.run(
        [sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True
    ).stdout
    assert output == "access permission denied\n"


NAMES = [
    b"caf\xe9.wav",
    b"concat:a.wav|b.wav",
    b"file:a.wav",
    b"fd:",
    b"pipe:0",
    b"-x.wav",
    b"100%d %s.wav",
    b"two\nlines.wav",
    b"http:a.wav",
    "日本語.wav".encode(),
    b"no suffix",
    b"a.txt",
]


@pytest.mark.parametrize("name", NAMES)
def test_open_audio_strange_name_is_a_name(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    plain = write(tmp_path / "plain.wav", noise(1000), 8000)
    path.write_bytes(plain.read_bytes())
    plain.unlink()
    assert len(whole(path)[0]) == 4000


def test_open_audio_strange_name_relative_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write(tmp_path / "plain.wav", noise(1000), 8000).read_bytes()
    monkeypatch.chdir(tmp_path)
    for name in ("-x.wav", "file:b.wav", "concat:plain.wav|plain.wav"):
        Path(name).write_bytes(content)
        assert len(whole(Path(name))[0]) == 4000


NOT_AUDIO = {
    "text.wav": b"Lorem ipsum dolor sit amet.\n" * 500,
    "utf16.wav": "Wörter\n".encode("utf-16") * 500,
    "letter.wav": b"a",
    "page.mp3": b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n" * 20,
    "json.flac": b'{"a": [1, 2, 3]}\n',
    "picture.wav": b"\x89PNG\r\n\x1a\n" + bytes(2000),
    "archive.mp3": b"PK\x03\x04" + bytes(2000),
    "zeros.wav": bytes(100_000),
    "random.mp3": np.random.default_rng(0).bytes(100_000),
    "sync.mp3": b"\xff\xfb\x90\x64" + bytes(50),
    "header.wav": b"RIFF\x24\0\0\0WAVEfmt ",
    "subtitle.wav": b"1\n00:00:01,000 --> 00:00:02,000\nHello\n\n" * 20,
}


@pytest.mark.parametrize("name", NOT_AUDIO)
def test_open_audio_other_content_is_an_error(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(NOT_AUDIO[name])
    stage, reason = error(tmp_path / name)
    assert (stage, reason.partition(",")[0]) in [
        ("open", "not audio"),
        ("decode", "no sample could be decoded"),
    ]
    assert capfd.readouterr() == ("", "")


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile {file}\n",
    "m3u": "#EXTM3U\n#EXTINF:1,a\n{file}\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{file}\n#EXT-X-ENDLIST\n",
    "hls-url": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}\n#EXT-X-ENDLIST\n",
    "ffconcat-url": "ffconcat version 1.0\nfile {url}\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=a\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=audio {port} RTP/AVP 0\n",
    "dash": "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>{url}"
    "</BaseURL></MPD>",
}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server that nobody should talk to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("more", [(), ("concat", "hls", "sdp", "dash")], ids=["", "listed"])
@pytest.mark.parametrize("suffix", ["wav", "mp3"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_open_audio_playlist_posing_as_audio_opens_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    listener: socket.socket,
    kind: str,
    suffix: str,
    more: tuple[str, ...],
) -> None:
    # Even if the container were on the list, there is no protocol but the descriptor.
    monkeypatch.setattr(ffmpeg, "CONTAINERS", (*ffmpeg.CONTAINERS, *more))
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "real.wav", noise(8000), 8000)
    port = listener.getsockname()[1]
    places = {"file": "real.wav", "url": f"http://127.0.0.1:{port}/a.wav", "port": port}
    path = tmp_path / f"list.{suffix}"
    path.write_text(PLAYLISTS[kind].format(**places), "ascii")
    assert error(path)[0] == "open"


def test_playlist_is_one_that_ffmpeg_would_follow(tmp_path: Path) -> None:
    """So the test above tests something."""
    write(tmp_path / "real.wav", noise(8000), 8000)
    path = tmp_path / "list.wav"
    path.write_text(PLAYLISTS["ffconcat"].format(file="real.wav"), "ascii")
    with av.open(str(path)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == 8000


def _patched_wav(path: Path, offset: int, value: bytes) -> Path:
    content = bytearray(write(path, noise(5000), 8000).read_bytes())
    content[offset : offset + len(value)] = value
    path.write_bytes(content)
    return path


def test_open_audio_header_out_of_bounds_is_an_error(tmp_path: Path) -> None:
    channels = _patched_wav(tmp_path / "channels.wav", 22, struct.pack("<H", 1024))
    assert error(channels)[0] == "open"
    slow = _patched_wav(tmp_path / "slow.wav", 24, struct.pack("<I", 999))
    assert error(slow) == ("open", "sample rate 999 Hz, not 1000 to 1600000 Hz")
    fast = _patched_wav(tmp_path / "fast.wav", 24, struct.pack("<I", 1_600_001))
    assert error(fast) == ("open", "sample rate 1600001 Hz, not 1000 to 1600000 Hz")
    assert error(_patched_wav(tmp_path / "zero.wav", 24, bytes(4)))[0] == "open"


def test_open_audio_129_channels_is_an_error(tmp_path: Path) -> None:
    assert len(whole(write(tmp_path / "a.wav", noise(500, 128), 8000))[0]) == 2000
    path = write(tmp_path / "b.wav", noise(500, 129), 8000)
    assert error(path) == ("open", "129 channels, not 1 to 128")


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff"])
def test_open_audio_no_samples_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, np.zeros((0, 1)), 44_100)
    assert error(path)[0] in ("open", "decode")


def test_open_audio_errors_leave_no_descriptor_open(tmp_path: Path) -> None:
    paths = [write(tmp_path / "good.flac", noise(5000), 8000)]
    for name, content in NOT_AUDIO.items():
        (tmp_path / name).write_bytes(content)
        paths.append(tmp_path / name)
    for attempt in range(4):
        if attempt == 1:
            before = len(list(Path("/proc/self/fd").iterdir()))
        for path in paths:
            try:
                stream: AudioStream = open_audio(path)
            except AudioError:
                continue
            list(stream.blocks())
            stream.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_source_read_twice_from_other_sources_is_independent(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", noise(200_000, 2), 44_100)
    first, second = open_source(path, 100.0), open_source(path, 100.0)
    try:
        for one, other in zip(first.read(0), second.read(0), strict=True):
            np.testing.assert_array_equal(one, other)
    finally:
        first.close()
        second.close()


def test_open_audio_tags_that_are_not_utf8_are_no_obstacle(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(1000), 8000)
    content = path.read_bytes()
    tag = b"INAM" + struct.pack("<I", 4) + b"caf\xe9"
    listed = content[12:36] + b"LIST" + struct.pack("<I", 4 + len(tag)) + b"INFO" + tag
    body = b"WAVE" + listed + content[36:]
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    samples, warnings = whole(path)
    assert (len(samples), warnings) == (4000, ())
