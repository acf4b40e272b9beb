"""What a newcomer tries first: -h, the shell's completion, a library in the place of its store."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import REPOSITORY, Run
from faults import fault
from synthetic import make_store

from indexer.tags import TagVocabulary
from search.upkeep.build import build
from soundalike.cli.app import app
from soundalike.cli.options import complete_tag


def commands(root: Any, names: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    inner = getattr(root, "commands", {})
    return [names, *(one for name, sub in inner.items() for one in commands(sub, (*names, name)))]


def test_every_command_takes_h_for_help(run: Run) -> None:
    found = commands(typer.main.get_command(app))
    assert len(found) > 20
    for words in found:
        outcome = run(*words, "-h")
        assert outcome.out.startswith(" ".join(("Usage: soundalike", *words)))
        assert outcome == run(*words, "--help")
    outcome = run("search", "-h")
    fault("F11a").require(outcome.code, outcome.out)


def test_help_says_when_bf16_is_chosen(run: Run) -> None:
    outcome = run("index", "--help")
    fault("F4a").require(outcome.code, outcome.out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered_for_each_shell(whole: None, shell: str, tmp_path: Path) -> None:
    def asked(*words: str, **environment: str) -> str:
        result = subprocess.run(
            [sys.executable, "-m", "soundalike", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", **environment},
        )
        assert "Traceback" not in result.stderr
        return result.stdout

    # Otherwise the shell is that of the nearest process, which may be one without completion.
    by_name = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert "_SOUNDALIKE_COMPLETE" in asked("--show-completion", shell, **by_name)
    line = {
        "bash": {"COMP_WORDS": "soundalike search s --tag Do", "COMP_CWORD": "4"},
        "zsh": {"_TYPER_COMPLETE_ARGS": "soundalike search s --tag Do"},
        "fish": {
            "_TYPER_COMPLETE_ARGS": "soundalike search s --tag Do",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
    }[shell]
    offered = asked(_SOUNDALIKE_COMPLETE=f"complete_{shell}", **line)
    for name in ("Dog", "Door", "Doorbell"):
        assert name in offered


def test_completed_tags_are_tags_and_need_no_quotes() -> None:
    vocabulary = TagVocabulary.audioset()
    assert {"Dog", "Door"} <= set(complete_tag("Do"))
    assert "dog" in complete_tag("do")
    for name in complete_tag(""):
        assert vocabulary.find(name) is not None
        assert not set(name) & set(" ,()'&")
    assert complete_tag("nothing is called so") == []


def test_library_in_the_place_of_a_store_is_told_where_the_store_is(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my sounds").mkdir()
    (tmp_path / "other sounds").mkdir()
    (tmp_path / "sub").mkdir()
    made = make_store(tmp_path / "my sounds.soundalike", frames="none")
    build(made.store)
    for words in (["search", "my sounds", "clip.wav"], ["info", "my sounds"]):
        outcome = run(*words, code=None)
        fault("F5a").require(outcome.code, outcome.err)
    outcome = run("search", "other sounds", "clip.wav", code=None)
    fault("F5b").require(outcome.code, outcome.err)
    monkeypatch.chdir(tmp_path / "sub")  # beside the library, or where it was made
    beside = run("info", "../my sounds", code=1).err
    assert "../my sounds.soundalike is one; say '../my sounds.soundalike' in its place" in beside
    (tmp_path / "my sounds.soundalike").rename("my sounds.soundalike")
    assert "; say 'my sounds.soundalike' in its place" in run("info", "../my sounds", code=1).err
