"""Clock times as a reader has them: in a time zone, with 24 hours or with AM and PM.

``clock.js`` of the pages has the same functions, and both pass the same table of cases.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from ._text import round_to_step

if TYPE_CHECKING:
    from datetime import date, tzinfo

ClockLocale: TypeAlias = Literal["en-GB", "en-US"]

_WEEKDAY_NAMES: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTH_NAMES: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sept", "Oct", "Nov", "Dec")


class Clock(NamedTuple):
    """The clock of a reader.

    Attributes:
        zone: The time zone; ``None`` for the zone of this process.
        locale: ``"en-GB"`` for 24 hours, ``"en-US"`` for AM and PM.
        suffix: The text after a clock time, for a reader whose zone is unknown.
    """

    zone: tzinfo | None = None
    locale: ClockLocale = "en-GB"
    suffix: str = ""

    def add_suffix(self, text: str) -> str:
        """Return a clock time or a date with the suffix, which a date does not need."""
        return text + self.suffix if ":" in text else text


UTC_CLOCK: Final = Clock(UTC, suffix=" UTC")
"""The clock of a reader whose zone is unknown."""


def format_clock_time(at: float, now: float, clock: Clock, *, step: int = 60, near: float | None = None) -> str:
    """Return a clock time, with its day unless that is today; only the date if it is a week away or more.

    Args:
        at: The instant, in seconds since the epoch.
        now: The current instant.
        clock: The clock of the reader.
        step: Seconds to which the time is rounded.
        near: An instant whose day has just been named, and is not named again.
    """
    local, today = _localize(round_to_step(at, step), clock), _localize(now, clock)
    if local is None or today is None:
        return ""
    days = (local.date() - today.date()).days
    if abs(days) >= 7:
        return _format_date(local.date(), clock, has_year=abs(days) >= 330)
    hour = local.strftime("%H:%M")
    if clock.locale == "en-US":
        hour = f"{local.hour % 12 or 12}:{local:%M} {'AM' if local.hour < 12 else 'PM'}"
    named = today if near is None else _localize(round_to_step(near, step), clock)
    is_named = named is not None and local.date() == named.date()
    return hour if is_named else f"{_WEEKDAY_NAMES[local.weekday()]} {hour}"


def _format_date(day: date, clock: Clock, *, has_year: bool) -> str:
    if clock.locale == "en-US":
        return f"{_MONTH_NAMES[day.month - 1][:3]} {day.day}{f', {day.year}' if has_year else ''}"
    return f"{day.day} {_MONTH_NAMES[day.month - 1]}{f' {day.year}' if has_year else ''}"


def _localize(at: float, clock: Clock) -> datetime | None:
    try:
        return datetime.fromtimestamp(at, clock.zone)
    except (ValueError, OverflowError, OSError):
        return None
