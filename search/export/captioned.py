"""Exporting captioned sounds: which are there, whether they may be used, and in which form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

from indexer.errors import SoundalikeError
from indexer.progress import Listen, Step, ignore
from indexer.store.reader import Store
from search.datasets.captions import read_audiocaps, read_clotho
from search.datasets.consent import Consent
from search.datasets.joined import Sound, Source, Split, join
from search.datasets.leaks import require_no_leak
from search.datasets.provenance import known_checkpoint, precision_of
from search.export.hdf5 import conette_places, dcase_places, write_conette, write_dcase
from search.export.shards import webdataset_places, write_webdataset
from search.export.tables import npz_places, parquet_places, write_npz, write_parquet
from search.output import make_folder, require_free, writing_text

Form = Literal["parquet", "npz", "hdf5-conette", "hdf5-dcase", "webdataset"]
Dataset = Literal["AudioCaps", "Clotho"]
_Write = Callable[[Split, Iterable[Sound], Path, Mapping[str, str], bool], list[Path]]


class _Kind(NamedTuple):
    """A form: where the files of a split lie in a folder, and what writes them."""

    places: Callable[[Split, Path], list[Path]]
    write: _Write


_KINDS: Mapping[Form, _Kind] = {
    "parquet": _Kind(parquet_places, write_parquet),
    "npz": _Kind(npz_places, write_npz),
    "hdf5-conette": _Kind(conette_places, write_conette),
    "hdf5-dcase": _Kind(dcase_places, write_dcase),
    "webdataset": _Kind(webdataset_places, write_webdataset),
}
_NEED_FRAMES = {"hdf5-conette", "hdf5-dcase"}


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written.

    Attributes:
        splits: With what is present and missing in each.
        files: Of all splits, id lists included.
        num_extra: Recordings of the store that no table has.
        leak: What is wrong with evaluating on this; None if nothing is.
    """

    splits: tuple[Split, ...]
    files: tuple[Path, ...]
    num_extra: int
    leak: str | None


def export_captioned(  # noqa: PLR0913 - each is a choice of its own
    store: Store,
    dataset: Dataset,
    tables: Sequence[Path],
    form: Form,
    folder: Path,
    *,
    consent: Consent | None = None,
    force: bool = False,
    listen: Listen = ignore,
) -> ExportReport:
    """Join a store with tables of captions, and write what the consumers of a form read.

    Beside them come, for each split, `{split}_ids.txt` and `{split}_missing.txt`, one id a line.

    Args:
        store: With the sounds in it.
        dataset: Whose tables they are.
        tables: A CSV per split; the split is called as the file is, without its suffix.
        form: Of the files.
        folder: Where to; it is made.
        consent: What is exported although it may be a leak; by default nothing is.
        force: Whether files of an earlier export of these splits are replaced.
        listen: Hears of every clip, as the step "exporting".

    Raises:
        SoundalikeError: If there is a leak; or no sound of any table is there; or the form needs
            frames and the store has none.
        OutputError: If one of the files is there already; then none is written. Or if one cannot be
            written.
    """
    splits = [path.stem for path in tables]
    if len(set(splits)) < len(splits):
        twice = max(splits, key=splits.count)
        raise SoundalikeError(f"two tables of captions are called {twice}; name them by split")
    reason = require_no_leak(store, dataset, splits, consent or Consent())
    source = Source(store)
    if form in _NEED_FRAMES and not source.has_frames:
        raise SoundalikeError(
            f"{form} is made of frame embeddings, and {store.path} keeps none; make a store that "
            f"does",
            about="frames",
            value="pooled",
        )
    read, find = (
        (read_audiocaps, source.by_clip())
        if dataset == "AudioCaps"
        else (read_clotho, source.by_file_name())
    )
    joined = [join(path.stem, read(path), find) for path in tables]
    total = sum(len(split.present) for split in joined)
    if not total:
        example = next(one.file_id for split in joined for one in split.missing)
        raise SoundalikeError(f"{store.path} has none of the sounds, such as {example}")
    kind = _KINDS[form]
    places = [
        place
        for split in joined
        for place in (*_id_places(split, folder), *kind.places(split, folder))
    ]
    require_free(*places, force=force)
    make_folder(folder)
    provenance = _provenance(store, dataset, reason)
    files: list[Path] = []
    done = 0
    for split in joined:
        counted = _counted(source.sounds(split), done, total, listen)
        files += _id_lists(split, folder, force=force)
        files += kind.write(split, counted, folder, provenance, force)
        done += len(split.present)
    return ExportReport(tuple(joined), tuple(files), source.num_others(joined), reason)


def _counted(sounds: Iterable[Sound], done: int, total: int, listen: Listen) -> Iterable[Sound]:
    for number, sound in enumerate(sounds, start=done + 1):
        yield sound
        listen(Step("exporting", number, total, "clip"))


def _id_places(split: Split, folder: Path) -> list[Path]:
    return [folder / f"{split.name}_{which}.txt" for which in ("ids", "missing")]


def _id_lists(split: Split, folder: Path, *, force: bool) -> list[Path]:
    places = _id_places(split, folder)
    for place, clips in zip(places, (split.present, split.missing), strict=True):
        with writing_text(place, force=force) as text:
            text.writelines(f"{one.file_id}\n" for one in clips)
    return places


def _provenance(store: Store, dataset: str, reason: str | None) -> dict[str, str]:
    known = known_checkpoint(store)
    return {
        "dataset": dataset,
        "checkpoint": store.checkpoint,
        "weights": store.identity.weights,
        "trained_on": known.trained_on if known else "unknown",
        "precision": precision_of(store),
        "native": str(store.identity.native).lower(),
        "leak": reason or "none",
        "written_by": f"soundalike {version('soundalike')}",
    }
