"""The architecture as a newcomer sees it: few rooms, each named, no circle, nothing too long."""

from __future__ import annotations

import re
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest
from conftest import REPOSITORY

PACKAGES = ("indexer", "search", "soundalike")


def rooms_of(package: str) -> list[str]:
    """What stands in a folder beside `__init__`: modules by name, rooms with a slash."""
    found = []
    for path in (REPOSITORY / package).iterdir():
        if path.is_dir() and (path / "__init__.py").exists():
            found.append(f"{path.name}/")
        elif path.suffix == ".py" and path.stem != "__init__":
            found.append(path.stem)
    return sorted(found)


def listed(package: str) -> list[str]:
    """What CONTRIBUTING names of a package, in its order."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    listing = text.split("## Where things are")[1].split("\n\nThe import contracts")[0]
    block = re.search(rf"^    {package}/ .*\n((?:      .*\n)+)", listing, re.MULTILINE)
    assert block
    names = [re.split(r"  +", line.strip())[0] for line in block[1].splitlines()]
    return [one for name in names for one in name.split(", ")]


@pytest.mark.parametrize(("package", "most"), [("search", 12), ("indexer", 14)])
def test_folder_shows_few_entries(package: str, most: int) -> None:
    assert len(rooms_of(package)) <= most


def test_contributing_names_every_room_and_none_that_is_not_there() -> None:
    for package in PACKAGES:
        assert sorted(listed(package)) == rooms_of(package)


def test_contributing_lists_rooms_as_the_contracts_have_them() -> None:
    """What stands below is what may be imported: a list in another order says what is not so."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    for package in PACKAGES:
        (layers,) = (one["layers"] for one in contracts if one.get("containers") == [package])
        heights = {
            name: height for height, layer in enumerate(layers) for name in layer.split(" | ")
        }
        of_rooms = [heights[name.rstrip("/")] for name in listed(package)]
        assert of_rooms == sorted(of_rooms), package


def test_no_module_is_two_ideas() -> None:
    long = [
        (str(path.relative_to(REPOSITORY)), number)
        for package in PACKAGES
        for path in (REPOSITORY / package).rglob("*.py")
        if (number := len(path.read_text().splitlines())) > 400
    ]
    assert long == []


def test_imports_have_no_circle() -> None:
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    edges = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    TopologicalSorter(edges).prepare()  # raises where there is one
    assert len(edges) > 100


def test_every_room_says_what_it_is_for() -> None:
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("__init__.py"):
            assert re.match(r'"""[A-Z].{10,}', path.read_text()), path


def test_glossary_names_what_is_there() -> None:
    """The last column is code: modules, and names in them."""
    rows = re.findall(
        r"^\| .* \| `([\w.]+)` \|$", (REPOSITORY / "docs/glossary.md").read_text(), re.M
    )
    assert len(rows) > 25
    source = "\n".join(
        path.read_text() for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")
    )
    for name in rows:
        *modules, last = name.split(".")
        if (
            Path(REPOSITORY, *name.split(".")).is_dir()
            or Path(REPOSITORY, *modules, f"{last}.py").exists()
        ):
            continue
        assert re.search(
            rf"\b(?:class|def) {last}\b|^{last}\b|^    {last}: |\"{last}\"", source, re.M
        ), name
        if modules and modules[0] in PACKAGES and len(modules) > 1:
            assert Path(REPOSITORY, *modules).with_suffix(".py").exists(), name
