"""What a store holds: Arrow schemas, what must agree (Identity) and what is remembered (Origin)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

import pyarrow as pa

from indexer import MAX_CHANNELS
from indexer.arrays import RECORDING_ID_BYTES
from indexer.errors import IdentityError, NotAsWrittenError
from indexer.windows import (
    FORMER_NATIVE_SAMPLES,
    MOST_NATIVE_SAMPLES,
    SAMPLE_RATE_HZ,
    WINDOW_SAMPLES,
    Geometry,
    Level,
    Padding,
)

#: What says of a folder that it is a store.
STORE_FILE = "store.json"
#: Of the stores that are written. Version 2 has audio_id, file_digest and first_sample in the
#: ledger, and the identity a channel; version 3 has level_db in scene.parquet. What adds to a store
#: of an older version makes it one of this.
FORMAT_VERSION = 3
#: Of the stores that are read.
READABLE_VERSIONS = (1, 2, 3)
#: Width of scene and frame embeddings: the last stage of ConvNeXt-Tiny (arXiv:2306.00830).
EMBEDDING_DIM = 768
#: Outputs of the classifier: the classes of AudioSet (metadata/class_labels_indices.csv).
NUM_TAGS = 527
#: Frequency positions of the frame map: 224 mel bands, divided by 32.
FRAME_BANDS = 7
#: Longest text in the ledger, in bytes: a path of 4,096 bytes, each escaped as `\\xNN`.
MOST_TEXT_BYTES = 4 * 4096
#: Large blobs, read a few at a time: Parquet cannot read less than a row group.
FRAMES_ROW_GROUP = 64

#: From one window's start to the next, at most: a day.
MAX_HOP_SAMPLES = 86_400 * SAMPLE_RATE_HZ
#: In place of a file's size, where none was ever seen: of a folder that could not be listed, or a
#: name in a list.
NO_FILE = -1

FramesMode = Literal["pooled", "full", "none"]
Status = Literal["ok", "failed", "moved", "gone"]
STATUSES: tuple[Status, ...] = ("ok", "failed", "moved", "gone")

SCENE_SCHEMA = pa.schema(
    [
        pa.field("window_id", pa.int64(), nullable=False),
        pa.field("recording_id", pa.binary(RECORDING_ID_BYTES), nullable=False),
        pa.field("start_sample", pa.int64(), nullable=False),
        pa.field("num_samples", pa.int32(), nullable=False),
        pa.field("scene", pa.list_(pa.float32(), EMBEDDING_DIM), nullable=False),
        pa.field("tags", pa.list_(pa.float16(), NUM_TAGS), nullable=False),
        pa.field("level_db", pa.float32()),
    ]
)
FRAMES_SCHEMA = pa.schema(
    [
        pa.field("window_id", pa.int64(), nullable=False),
        pa.field("num_frames", pa.int32(), nullable=False),
        pa.field("frames", pa.large_binary(), nullable=False),
    ]
)
FILES_SCHEMA = pa.schema(
    [
        pa.field("path_id", pa.int64(), nullable=False),
        pa.field("library_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("path_bytes", pa.binary()),
        pa.field("span_start", pa.int64()),
        pa.field("span_samples", pa.int64()),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("mtime_ns", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("stage", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("recording_id", pa.binary(RECORDING_ID_BYTES)),
        pa.field("num_samples", pa.int64()),
        pa.field("sample_rate", pa.int32()),
        pa.field("channels", pa.int32()),
        pa.field("codec", pa.string()),
        pa.field("warnings", pa.string()),
        pa.field("audio_id", pa.binary(RECORDING_ID_BYTES)),
        pa.field("file_digest", pa.binary(RECORDING_ID_BYTES)),
        pa.field("first_sample", pa.int64()),
    ]
)
#: Columns that parts of older versions lack, null there: of version 1 those of files.parquet, of
#: version 1 and 2 that of scene.parquet.
_NEWER_COLUMNS = ("audio_id", "file_digest", "first_sample", "level_db")
SCHEMAS: Mapping[str, pa.Schema] = {
    "scene.parquet": SCENE_SCHEMA,
    "frames.parquet": FRAMES_SCHEMA,
    "files.parquet": FILES_SCHEMA,
}
#: What parts of older versions have in their place.
OLD_SCHEMAS: Mapping[str, pa.Schema] = {
    name: pa.schema(one for one in schema if one.name not in _NEWER_COLUMNS)
    for name, schema in SCHEMAS.items()
}


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """What happened to one path, or to one span of it; the columns of files.parquet.

    Attributes:
        path_id: `indexer.paths.path_id` of library, path and span.
        library_id: The library that was walked.
        path: POSIX-relative to the library's root, escaped so that it can be reversed.
        size: Of the file, in bytes; `NO_FILE` where none was ever seen.
        mtime_ns: Of the file, in ns since 1970.
        status: "ok", "failed", "moved" (same content, other path) or "gone".
        path_bytes: The name's bytes, where they are not UTF-8.
        span_start: First sample at 32 kHz of the span that was asked for; None for the whole file.
        span_samples: Length of that span.
        stage: Where it failed: "walk", "access", "open", "decode", "samples", "embed" or "crash".
        reason: Why it failed, or where it moved to.
        recording_id: Digest of the content, if it was read: names the windows.
        num_samples: Length as decoded, in samples at 32 kHz.
        sample_rate: Of the file, in Hz.
        channels: Of the file.
        codec: Of the file, as its decoder calls it.
        warnings: What a listener should know although it is "ok": damage, anti-phase.
        audio_id: Digest of the decoded samples before mixing, with rate, channels and
            `first_sample`; None if that is not known.
        file_digest: Of the file's bytes, if they are others than those of the recording: the same
            samples with other tags beside them.
        first_sample: Where the audio begins on the file's own time line, in samples at 32 kHz;
            None if it begins at 0, as nearly all does.
    """

    path_id: int
    library_id: str
    path: str
    size: int
    mtime_ns: int
    status: Status
    path_bytes: bytes | None = None
    span_start: int | None = None
    span_samples: int | None = None
    stage: str | None = None
    reason: str | None = None
    recording_id: bytes | None = None
    num_samples: int | None = None
    sample_rate: int | None = None
    channels: int | None = None
    codec: str | None = None
    warnings: str | None = None
    audio_id: bytes | None = None
    file_digest: bytes | None = None
    first_sample: int | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """What two sets of embeddings must share to be compared at all.

    Attributes:
        weights: Canonical digest of the checkpoint's state dict, in hex.
        front_end: Name and version of the log-mel front end.
        resampler: Name and version of the resampler.
        frames: How frame embeddings are stored.
        hop_samples: From one window's start to the next, at 32 kHz.
        native: Whether recordings of up to `native_samples` are one window of their own length,
            unpadded.
        window_samples: Length of a window, at 32 kHz.
        sample_rate_hz: What the network is given.
        channel: Which channel of each recording, counted from 1; None for the mean of all.
        native_samples: Longest recording that is one window where native is; without it 30 s, as in
            stores from before it could be told.
        padding: What follows audio that is shorter than a window; without it silence, as in stores
            from before it could be told.
        level: What was done to the loudness of each window; without it nothing, likewise.
    """

    weights: str
    front_end: str
    resampler: str
    frames: FramesMode = "pooled"
    hop_samples: int = WINDOW_SAMPLES
    native: bool = False
    window_samples: int = WINDOW_SAMPLES
    sample_rate_hz: int = SAMPLE_RATE_HZ
    channel: int | None = None
    native_samples: int = FORMER_NATIVE_SAMPLES
    padding: Padding = "zero"
    level: Level = "off"

    @property
    def geometry(self) -> Geometry:
        """How recordings are cut into windows."""
        return Geometry(
            self.hop_samples, self.native, self.window_samples, self.native_samples, self.padding
        )

    def require(self, other: Identity, message: str, advice: str, about: str | None = None) -> None:
        """Raise unless `other` is the same.

        Args:
            other: What is asked for here.
            message: What does not fit, for the start of the error.
            advice: What to do about it, for its end.
            about: What helps, in a word, see `SoundalikeError`.

        Raises:
            IdentityError: Naming every field that differs.
        """
        mine, asked = asdict(self), asdict(other)
        differences = {
            field: (mine[field], asked[field]) for field in mine if mine[field] != asked[field]
        }
        if differences:
            named = "; ".join(_told(field, *values) for field, values in differences.items())
            raise IdentityError(message, differences, named, advice, about)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what `dataclasses.asdict` wrote; what is missing has its default, if there is one.

        Raises:
            TypeError: For an unknown field, or one that is missing and has no default.
            ValueError: For a value that no store has.
        """
        found = cls(**document)
        wrong = [name for name, is_right in _IS_RIGHT.items() if not is_right(getattr(found, name))]
        if wrong:
            raise NotAsWrittenError(f"its {wrong[0]} is {getattr(found, wrong[0])!r:.60}")
        return found


def _told(field: str, mine: Any, asked: Any) -> str:
    """Say how two identities differ in a field, in the words that it is chosen by."""
    name, say = _WORDS.get(field, (field, repr))
    return f"{name} is {say(mine)} there and {say(asked)} here"


def _seconds(num_samples: int) -> str:
    return f"{num_samples / SAMPLE_RATE_HZ:g} s"


#: What a field is called, and its value said, where that is not the field and its value.
_WORDS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "front_end": ("the front end", repr),
    "hop_samples": ("the hop", _seconds),
    "native": ("native", lambda value: "yes" if value else "no"),
    "window_samples": ("the length of windows", _seconds),
    "sample_rate_hz": ("the sample rate", lambda value: f"{value} Hz"),
    "channel": ("channel", lambda value: "the mean of all" if value is None else str(value)),
    "native_samples": ("the longest native window", _seconds),
    "padding": ("padding", str),
    "level": ("level", str),
}


def is_text(value: object) -> bool:
    """Whether a value of a document of a store is text of at most `MOST_TEXT_BYTES`."""
    return isinstance(value, str) and len(value.encode("utf-8", "surrogatepass")) <= MOST_TEXT_BYTES


def _is_whole(value: object, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


#: What the fields of an identity that is read may be: a stranger may have written them.
_IS_RIGHT: Mapping[str, Callable[[Any], bool]] = {
    "weights": is_text,
    "front_end": is_text,
    "resampler": is_text,
    "frames": lambda value: value in get_args(FramesMode),
    "hop_samples": lambda value: _is_whole(value, MAX_HOP_SAMPLES),
    "native": lambda value: isinstance(value, bool),
    "window_samples": lambda value: _is_whole(value, MOST_NATIVE_SAMPLES),
    "sample_rate_hz": lambda value: _is_whole(value, SAMPLE_RATE_HZ),
    "channel": lambda value: value is None or _is_whole(value, MAX_CHANNELS),
    "native_samples": lambda value: _is_whole(value, MOST_NATIVE_SAMPLES),
    "padding": lambda value: value in get_args(Padding),
    "level": lambda value: value in get_args(Level),
}


@dataclass(frozen=True, slots=True)
class Origin:
    """How a part was computed: recorded, never a reason to refuse.

    Attributes:
        device: Such as "cpu" or "NVIDIA H100"; "none" where nothing was read.
        precision: "fp32", "bf16" or "none".
        versions: Package name → version, for what shapes the numbers.
        created: UTC, ISO 8601.
    """

    device: str
    precision: str
    versions: Mapping[str, str]
    created: str


def frame_shape(mode: FramesMode, num_frames: int) -> tuple[int, ...]:
    """Return the shape of one window's stored frames: time first."""
    pooled = (num_frames, EMBEDDING_DIM)
    return (num_frames, FRAME_BANDS, EMBEDDING_DIM) if mode == "full" else pooled
