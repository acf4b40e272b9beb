"""Questions in words: the stores as a projection of text and sound sees them."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence

from indexer.errors import QueryError
from indexer.progress import Listen, ignore
from indexer.store.own import Own
from search.asking.find import Question
from search.asking.opened import OpenedStore
from search.asking.sound_index import SoundIndex
from search.nearest.index import VectorIndex
from search.projection.encoders import encode_as
from search.projection.projecting import Projection
from search.projection.rows import project_generation, require_weights


def take_texts(text: str | Sequence[str]) -> list[str]:
    """Return what is asked in words, one text or several.

    Raises:
        QueryError: If there is none, or one of them is no text or has no words.
    """
    texts = [text] if isinstance(text, str) or not isinstance(text, Iterable) else list(text)
    for one in texts:
        if not isinstance(one, str) or not one.strip():
            raise QueryError(f"what is asked in words is a text that is not empty, got {one!r}")
    if not texts:
        raise QueryError(f"what is asked in words is a text or several, got {reprlib.repr(text)}")
    return texts


def make_worded_question(
    texts: Sequence[str], projection: Projection, text_encoder: str | None = None
) -> Question:
    """Make one question of some texts: the best score over them counts.

    Args:
        texts: What is asked.
        projection: Of the stores.
        text_encoder: That of the projection, if the user names it himself, see `encode_as`.

    Raises:
        QueryError: If the projection was trained with vectors that came in a file.
        SoundalikeError: If its text encoder is not there, or is another by now.
    """
    return Question(encode_as(projection, texts, text_encoder), named=tuple(texts))


def as_projected(
    index: SoundIndex, projection: Projection, own: Own, listen: Listen = ignore
) -> SoundIndex:
    """Return the same rows of the same stores with projected vectors: every answer is exact.

    Args:
        index: The stores.
        projection: Of the same checkpoint.
        own: Where it, and what it made of the rows, is kept.
        listen: Hears how many rows are projected, if any were not yet.

    Raises:
        IdentityError: If it was trained on another checkpoint.
        DamagedStoreError: If what it made of the rows is not as it was written.
    """
    opened = []
    for one in index.opened:
        require_weights(projection, one.store)
        generation = project_generation(one.store, one.generation, projection, own, listen)
        searched = VectorIndex(generation)
        opened.append(OpenedStore(one.store, generation, searched, one.places))
    return SoundIndex(opened, heard=index)
