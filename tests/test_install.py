"""What the README says of installing: Dockerfiles, the list for machines without a GPU, bounds."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import REPOSITORY
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from sketched import scenes_of
from synthetic import make_store

INSTALL = REPOSITORY / "docs" / "install"
CPU_LIST = INSTALL / "cpu-requirements.txt"
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def readme_commands() -> set[str]:
    """Return what the README shows as code: lines of its blocks, and what stands between ticks."""
    text = (REPOSITORY / "README.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = {line.split(" #")[0].strip() for block in blocks for line in block.splitlines()}
    return lines | set(re.findall(r"`([^`\n]+)`", text))


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return (instruction, argument) for every line; none of ours goes on in a second line."""
    lines = [line for line in dockerfile.read_text().splitlines() if line and line[0] != "#"]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gpu", ["pip install ."]),
        ("cpu", ["pip install -r docs/install/cpu-requirements.txt", "pip install --no-deps ."]),
    ],
)
def test_dockerfile_installs_with_the_commands_of_the_readme(
    name: str, expected: list[str]
) -> None:
    steps = instructions(INSTALL / f"{name}.Dockerfile")
    installs = [rest for word, rest in steps if word == "RUN" and "pip" in rest]
    assert installs == expected
    assert set(installs) <= readme_commands()


@pytest.mark.whole
@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_dockerfile_copies_all_that_the_wheel_is_made_of(name: str, tmp_path: Path) -> None:
    """The wheel that comes from what is copied holds the same files as that of the clone."""
    source = tmp_path / "source"
    for word, rest in instructions(INSTALL / f"{name}.Dockerfile"):
        if word == "COPY" and not rest.startswith("--from"):
            *names, target = rest.split()
            for one in names:
                place = source / target / (Path(one).name if target == "./" else "")
                place.parent.mkdir(parents=True, exist_ok=True)
                copy = shutil.copytree if (REPOSITORY / one).is_dir() else shutil.copy
                copy(REPOSITORY / one, place)
    if name == "cpu":
        assert (source / "docs/install/cpu-requirements.txt").exists()
    code = "import hatchling.build, sys; hatchling.build.build_wheel(sys.argv[1])"
    contents = []
    for folder, wheel in ((source, tmp_path / "of-copy"), (REPOSITORY, tmp_path / "of-clone")):
        wheel.mkdir()
        subprocess.run([sys.executable, "-c", code, str(wheel)], cwd=folder, check=True)
        (built,) = wheel.glob("*.whl")
        contents.append({one.filename: one.CRC for one in zipfile.ZipFile(built).infolist()})
    assert contents[0] == contents[1]


@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_image_runs_as_a_user_without_rights_and_keeps_only_what_was_installed(name: str) -> None:
    steps = instructions(INSTALL / f"{name}.Dockerfile")
    starts = [at for at, (word, _) in enumerate(steps) if word == "FROM"]
    last = steps[starts[-1] :]
    assert [rest for word, rest in last if word == "COPY"] == [
        "--from=build /opt/soundalike /opt/soundalike"
    ]
    assert last[0][1].endswith("-slim")
    assert ("USER", "soundalike") in last
    assert ("VOLUME", "/checkpoints") in last
    assert [word for word, _ in last].index("USER") > [word for word, _ in last].index("RUN")


@pytest.mark.parametrize("name", ["gpu", "cpu"])
def test_python_of_the_image_is_one_that_is_allowed(name: str) -> None:
    allowed = SpecifierSet(PROJECT["requires-python"])
    for word, rest in instructions(INSTALL / f"{name}.Dockerfile"):
        if word == "FROM":
            found = re.match(r"python:(3\.\d+)-slim", rest)
            assert found
            assert f"{found[1]}.1" in allowed


def test_list_for_machines_without_a_gpu_is_that_of_the_project_but_for_faiss() -> None:
    machine = {"sys_platform": "linux", "platform_machine": "x86_64"}
    wanted = {}
    for one in map(Requirement, PROJECT["dependencies"]):
        if one.marker is None or one.marker.evaluate(machine) or one.name == "faiss-cpu":
            wanted[one.name] = one.specifier
    del wanted["faiss-gpu"]
    lines = [line for line in CPU_LIST.read_text().splitlines() if line and line[0] not in "#-"]
    listed = {one.name: one.specifier for one in map(Requirement, lines)}
    assert listed == wanted


def test_classifiers_and_makefile_name_the_pythons_that_are_allowed() -> None:
    allowed = SpecifierSet(PROJECT["requires-python"])
    minors = [minor for minor in range(30) if f"3.{minor}.9" in allowed]
    named = [one.rpartition(" ")[2] for one in PROJECT["classifiers"] if " 3." in one]
    assert named == [f"3.{minor}" for minor in minors]
    makefile = (REPOSITORY / "Makefile").read_text()
    assert f"(3, {minors[0]}) <= sys.version_info[:2] <= (3, {minors[-1]})" in makefile


@pytest.mark.slow
@pytest.mark.skipif(sysconfig.get_platform() != "linux-x86_64", reason="faiss-gpu is not here")
def test_search_runs_with_faiss_cpu_in_an_environment_of_its_own(tmp_path: Path) -> None:
    """What is found with faiss-cpu is what faiss-gpu finds: exactly and by sketches."""
    put = make_store(tmp_path / "store")
    put.add({f"r{number}": 200 for number in range(10)}, scene=scenes_of(2000))
    for kind in ("exact", "sketched"):
        shutil.copytree(put.store.path, tmp_path / kind)
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    (site,) = environment.glob("lib/python*/site-packages")
    listed = next(one for one in CPU_LIST.read_text().splitlines() if one.startswith("faiss-cpu"))
    words = ["-m", "pip", "install", "--quiet", "--no-deps", listed]
    subprocess.run([python, *words], check=True)
    # Everything else comes from where the tests run, after what was just installed.
    (site / "others.pth").write_text(f"{sysconfig.get_path('platlib')}\n{REPOSITORY}\n")
    code = (
        "import contextlib, faiss, json, sys; from pathlib import Path\n"
        "sys.path.insert(0, 'tests')\n"
        "from indexer.store.reader import Store\n"
        "from search.upkeep.build import build\n"
        "from sketched import sketching\n"
        "from soundalike import open as open_store\n"
        "found = {'faiss': faiss.__file__, 'gpu': hasattr(faiss, 'StandardGpuResources')}\n"
        "for kind, how in (('exact', contextlib.nullcontext), ('sketched', sketching)):\n"
        "    path = Path(sys.argv[1], kind)\n"
        "    with how():\n"
        "        generation = build(Store.open(path))\n"
        "    assert generation.manifest.is_sketched == (kind == 'sketched')\n"
        "    hits = open_store(path).search(int(sys.argv[2]), k=20)\n"
        "    assert hits.steps[0].plan.is_exact == (kind == 'exact')\n"
        "    found[kind] = [(hit.window_id, round(hit.score, 5)) for hit in hits]\n"
        "print(json.dumps(found))\n"
    )
    window = str(put.store.snapshot().windows.window_id[0])
    answers = {}
    for name, runs in (("cpu", python), ("gpu", sys.executable)):
        words = [str(runs), "-c", code, str(tmp_path), window]
        result = subprocess.run(
            words, cwd=REPOSITORY, env=os.environ, check=True, capture_output=True, text=True
        )
        answers[name] = json.loads(result.stdout)
    assert answers["cpu"].pop("faiss").startswith(str(environment))
    assert not answers["gpu"].pop("faiss").startswith(str(environment))
    assert (answers["cpu"].pop("gpu"), answers["gpu"].pop("gpu")) == (False, True)
    assert len(answers["cpu"]["exact"]) == 20
    assert answers["cpu"] == answers["gpu"]
