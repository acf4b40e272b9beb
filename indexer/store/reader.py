"""Reading a store: its identity, its parts, its ledger, and its live windows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from safetensors.numpy import load as load_safetensors

from indexer.errors import DamagedStoreError, StoreError
from indexer.store.disk import read_sealed, sha256_of
from indexer.store.ledger import (
    ID_DTYPE,
    LEDGER_COLUMNS,
    Ids,
    Integers,
    Ledger,
    contains,
    id_bytes,
    ids_from_column,
    last_of_each,
)
from indexer.store.part import Part, part_names, reading
from indexer.store.schema import FILES_SCHEMA, FORMAT_VERSION, Identity, LedgerRow
from indexer.store.snapshot import Float32, Snapshot

STORE_FILE = "store.json"
LIBRARIES_FILE = "libraries.json"
HEAD_FILE = "head.safetensors"
PARTS_FOLDER = "parts"


class Head(NamedTuple):
    """The classifier of the checkpoint, kept so that tags can be checked and refined without it.

    Attributes:
        weight: (527, 768) float32; tags = sigmoid(weight @ scene + bias).
        bias: (527,) float32.
        norm_weight: (768,) float32, of the final LayerNorm, eps 1e-6.
        norm_bias: (768,) float32.
    """

    weight: Float32
    bias: Float32
    norm_weight: Float32
    norm_bias: Float32

    def tags(self, scene: Float32) -> Float32:
        """Return (n, 527) probabilities for (n, 768) scene embeddings."""
        with np.errstate(over="ignore", invalid="ignore"):  # exp may be inf: 1 / inf is right
            logits = scene @ self.weight.T + self.bias
            return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


@dataclass(frozen=True, slots=True)
class Store:
    """A directory of embeddings.

    Attributes:
        path: The directory.
        identity: How everything in it was computed.
        checkpoint: Name or file of the checkpoint, as it was given when the store was made.
        head_digest: SHA-256 of head.safetensors.
    """

    path: Path
    identity: Identity
    checkpoint: str
    head_digest: str

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a store for reading.

        Raises:
            StoreError: If there is none at `path`, or one of a version that this code cannot read.
            DamagedStoreError: If store.json is not what was written.
        """
        with reading(path / STORE_FILE):
            try:
                document = read_sealed(path / STORE_FILE)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise StoreError(
                    f"no store at {path}; 'soundalike index LIBRARY --store {path}' makes one"
                ) from error
            if document["format_version"] != FORMAT_VERSION:
                raise StoreError(
                    f"{path} has format {document['format_version']}, this version reads "
                    f"{FORMAT_VERSION}; install the version of soundalike that wrote it: "
                    f"{document['written_by']}"
                )
            identity = Identity.from_dict(document["identity"])
            return cls(path, identity, document["checkpoint"], document["head_sha256"])

    def part_names(self) -> list[str]:
        """Return the names of all committed parts, oldest first, replaced ones included."""
        with reading(self.path / PARTS_FOLDER):
            return part_names(self.path / PARTS_FOLDER)

    def parts(self) -> list[Part]:
        """Return the parts that count, oldest first: those that no other part replaces."""
        parts = [Part.open(self.path / PARTS_FOLDER / name) for name in self.part_names()]
        replaced = {name for part in parts for name in part.replaces}
        return [part for part in parts if part.name not in replaced]

    def ledger(self, parts: Sequence[Part] | None = None) -> Ledger:
        """Return the last word on every path."""
        return Ledger(self.files(LEDGER_COLUMNS, parts))

    def files(
        self, columns: Iterable[str] = FILES_SCHEMA.names, parts: Sequence[Part] | None = None
    ) -> pa.Table:
        """Return ledger rows of all parts, oldest first: the history, not only the last word."""
        chosen = self.parts() if parts is None else parts
        names = list(columns)
        empty = FILES_SCHEMA.empty_table().select(names)
        tables = (part.ledger(names) for part in chosen)
        return pa.concat_tables([empty, *tables]).combine_chunks()

    def latest_files(self, columns: Sequence[str] = FILES_SCHEMA.names) -> pa.Table:
        """Return the last ledger row of every path, ordered by path_id."""
        wanted = list(columns)
        rows = self.files(dict.fromkeys(["path_id", *wanted]))
        return rows.take(last_of_each(rows["path_id"].to_numpy())).select(wanted)

    def files_at(self, path_ids: Integers) -> list[LedgerRow]:
        """Return the last ledger row of some paths, as objects."""
        if not len(path_ids):
            return []
        rows = self.latest_files()
        chosen = rows.filter(np.isin(rows["path_id"].to_numpy(), path_ids))
        return [LedgerRow(**row) for row in chosen.to_pylist()]

    def libraries(self) -> dict[str, Path]:
        """Return library_id → last known root."""
        file = self.path / LIBRARIES_FILE
        with reading(file):
            if not file.exists():
                return {}
            return {key: Path(root) for key, root in read_sealed(file)["roots"].items()}

    def head(self) -> Head:
        """Return the classifier head and the final LayerNorm of the store's checkpoint.

        Raises:
            DamagedStoreError: If the file is not what was written.
        """
        file = self.path / HEAD_FILE
        with reading(file):
            if sha256_of(file) != self.head_digest:
                raise DamagedStoreError(
                    f"{file} is damaged: its digest is not that in {STORE_FILE}"
                )
            tensors = load_safetensors(file.read_bytes())
            return Head(*(tensors[name] for name in Head._fields))

    def snapshot(self, parts: Sequence[Part] | None = None) -> Snapshot:
        """Return the live windows: those of recordings that some path still names."""
        chosen = self.parts() if parts is None else list(parts)
        return Snapshot(chosen, self.ledger(chosen).live_recordings(), self.identity.frames)

    def partial_windows(self, parts: Sequence[Part], known: Ids) -> dict[bytes, frozenset[int]]:
        """Return the windows of recordings that a run began and did not finish.

        Args:
            parts: Of the store, oldest first.
            known: Sorted content ids of finished recordings (`Ledger.known`).

        Returns:
            Recording id → the ids of its windows that are in the store.
        """
        begun: dict[bytes, set[int]] = {}
        for part in parts:
            wanted = np.array(part.unfinished, ID_DTYPE)
            wanted = np.sort(wanted[~contains(known, wanted)])
            if len(wanted):
                table = part.windows(("window_id", "recording_id"))
                recordings = ids_from_column(table["recording_id"])
                for row in np.flatnonzero(contains(wanted, recordings)):
                    windows = begun.setdefault(id_bytes(recordings[row]), set())
                    windows.add(table["window_id"][int(row)].as_py())
        return {recording: frozenset(windows) for recording, windows in begun.items()}
