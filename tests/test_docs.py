"""The documents are true: their commands and their Python run, and they name every column."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY

from indexer.store.schema import SCHEMAS
from search.cli import app

DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("*/*.md"), *REPOSITORY.glob("docs/**/*.md")]
)


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the repository to a reader who follows the documents."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "data").symlink_to(REPOSITORY / "data")
    return folder


def run_shell(lines: str, folder: Path) -> str:
    """Run lines of a document: each must succeed."""
    scripts = str(Path(sys.executable).parent)
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", lines],
        cwd=folder,
        env={**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def without_make(lines: str) -> str:
    """Drop `make`, which runs these very tests."""
    return "\n".join(line for line in lines.splitlines() if not line.startswith("make "))


@pytest.mark.xdist_group("docs")
def test_readme_commands_all_succeed(workplace: Path) -> None:
    shell = [without_make(block) for block in blocks(REPOSITORY / "README.md", "sh")]
    printed = run_shell("\n".join(shell), workplace)
    assert "97 windows" in printed
    assert "samples.soundalike is as it was written" in printed
    assert len(list((workplace / "music").glob("*.wav"))) == 3
    assert (workplace / "music.m3u").read_text().startswith("#EXTM3U")


@pytest.mark.xdist_group("docs")
def test_readme_python_prints_three_birds(workplace: Path) -> None:
    (code,) = blocks(REPOSITORY / "README.md", "python")
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(r"0\.\d{3}  \S+  \d+\.\d s to \d+\.\d s", line) for line in lines)


@pytest.mark.xdist_group("docs")
def test_store_format_lines_run_one_after_the_other(workplace: Path) -> None:
    if not (workplace / "samples.soundalike").exists():
        run_shell("soundalike index data/samples --checkpoint demo", workplace)
    code = "\n".join(blocks(REPOSITORY / "docs" / "store-format.md", "python"))
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "(97, 768) (31, 768)" in result.stdout
    assert "97 (5, 768) (5, 527) (31, 768)" in result.stdout
    assert re.search(r"animals/\w*dog\w*\.(ogg|wav)", result.stdout)


@pytest.mark.xdist_group("docs")
def test_search_page_commands_and_python_run(workplace: Path) -> None:
    page = REPOSITORY / "docs" / "search.md"
    if (workplace / "samples.soundalike").exists():  # the README's, made in the same way
        shell = "\n".join(blocks(page, "sh")).replace("soundalike index", ": soundalike index")
    else:
        shell = "\n".join(blocks(page, "sh"))
    assert "97 windows, exact" in run_shell(shell, workplace)
    (code,) = blocks(page, "python")
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=workplace, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert re.fullmatch(r"exact True \d+ of 97\n", result.stdout)


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
    table = text.split("| command | function |")[1].split("\n\n")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines()[2:]]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row[0])} == commands
    dotted = [name for row in rows for name in re.findall(r"`((?:indexer|search)[\w.]+)`", row[1])]
    assert len(dotted) >= 10
    for name in dotted:
        module, _, attribute = name.rpartition(".")
        imported = __import__(module, fromlist=[attribute])
        assert hasattr(imported, attribute), name


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
