"""The documents are true: their commands and their Python run, and they name every column."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, Run
from synthetic import write_tone
from web_server import serving

from indexer.store.schema import SCHEMAS
from indexer.tags import TagVocabulary
from soundalike.cli.app import app

#: Runs lines of a document in a folder, and returns what they print.
RunHere = Callable[[str, Path], str]

DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("*/*.md"), *REPOSITORY.glob("docs/**/*.md")]
)


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def run_code(code: str, folder: Path) -> str:
    """Run the Python of a document in a folder, and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the repository to a reader who follows the documents."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "data").symlink_to(REPOSITORY / "data")
    return folder


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, run: Run) -> RunHere:
    """Run our own command in this process: to start it for each line would take a minute."""

    def call(lines: str, folder: Path) -> str:
        monkeypatch.chdir(folder)
        printed = []
        for line in lines.splitlines():
            words = shlex.split(line, comments=True)
            if not words:
                continue
            words, target = (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, None)
            if words[0] in {"cp", "mv"}:
                subprocess.run(words, cwd=folder, check=True)
                continue
            assert words[0] == "soundalike"
            out = run(*words[1:]).out
            if target:
                Path(target).write_text(out)
            else:
                printed.append(out)
        return "".join(printed)

    return call


def without_setup(lines: str) -> str:
    """Drop what installs, for tests/test_install.py, and `make`, which runs these very tests."""
    others = ("make ", "pip ", "docker ", "soundalike serve ")  # the last one does not end
    return "\n".join(line for line in lines.splitlines() if not line.startswith(others))


def hits_of(table: str) -> list[list[str]]:
    """Return rank, score, file (below our own folder) and time of each printed hit."""
    rows = [re.split(r"  +", line.strip()) for line in table.splitlines()]
    return [
        [*row[:2], row[2].removeprefix(f"{REPOSITORY}/"), row[3]]
        for row in rows
        if row[0].isdigit() and len(row) > 3
    ]


@pytest.mark.whole
def test_readme_commands_all_succeed(workplace: Path, run_here: RunHere) -> None:
    shell = [without_setup(block) for block in blocks(REPOSITORY / "README.md", "sh")]
    printed = run_here("\n".join(shell), workplace)
    assert "97 windows" in printed
    assert "samples.soundalike is as it was written" in printed
    (shown,) = blocks(REPOSITORY / "README.md", "text")
    assert len(hits_of(shown)) == 3
    assert [hit for hit in hits_of(shown) if hit not in hits_of(printed)] == []
    assert len(list((workplace / "music").glob("*.wav"))) == 3
    assert (workplace / "music.m3u").read_text().startswith("#EXTM3U")


@pytest.mark.whole
def test_readme_python_prints_three_birds(workplace: Path) -> None:
    (code,) = blocks(REPOSITORY / "README.md", "python")
    lines = run_code(code, workplace).splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(r"0\.\d{3}  \S+  \d+\.\d s to \d+\.\d s", line) for line in lines)


@pytest.mark.whole
def test_page_document_is_served_and_asked_as_it_says(
    workplace: Path, run_here: RunHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = REPOSITORY / "docs" / "page.md"
    (lines,), (code,) = blocks(page, "sh"), blocks(page, "python")
    if not (workplace / "samples.soundalike").exists():
        run_here(without_setup(lines), workplace)
    monkeypatch.chdir(workplace)
    *_, words = (shlex.split(line) for line in lines.splitlines())
    assert words[:2] == ["soundalike", "serve"]
    with serving(*words[2:]) as server:
        code = code.replace("http://127.0.0.1:8765/?token=TOKEN", server.address)
        out = run_code(code, workplace)
    assert len(re.findall(r"^0\.\d{3}  \S+  \d+\.\d s$", out, re.MULTILINE)) == 3


@pytest.mark.whole
def test_store_format_lines_run_one_after_the_other(workplace: Path, run_here: RunHere) -> None:
    if not (workplace / "samples.soundalike").exists():
        run_here("soundalike index data/samples --checkpoint demo", workplace)
    out = run_code("\n".join(blocks(REPOSITORY / "docs" / "store-format.md", "python")), workplace)
    assert "(97, 768) (31, 768)" in out
    assert "97 (97, 768) (97, 527) (31, 768)" in out
    assert re.search(r"animals/\w*dog\w*\.(ogg|wav)", out)


@pytest.mark.whole
def test_search_page_commands_and_python_run(workplace: Path, run_here: RunHere) -> None:
    page = REPOSITORY / "docs" / "search.md"
    if (workplace / "samples.soundalike").exists():  # the README's, made in the same way
        shell = "\n".join(blocks(page, "sh")).replace("soundalike index", "# soundalike index")
    else:
        shell = "\n".join(blocks(page, "sh"))
    assert "97 windows, searched exactly" in run_here(shell, workplace)
    out = run_code("\n".join(blocks(page, "python")), workplace)
    assert re.search(r"^exact True \d+ of 97$", out, re.MULTILINE)
    pairs = re.findall(r"│ +-?\d\.\d │ +(\d+) │ +(\d\.[\de-]+) │", out)
    assert sum(int(number) for number, _ in pairs) == 97 * 96
    # Chance: what share of all pairs lies in one folder.
    folders = [len(list(one.iterdir())) for one in (REPOSITORY / "data" / "samples").iterdir()]
    alike = sum(number * (number - 1) for number in folders)
    assert sum(int(number) * float(share) for number, share in pairs) == pytest.approx(alike)


@pytest.mark.whole
def test_map_page_command_and_python_run(workplace: Path, run_here: RunHere) -> None:
    page = REPOSITORY / "docs" / "map.md"
    if not (workplace / "samples.soundalike").exists():  # the README's, made in the same way
        run_here("soundalike index data/samples --checkpoint demo", workplace)
    (workplace / "map.png").unlink(missing_ok=True)  # the README's as well
    printed = run_here("\n".join(blocks(page, "sh")), workplace)
    # Embeddings differ in their last digits from processor to processor, and with them the map.
    (shown,) = blocks(page, "text")
    assert shown.splitlines()[0] == "97 windows in 8 regions, written to map.png"
    region = re.compile(r" +(\d+)  0\.\d\d 0\.\d\d  \w.*")
    assert all(region.fullmatch(line) for line in shown.splitlines()[1:])
    assert shown.splitlines()[0] in printed
    assert sum(int(number) for number in region.findall(printed)) == 97
    out = run_code("\n".join(blocks(page, "python")), workplace)
    assert "(97,) (97, 2) (97,)" in out


@pytest.mark.whole
def test_libraries_page_commands_add_and_move_a_folder(tmp_path: Path, run_here: RunHere) -> None:
    (tmp_path / "data").symlink_to(REPOSITORY / "data")
    printed = run_here("\n".join(blocks(REPOSITORY / "docs" / "libraries.md", "sh")), tmp_path)
    samples = REPOSITORY / "data" / "samples"
    num_animals = sum(path.suffix != ".wav" for path in (samples / "animals").iterdir())
    num_both = num_animals + len(list((samples / "birds").iterdir()))
    assert f"embedded {num_animals} files" in printed
    assert f"{num_both} windows of {num_both} recordings" in printed
    assert f"{num_both + 3} windows of {num_both + 3} recordings" in printed
    assert "nothing to embed" in printed
    assert f"library     {tmp_path}/meadow" in printed
    assert f"library     {tmp_path}/field" not in printed
    assert {Path(hit[2]).parent.name for hit in hits_of(printed)} == {"field"}


@pytest.mark.whole
def test_scale_page_commands_stage_and_publish(tmp_path: Path, run_here: RunHere) -> None:
    (tmp_path / "data").symlink_to(REPOSITORY / "data")
    printed = run_here("\n".join(blocks(REPOSITORY / "docs" / "scale.md", "sh")), tmp_path)
    assert printed.count("when all shards are done: soundalike commit many.soundalike staged") == 3
    assert "published 3 shards: 97 files and 97 windows in 3 parts" in printed
    assert "nothing to embed" in printed
    assert "many.soundalike: 97 windows" in printed


@pytest.mark.whole
def test_teaching_page_commands_and_python_run(tmp_path: Path, run_here: RunHere) -> None:
    page = REPOSITORY / "docs" / "teaching.md"
    (tmp_path / "data").symlink_to(REPOSITORY / "data")
    (tmp_path / "labels.csv").write_text(blocks(page, "csv")[0])
    printed = run_here("\n".join(blocks(page, "sh")), tmp_path)
    assert "3 yes, 3 no and 0 unsure" in printed
    assert "my.barking: learned from 3 yes, 3 no, by difference of means" in printed
    assert "barking_dog" in printed.split("windows have it")[1]
    out = run_code("\n".join(blocks(page, "python")), tmp_path)
    assert "{'yes': 2, 'no': 5} difference of means" in out


@pytest.fixture
def laboratory(tmp_path: Path) -> Path:
    """Small stand-ins for the data sets that the page on experiments walks through."""
    tags = TagVocabulary.audioset().tags
    lines = ["# Segments", "# num_ytids=6", "# YTID, start_seconds, end_seconds, positive_labels"]
    esc50 = ["filename,fold,target,category,esc10,src_file,take"]
    for number in range(6):
        write_tone(tmp_path / "audioset_eval" / f"-clip_{number:05}_30.wav", 2.0, 200 + 90 * number)
        lines.append(f'-clip_{number:05}, 30.000, 40.000, "{tags[number % 3].mid},{tags[7].mid}"')
        name, kind = f"{number % 2 + 1}-{number}-A-0.wav", ("low", "high")[number // 3]
        write_tone(
            tmp_path / "ESC-50" / "audio" / name, 1.0, {"low": 150, "high": 5000}[kind] + number
        )
        esc50.append(f"{name},{number % 2 + 1},0,{kind},True,{number},A")
        youtube_id, split = f"_clip-{number:05}", ("train", "val", "test")[number % 3]
        write_tone(tmp_path / "audiocaps" / f"Y{youtube_id}.wav", 1.0, 100 * 2.3**number)
        with (tmp_path / f"{split}.csv").open("a") as table:
            if number < 3:
                table.write("audiocap_id,youtube_id,start_time,caption\n")
            table.write(f'{number},{youtube_id},30,"Tone {number}, and nothing else."\n')
    (tmp_path / "eval_segments.csv").write_text("\n".join(lines[:-1]))  # one is not in the list
    (tmp_path / "ESC-50" / "meta").mkdir()
    (tmp_path / "ESC-50" / "meta" / "esc50.csv").write_text("\n".join(esc50))
    random = np.random.default_rng(0)
    ids = [f"clip {number}" for number in range(4)]
    np.savez(tmp_path / "sounds.npz", ids=ids, embeddings=random.normal(size=(4, 8)))
    np.savez(tmp_path / "captions.npz", ids=2 * ids, embeddings=random.normal(size=(8, 8)))
    scores = random.normal(size=(8, 4))
    np.savez(tmp_path / "scores.npz", scores=scores, text_ids=2 * ids, audio_ids=ids)
    return tmp_path


@pytest.mark.whole
def test_experiments_page_commands_and_python_run(
    laboratory: Path, run_here: RunHere, capfd: pytest.CaptureFixture[str]
) -> None:
    page = REPOSITORY / "docs" / "experiments.md"
    shell = "\n".join(blocks(page, "sh"))
    shell = re.sub(r"convnext-tiny-[\w-]+", "demo", shell)
    learns = "export audiocaps|train projection|project"
    shell = re.sub(rf"(soundalike (?:{learns}) .*)", r"\1 --allow-leak", shell)  # the demo has
    printed = run_here(shell, laboratory)
    assert "test: 2 of 2 clips (100.0%), 2 captions; 0 missing" in printed
    assert "LEAK: demo was trained on 8,865 short clips" in printed
    assert "5 of 5 segments are in the store (100.0%)" in printed
    assert "in the store and not in the list: 1 file" in printed
    assert "6 files with 2 labels" in printed
    assert "tested on that (2 given)" in printed
    assert "4 sounds, 8 captions" in printed
    assert "sounds: 2 for train, 2 for val, 2 for test" in printed
    assert "2 sounds, 2 captions" in printed
    assert "2 files in again" in printed
    assert len(hits_of(printed)) == 3  # of search --text
    assert "windows.csv: 6 windows" in printed
    assert np.load(laboratory / "scenes.npy").shape == (6, 768)
    assert len((laboratory / "ranks.csv").read_text().splitlines()) == 1 + 2 * 8
    assert len((laboratory / "classes.csv").read_text().splitlines()) == 528
    (code,) = blocks(page, "python")
    exec(compile(code, str(page), "exec"), {})
    sizes = "torch.Size([2, 768]) torch.Size([2, 15, 768])"
    assert capfd.readouterr().out == f"{sizes} [120.0, 440.0, 760.0]\n"


def test_store_format_names_every_column_and_no_other() -> None:
    text = (REPOSITORY / "docs" / "store-format.md").read_text()
    for file, schema in SCHEMAS.items():
        section = text.split(f"## {file}\n")[1].split("\n## ")[0]
        rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
        named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
        assert named == schema.names


def test_readme_table_names_every_command_and_functions_that_exist() -> None:
    text = (REPOSITORY / "README.md").read_text()
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    commands |= {
        f"{group.typer_instance.info.name} {command.name or command.callback.__name__}"  # type: ignore[union-attr]
        for group in app.registered_groups
        for command in group.typer_instance.registered_commands  # type: ignore[union-attr]
    }
    table = text.split("| command | function |")[1].split("\n\n")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines()[2:]]
    assert {name for row in rows for name in re.findall(r"`([\w -]+)`", row[0])} == commands
    dotted = [
        name
        for row in rows
        for name in re.findall(r"`((?:indexer|search|soundalike)\.[\w.]+)`", row[1])
    ]
    assert len(dotted) >= 10
    for name in dotted:
        module, _, attribute = name.rpartition(".")
        assert hasattr(_object_at(module), attribute), name


def _object_at(dotted: str) -> Any:
    """Return a module, or a class in one."""
    try:
        return import_module(dotted)
    except ModuleNotFoundError:
        module, _, name = dotted.rpartition(".")
        return getattr(import_module(module), name)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_document_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_decisions_are_at_most_forty_lines() -> None:
    decisions = sorted((REPOSITORY / "docs" / "decisions").glob("*.md"))
    assert decisions
    for decision in decisions:
        assert len(decision.read_text().splitlines()) <= 40, decision.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_tests_that_a_document_names_are_there(document: Path) -> None:
    for name, function in re.findall(r"`(tests/\w+\.py)(?:::(\w+))?`", document.read_text()):
        source = (REPOSITORY / name).read_text()
        assert not function or f"\ndef {function}(" in source, (name, function)
