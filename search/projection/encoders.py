"""Texts as vectors: hashed n-grams, a model of sentence-transformers, or a file of vectors."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from indexer.arrays import Float32, Integers
from indexer.errors import QueryError, SoundalikeError, first_line
from search.datasets.captions import Captioned
from search.datasets.embedded import read_embedded
from search.projection.config import HASHED
from search.projection.projecting import Projection

#: What every encoder is asked, so that one that has changed since is found out.
PROBE = "A dog barks in the rain."
#: Of the two vectors of the probe; other processors and versions round differently.
_MIN_COSINE = 0.999
#: Letters of an n-gram, within words and their edges; and dimensions that these are hashed into.
_NGRAM_LETTERS, _HASHED_DIM = (3, 5), 2048
_FILES = (".npz", ".parquet")

#: Takes texts, and returns (n, t) float32.
Encode = Callable[[Sequence[str]], Float32]


@functools.cache
def load_encoder(name: str) -> Encode:
    """Return what encodes texts; it is loaded once.

    Args:
        name: "hashed", or a model of sentence-transformers by its name or folder.

    Raises:
        SoundalikeError: If that package or the model is not there.
    """
    return _hashed() if name == HASHED else _sentence_transformer(name)


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


def _sentence_transformer(name: str) -> Encode:
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
        model = SentenceTransformer(name, device="cpu")
    except (OSError, ValueError, RuntimeError, LookupError) as error:
        raise SoundalikeError(
            f"cannot load the text encoder {name}: {first_line(error)}"
        ) from error

    def encode(texts: Sequence[str]) -> Float32:
        made = model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False)
        return np.asarray(made, np.float32)

    return encode


def encode_as(projection: Projection, texts: Sequence[str]) -> Float32:
    """Return (n, d) float32 of length 1: texts in the common space of a projection.

    Raises:
        QueryError: If it was trained with vectors that came in a file.
        SoundalikeError: If its encoder is not there, or is another by now.
    """
    if projection.encoder is None:
        raise QueryError(
            f"the projection {projection.name} was trained with vectors from a file, so that "
            f"nothing says how new texts are encoded; train one with a text encoder, or encode the "
            f"texts yourself and project their vectors",
        )
    encode = load_encoder(projection.encoder)
    found = encode([PROBE, *texts])
    probe = found[0].astype(np.float64)
    if found.shape[1] != len(projection.probe):
        cosine = 0.0
    else:
        lengths = np.linalg.norm(probe) * np.linalg.norm(projection.probe)
        cosine = float(probe @ projection.probe / max(lengths, np.finfo(float).tiny))
    if cosine < _MIN_COSINE:
        raise SoundalikeError(
            f"the text encoder {projection.encoder} does not encode as it did when the projection "
            f"{projection.name} was trained (cosine {cosine:.3f}): it is another model or version; "
            f"bring that back, or train again"
        )
    return projection.text(found[1:])


def is_file(encoder: str) -> bool:
    """Whether what was given as an encoder is a file of vectors."""
    return encoder.lower().endswith(_FILES)


class TextVectors:
    """Vectors of captions that come in a file: by the id of a caption, or of its sound."""

    def __init__(self, path: Path) -> None:
        """Read them, as `read_embedded` does.

        Raises:
            SoundalikeError: If it cannot be read.
        """
        embedded = read_embedded(path)
        self.path, self.vectors = path, embedded.vectors.astype(np.float32)
        self._rows: dict[str, list[int]] = defaultdict(list)
        for row, one in enumerate(embedded.ids):
            self._rows[one].append(row)

    def rows(self, captioned: Captioned) -> Integers:
        """Return which vectors are those of a sound's captions; none if none has its id."""
        of_captions = [row for one in captioned.caption_ids for row in self._rows.get(one, ())]
        return np.array(of_captions or self._rows.get(captioned.file_id, []), np.int64)

    @property
    def example(self) -> str:
        """The first of the ids."""
        return next(iter(self._rows))
