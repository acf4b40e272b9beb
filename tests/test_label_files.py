"""When a tag is heard: spans from frames, and the files that editors of sound read."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from listener import Listener
from synthetic import make_store, write_tone
from test_extract import new_store
from test_extract import run as embed

from indexer.embedding.extractor import Embeddings, Extractor
from indexer.errors import SoundalikeError, UnknownTagError
from indexer.model.checkpoint import Checkpoint
from indexer.progress import Step
from indexer.store.head import Head
from indexer.store.reader import Store
from indexer.tags import TagVocabulary
from indexer.windows import Geometry
from search.datasets.provenance import store_provenance
from search.export.label_files import export_labels, outputs_of
from search.export.spans import Span, frame_tags, merged, spans_of_window

NAMES = TagVocabulary.audioset().names


def test_frame_tags_are_those_of_the_model_on_a_single_frame(tiny_checkpoint: Checkpoint) -> None:
    """The network's own pooling, given one frame: LayerNorm(max + mean) is LayerNorm(2 x frame)."""
    model = tiny_checkpoint.model
    frames = torch.randn(7, 768, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        scenes = torch.cat([model.pool(one[None, :, None, None]) for one in frames])
        expected = torch.sigmoid(model.head_audioset(scenes))
    head = Extractor(tiny_checkpoint, device="cpu").head()
    np.testing.assert_allclose(frame_tags(frames.numpy(), head), expected, atol=1e-5)


def window(heard: list[int], num_frames: int = 31) -> np.ndarray:
    """Probabilities of tag 2: 0.9 in some frames, 0 in the others; no other tag is heard."""
    probabilities = np.zeros((num_frames, 527), np.float32)
    probabilities[heard, 2] = 0.9
    return probabilities


def test_spans_are_where_the_frames_are() -> None:
    (span,) = spans_of_window(window(list(range(10, 15))), 100.0, 10.0, range(527), 0.5)
    # Smoothed, frames 10 to 14 stay over a half: 3.16 s to 4.76 s of the window.
    assert span == pytest.approx((103.16, 104.76, 2, 0.9))


def test_spans_of_one_loud_frame_are_none_and_of_one_silent_frame_are_not_broken() -> None:
    assert list(spans_of_window(window([10]), 0.0, 10.0, range(527), 0.5)) == []
    heard = [*range(5, 10), *range(11, 16)]
    (span,) = spans_of_window(window(heard), 0.0, 10.0, range(527), 0.5)
    assert span[:2] == pytest.approx((1.56, 5.08))


def test_spans_reach_from_the_beginning_to_the_end_and_no_further() -> None:
    (span,) = spans_of_window(window(list(range(31))), 20.0, 10.0, [2], 0.5)
    assert span[:2] == (20.0, 30.0)
    (span,) = spans_of_window(window(list(range(31))), 20.0, 2.0, [2], 0.5)  # the rest is padding
    assert span[:2] == (20.0, 22.0)
    assert list(spans_of_window(window(list(range(31))), 0.0, 10.0, [1, 3], 0.5)) == []


def naive_spans(heard: list[float], start_s: float, duration_s: float) -> list[Span]:
    """Frame by frame: what `spans_of_window` must give for one tag and a threshold of a half."""
    begins = [0.32 * frame - 0.04 for frame in range(len(heard))]
    # A frame that begins where the audio ends, or behind it, hears padding alone.
    heard = [one for one, begin in zip(heard, begins, strict=True) if begin < duration_s]
    smooth = []
    for frame in range(len(heard)):
        near = heard[max(frame - 1, 0) : frame + 2]
        smooth.append(np.float32(sum(map(np.float32, near)) / np.float32(len(near))))
    spans: list[Span] = []
    frame = 0
    while frame < len(heard):
        last = frame
        while last < len(heard) and smooth[last] >= 0.5:
            last += 1
        if last > frame:
            end_s = duration_s if last == len(heard) else min(0.32 * last - 0.04, duration_s)
            begin_s = max(begins[frame], 0.0)
            spans.append(Span(start_s + begin_s, start_s + end_s, 2, max(smooth[frame:last])))
        frame = last + 1
    return spans


@settings(deadline=None)
@given(
    heard=st.lists(st.sampled_from([0.0, 0.25, 0.75, 1.0]), min_size=1, max_size=12),
    milliseconds=st.integers(1, 4200).filter(lambda one: (one + 40) % 320),
)
def test_spans_of_a_padded_window_are_those_of_the_frames_that_hear_audio(
    heard: list[float], milliseconds: int
) -> None:
    probabilities = np.zeros((len(heard), 527), np.float32)
    probabilities[:, 2] = heard
    duration_s = milliseconds / 1000
    found = list(spans_of_window(probabilities, 7.0, duration_s, [1, 2], 0.5))
    expected = naive_spans(heard, 7.0, duration_s)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other)


@pytest.mark.parametrize(
    ("duration_s", "num_frames"), [(0.279, 1), (0.281, 2), (0.599, 2), (0.601, 3)]
)
def test_frame_counts_at_the_end_of_a_padded_window_if_it_begins_before_the_audio_ends(
    duration_s: float, num_frames: int
) -> None:
    """Only padding is loud, from the first frame on that begins behind the audio."""
    loud = window(list(range(num_frames, 31)))
    assert list(spans_of_window(loud, 0.0, duration_s, [2], 0.1)) == []
    loud = window(list(range(num_frames - 1, 31)))
    (span,) = spans_of_window(loud, 0.0, duration_s, [2], 0.4)
    assert span.end_s == duration_s


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            lambda start, length, tag: Span(start / 10, (start + length) / 10, tag, 0.5),
            st.integers(0, 100),
            st.integers(1, 30),
            st.integers(0, 2),
        )
    )
)
def test_merged_spans_cover_the_same_and_keep_their_distance(spans: list[Span]) -> None:
    joined = merged(spans)
    assert joined == sorted(joined)
    for tag in range(3):
        of_tag = [span for span in joined if span.tag == tag]
        for one, following in pairwise(of_tag):
            assert following.start_s - one.end_s > 0.5
        for span in spans:
            if span.tag == tag:
                assert any(
                    one.start_s <= span.start_s and span.end_s <= one.end_s for one in of_tag
                )
    assert sum(span.end_s - span.start_s for span in joined) <= 0.5 * len(spans) + sum(
        span.end_s - span.start_s for span in spans
    )


def test_merged_span_is_as_probable_as_the_most_probable_of_its_own() -> None:
    for probabilities in ((0.5, 0.9, 0.6), (0.9, 0.5, 0.6), (0.5, 0.6, 0.9)):
        spans = [Span(one, one + 0.9, 3, p) for one, p in enumerate(probabilities)]
        assert merged([*spans, Span(0.0, 9.0, 4, 1.0)])[0] == Span(0.0, 2.9, 3, 0.9)


@pytest.fixture(scope="module")
def store(
    whole: None, tmp_path_factory: pytest.TempPathFactory, tiny_extractor: Extractor
) -> Store:
    library = tmp_path_factory.mktemp("labels") / "library"
    write_tone(library / "sub" / "long.wav", 25.0, 300)
    write_tone(library / "short.wav", 1.5, 600)
    made = new_store(library.parent / "store", tiny_extractor, Geometry(160_000))
    embed(library, made, tiny_extractor)
    return made


def expected_spans(store: Store, head: Head, threshold: float) -> dict[str, list[Span]]:
    """All tags, by file, from the store's own frames."""
    files = store.latest_files(("path", "recording_id")).to_pylist()
    snapshot, found = store.snapshot(), {}
    for row in files:
        rows = np.flatnonzero(snapshot.windows.recording_id == row["recording_id"])
        spans: list[Span] = []
        for place in rows:
            one = snapshot.windows.window(int(place))
            (frames,) = snapshot.frames(np.array([place]))
            probabilities = frame_tags(frames, head)
            duration_s = one.num_samples / 32_000
            spans += spans_of_window(probabilities, one.start_s, duration_s, range(527), threshold)
        found[row["path"]] = merged(spans)
    return found


@pytest.mark.parametrize("form", ["audacity", "raven", "csv"])
def test_export_labels_writes_a_file_for_each_recording(
    store: Store, tmp_path: Path, form: Any
) -> None:
    snapshot = store.snapshot()
    middle = float(np.median(frame_tags(snapshot.frames(np.array([0]))[0], store.head())))
    told = Listener()
    report = export_labels(store, tmp_path, form, threshold=middle, listen=told)
    assert told.steps == [Step("listening", done, 2, "recording") for done in (1, 2)]
    suffix = {"audacity": ".txt", "raven": ".selections.txt", "csv": ".csv"}[form]
    wanted = expected_spans(store, store.head(), middle)
    assert {file.path for file in report.files} == {tmp_path / f"{path}{suffix}" for path in wanted}
    for path, spans in wanted.items():
        text = (tmp_path / f"{path}{suffix}").read_text()
        if form == "csv":
            rows = list(csv.DictReader(text.splitlines()))
            found = [(row["start_s"], row["end_s"], row["name"]) for row in rows]
            assert {row["path"] for row in rows} == {path}
        elif form == "raven":
            rows = list(csv.DictReader(text.splitlines(), delimiter="\t"))
            found = [(row["Begin Time (s)"], row["End Time (s)"], row["Tag"]) for row in rows]
            assert [row["Selection"] for row in rows] == [str(n + 1) for n in range(len(rows))]
        else:
            found = [tuple(line.split("\t")) for line in text.splitlines()]
        assert found == [(f"{s.start_s:.3f}", f"{s.end_s:.3f}", NAMES[s.tag]) for s in spans]


def test_table_of_a_name_of_several_lines_is_read_back(tmp_path: Path) -> None:
    made = make_store(tmp_path / "store")
    made.add({"two\rlines": 1, "and\nmore": 1, "=1+1": 1})
    report = export_labels(made.store, tmp_path / "out", "csv", threshold=0.0, tags=[0])
    names = set()
    for written in report.files:
        with written.path.open(newline="") as file:
            (row,) = csv.DictReader(file)
        names.add(row["path"])
    assert names == {"two\rlines.wav", "and\nmore.wav", "./=1+1.wav"}


@pytest.mark.whole
def test_export_labels_of_full_frames_are_those_of_pooled_ones(
    tmp_path: Path, tiny_checkpoint: Checkpoint
) -> None:
    write_tone(tmp_path / "library" / "one.wav", 12.0, 440)
    texts = []
    for mode in ("pooled", "full"):
        extractor = Extractor(tiny_checkpoint, device="cpu", frames=mode)  # type: ignore[arg-type]
        made = new_store(tmp_path / mode, extractor)
        embed(tmp_path / "library", made, extractor)
        export_labels(made, tmp_path / f"{mode} labels", "audacity", threshold=0.45)
        texts.append((tmp_path / f"{mode} labels" / "one.wav.txt").read_text().splitlines())
    different = set(texts[0]) ^ set(texts[1])  # where a probability is at the threshold
    assert len(different) <= 0.05 * (len(texts[0]) + len(texts[1]))


@pytest.mark.parametrize("more", [0, 1])
def test_labels_of_a_name_as_long_as_can_be_are_called_like_it(tmp_path: Path, more: int) -> None:
    made = make_store(tmp_path / "store")
    made.add({"n" * (255 - len(".wav.txt") + more): 1})
    report = export_labels(made.store, tmp_path / "out", "audacity", threshold=0.0, tags=[0])
    name = report.files[0].path.name
    assert len(name) == 255
    assert ("~" in name) == bool(more)


def test_export_labels_without_frames_says_what_to_do(
    tmp_path: Path, tiny_checkpoint: Checkpoint
) -> None:
    made = new_store(tmp_path / "store", Extractor(tiny_checkpoint, device="cpu", frames="none"))
    with pytest.raises(SoundalikeError, match="has no frame embeddings, and they say when"):
        export_labels(made, tmp_path / "labels", "csv")


@pytest.fixture
def without_frames(whole: None, tmp_path: Path, tiny_checkpoint: Checkpoint) -> Store:
    write_tone(tmp_path / "library" / "one.wav", 12.0, 440)
    write_tone(tmp_path / "library" / "two.flac", 3.0, 880, rate=44_100)
    extractor = Extractor(tiny_checkpoint, device="cpu", frames="none")
    made = new_store(tmp_path / "none", extractor)
    embed(tmp_path / "library", made, extractor)
    return made


@pytest.mark.whole
def test_export_labels_recomputed_are_those_of_stored_frames(
    without_frames: Store, tmp_path: Path, tiny_extractor: Extractor
) -> None:
    made = new_store(tmp_path / "pooled", tiny_extractor)
    embed(tmp_path / "library", made, tiny_extractor)
    export_labels(made, tmp_path / "stored", "csv", threshold=0.45)
    export_labels(
        without_frames, tmp_path / "again", "csv", threshold=0.45, extractor=tiny_extractor
    )
    for name in ("one.wav.csv", "two.flac.csv"):
        stored, again = (
            (tmp_path / folder / name).read_text().splitlines() for folder in ("stored", "again")
        )
        assert len(stored) > 100
        assert len(set(stored) ^ set(again)) <= 0.05 * len(stored)  # at the threshold's edge


def test_export_labels_recomputed_without_the_audio_or_the_checkpoint_says_so(
    without_frames: Store, tmp_path: Path, tiny_extractor: Extractor, demo_extractor: Extractor
) -> None:
    with pytest.raises(SoundalikeError, match=r"demo is not .* was made with tiny") as told:
        export_labels(without_frames, tmp_path / "labels", "csv", extractor=demo_extractor)
    assert (told.value.about, told.value.value) == ("checkpoint", "tiny")
    (tmp_path / "library" / "one.wav").unlink()
    with pytest.raises(SoundalikeError, match="is not where it was, or has changed"):
        export_labels(without_frames, tmp_path / "labels", "csv", extractor=tiny_extractor)


def test_export_labels_recomputed_refuses_what_is_not_finite(
    without_frames: Store, tmp_path: Path, tiny_checkpoint: Checkpoint
) -> None:
    class Overflowing(Extractor):
        """Its frames are beyond float16, as those of another precision may be."""

        def __call__(self, waveforms: Any) -> Embeddings:
            found = super().__call__(waveforms)
            assert found.frames is not None
            return found._replace(frames=found.frames * np.float16(np.inf))

    extractor = Overflowing(tiny_checkpoint, device="cpu", frames="pooled")
    message = (
        r"(one\.wav|two\.flac) cannot be embedded again: an embedding is not finite: the check"
    )
    with pytest.raises(SoundalikeError, match=message):
        export_labels(without_frames, tmp_path / "labels", "csv", extractor=extractor)
    assert not [path for path in (tmp_path / "labels").rglob("*") if path.is_file()]


def test_outputs_of_a_group_are_those_below_it() -> None:
    vocabulary = TagVocabulary.audioset()
    animal = vocabulary.outputs(vocabulary.resolve("Animal"))
    assert outputs_of(["Animal", "Dog"]) == sorted(animal)
    with pytest.raises(UnknownTagError):
        outputs_of(["Dgo"])


def test_export_labels_command_tells_how_many(store: Store, tmp_path: Path, run: Run) -> None:
    command = ("export", "labels", store.path, "--output", tmp_path / "labels")
    files = run(*command, "--threshold", "0", "--tag", "Dog", "--format", "json").data["files"]
    assert len(files) == 2
    assert (
        f"{sum(files.values())} spans in 2 files below"
        in run(*command, "--threshold", "0", "--tag", "Dog", "--force").out
    )
    assert "0 spans in 2 files" in run(*command, "--threshold", "1", "--force").out
    former = list((tmp_path / "labels").rglob("*.txt"))
    assert [file.read_text() for file in former] == ["", ""]
    run(*command, "--tag", "Dgo", code=1)


def test_label_files_of_several_forms_and_stores_have_a_card_each(
    store: Store, tmp_path: Path, tiny_extractor: Extractor
) -> None:
    (tmp_path / "README.md").write_text("somebody's")
    for form in ("audacity", "raven", "csv"):
        export_labels(store, tmp_path, form, threshold=0, tags=[0, 1])  # type: ignore[arg-type]
        card = (tmp_path / f"{store.path.stem}.{form}.card.md").read_text()
        assert "# Labels in 2 files, of ConvNeXt embeddings" in card
        assert f"- tags: {NAMES[0]}; {NAMES[1]}" in card
        assert "- threshold: 0" in card
        assert "- precision: fp32 on cpu" in card
        assert "The sounds: not known here" in card
    assert (tmp_path / "README.md").read_text() == "somebody's"
    assert "- tags: all" in export_and_card(store, tmp_path / "all")
    assert "- precision: fp32 on cpu" in export_and_card(store, tmp_path / "again", tiny_extractor)
    export_labels(store, tmp_path / "none", "csv", threshold=1)
    assert list((tmp_path / "none").iterdir()) == []


def export_and_card(store: Store, folder: Path, extractor: Extractor | None = None) -> str:
    export_labels(store, folder, "csv", threshold=0, extractor=extractor)
    (card,) = folder.glob("*.card.md")
    return card.read_text()


# --- every window --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "said"),
    [("csv", "A row for each"), ("jsonl", "An object in each"), ("npy", "(n, 768) float32")],
)
def test_every_window_has_a_card_beside_it(
    store: Store, tmp_path: Path, run: Run, form: str, said: str
) -> None:
    (tmp_path / "README.md").write_text("somebody's")
    words = ("export", form, store.path, "--output", tmp_path / f"x.{form}")
    run(*words)
    card = tmp_path / f"x.{form}.card.md"
    assert said in card.read_text()
    assert f"# {len(store.snapshot())} windows, as ConvNeXt embeddings" in card.read_text()
    for name in ("checkpoint", "weights", "trained_on", "precision"):
        assert f"- {name}: {store_provenance(store)[name]}" in card.read_text().splitlines()
    (tmp_path / f"x.{form}").unlink()
    card.write_text("mine")
    assert f"{card} for one" in run(*words, code=1).err
    assert card.read_text() == "mine"
    assert not (tmp_path / f"x.{form}").exists()
    assert (tmp_path / "README.md").read_text() == "somebody's"


def test_export_csv_jsonl_and_npy_hold_every_window(store: Store, tmp_path: Path, run: Run) -> None:
    snapshot = store.snapshot()
    num_windows = len(snapshot)
    for form in ("csv", "jsonl", "npy"):
        path = tmp_path / f"windows.{form}"
        told = run("export", form, store.path, "--output", path, "--threshold", "0.5")
        assert told.out == f"{path}: {num_windows} windows\n"
    ids = snapshot.windows.window_id.tolist()
    scenes = snapshot.scene(np.arange(num_windows))
    tables = [
        list(csv.DictReader((tmp_path / name).read_text().splitlines()))
        for name in ("windows.csv", "windows.npy.csv")
    ]
    assert tables[0] == tables[1]
    assert [int(row["window_id"]) for row in tables[0]] == ids
    array = np.load(tmp_path / "windows.npy")
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, scenes)
    lines = [json.loads(line) for line in (tmp_path / "windows.jsonl").read_text().splitlines()]
    tags = snapshot.tags(np.arange(num_windows)).astype(np.float32)
    for row, (line, cells) in enumerate(zip(lines, tables[0], strict=True)):
        one = snapshot.windows.window(row)
        assert line["window_id"] == ids[row]
        assert (line["start_s"], line["end_s"]) == (one.start_s, one.end_s)
        assert (float(cells["start_s"]), float(cells["end_s"])) == (one.start_s, one.end_s)
        assert line["paths"] == [cells["path"]]
        np.testing.assert_array_equal(np.float32(line["scene"]), scenes[row])
        heard = {NAMES[index] for index in np.flatnonzero(tags[row] >= 0.5)}
        assert {tag["name"] for tag in line["tags"]} == heard
        assert len(cells["tags"].split("; ")) == len(heard)


def test_export_into_a_folder_that_is_not_there_is_an_error(
    store: Store, tmp_path: Path, run: Run
) -> None:
    for form in ("csv", "jsonl", "npy"):
        told = run("export", form, store.path, "--output", tmp_path / "none" / "file", code=1)
        assert "cannot write" in told.err
