"""Time of day from the names that recorders give, and from what a user says."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.asking.clock import clock_at, time_from_name, time_from_value

#: Names as manuals and makers give them, and when these recordings begin.
NAMES = {
    # AudioMoth
    "20190509_063800.WAV": "2019-05-09T06:38:00",
    "20190509_063800T.WAV": "2019-05-09T06:38:00",
    "24F319055FDF2F5B_20190509_063800.WAV": "2019-05-09T06:38:00",
    "5E90A4D4.WAV": "2020-04-10T16:54:44+00:00",
    "5e90a4d4.flac": "2020-04-10T16:54:44+00:00",
    "58061223.WAV": "2016-10-18T12:14:27+00:00",
    # Song Meter Mini 2, SM2, SM3, SM3 with GPS
    "WALDEN_20240601_140505.wav": "2024-06-01T14:05:05",
    "S4A02641_20250220_170000.wav": "2025-02-20T17:00:00",
    "SM3_0+1_20161023_195550.wav": "2016-10-23T19:55:50",
    "ARIZONA-1_20161023$195550.wac": "2016-10-23T19:55:50",
    "SM304290_0+1_20150722$053000.wav": "2015-07-22T05:30:00",
    "WALDEN_20240601_140505_0+1.wav": "2024-06-01T14:05:05",
    "PREFIX_20240601_140505_003.wav": "2024-06-01T14:05:05",
    # with the zone
    "20190315T161500+1000_Site-1.flac": "2019-03-15T16:15:00+10:00",
    "SITE_20240601_140505-0330.wav": "2024-06-01T14:05:05-03:30",
    "G024_V1_C2065_U1_20210510_180000Z.flac": "2021-05-10T18:00:00+00:00",
    "Queens_20230502_010000_Z.WAV": "2023-05-02T01:00:00+00:00",
    # a number before it, a last one behind it
    "SanctSound_SB01_15_67403784_20210324_223239.wav": "2021-03-24T22:32:39",
    # no zone there is: a number of its own
    "SITE_20240601_140505-2024.wav": "2024-06-01T14:05:05",
    "SITE_20240601_140505-1405.wav": "2024-06-01T14:05:05",
    "SITE_20240601_140505-01.wav": "2024-06-01T14:05:05",
    "SITE_20240601_140505-0015.wav": "2024-06-01T14:05:05",
    "SITE_20240601_140505_Zoo.wav": "2024-06-01T14:05:05",
}
#: What looks like a time and cannot be one.
NO_TIMES = [
    "20191309_063800.WAV",  # month 13
    "20190532_063800.WAV",
    "20190229_063800.WAV",  # no leap year
    "20190509_253800.WAV",  # hour 25
    "20190509_066000.WAV",
    "20190509_063860.WAV",
    "19700101_000523.WAV",  # the clock was not set
    "10000101_000000.WAV",
    "30190509_063800.WAV",
    "20190509.wav",  # a day
    "20190509_0638.wav",
    "20190509_0638001.wav",
    "120190509_063800.wav",
    "10160435.wav",  # a device and a counter
    "58061223.wav",  # a number
    "00000000.WAV",  # 1970
    "FFFFFFFF.WAV",  # 2106
    "DEADBEEF.WAV",  # 2088
    "5E90A4D.WAV",
    "5E90A4D41.WAV",
    "x5E90A4D4.WAV",
    "\uff12\uff10\uff11\uff19\uff10\uff15\uff10\uff19_063800.wav",  # digits of another kind
    "dawn.wav",
    "",
]
SOME_TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2099, 12, 31)).map(
    lambda one: one.replace(microsecond=0)
)
#: No zone is off UTC by less than an hour.
ZONES = (
    st.integers(-12 * 4, 14 * 4)
    .filter(lambda quarters: not 0 < abs(quarters) < 4)
    .map(lambda quarters: timedelta(minutes=15 * quarters))
)


@pytest.mark.parametrize(("name", "wanted"), NAMES.items())
def test_name_of_a_recorder_says_when_it_began(name: str, wanted: str) -> None:
    found = time_from_name(name)
    assert found
    assert found.isoformat() == wanted


@pytest.mark.parametrize("name", NO_TIMES)
def test_name_that_only_looks_like_one_says_nothing(name: str) -> None:
    assert time_from_name(name) is None


@given(SOME_TIMES, st.sampled_from("_$T"), st.text("ABZ01-_+", max_size=8), ZONES | st.none())
def test_any_time_is_read_back_from_its_name(
    when: datetime, between: str, prefix: str, offset: timedelta | None
) -> None:
    zone = "" if offset is None else when.replace(tzinfo=timezone(offset)).strftime("%z")
    name = f"{prefix}_{when:%Y%m%d}{between}{when:%H%M%S}{zone}.wav"
    expected = when if offset is None else when.replace(tzinfo=timezone(offset))
    found = time_from_name(name)
    assert found == expected
    assert found.utcoffset() == offset


@given(st.integers(0, 2**32 - 1))
def test_name_in_hex_is_read_where_it_is_a_plausible_time(second: int) -> None:
    when = datetime.fromtimestamp(second, UTC)
    name = f"{second:08X}"
    assert time_from_name(f"{name}.WAV") == (when if 2016 <= when.year < 2036 else None)
    if name.isdecimal():
        assert time_from_name(f"{name}.flac") is None


@given(st.integers(0, 10**14 - 1))
def test_what_is_read_is_what_is_written(digits: int) -> None:
    """Fourteen digits are the very time that they spell, or none."""
    name = f"{digits // 10**6:08d}_{digits % 10**6:06d}.wav"
    found = time_from_name(name)
    if found:
        assert f"{found:%Y%m%d_%H%M%S}.wav" == name


@given(st.text())
def test_no_name_is_an_error(name: str) -> None:
    found = time_from_name(name)
    assert found is None or isinstance(found, datetime)


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ("2024-05-01T06:30:00", "2024-05-01T06:30:00"),
        (" 2024-05-01 06:30 ", "2024-05-01T06:30:00"),
        ("2024-05-01T06:30:00Z", "2024-05-01T06:30:00+00:00"),
        ("2024-05-01T06:30:00+02:00", "2024-05-01T06:30:00+02:00"),
        ("20240501T063000-0500", "2024-05-01T06:30:00-05:00"),
        ("2024-05-01T06:30:00.25", "2024-05-01T06:30:00.250000"),
        (datetime(2024, 5, 1, 6, 30), "2024-05-01T06:30:00"),
        (
            datetime(2024, 5, 1, 6, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
            "2024-05-01T06:30:00+02:00",
        ),
    ],
)
def test_time_that_a_user_gives_keeps_its_zone(said: object, wanted: str) -> None:
    found = time_from_value(said)
    assert found
    assert found.isoformat() == wanted


@pytest.mark.parametrize(
    "said",
    [
        None,
        "",
        "last tuesday",
        "2024-05-01",
        "06:30:00",
        "2024-13-01T06:30:00",
        "2024-05-01T25:00:00",
        "2024-05-01T06:30:00 MESZ",
        20240501,
        7.5,
        True,
    ],
)
def test_what_is_no_time_says_nothing(said: object) -> None:
    assert time_from_value(said) is None


def test_what_a_user_says_comes_before_the_name_and_that_before_nothing() -> None:
    names = ["dawn.wav", "20190509_063800.WAV", "20200509_063800.WAV"]
    assert clock_at(names, "2024-05-01T06:30:00+02:00", 12.5) == datetime(
        2024, 5, 1, 6, 30, 12, 500_000, timezone(timedelta(hours=2))
    )
    assert clock_at(names, "last tuesday", 60) is None  # said because the name is wrong
    for nothing in (None, "", " "):
        assert clock_at(names, nothing, 60) == datetime(2019, 5, 9, 6, 39)
    assert clock_at(["dawn.wav"], None, 60) is None
    assert clock_at([], "9999-12-31T23:59:59", 60) is None


def test_seconds_are_added_across_the_end_of_summer_time() -> None:
    """At 03:00 in Berlin it was 02:00 again: two hours after 01:30 it is 02:30, in winter."""
    begun = datetime(2024, 10, 27, 1, 30, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
    at = clock_at([], begun, 7200)
    assert at
    assert at.astimezone(UTC) == begun.astimezone(UTC) + timedelta(hours=2)


@given(SOME_TIMES, st.floats(0, 1e6))
def test_place_is_so_many_seconds_after_the_begin(when: datetime, offset_s: float) -> None:
    at = clock_at([f"X_{when:%Y%m%d_%H%M%S}.wav"], None, offset_s)
    assert at
    assert (at - when).total_seconds() == pytest.approx(offset_s, abs=1e-6)
