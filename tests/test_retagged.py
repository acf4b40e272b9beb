"""Files of which only the tags have changed: nothing is embedded again, and all is found."""

from __future__ import annotations

import hashlib
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import xxhash
from audio_files import AAC, Interleaved, encode, noise, write
from conftest import Run
from faults import fault
from test_deferred import Resampling
from test_extract import Counting, new_store, run, statuses

from indexer.audio.source import AudioInfo
from indexer.audio.stream import audio_digest, open_audio
from indexer.errors import AudioError
from indexer.model.checkpoint import Checkpoint
from indexer.reading import dataset
from indexer.run.config import ExtractConfig
from indexer.run.recompute import DeepReport, recompute
from indexer.store.compaction import compact, delete_replaced
from indexer.store.reader import Store
from search.asking.sound_index import SoundIndex
from search.upkeep.build import build

HOUR_S = 3600.0


def id3(path: Path, title: str) -> None:
    """Put an ID3v2.3 tag before an MP3, in the place of the one that is there."""
    data = path.read_bytes()
    if data.startswith(b"ID3"):
        sizes = data[6:10]
        data = data[
            10 + sum(byte << shift for byte, shift in zip(sizes, (21, 14, 7, 0), strict=True)) :
        ]
    text = b"\0" + title.encode("latin-1")
    frame = b"TIT2" + struct.pack(">I", len(text)) + b"\0\0" + text
    size = bytes((len(frame) >> shift) & 127 for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\3\0\0" + size + frame + data)


def vorbis_comment(path: Path, title: str) -> None:
    """Put a comment behind the first block of a FLAC, in the place of the one that is there."""
    data = path.read_bytes()
    assert data[:4] == b"fLaC"
    kept, at, is_last = [], 4, False
    while not is_last:
        is_last, kind = bool(data[at] & 128), data[at] & 127
        stop = at + 4 + int.from_bytes(data[at + 1 : at + 4], "big")
        if kind != 4:
            kept.append((kind, data[at + 4 : stop]))
        at = stop
    entry = f"TITLE={title}".encode()
    comment = struct.pack("<II", 0, 1) + struct.pack("<I", len(entry)) + entry
    blocks = [kept[0], (4, comment), *kept[1:]]
    heads = [
        bytes([kind | 128 * (number == len(blocks))]) + len(body).to_bytes(3, "big") + body
        for number, (kind, body) in enumerate(blocks, 1)
    ]
    path.write_bytes(b"fLaC" + b"".join(heads) + data[at:])


def list_info(path: Path, title: str) -> None:
    """Append a LIST chunk to a WAV."""
    text = title.encode() + b"\0" * (2 - len(title) % 2)
    body = b"INFOINAM" + struct.pack("<I", len(text)) + text
    data = path.read_bytes() + b"LIST" + struct.pack("<I", len(body)) + body
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])


def remux(path: Path, title: str) -> None:
    """Write the packets of a file anew, with another title."""
    other = path.with_name(f"new{path.suffix}")
    with av.open(str(path)) as source, av.open(str(other), "w") as target:
        target.metadata["title"] = title
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    other.rename(path)


SAMPLES: Interleaved = noise(44_100 * 12, 2)
MADE: dict[str, tuple[Callable[[Path], Path], Callable[[Path, str], None]]] = {
    "a.mp3": (lambda path: encode(path, SAMPLES, 44_100, "libmp3lame"), id3),
    "a.flac": (lambda path: write(path, 0.5 * SAMPLES, 44_100), vorbis_comment),
    "a.wav": (lambda path: write(path, 0.4 * SAMPLES, 44_100), list_info),
    "a.ogg": (lambda path: write(path, 0.3 * SAMPLES, 44_100), remux),
    "a.m4a": (lambda path: encode(path, SAMPLES, 44_100, "aac", options=AAC), remux),
}


def retag(root: Path, title: str) -> None:
    for name, (_, change) in MADE.items():
        before = (root / name).read_bytes()
        change(root / name, title)
        assert (root / name).read_bytes() != before


def digest_of(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()


def rows_of(store: Store) -> dict[str, dict[str, object]]:
    return {row["path"]: row for row in store.latest_files().to_pylist()}


# --- the digest ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MADE)
def test_audio_id_is_of_the_samples_and_of_nothing_else(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, change = MADE[name]
    path = make(tmp_path / name)
    with open_audio(path) as audio:
        audio.identify()
        list(audio.blocks())
    expected = audio.audio_id
    assert expected == audio_digest(path, HOUR_S)
    change(path, "a title")
    assert audio_digest(path, HOUR_S) == expected
    for num_samples in (1000, 10**8):
        monkeypatch.setattr(AudioInfo, "chunk_samples", num_samples)
        assert audio_digest(path, HOUR_S) == expected


def test_audio_id_is_xxh3_of_interleaved_frames_behind_rate_and_channels(tmp_path: Path) -> None:
    """As the documents say; for whoever computes it by other means."""
    path = write(tmp_path / "a.wav", SAMPLES[:50_000], 44_100, "FLOAT")
    head = struct.pack("<qqq", 44_100, 2, 0)
    content = head + SAMPLES[:50_000].astype("<f4").tobytes()
    expected = xxhash.xxh3_128(content).digest()
    assert audio_digest(path, HOUR_S) == expected


def test_audio_id_of_other_samples_rates_and_channels_is_another(tmp_path: Path) -> None:
    some = SAMPLES[:5000, :1]
    louder = some.copy()
    louder[4999] += 0.01
    written = [(some, 32_000), (some, 44_100), (np.hstack([some, some]), 32_000), (louder, 32_000)]
    found = {
        audio_digest(write(tmp_path / f"{at}.wav", samples, rate, "FLOAT"), HOUR_S)
        for at, (samples, rate) in enumerate(written)
    }
    assert len(found) == len(written)


# --- a run ---------------------------------------------------------------------------------------


@pytest.fixture
def counting(whole: None, tiny_checkpoint: Checkpoint) -> Counting:
    return Counting(tiny_checkpoint, device="cpu", precision="fp32")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    root = tmp_path / "library"
    root.mkdir()
    (tmp_path / "originals").mkdir()
    for name, (make, _) in MADE.items():
        shutil.copyfile(make(root / name), tmp_path / "originals" / name)
    return root


@pytest.fixture
def retagged(library: Path, tmp_path: Path, counting: Counting) -> Store:
    """A store of the library, which then was given tags, and indexed again."""
    store = new_store(tmp_path / "store", counting)
    run(library, store, counting)
    assert counting.num_windows == 2 * len(MADE)
    retag(library, "a title")
    counting.num_windows = 0
    report = run(library, store, counting)
    assert (counting.num_windows, report.num_windows, report.num_embedded) == (0, 0, 0)
    assert (report.num_known, report.failures) == (len(MADE), [])
    return store


def test_retagged_files_make_no_forward_pass_and_keep_their_recordings(
    library: Path, retagged: Store, counting: Counting
) -> None:
    rows = retagged.files().to_pylist()
    before, after = rows[: len(MADE)], rows[len(MADE) :]
    former = {row["path"]: row for row in before}
    for row in after:
        was = former[row["path"]]
        assert row["recording_id"] == was["recording_id"]
        assert (row["audio_id"], row["num_samples"]) == (was["audio_id"], was["num_samples"])
        assert was["audio_id"] is not None
        assert (was["file_digest"], row["file_digest"]) == (None, digest_of(library / row["path"]))
    assert len(retagged.snapshot()) == 2 * len(MADE)
    report = run(library, retagged, counting)  # settled
    assert report.num_unchanged == len(MADE)
    retag(library, "another title")
    assert run(library, retagged, counting).num_known == len(MADE)
    assert counting.num_windows == 0


def test_copy_of_a_retagged_file_is_known_without_being_decoded(
    library: Path, retagged: Store, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = rows_of(retagged)["a.mp3"]["recording_id"]
    (library / "a.mp3").rename(library / "b.mp3")
    shutil.copyfile(library / "a.flac", library / "copy.flac")
    for name in ("open_audio", "audio_digest"):
        monkeypatch.setattr(dataset, name, lambda *_, **__: pytest.fail("decoded"))
    report = run(library, retagged, counting)
    assert (report.num_known, report.num_moved, report.num_windows) == (2, 1, 0)
    rows = rows_of(retagged)
    assert statuses(retagged)["a.mp3"] == "moved"
    assert rows["b.mp3"]["recording_id"] == recording_id
    assert rows["b.mp3"]["file_digest"] == digest_of(library / "b.mp3")
    assert rows["copy.flac"]["recording_id"] == rows["a.flac"]["recording_id"]


def test_retagged_files_pass_deep_verification_until_they_change(
    library: Path, retagged: Store, counting: Counting
) -> None:
    total = 2 * len(MADE)
    assert recompute(retagged, counting, num_windows=99) == DeepReport(num_recomputed=total)
    list_info(library / "a.wav", "not indexed yet")
    report = recompute(retagged, counting, num_windows=99)
    assert (report.num_recomputed, report.num_changed) == (total - 2, 2)


def test_compaction_keeps_what_retagged_files_need(
    library: Path, tmp_path: Path, retagged: Store, counting: Counting
) -> None:
    with_tags = rows_of(retagged)
    assert compact(retagged).num_rows_removed == len(MADE)
    delete_replaced(retagged, retagged.parts())
    assert rows_of(retagged) == with_tags
    assert len(retagged.snapshot()) == 2 * len(MADE)
    assert recompute(retagged, counting, num_windows=99).problems == []
    counting.num_windows = 0
    for name, (_, change) in MADE.items():  # the bytes of old come back, and new tags once more
        shutil.copyfile(tmp_path / "originals" / name, library / f"old {name}")
        change(library / name, "a third title")
    report = run(library, retagged, counting)
    assert (report.num_known, report.num_windows, counting.num_windows) == (2 * len(MADE), 0, 0)


def test_file_of_which_the_audio_has_changed_is_embedded(
    library: Path, retagged: Store, counting: Counting
) -> None:
    write(library / "a.wav", -SAMPLES, 44_100)
    report = run(library, retagged, counting)
    assert (report.num_embedded, counting.num_windows) == (1, 2)
    row = rows_of(retagged)["a.wav"]
    assert (row["recording_id"], row["file_digest"]) == (digest_of(library / "a.wav"), None)


def test_retagged_file_that_is_damaged_fails_under_its_own_digest(
    library: Path, retagged: Store, counting: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> bytes:
        raise AudioError("decode", "damaged")

    list_info(library / "a.wav", "more")
    monkeypatch.setattr(dataset, "audio_digest", fail)
    report = run(library, retagged, counting)
    assert [one.reason for one in report.failures] == ["damaged"]
    assert rows_of(retagged)["a.wav"]["recording_id"] == digest_of(library / "a.wav")


def test_spans_of_a_retagged_file_are_embedded_again(
    library: Path, retagged: Store, tmp_path: Path, counting: Counting
) -> None:
    wanted = tmp_path / "spans.csv"
    wanted.write_text("path,start,end\na.wav,0,5\n")
    run(library, retagged, counting, ExtractConfig(num_workers=0, files_from=wanted))
    list_info(library / "a.wav", "more")
    counting.num_windows = 0
    run(library, retagged, counting, ExtractConfig(num_workers=0, files_from=wanted))
    assert counting.num_windows == 1
    assert recompute(retagged, counting, num_windows=99).problems == []


def test_index_knows_a_retagged_file_as_its_recording(library: Path, retagged: Store) -> None:
    build(retagged)
    index = SoundIndex.open(retagged.path)
    for name, row in rows_of(retagged).items():
        assert index.recording_of(digest_of(library / name)) == row["recording_id"]
        assert index.recording_of(row["recording_id"]) == row["recording_id"]  # type: ignore[arg-type]
    assert index.recording_of(b"\1" * 16) == b"\1" * 16


def test_files_that_a_gpu_resampled_are_known_by_their_samples_too(
    library: Path, tmp_path: Path, tiny_checkpoint: Checkpoint, counting: Counting
) -> None:
    store = new_store(tmp_path / "store", counting)
    run(library, store, Resampling(tiny_checkpoint))
    assert store.latest_files()["audio_id"].null_count == 0
    retag(library, "a title")
    assert run(library, store, counting).num_embedded == 0


@pytest.mark.whole
def test_file_that_was_given_tags_since_it_was_indexed_does_not_find_itself(
    run: Run, tmp_path: Path
) -> None:
    library, path = tmp_path / "library", tmp_path / "store"
    library.mkdir()
    write(library / "a.flac", noise(64_000), 32_000)
    write(library / "b.flac", noise(64_000, seed=1), 32_000)
    run("index", library, "--store", path, "--checkpoint", "demo", "--workers", 0)
    vorbis_comment(library / "a.flac", "a title")
    told = run("search", path, library / "a.flac")
    fault("L8").require(told.code, told.out + told.err)
    assert "a.flac" not in told.out
    itself = run("search", path, library / "a.flac", "--include-self").out
    assert itself.index("a.flac") < itself.index("b.flac")
    write(library / "a.flac", noise(64_000, seed=2), 32_000)  # other samples: another sound
    assert "a.flac" in run("search", path, library / "a.flac").out


@pytest.mark.whole
def test_commands_know_a_file_that_was_given_tags(run: Run, tmp_path: Path) -> None:
    library, path = tmp_path / "library", tmp_path / "store"
    library.mkdir()
    write(library / "a.flac", noise(64_000), 32_000)
    write(library / "b.flac", noise(64_000, seed=1), 32_000)
    words = ("index", library, "--store", path, "--checkpoint", "demo", "--workers", 0)
    run(*words)
    vorbis_comment(library / "a.flac", "a title")
    told = run(*words, code=None)
    fault("F1").require(told.code, told.out + told.err)
    hits = run("search", path, library / "a.flac", "--format", "json").hits
    assert "a.flac" not in str(hits)  # its own recording is left out
    assert "b.flac" in str(hits)
    assert run("verify", path, "--deep").out.startswith("2 windows embedded again")
