"""When a recording was made: from what a user says of it, or from the name that a recorder gave it.

AudioMoth writes 20190509_063800.WAV, with a T behind it if a level started the recording, and the
serial number of the device before it if so set: in UTC, unless it was set to another zone. Until
2019 it wrote the seconds since 1970, in hex: 5E90A4D4.WAV is 2020-04-10 16:54:44 in UTC. Song
Meters write PREFIX_20240601_140505.wav on their own clock, with channels before the date
(PREFIX_0+1_20161023_195550.wav), and $ for the last _ if GPS has set the clock. Others add the zone
to either: 20190315T161500+1000.flac, PREFIX_20210510_180000Z.flac.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from pathlib import PurePath

#: Date and time; then perhaps the zone: Z, or hours and minutes from UTC.
_DATED = re.compile(
    r"(?<![0-9])([0-9]{4})([0-9]{2})([0-9]{2})[_$T]([0-9]{2})([0-9]{2})([0-9]{2})(?![0-9])"
    r"(?:_?(Z)(?![A-Za-z0-9])|([+-])([0-9]{2})([0-9]{2})(?![0-9]))?"
)
_HEX = re.compile(r"[0-9A-Fa-f]{8}")
#: Years of files with dates in their names: before, no recorder wrote any; a clock that was never
#: set begins at 1970 or 1980.
_YEARS = range(1990, 2100)
#: Years of names in hex: AudioMoth came out in 2017, and devices outlive their firmware.
_HEX_YEARS = range(2016, 2036)
#: Hours from UTC, at most, of the zones that there are; all are at quarters of an hour.
_WEST_H, _EAST_H = -12, 14
#: What the text of a time begins with: a day alone is no time of day.
_TIME = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}[T ][0-9]{2}")


def clock_at(names: Iterable[str], said: object, offset_s: float) -> datetime | None:
    """Return date and time of a place in a recording; None if nothing tells.

    Args:
        names: Of its files; the first that tells counts, and only if nothing is said.
        said: When the recording begins, see `time_from_value`; None or blank if nobody says it.
            What is no time is no reason to believe a name: it was said because that is wrong.
        offset_s: Where in it the place is, in seconds.

    Returns:
        With the zone, where it is known; else as the recorder's clock said it.
    """
    if said is None or (isinstance(said, str) and not said.strip()):
        begun = next((one for one in map(time_from_name, names) if one), None)
    else:
        begun = time_from_value(said)
    if begun is None:
        return None
    try:
        return begun + timedelta(seconds=offset_s)
    except OverflowError:  # after the year 9999
        return None


def time_from_name(name: str) -> datetime | None:
    """Return when a recording begins, by the name of its file; None if that does not say it."""
    for found in _DATED.finditer(name):
        *numbers, is_utc, sign, hours, minutes = found.groups()
        zone = UTC if is_utc else _zone(sign, hours, minutes)
        try:
            begun = datetime(*map(int, numbers), tzinfo=zone)  # type: ignore[misc,arg-type]
        except ValueError:  # there is no 31st of June
            continue
        if begun.year in _YEARS:
            return begun
    path = PurePath(name)
    if not _HEX.fullmatch(path.stem) or (path.stem.isdecimal() and path.suffix != ".WAV"):
        return None  # digits alone are a number, unless the ending is as the recorder writes it
    begun = datetime.fromtimestamp(int(path.stem, 16), UTC)
    return begun if begun.year in _HEX_YEARS else None


def time_from_value(value: object) -> datetime | None:
    """Return the time that a user gives: a `datetime`, or text in ISO 8601; None if it is none.

    A day alone is none. A zone becomes its hours from UTC at that time, so that what is added to it
    does not depend on summer time.
    """
    if isinstance(value, str) and _TIME.match(value.strip()):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    offset = value.utcoffset()
    return value if offset is None else value.replace(tzinfo=timezone(offset))


def _zone(sign: str | None, hours: str, minutes: str) -> tzinfo | None:
    """Return the zone of +1000 or the like; None if there is none so far from UTC."""
    if sign is None or int(minutes) not in (0, 15, 30, 45) or 0 < int(hours + minutes) < 100:
        return None  # also for -0015, a number behind the time
    offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == "-" else 1)
    is_one = timedelta(hours=_WEST_H) <= offset <= timedelta(hours=_EAST_H)
    return timezone(offset) if is_one else None
