"""Compute the expected starts of a schedule. Pure: instants are arguments.

A cron expression is evaluated in a time zone, as Debian's cron does. A start at a fixed time that a change of the
clock skips is expected when the clocks have moved, and one in a repeated hour is expected once.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from progressbar_tracker._models import FieldError, check_seconds, check_text, format_value
from progressbar_tracker._text import format_duration

if TYPE_CHECKING:
    from progressbar_tracker.server.models import ScheduleRecord

MAX_CRON_LENGTH: Final = 100
MAX_TIMEZONE_LENGTH: Final = 64

MIN_EVERY_SECONDS: Final = 60
MAX_EVERY_SECONDS: Final = 366 * 86_400

MIN_GRACE_SECONDS: Final = 10
"""More than the time in which a start reaches the server and is noticed."""
MAX_GRACE_SECONDS: Final = 7 * 86_400
DEFAULT_GRACE_SECONDS: Final = 300.0

EARLY_SECONDS: Final = 30.0
"""Seconds by which a run may start before its expected start: the clocks of two machines differ."""

CRON_FIELDS: Final = 5

_TIMEZONE_PATTERN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,3}")


def check_cron(value: object, field: str = "cron") -> str:
    """Return a cron expression with single spaces, if it has five fields and ever matches.

    Raises:
        FieldError: It is invalid.
    """
    text = " ".join(check_text(field, value, MAX_CRON_LENGTH, min_length=1).split())
    if len(text.split()) != CRON_FIELDS:
        raise FieldError(
            field,
            f"{field} must have five fields (minute, hour, day of month, month, day of week), not {format_value(text)}",
        )
    try:
        next(CronSim(text, datetime(2000, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise FieldError(field, f"{field} must be a cron expression, not {format_value(text)}: {error}") from None
    except StopIteration:
        raise FieldError(field, f"{field} matches no instant: {format_value(text)}") from None
    return text


def check_every(value: object, field: str = "every") -> float:
    """Return a period in whole seconds, from a minute to 366 days.

    Raises:
        FieldError: It is invalid.
    """
    return _check_whole_seconds(field, value, MIN_EVERY_SECONDS, MAX_EVERY_SECONDS)


def check_grace(value: object, field: str = "grace") -> float:
    """Return a grace in whole seconds, from 10 seconds to 7 days.

    Raises:
        FieldError: It is invalid.
    """
    return _check_whole_seconds(field, value, MIN_GRACE_SECONDS, MAX_GRACE_SECONDS)


def check_timezone(value: object, field: str = "timezone") -> str:
    """Return the name of a time zone that this machine knows.

    Raises:
        FieldError: It is invalid or unknown.
    """
    name = check_text(field, value, MAX_TIMEZONE_LENGTH, min_length=1)
    if find_timezone(name) is None:
        raise FieldError(
            field, f"{field} must be a time zone that the server knows, such as Europe/Paris, not {format_value(name)}"
        )
    return name


def find_timezone(name: str) -> tzinfo | None:
    """Return a time zone, or ``None`` if this machine does not know it."""
    if name == "UTC":
        return UTC  # a machine without a time zone database knows it, too
    if not _TIMEZONE_PATTERN.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown, no time zone file, or a folder
        return None


def find_next_start(schedule: ScheduleRecord, after: float) -> float | None:
    """Return the first expected start after an instant, and after the beginning of the schedule.

    A period begins with the latest start, with the latest missed one, or with the schedule, whichever is last.

    Args:
        schedule: The schedule.
        after: The instant.

    Returns:
        Seconds since the epoch, a whole number; ``None`` if there is none, or if the time zone is unknown.
    """
    after = max(after, schedule.since)
    if schedule.every is not None:
        base = math.floor(max(schedule.since, schedule.started_at, schedule.missed_at))
        count = max(math.floor((after - base) / schedule.every) + 1, 1)
        return base + count * schedule.every
    timezone = find_timezone(schedule.timezone)
    return None if timezone is None or schedule.cron is None else _find_cron_start(schedule.cron, timezone, after)


def find_open_start(schedule: ScheduleRecord, after: float = -math.inf) -> float | None:
    """Return the first expected start that is neither met by a start, nor missed, nor before ``after``, included."""
    met_until = schedule.started_at + EARLY_SECONDS if schedule.started_at else -math.inf
    return find_next_start(schedule, max(after, met_until, schedule.missed_at))


def is_missed(schedule: ScheduleRecord) -> bool:
    """Return whether an expected start was missed, and no run has started since."""
    return schedule.missed_at > max(schedule.since, schedule.started_at)


def find_shown_start(schedule: ScheduleRecord, now: float) -> float | None:
    """Return the expected start to show: one whose grace has not passed yet, else the next one."""
    expected = find_open_start(schedule)
    if expected is not None and expected + schedule.grace <= now:
        # It was not decided, because no server ran or the clock was set.
        return find_next_start(schedule, now)
    return expected


def _find_cron_start(cron: str, timezone: tzinfo, after: float) -> float | None:
    try:
        starts = CronSim(cron, datetime.fromtimestamp(math.floor(after), timezone))
        for start in starts:
            # The second of two equal wall times: the parser starts at the first one.
            if (at := start.timestamp()) > after:
                return at
    except (CronSimError, OverflowError, ValueError, OSError):  # a stored expression of another version
        pass
    return None


def _check_whole_seconds(field: str, value: object, lowest: int, highest: int) -> float:
    seconds = check_seconds(field, value)
    if not lowest <= seconds <= highest or seconds != math.floor(seconds):
        limits = f"{format_duration(lowest)} to {format_duration(highest)}"
        raise FieldError(field, f"{field} must be {limits}, in whole seconds, not {seconds:g} s")
    return seconds
