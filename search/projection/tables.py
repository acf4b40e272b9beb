"""Projected sounds and captions as files, for `eval retrieval` and whoever else ranks them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexer.arrays import Float32
from indexer.errors import QueryError
from indexer.progress import Listen, Step, ignore
from indexer.store.reader import Store
from search.datasets.captions import Form
from search.datasets.consent import Consent
from search.datasets.finding import Unused
from search.datasets.joined import Shared, Source
from search.datasets.provenance import store_provenance, training_note
from search.generation.writing import normalise
from search.output import make_folder, require_free, writing
from search.projection.captions import read_matches, read_tables, require_no_leaks
from search.projection.encoders import encode_as, is_file
from search.projection.pairs import Joined, join_tables, same_sounds, shared_sounds
from search.projection.projecting import Projection
from search.projection.rows import require_weights


@dataclass(frozen=True, slots=True)
class Projected:
    """What was written.

    Attributes:
        tables: With what is present and missing in each.
        num_heard: Table → how many of its sounds the projection was trained on.
        files: Of all tables.
        leak: What is wrong with evaluating on this; None if nothing is.
        unused: What the list of which file is which sound says to no avail.
    """

    tables: tuple[Joined, ...]
    num_heard: Mapping[str, int]
    files: tuple[Path, ...]
    leak: str | None
    unused: Unused

    @property
    def shared(self) -> tuple[Shared, ...]:
        """Tables that have sounds in common."""
        return shared_sounds(self.tables)


def places_of(tables: Sequence[str], folder: Path) -> list[Path]:
    """Return where `write_projected` writes, table by table: first sounds, then captions."""
    return [folder / f"{name}_{side}.npz" for name in tables for side in ("audio", "text")]


def write_projected(  # noqa: PLR0913 - each is a choice of its own
    store: Store,
    captions: Sequence[Path],
    projection: Projection,
    folder: Path,
    *,
    text_encoder: str | None = None,
    form: Form | None = None,
    match: Path | None = None,
    consent: Consent | None = None,
    force: bool = False,
    listen: Listen = ignore,
) -> Projected:
    """Write `{table}_audio.npz` and `{table}_text.npz`: ids, embeddings (n, d) and provenance.

    Args:
        store: With the sounds in it.
        captions: See `read_tables`.
        projection: Trained on a store of the same checkpoint.
        folder: Where to; it is made.
        text_encoder: A file of vectors, if it was trained with such; else its own encoder, which
            has to be named if it is a path or not on this machine, see `encode_as`.
        form: What the tables look like; None to tell by their columns.
        match: A table of which file is which sound, see `matches_of`; it counts before names.
        consent: To a checkpoint that has heard what is measured on; by default none is given.
        force: Whether files that are there are replaced.
        listen: Hears of every table.

    Returns:
        What was written. A file of a table whose sounds were trained on says so, and
        `search.evaluation.retrieval` repeats it.

    Raises:
        SoundalikeError: If a table cannot be read, none of its sounds is there, or the checkpoint
            was trained on them.
        IdentityError: If the projection was trained on another checkpoint.
        QueryError: If texts cannot be encoded as those were that it was trained with.
        OutputError: If one of the files is there already, or cannot be written.
    """
    require_weights(projection, store)
    encoder = _encoder(projection, text_encoder)
    tables = read_tables(captions, form)
    leak = require_no_leaks(store, tables, consent or Consent())
    matches, to_no_avail = read_matches(store, match, tables)
    require_free(*places_of([one.name for one in tables], folder), force=force)
    named = text_encoder is not None
    joined = join_tables(store, tables, encoder, matches, is_asked_for=named)
    _require_dimensions(joined, projection, encoder)
    return write_joined(
        store, joined, projection, folder, leak, to_no_avail, force=force, listen=listen
    )


def write_joined(  # noqa: PLR0913 - each is a choice of its own
    store: Store,
    joined: Sequence[Joined],
    projection: Projection,
    folder: Path,
    leak: str | None,
    unused: Unused,
    *,
    force: bool = False,
    listen: Listen = ignore,
) -> Projected:
    """Write what `write_projected` does of tables that are joined already, and encoded.

    Args:
        store: With the sounds in it.
        joined: Tables, with vectors of the projection's own encoder.
        projection: Trained on a store of the same checkpoint.
        folder: Where to; it is made.
        leak: What is wrong with evaluating on these tables; None if nothing is.
        unused: What the list of which file is which sound says to no avail.
        force: Whether files that are there are replaced.
        listen: Hears of every table.

    Raises:
        OutputError: If one of the files is there already, or cannot be written.
    """
    places = places_of([one.table.name for one in joined], folder)
    make_folder(folder)
    scenes = normalise(Source(store).scenes_of(projection.heard))
    heard = {
        one.table.name: int(same_sounds(one.pairs, projection.heard, scenes).sum())
        for one in joined
    }
    for number, one in enumerate(joined):
        audio, text = places[2 * number : 2 * number + 2]
        told = _provenance(projection, store, _leaks(leak, projection, heard[one.table.name]))
        ids, owners = np.array(one.pairs.ids, np.str_), one.pairs.owners
        _write(audio, ids, projection.audio(one.pairs.audio), told, force=force)
        _write(text, ids[owners], projection.text(one.pairs.text), told, force=force)
        listen(Step("writing", number + 1, len(joined), "table"))
    return Projected(tuple(joined), heard, tuple(places), leak, unused)


def _encoder(projection: Projection, text_encoder: str | None) -> str:
    """Return what encodes captions as those were that a projection was trained with."""
    if projection.encoder is not None:
        if text_encoder is not None and is_file(text_encoder):
            raise QueryError(
                f"the projection {projection.name} was trained with the text encoder "
                f"{projection.encoder}, and captions are encoded in the same way, not by "
                f"{text_encoder}"
            )
        encode_as(projection, [], text_encoder)  # that it has changed since is an error
        return text_encoder or projection.encoder
    if text_encoder is None or not is_file(text_encoder):
        raise QueryError(
            f"the projection {projection.name} was trained with vectors from a file; give the file "
            f"that has the vectors of these captions",
            about="text_encoder",
        )
    return text_encoder


def _require_dimensions(joined: Sequence[Joined], projection: Projection, encoder: str) -> None:
    wanted = len(projection.text.mean)
    found = {one.pairs.text.shape[1] for one in joined} - {wanted}
    if found:
        raise QueryError(
            f"vectors of {encoder} have {found.pop()} dimensions, and those that the projection "
            f"{projection.name} was trained with {wanted}; encode these captions as those were"
        )


def _leaks(leak: str | None, projection: Projection, num_heard: int) -> str:
    """Return all that is wrong with evaluating on a table; "none" if nothing is."""
    before = str(projection.provenance["leak"])
    heard = f"the projection {projection.name} was trained on {num_heard:,} of these sounds"
    told = (leak, None if before == "none" else before, heard if num_heard else None)
    return "; ".join(dict.fromkeys(filter(None, told))) or "none"


def _provenance(projection: Projection, store: Store, leak: str) -> str:
    note = training_note(store)
    return json.dumps(
        {
            "projection": projection.name,
            "tensors": projection.digest,
            **store_provenance(store),
            **({"note": note} if note else {}),
            "leak": leak,
        }
    )


def _write(path: Path, ids: np.ndarray, vectors: Float32, provenance: str, *, force: bool) -> None:
    with writing(path, force=force) as file:
        np.savez(file, ids=ids, embeddings=vectors, provenance=np.array(provenance))
