"""What the command adds to an error: the flag or the command that helps.

The libraries do not know the command: their errors say in plain words what is wrong and what to do,
and name what they are about. A page or a notebook has other means.
"""

from __future__ import annotations

import shlex

from indexer.errors import SoundalikeError, SoundalikeWarning

#: What an error is about → what helps, and what stands in it where the error gives no value.
HINTS = {
    "allow_gone": ("say --allow-gone if they were deleted on purpose", ""),
    "allow_leak": ("or --allow-leak, which writes this into every file", ""),
    "anew": ("run: soundalike build {value} --anew", "STORE"),
    "build": ("run: soundalike build {value}", "STORE"),
    "checkpoint": ("say --checkpoint {value}", "NAME"),
    "device": ("say --device {value}", "cpu"),
    "export": ("or run: soundalike export {value}", "csv"),
    "files_from": ("--files-from FILE reads such a list", ""),
    "force": ("or say --force to replace {value}", "it"),
    "frames": ("say --frames {value}", "pooled"),
    "hidden": ("--hidden reads them", ""),
    "include": ("--include '*' reads files whatever they are called", ""),
    "index": ("run: soundalike index LIBRARY --store {value}", "STORE"),
    "is_clean": (
        "--checkpoint-clean, if you know that it was not; or --allow-leak, which writes this into "
        "every file",
        "",
    ),
    "label": ("run: soundalike label {value} --yes ID", "STORE NAME"),
    "learn": ("run: soundalike learn {value}", "STORE NAME"),
    "library": ("run: soundalike index {value}", "LIBRARY"),
    "locate": ("or leave out --by place", ""),
    "map": ("run: soundalike map {value} --anew", "STORE"),
    "named_encoder": ("say --text-encoder {value}", "NAME"),
    "native": ("say --native, too", ""),
    "num_workers": ("say --workers 1, or --workers 0", ""),
    "other_store": ("say --store {value}", "DIR"),
    "port": ("say --port 0 for one that is free", ""),
    "projection": (
        "run: soundalike train projection {value} CAPTIONS",
        "STORE",
    ),
    "ray": ("say --ray, too", ""),
    "ray_extra": ("'pip install \"soundalike[ray]\"' brings it", ""),
    "remote_extra": ("'pip install \"soundalike[remote]\"' brings it", ""),
    "recompute": ("--recompute does that", ""),
    "shared_memory": ("in a container, docker run --shm-size 1g mends that", ""),
    "start_s": ("choose another --start", ""),
    "share": ("'soundalike learn --share' writes them", ""),
    "shard": ("say --shard I/N, too", ""),
    "stage": ("say --stage DIR, where shards are kept", ""),
    "store": ("--store DIR says where it is", ""),
    "stored": ("say {value} in its place", ""),
    "strict": ("without --strict this is recorded and the run goes on", ""),
    "tag": ("'soundalike tag' listens to single files", ""),
    "tags": ("'soundalike tags' lists all of them", ""),
    "token": ("leave out --no-token", ""),
    "thresholds": ("run: soundalike thresholds {value} --labels FILE", "STORE"),
    "verify": ("run: soundalike verify {value}", "STORE"),
    "text_encoder": ("say --text-encoder FILE", ""),
    "where": ("say --where EXPR", ""),
    "which_projection": ("say --projection {value}", "NAME"),
    "window_id": ("'soundalike search --format json' shows the ids of hits", ""),
}


def with_hint(error: SoundalikeError | SoundalikeWarning) -> str:
    """Return what an error or a warning says, and behind it what the command has that helps."""
    return hinted(str(error), error.about, error.value)


def hinted(text: str, about: str | None, value: object) -> str:
    """Return a text about something, and behind it what the command has that helps."""
    if about is None:
        return text
    hint, otherwise = HINTS[about]
    words = value if isinstance(value, tuple) else (value,)  # several: the store and a name
    shown = otherwise if value is None else shlex.join(map(str, words))
    return f"{text.rstrip('.')}; {hint.format(value=shown)}"
