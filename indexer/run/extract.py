"""The run: walk a library, embed what is new or changed, commit it part by part."""

from __future__ import annotations

from pathlib import Path

from indexer.embedding.cores import num_cores
from indexer.embedding.extractor import Extractor
from indexer.library.walk import Walk
from indexer.progress import Listen, ignore
from indexer.reading.dataset import Work
from indexer.reading.readers import load_windows
from indexer.run.config import ExtractConfig
from indexer.run.embed import Embedder, Read
from indexer.run.report import ExtractReport
from indexer.run.survey import Survey, survey
from indexer.store.reader import Store

#: Windows in a batch: on a CPU, large ones are slower.
_CPU_BATCH = 4
_GPU_BATCH = 64


def extract(
    library: Path | Walk,
    store: Store,
    extractor: Extractor,
    config: ExtractConfig | None = None,
    listen: Listen = ignore,
    *,
    read: Read = load_windows,
) -> ExtractReport:
    """Embed what is new or changed in a library.

    A file that cannot be read becomes a row of the ledger, and the run goes on. What was computed
    is committed as it goes; interrupted, the run commits what it has and can be started again. Only
    one run writes to a store at a time: another waits for it.

    Args:
        library: Folder of audio, or what `find_files` found in it.
        store: Where to; its identity must be the extractor's.
        extractor: Model and device.
        config: How to go about it.
        listen: Hears in a sentence what was found and who is waited for; after every batch, how far
            the run is.
        read: Gives the windows of the files.

    Returns:
        What was done; failures are in it.

    Raises:
        LibraryError: If the library is missing or empty, disappears, or lost more than half.
        IdentityError: If the store was made with another checkpoint or other settings.
        StoreError: If the store cannot be written: a full disk, for one.
        SoundalikeError: With `strict`, at the first file that fails.
    """
    config = config or ExtractConfig()
    store.identity.require(
        extractor.identity(store.identity.geometry, store.identity.channel),
        f"the store {store.path} was made in another way",
        "Use the checkpoint and options of the store, or another store",
        about="store",
    )
    with survey(library, store, config, listen) as surveyed:
        return embed_new(surveyed, extractor, config, listen, read=read)


def embed_new(
    surveyed: Survey,
    extractor: Extractor,
    config: ExtractConfig,
    listen: Listen = ignore,
    *,
    read: Read = load_windows,
) -> ExtractReport:
    """Embed what a survey found, while it lasts; see `extract`.

    Args:
        surveyed: What there is to do.
        extractor: Of the store's identity.
        config: How to go about it.
        listen: Hears how far the run is.
        read: Gives the windows of the files.

    Raises:
        LibraryError: If the library disappears, or lost more than half.
        StoreError: If the store cannot be written: a full disk, for one.
        SoundalikeError: With `strict`, at the first file that fails.
    """
    report, store, known = surveyed.report, surveyed.store, surveyed.ledger.known
    former = surveyed.changes.former()
    report.device, report.precision = extractor.device_name, extractor.precision
    report.padding, report.level = store.identity.padding, store.identity.level
    report.num_cores = num_cores()
    with surveyed.keep_books(config, extractor.device_name, extractor.precision) as clerk:
        Embedder(extractor, config, clerk, report, listen, read).embed(
            Work(
                root=surveyed.found.root,
                items=surveyed.changes.to_read,
                geometry=store.identity.geometry,
                channel=store.identity.channel,
                batch_size=config.batch_size or _default_batch_size(extractor),
                known=known,
                aliases=surveyed.ledger.aliases,
                former=former,
                partial=store.partial_windows(surveyed.parts, known),
                max_duration_s=config.max_hours * 3600,
                defers=extractor.resamples,
            )
        )
    return report


def _default_batch_size(extractor: Extractor) -> int:
    return _GPU_BATCH if extractor.device.type == "cuda" else _CPU_BATCH
