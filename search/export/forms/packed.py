"""HDF5 as torchoutil 0.3 packs it, which CoNeTTE and DCASE 2024 task 6 read.

A dataset a column, a row an item. Where items differ in shape, rows are padded, and a column
`{name}_shape` says how much of each is meant; where they do not, that column is not needed, and
harmless. Text is of variable length. 0.6 has another layout, and each refuses the other's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from search.datasets.joined import Sound, Split
from search.datasets.splits import Role, renamed
from search.export.forms.hdf5 import writing_hdf5

#: The only type of text that torchoutil 0.3 makes text of again.
TEXT = h5py.string_dtype("utf-8")
_SHAPE_SUFFIX = "_shape"
#: Values that are stored together along an axis whose length differs.
_CHUNK = 32
#: What aac-datasets, which both read the sets with, calls the splits of Clotho.
_CLOTHO_SUBSETS: Mapping[Role, str] = {"train": "dev", "val": "val", "test": "eval"}
_SUBSETS: Mapping[Role, str] = {"train": "train", "val": "val", "test": "test"}


class Column(NamedTuple):
    """What a column holds of each item.

    Attributes:
        dtype: Of its values.
        shape: Of an item; None for an axis whose length differs.
    """

    dtype: Any
    shape: tuple[int | None, ...] = ()


#: What an item of either form has beside its embeddings.
DESCRIBED: Mapping[str, Column] = {
    "captions": Column(TEXT, (None,)),
    "fname": Column(TEXT),
    "dataset": Column(TEXT),
    "subset": Column(TEXT),
    "index": Column(np.int32),
}


def subset_of(split: Split) -> str:
    """Return what aac-datasets calls a split: "dev", "val" and "eval" in Clotho."""
    return renamed(split.name, _CLOTHO_SUBSETS if split.dataset == "Clotho" else _SUBSETS)


def file_name(split: Split, suffix: str) -> str:
    """Return what a file of a split is called: `clotho_dev_{suffix}.hdf`."""
    return f"{split.dataset.lower()}_{subset_of(split)}_{suffix}.hdf"


def described(split: Split, row: int, sound: Sound) -> dict[str, Any]:
    """Return the values of `DESCRIBED`."""
    return {
        "captions": list(sound.captioned.captions),
        "fname": sound.captioned.file_id,
        "dataset": split.dataset.lower(),
        "subset": subset_of(split),
        "index": row,
    }


@dataclass(frozen=True, slots=True)
class PackedForm:
    """A form of such files, by what differs between them.

    Attributes:
        suffix: What the name of a file ends in, see `file_name`.
        columns: Of the embeddings, by name; those of `DESCRIBED` are added.
        embeddings: Returns their values, of a sound that has frames.
    """

    suffix: str
    columns: Mapping[str, Column]
    embeddings: Callable[[Sound], Mapping[str, Any]]

    def places(self, split: Split, folder: Path) -> list[Path]:
        """Return where `write` writes."""
        return [folder / file_name(split, self.suffix)]

    def write(
        self,
        split: Split,
        sounds: Iterable[Sound],
        folder: Path,
        provenance: Mapping[str, str],
        force: bool = False,
    ) -> list[Path]:
        """Write the file of a split: an item per sound.

        Returns:
            What was written.
        """
        (path,) = places = self.places(split, folder)
        items = (
            {**self.embeddings(sound), **described(split, row, sound)}
            for row, sound in enumerate(sounds)
        )
        columns = {**self.columns, **DESCRIBED}
        write_packed(path, len(split.present), columns, items, provenance, force)
        return places


def write_packed(
    path: Path,
    num_items: int,
    columns: Mapping[str, Column],
    items: Iterable[Mapping[str, Any]],
    provenance: Mapping[str, str],
    force: bool,
) -> None:
    """Write a file item by item: how long the longest is shows on the way.

    Args:
        path: Of the file.
        num_items: How many there are.
        columns: By name.
        items: Of each column its value, of the shape that the column says.
        provenance: What the file was made from; as JSON in the attribute "metadata".
        force: Whether a file that is there is replaced.
    """
    with writing_hdf5(path, force) as (file, require_room):
        tables = {name: _table(file, name, num_items, one) for name, one in columns.items()}
        shapes = {
            name: file.create_dataset(
                f"{name}{_SHAPE_SUFFIX}", (num_items, len(one.shape)), "int32"
            )
            for name, one in columns.items()
            if None in one.shape
        }
        for row, item in enumerate(items):
            require_room()
            for name, table in tables.items():
                shape = np.shape(item[name])
                if name in shapes:
                    shapes[name][row] = shape
                    table.resize(np.maximum(table.shape, (num_items, *shape)))
                table[row, *(slice(length) for length in shape)] = item[name]
        for name, value in _attributes(num_items, list(shapes), provenance).items():
            file.attrs[name] = value


def _table(file: Any, name: str, num_items: int, column: Column) -> Any:
    """Make the dataset of a column; one whose items differ grows, unless there are no items."""
    shape = (num_items, *(length or 0 for length in column.shape))
    if None not in column.shape or not num_items:
        return file.create_dataset(name, shape, column.dtype)
    chunks = (1, *(length or _CHUNK for length in column.shape))
    most = (num_items, *column.shape)
    return file.create_dataset(name, shape, column.dtype, maxshape=most, chunks=chunks)


def _attributes(
    num_items: int, padded: Sequence[str], provenance: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the reader looks for in the attributes of a file."""
    return {
        "added_columns": [f"{name}{_SHAPE_SUFFIX}" for name in padded],
        "creation_date": "",
        "encoding": "utf-8",
        "file_kwargs": "{}",
        "global_hash_value": 0,
        "info": json.dumps({"written_by": provenance["written_by"]}),
        "item_type": "dict",
        "length": num_items,
        "metadata": json.dumps(dict(provenance)),
        "shape_suffix": _SHAPE_SUFFIX,
        "source_dataset": provenance["dataset"],
    }
