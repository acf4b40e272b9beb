"""The wheel works outside the clone: labels, ontology and the demo checkpoint travel inside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import REPOSITORY


@pytest.fixture(scope="module")
def wheel(whole: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it from a copy, so that nothing is left in the clone."""
    source = tmp_path_factory.mktemp("source") / "soundalike"
    ignored = shutil.ignore_patterns(".*", "__pycache__", "*.soundalike", "samples")
    shutil.copytree(REPOSITORY, source, ignore=ignored)
    target = tmp_path_factory.mktemp("wheel")
    code = f"import hatchling.build as build; print(build.build_wheel({str(target)!r}))"
    subprocess.run(
        [sys.executable, "-c", code], cwd=source, check=True, capture_output=True, text=True
    )
    (built,) = target.glob("*.whl")
    return built


def test_wheel_holds_the_packages_and_their_data_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "indexer",
        "search",
        "soundalike",
        "soundalike-0.1.0.dist-info",
    }
    for package in ("indexer", "search", "soundalike"):
        assert f"{package}/py.typed" in names
    for name in (
        "indexer/_bundled/metadata/class_labels_indices.csv",
        "indexer/_bundled/metadata/ontology.json",
        "indexer/_bundled/checkpoints/demo.safetensors",
        "soundalike-0.1.0.dist-info/licenses/LICENSE",
    ):
        assert name in names
    assert not [name for name in names if "samples" in name or "test" in name]


def test_wheel_installed_elsewhere_lists_tags_and_tags_a_file(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    words = ["install", "--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", *words, "--target", str(target), str(wheel)], check=True
    )
    sound = shutil.copy(REPOSITORY / "data" / "samples" / "animals" / "dog.ogg", tmp_path)
    python, script = [sys.executable], [str(target / "bin" / "soundalike")]

    def run(*words: str) -> str:
        result = subprocess.run(
            words,
            cwd=tmp_path,
            # The target comes first on the path, so that it is what is imported, not the clone.
            env={**os.environ, "PYTHONPATH": str(target)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    code = (
        "import indexer as i, search as s, soundalike as a; print(*(m.__file__ for m in (i, s, a)))"
    )
    assert all(file.startswith(str(target)) for file in run(*python, "-c", code).split())
    for command in (script, [*python, "-m", "soundalike"]):
        assert len(run(*command, "tags").splitlines()) == 527
        assert "Dog" in run(*command, "tag", str(sound), "--checkpoint", "demo")
