"""A card beside what was exported: what it is, of what, how much is missing, and who may use it.

It is called as what it is about, with an ending more: several exports into one folder have one
each, and a README that somebody has put there stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from indexer.paths import printable
from indexer.progress import count
from indexer.store.reader import Store
from search.datasets.joined import Split
from search.datasets.provenance import known_checkpoint, store_provenance
from search.output import writing_text

_ENDING = ".card.md"
#: How every card begins, and a line that each of them has.
_TITLE = re.compile(r"# .+, (as|of) ConvNeXt embeddings")
_SIGNATURE = "- written_by: soundalike "
#: What is known of the terms of the published sets. Sources: github.com/cdjkim/audiocaps, LICENSE
#: and README; github.com/audio-captioning/clotho-dataset.
_TERMS: Mapping[str, str] = {
    "AudioCaps": "the captions have an MIT licence, and their authors ask for academic use only; "
    "the sounds are of videos on YouTube, and belong to whoever made those",
    "Clotho": "the captions have the terms of Tampere University, which come with them; each sound "
    "has the Creative Commons licence that Clotho's metadata names",
}


def card_place(about: Path) -> Path:
    """Return where the card about a file lies, or about files whose names begin so."""
    return about.with_name(f"{about.name}{_ENDING}")


def is_card(place: Path) -> bool:
    """Whether a file is a card, and no other Markdown."""
    try:
        lines = place.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return False
    return bool(_TITLE.fullmatch(lines[0] if lines else "")) and any(
        line.startswith(_SIGNATURE) for line in lines
    )


def write_card(about: Path, lines: Iterable[str], *, force: bool) -> Path:
    """Write a card.

    Args:
        about: As in `card_place`.
        lines: Of Markdown.
        force: Whether one that is there is replaced.

    Returns:
        What was written.
    """
    place = card_place(about)
    with writing_text(place, force=force) as text:
        text.writelines(f"{line}\n" for line in lines)
    return place


def captioned_lines(
    store: Store, split: Split, provenance: Mapping[str, str], contents: str
) -> Iterator[str]:
    """Yield the card of a split of captioned sounds.

    Args:
        store: That they were in.
        split: What is there, and what is missing.
        provenance: What every file says of itself.
        contents: What is in the files.
    """
    dataset = provenance["dataset"]
    name = printable(split.name)
    yield from (f"# {dataset}, {name}, as ConvNeXt embeddings", "", contents, "")
    yield "| split | clips | missing | captions | empty captions, left out |"
    yield "|---|---|---|---|---|"
    present, missing = len(split.present), len(split.missing)
    row = (f"{present:,} of {split.num_wanted:,}", missing, split.num_captions, split.num_empty)
    yield f"| {name} | {' | '.join(map(str, row))} |"
    yield from (
        "",
        f"Which clips are missing, in `{name}_missing.txt`, differs from copy to copy: report it.",
        "",
    )
    yield from _made_with(provenance)
    yield from ("", "## Terms", "")
    yield f"- {dataset}: {_TERMS[dataset]}."
    yield _terms_of_weights(store)


def windows_lines(store: Store, num_windows: int, contents: str) -> Iterator[str]:
    """Yield the card of all windows of a store.

    Args:
        store: That was exported.
        num_windows: That were written.
        contents: What is in the files.
    """
    yield from (f"# {count(num_windows, 'window')}, as ConvNeXt embeddings", "", contents, "")
    yield from _made_with(store_provenance(store))
    yield from _terms_of_sounds(store)


def labels_lines(
    store: Store, num_files: int, provenance: Mapping[str, str], contents: str
) -> Iterator[str]:
    """Yield the card of label files.

    Args:
        store: Of the sounds.
        num_files: That were written.
        provenance: How tags were heard.
        contents: What is in the files, and what is not.
    """
    yield from (f"# Labels in {count(num_files, 'file')}, of ConvNeXt embeddings", "", contents, "")
    yield from _made_with(provenance)
    yield from _terms_of_sounds(store)


def _made_with(provenance: Mapping[str, str]) -> Iterator[str]:
    """Yield the same that every file says of itself."""
    yield from ("## Made with", "")
    for name, value in provenance.items():
        yield f"- {name}: {printable(value)}"


def _terms_of_sounds(store: Store) -> Iterator[str]:
    yield from ("", "## Terms", "")
    yield "- The sounds: not known here; those of whoever made them."
    yield _terms_of_weights(store)


def _terms_of_weights(store: Store) -> str:
    known = known_checkpoint(store)
    if known is None:
        return "- The weights: not known here; those of whoever trained them."
    if known.url is None:
        return "- The weights: what they learned from is in soundalike's checkpoints/README.md."
    return f"- The weights: those of their publication, {known.url.split('/files/')[0]}."
