"""Texts as vectors: hashed n-grams, a model of sentence-transformers, or a file of vectors."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence

import numpy as np

from indexer.arrays import Float32
from indexer.errors import QueryError, SoundalikeError, first_line
from search.projection.config import HASHED
from search.projection.projecting import Projection

#: What every encoder is asked, so that one that has changed since is found out.
PROBE = "A dog barks in the rain."
#: Of the two vectors of the probe; other processors and versions round differently.
_MIN_COSINE = 0.999
#: Letters of an n-gram, within words and their edges; and dimensions that these are hashed into.
_NGRAM_LETTERS, _HASHED_DIM = (3, 5), 2048
_FILES = (".npz", ".parquet")
#: How models are called on the Hugging Face hub; all else is a path.
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")

#: Takes texts, and returns (n, t) float32.
Encode = Callable[[Sequence[str]], Float32]


@functools.cache
def load_encoder(name: str, *, is_asked_for: bool) -> Encode:
    """Return what encodes texts; it is loaded once.

    Args:
        name: "hashed", or a model of sentence-transformers by its name or folder.
        is_asked_for: Whether the user names it himself. What only a file names, and that may be a
            stranger's, is neither downloaded nor read from wherever a path leads.

    Raises:
        QueryError: If it is a path, and not asked for.
        SoundalikeError: If that package or the model is not there.
    """
    if name == HASHED:
        return _hashed()
    if not is_asked_for and (not _HUB_NAME.fullmatch(name) or os.path.lexists(name)):
        raise QueryError(
            f"the text encoder {name} is a folder: it is loaded only if you name it yourself",
            about="named_encoder",
            value=name,
        )
    return _sentence_transformer(name, may_download=is_asked_for)


def _hashed() -> Encode:
    """Return a bag of n-grams of letters, of length 1: no words have to be known."""
    from sklearn.feature_extraction.text import HashingVectorizer  # noqa: PLC0415 - takes a second

    vectorizer = HashingVectorizer(
        analyzer="char_wb", ngram_range=_NGRAM_LETTERS, n_features=_HASHED_DIM, dtype=np.float32
    )

    def encode(texts: Sequence[str]) -> Float32:
        found: Float32 = vectorizer.transform(list(texts)).toarray()
        return found

    return encode


def _sentence_transformer(name: str, *, may_download: bool) -> Encode:
    try:  # an extra, which takes seconds to import
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415
        from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415
    except ImportError as error:
        is_there = error.name != "sentence_transformers"
        why = f"cannot be imported ({error})" if is_there else "is not installed"
        raise SoundalikeError(
            f"the text encoder {name} is a model of sentence-transformers, which {why}: "
            f"pip install 'soundalike[text]' brings it; 'hashed' needs nothing more"
        ) from error
    disable_progress_bar()  # of reading weights that are on the disk
    try:
        model = SentenceTransformer(
            name, device="cpu", local_files_only=not may_download, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError, LookupError) as error:
        raise SoundalikeError(
            f"cannot load the text encoder {name}: {first_line(error)}",
            about=None if may_download else "named_encoder",
            value=name,
        ) from error

    def encode(texts: Sequence[str]) -> Float32:
        made = model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(made, np.float32)

    return encode


def encode_as(
    projection: Projection, texts: Sequence[str], text_encoder: str | None = None
) -> Float32:
    """Return (n, d) float32 of length 1: texts in the common space of a projection.

    Args:
        projection: Trained with a text encoder.
        texts: n of them.
        text_encoder: That encoder, if the user names it himself, wherever it is now; None for what
            the projection says, if that needs no download and is no path.

    Raises:
        QueryError: If it was trained with vectors that came in a file, or its encoder is a path
            that was not named.
        SoundalikeError: If its encoder is not there, or is another by now.
    """
    if projection.encoder is None:
        raise QueryError(
            f"the projection {projection.name} was trained with vectors from a file, so that "
            f"nothing says how new texts are encoded; train one with a text encoder, or encode the "
            f"texts yourself and project their vectors",
        )
    name = text_encoder or projection.encoder
    encode = load_encoder(name, is_asked_for=text_encoder is not None)
    found = encode([PROBE, *texts])
    probe = found[0].astype(np.float64)
    if found.shape[1] != len(projection.probe):
        cosine = 0.0
    else:
        lengths = np.linalg.norm(probe) * np.linalg.norm(projection.probe)
        cosine = float(probe @ projection.probe / max(lengths, np.finfo(float).tiny))
    if cosine < _MIN_COSINE:
        raise SoundalikeError(
            f"the text encoder {name} does not encode as it did when the projection "
            f"{projection.name} was trained (cosine {cosine:.3f}): it is another model or version; "
            f"bring that back, or train again"
        )
    return projection.text(found[1:])


def is_file(encoder: str) -> bool:
    """Whether what was given as an encoder is a file of vectors."""
    return encoder.lower().endswith(_FILES)
