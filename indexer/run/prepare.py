"""Before a run: the store that is written to, and the extractor that fits it."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from indexer.embedding.identity import identify
from indexer.errors import QueryError, StoreError
from indexer.model.known import DEFAULT_CHECKPOINT, known_as, name_now, recall_weights
from indexer.paths import as_place
from indexer.progress import LOADING, Listen, ignore
from indexer.run.config import Settings
from indexer.store.creation import create_store, open_matching, require_matching, require_place
from indexer.store.reader import Store
from indexer.store.schema import STORE_FILE, FramesMode
from indexer.windows import SAMPLE_RATE_HZ, Geometry, Level

if TYPE_CHECKING:  # it imports PyTorch, which takes seconds
    from indexer.embedding.extractor import Extractor


def default_store(library: Path) -> Path:
    """Return where the store of a library is unless told otherwise: `./<name>.soundalike`.

    Raises:
        StoreError: If it would be new, and there is a store of that name beside the library: made
            from another folder, it may hold all that would be embedded again.
    """
    library = as_place(library).resolve()
    here, beside = (folder / f"{library.name}.soundalike" for folder in (Path(), library.parent))
    if not (here / STORE_FILE).exists() and (beside / STORE_FILE).exists():
        raise StoreError(
            f"there is no {here} in this folder, but {beside} is there already, beside the "
            f"library; name the store that you mean, this one or a new one",
            about="other_store",
            value=beside,
        )
    return here


def check_place(path: Path, settings: Settings, stage: Path | None = None) -> None:
    """Raise unless a run could write to a store there, as far as that is known without a network.

    Args:
        path: Directory of the store.
        settings: What was asked for.
        stage: Where to, beside the store, if not into it.

    Raises:
        IdentityError: If the store was made with other settings; names them.
        StoreError: If it cannot be opened, written to, or made.
    """
    existing = _open_if_there(path)
    if stage:
        require_place(stage, "stage")
    if not (stage and existing):
        require_place(path)
    if existing:
        wanted = _wanted(settings, existing)
        require_matching(existing, identify(existing.identity.weights, *wanted[1:]))


def prepare(
    path: Path, settings: Settings | None = None, listen: Listen = ignore
) -> tuple[Store, Extractor]:
    """Open the store at a path, or create it, with the extractor that its embeddings need.

    Args:
        path: Directory of the store.
        settings: What was asked for.
        listen: Hears that the network is loaded, and how far a checkpoint is downloaded.

    Raises:
        CheckpointError: If the checkpoint is not there or not what it should be.
        IdentityError: If the store was made with other settings; names them.
        StoreError: If the store cannot be opened or created.
    """
    settings = settings or Settings()
    existing = _open_if_there(path)
    wanted = _wanted(settings, existing)
    listen(LOADING)
    from indexer.embedding.extractor import Extractor  # noqa: PLC0415 - it imports PyTorch
    from indexer.model.checkpoint import load_checkpoint  # noqa: PLC0415 - likewise

    extractor = Extractor(
        load_checkpoint(wanted.checkpoint, listen=listen),
        device=settings.device,
        precision=settings.precision,
        frames=wanted.frames,
        level=wanted.level,
    )
    identity = extractor.identity(wanted.geometry, wanted.channel)
    if existing:
        return open_matching(path, identity), extractor
    asked = known_as(wanted.checkpoint)
    loaded = extractor.checkpoint
    store = create_store(
        path,
        identity,
        extractor.head(),
        checkpoint=asked.name if asked else str(loaded.path.resolve()),
        known=loaded.known.name if loaded.known else None,
        written_by=f"soundalike {version('soundalike')}",
    )
    listen(f"a new store: {path.absolute()}")
    return store, extractor


def reopen(path: Path, settings: Settings) -> Store | None:
    """Open the store at a path, if what was asked for fits it, without loading the network.

    Args:
        path: Directory of the store.
        settings: What was asked for.

    Returns:
        The store; None if there is none, or if only loading the checkpoint can tell whether it is
        the store's. One that nobody asked for, and that was never loaded here, is taken to be.

    Raises:
        IdentityError: If the store was made with other settings; names them.
        StoreError: If the store cannot be opened.
    """
    existing = _open_if_there(path)
    if existing is None:
        return None
    wanted, weights = _wanted(settings, existing), existing.identity.weights
    remembered = recall_weights(wanted.checkpoint)
    if remembered != weights and not (remembered is None and settings.checkpoint is None):
        return None  # what is remembered refuses nothing: the weights themselves do
    require_matching(existing, identify(weights, *wanted[1:]))
    return existing


class _Wanted(NamedTuple):
    checkpoint: str
    frames: FramesMode
    geometry: Geometry
    channel: int | None
    level: Level


def _open_if_there(path: Path) -> Store | None:
    return Store.open(path) if (path / STORE_FILE).exists() else None


def _wanted(settings: Settings, existing: Store | None) -> _Wanted:
    """Return what was asked for; what was not is the store's, or the default."""
    identity = existing.identity if existing else None
    return _Wanted(
        settings.checkpoint or (_made_with(existing) if existing else DEFAULT_CHECKPOINT),
        settings.frames or (identity.frames if identity else "pooled"),
        _geometry(settings, identity.geometry if identity else _default_geometry(settings)),
        settings.channel or (identity.channel if identity else None),
        settings.level or (identity.level if identity else "off"),
    )


def _default_geometry(settings: Settings) -> Geometry:
    """Return how a new store is cut: native windows have the length of what is published."""
    return Geometry(padding="zero" if settings.native else "repeat")


def _made_with(store: Store) -> str:
    return name_now(store.checkpoint, store.identity.weights)


def _geometry(settings: Settings, default: Geometry) -> Geometry:
    given: dict[str, Any] = {}
    if settings.hop_s is not None:
        given["hop_samples"] = round(settings.hop_s * SAMPLE_RATE_HZ)
    if settings.native is not None:
        given["native"] = settings.native
    if settings.native_max_s is not None:
        given["native_samples"] = round(settings.native_max_s * SAMPLE_RATE_HZ)
    if settings.padding is not None:
        given["padding"] = settings.padding
    geometry = replace(default, **given)
    if settings.native_max_s is not None and not geometry.native:
        raise QueryError(
            f"recordings of up to {settings.native_max_s:g} s are one window only if windows have "
            f"the native length of recordings",
            about="native",
        )
    return geometry
