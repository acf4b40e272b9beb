"""Filling a store: what is new in a library is embedded here, as one of many shards, or by Ray."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from indexer.errors import QueryError, SoundalikeError
from indexer.library.shards import Shard
from indexer.paths import as_path
from indexer.run.cluster import connect
from indexer.run.config import ExtractConfig, Settings
from indexer.run.spread import embed_spread, require_workers
from indexer.run.survey import Survey, find_files, survey
from indexer.store.stage import Stage
from soundalike.arguments import split_fields
from soundalike.kept import Kept

if TYPE_CHECKING:  # torch takes seconds to import; most runs find nothing new
    from indexer.run.report import ExtractReport

StorePath = str | os.PathLike[str]


class Means(NamedTuple):
    """Who embeds a library; by default this process does, all of it.

    Attributes:
        shard: One share of the library only, "3/16" the third of sixteen …
        stage: … and the folder for shards, beside the store.
        ray: The address of a Ray cluster that embeds; True for the one that is there, or a new one
            on this machine.
        ray_workers: How many workers it gives; None for one for each GPU or each machine.
    """

    shard: str | None = None
    stage: StorePath | None = None
    ray: bool | str = False
    ray_workers: int | None = None

    @property
    def address(self) -> str | None:
        """Where the cluster is, as `connect` takes it."""
        return self.ray if isinstance(self.ray, str) else None

    def require_one(self, settings: Settings) -> None:
        """Raise unless they go together.

        Raises:
            QueryError: If they do not.
        """
        if not isinstance(self.ray, (bool, str)):
            raise QueryError(f"a Ray cluster is True, or its HOST:PORT, got {self.ray!r}")
        if self.ray is False:
            if self.ray_workers is not None:
                raise QueryError("workers of a cluster are asked for, and no cluster", about="ray")
            return
        if self.shard is not None or self.stage is not None:
            raise QueryError(
                "a cluster embeds the whole library, and a shard is one share of it: ask for one "
                "of the two"
            )
        require_workers(settings, self.ray_workers)


def extract(
    kept: Kept, library: StorePath, means: Means, settings: dict[str, Any]
) -> ExtractReport:
    """Embed what is new or changed in a library, see `soundalike.stores.Stores.extract`.

    Args:
        kept: The store, and its network.
        library: Its folder, or a pack.
        means: Who embeds it.
        settings: Fields of `Settings` and `ExtractConfig`.
    """
    part, staged = _stage_of(means.shard, means.stage)
    shaping, behaving = split_fields((Settings, ExtractConfig), settings)
    config, listen = ExtractConfig(**behaving), kept.listen
    shaped = replace(kept.settings, **shaping)
    means.require_one(shaped)
    if staged and staged.resolve().is_relative_to(kept.paths[0].resolve()):
        raise QueryError(f"{staged} lies in the store; a stage lies beside it", about="stage")
    kept.check_place(shaped, staged)  # before the walk, and before any download
    if means.ray is not False:
        connect(means.address)
    found = find_files(as_path("a library", library), config, listen, store=kept.paths[0])
    store = kept.prepare(shaped)
    if part and staged:
        found, store = part.of(found), Stage.beside(store, staged)
    with survey(found, store, config, listen) as surveyed:
        if not surveyed.has_files_to_read:
            return surveyed.settle(config)
        if means.ray is not False:
            return embed_spread(
                surveyed,
                shaped,
                config,
                listen,
                address=means.address,
                num_workers=means.ray_workers,
            )
        return _embed_here(surveyed, kept, config)


def _embed_here(surveyed: Survey, kept: Kept, config: ExtractConfig) -> ExtractReport:
    extractor = kept.load(surveyed.store)
    from indexer.run.extract import embed_new  # noqa: PLC0415 - it imports PyTorch

    return embed_new(surveyed, extractor, config, kept.listen)


def _stage_of(shard: str | None, stage: StorePath | None) -> tuple[Shard, Path] | tuple[None, None]:
    """Return which shard is embedded, and where; nothing if it is the whole library.

    Raises:
        QueryError: If there is only one of the two, or the shard is none.
    """
    if shard is None and stage is None:
        return None, None
    if stage is None:
        raise QueryError("a shard is given, and no stage with it", about="stage")
    if shard is None:
        raise QueryError("a stage is given, and no shard with it", about="shard")
    part = Shard.parse(shard)
    return part, as_path("a stage", stage) / part.folder_name


@contextmanager
def keeping(report: object, told: str) -> Iterator[None]:
    """Let no error in the last step of long work lose what was done before.

    Args:
        report: Of that; the error has it as its `report`.
        told: The same in words, for a note of the error.
    """
    try:
        yield
    except SoundalikeError as error:
        error.report = report
        error.add_note(f"before that, {told}, which is kept; build() takes it from there")
        raise
