"""Any audio file as mono samples at 32 kHz.

source ◀─ ffmpeg ◀─ decode ◀─ stream ─▶ resample
"""

from indexer.audio.source import AudioInfo
from indexer.audio.stream import (
    AUDIO_EXTENSIONS,
    MAX_DURATION_S,
    AudioStream,
    open_audio,
    read_span,
)

__all__ = [
    "AUDIO_EXTENSIONS",
    "MAX_DURATION_S",
    "AudioInfo",
    "AudioStream",
    "open_audio",
    "read_span",
]
