"""Labelled sets for `answers.py`: drum hits by kind, spoken digits by digit and by speaker.

    apt-get download hydrogen-drumkits lmms-common && for p in *.deb; do dpkg -x $p root; done
    python benchmarks/answer_sets.py drums root sets/drums
    python benchmarks/answer_sets.py voices sets

The kinds of drum hits are told by the names of the files. The digits are spoken by espeak-ng, which
has to be installed: 6 speakers, each digit at 6 speeds.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path

#: Kind → what a file is called that is of it; files of two kinds are left out.
KINDS = {
    "kick": "kick|bass.?drum",
    "snare": "snare",
    "tom": r"tom",
    "hat": "hat|hihat",
    "crash": "crash",
    "ride": "ride",
    "rim": "rim|stick",
    "clap": "clap",
    "cowbell": "cowbell",
    "bongo": "bongo|conga",
    "tambourine": "tamb|shaker|maraca",
}
SUFFIXES = {".wav", ".flac", ".ogg"}
SPEAKERS = ("en-us+m1", "en-us+f2", "en-gb+m3", "en-gb+f4", "en-gb-scotland+m7", "en-029+f5")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEEDS = (110, 130, 150, 170, 190, 210)


def sort_drums(root: Path, target: Path) -> None:
    """Copy the drum hits below a folder into a folder for each kind."""
    for file in sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES):
        kinds = [kind for kind, words in KINDS.items() if re.search(words, file.stem.lower())]
        if len(kinds) == 1:
            name = "_".join(file.parts[-2:])
            (target / kinds[0]).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / kinds[0] / name)


def speak(target: Path) -> None:
    """Let espeak-ng say the digits, and sort them by digit and by speaker."""
    for speaker in SPEAKERS:
        for digit in DIGITS:
            for speed in SPEEDS:
                name = f"{speaker}_{digit}_{speed}.wav"
                file = target / "digit" / digit / name
                file.parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(
                    ["espeak-ng", "-v", speaker, "-s", str(speed), "-w", file, digit], check=True
                )
                (target / "speaker" / speaker).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target / "speaker" / speaker / name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["drums", "voices"])
    parser.add_argument("folders", nargs="+", type=Path)
    given = parser.parse_args()
    if given.what == "drums":
        sort_drums(*given.folders)
    else:
        speak(*given.folders)
