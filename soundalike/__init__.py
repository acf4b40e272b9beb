"""Index a library of sounds once, then ask it what else sounds like a clip.

    import soundalike

    sounds = soundalike.open("birds.soundalike", checkpoint="demo")
    sounds.index("data/samples/birds")
    for hit in sounds.search("crow.ogg", k=3, tags=["Bird"]):
        print(f"{hit.score:.3f}  {hit.path}  {hit.start_s:.1f} s to {hit.end_s:.1f} s")

Names are imported when they are first used: `import soundalike` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexer.embedding.whole import Model as Model
    from indexer.embedding.whole import load_model as load_model

    from indexer.errors import SoundalikeError as SoundalikeError
    from indexer.progress import Step as Step
    from search.asking.answers import Hit as Hit
    from search.asking.terms import Terms as Terms
    from soundalike.answer import Answer as Answer
    from soundalike.sounds import Sounds as Sounds
    from soundalike.sounds import open as open  # noqa: A004 - used as soundalike.open

#: Name → the module that it is imported from.
_HOMES = {
    "Answer": "soundalike.answer",
    "Hit": "search.asking.answers",
    "Model": "indexer.embedding.whole",
    "SoundalikeError": "indexer.errors",
    "Sounds": "soundalike.sounds",
    "Step": "indexer.progress",
    "Terms": "search.asking.terms",
    "load_model": "indexer.embedding.whole",
    "open": "soundalike.sounds",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'soundalike' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
