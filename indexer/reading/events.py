"""What becomes of files and windows, in words that readers, lanes and the clerk share."""

from __future__ import annotations

from typing import NamedTuple

from indexer.audio.source import AudioInfo

#: Stage of a failure that nobody foresaw: a decoder that crashed, hung, or raised what it should
#: not.
CRASH = "crash"


class Done(NamedTuple):
    """A file was read to its end, or its content is known already.

    Attributes:
        item: Position in the work list.
        recording_id: Digest of its bytes, or of others that hold the same samples.
        num_samples: Length as decoded at 32 kHz; None if it was not decoded.
        info: What the decoder says of it; None if it was not decoded.
        warnings: What a listener should know.
        peak: `AudioStream.peak`: 0 unless it is far over full scale.
        audio_id: Digest of its samples; None if it was not decoded whole.
        file_digest: Digest of its bytes, if the recording's is another.
    """

    item: int
    recording_id: bytes
    num_samples: int | None = None
    info: AudioInfo | None = None
    warnings: tuple[str, ...] = ()
    peak: float = 0.0
    audio_id: bytes | None = None
    file_digest: bytes | None = None


class Failure(NamedTuple):
    """A file could not be embedded.

    Attributes:
        item: Position in the work list.
        stage: "access", "open", "decode", "samples", "embed" or "crash".
        reason: In words, without the path.
        recording_id: Digest of its bytes, if they could be read.
    """

    item: int
    stage: str
    reason: str
    recording_id: bytes | None = None


class WindowKey(NamedTuple):
    """Which window a row of a batch is.

    Attributes:
        item: Position in the work list.
        recording_id: Digest of the file's bytes.
        start_sample: At 32 kHz.
        num_samples: Real audio, at 32 kHz.
    """

    item: int
    recording_id: bytes
    start_sample: int
    num_samples: int
