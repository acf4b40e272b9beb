"""The command: what it prints, its exit codes, and one line for whatever is wrong."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import soundfile
from conftest import REPOSITORY, Outcome, Run, on_screen
from synthetic import write_tone

from indexer.store.reader import Store
from indexer.tags import TagVocabulary
from search.generation.segments import CURRENT_FILE, INDEX_FOLDER
from soundalike.cli.search import split_stores

SAMPLES = REPOSITORY / "data" / "samples"


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of animal sounds, with one file that is no audio."""
    library = tmp_path_factory.mktemp("library") / "animals"
    shutil.copytree(SAMPLES / "animals", library)
    shutil.copyfile(library / "cow.ogg", library / "same_cow.ogg")
    (library / "broken.wav").write_text("not audio")
    return library


@pytest.fixture(scope="module")
def store(whole: None, animals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its store, made by the command."""
    path = tmp_path_factory.mktemp("store") / "animals.soundalike"
    words = ["index", str(animals), "--store", str(path), "--checkpoint", "demo", "--workers", "0"]
    result = subprocess.run(
        [sys.executable, "-m", "soundalike", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    assert result.returncode == 3, result.stderr  # one file failed
    assert "1 failure, recorded in the store:" in result.stdout
    assert "open: not audio" in result.stdout
    assert ": broken.wav" in result.stdout
    return path


def test_help_names_every_command_and_teaches_the_first_two(run: Run) -> None:
    outcome = run("--help")
    commands = ("index", "extract", "build", "search", "tag", "tags", "info", "compact", "verify")
    for name in commands:
        assert f"  {name} " in outcome.out
    assert "soundalike index FOLDER" in outcome.out


@pytest.mark.parametrize(
    "name",
    [
        "index",
        "extract",
        "build",
        "search",
        "tag",
        "tags",
        "info",
        "compact",
        "verify",
        "checkpoints",
    ],
)
def test_help_of_a_command_has_an_example(run: Run, name: str) -> None:
    outcome = run(name, "--help")
    assert f"soundalike {name} " in outcome.out.partition("Usage:")[2].partition("\n")[2]


@pytest.mark.whole
@pytest.mark.parametrize("words", [[], ["search"], ["index"], ["batch"], ["export", "labels"]])
def test_help_is_fast_because_nothing_heavy_is_imported(words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = {['soundalike', *words, '--help']}\n"
        "from soundalike.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'torch', 'faiss', 'pyarrow', 'av', 'lark'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.stdout.startswith("Usage: soundalike")
    assert result.stderr == "[]\n"


@pytest.mark.whole
def test_index_again_reads_nothing(run: Run, animals: Path, store: Path) -> None:
    outcome = run("index", animals, "--store", store, "--workers", "0")
    assert outcome.out.startswith("nothing to embed; ")
    assert "20 unchanged" in outcome.out
    assert "1 failed before" in outcome.out


@pytest.mark.whole
def test_index_json_is_a_report(run: Run, animals: Path, store: Path) -> None:
    report = run("index", animals, "--store", store, "--workers", "0", "--format", "json").data
    assert report["num_unchanged"] == 20
    stages = {"decode", "to_device", "network", "to_host", "write", "publish", "embed", "total"}
    assert set(report["seconds"]) == stages
    assert report["bound"] is None


@pytest.mark.whole
@pytest.mark.parametrize("form", ["text", "json"])
def test_index_says_what_it_embedded_although_no_index_can_be_built(
    run: Run, tmp_path: Path, form: str
) -> None:
    library, path = tmp_path / "library", tmp_path / "tones.soundalike"
    write_tone(library / "a.wav", 1.0)
    words = ("index", library, "--store", path, "--workers", "0")
    run(*words, "--checkpoint", "demo")
    write_tone(library / "b.wav", 1.0, 300)
    current = path / INDEX_FOLDER / CURRENT_FILE
    current.unlink()
    current.mkdir()
    told = run(*words, "--format", form, code=1)
    assert "is no regular file" in told.err
    if form == "json":
        assert told.data["num_embedded"] == 1
    else:
        assert told.out.startswith("embedded 1 file: 1 window")
        assert "search" not in told.out


@pytest.mark.whole
def test_index_quiet_prints_nothing(run: Run, animals: Path, store: Path) -> None:
    assert run("index", animals, "--store", store, "--workers", "0", "-q") == Outcome(0, "", "")


@pytest.mark.whole
def test_extract_then_build_is_index_in_two_steps(run: Run, tmp_path: Path) -> None:
    write_tone(tmp_path / "library" / "a.wav", 1.0)
    store = tmp_path / "two.soundalike"
    words = ("--checkpoint", "demo", "--workers", "0", "--frames", "none")
    run("extract", tmp_path / "library", store, *words)
    told = run("search", store, "--tag", "Speech", code=1).err
    assert told == f"soundalike: {store} has no index yet; run: soundalike build {store}\n"
    assert "1 window, searched exactly" in run("build", store).out
    assert run("build", store, "--format", "json").data["windows"] == 1
    run("search", store, "--not-tag", "Speech")


def test_search_by_file_leaves_the_query_out_and_shows_both_copies(
    run: Run, animals: Path, store: Path
) -> None:
    outcome = run("search", store, animals / "goat.ogg", "-k", "20")
    assert "goat.ogg" not in outcome.out
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["rank", "score", "file", "time", "heard"]
    place = next(number for number, line in enumerate(lines) if line.endswith("same_cow.ogg"))
    assert "/cow.ogg" in lines[place - 1]


def test_search_include_self_finds_the_query_first(run: Run, animals: Path, store: Path) -> None:
    words = ("-k", "1", "--include-self", "--format", "json")
    (hit,) = run("search", store, animals / "goat.ogg", *words).hits
    assert hit["paths"] == [str(animals / "goat.ogg")]
    assert hit["score"] == pytest.approx(1.0, abs=1e-4)


def test_search_by_window_id_equals_search_by_its_file(
    run: Run, animals: Path, store: Path
) -> None:
    words = ("-k", "1", "--include-self", "--format", "json")
    window_id = run("search", store, animals / "goat.ogg", *words).hits[0]["window_id"]
    by_id = run("search", store, window_id, "--format", "json").hits
    by_file = run("search", store, animals / "goat.ogg", "--format", "json").hits
    assert [hit["window_id"] for hit in by_id] == [hit["window_id"] for hit in by_file]


def test_search_filtered_by_tag_gives_only_windows_that_have_it(run: Run, store: Path) -> None:
    words = ("--tag", "dog", "--not-tag", "Howl", "-k", "50", "--format", "json")
    hits = run("search", store, *words).hits
    assert hits
    snapshot = Store.open(store).snapshot()
    tags = dict(zip(snapshot.windows.window_id.tolist(), snapshot.tags(np.arange(19)), strict=True))
    vocabulary = TagVocabulary.audioset()
    dog = list(vocabulary.outputs(vocabulary.resolve("Dog")))
    (howl,) = vocabulary.outputs(vocabulary.resolve("Howl"))
    for hit in hits:
        assert tags[hit["window_id"]][dog].max() >= 0.25
        assert tags[hit["window_id"]][howl] < 0.25
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


def test_search_formats_agree(run: Run, animals: Path, store: Path) -> None:
    words = ("search", store, animals / "goat.ogg", "-k", "3", "--format")
    hits = run(*words, "json").hits
    rows = run(*words, "csv").out.splitlines()
    playlist = run(*words, "m3u").out.splitlines()
    assert rows[0] == (
        "rank,score,path,start_s,end_s,window_id,tags,stands_for,match_start_s,match_end_s,"
        "match_score,clock"
    )
    assert [row.split(",")[2] for row in rows[1:]] == [hit["paths"][0] for hit in hits]
    assert playlist[0] == "#EXTM3U"
    assert [line for line in playlist if line.startswith("file:")] == [
        Path(hit["paths"][0]).as_uri() for hit in hits
    ]


def test_search_of_a_span_by_clock_or_by_seconds_is_the_same(
    run: Run, animals: Path, store: Path
) -> None:
    clip = (animals / "tiger.ogg", "-k", "3", "--format", "json")
    spans = [
        ("--start", "0.5", "--duration", "1"),
        ("--start", "0:00.5", "--end", "0:01.5"),
    ]
    one, other = (run("search", store, *clip, *span).hits for span in spans)
    assert one == other != run("search", store, *clip).hits


def test_batch_answers_as_search_does_with_the_same_terms(
    run: Run, store: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(store, tmp_path / "copy.soundalike")
    terms = ("-k", "4", "--where", "Animal and duration > 1", "--group-by", "file", "--diverse")
    output = tmp_path / "hits.jsonl"
    (query,) = run("search", store, "--tag", "Animal", "-k", "1", "--format", "json").hits
    for also, others in (((), ()), (("--also", copy), (copy,))):
        hits = run("search", store, *others, query["window_id"], *terms, "--format", "json").hits
        assert len(hits) == 4
        for per in ("window", "clip"):  # each recording has one window
            how = ("--per", per, *terms, "--output", output, "--force")
            told = run("batch", store, store, *also, *how)
            assert told.err.startswith(f"asked about 19 {per}s; ")
            rows = [json.loads(line) for line in output.read_text().splitlines()]
            found = [row for row in rows if row["query_path"] in query["paths"]]
            assert [(row["window_id"], row["start_s"]) for row in found] == [
                (hit["window_id"], hit["start_s"]) for hit in hits
            ]


def test_search_copy_to_collects_the_spans(
    run: Run, animals: Path, store: Path, tmp_path: Path
) -> None:
    run("search", store, animals / "goat.ogg", "-k", "3", "--copy-to", tmp_path / "out")
    copies = sorted((tmp_path / "out").iterdir())
    assert [copy.name[:4] for copy in copies] == ["001_", "002_", "003_"]
    assert all(soundfile.info(copy).duration > 0.1 for copy in copies)


def test_search_nothing_matches_says_so_and_is_no_error(run: Run, store: Path) -> None:
    outcome = run("search", store, "--tag", "Bagpipes", "--threshold", "0.99")
    assert (outcome.code, outcome.out) == (0, "")
    first, almost = outcome.err.splitlines()
    assert first == "no window matches"
    assert almost.startswith("nothing reaches the threshold: the most probable is at 0.")
    assert (
        run("search", store, "--tag", "Bagpipes", "--threshold", "0.99", "--quiet").err
        == f"{first}\n"
    )


def test_tag_prints_what_is_heard(run: Run, animals: Path) -> None:
    outcome = run("tag", animals / "dog.ogg", "--checkpoint", "demo", "--top", "2")
    lines = outcome.out.splitlines()
    assert lines[0] in (
        "what demo hears, at fp32 on cpu, padding zero",
        "what demo hears, at bf16 on cpu, padding zero",
    )
    assert lines[1] == str(animals / "dog.ogg")
    assert lines[2].strip().startswith("0:00.0 to 0:00.9")
    assert len(lines) == 5
    assert any(line.split()[1:] == ["74", "Dog"] for line in lines)


def test_tag_json_has_shapes_and_bad_files_give_exit_code_3(run: Run, animals: Path) -> None:
    files = (animals / "dog.ogg", animals / "broken.wav")
    outcome = run("tag", *files, "--checkpoint", "demo", "--format", "json", code=3)
    assert outcome.err.startswith(f"cannot listen to {animals}/broken.wav: not audio")
    (only,) = outcome.data
    assert only["windows"][0]["shapes"] == {"scene": [768], "frames": [31, 768]}
    assert only["windows"][0]["end_s"] < 1
    assert only["precision"] in ("fp32", "bf16")
    assert (only["checkpoint"], only["device"]) == ("demo", "cpu")
    for heard in only["windows"][0]["tags"]:
        sigmoid = 1 / (1 + math.exp(-heard["logit"]))
        assert sigmoid == pytest.approx(heard["probability"], abs=2e-6)


def test_tag_native_prints_what_the_published_demo_does(run: Run, tmp_path: Path) -> None:
    """One window of a clip's own length, all frames, and tags in the order of AudioSet."""
    clip = write_tone(tmp_path / "clip.wav", 37.0)
    command = ["tag", clip, "--checkpoint", "demo", "--native", "--threshold", "0.01"]
    lines = run(*command, "--frames", "full", "--by-index").out.splitlines()
    assert lines[2].strip() == "0:00.0 to 0:37.0  scene 768, frames 768 x 115 x 7"
    indices = [int(line.split()[1]) for line in lines[3:]]
    assert len(indices) > 2
    assert indices == sorted(indices)
    [heard] = run(*command, "--frames", "full", "--format", "json").data
    assert [one["shapes"]["frames"] for one in heard["windows"]] == [[768, 115, 7]]
    [shorter] = run(*command, "--native-max", "30", "--format", "json").data
    assert [one["end_s"] for one in shorter["windows"]] == [10, 20, 30, 37]
    without = ("tag", clip, "--checkpoint", "demo", "--native-max", "30")
    assert "--native-max goes with --native" in run(*without, code=2).err


def test_tags_lists_527_and_counts_those_of_a_store(run: Run, store: Path) -> None:
    listed = run("tags").out.splitlines()
    assert len(listed) == 527
    assert listed[74].split() == ["74", "/m/0bt9lr", "Dog"]
    counted = run("tags", store, "--format", "json").data
    assert counted[0]["windows"] >= counted[1]["windows"] >= counted[-1]["windows"]
    assert counted[0]["name"] in {"Animal", "Domestic animals, pets", "Wild animals"}


def test_info_says_what_is_there_and_what_failed(run: Run, store: Path) -> None:
    outcome = run("info", store)
    assert "19 windows of 19 recordings" in outcome.out
    assert "1 x open: not audio" in outcome.out
    data = run("info", store, "--format", "json").data
    assert data["statuses"] == {"ok": 20, "failed": 1}
    assert data["num_indexed"] == data["num_windows"] == 19


def test_verify_sound_store_exits_0_and_a_flipped_byte_1(
    run: Run, store: Path, tmp_path: Path
) -> None:
    run("verify", store)
    copy = tmp_path / "copy.soundalike"
    shutil.copytree(store, copy)
    (scene,) = copy.glob("parts/*/scene.parquet")
    damaged = bytearray(scene.read_bytes())
    damaged[5000] ^= 1
    scene.write_bytes(damaged)
    outcome = run("verify", copy, code=1)
    assert outcome.out.startswith(str(scene))


@pytest.mark.whole
def test_compact_says_what_it_removed(run: Run, tmp_path: Path) -> None:
    library, path = tmp_path / "library", tmp_path / "tones.soundalike"
    for number in range(3):
        write_tone(library / f"{number}.wav", 1.0, 300 + number)
    words = ("index", library, "--store", path, "--workers", "0")
    run(*words, "--checkpoint", "demo")
    (library / "2.wav").unlink()
    run(*words)
    before = run("search", path, "--not-tag", "Dog", "--format", "json").out
    (first, second) = run("compact", path).out.splitlines()
    assert first == "removed 1 window and 1 row of the ledger"
    assert second.startswith(f"{path}: 2 parts, 0.")
    assert " MB before; 1 part, 0." in second
    assert run("search", path, "--not-tag", "Dog", "--format", "json").out == before
    assert run("compact", path) == Outcome(0, f"{path}: nothing to compact\n", "")
    report = run("compact", path, "--format", "json").data
    assert (report["num_parts_after"], report["num_windows_removed"]) == (1, 0)
    assert run("compact", path, "--quiet") == Outcome(0, "", "")
    data = run("info", path, "--format", "json").data
    assert (data["num_parts"], data["num_dead_windows"], data["num_new_parts"]) == (1, 0, 0)


def test_checkpoints_lists_all_and_demo_is_here(run: Run) -> None:
    lines = run("checkpoints").out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "convnext-tiny-471",
        "convnext-tiny-465-audiocaps-70",
        "convnext-tiny-465-audiocaps-75",
        "hf:topel/ConvNeXt-Tiny-AT",
        "demo",
        "demo-0.1.0",
    ]
    assert [line.split()[1] for line in lines[-2:]] == ["here", "by"]
    assert run("checkpoints", "fetch", "demo").out.strip().endswith("demo.safetensors")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ("search", "STORE", "--tag", "Dog bark"),
            1,
            "unknown tag 'Dog bark'; did you mean 'Bark'",
        ),
        (
            ("search", "STORE", "--tag", "Oboe"),
            1,
            "tag 'Oboe' has no output in the model; the nearest",
        ),
        (("search", "STORE", "nothing.wav"), 1, "no such file: nothing.wav; a query is"),
        (("search", "STORE", "LIBRARY/broken.wav"), 1, "cannot listen to "),
        (("search", "LIBRARY/dog.ogg", "STORE"), 1, "dog.ogg is a file; the store comes first"),
        (
            ("search", "STORE", "--tag", "Dog", "--min-score", "nan"),
            2,
            "a number from -1 to 1",
        ),
        (("search", "STORE", "--tag", "Dog", "--copy-to", "LIBRARY/dog.ogg"), 1, "cannot make the"),
        (("search", "STORE", "12345"), 1, "no window 12345 in "),
        (("search", "STORE", "12345"), 1, "; 'soundalike search --format json' shows the ids of"),
        (
            ("search", "STORE", "--tag", "Dog", "--metadata", "x.csv"),
            2,
            "--metadata goes with --where, --clock, --report, --format json or --format csv",
        ),
        (
            ("search", "STORE", "--tag", "Dog", "--metadata", "x.csv", "--format", "csv"),
            1,
            "cannot read metadata from x.csv: ",
        ),
        (
            ("batch", "STORE", "STORE", "--output", "x.parquet", "--metadata", "x.csv"),
            1,
            "x.csv: name its columns in a filter expression; say --where EXPR",
        ),
        (
            ("search", "STORE", "LIBRARY/dog.ogg", "--start", "soon"),
            2,
            "a time is in seconds from 0 on",
        ),
        (
            ("batch", "STORE", "STORE", "--output", "x.parquet", "--tag", "Dogg"),
            1,
            "did you mean 'Dog'",
        ),
        (("search", "STORE"), 1, "nothing to look for: give a clip, a window id or a tag"),
        (("search", "STORE", "--tag", "Dog", "-k", "0"), 2, "Invalid value for '-k'"),
        (
            ("search", "STORE", "--tag", "Dog", "--threshold", "2"),
            2,
            "Invalid value for '--threshold'",
        ),
        (("search", "STORE", "LIBRARY/dog.ogg", "--start", "99"), 1, "has no audio at 99 s"),
        (("search", "STORE", "LIBRARY/dog.ogg", "--checkpoint", "no.pth"), 1, "no.pth"),
        (("search", "nothing.soundalike", "--tag", "Dog"), 1, "no store at nothing.soundalike; "),
        (("info", "nothing.soundalike"), 1, "no store at nothing.soundalike; "),
        (("compact", "nothing.soundalike"), 1, "no store at nothing.soundalike; "),
        (("index", "nothing"), 1, "no such folder: nothing"),
        (
            ("index", "LIBRARY/dog.ogg"),
            1,
            "or listen to it alone; 'soundalike tag' listens",
        ),
        (("index", "EMPTY", "--checkpoint", "demo"), 1, "no audio in "),
        (
            ("index", "LIBRARY", "--store", "STORE", "--frames", "full"),
            1,
            "frames is 'pooled' there",
        ),
        (("index", "LIBRARY", "--store", "STORE", "--hop", "0"), 2, "a number from 0.01 to 86,400"),
        (("index", "LIBRARY", "--checkpoint", "dmeo"), 1, "demo"),
        (
            ("index", "LIBRARY", "--checkpoint", "demo", "--device", "cuda:9"),
            1,
            "cuda:9 cannot be used: ",
        ),
        (("index", "LIBRARY", "--precision", "fp8"), 2, "Invalid value for '--precision'"),
        (("index",), 2, "Missing argument"),
        (
            ("search", "STORE", "--tag", "Dog", "--format", "xml"),
            2,
            "Invalid value for '--format': 'xml' is not one of 'table', 'json', 'csv', 'm3u', ",
        ),
        (("checkpoints", "fetch", "nothing"), 1, "no checkpoint is called 'nothing'"),
        (("nonsense",), 2, "No such command 'nonsense'"),
    ],
)
def test_wrong_input_gives_one_line_and_the_exit_code(
    run: Run,
    store: Path,
    animals: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    places = {"STORE": str(store), "LIBRARY": str(animals), "EMPTY": str(tmp_path / "empty")}
    filled = ["/".join(places.get(piece, piece) for piece in word.split("/")) for word in words]
    outcome = run(*filled, code=code)
    assert outcome.out == ""
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("soundalike: ")
    assert message in outcome.err


@pytest.mark.parametrize(
    ("error", "words", "expected"),
    [
        (
            KeyboardInterrupt(),
            ("index", "LIBRARY", "--checkpoint", "demo"),
            (130, "stopped; what was embedded is kept, and running again continues"),
        ),
        (KeyboardInterrupt(), ("info", "STORE"), (130, "stopped")),
        (
            OSError(28, "No space left on device"),
            ("info", "STORE"),
            (1, "[Errno 28] No space left on device"),
        ),
    ],
)
def test_interrupt_or_full_disk_is_one_line(
    run: Run,
    store: Path,
    animals: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    words: tuple[str, ...],
    expected: tuple[int, str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("soundalike.Sounds.extract", fail)
    monkeypatch.setattr("soundalike.Sounds.info", fail)
    places = {"STORE": store, "LIBRARY": animals}
    outcome = run(*(places.get(word, word) for word in words), code=expected[0])
    assert (outcome.out, outcome.err) == ("", f"soundalike: {expected[1]}\n")


@pytest.mark.whole
def test_output_that_nobody_reads_any_more_ends_quietly() -> None:
    words = [sys.executable, "-m", "soundalike", "tags"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY
    ) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.close()
        assert command.stderr.read() == b""


@pytest.mark.whole
def test_progress_bar_is_shown_on_a_terminal_only_and_only_if_there_is_something_to_do(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tone(tmp_path / "library" / "a.wav", 1.0)
    words = ("extract", tmp_path / "library", tmp_path / "store", "--workers", "0")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    shown = run(*words, "--checkpoint", "demo").err
    assert "embedding a.wav: 100%" in shown
    assert "1.0 of 1.0 s" in shown
    again = run(*words).err
    assert "embedding" not in again
    (only,) = on_screen(again)
    assert only.startswith(str(tmp_path / "library") + ": 0 new")
    assert run(*words, "--quiet").err == ""


def test_published_checkpoint_that_cannot_be_fetched_says_where_to_put_it(
    run: Run, animals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOUNDALIKE_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.chdir(tmp_path)
    outcome = run("index", animals, code=1)
    assert outcome.err.count("\n") == 1
    for piece in ("convnext_tiny_471mAP.pth", str(tmp_path / "checkpoints"), "--checkpoint demo"):
        assert piece in outcome.err


def test_store_of_another_checkpoint_names_what_differs(
    run: Run, store: Path, animals: Path, tmp_path: Path
) -> None:
    weights = safetensors.torch.load_file(REPOSITORY / "checkpoints" / "demo.safetensors")
    weights["head_audioset.bias"] += 1
    safetensors.torch.save_file(weights, tmp_path / "other.safetensors")
    other = ("--checkpoint", tmp_path / "other.safetensors")
    outcome = run("index", animals, "--store", store, *other, code=1)
    assert "weights is '" in outcome.err
    outcome = run("search", store, animals / "dog.ogg", *other, code=1)
    assert "made with another checkpoint" in outcome.err


@pytest.mark.whole
def test_hostile_file_name_is_escaped_wherever_it_is_printed(run: Run, tmp_path: Path) -> None:
    library = tmp_path / "library"
    hostile = "evil\x1b[31m\n\u202egpj.wav"
    write_tone(library / hostile, 1.0)
    (library / "bad\x07.wav").write_text("not audio")
    odd = Path(os.fsdecode(os.fsencode(library) + b"/caf\xe9.wav"))
    write_tone(library / "plain.wav", 1.5, 500).rename(odd)
    store = tmp_path / "hostile.soundalike"
    words = ("--checkpoint", "demo", "--workers", "0")
    outputs = [run("index", library, "--store", store, *words, code=3)]
    outputs += [run("search", store, "--not-tag", "Dog", "--format", f) for f in ("table", "csv")]
    outputs += [run("tag", library / hostile, "--checkpoint", "demo"), run("info", store)]
    outputs += [run("search", store, library / "bad\x07.wav", code=1)]
    for outcome in outputs:
        for text in (outcome.out, outcome.err):
            assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert r"evil\x1b[31m\x0a\u202egpj.wav" in outputs[1].out
    assert r"caf\xe9.wav" in outputs[1].out
    assert len(run("search", store, "--not-tag", "Dog", "--format", "json").hits) == 2


@pytest.mark.whole
def test_index_of_which_nothing_could_be_read_invites_to_no_search(
    run: Run, tmp_path: Path
) -> None:
    library, path = tmp_path / "library", tmp_path / "my sounds"
    library.mkdir()
    (library / "bad.wav").write_text("no")
    words = ("index", library, "--store", path, "--workers", "0", "--checkpoint", "demo")
    nothing = "no window is in it, so nothing can be searched; "
    failed = f"{path}: {nothing}what failed: soundalike files '{path}' --failed\n"
    assert run(*words, code=3).out.endswith(f"\n{failed}")
    assert run(*words).out.endswith(f"\n{failed}")  # it is not tried again
    assert "bad.wav" in run("files", path, "--failed").out
    write_tone(library / "good.wav", 1.0)
    told = run(*words).out
    assert told.endswith(f"{path}: 1 window; soundalike search '{path}' CLIP\n")
    (library / "good.wav").unlink()
    (library / "bad.wav").unlink()
    told = run(*words, "--allow-gone").out
    assert told.endswith(f"{nothing}what became of each file: soundalike files '{path}'\n")


def test_index_of_an_empty_library_makes_no_store(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    store = tmp_path / "empty.soundalike"
    run("index", tmp_path / "empty", "--store", store, "--checkpoint", "demo", code=1)
    assert not store.exists()


# --- stores and queries on one line --------------------------------------------------------------


def test_split_stores_takes_the_first_word_and_the_folders_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two", "three"):
        Path(name).mkdir()
    Path("clip.wav").touch()
    one, two = Path("one"), Path("two")
    assert split_stores(["one"]) == ([one], [])
    assert split_stores(["one", "two"]) == ([one, two], [])
    assert split_stores(["one", "clip.wav"]) == ([one], ["clip.wav"])
    assert split_stores(["one", "two", "123", "clip.wav"]) == ([one, two], [123, "clip.wav"])
    assert split_stores(["one", "clip.wav", "three"]) == ([one], ["clip.wav", "three"])
    assert split_stores(["not there", "two"]) == ([Path("not there"), two], [])
    assert split_stores(["one", "x" * 300]) == ([one], ["x" * 300])
    Path("123").touch()
    assert split_stores(["one", "123"]) == ([one], ["123"])  # a file of that name
