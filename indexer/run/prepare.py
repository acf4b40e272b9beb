"""Before a run: the store that is written to, and the extractor that fits it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from indexer.embedding.extractor import Extractor
from indexer.errors import SoundalikeError
from indexer.model.checkpoint import load_checkpoint
from indexer.model.known import DEFAULT_CHECKPOINT, KNOWN_CHECKPOINTS
from indexer.progress import Listen, ignore
from indexer.run.config import Settings
from indexer.store.creation import create_store, open_matching
from indexer.store.reader import STORE_FILE, Store
from indexer.store.schema import FramesMode
from indexer.windows import SAMPLE_RATE_HZ, Geometry

#: A hop below this, 10 ms, is a mistake in the unit rather than a wish.
_MIN_HOP_S = 0.01


def default_store(library: Path) -> Path:
    """Return where the store of a library is unless told otherwise: `./<name>.soundalike`."""
    return Path(f"{library.resolve().name}.soundalike")


def prepare(
    path: Path, settings: Settings | None = None, listen: Listen = ignore
) -> tuple[Store, Extractor]:
    """Open the store at a path, or create it, with the extractor that its embeddings need.

    Args:
        path: Directory of the store.
        settings: What was asked for.
        listen: Hears how far a checkpoint is downloaded, if it has to be.

    Raises:
        CheckpointError: If the checkpoint is not there or not what it should be.
        IdentityError: If the store was made with other settings; names them.
        StoreError: If the store cannot be opened or created.
    """
    settings = settings or Settings()
    existing = Store.open(path) if (path / STORE_FILE).exists() else None
    identity = existing.identity if existing else None
    geometry = _geometry(settings, identity.geometry if identity else Geometry())
    frames: FramesMode = settings.frames or (identity.frames if identity else "pooled")
    name = settings.checkpoint or (existing.checkpoint if existing else DEFAULT_CHECKPOINT)
    checkpoint = load_checkpoint(name, listen=listen)
    extractor = Extractor(
        checkpoint, device=settings.device, precision=settings.precision, frames=frames
    )
    wanted = extractor.identity(geometry)
    if existing:
        return open_matching(path, wanted), extractor
    store = create_store(
        path,
        wanted,
        extractor.head(),
        checkpoint=name if name in KNOWN_CHECKPOINTS else str(Path(name).resolve()),
        written_by=f"soundalike {version('soundalike')}",
    )
    return store, extractor


def _geometry(settings: Settings, default: Geometry) -> Geometry:
    hop_samples, native = default.hop_samples, default.native
    if settings.hop_s is not None:
        if not _MIN_HOP_S <= settings.hop_s < float("inf"):
            raise SoundalikeError(
                f"the hop is in seconds, at least {_MIN_HOP_S:g}, got {settings.hop_s:g}"
            )
        hop_samples = round(settings.hop_s * SAMPLE_RATE_HZ)
    if settings.native is not None:
        native = settings.native
    return Geometry(hop_samples, native)
