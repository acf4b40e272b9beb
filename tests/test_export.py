"""A stand-in AudioCaps of 60 clips from audio to files, in every form; the guard; wrong input."""

from __future__ import annotations

import csv
import gc
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import webdataset
from conftest import Run
from listener import Listener
from synthetic import write_tone
from test_extract import new_store
from test_extract import run as embed

from indexer.embedding.extractor import Extractor
from indexer.errors import SoundalikeError
from indexer.model.known import KNOWN_CHECKPOINTS
from indexer.progress import Step
from indexer.store.reader import Store
from indexer.windows import Geometry
from search.datasets.captions import Captioned, read_audiocaps, read_clotho
from search.datasets.consent import Consent
from search.datasets.finding import Unused
from search.datasets.joined import _split
from search.datasets.leaks import leak
from search.datasets.provenance import how_computed, known_checkpoint, precision_of
from search.export.captioned import ExportReport, export_captioned
from search.export.forms.kinds import KINDS, Form
from soundalike.show.exports import export_data, export_lines

SPLITS = {"train": (30, 1), "val": (14, 5), "test": (16, 5)}
#: How a clip's file is named; the first has whole seconds, the last milliseconds.
NAMES: tuple[Callable[[str, int], str], ...] = (
    lambda youtube_id, start_s: f"{youtube_id}_{start_s}.wav",
    lambda youtube_id, start_s: f"Y{youtube_id}.wav",
    lambda youtube_id, start_s: f"{youtube_id}.wav",
    lambda youtube_id, start_s: f"Y{youtube_id}_{start_s}.wav",
    lambda youtube_id, start_s: f"{youtube_id}_{1000 * start_s}_{1000 * (start_s + 10)}.wav",
)
FORMS: tuple[Form, ...] = tuple(KINDS)


class Caps(NamedTuple):
    """The stand-in: its store, its tables, and what must come out."""

    store: Store
    tables: list[Path]
    expected: dict[str, list[Captioned]]
    missing: dict[str, list[str]]
    paths: dict[str, str]  # id → path of its file


@pytest.fixture(scope="module")
def caps(whole: None, tmp_path_factory: pytest.TempPathFactory, tiny_extractor: Extractor) -> Caps:
    folder = tmp_path_factory.mktemp("caps")
    tables, expected, missing, paths = [], {}, {}, {}
    number = 0
    for split, (num_clips, num_captions) in SPLITS.items():
        rows = [["audiocap_id", "youtube_id", "start_time", "caption"]]
        expected[split], missing[split] = [], []
        for _ in range(num_clips):
            youtube_id = (
                ("-", "_", "a")[number % 3] + f"{number:03}" + ("_30", "xyz")[number % 2] + "b-_9"
            )
            start_s = 10 * (number % 7)
            captions = [f'Somebody says "{number}", {one}.' for one in range(num_captions)]
            ids = [f"{1000 * number + one}" for one in range(num_captions)]
            for caption_id, caption in zip(ids, captions, strict=True):
                rows.append([caption_id, youtube_id, str(start_s), caption])
            file_id = f"{youtube_id}_{start_s}"
            if number % 10 == 9:
                missing[split].append(file_id)
            else:
                path = f"{split}/{NAMES[number % 5](youtube_id, start_s)}"
                write_tone(folder / "audio" / path, 0.5 + 0.1 * (number % 9), 100 + 20 * number)
                paths[file_id] = path
                expected[split].append(
                    Captioned(file_id, youtube_id, float(start_s), tuple(ids), tuple(captions))
                )
            number += 1
        table = folder / f"{split}.csv"
        with table.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        tables.append(table)
    write_tone(folder / "audio" / "no clip.wav", 1.0, 5000)
    write_tone(folder / "audio" / "abcdefghijk_70.wav", 1.0, 5100)
    store = new_store(folder / "store", tiny_extractor, Geometry(native=True))
    embed(folder / "audio", store, tiny_extractor)
    return Caps(store, tables, expected, missing, paths)


class Values(NamedTuple):
    scene: np.ndarray
    tags: np.ndarray
    frames: np.ndarray  # (T, 768)


def stored(caps: Caps) -> dict[str, Values]:
    """What the store holds of each id, found by path."""
    files = caps.store.latest_files(("path", "recording_id")).to_pylist()
    recordings = {row["path"]: row["recording_id"] for row in files}
    snapshot = caps.store.snapshot()
    found = {}
    for file_id, path in caps.paths.items():
        rows = np.flatnonzero(snapshot.windows.recording_id == recordings[path])
        scene = snapshot.scene(rows)
        tags = caps.store.head().tags(scene)[0]
        found[file_id] = Values(scene[0], tags, snapshot.frames(rows)[0])
    return found


def export(caps: Caps, form: Form, folder: Path) -> Path:
    export_captioned(
        caps.store,
        "AudioCaps",
        caps.tables,
        form,
        folder,
        consent=Consent(is_clean=True),
        force=True,
    )
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_export_lists_what_is_there_and_what_is_missing(
    caps: Caps, tmp_path: Path, form: Form
) -> None:
    told = Listener()
    report = export_captioned(
        caps.store,
        "AudioCaps",
        caps.tables,
        form,
        tmp_path / "out",
        consent=Consent(is_clean=True),
        listen=told,
    )
    for split in report.splits:
        ids = [one.file_id for one in caps.expected[split.name]]
        lines = (tmp_path / "out" / f"{split.name}_ids.txt").read_text().splitlines()
        assert [one.file_id for one in split.present] == lines == ids
        lines = (tmp_path / "out" / f"{split.name}_missing.txt").read_text().splitlines()
        assert lines == caps.missing[split.name]
    assert report.num_extra == 2
    assert set(report.files) == set((tmp_path / "out").iterdir())
    assert told.steps == [Step("exporting", done, 54, "clip") for done in range(1, 55)]


def test_export_parquet_comes_back(caps: Caps, tmp_path: Path) -> None:
    values = stored(caps)
    for split, clips in caps.expected.items():
        path = export(caps, "parquet", tmp_path) / f"{split}.parquet"
        rows = pq.read_table(path).to_pylist()
        assert [row["id"] for row in rows] == [one.file_id for one in clips]
        for row, one in zip(rows, clips, strict=True):
            assert (row["youtube_id"], row["start_s"], row["split"]) == (
                one.youtube_id,
                one.start_s,
                split,
            )
            assert tuple(row["captions"]) == one.captions
            assert tuple(row["caption_ids"]) == one.caption_ids
            np.testing.assert_array_equal(np.float32(row["scene"]), values[one.file_id].scene)
            np.testing.assert_allclose(row["tags"], values[one.file_id].tags, atol=1e-6)
            np.testing.assert_array_equal(np.float16(row["frames"]), values[one.file_id].frames)
        schema = pq.read_schema(path)
        provenance = json.loads(schema.metadata[b"soundalike"])
        assert provenance["leak"] == "none"
        assert provenance["weights"] == caps.store.identity.weights
        assert provenance["precision"] in ("fp32 on cpu", "bf16 on cpu")
        assert pd.read_parquet(path).scene[0].dtype == np.float32


def test_export_npz_comes_back_and_can_be_evaluated(caps: Caps, tmp_path: Path, run: Run) -> None:
    values, folder = stored(caps), export(caps, "npz", tmp_path)
    for split, clips in caps.expected.items():
        with np.load(folder / f"{split}.npz") as file:
            assert file["ids"].tolist() == [one.file_id for one in clips]
            assert (file["embeddings"].dtype, file["tags"].dtype) == (np.float32, np.float32)
            for row, one in enumerate(clips):
                np.testing.assert_array_equal(file["embeddings"][row], values[one.file_id].scene)
                np.testing.assert_allclose(file["tags"][row], values[one.file_id].tags, atol=1e-6)
            assert json.loads(str(file["provenance"]))["dataset"] == "AudioCaps"
        with (folder / f"{split}_captions.csv").open(newline="") as table:
            rows = [tuple(row) for row in csv.reader(table)][1:]
        assert rows == [
            (one.file_id, caption_id, caption)
            for one in clips
            for caption_id, caption in zip(one.caption_ids, one.captions, strict=True)
        ]
    told = run("eval", "retrieval", "--audio", folder / "val.npz", "--text", folder / "val.npz")
    assert f"{len(caps.expected['val'])} sounds, {len(caps.expected['val'])} captions" in told.out


def samples(*shards: Path) -> list[dict[str, Any]]:
    """Read shards with their own library, which leaves closing the last one to chance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        stream = webdataset.WebDataset([str(shard) for shard in shards], shardshuffle=False)
        found = list(stream.decode())
        del stream
        gc.collect()
    return found


def test_export_webdataset_is_read_as_a_stream(
    caps: Caps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.export.forms.webdataset.CLIPS_PER_SHARD", 10)
    values, folder = stored(caps), export(caps, "webdataset", tmp_path)
    for split, clips in caps.expected.items():
        shards = sorted(folder.glob(f"{split}-*.tar"))
        assert len(shards) == -(-len(clips) // 10)
        for sample, one in zip(samples(*shards), clips, strict=True):
            assert sample["__key__"] == one.file_id
            assert sample["json"]["captions"] == list(one.captions)
            assert sample["json"]["provenance"]["leak"] == "none"
            expected = values[one.file_id]
            np.testing.assert_array_equal(sample["scene.npy"], expected.scene)
            np.testing.assert_allclose(sample["tags.npy"], expected.tags, atol=1e-6)
            np.testing.assert_array_equal(sample["frames.npy"], expected.frames.astype("f4"))


@pytest.mark.whole
def test_export_full_frames_are_averaged_over_frequency(
    tmp_path: Path, tiny_checkpoint: Any
) -> None:
    extractor = Extractor(tiny_checkpoint, device="cpu", frames="full")
    write_tone(tmp_path / "audio" / "abcdefghijk_30.wav", 2.0, 300)
    store = new_store(tmp_path / "store", extractor)
    embed(tmp_path / "audio", store, extractor)
    table = tmp_path / "train.csv"
    table.write_text("audiocap_id,youtube_id,start_time,caption\n1,abcdefghijk,30,A tone.\n")
    export_captioned(store, "AudioCaps", [table], "webdataset", tmp_path / "out")
    (sample,) = samples(tmp_path / "out" / "train-000000.tar")
    (frames,) = store.snapshot().frames(np.array([0]))
    np.testing.assert_allclose(sample["frames.npy"], frames.astype("f4").mean(1), atol=1e-6)


def test_export_clotho_by_file_name(caps: Caps, tmp_path: Path) -> None:
    paths = [Path(path).name for path in caps.paths.values()][:3]
    table = tmp_path / "evaluation.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", *(f"caption_{number}" for number in range(1, 6))])
        writer.writerows([name, *(f"{name} {number}" for number in range(5))] for name in paths)
        writer.writerow(["gone.wav", *"abcde"])
    report = export_captioned(caps.store, "Clotho", [table], "npz", tmp_path / "out")
    assert [one.file_id for one in report.splits[0].missing] == ["gone.wav"]
    with np.load(tmp_path / "out" / "evaluation.npz") as file:
        assert file["ids"].tolist() == paths
        values = stored(caps)
        for row, file_id in enumerate(list(caps.paths)[:3]):
            np.testing.assert_array_equal(file["embeddings"][row], values[file_id].scene)
    rows = (tmp_path / "out" / "evaluation_captions.csv").read_text().splitlines()
    assert len(rows) == 1 + 15


# --- the guard -----------------------------------------------------------------------------------


def made_with(store: Store, checkpoint: str) -> Store:
    """Return a store as if it had been made with another checkpoint."""
    known = KNOWN_CHECKPOINTS.get(checkpoint)
    weights = (known.weights if known else None) or store.identity.weights
    identity = replace(store.identity, weights=weights)
    return Store(store.path, identity, checkpoint, store.head_digest)


@pytest.mark.parametrize(
    ("checkpoint", "dataset", "split", "is_clean", "reason"),
    [
        ("convnext-tiny-471", "AudioCaps", "val", False, "has the clips of AudioCaps in it"),
        ("convnext-tiny-471", "AudioCaps", "test", True, "figures on its test split would be"),
        ("convnext-tiny-471", "AudioCaps", "captions", False, "figures on its captions split"),
        ("convnext-tiny-471", "AudioCaps", "train", False, None),
        ("convnext-tiny-471", "Clotho", "evaluation", False, None),
        ("convnext-tiny-465-audiocaps-70", "AudioCaps", "test", False, None),
        ("convnext-tiny-465-audiocaps-75", "AudioCaps", "val", False, None),
        ("hf:topel/ConvNeXt-Tiny-AT", "AudioCaps", "test", True, "(by its name: its digest is pub"),
        ("hf:topel/ConvNeXt-Tiny-AT", "AudioCaps", "train", False, None),
        ("/models/mine.pth", "AudioCaps", "test", False, "none of the published checkpoints"),
        ("/models/mine.pth", "AudioCaps", "test", True, None),
        ("/models/mine.pth", "AudioCaps", "train", False, None),
        ("demo", "AudioCaps", "train", True, "for trying the tool: not for results"),
        ("demo", "Clotho", "evaluation", False, "trained on 8,865 short clips"),
    ],
)
def test_leak_of_every_checkpoint_on_every_split(
    caps: Caps, checkpoint: str, dataset: str, split: str, is_clean: bool, reason: str | None
) -> None:
    found = leak(made_with(caps.store, checkpoint), dataset, split, is_clean=is_clean)
    assert found is None if reason is None else reason in (found or "")


def test_known_checkpoint_is_known_by_the_bytes_of_its_file(caps: Caps, tmp_path: Path) -> None:
    demo = Path(__file__).parent.parent / "checkpoints" / "demo.safetensors"
    renamed = tmp_path / "convnext_tiny_465mAP_BL_AC_70kit.pth"
    renamed.write_bytes(demo.read_bytes())
    of_demo = made_with(caps.store, "demo").identity
    store = replace(made_with(caps.store, str(renamed)), identity=of_demo)
    for one in (store, replace(store, checkpoint=str(tmp_path / "none"))):
        known = known_checkpoint(one)
        assert known is not None
        assert known.name == "demo"
    assert known_checkpoint(made_with(caps.store, str(tmp_path / "none"))) is None
    # The file is the demo's, and what the store was made with was not.
    assert known_checkpoint(made_with(caps.store, str(renamed))) is None


def test_known_checkpoint_is_what_the_store_was_told_unless_its_weights_are_others(
    caps: Caps,
) -> None:
    mine = made_with(caps.store, "/models/mine.safetensors")
    told = replace(mine, known="convnext-tiny-465-audiocaps-70")
    known = known_checkpoint(told)
    assert known is not None
    assert known.name == "convnext-tiny-465-audiocaps-70"
    assert leak(told, "AudioCaps", "test", is_clean=False) is None
    assert known_checkpoint(replace(mine, known="demo")) is None  # whose weights are known
    assert known_checkpoint(replace(mine, known="no such name")) is None


def test_precision_of_a_store_that_is_mixed_is_all_of_it(caps: Caps) -> None:
    [part] = [one for one in caps.store.parts() if one.num_windows]
    on_gpu = replace(part.origin, precision="bf16", device="NVIDIA H100")
    parts = [part, replace(part, num_windows=part.num_windows // 3, origin=on_gpu)]
    parts.append(replace(part, num_windows=0))
    mixed: Any = SimpleNamespace(parts=lambda: parts)
    ours = f"{part.origin.precision} on cpu"
    assert precision_of(caps.store) == ours
    shares = [one.num_windows for one in how_computed(mixed)]
    assert shares == [part.num_windows, part.num_windows // 3]
    first, second = (f"{share / sum(shares):.0%} of the windows" for share in shares)
    assert precision_of(mixed) == f"{ours} ({first}), bf16 on NVIDIA H100 ({second})"


def test_clips_that_are_longer_than_a_window_are_named() -> None:
    names = ["a_0", "b_0", "c_0", "d_0", "e_0", "f_0"]
    captions = [Captioned(name, name, 0.0, ("1",), ("a dog",)) for name in names]
    rows = {name: np.arange(place % 3) for place, name in enumerate(names)}  # 0, 1, 2, 0, 1, 2
    rows_of: Any = SimpleNamespace(of=lambda name: rows[name])
    split = _split("AudioCaps", "test", captions, lambda one, _: one.file_id, rows_of)
    assert split.of_several_windows == ("c_0", "f_0")
    assert [one.file_id for one in split.missing] == ["a_0", "d_0"]
    report = ExportReport((split,), (Path("out/test.npz"),), 0, None, (), (), None, Unused(), ())
    assert any("only the first is exported: c_0, f_0 (see" in one for one in export_lines(report))
    assert export_data(report)["splits"]["test"]["of_several_windows"] == ["c_0", "f_0"]


def provenances(folder: Path) -> list[Mapping[str, str]]:
    found: list[Mapping[str, str]] = []
    for path in sorted(folder.iterdir()):
        match path.suffix:
            case ".parquet":
                found.append(json.loads(pq.read_schema(path).metadata[b"soundalike"]))
            case ".npz":
                found.append(json.loads(str(np.load(path)["provenance"])))
            case ".hdf":
                with h5py.File(path) as file:
                    found.append(json.loads(file.attrs["metadata"]))
            case ".hdf5":
                with h5py.File(path) as file:
                    found.append(dict(file.attrs))
            case ".tar":
                found += [sample["json"]["provenance"] for sample in samples(path)]
    return found


@pytest.mark.parametrize("form", FORMS)
def test_export_of_a_leak_stops_and_if_allowed_says_so_in_every_file(
    caps: Caps, tmp_path: Path, form: Form
) -> None:
    store = made_with(caps.store, "convnext-tiny-471")
    with pytest.raises(
        SoundalikeError,
        match=r"Embed again with convnext-tiny-465-audiocaps-70 or convnext-tiny-465-audiocaps-75$",
    ) as refused:
        export_captioned(store, "AudioCaps", caps.tables, form, tmp_path / "out")
    assert refused.value.about == "allow_leak"
    assert not (tmp_path / "out").exists()
    report = export_captioned(
        store, "AudioCaps", caps.tables, form, tmp_path / "out", consent=Consent(allow_leak=True)
    )
    found = provenances(tmp_path / "out")
    assert len(found) >= 3
    assert {one["leak"] for one in found} == {report.leak}
    assert "convnext-tiny-471 was trained on AudioSet" in (report.leak or "")


# --- the command, and what may be wrong ----------------------------------------------------------


def test_export_audiocaps_command_tells_what_is_there(caps: Caps, tmp_path: Path, run: Run) -> None:
    command = ["export", "audiocaps", caps.store.path, *caps.tables, "--output", tmp_path / "out"]
    refused = run(*command, code=1)
    assert "--checkpoint-clean, if you know that it was not; or --allow-leak" in refused.err
    told = run(*command, "--checkpoint-clean")
    assert "train: 27 of 30 clips (90.0%), 27 captions; 3 missing" in told.out
    assert "in the store and in no table: 2 recordings" in told.out
    data = run(*command, "--allow-leak", "--format", "json", "--as", "npz", "--force").data
    assert data["splits"]["test"]["num_captions"] == 5 * data["splits"]["test"]["num_present"]
    assert "none of the published checkpoints" in data["leak"]
    assert "LEAK: " in run(*command, "--allow-leak", "--force").out
    for name in ("val.npz", "val.parquet"):  # and whoever measures with them hears of it
        path = tmp_path / "out" / name
        told = run("eval", "retrieval", "--audio", path, "--text", path)
        assert "WARNING: tiny is none of the published checkpoints" in told.out


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("test.csv", "youtube_id,caption\na,b\n", "has no column start_time, only youtube_id, cap"),
        (
            "test.csv",
            "youtube_id,start_time,caption\nabcdefghijk,soon,A tone.\n",
            "line 2: the start_time 'soon' is no whole number of seconds",
        ),
        (
            "test.csv",
            "youtube_id,start_time,caption\nabcdefghijk,,A tone.\n",
            "line 2: start_time is empty",
        ),
        (
            "test.csv",
            "youtube_id,start_time,caption\nabcdefghijk,30.5,A tone.\n",
            "line 2: the start_time '30.5' is no whole number of seconds",
        ),
        (
            "test.csv",
            "youtube_id,start_time,caption\nabcdefghijk,30,A tone, and more.\n",
            "line 2 has more than 3 cells; put a cell that holds ',' into quotes",
        ),
        ("test.csv", "youtube_id,start_time,caption\n", "has no captions"),
        (
            "test.csv",
            "youtube_id,start_time,caption\nkkkkkkkkkkk,30,A tone.\n",
            "has none of the sounds; looked for kkkkkkkkkkk_30; there is ",
        ),
    ],
)
def test_export_of_wrong_captions_says_what(
    caps: Caps, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SoundalikeError, match=message):
        export_captioned(
            caps.store,
            "AudioCaps",
            [tmp_path / name],
            "npz",
            tmp_path / "out",
            consent=Consent(is_clean=True),
        )


def test_export_that_cannot_be_says_why(caps: Caps, tmp_path: Path, tiny_checkpoint: Any) -> None:
    with pytest.raises(SoundalikeError, match="two tables of captions are called train"):
        export_captioned(caps.store, "AudioCaps", caps.tables[:1] * 2, "npz", tmp_path)
    with pytest.raises(SoundalikeError, match=r"cannot read .*none.csv: no such file"):
        read_clotho(tmp_path / "none.csv")
    (tmp_path / "train.csv").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(SoundalikeError, match="cannot read"):
        read_audiocaps(tmp_path / "train.csv")
    extractor = Extractor(tiny_checkpoint, device="cpu", frames="none")
    store = new_store(tmp_path / "store", extractor)
    with pytest.raises(SoundalikeError, match="hdf5-dcase2023 is made of frame embeddings"):
        export_captioned(store, "AudioCaps", caps.tables[:1], "hdf5-dcase2023", tmp_path)
