"""A generation's manifest: what is written comes back byte for byte, and nonsense is damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from indexer.errors import DamagedStoreError, StoreError
from indexer.store.disk import read_sealed, seal
from search.generation.manifest import (
    GENERATION_FILE,
    UNMEASURED,
    Effort,
    FileEntry,
    Manifest,
    Measured,
    SegmentEntry,
    SketchEntry,
    describe_files,
    digests,
)

GOLDEN = Path(__file__).parent / "golden" / "store-0.1.0" / "index"
DIGEST = "ab" * 32
FILES = {"a.raw": [7, DIGEST]}

#: As it is written for a store with sketches.
DOCUMENT: dict[str, Any] = {
    "format": 12,
    "num_windows": 600,
    "segments": [
        {
            "name": "c" * 32,
            "shelf": "d" * 32,
            "num_rows": 601,
            "num_columns": 672,
            "files": FILES,
            "sketch": {
                "num_scenes": 64,
                "num_roots": 32,
                "num_lists": 3,
                "num_listed": 599,
                "num_clumps": 40,
                "half_width": 0.75,
            },
        }
    ],
    "effort": {
        "target": 0.99,
        "num_rows": 580,
        "measured": [
            [1.0, 0.7, 8192, 0.0018, 0.0009, 60, 0.999, 0.5],
            [0.1, 0.55, 4096, 0.002, 0.0007, 60, 0.998, 1.5],
        ],
        "segments": ["c" * 32],
    },
    "files": {"parts.txt": [0, DIGEST]},
}
MANIFEST = Manifest(
    num_windows=600,
    segments=(
        SegmentEntry(
            "c" * 32,
            "d" * 32,
            601,
            672,
            {"a.raw": FileEntry(7, DIGEST)},
            SketchEntry(64, 32, 3, 599, 40, 0.75),
        ),
    ),
    effort=Effort(
        target=0.99,
        num_rows=580,
        measured=(
            Measured(1.0, 0.7, 8192, 0.0018, 0.0009, 60, 0.999, 0.5),
            Measured(0.1, 0.55, 4096, 0.002, 0.0007, 60, 0.998, 1.5),
        ),
        segments=("c" * 32,),
    ),
    files={"parts.txt": FileEntry(0, DIGEST)},
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the manifest of a generation is."""
    folder = tmp_path / "store" / "index" / "00000001-0123abcd"
    folder.mkdir(parents=True)
    return folder / GENERATION_FILE


def test_manifest_is_read_as_what_it_says(file: Path) -> None:
    file.write_bytes(seal(DOCUMENT))
    assert Manifest.read(file) == MANIFEST


def test_manifest_is_written_as_what_it_is(file: Path) -> None:
    MANIFEST.write(file)
    assert file.read_bytes() == seal(DOCUMENT)
    assert MANIFEST.is_sketched


def test_manifest_without_sketches_is_written_without_any(file: Path) -> None:
    segment = {**DOCUMENT["segments"][0], "sketch": None}
    effort = {"target": 0.9, "num_rows": 0, "measured": [], "segments": []}
    content = seal({**DOCUMENT, "segments": [segment], "effort": effort})
    file.write_bytes(content)
    manifest = Manifest.read(file)
    assert not manifest.is_sketched
    assert manifest.segments[0].sketch is None
    assert manifest.effort == replace(UNMEASURED, target=0.9)
    manifest.write(file)
    assert file.read_bytes() == content


def changed(document: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """Return a copy of a document in which one place is changed."""
    copy = dict(document) if isinstance(document, dict) else list(document)
    if len(path) == 1:
        change(copy, path[0])
    else:
        copy[path[0]] = changed(copy[path[0]], path[1:], change)
    return copy


def paths_of(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every value in a document, but to what has a digest as its name."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    found = []
    for key, value in items:
        found.append((*path, key))
        if isinstance(value, (dict, list)):
            found += paths_of(value, (*path, key))
    return found


def remove(holder: Any, key: Any) -> None:
    del holder[key]


def put(value: object) -> Callable[[Any, Any], None]:
    return lambda holder, key: holder.__setitem__(key, value)


FIELDS = [path for path in paths_of(DOCUMENT) if path != ("format",)]
#: Where less is still a manifest: an entry of a list or of `files`, and a segment without a sketch.
OPTIONAL = {
    ("segments", 0),
    ("segments", 0, "files", "a.raw"),
    ("segments", 0, "sketch"),
    ("effort", "measured", 0),
    ("effort", "measured", 1),
    ("effort", "segments", 0),
    ("files", "parts.txt"),
}


COUNTS = [
    ("segments", 0, "num_rows"),
    *(("segments", 0, "sketch", name) for name in ("num_scenes", "num_roots", "num_lists")),
    *(("segments", 0, "sketch", name) for name in ("num_listed", "num_clumps")),
    ("effort", "num_rows"),
]


@pytest.mark.parametrize("path", [path for path in FIELDS if path not in OPTIONAL])
def test_manifest_without_a_field_is_damage(file: Path, path: tuple[Any, ...]) -> None:
    file.write_bytes(seal(changed(DOCUMENT, path, remove)))
    with pytest.raises(DamagedStoreError, match=GENERATION_FILE):
        Manifest.read(file)


@pytest.mark.parametrize("value", [True, [None], {"": 0}, "../x"])
@pytest.mark.parametrize("path", FIELDS)
def test_manifest_with_a_wrong_field_is_damage(
    file: Path, path: tuple[Any, ...], value: object
) -> None:
    if path[-2:-1] and path[-1] == 1 and value == "../x":
        return  # a digest that nothing has: the file will be found damaged
    file.write_bytes(seal(changed(DOCUMENT, path, put(value))))
    with pytest.raises(DamagedStoreError, match=GENERATION_FILE):
        Manifest.read(file)


@pytest.mark.parametrize("value", [-1, 10**13, float("nan"), float("inf"), 1.5])
@pytest.mark.parametrize("path", COUNTS)
def test_manifest_with_a_count_that_is_none_is_damage(
    file: Path, path: tuple[Any, ...], value: float
) -> None:
    file.write_bytes(seal(changed(DOCUMENT, path, put(value))))
    with pytest.raises(DamagedStoreError, match=GENERATION_FILE):
        Manifest.read(file)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "\0", "/etc/passwd", ".tmp-a"])
def test_manifest_that_names_files_elsewhere_is_damage(file: Path, name: str) -> None:
    segment = DOCUMENT["segments"][0]
    for document in (
        changed(DOCUMENT, ("segments", 0, "name"), put(name)),
        {**DOCUMENT, "segments": [{**segment, "files": {name: [0, DIGEST]}}]},
        {**DOCUMENT, "files": {name: [0, DIGEST]}},
    ):
        file.write_bytes(seal(document))
        with pytest.raises(DamagedStoreError, match="no name of a file"):
            Manifest.read(file)


@pytest.mark.parametrize("number", [2, 3, 4, 5, None, "6"])
def test_manifest_of_another_version_says_what_helps(file: Path, number: object) -> None:
    file.write_bytes(seal({**DOCUMENT, "format": number}))
    with pytest.raises(StoreError, match="another version") as caught:
        Manifest.read(file)
    assert (caught.value.about, caught.value.value) == ("build", file.parents[2])


def test_manifest_of_an_older_version_says_what_helps(file: Path) -> None:
    [old] = GOLDEN.glob(f"*/{GENERATION_FILE}")
    file.write_bytes(old.read_bytes())
    with pytest.raises(StoreError, match="another version") as caught:
        Manifest.read(file)
    assert (caught.value.about, caught.value.value) == ("build", file.parents[2])


def test_manifest_that_is_missing_is_damage(file: Path) -> None:
    with pytest.raises(DamagedStoreError, match="missing"):
        Manifest.read(file)


def test_describe_files_has_the_size_and_digest_of_each(file: Path) -> None:
    file.write_bytes(b"abc")
    files = describe_files([file])
    digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert files == {GENERATION_FILE: FileEntry(3, digest)}
    assert digests(files) == {GENERATION_FILE: digest}


def test_manifest_reads_what_it_wrote(file: Path) -> None:
    MANIFEST.write(file)
    assert Manifest.read(file) == MANIFEST
    assert read_sealed(file) == DOCUMENT
