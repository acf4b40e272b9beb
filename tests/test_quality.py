"""What is found among recordings that the demo checkpoint never saw, and that filters hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED_AUDIO
from oracle import Query, ask

from benchmarks.precision_at_10 import precision_by_class
from indexer.arrays import Float16
from indexer.embedding.extractor import Extractor
from indexer.run.config import Settings
from indexer.run.extract import ExtractConfig, extract
from indexer.run.prepare import prepare
from indexer.store.reader import Store
from indexer.tags import TagVocabulary
from search.asking.sound_index import SoundIndex
from search.filters.tags import TagFilter
from search.upkeep.build import build

HELDOUT = SHARED_AUDIO / "esc10_heldout"
#: Of the training script, which measured it without this code: mean and by class.
EXPECTED_MEAN = 0.745
EXPECTED = {
    "baby_cry": 0.86, "chainsaw": 0.71, "clock_tick": 0.64, "dog_bark": 0.60,
    "fire_crackling": 0.64, "helicopter": 0.75, "person_sneeze": 0.81, "rain": 0.79,
    "rooster": 0.85, "sea_waves": 0.81,
}  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HELDOUT.exists(), reason="ESC-10 is not part of the project"),
]


@pytest.fixture(scope="module")
def heldout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "esc10_heldout.soundalike"
    store, extractor = prepare(path, Settings(checkpoint="demo", padding="zero"))
    report = extract(HELDOUT, store, extractor, ExtractConfig(num_workers=1))
    assert (report.num_windows, report.failures) == (160, [])
    assert build(store).num_windows == 160
    return path


def test_precision_at_10_is_that_of_the_checkpoint(heldout: Path) -> None:
    by_class = precision_by_class(heldout, tag_weight=0)
    assert np.mean(list(by_class.values())) == pytest.approx(EXPECTED_MEAN, abs=0.02)
    for name, expected in EXPECTED.items():
        assert by_class[name] == pytest.approx(expected, abs=0.05), name
    assert np.mean(list(precision_by_class(heldout).values())) >= EXPECTED_MEAN + 0.03


def probability(tags: Float16, name: str) -> np.ndarray:
    """Return the probability of a tag or of anything below it, straight from the stored tags."""
    vocabulary = TagVocabulary.audioset()
    tag = vocabulary.resolve(name)
    below = [one.index for one in (tag, *vocabulary.descendants(tag)) if one.index is not None]
    return tags[:, below].max(1)


@pytest.mark.parametrize(
    ("tag_filter", "name", "wanted"),
    [
        (TagFilter(all_of=("Dog",)), "Dog", True),
        (TagFilter(all_of=("Animal",)), "Animal", True),
        (TagFilter(none_of=("Animal",)), "Animal", False),
    ],
)
def test_every_hit_of_every_filtered_query_has_the_stored_probability(
    heldout: Path, tag_filter: TagFilter, name: str, wanted: bool
) -> None:
    snapshot = Store.open(heldout).snapshot()
    tags = snapshot.tags(np.arange(len(snapshot)))
    matches = (probability(tags, name) >= np.float32(0.25)) == wanted
    matching = set(snapshot.windows.window_id[matches].tolist())
    index = SoundIndex.open(heldout)
    for row, window_id in enumerate(snapshot.windows.window_id.tolist()):
        vectors, (window,), *_ = index.windows_of([window_id])
        own = frozenset({window.recording_id})
        hits = ask(index, Query(vectors, k=20, filter=tag_filter, exclude=own))
        assert {hit.window_id for hit in hits} <= matching
        assert len(hits) == min(20, len(matching) - bool(matches[row]))


def test_stored_head_gives_the_stored_tags_for_every_row(
    heldout: Path, demo_extractor: Extractor
) -> None:
    store = Store.open(heldout)
    assert store.identity.weights == demo_extractor.checkpoint.digest
    snapshot = store.snapshot()
    rows = np.arange(len(snapshot))
    expected = store.head().tags(snapshot.scene(rows))
    np.testing.assert_allclose(snapshot.tags(rows), expected, atol=2**-11)
