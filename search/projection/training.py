"""Training a projection of a store: captions in, a file beside the store out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from indexer.arrays import Float32
from indexer.library.tables import reading_table
from indexer.progress import Listen, Step, ignore
from indexer.store.own import Own
from indexer.store.reader import Store
from search.datasets.captions import Form, split_names
from search.datasets.consent import Consent
from search.datasets.finding import Unused
from search.datasets.joined import Shared
from search.datasets.provenance import training_note
from search.datasets.splits import Role
from search.generation.segments import current_name
from search.output import require_free
from search.projection.captions import (
    for_training,
    measured,
    read_matches,
    read_tables,
    require_no_leaks,
)
from search.projection.config import HASHED, Training
from search.projection.encoders import PROBE, is_file, load_encoder
from search.projection.figures import recalls
from search.projection.kept import require_no_projection, write
from search.projection.pairs import Divided, Joined, divide, join_tables, shared_sounds
from search.projection.projecting import Projection
from search.projection.tables import Projected, places_of, write_joined

#: What a projection is called unless told otherwise.
DEFAULT_NAME = "text"


@dataclass(frozen=True, slots=True)
class Trained:
    """What was trained, and on what.

    Attributes:
        projection: As it was written; its provenance has the figures.
        tables: With what is present and missing in each, without vectors.
        left_out: Role → how many sounds were left out of it, because val or test has the same, and
            an example.
        note: What a reader of figures must know of the checkpoint; None if there is nothing.
        written: What of the tables was projected and written, if that was asked for.
        has_index: Whether the store has an index, without which nothing can be asked.
        unused: What the list of which file is which sound says to no avail.
    """

    projection: Projection
    tables: tuple[Joined, ...]
    left_out: Mapping[Role, tuple[int, str]]
    note: str | None
    written: Projected | None
    has_index: bool
    unused: Unused

    @property
    def shared(self) -> tuple[Shared, ...]:
        """Tables that have sounds in common."""
        return shared_sounds(self.tables)


def train_projection(  # noqa: PLR0913 - each is a choice of its own
    store: Store,
    captions: Sequence[Path],
    own: Own,
    how: Training,
    *,
    name: str = DEFAULT_NAME,
    form: Form | None = None,
    match: Path | None = None,
    consent: Consent | None = None,
    output: Path | None = None,
    force: bool = False,
    listen: Listen = ignore,
) -> Trained:
    """Train a projection on a store's sounds and their captions, and write it.

    Args:
        store: With the sounds in it; of each the first window counts.
        captions: A table per split, see `read_tables`. Those of test are only kept apart. One alone
            is for training, whatever it is called, and a tenth of it is held out.
        own: Where it is written to.
        how: All that shapes its numbers.
        name: What it will be called.
        form: What the tables look like; None to tell by their columns.
        match: A table of which file is which sound, see `matches_of`; it counts before names.
        consent: To a checkpoint that has heard what is measured on; by default none is given.
        output: Folder where the sounds and captions are then projected to, see `write_projected`.
        force: Whether a projection of that name is replaced, and what is there in the folder.
        listen: Hears of every epoch.

    Raises:
        SoundalikeError: If a table cannot be read, none of its sounds is there, too few are left to
            train on, the checkpoint was trained on them, or the text encoder is not there.
        OutputError: If there is a projection of that name.
        StoreError: If it cannot be written.
    """
    require_no_projection(own, name, force=force)
    if output is not None:
        require_free(*places_of(split_names(captions), output), force=force)
    has_index = current_name(store) is not None  # a damaged one is told before the long work
    how, consent = _settled(how), consent or Consent()
    given = read_tables(captions, form)
    tables = for_training(given)
    leak = require_no_leaks(store, measured(tables), consent)
    matches, to_no_avail = read_matches(store, match, tables)
    listen(Step("encoding captions", 0, None, ""))
    joined = join_tables(store, tables, how.text_encoder, matches, is_asked_for=True)
    divided = divide(joined, how.seed)
    told = [one.without_vectors() for one in joined]
    if output is None:
        joined = told  # so that the vectors of all do not stay in memory
    from search.projection.learning import learn  # noqa: PLC0415 - it imports PyTorch

    learnt = learn(divided.pairs["train"], divided.pairs["val"], how, listen)
    figures = {
        role: recalls(pairs, learnt.audio, learnt.text)
        for role, pairs in divided.pairs.items()
        if role != "train"
    }
    provenance = {
        **_provenance(store, captions, how, told, divided),
        "leak": leak or "none",
        "best_epoch": learnt.best_epoch,
        "num_epochs": learnt.num_epochs,
        "figures": figures,
    }
    projection = Projection(
        name,
        learnt.audio,
        learnt.text,
        _probe(how),
        np.unique(divided.pairs["train"].recordings),
        provenance,
    )
    made = write(own, projection, force=force)
    written = None
    if output is not None:
        leak = require_no_leaks(store, given, consent)
        written = write_joined(
            store, joined, made, output, leak, to_no_avail, force=force, listen=listen
        )
    return Trained(
        projection=made,
        tables=tuple(told),
        left_out=divided.left_out,
        note=training_note(store),
        written=written,
        has_index=has_index,
        unused=to_no_avail,
    )


def _settled(how: Training) -> Training:
    """Return how to train, with an encoder that is found from every folder."""
    path = Path(how.text_encoder)
    is_path = how.text_encoder != HASHED and path.exists()
    return replace(how, text_encoder=str(path.resolve())) if is_path else how


def _probe(how: Training) -> Float32:
    if is_file(how.text_encoder):
        return np.empty(0, np.float32)
    return np.ascontiguousarray(load_encoder(how.text_encoder, is_asked_for=True)([PROBE])[0])


def _provenance(
    store: Store,
    captions: Sequence[Path],
    how: Training,
    joined: Sequence[Joined],
    divided: Divided,
) -> dict[str, Any]:
    return {
        **asdict(how),
        "checkpoint": store.checkpoint,
        "weights": store.identity.weights,
        "native": store.identity.native,
        "tables": {
            one.table.name: {
                "role": one.table.role,
                "sha256": _digest(path),
                "num_sounds": len(one.pairs.ids),
                "num_captions": len(one.pairs.owners),
                "num_missing": len(one.split.missing),
            }
            for path, one in zip(captions, joined, strict=True)
        },
        "splits": {role: len(pairs.ids) for role, pairs in divided.pairs.items()},
        "left_out": {role: number for role, (number, _) in divided.left_out.items()},
        "written_by": f"soundalike {version('soundalike')}",
    }


def _digest(path: Path) -> str:
    """Return the SHA-256 of a table that was read just now."""
    with reading_table(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
