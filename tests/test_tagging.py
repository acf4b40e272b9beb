"""What the model hears in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import SHARED_AUDIO
from synthetic import write_tone

from indexer.embedding.extractor import Extractor
from indexer.embedding.tagging import tag_file
from indexer.errors import AudioError
from indexer.model.checkpoint import load_checkpoint
from indexer.model.known import KNOWN_CHECKPOINTS
from indexer.tags import TagVocabulary, pick_heard, pick_heard_each
from indexer.windows import Geometry

UKULELE = SHARED_AUDIO / "f62-S-v2swA_200000_210000.wav"


def test_tag_file_windows_and_tags_are_those_of_the_model(
    tmp_path: Path, tiny_extractor: Extractor
) -> None:
    path = write_tone(tmp_path / "tone.wav", 14.0)
    windows = tag_file(path, tiny_extractor, threshold=0.5)
    assert [(window.start_s, window.end_s) for window in windows] == [(0.0, 10.0), (10.0, 14.0)]
    samples, _ = soundfile.read(path, dtype="float32")
    with torch.inference_mode():
        tags = tiny_extractor.checkpoint.model(torch.from_numpy(samples[None, :320_000])).tags[0]
    expected = {index: float(tags[index]) for index in np.flatnonzero(tags >= 0.5)}
    assert {one.tag.index: pytest.approx(one.probability, abs=1e-5) for one in windows[0].tags} == (
        expected
    )
    assert windows[0].scene_shape == (768,)
    assert windows[0].frames_shape == (31, 768)


def test_tag_file_native_geometry_gives_one_window(
    tmp_path: Path, tiny_extractor: Extractor
) -> None:
    path = write_tone(tmp_path / "tone.wav", 14.0)
    (window,) = tag_file(path, tiny_extractor, geometry=Geometry(native=True))
    assert window.end_s == 14.0
    assert window.frames_shape == (44, 768)


def test_tag_file_that_is_no_audio_is_an_error(tmp_path: Path, tiny_extractor: Extractor) -> None:
    (tmp_path / "text.wav").write_text("no")
    with pytest.raises(AudioError):
        tag_file(tmp_path / "text.wav", tiny_extractor)


def test_heard_orders_by_probability_then_index_and_stops_at_the_threshold() -> None:
    tags = np.zeros(527, np.float16)
    tags[[74, 0, 500, 3]] = [0.5, 0.25, 0.5, np.nextafter(np.float16(0.25), np.float16(0))]
    found = pick_heard(tags, threshold=0.25)
    assert [(one.tag.index, one.probability) for one in found] == [(74, 0.5), (500, 0.5), (0, 0.25)]
    assert [one.tag.name for one in found] == [
        TagVocabulary.audioset().names[index] for index in (74, 500, 0)
    ]
    assert [one.tag.index for one in pick_heard(tags, threshold=0.0, top=2)] == [74, 500]
    assert pick_heard(tags, threshold=0.6) == []


@pytest.mark.parametrize("top", [None, 0, 1, 4])
def test_heard_in_some_windows_is_what_is_heard_in_each(top: int | None) -> None:
    random = np.random.default_rng(0)
    tags = (random.random((6, 527)).round(2) ** 3).astype(np.float16)  # of which some are equal
    tags[3] = 0
    each = random.random(527, np.float32)
    for threshold in (0.25, each):
        found = pick_heard_each(tags, threshold=threshold, top=top)
        for window, heard in zip(tags.tolist(), found, strict=True):
            least = np.broadcast_to(np.float32(threshold), 527)
            likely = [at for _, at in sorted((-one, at) for at, one in enumerate(window))]
            likely = [at for at in likely if window[at] >= least.min()][:top]
            assert [(one.tag.index, one.probability) for one in heard] == [
                (at, window[at]) for at in likely if window[at] >= least[at]
            ]
    assert pick_heard_each(tags[:0], threshold=0.25) == []


@pytest.mark.checkpoint
@pytest.mark.skipif(
    not KNOWN_CHECKPOINTS["convnext-tiny-471"].path.exists(),
    reason="the published checkpoint is not here",
)
@pytest.mark.skipif(not UKULELE.exists(), reason="the ukulele clip is not part of the project")
def test_tag_file_published_checkpoint_hears_what_its_demo_hears() -> None:
    extractor = Extractor(load_checkpoint("convnext-tiny-471"), device="cpu")
    (window,) = tag_file(UKULELE, extractor, threshold=0.25)
    assert sorted(one.tag.index or 0 for one in window.tags) == [0, 137, 138, 139, 151, 506]
