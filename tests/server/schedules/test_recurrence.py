"""Expected starts, over changes of the clock, leap days and time zones."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker._models import FieldError
from progressbar_tracker.server.schedules.recurrence import (
    check_cron,
    check_every,
    check_grace,
    check_timezone,
    find_next_start,
    find_open_start,
    find_shown_start,
    is_missed,
)
from tests.support.schedules import local, make_schedule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from progressbar_tracker.server.models import ScheduleRecord

BERLIN_ZONE = "Europe/Berlin"


def iterate_starts(schedule: ScheduleRecord, after: float) -> Iterator[float]:
    at: float | None = after
    while (at := find_next_start(schedule, at)) is not None:
        yield at


def list_starts(cron: str, after: str, count: int, timezone: str = BERLIN_ZONE, fold: int = 0) -> list[str]:
    schedule = make_schedule(cron=cron, timezone=timezone, since=0.0)
    starts = islice(iterate_starts(schedule, local(after, timezone, fold)), count)
    return [datetime.fromtimestamp(at, ZoneInfo(timezone)).isoformat(timespec="minutes") for at in starts]


def test_start_in_a_skipped_hour_is_expected_after_it() -> None:
    assert list_starts("30 2 * * *", "2026-03-28T12:00", 2) == ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]


def test_two_starts_in_a_skipped_hour_are_one() -> None:
    assert list_starts("0,30 2 * * *", "2026-03-28T12:00", 2) == ["2026-03-29T03:00+02:00", "2026-03-30T02:00+02:00"]


def test_fixed_time_in_a_repeated_hour_is_expected_once() -> None:
    assert list_starts("30 2 * * *", "2026-10-24T12:00", 2) == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]


def test_next_start_after_the_second_pass_is_not_in_the_past() -> None:
    assert list_starts("30 2 * * *", "2026-10-25T02:10", 1, fold=1) == ["2026-10-26T02:30+01:00"]


def test_hourly_start_is_expected_in_both_passes_of_an_hour() -> None:
    assert list_starts("15 * * * *", "2026-10-25T01:50", 3) == [
        "2026-10-25T02:15+02:00", "2026-10-25T02:15+01:00", "2026-10-25T03:15+01:00",
    ]  # fmt: skip


def test_hourly_start_leaves_out_a_skipped_hour() -> None:
    assert list_starts("15 * * * *", "2026-03-29T00:50", 2) == ["2026-03-29T01:15+01:00", "2026-03-29T03:15+02:00"]


def test_half_hour_change_of_the_clock_is_followed() -> None:
    zone = "Australia/Lord_Howe"
    assert list_starts("15 2 * * *", "2026-10-03T12:00", 2, zone) == [
        "2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00",
    ]  # fmt: skip


def test_leap_day_is_expected_in_leap_years_only() -> None:
    assert list_starts("0 0 29 2 *", "2026-01-01", 2, "UTC") == ["2028-02-29T00:00+00:00", "2032-02-29T00:00+00:00"]


def test_time_zone_moves_the_start() -> None:
    assert list_starts("0 9 * * MON", "2026-11-30T00:00", 1, "Asia/Tokyo") == ["2026-11-30T09:00+09:00"]
    assert list_starts("0 9 * * MON", "2026-11-30T00:00", 1, "America/New_York") == ["2026-11-30T09:00-05:00"]


def test_period_begins_with_the_latest_start_or_miss() -> None:
    schedule = make_schedule(every=600.0, since=1000.0)
    assert find_next_start(schedule, 0.0) == 1600.0
    assert find_next_start(schedule, 2000.0) == 2200.0
    started = make_schedule(every=600.0, since=1000.0, started_at=1234.5)
    assert find_next_start(started, 1234.5) == 1834.0
    missed = make_schedule(every=600.0, since=1000.0, started_at=1234.5, missed_at=1834.0)
    assert find_next_start(missed, 1834.0) == 2434.0


def test_early_start_meets_the_next_expected_start() -> None:
    nine = local("2026-12-01T09:00", "UTC")
    schedule = make_schedule(cron="0 9 * * *", since=0.0, started_at=nine - 20)
    assert find_open_start(schedule) == nine + 86_400
    earlier = make_schedule(cron="0 9 * * *", since=0.0, started_at=nine - 40)
    assert find_open_start(earlier) == nine


def test_start_is_shown_until_its_grace_has_passed() -> None:
    nine = local("2026-12-01T09:00", "UTC")
    schedule = make_schedule(cron="0 9 * * *", since=nine - 3600, grace=300.0)
    assert find_shown_start(schedule, nine - 10) == nine
    assert find_shown_start(schedule, nine + 299) == nine
    assert find_shown_start(schedule, nine + 300) == nine + 86_400


def test_schedule_is_missed_until_a_run_starts() -> None:
    assert is_missed(make_schedule(since=1.0, missed_at=5.0, started_at=2.0))
    assert not is_missed(make_schedule(since=1.0, missed_at=5.0, started_at=6.0))
    assert not is_missed(make_schedule(since=6.0, missed_at=5.0))


def test_unknown_time_zone_of_a_stored_schedule_has_no_start() -> None:
    assert find_next_start(make_schedule(timezone="Mars/Olympus", since=0.0), 0.0) is None


@pytest.mark.parametrize("cron", [
    "", "* * * *", "* * * * * *", "@daily", "60 * * * *", "* * 0 * *", "0 0 30 2 *", "x * * * *", "*/0 * * * *",
    "1,,2 * * * *", "* * * * 8", "0 0 31 2,4 *", "٣ * * * *", "\x00 * * * *", "*" * 101, 7, None, ["*"],
])  # fmt: skip
def test_invalid_cron_expression_is_refused(cron: object) -> None:
    with pytest.raises(FieldError):
        check_cron(cron)


def test_cron_expression_is_returned_with_single_spaces() -> None:
    assert check_cron("  0   3 * *  mon-fri ") == "0 3 * * mon-fri"


@pytest.mark.parametrize("name", [
    "", "Mars/Olympus", "../UTC", "/etc/passwd", "Europe", "Europe/../UTC", "tzdata.zi", "a" * 65, "Europe/Paris\n", 7,
])  # fmt: skip
def test_invalid_time_zone_is_refused(name: object) -> None:
    with pytest.raises(FieldError):
        check_timezone(name)


@pytest.mark.parametrize("seconds", [59, 60.5, 366 * 86_400 + 1, -60, True, "60", float("nan"), 1e300])
def test_period_out_of_range_is_refused(seconds: object) -> None:
    with pytest.raises(FieldError):
        check_every(seconds)


@pytest.mark.parametrize("seconds", [9, 10.5, 7 * 86_400 + 1, "10"])
def test_grace_out_of_range_is_refused(seconds: object) -> None:
    with pytest.raises(FieldError):
        check_grace(seconds)


@given(
    st.sampled_from(["* * * * *", "30 2 * * *", "*/7 1-3 * * *", "0 0 L * *", "15 2 29 2 *", "0 3 * * SUN#1"]),
    st.sampled_from([BERLIN_ZONE, "America/New_York", "Australia/Lord_Howe", "UTC", "Africa/Casablanca"]),
    st.floats(0, 4e9),
)
def test_next_start_is_the_same_from_any_earlier_instant(cron: str, timezone: str, after: float) -> None:
    schedule = make_schedule(cron=cron, timezone=timezone, since=0.0)
    start = find_next_start(schedule, after)
    assert start is not None
    assert start > after
    assert find_next_start(schedule, (after + start) / 2) == start
