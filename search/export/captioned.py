"""Exporting captioned sounds: which are there, whether they may be used, and in which form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import SoundalikeError
from indexer.progress import Listen, Step, ignore
from indexer.store.reader import Store
from search.datasets.captions import read_audiocaps, read_clotho, split_names
from search.datasets.consent import Consent
from search.datasets.finding import Dataset, Unused, unused
from search.datasets.joined import (
    TOLD,
    Shared,
    Sound,
    Source,
    Split,
    looked_for,
    require_sounds,
    shared,
)
from search.datasets.leaks import require_no_leak
from search.datasets.matches import matches_of
from search.datasets.provenance import padding_note, store_provenance
from search.datasets.text_vectors import TextVectors
from search.export.card import captioned_lines, card_place, write_card
from search.export.forms.dcase2023 import chosen_vectors, text_vectors_place, write_text_vectors
from search.export.forms.kinds import KINDS, Form
from search.output import make_folder, require_free, writing_text

#: The form that has room for vectors of text.
_WITH_VECTORS: Form = "hdf5-dcase2023"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written.

    Attributes:
        splits: With what is present and missing in each.
        files: Of all splits; id lists and cards included.
        num_extra: Recordings of the store that no table has.
        leak: What is wrong with evaluating on this; None if nothing is.
        looked_for: If more than a tenth of a table is missing, some of its names; else none.
        extra: Paths of some of the recordings that no table has.
        padding_note: How windows differ from those of published features; None if they do not.
        unused: What the list of which file is which sound says to no avail.
        shared: Tables that have clips in common.
    """

    splits: tuple[Split, ...]
    files: tuple[Path, ...]
    num_extra: int
    leak: str | None
    looked_for: tuple[str, ...]
    extra: tuple[str, ...]
    padding_note: str | None
    unused: Unused
    shared: tuple[Shared, ...]


def export_captioned(  # noqa: PLR0913 - each is a choice of its own
    store: Store,
    dataset: Dataset,
    tables: Sequence[Path],
    form: Form,
    folder: Path,
    *,
    match: Path | None = None,
    text_vectors: TextVectors | None = None,
    consent: Consent | None = None,
    force: bool = False,
    listen: Listen = ignore,
) -> ExportReport:
    """Join a store with tables of captions, and write what the consumers of a form read.

    Beside them come, for each split, `{split}_ids.txt` and `{split}_missing.txt`, one id a line;
    and `{split}.{form}.card.md`, which says what it is.

    Args:
        store: With the sounds in it.
        dataset: Whose tables they are.
        tables: A CSV per split; the split is called as the file is, without its suffix.
        form: Of the files.
        folder: Where to; it is made.
        match: A table of which file is which sound, see `matches_of`; it counts before names.
        text_vectors: Of all captions, for "hdf5-dcase2023" alone.
        consent: What is exported although it may be a leak; by default nothing is.
        force: Whether files of an earlier export of these splits are replaced.
        listen: Hears of every clip, as the step "exporting".

    Raises:
        SoundalikeError: If there is a leak; or no sound of any table is there; or the form needs
            frames and the store has none; or a table cannot be read, or a caption has no vector.
        OutputError: If one of the files is there already; then none is written. Or if one cannot be
            written.
    """
    reason = require_no_leak(store, dataset, split_names(tables), consent or Consent())
    source = Source(store)
    _require_form(source, form, has_vectors=text_vectors is not None)
    read = read_audiocaps if dataset == "AudioCaps" else read_clotho
    captions = {path.stem: read(path) for path in tables}
    matches = {} if match is None else matches_of(match, captions.values())
    to_no_avail = unused(store, matches, captions.values())
    splits = source.join(dataset, captions, matches)
    require_sounds(source, splits, matches)
    vectors = None if text_vectors is None else chosen_vectors(splits, text_vectors)
    places = _places(form, splits, folder)
    require_free(*places, *([text_vectors_place(folder)] if vectors else []), force=force)
    make_folder(folder)
    provenance = {"dataset": dataset, **store_provenance(store), "leak": reason or "none"}
    files = _write(source, splits, form, folder, provenance, force=force, listen=listen)
    if vectors:
        files.append(write_text_vectors(vectors, folder, force))
    num_extra, extra = source.others(splits)
    much = [split for split in splits if split.misses_much]
    return ExportReport(
        tuple(splits),
        tuple(files),
        num_extra,
        reason,
        looked_for(much, matches, TOLD),
        tuple(extra[:TOLD]),
        padding_note(store),
        to_no_avail,
        shared([(one.name, one.names, source.recordings(one)) for one in splits]),
    )


def _require_form(source: Source, form: Form, *, has_vectors: bool) -> None:
    """Make sure that a form can be made of what there is."""
    if has_vectors and form != _WITH_VECTORS:
        raise SoundalikeError(f"{form} has no vectors of text in it; {_WITH_VECTORS} has")
    if KINDS[form].needs_frames and not source.has_frames:
        raise SoundalikeError(
            f"{form} is made of frame embeddings, and {source.store.path} keeps none; make a store "
            f"that does",
            about="frames",
            value="pooled",
        )


def _places(form: Form, splits: Sequence[Split], folder: Path) -> list[Path]:
    """Return all files that will be written.

    Raises:
        SoundalikeError: If two tables are the same split for who reads the form.
    """
    places = [place for split in splits for place in KINDS[form].places(split, folder)]
    if len(set(places)) < len(places):
        twice = max(places, key=places.count).name
        raise SoundalikeError(f"two tables of captions are of one split: both would be {twice}")
    lists = [place for split in splits for place in _id_places(split, folder)]
    cards = [card_place(_about(split, form, folder)) for split in splits]
    return [*places, *lists, *cards]


def _write(
    source: Source,
    splits: Sequence[Split],
    form: Form,
    folder: Path,
    provenance: Mapping[str, str],
    *,
    force: bool,
    listen: Listen,
) -> list[Path]:
    files: list[Path] = []
    done, total = 0, sum(len(split.present) for split in splits)
    for split in splits:
        counted = _counted(source.sounds(split), done, total, listen)
        files += _id_lists(split, folder, force=force)
        files += KINDS[form].write(split, counted, folder, provenance, force)
        lines = captioned_lines(source.store, split, provenance, KINDS[form].contents)
        files.append(write_card(_about(split, form, folder), lines, force=force))
        done += len(split.present)
    return files


def _counted(sounds: Iterable[Sound], done: int, total: int, listen: Listen) -> Iterable[Sound]:
    for number, sound in enumerate(sounds, start=done + 1):
        yield sound
        listen(Step("exporting", number, total, "clip"))


def _about(split: Split, form: Form, folder: Path) -> Path:
    """Return what the card of a split is called after."""
    return folder / f"{split.name}.{form}"


def _id_places(split: Split, folder: Path) -> list[Path]:
    return [folder / f"{split.name}_{which}.txt" for which in ("ids", "missing")]


def _id_lists(split: Split, folder: Path, *, force: bool) -> list[Path]:
    places = _id_places(split, folder)
    for place, clips in zip(places, (split.present, split.missing), strict=True):
        with writing_text(place, force=force) as text:
            text.writelines(f"{one.file_id}\n" for one in clips)
    return places
