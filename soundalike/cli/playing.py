"""Playing hits in the terminal, with a player that is there."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import soundfile

from indexer.errors import AudioError, SoundalikeError
from indexer.paths import printable
from search.asking.answers import Hit
from search.asking.collect import read_hit
from soundalike.cli.printing import say
from soundalike.show.words import clock

#: What plays a WAV file and then ends, and how it is told to be silent about it; the first that is
#: there is taken.
_PLAYERS = (
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"),
    ("mpv", "--no-video", "--really-quiet"),
    ("pw-play",),
    ("paplay",),
    ("aplay", "-q"),
    ("afplay",),
    ("play", "-q"),
)


def find_player() -> list[str]:
    """Return the command of a player.

    Raises:
        SoundalikeError: If there is none.
    """
    for name, *options in _PLAYERS:
        if path := shutil.which(name):
            return [path, *options]
    names = ", ".join(name for name, *_ in _PLAYERS)
    raise SoundalikeError(f"nothing here plays sound: install one of {names}")


def play_hits(hits: Sequence[Hit], player: Sequence[str]) -> list[str]:
    """Play what is to be listened to of each hit, one after the other, and say which it is.

    Args:
        hits: Of an answer.
        player: Of `find_player`.

    Returns:
        For each hit that could not be played a line that says why.
    """
    failures = []
    with tempfile.TemporaryDirectory(prefix="soundalike-") as folder:
        wave = Path(folder, "hit.wav")
        for rank, hit in enumerate(hits, start=1):
            name = printable(hit.paths[0].name) if hit.paths else "a recording without a path"
            start_s, end_s = hit.span
            say(f"playing {rank} of {len(hits)}: {name}, {clock(start_s)} to {clock(end_s)}")
            try:
                _, samples, rate_hz = read_hit(hit)
            except AudioError as error:
                failures.append(f"{name}: {printable(error.reason)}")
                continue
            soundfile.write(wave, samples, rate_hz, subtype="PCM_16")
            try:
                subprocess.run([*player, str(wave)], stdin=subprocess.DEVNULL, check=True)
            except subprocess.CalledProcessError as error:
                failures.append(f"{name}: {Path(player[0]).name} ended with {error.returncode}")
            except OSError as error:
                failures.append(f"{name}: {player[0]} cannot be run: {error.strerror}")
    return failures
