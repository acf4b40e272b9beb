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
    from indexer.errors import AudioError as AudioError
    from indexer.errors import CheckpointError as CheckpointError
    from indexer.errors import DamagedStoreError as DamagedStoreError
    from indexer.errors import ExpressionError as ExpressionError
    from indexer.errors import IdentityError as IdentityError
    from indexer.errors import LibraryError as LibraryError
    from indexer.errors import QueryError as QueryError
    from indexer.errors import SoundalikeError as SoundalikeError
    from indexer.errors import SoundalikeWarning as SoundalikeWarning
    from indexer.errors import StoreError as StoreError
    from indexer.errors import UnknownTagError as UnknownTagError
    from indexer.progress import Step as Step
    from search.asking.answers import Hit as Hit
    from search.asking.terms import Terms as Terms
    from soundalike.answer import Answer as Answer
    from soundalike.machine import machine as machine
    from soundalike.opening import open as open  # noqa: A004 - used as soundalike.open
    from soundalike.remote import Remote as Remote
    from soundalike.remote import connect as connect
    from soundalike.sounds import Sounds as Sounds

#: Name → the module that it is imported from.
_HOMES = {
    "Answer": "soundalike.answer",
    "AudioError": "indexer.errors",
    "CheckpointError": "indexer.errors",
    "DamagedStoreError": "indexer.errors",
    "ExpressionError": "indexer.errors",
    "Hit": "search.asking.answers",
    "IdentityError": "indexer.errors",
    "LibraryError": "indexer.errors",
    "Model": "indexer.embedding.whole",
    "QueryError": "indexer.errors",
    "Remote": "soundalike.remote",
    "SoundalikeError": "indexer.errors",
    "SoundalikeWarning": "indexer.errors",
    "Sounds": "soundalike.sounds",
    "Step": "indexer.progress",
    "StoreError": "indexer.errors",
    "Terms": "search.asking.terms",
    "UnknownTagError": "indexer.errors",
    "connect": "soundalike.remote",
    "load_model": "indexer.embedding.whole",
    "machine": "soundalike.machine",
    "open": "soundalike.opening",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib import metadata  # noqa: PLC0415 - it takes as long as all else here

        return metadata.version("soundalike")
    if name not in _HOMES:
        raise AttributeError(f"module 'soundalike' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
