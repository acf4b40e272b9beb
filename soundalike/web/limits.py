"""What the server gives at most to anybody who asks."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be sent, kept and asked for.

    Attributes:
        upload_bytes: Of a file that is sent.
        upload_s: How long it may be, in seconds.
        asked_s: How much of it may ask at once, in seconds: 12 windows take a core some 2 s.
        hits: Of one question, over all of its pages.
        zipped: Hits whose audio is packed into one file.
        uploads: Files that are kept; the oldest go first.
        kept_s: How long they are kept after they were last asked for, in seconds.
        cache_bytes: Of decoded spans and pictures.
        played_s: Of one span that is played or drawn, in seconds.
        body_bytes: Of any other request.
        selections: Parts of the map that are kept, as long as what was sent; the oldest go first.
        selected_bytes: Of all of them: 8 for each window.
    """

    upload_bytes: int = 200_000_000
    upload_s: float = 3600.0
    asked_s: float = 120.0
    hits: int = 1000
    zipped: int = 200
    uploads: int = 64
    kept_s: float = 3600.0
    cache_bytes: int = 500_000_000
    played_s: float = 600.0
    body_bytes: int = 1_000_000
    selections: int = 64
    selected_bytes: int = 64_000_000

    def told(self) -> dict[str, float]:
        """Return what a page has to know of them."""
        return {
            name: value
            for name, value in asdict(self).items()
            if name in ("upload_bytes", "upload_s", "asked_s", "hits", "zipped")
        }
