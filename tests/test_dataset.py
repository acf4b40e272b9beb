"""From files to batches: every file ends in exactly one event, windows come before it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from synthetic import write_tone

from indexer.arrays import ID_DTYPE
from indexer.audio.content import recording_digest
from indexer.errors import AudioError
from indexer.library.files import FileList, FoundFile
from indexer.library.walk import walk
from indexer.reading.batches import Batch
from indexer.reading.dataset import Work
from indexer.reading.events import Done, Failure
from indexer.reading.readers import load_windows
from indexer.windows import Geometry, window_id


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for number in range(6):
        write_tone(tmp_path / f"{number}.wav", 4.0 * number + 1, 300 + number)
    (tmp_path / "bad.wav").write_text("not audio")
    return tmp_path


def work(root: Path, items: Iterable[FoundFile], **changes: object) -> Work:
    options: dict[str, object] = {
        "root": root,
        "items": FileList(items),
        "geometry": Geometry(),
        "batch_size": 3,
        "known": np.empty(0, ID_DTYPE),
        "partial": {},
        "max_duration_s": 3600.0,
    }
    return Work(**(options | changes))  # type: ignore[arg-type]


def batches(of: Work, num_workers: int = 0) -> list[Batch]:
    return list(load_windows(of, num_workers=num_workers, timeout_s=60))


@pytest.mark.whole
@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_loader_gives_every_window_once_and_one_event_per_file(
    library: Path, num_workers: int
) -> None:
    items = walk(library).files
    found = batches(work(library, items), num_workers)
    keys = [key for batch in found for key in batch.keys]
    expected = [
        (item, *span)
        for item, file in enumerate(items)
        if file.path != "bad.wav"
        for span in Geometry().plan((4 * int(file.path[0]) + 1) * 32_000)
    ]
    assert sorted((key.item, *key[2:]) for key in keys) == expected
    events = [event for batch in found for event in batch.events]
    assert sorted(event.item for event in events) == list(range(7))
    (failure,) = (event for event in events if isinstance(event, Failure))
    assert items[failure.item].path == "bad.wav"
    assert failure.recording_id == recording_digest(library / "bad.wav")


@pytest.mark.whole
@pytest.mark.parametrize("num_workers", [0, 2])
def test_loader_end_of_a_file_comes_with_its_last_window_or_after_it(
    library: Path, num_workers: int
) -> None:
    ended: set[int] = set()
    for batch in batches(work(library, walk(library).files), num_workers):
        assert not ended & {key.item for key in batch.keys}
        ended |= {event.item for event in batch.events}


def test_loader_end_of_a_file_that_fills_a_batch_travels_with_it(tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav", 30.0)
    (batch,) = batches(work(tmp_path, walk(tmp_path).files))
    assert len(batch.keys) == 3
    (done,) = batch.events
    assert isinstance(done, Done)
    assert done.num_samples == 960_000


def test_loader_batches_have_one_length_and_at_most_the_size_asked_for(library: Path) -> None:
    native = work(library, walk(library).files, geometry=Geometry(native=True))
    for batch in batches(native):
        assert len(batch.keys) <= 3
        assert {key.num_samples for key in batch.keys} <= {batch.waveforms.shape[1]}


def test_loader_batches_of_long_windows_have_hardly_more_audio_than_others(
    tmp_path: Path,
) -> None:
    for name, seconds in {"a": 16.0, "b": 16.0, "c": 25.0, "d": 25.0, "e": 45.0, "f": 45.0}.items():
        write_tone(tmp_path / f"{name}.wav", seconds, 200 + ord(name))
    native = work(tmp_path, walk(tmp_path).files, geometry=Geometry(native=True))
    assert native.batch_size == 3
    found = [(len(one.keys), one.waveforms.shape[1] // 32_000) for one in batches(native)]
    assert [one for one in found if one[0]] == [(2, 16), (1, 25), (1, 25), (1, 45), (1, 45)]


def test_loader_waveforms_are_the_samples_zero_padded(tmp_path: Path) -> None:
    samples, _ = soundfile.read(write_tone(tmp_path / "a.wav", 12.0), dtype="float32")
    (batch,) = batches(work(tmp_path, walk(tmp_path).files))
    padded = np.zeros((2, 320_000), np.float32)
    padded.reshape(-1)[: len(samples)] = samples
    np.testing.assert_array_equal(batch.waveforms, padded)


def test_loader_known_content_is_not_decoded(library: Path) -> None:
    known = np.sort(np.array([recording_digest(library / "5.wav")], ID_DTYPE))
    items = [file for file in walk(library).files if file.path == "5.wav"]
    (batch,) = batches(work(library, items, known=known))
    assert len(batch.keys) == 0
    assert batch.events == [Done(0, recording_digest(library / "5.wav"))]


def test_loader_windows_that_are_stored_are_left_out(library: Path) -> None:
    recording = recording_digest(library / "5.wav")
    partial = {recording: np.array([window_id(recording, 0, 320_000)])}
    items = [file for file in walk(library).files if file.path == "5.wav"]
    (batch,) = batches(work(library, items, partial=partial))
    # 21 s: two full windows, and 1 s that no earlier window holds.
    assert [key.start_sample for key in batch.keys] == [320_000, 640_000]
    assert len(batch.events) == 1


def test_loader_file_that_vanished_is_a_failure(library: Path) -> None:
    items = walk(library).files
    (library / "3.wav").unlink()
    failures = [
        e for b in batches(work(library, items)) for e in b.events if isinstance(e, Failure)
    ]
    assert {items[failure.item].path for failure in failures} == {"bad.wav", "3.wav"}


def test_recording_digest_is_blake2b_of_the_bytes(library: Path) -> None:
    content = (library / "0.wav").read_bytes()
    assert recording_digest(library / "0.wav") == hashlib.blake2b(content, digest_size=16).digest()
    shutil.copyfile(library / "0.wav", library / "copy.wav")
    assert recording_digest(library / "copy.wav") == recording_digest(library / "0.wav")


def test_recording_digest_folder_is_an_audio_error(library: Path) -> None:
    with pytest.raises(AudioError, match="not a regular file"):
        recording_digest(library)
