"""How a projection is trained: everything that shapes its numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from indexer.errors import QueryError
from indexer.run.config import check_fields

# Nothing here takes long to import: the help of the command is made from these fields.

#: The encoder that needs nothing more: hashed n-grams, see `search.projection.encoders`.
HASHED = "hashed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How a projection is trained.

    The defaults are those of the small baselines of the field: two layers for each side, NT-Xent
    with the temperature 0.07 (Mei et al. 2022, arXiv:2203.15537), AdamW.

    Attributes:
        text_encoder: "hashed"; a sentence-transformers model, by its name or folder; or a file of
            vectors, see `search.projection.encoders.TextVectors`.
        dim: Dimensions of the common space.
        temperature: By which cosines are divided in the loss.
        epochs: How often all captions are gone through, at most; training stops when the loss on
            the validation split has not become less for 10 of them. 0 leaves the random start.
        batch_size: Captions that are told apart from each other at a time.
        learning_rate: Of AdamW.
        seed: Of the start, of the order of the captions, and of dropout.
    """

    text_encoder: str = field(
        default=HASHED,
        metadata={
            "help": "hashed (n-grams; needs nothing more), a sentence-transformers model by name "
            "or folder, or an .npz or .parquet of ids and vectors.",
            "unit": "NAME|FILE",
        },
    )
    dim: int = field(
        default=256,
        metadata={
            "help": "Dimensions of the common space.",
            "unit": "N",
            "least": 2,
            "most": 768,
        },
    )
    temperature: float = field(
        default=0.07,
        metadata={"help": "Of the loss, NT-Xent.", "unit": "T", "least": 0.001, "most": 10},
    )
    epochs: int = field(
        default=100,
        metadata={
            "help": "At most; it stops when the loss on val does not get less. 0: untrained.",
            "unit": "N",
            "least": 0,
            "most": 10_000,
        },
    )
    batch_size: int = field(
        default=128,
        metadata={
            "help": "Captions that are told apart at a time.",
            "unit": "N",
            "least": 2,
            "most": 8192,
        },
    )
    learning_rate: float = field(
        default=1e-3,
        metadata={"help": "Of AdamW.", "unit": "R", "least": 1e-8, "most": 1},
    )
    seed: int = field(
        default=0,
        metadata={"help": "Of the random start.", "unit": "N", "least": 0, "most": 2**31 - 1},
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.text_encoder.strip():
            raise QueryError("the text encoder has no name")
