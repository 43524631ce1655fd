"""The deadline of an item: an instant, or seconds after the start of its run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from progressbar_tracker._models import format_value
from progressbar_tracker._text import parse_duration

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    DeadlineLike: TypeAlias = datetime | timedelta | float

MAX_DEADLINE_SECONDS: Final = 100 * 365.25 * 86400.0  # a longer time is a mistake


class Deadline(NamedTuple):
    """An instant, or a duration from which the start of a run makes an instant.

    Attributes:
        at: Seconds since the epoch.
        after: Seconds from the start of the run.
    """

    at: float | None = None
    after: float | None = None

    def to_rfc3339(self, started_at: float) -> str:
        """Return the instant as RFC 3339 text, for a run that started at ``started_at`` (seconds since the epoch).

        >>> Deadline(after=60.0).to_rfc3339(0.0)
        '1970-01-01T00:01:00.000+00:00'
        """
        from datetime import UTC, datetime

        instant = started_at + (self.after or 0.0) if self.at is None else self.at
        return datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds")


def make_deadline(value: DeadlineLike) -> Deadline:
    """Convert and validate the argument ``deadline`` of ``track()``.

    Args:
        value: An instant, in local time if it has no time zone; or a duration, as a ``timedelta`` or in seconds.

    Raises:
        TypeError: The type of ``value`` is another.
        ValueError: The duration is not from 0 to 100 years, or the instant is not from 1970 to 2169.

    >>> make_deadline(90)
    Deadline(at=None, after=90.0)
    """
    seconds: object = value
    if not isinstance(value, int | float):
        # Not at the top: this module is on the path of `import progressbar_tracker`. Such an object has imported it.
        from datetime import datetime, timedelta

        if isinstance(value, datetime):
            return Deadline(at=_to_timestamp(value))
        seconds = value.total_seconds() if isinstance(value, timedelta) else None  # type: ignore[redundant-expr]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"deadline must be a datetime, a timedelta or a number of seconds, not {format_value(value)}")
    if not 0 <= seconds <= MAX_DEADLINE_SECONDS:
        raise ValueError(f"deadline must be from 0 seconds to 100 years after the beginning, not {format_value(value)}")
    return Deadline(after=float(seconds))


def _to_timestamp(value: datetime) -> float:
    try:
        at = value.timestamp()
    except (OverflowError, ValueError, OSError):  # near an end of the calendar
        at = -1.0
    if not 0 <= at <= 2 * MAX_DEADLINE_SECONDS:
        raise ValueError(f"deadline must be an instant from 1970 to 2169, not {format_value(value)}")
    return at


def parse_deadline(text: str) -> DeadlineLike:
    """Parse ``90s``, ``1h30m``, ``2d``, or an instant such as ``2026-01-31 18:00``.

    Raises:
        ValueError: The text is neither, or out of range.

    >>> parse_deadline("1h30m"), parse_deadline("90"), parse_deadline("2 d")
    (5400.0, 90.0, 172800.0)
    """
    from datetime import datetime

    due: DeadlineLike
    try:
        due = parse_duration(text, default_unit="s")
    except ValueError:
        try:
            due = datetime.fromisoformat(text.strip())
        except ValueError:
            raise ValueError(
                f"{text!r} is neither a time such as 90s or 1h30m nor an instant such as 2026-01-31T18:00"
            ) from None
    make_deadline(due)
    return due
