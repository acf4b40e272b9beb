"""Sounds of a store with their captions as vectors: what is trained on, and what is held out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, get_args

import numpy as np

from indexer.arrays import ID_DTYPE, Float32, Ids, Integers, Mask
from indexer.errors import SoundalikeError
from indexer.progress import count
from indexer.store.reader import Store
from search.datasets.joined import TOLD, Shared, Source, Split, looked_for, require_sounds, shared
from search.datasets.splits import Role
from search.datasets.text_vectors import NO_VECTOR, TextVectors
from search.generation.writing import normalise
from search.projection.captions import DATASETS, Table
from search.projection.encoders import Encode, is_file, load_encoder

#: From this cosine of two scene embeddings on, two clips are the same recording, in another
#: encoding perhaps: that of `search.asking.terms.DuplicateTerms`.
SAME_SOUND = 0.98
#: Share of the recordings that is held out where no table is for validation.
HELD_OUT = 0.1
_ROLES: tuple[Role, ...] = get_args(Role)
#: Which sounds must not be among which others, in the order in which they are left out.
_APART: tuple[tuple[Role, Role], ...] = (("val", "test"), ("train", "val"), ("train", "test"))
#: Sounds that training takes, at the least: one is told apart from nothing.
_LEAST: Mapping[Role, int] = {"train": 2, "val": 1}
#: Clips that are compared with all others at a time, and texts that are encoded.
_BLOCK = 1024

#: (m, t) float32 vectors of captions, and (m,) which sound of a split each is of.
Texts = tuple[Float32, Integers]


class Pairs(NamedTuple):
    """Captions with their sounds.

    Attributes:
        ids: n of them: what each sound is called.
        recordings: (n,) ids of the recordings.
        audio: (n, 768) float32 scene embeddings of length 1: of each sound its first window.
        text: (m, t) float32: of each caption.
        owners: (m,) which sound each caption belongs to.
    """

    ids: list[str]
    recordings: Ids
    audio: Float32
    text: Float32
    owners: Integers

    def take(self, kept: Mask) -> Pairs:
        """Return some of the sounds, by a (n,) mask, with all of their captions."""
        if kept.all():  # the vectors of many captions are not there twice
            return self
        is_owned = kept[self.owners]
        numbers = np.cumsum(kept) - 1
        ids = [one for one, is_kept in zip(self.ids, kept.tolist(), strict=True) if is_kept]
        return Pairs(
            ids,
            self.recordings[kept],
            self.audio[kept],
            self.text[is_owned],
            numbers[self.owners[is_owned]],
        )

    @classmethod
    def joined(cls, several: Sequence[Pairs]) -> Pairs:
        """Return the pairs of several tables, one after the other."""
        if len(several) == 1:
            return several[0]
        starts = np.cumsum([0, *(len(one.ids) for one in several)])
        owners = [one.owners + start for one, start in zip(several, starts[:-1], strict=True)]
        return cls(
            [name for one in several for name in one.ids],
            np.concatenate([one.recordings for one in several]),
            np.concatenate([one.audio for one in several]),
            np.concatenate([one.text for one in several]),
            np.concatenate(owners),
        )


@dataclass(frozen=True, slots=True)
class Joined:
    """A table whose sounds were looked for in a store.

    Attributes:
        table: The captions.
        split: With what is present and missing.
        pairs: Of what is present.
        num_without_text: Sounds of which no caption has a vector, where vectors come in a file.
        looked_for: If more than a tenth of the table is missing, some of its names; else none.
        extra: Then, paths of some recordings of the store that no table has.
    """

    table: Table
    split: Split
    pairs: Pairs
    num_without_text: int
    looked_for: tuple[str, ...]
    extra: tuple[str, ...]

    def without_vectors(self) -> Joined:
        """Return what can be told of it; its vectors need not stay in memory."""
        pairs = self.pairs
        return replace(
            self, pairs=pairs._replace(audio=pairs.audio[:0].copy(), text=pairs.text[:0].copy())
        )


def shared_sounds(joined: Sequence[Joined]) -> tuple[Shared, ...]:
    """Return which tables have sounds in common, see `shared`."""
    return shared([(one.table.name, one.pairs.ids, one.pairs.recordings) for one in joined])


def join_tables(
    store: Store,
    tables: Sequence[Table],
    text_encoder: str,
    matches: Mapping[str, str] = MappingProxyType({}),
    *,
    is_asked_for: bool = False,
) -> list[Joined]:
    """Look for the sounds of some tables, and encode their captions.

    Args:
        store: With the sounds in it.
        tables: Of captions.
        text_encoder: See `Training`.
        matches: What sounds are called → their paths, where somebody has said so.
        is_asked_for: Whether the user names the encoder himself, see `load_encoder`.

    Raises:
        SoundalikeError: If none of the sounds is there, no vector of texts has an id of them, or
            the encoder is not there.
    """
    source = Source(store)
    splits: dict[str, Split] = {}
    for form, dataset in DATASETS.items():
        some = {one.name: one.captions for one in tables if one.form == form}
        if some:
            splits.update((split.name, split) for split in source.join(dataset, some, matches))
    in_order = [splits[table.name] for table in tables]
    require_sounds(source, in_order, matches)
    vectors = TextVectors.read(Path(text_encoder)) if is_file(text_encoder) else None
    if vectors is None:
        encode = load_encoder(text_encoder, is_asked_for=is_asked_for)
        texts: Iterator[Texts] = (_encoded(split, encode) for split in in_order)
    else:
        texts = _given(in_order, vectors)
    found = [
        _joined(source, table, split, *each, matches)
        for table, split, each in zip(tables, in_order, texts, strict=True)
    ]
    found = _with_extra(source, found)
    if vectors and not any(len(one.pairs.ids) for one in found):
        example = next(one.file_id for split in in_order for one in split.present)
        raise SoundalikeError(
            f"no text of {vectors.source} has the id of a sound or a caption: the texts begin with "
            f"{vectors.example!r}, the sounds with {example!r}"
        )
    return found


def _joined(
    source: Source,
    table: Table,
    split: Split,
    text: Float32,
    owners: Integers,
    matches: Mapping[str, str],
) -> Joined:
    pairs = Pairs(
        split.names,
        source.recordings(split),
        normalise(source.scenes(split)),
        text,
        owners,
    )
    has_text = np.bincount(owners, minlength=len(pairs.ids)) > 0
    names = looked_for([split] if split.misses_much else [], matches, TOLD)
    return Joined(table, split, pairs.take(has_text), int((~has_text).sum()), names, ())


def _with_extra(source: Source, found: list[Joined]) -> list[Joined]:
    """Say of tables of which much is missing what the store has instead."""
    if not any(one.looked_for for one in found):
        return found
    extra = tuple(source.others([one.split for one in found])[1][:TOLD])
    return [replace(one, extra=extra) if one.looked_for else one for one in found]


def _given(splits: Sequence[Split], vectors: TextVectors) -> Iterator[Texts]:
    """Take the vectors of the captions of some splits; where no caption has one, of the sound."""
    of_captions = iter(vectors.of_captions([one for split in splits for one in split.present]))
    for split in splits:
        rows = []
        for one in split.present:
            found = next(of_captions)
            found = found[found != NO_VECTOR]
            rows.append(found if len(found) else vectors.of_sound(one))
        owners = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
        yield vectors.take(np.concatenate([np.empty(0, np.int64), *rows])), owners


def _encoded(split: Split, encode: Encode) -> Texts:
    """Encode the captions of a split, each text once, block by block."""
    texts = [text for one in split.present for text in one.captions]
    owners = np.repeat(np.arange(len(split.present)), [len(one.captions) for one in split.present])
    places: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        places.setdefault(text, []).append(place)
    distinct = sorted(places)
    found = np.empty((len(texts), encode([""]).shape[1]), np.float32)
    for first in range(0, len(distinct), _BLOCK):
        some = distinct[first : first + _BLOCK]
        for vector, text in zip(encode(some), some, strict=True):
            found[places[text]] = vector
    return found, owners


class Divided(NamedTuple):
    """Sounds by what they are for, none of them in two.

    Attributes:
        pairs: Role → sounds.
        left_out: Role → how many sounds were left out of it, because a sound of the next is the
            same recording, or sounds the same; with an example.
    """

    pairs: Mapping[Role, Pairs]
    left_out: Mapping[Role, tuple[int, str]]


def divide(joined: Sequence[Joined], seed: int) -> Divided:
    """Divide sounds by the roles of their tables; figures must not be of what was trained on.

    What is in two of them, as the same recording or as one that sounds the same, stays where it is
    measured: a clip of test is neither trained on nor chosen by, one of val is not trained on.

    Args:
        joined: Tables, whose sounds were found.
        seed: Of the tenth of the recordings that is held out if no table is for validation.

    Raises:
        SoundalikeError: If nothing is left to train on, or to choose by.
    """
    roles: dict[Role, Pairs] = {}
    for role in _ROLES:
        some = [one.pairs for one in joined if one.table.role == role and one.pairs.ids]
        if some:
            roles[role] = Pairs.joined(some)
    left_out: dict[Role, tuple[int, str]] = {}
    gone: dict[Role, list[str]] = defaultdict(list)
    if "train" in roles and "val" not in roles:
        is_held_out = _held_out(roles["train"].recordings, seed)
        roles["val"] = roles["train"].take(is_held_out)
        roles["train"] = roles["train"].take(~is_held_out)
        gone["train"].append(f"{count(len(roles['val'].ids), 'sound')} held out for val")
    for role, other in _APART:
        if role in roles and other in roles:
            ours, theirs = roles[role], roles[other]
            is_same = same_sounds(ours, theirs.recordings, theirs.audio)
            roles[role] = ours.take(~is_same)
            if is_same.any():
                number, example = int(is_same.sum()), ours.ids[int(is_same.argmax())]
                before, first = left_out.get(role, (0, example))
                left_out[role] = before + number, first
                same = f"{count(number, 'sound')} that {other} has as well, or that sound the same"
                gone[role].append(f"{same}, such as {example}")
    for role, least in _LEAST.items():
        number = len(roles[role].ids) if role in roles else 0
        if number < least:
            raise SoundalikeError(_too_few(role, number, joined, gone[role]))
    return Divided(roles, left_out)


def _too_few(role: Role, number: int, joined: Sequence[Joined], gone: Sequence[str]) -> str:
    """Say that too few sounds are for something, where others went, and what to do."""
    tables = [one for one in joined if one.table.role == role]
    if not tables and role == "train":
        others = ", ".join(f"{one.table.name} is for {one.table.role}" for one in joined)
        return f"no table of captions is for train: {others}; give one that is called train"
    if missing := sum(len(one.split.missing) for one in tables):
        gone = [*gone, f"{count(missing, 'sound')} that the store does not have"]
    if without := sum(one.num_without_text for one in tables):
        gone = [*gone, f"{count(without, 'sound')} without a vector of text"]
    if wordless := sum(one.split.num_without_words for one in tables):
        gone = [*gone, f"{count(wordless, 'sound')} with empty captions only"]
    told = f"{count(number, 'sound')} left for {role}, and {_LEAST[role]} needed at least"
    where = f"; left out: {'; '.join(gone)}" if gone else ""
    return f"{told}{where}; give captions of more sounds that are in no other table"


def same_sounds(pairs: Pairs, recordings: Ids, audio: Float32) -> Mask:
    """Return which sounds are also among others, as the same recording or by the ear.

    Args:
        pairs: With n sounds.
        recordings: Ids of the others.
        audio: (m, 768) float32 of length 1: those of the others that can be compared.

    Returns:
        (n,) booleans.
    """
    is_same = np.isin(pairs.recordings, recordings)
    for first in range(0, len(pairs.audio), _BLOCK):
        block = slice(first, first + _BLOCK)
        nearest = (pairs.audio[block] @ audio.T).max(1, initial=-1)
        is_same[block] |= nearest >= SAME_SOUND
    return np.asarray(is_same)


def _held_out(recordings: Ids, seed: int) -> Mask:
    """Return (n,) which sounds are of the tenth of the recordings that is not trained on."""
    distinct = np.unique(np.asarray(recordings, ID_DTYPE))
    number = max(1, round(HELD_OUT * len(distinct)))
    chosen = np.random.default_rng(seed).permutation(len(distinct))[:number]
    return np.isin(recordings, distinct[chosen])
