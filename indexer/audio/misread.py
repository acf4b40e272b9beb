"""Files that FFmpeg would take for something else than they are, without a word.

Found by holding every header that can be written against samples that are known; libsndfile reads
most of them.
"""

from __future__ import annotations

import os
import struct

from indexer.audio.file import read_at
from indexer.audio.riff import Box, format_tag
from indexer.errors import AudioError

#: Format tags of WAV whose codec FFmpeg mistakes: NMS ADPCM for AMR, G.721 for another G.726.
_MISTAKEN_TAGS = {0x38, 0x40}
#: Encodings of AU (G.721, G.723 at 3 and at 5 bits), which FFmpeg takes for G.726.
_MISTAKEN_ENCODINGS = {23, 25, 26}
#: What the `sowt` of AIFF-C can be for FFmpeg: 16 bits, whatever the header says.
_SOWT_BITS = range(9, 17)
_AIFF = Box("aiff", ">", 12, 8, 2)


def is_misread(descriptor: int) -> bool:
    """Whether FFmpeg would misread a file, so that libsndfile has to.

    Raises:
        AudioError: With stage "open", if libsndfile would as well, or refuses it.
        OSError: If it cannot be read.
    """
    head = read_at(descriptor, 16, 0)
    if head[:4] == b"RIFX":
        return True
    if head[:4] == b".snd":
        return int.from_bytes(head[12:], "big") in _MISTAKEN_ENCODINGS
    if head[:4] == b"FORM" and head[8:12] == b"AIFC":
        return _is_misread_aiff(descriptor)
    if head[:4] == b"caff":
        _require_packed(read_at(descriptor, 52, 0))
        return False
    return format_tag(descriptor) in _MISTAKEN_TAGS


def _is_misread_aiff(descriptor: int) -> bool:
    """Whether an AIFF-C has little-endian samples (`sowt`) of another size than 16 bits."""
    for chunk in _AIFF.chunks(descriptor, os.fstat(descriptor).st_size):
        content = read_at(descriptor, 22, chunk.offset) if chunk.name == b"COMM" else b""
        if len(content) == 22:
            bits, kind = struct.unpack_from(">h10x4s", content, 6)
            if (kind == b"raw " and bits > 8) or kind == b"42ni":  # which libsndfile refuses
                said = f"{kind.decode().strip()!r} with {bits} bits"
                raise AudioError("open", f"samples of AIFF-C's kind {said} are not read")
            return kind == b"sowt" and bits not in _SOWT_BITS
    return False


def _require_packed(head: bytes) -> None:
    """Refuse a CAF whose linear samples leave bits empty, since it does not say which.

    Its description is the first chunk, behind 20 bytes (Core Audio Format Specification 1.0).
    """
    if len(head) < 52 or head[8:12] != b"desc" or head[28:32] != b"lpcm":
        return
    frame_bytes, num_samples, channels, bits = struct.unpack_from(">IIII", head, 36)
    if num_samples != 1:
        raise AudioError("open", f"its header says that {num_samples} samples are one")
    if frame_bytes * 8 != channels * bits:
        frame = f"{frame_bytes} bytes for {channels} channel{'s' * (channels > 1)}"
        said = f"{bits} bits in {frame}, and not which of them are used"
        raise AudioError("open", f"its header says that samples have {said}")
