"""Every form on a stand-in AudioCaps of 60 clips, read as its consumer reads it."""

from __future__ import annotations

import csv
import json
import pickle
import pickletools
from ast import literal_eval
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from captioned import SPLITS, StandIn, make_stand_in
from conftest import Run, installed, run_with
from faults import fault

from indexer.errors import SoundalikeError
from search.datasets.consent import Consent
from search.datasets.text_vectors import TextVectors
from search.export.captioned import ExportReport, export_captioned
from search.export.forms.kinds import KINDS, Form

SUBSETS = {"train": "development", "val": "validation", "test": "evaluation"}


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    return make_stand_in(tmp_path_factory.mktemp("stand in"))


def export(made: StandIn, form: Form, folder: Path, **how: Any) -> ExportReport:
    consent = Consent(is_clean=True)
    options = {"match": made.match, "consent": consent, **how}
    return export_captioned(made.store, "AudioCaps", made.tables, form, folder, **options)


@pytest.mark.parametrize("form", list(KINDS))
def test_every_form_has_the_clips_of_every_naming_convention(
    stand_in: StandIn, tmp_path: Path, form: Form
) -> None:
    report = export(stand_in, form, tmp_path)
    for split in report.splits:
        assert [one.file_id for one in split.present] == [
            clip.file_id for clip in stand_in.present[split.name]
        ]
        assert [one.captions for one in split.present] == [
            clip.captions for clip in stand_in.present[split.name]
        ]
        assert [one.file_id for one in split.missing] == [
            clip.file_id for clip in stand_in.missing[split.name]
        ]
    assert sum(len(split.present) for split in report.splits) == 55
    assert report.num_extra == 2
    assert set(report.files) == set(tmp_path.iterdir())


def read_packed(path: Path, attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """Read a file by what torchoutil 0.3 documents of it; text as it must be typed there."""
    items = []
    with h5py.File(path) as file:
        attributes |= file.attrs
        suffix, length = file.attrs["shape_suffix"], int(file.attrs["length"])
        assert {len(column) for column in file.values()} == {length}
        for row in range(length):
            item = {}
            for name, column in file.items():
                value = column[row]
                if f"{name}{suffix}" in file:
                    value = value[tuple(slice(end) for end in file[f"{name}{suffix}"][row])]
                if column.dtype == h5py.string_dtype("utf-8"):
                    texts = value if column.ndim > 1 else [value]
                    texts = [text.decode() for text in texts]
                    value = texts if column.ndim > 1 else texts[0]
                item[name] = value
            items.append(item)
    return items


def test_hdf5_dcase2024_is_as_torchoutil_packs_it(stand_in: StandIn, tmp_path: Path) -> None:
    export(stand_in, "hdf5-dcase2024", tmp_path)
    for split, clips in stand_in.present.items():
        attributes: dict[str, Any] = {}
        items = read_packed(tmp_path / f"audiocaps_{split}_cnext.hdf", attributes)
        assert len(items) == len(clips)
        for row, (item, clip) in enumerate(zip(items, clips, strict=True)):
            assert set(item) == {
                *("frame_embs", "frame_embs_shape", "clipwise_output", "captions"),
                *("captions_shape", "fname", "dataset", "subset", "index"),
            }
            expected = stand_in.frames[clip.file_id].astype(np.float32).T
            assert item["frame_embs"].dtype == np.float32
            np.testing.assert_array_equal(item["frame_embs"], expected)
            assert item["frame_embs_shape"].tolist() == list(expected.shape)
            tags = stand_in.store.head().tags(stand_in.scenes[clip.file_id][None])[0]
            np.testing.assert_allclose(item["clipwise_output"], tags, atol=4e-6)
            assert item["captions"] == list(clip.captions)
            assert item["captions_shape"].tolist() == [len(clip.captions)]
            words = (item["fname"], item["dataset"], item["subset"], int(item["index"]))
            assert words == (clip.file_id, "audiocaps", split, row)
        assert (attributes["shape_suffix"], attributes["item_type"]) == ("_shape", "dict")
        assert list(attributes["added_columns"]) == ["frame_embs_shape", "captions_shape"]
        assert json.loads(attributes["metadata"])["leak"] == "none"
        assert json.loads(attributes["metadata"])["precision"] == "fp32 on cpu"


def test_hdf5_conette_is_as_torchoutil_packs_it(stand_in: StandIn, tmp_path: Path) -> None:
    export(stand_in, "hdf5-conette", tmp_path)
    for split, clips in stand_in.present.items():
        path = tmp_path / f"audiocaps_{split}_resample_mean_convnext_ident.hdf"
        items = read_packed(path, {})
        for row, (item, clip) in enumerate(zip(items, clips, strict=True)):
            assert set(item) == {
                *("audio", "audio_shape", "captions", "captions_shape"),
                *("fname", "dataset", "subset", "index"),
            }
            expected = stand_in.frames[clip.file_id].astype(np.float32)[None]
            assert item["audio"].dtype == np.float32
            np.testing.assert_array_equal(item["audio"], expected)
            assert item["audio_shape"].tolist() == list(expected.shape)
            assert item["captions"] == list(clip.captions)
            words = (item["fname"], item["dataset"], item["subset"], int(item["index"]))
            assert words == (clip.file_id, "audiocaps", split, row)


def test_hdf5_of_a_split_of_which_nothing_is_there_is_empty(
    stand_in: StandIn, tmp_path: Path
) -> None:
    none = tmp_path / "val.csv"
    none.write_text("youtube_id,start_time,caption\nkkkkkkkkkkk,30,A tone.\n")
    tables = [stand_in.tables[0], none]
    for form in ("hdf5-dcase2024", "hdf5-conette"):
        export_captioned(
            stand_in.store,
            "AudioCaps",
            tables,
            form,
            tmp_path / form,
            consent=Consent(is_clean=True),
        )
        (path,) = (tmp_path / form).glob("audiocaps_val_*.hdf")
        attributes: dict[str, Any] = {}
        assert read_packed(path, attributes) == []
        assert attributes["length"] == 0


#: What DCASE 2024 and CoNeTTE do with files, in a process that has torchoutil 0.3.1: read them,
#: take the columns of their configurations, and make a batch of the first four.
TORCHOUTIL = """
import json, sys
from torchoutil.utils.data.collate import AdvancedCollateDict
from torchoutil.utils.hdf import HDFDataset

padded, paths = sys.argv[1], sys.argv[2:]
names = (padded, padded + "_shape", "captions", "dataset", "subset", "fname")
for path in paths:
    dataset = HDFDataset(path, return_added_columns=True)
    whole = [dataset[row] for row in range(len(dataset))]
    items = [{name: item[name] for name in names} for item in whole]
    batch = AdvancedCollateDict({padded: 0.0})(items[:4])
    print(json.dumps({
        "captions": dataset[:, "captions"],
        "words": [[one["fname"], one["dataset"], one["subset"]] for one in items],
        "sums": [one[padded].double().sum().item() for one in items],
        "type": str(items[0][padded].dtype),
        "batch": list(batch[padded].shape),
        "shapes": batch[padded + "_shape"].tolist(),
    }))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "name", "padded"),
    [
        ("hdf5-dcase2024", "audiocaps_{}_cnext.hdf", "frame_embs"),
        ("hdf5-conette", "audiocaps_{}_resample_mean_convnext_ident.hdf", "audio"),
    ],
)
def test_packed_hdf5_is_read_by_torchoutil_itself(
    stand_in: StandIn,
    tmp_path: Path,
    pytestconfig: pytest.Config,
    form: Form,
    name: str,
    padded: str,
) -> None:
    folder = installed(pytestconfig, "torchoutil==0.3.1")
    export(stand_in, form, tmp_path)
    paths = [tmp_path / name.format(split) for split in stand_in.present]
    told = run_with(folder, TORCHOUTIL, padded, *paths)
    for line, (split, clips) in zip(told.splitlines(), stand_in.present.items(), strict=True):
        found = json.loads(line)
        assert found["captions"] == [list(clip.captions) for clip in clips]
        assert found["words"] == [[clip.file_id, "audiocaps", split] for clip in clips]
        sums = [stand_in.frames[clip.file_id].astype(float).sum() for clip in clips]
        np.testing.assert_allclose(found["sums"], sums, rtol=1e-9)
        assert found["type"] == "torch.float32"
        lengths = [len(stand_in.frames[clip.file_id]) for clip in clips[:4]]
        most = max(lengths)
        if padded == "audio":
            assert found["batch"] == [4, 1, most, 768]
            assert found["shapes"] == [[1, length, 768] for length in lengths]
        else:
            assert found["batch"] == [4, 768, most]
            assert found["shapes"] == [[768, length] for length in lengths]


# --- DCASE 2023 ----------------------------------------------------------------------------------


def vectors_of(stand_in: StandIn) -> dict[str, np.ndarray[Any, Any]]:
    ids = [one for clips in stand_in.present.values() for clip in clips for one in clip.caption_ids]
    random = np.random.default_rng(3)
    return {one: random.normal(size=5).astype(np.float32) for one in ids}


def as_given(vectors: dict[str, np.ndarray[Any, Any]]) -> TextVectors:
    return TextVectors(list(vectors), np.stack(list(vectors.values())))


def test_hdf5_dcase2023_is_read_as_its_baseline_does(stand_in: StandIn, tmp_path: Path) -> None:
    vectors = vectors_of(stand_in)
    as_pandas_writes_them = {f"{caption_id}.0": one for caption_id, one in vectors.items()}
    export(stand_in, "hdf5-dcase2023", tmp_path, text_vectors=as_given(as_pandas_writes_them))
    with (tmp_path / "sbert_embeds.pkl").open("rb") as file:
        embedded = pickle.load(file)  # noqa: S301 - as the baseline does
    assert len(embedded) == len(vectors)
    for split, clips in stand_in.present.items():
        text = pd.read_csv(
            tmp_path / f"{SUBSETS[split]}_text.csv", converters={"tokens": literal_eval}
        )
        assert list(text.columns) == ["tid", "fid", "fname", "raw_text", "text", "tokens"]
        rows = [
            (clip.file_id, caption, vectors[caption_id])
            for clip in clips
            for caption_id, caption in zip(clip.caption_ids, clip.captions, strict=True)
        ]
        assert list(zip(text.fid, text.raw_text, strict=True)) == [row[:2] for row in rows]
        number = rows[0][1].split('"')[1]
        assert text.text[0] == f"somebody says {number} ä 0"
        assert text.text[0].split() == text.tokens[0]
        assert not set('",.') & set("".join(text.text))
        for tid, (_, _, vector) in zip(text.tid, rows, strict=True):
            assert embedded[tid].dtype == np.float32
            np.testing.assert_array_equal(embedded[tid], vector)
        with h5py.File(tmp_path / f"{SUBSETS[split]}_audio_convnext.hdf5") as audio:
            assert set(audio) == {clip.file_id for clip in clips}
            for fid in text.fid:
                frames = audio[fid][()]
                assert frames.dtype == np.float32
                np.testing.assert_array_equal(frames, stand_in.frames[fid].astype(np.float32))
            assert audio.attrs["leak"] == "none"


def test_pickled_vectors_are_read_by_any_numpy(stand_in: StandIn, tmp_path: Path) -> None:
    """NumPy 2 calls its insides by names that 1 does not have."""
    export(stand_in, "hdf5-dcase2023", tmp_path, text_vectors=as_given(vectors_of(stand_in)))
    content = (tmp_path / "sbert_embeds.pkl").read_bytes()
    texts = [
        found for operation, found, _ in pickletools.genops(content) if "UNICODE" in operation.name
    ]
    assert {"numpy", "frombuffer"} <= set(texts)
    assert not any("_core" in str(text) for text in texts)


def test_vectors_that_do_not_fit_are_told(stand_in: StandIn, tmp_path: Path) -> None:
    vectors = vectors_of(stand_in)
    first = next(iter(vectors))
    del vectors[first]
    with pytest.raises(SoundalikeError, match=f"1 of 167 captions have no vector, {first} for one"):
        export(stand_in, "hdf5-dcase2023", tmp_path, text_vectors=as_given(vectors))
    with pytest.raises(SoundalikeError, match="npz has no vectors of text in it; hdf5-dcase2023"):
        export(stand_in, "npz", tmp_path, text_vectors=as_given(vectors))
    assert list(tmp_path.iterdir()) == []


def test_captions_of_one_name_share_no_vector(stand_in: StandIn, tmp_path: Path) -> None:
    """Without audiocap_ids captions are numbered by line, in every table from 1 on."""
    tables = []
    for table in stand_in.tables[1:]:
        rows = list(csv.reader(table.read_text().splitlines()))
        tables.append(tmp_path / table.name)
        with tables[-1].open("w", newline="") as file:
            csv.writer(file).writerows(row[1:] for row in rows)
    vectors = {str(number): np.ones(3) for number in range(1, 100)}
    with pytest.raises(
        SoundalikeError, match=r"1 may be the id of several .*; call one .*#1, and so on"
    ):
        export_captioned(
            stand_in.store,
            "AudioCaps",
            tables,
            "hdf5-dcase2023",
            tmp_path / "out",
            consent=Consent(is_clean=True),
            text_vectors=as_given(vectors),
        )


@pytest.mark.parametrize("rows_in_group", [2, 5, 13, 100])
def test_parquet_has_every_clip_however_many_are_written_at_once(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_in_group: int
) -> None:
    monkeypatch.setattr("search.export.forms.tables._ROW_GROUP", rows_in_group)
    export(stand_in, "parquet", tmp_path)
    for split, clips in stand_in.present.items():  # 27, 13 and 15 of them
        rows = pq.read_table(tmp_path / f"{split}.parquet").to_pylist()
        assert [row["id"] for row in rows] == [clip.file_id for clip in clips]
        for row, clip in zip(rows, clips, strict=True):
            frames = np.array(row["frames"], np.float16)
            np.testing.assert_array_equal(frames, stand_in.frames[clip.file_id])


# --- names of splits, cards, the command ---------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (
            "hdf5-dcase2024",
            ["clotho_dev_cnext.hdf", "clotho_val_cnext.hdf", "clotho_eval_cnext.hdf"],
        ),
        (
            "hdf5-conette",
            [f"clotho_{one}_resample_mean_convnext_ident.hdf" for one in ("dev", "val", "eval")],
        ),
        ("hdf5-dcase2023", [f"{one}_audio_convnext.hdf5" for one in SUBSETS.values()]),
    ],
)
def test_files_of_clotho_are_called_as_configurations_expect(
    stand_in: StandIn, tmp_path: Path, form: Form, names: list[str]
) -> None:
    tables = []
    for split, clips in stand_in.present.items():
        table = tmp_path / f"clotho_captions_{SUBSETS[split]}.csv"
        rows = [f"{Path(clip.name).name}.wav,One.,Two." for clip in clips[:3]]
        table.write_text("\n".join(["file_name,caption_1,caption_2", *rows]))
        tables.append(table)
    export_captioned(stand_in.store, "Clotho", tables, form, tmp_path / "out")
    assert set(names) <= {path.name for path in (tmp_path / "out").iterdir()}
    if form != "hdf5-dcase2023":
        subsets = [read_packed(tmp_path / "out" / name, {})[0]["subset"] for name in names]
        assert subsets == ["dev", "val", "eval"]


def test_two_tables_of_one_split_are_refused_where_it_matters(
    stand_in: StandIn, tmp_path: Path
) -> None:
    again = tmp_path / "validation.csv"
    again.write_bytes(stand_in.tables[1].read_bytes())
    tables = [*stand_in.tables, again]
    with pytest.raises(SoundalikeError, match=r"both would be audiocaps_val_cnext.hdf"):
        export_captioned(
            stand_in.store,
            "AudioCaps",
            tables,
            "hdf5-dcase2024",
            tmp_path / "out",
            consent=Consent(is_clean=True),
        )


@pytest.mark.parametrize("form", list(KINDS))
def test_card_says_what_is_in_the_folder(stand_in: StandIn, tmp_path: Path, form: Form) -> None:
    export(stand_in, form, tmp_path)
    for split, (num_clips, num_captions) in SPLITS.items():
        card = (tmp_path / f"{split}.{form}.card.md").read_text()
        present, missing = len(stand_in.present[split]), len(stand_in.missing[split])
        row = f"| {split} | {present} of {num_clips} | {missing} | {present * num_captions} | 0 |"
        assert row in card.splitlines()
        assert f"in `{split}_missing.txt`" in card
        assert "- checkpoint: test" in card
        assert "- precision: fp32" in card
        assert "- leak: none" in card
        assert "MIT licence" in card
        assert "The weights: not known here" in card
        names = {"hdf5-dcase2024": "frame_embs (768, T)", "hdf5-conette": "audio (1, T, 768)"}
        assert names.get(form, "") in card


@pytest.mark.parametrize("form", list(KINDS))
def test_splits_are_exported_into_one_folder_one_after_the_other(
    stand_in: StandIn, tmp_path: Path, form: Form
) -> None:
    """Each has its own card, and a README that somebody has put there stays."""
    (tmp_path / "README.md").write_text("somebody's")
    reports = [export(stand_in._replace(tables=[one]), form, tmp_path) for one in stand_in.tables]
    written = [path for report in reports for path in report.files]
    assert len(set(written)) == len(written)
    assert set(tmp_path.iterdir()) == {tmp_path / "README.md", *written}
    val = (tmp_path / f"val.{form}.card.md").read_bytes()
    export(stand_in._replace(tables=stand_in.tables[:1]), form, tmp_path, force=True)
    assert (tmp_path / f"val.{form}.card.md").read_bytes() == val
    assert (tmp_path / "README.md").read_text() == "somebody's"


def test_form_under_its_old_name_is_told_the_new_one(run: Run) -> None:
    told = run("export", "audiocaps", "x", "y", "--output", "z", "--as", "hdf5-dcase", code=2)
    fault("R23").require(told.code, told.err)
    told = run("export", "audiocaps", "x", "y", "--output", "z", "--as", "hdf6", code=2)
    assert "is not one of" in told.err
    assert all(form in told.err for form in KINDS)


def test_command_takes_matches_and_vectors(stand_in: StandIn, tmp_path: Path, run: Run) -> None:
    vectors = vectors_of(stand_in)
    np.savez(tmp_path / "text.npz", ids=list(vectors), embeddings=np.stack(list(vectors.values())))
    words = ["export", "audiocaps", stand_in.store.path, *stand_in.tables, "--as", "hdf5-dcase2023"]
    words += ["--output", tmp_path / "out", "--checkpoint-clean", "--match", stand_in.match]
    told = run(*words, "--text-vectors", tmp_path / "text.npz")
    assert "train: 27 of 30 clips (90.0%), 27 captions; 3 missing" in told.out
    assert "much is missing" not in told.out
    with (tmp_path / "out" / "sbert_embeds.pkl").open("rb") as file:
        assert len(pickle.load(file)) == len(vectors)  # noqa: S301 - as the baseline does
