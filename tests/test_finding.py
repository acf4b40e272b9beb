"""Which file of a store a row of a table is: by its name, by a number, by what people say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from captioned import StandIn, make_stand_in
from conftest import Run
from faults import Fault, fault
from synthetic import Synthetic, make_store, recording_id

from indexer.errors import SoundalikeError
from search.datasets.captions import read_audiocaps, read_clotho, read_paths
from search.datasets.consent import Consent
from search.datasets.embedded import read_embedded
from search.datasets.finding import Unused, unused
from search.datasets.joined import Shared, Source, Split
from search.datasets.matches import matches_of
from search.datasets.splits import role_of, role_of_folder
from search.export.captioned import export_captioned

HEADER = "audiocap_id,youtube_id,start_time,caption\n"


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    return make_stand_in(tmp_path_factory.mktemp("stand in"))


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *((name, "train") for name in ("train", "Training", "dev", "clotho_captions_development")),
        *((name, "val") for name in ("val", "validation", "audiocaps_val_v1", "val2")),
        *((name, "test") for name in ("test", "eval", "evaluation", "TEST-set")),
        *((name, None) for name in ("", "captions", "trained", "latest", "train-test", "devil")),
    ],
)
def test_role_of_a_split_is_a_word_of_its_name(name: str, role: str | None) -> None:
    assert role_of(name) == role
    assert role_of_folder(f"{name}/sub/1.wav" if name else "1.wav") == role


def test_role_of_a_folder_is_that_of_the_innermost() -> None:
    assert role_of_folder("test/train/1.wav") == "train"
    assert role_of_folder("train.wav") is None


# --- by number -----------------------------------------------------------------------------------


def joined(made: Synthetic, split: str, *rows: str, matches: dict[str, str] | None = None) -> Split:
    table = made.store.path.parent / f"{split}.csv"
    table.write_text(HEADER + "\n".join(rows))
    tables = {split: read_audiocaps(table)}
    (found,) = Source(made.store).join("AudioCaps", tables, matches or {})
    return found


def rows_named(made: Synthetic, *names: str) -> list[int]:
    ids = [made.paths[f"{name}.wav"] for name in names]
    return [[window.recording_id for window in made.windows].index(one) for one in ids]


@pytest.fixture
def made(tmp_path: Path) -> Synthetic:
    return make_store(tmp_path / "store")


def test_number_is_found_in_the_folder_of_its_split_before_others(made: Synthetic) -> None:
    made.add({"train/17": 1, "val/17": 1, "17": 1, "val/18": 1, "19": 1, "sub/test/20": 1})
    rows = [f"{number},{10 * 'k'}{number % 10},30,A tone." for number in (17, 18, 19, 20)]
    found = joined(made, "val", *rows)
    assert found.rows.tolist() == rows_named(made, "val/17", "val/18", "19")
    assert [one.audiocap_ids for one in found.missing] == [("20",)]  # that is of the test split
    found = joined(made, "test", *rows)
    assert found.rows.tolist() == rows_named(made, "17", "19", "sub/test/20")


def test_number_in_several_folders_is_told_where_the_table_is_called_by_no_split(
    made: Synthetic,
) -> None:
    made.add({"train/17": 1, "val/17": 1, "val/18": 1})
    found = joined(made, "captions", "18,kkkkkkkkkkk,30,A tone.")
    assert found.rows.tolist() == rows_named(made, "val/18")
    with pytest.raises(SoundalikeError, match="several files with different content are called 17"):
        joined(made, "captions", "17,kkkkkkkkkkk,30,A tone.")


def test_number_is_the_whole_name_and_one_that_the_table_has(made: Synthetic) -> None:
    made.add({"x17": 1, "017": 1, "17_1": 1, "2": 1, "tone": 1})
    found = joined(made, "train", "17,kkkkkkkkkkk,30,A tone.", "tone,aaaaaaaaaaa,30,A tone.")
    assert found.present == ()
    table = made.store.path.parent / "train.csv"  # rows are numbered where there are no ids
    table.write_text("youtube_id,start_time,caption\nkkkkkkkkkkk,30,A.\naaaaaaaaaaa,30,B.\n")
    (found,) = Source(made.store).join("AudioCaps", {"train": read_audiocaps(table)}, {})
    assert found.present == ()


def test_name_of_a_clip_counts_before_its_number(made: Synthetic) -> None:
    made.add({"17": 1, "kkkkkkkkkkk_30": 1})
    found = joined(made, "train", "17,kkkkkkkkkkk,30,A tone.")
    assert found.rows.tolist() == rows_named(made, "kkkkkkkkkkk_30")


def test_clotho_file_in_two_splits_is_that_of_its_own(made: Synthetic) -> None:
    made.add({"development/dog": 1, "evaluation/dog": 1, "validation/cat": 1, "other/cat": 1})
    table = made.store.path.parent / "clotho_captions_evaluation.csv"
    table.write_text("file_name,caption_1\ndog.wav,A dog.\n")
    tables = {table.stem: read_clotho(table)}
    (found,) = Source(made.store).join("Clotho", tables, {})
    assert found.rows.tolist() == rows_named(made, "evaluation/dog")


# --- by what people say --------------------------------------------------------------------------


def test_match_counts_before_names_and_takes_every_way_to_write_a_path(made: Synthetic) -> None:
    made.add({"kkkkkkkkkkk_30": 1, "a/1": 1, "a/é": 1, "=1": 1, "b": 1})
    root = next(iter(made.store.libraries().values()))
    rows = [f"{number},{10 * 'k'}{number},30,A tone." for number in range(4)]
    matches = {
        f"{10 * 'k'}0_30": str(root / "a" / "1.wav"),
        "1": "a/e\u0301.wav",
        "2": "./=1.wav",
        "3": "not there.wav",
    }
    found = joined(made, "train", *rows, "9,kkkkkkkkkkk,30,B.", matches=matches | {"9": "b.wav"})
    assert found.rows.tolist() == rows_named(made, "a/1", "a/é", "=1", "b")
    assert [one.file_id for one in found.missing] == [f"{10 * 'k'}3_30"]


def test_path_that_is_typed_from_the_current_folder_is_found_below_a_library(
    made: Synthetic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only if it is there, and only what is no path of the library itself."""
    made.add({"sub/a": 1, "a": 1, "b": 1})
    root = next(iter(made.store.libraries().values()))
    for name in ("sub/a.wav", "a.wav", "b.wav", "other.wav"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    outside, link = tmp_path / "outside", tmp_path / "link"
    outside.mkdir()
    (outside / "b.wav").touch()
    link.symlink_to(root)

    def found(*paths: str) -> list[int]:
        table = tmp_path / "train.csv"
        table.write_text("\n".join(["path,caption", *(f"{path},A tone." for path in paths)]))
        (split,) = Source(made.store).join("paths", {"train": read_paths(table)}, {})
        return split.rows.tolist()

    monkeypatch.chdir(root / "sub")
    assert found("a.wav", "../b.wav") == rows_named(made, "a", "b")  # of the library comes first
    monkeypatch.chdir(root.parent)
    paths = [f"{root.name}/sub/a.wav", f"./{root.name}/sub/../a.wav"]
    assert found(*paths) == rows_named(made, "sub/a", "a")
    assert found(f"{link}/b.wav") == rows_named(made, "b")
    assert found(f"{root.name}/other.wav", f"{outside}/b.wav", f"{outside}/a.wav") == []
    (root / "b.wav").unlink()
    assert found(f"{root.name}/b.wav") == []
    match = {f"{10 * 'k'}1_30": f"{root.name}/a.wav"}
    split = joined(made, "train", f"1,{10 * 'k'}1,30,A.", matches=match)
    assert split.rows.tolist() == rows_named(made, "a")


@pytest.mark.whole
def test_how_paths_are_looked_for_is_told_where_much_is_missing(tmp_path: Path, run: Run) -> None:
    made = make_store(tmp_path / "store", frames="none")
    made.add({f"s{number}": 1 for number in range(12)})
    table = tmp_path / "train.csv"
    lines = [f"s{number}.wav,caption of {number}" for number in range(10)]
    table.write_text("\n".join(["path,caption", *lines, "x/1.wav,one", "x/2.wav,two"]))
    told = run("train", "projection", made.store.path, table, "--epochs", 1, "--dim", 8)
    assert (
        "looked for x/1.wav, x/2.wav …, each as the store has it, below a library, or " in told.out
    )
    table.write_text("path,caption\nx/1.wav,one\n")
    told = run("train", "projection", made.store.path, table, "--force", code=1)
    assert "none of the sounds; looked for x/1.wav, each as the store has it, below" in told.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,sound\na.wav,1\n", "has no column id, only path, sound"),
        ("name,id\na.wav,1\n", "has no column path, only name, id"),
        ("path,id\na.wav,\n", "line 2: id is empty"),
        ("path,id\n,1\n", "line 2: path is empty"),
        ("path,id\na.wav,1\nb.wav,1\n", "line 3: '1' is another file already, in line 2"),
        ("path,id\na.wav,1,2\n", "line 2 has more than 2 cells"),
        ("path,id\n", "has no rows"),
        ("", r"cannot read .*match\.csv: it is empty$"),
        ("path,id\na.wav,1\nb.wav,kkkkkkkkkkk_30\n", "'kkkkkkkkkkk_30' is said to be both 'b.wav'"),
        (
            "path,id\na.wav,5\n",
            r"none of the ids of .*, '5' for one, .* which have 'kkkkkkkkkkk_30'",
        ),
    ],
)
def test_match_that_cannot_be_used_says_why(tmp_path: Path, content: str, message: str) -> None:
    table, match = tmp_path / "train.csv", tmp_path / "match.csv"
    table.write_text(f"{HEADER}1,kkkkkkkkkkk,30,A tone.\n")
    match.write_text(content)
    with pytest.raises(SoundalikeError, match=message):
        matches_of(match, [read_audiocaps(table)])
    with pytest.raises(SoundalikeError, match=r"cannot read .*none.csv: no such file"):
        matches_of(tmp_path / "none.csv", [])


def test_match_that_gives_two_sounds_one_file_is_refused(tmp_path: Path) -> None:
    """A clip has two names, one by audiocap_id: one file for both is right."""
    table, match = tmp_path / "train.csv", tmp_path / "match.csv"
    table.write_text(f"{HEADER}1,kkkkkkkkkkk,30,A tone.\n2,{10 * 'k'}2,30,A tone.\n")
    match.write_text("path,id\na.wav,1\na.wav,kkkkkkkkkkk_30\n")
    assert len(matches_of(match, [read_audiocaps(table)])) == 2
    match.write_text("path,id\na.wav,1\na.wav,2\n")
    message = f"'a.wav' is said to be both 'kkkkkkkkkkk_30' and '{10 * 'k'}2_30'"
    with pytest.raises(SoundalikeError, match=message):
        matches_of(match, [read_audiocaps(table)])


def test_match_of_which_no_file_is_in_the_store_is_refused(made: Synthetic) -> None:
    made.add({"kkkkkkkkkkk_30": 1})
    with pytest.raises(SoundalikeError, match=r"'lib/a.wav' for one, is in .*; it has 'kkkk"):
        unused(made.store, {"1": "lib/a.wav"}, [])


def test_what_a_match_says_to_no_avail_is_counted_and_named(
    made: Synthetic, tmp_path: Path, run: Run
) -> None:
    """Three of many are named; each path once, however many sounds it is said to be."""
    made.add({f"{10 * 'k'}{number}_30": 1 for number in range(4)})
    table, match = tmp_path / "train.csv", tmp_path / "match.csv"
    rows = [f"{number},{10 * 'k'}{number},30,A tone." for number in range(4)]
    table.write_text(HEADER + "\n".join(rows))
    right = [f"{10 * 'k'}1_30.wav,1", f"{10 * 'k'}0_30.wav,zzz"]
    absent = [f"gone {number % 4}.wav,9{number}" for number in range(5)]
    match.write_text("\n".join(["path,id", *right, "lost.wav,2", *absent]))
    consent = Consent(is_clean=True)
    out = tmp_path / "out"
    report = export_captioned(
        made.store, "AudioCaps", [table], "npz", out, match=match, consent=consent
    )
    paths = ("lost.wav", *(f"gone {number}.wav" for number in range(4)))
    ids = ("zzz", *(f"9{number}" for number in range(5)))
    assert report.unused == Unused(paths, ids)
    command = ["export", "audiocaps", made.store.path, table, "--match", match, "--output", out]
    told = run(*command, "--as", "npz", "--force")
    told_paths = "of no file in the store: 5 paths: lost.wav, gone 0.wav, gone 1.wav and 2 more;"
    assert told_paths in told.out
    assert "of no sound in a table: 6 ids: zzz, 90, 91 and 3 more\n" in told.out
    data = run(*command, "--as", "npz", "--force", "--format", "json").data
    assert (data["unused_paths"], data["unused_ids"]) == (list(paths), list(ids))
    match.write_text(f"path,id\n{right[0]}\n")
    assert "matches" not in run(*command, "--as", "npz", "--force").out


def test_clips_of_two_tables_are_counted_by_name_or_recording(
    made: Synthetic, tmp_path: Path, run: Run
) -> None:
    """Of the five of val one has the name of one of train, and two are recordings of it."""
    made.add({f"{10 * 'k'}{letter}": 1 for letter in "abcdefgh"})
    made.add({"train/17": 1, "val/17": 1})
    rows = {
        "train": ["1,kkkkkkkkkka,30,A.", "2,kkkkkkkkkkb,30,A.", "17,kkkkkkkkkkx,30,A."],
        "val": [
            *("3,kkkkkkkkkka,60,A.", "4,kkkkkkkkkkb,70,A.", "17,kkkkkkkkkkx,30,A."),
            *("5,kkkkkkkkkkg,30,A.", "6,kkkkkkkkkkh,30,A."),
        ],
        "test": ["7,kkkkkkkkkkc,30,A.", "8,kkkkkkkkkkh,30,A."],
    }
    tables = []
    for split, some in rows.items():
        tables.append(tmp_path / f"{split}.csv")
        tables[-1].write_text(HEADER + "\n".join(some))
    expected = (
        Shared(("train", "val"), 3, "kkkkkkkkkka_30"),
        Shared(("val", "test"), 1, "kkkkkkkkkkh_30"),
    )
    out, consent = tmp_path / "out", Consent(is_clean=True)
    report = export_captioned(made.store, "AudioCaps", tables, "npz", out, consent=consent)
    assert report.shared == expected
    command = ["export", "audiocaps", made.store.path, *tables, "--output", out, "--as", "npz"]
    command += ["--checkpoint-clean", "--force"]
    told = run(*command)
    assert "in both train and val: 3 clips, such as kkkkkkkkkka_30\n" in told.out
    assert "in both val and test: 1 clip, such as kkkkkkkkkkh_30\n" in told.out
    assert run(*command, "--format", "json").data["shared"][0] == {
        "tables": ["train", "val"],
        "number": 3,
        "example": "kkkkkkkkkka_30",
    }
    assert "in both" not in run(*command[:3], *tables[::2], *command[6:]).out


def test_match_is_read_as_other_tables_are(tmp_path: Path) -> None:
    table, match = tmp_path / "train.csv", tmp_path / "match.csv"
    table.write_text(f"{HEADER}1,kkkkkkkkkkk,30,A tone.\n")
    match.write_bytes("ID;Filename\n1;a, b.wav\n1;a, b.wav\n".encode("utf-16"))
    assert matches_of(match, [read_audiocaps(table)]) == {"1": "a, b.wav"}


@pytest.mark.parametrize("is_pandas_own", [True, False])
def test_whole_numbers_may_be_written_as_pandas_writes_them(
    made: Synthetic, tmp_path: Path, is_pandas_own: bool
) -> None:
    """A column with a gap is one of floats there: 91139 comes out as 91139.0."""
    made.add({"91139": 1, "by hand": 1, "by id": 1, "kkkkkkkkkk3_30": 1})
    ids = [91139.0, 91140, 91141, None] if is_pandas_own else [91139, 91140, 91141, 91142]
    names = [f"{10 * 'k'}{number}" for number in range(4)]
    captions = {"audiocap_id": ids, "youtube_id": names, "start_time": 30, "caption": "A."}
    pd.DataFrame(captions).to_csv(tmp_path / "train.csv", index=False)
    paths = {"91140.0": "by hand.wav", f"{names[2]}_30.0": "by id.wav"}
    match = pd.DataFrame({"id": list(paths), "path": list(paths.values())})
    match.to_csv(tmp_path / "match.csv", index=False)
    sounds = read_audiocaps(tmp_path / "train.csv")
    assert [one.caption_ids[0] for one in sounds[:3]] == ["91139", "91140", "91141"]
    matches = matches_of(tmp_path / "match.csv", [sounds])
    assert list(matches) == ["91140", f"{names[2]}_30"]
    (found,) = Source(made.store).join("AudioCaps", {"train": sounds}, matches)
    assert found.rows.tolist() == rows_named(made, "91139", "by hand", "by id", "kkkkkkkkkk3_30")
    vectors = tmp_path / "vectors.parquet"
    pd.DataFrame({"id": [91139.0], "embedding": [[1.0, 2.0]]}).to_parquet(vectors)
    assert read_embedded(vectors).ids == ["91139"]


def test_sounds_that_no_table_has_are_named_whatever_their_ids_end_in(made: Synthetic) -> None:
    """NumPy drops the zero bytes at the end of an id."""
    numbers = (str(number) for number in range(10**5))
    name = next(one for one in numbers if recording_id(one).endswith(b"\0"))
    made.add({"tone": 1, name: 1})
    source = Source(made.store)
    splits = source.join("AudioCaps", {"train": []}, {})
    assert source.others(splits) == (2, sorted([f"{name}.wav", "tone.wav"]))


# --- tables of captions --------------------------------------------------------------------------


def test_captions_that_are_empty_are_counted_and_left_out(
    made: Synthetic, tmp_path: Path, run: Run
) -> None:
    made.add({f"{10 * 'k'}{number}_30": 1 for number in range(3)})
    rows = [
        f"{number},{10 * 'k'}{number % 3},30,{'' if number in (1, 3) else 'A.'}"
        for number in range(6)
    ]
    rows.append(f"6,{10 * 'k'}4,30, ")
    found = joined(made, "train", *rows)
    assert [one.captions for one in found.present] == [("A.",), ("A.",), ("A.", "A.")]
    assert [one.caption_ids for one in found.present] == [("0",), ("4",), ("2", "5")]
    assert (found.num_empty, found.num_without_words, found.missing) == (3, 1, ())
    told = run(
        *("export", "audiocaps", made.store.path, tmp_path / "train.csv", "--output"),
        *(tmp_path / "out", "--as", "npz"),
    )
    assert "train: 3 of 3 clips (100.0%), 4 captions; 0 missing" in told.out
    assert "empty, and left out: 3 captions; 1 clip without any other" in told.out
    assert "| train | 3 of 3 | 0 | 4 | 3 |" in (tmp_path / "out" / "train.npz.card.md").read_text()


def test_captions_of_a_file_twice_in_clotho_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "development.csv"
    table.write_text("file_name,caption_1\na.wav,A.\nb.wav,B.\na.wav,C.\n")
    with pytest.raises(SoundalikeError, match=r"line 4: 'a.wav' is there already, in line 2"):
        read_clotho(table)


def test_captions_of_clotho_may_be_fewer_than_five(tmp_path: Path) -> None:
    table = tmp_path / "development.csv"
    table.write_text("file_name,caption_1,caption_2\na.wav,,B.\n")
    (found,) = read_clotho(table)
    assert (found.captions, found.caption_ids, found.num_empty) == (("B.",), ("a.wav#2",), 1)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8", "utf-8-sig"])
def test_captions_of_every_encoding_with_a_mark_are_read(tmp_path: Path, encoding: str) -> None:
    table = tmp_path / "train.csv"
    table.write_bytes(f"{HEADER}1,Ykkkkkkkkkkk,30.0,Ä.\n".encode(encoding))
    (found,) = read_audiocaps(table)
    assert (found.file_id, found.captions, found.audiocap_ids) == (
        "kkkkkkkkkkk_30",
        ("Ä.",),
        ("1",),
    )


@pytest.mark.parametrize(
    ("told_as", "content"),
    [
        (fault("R21"), f"{HEADER}1,kkkkkkkkkkk,30,Ä.\n".encode("utf-16-le")),
        (fault("R21"), f"{HEADER}1,kkkkkkkkkkk,30,Ä.\n".encode("utf-16-be")),
        (fault("R22"), f"{HEADER}1,kkkkkkkkkkk,30,A tone, and more.\n".encode()),
    ],
)
def test_captions_that_cannot_be_read_are_one_line(
    made: Synthetic, tmp_path: Path, run: Run, told_as: Fault, content: bytes
) -> None:
    table = tmp_path / "train.csv"
    table.write_bytes(content)
    told = run("export", "audiocaps", made.store.path, table, "--output", tmp_path / "x", code=1)
    told_as.require(told.code, told.err)
    assert len(told.err.splitlines()) == 1


# --- what is told when much is missing -----------------------------------------------------------


def test_summary_names_what_was_looked_for_and_what_was_there(
    stand_in: StandIn, tmp_path: Path, run: Run
) -> None:
    command = ["export", "audiocaps", stand_in.store.path, *stand_in.tables, "--checkpoint-clean"]
    command += ["--as", "npz", "--output", tmp_path / "out"]
    told = run(*command)
    clips = stand_in.present["train"]
    by_hand = [clip for clip in clips if "by hand" in clip.name]
    assert f"train: {27 - len(by_hand)} of 30 clips" in told.out
    looked_for = [stand_in.missing["train"][0].file_id, by_hand[0].file_id]
    names = sorted(looked_for, key=lambda one: one[1:4])
    assert f"much is missing: looked for {', '.join(names)}" in told.out
    assert "in no table: test/abcdefghijk_70.wav, test/called by hand " in told.out
    data = run(*command, "--force", "--format", "json").data
    assert len(data["looked_for"]) == len(data["extra"]) == 3
    data = run(*command, "--force", "--format", "json", "--match", stand_in.match).data
    assert (data["looked_for"], len(data["extra"])) == ([], 2)


def test_match_that_is_not_there_is_what_was_looked_for(stand_in: StandIn, tmp_path: Path) -> None:
    match = tmp_path / "match.csv"
    rows = [f"nowhere/{clip.file_id}.wav,{clip.file_id}" for clip in stand_in.present["train"]]
    match.write_text("\n".join(["path,id", *rows]))
    consent = Consent(is_clean=True)
    with pytest.raises(SoundalikeError, match=r"none of the files .* 'nowhere/.* it has '"):
        export_captioned(
            stand_in.store,
            "AudioCaps",
            stand_in.tables[:1],
            "npz",
            tmp_path,
            match=match,
            consent=consent,
        )


def test_exactly_a_tenth_is_not_much(stand_in: StandIn, tmp_path: Path) -> None:
    report = export_captioned(
        stand_in.store,
        "AudioCaps",
        stand_in.tables,
        "npz",
        tmp_path,
        match=stand_in.match,
        consent=Consent(is_clean=True),
    )
    shares = [len(split.missing) / split.num_wanted for split in report.splits]
    assert max(shares) == 0.1
    assert report.looked_for == ()


def test_stand_in_is_what_it_says(stand_in: StandIn) -> None:
    """The oracle itself: 60 clips, 5 of them missing, and each convention at least three times."""
    kept = [clip for clips in stand_in.present.values() for clip in clips]
    assert len(kept) + sum(map(len, stand_in.missing.values())) == 60
    kinds = np.bincount([int(clip.youtube_id[1:4]) % 11 for clip in kept])
    assert len(kinds) == 11
    assert kinds.min() >= 3
