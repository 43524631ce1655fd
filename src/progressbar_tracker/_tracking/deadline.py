"""When an item is late: an instant, or so many seconds after its run has begun."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from progressbar_tracker._models import format_value

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    DeadlineLike: TypeAlias = datetime | timedelta | float

MAX_DEADLINE_SECONDS: Final = 100 * 365.25 * 86400.0  # seconds: what is later than that is a mistake

_DURATION_PIECE: Final = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h|d|w)?", re.ASCII)
_UNIT_SECONDS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


class Deadline(NamedTuple):
    """A point in time that is not known before a run begins, unless it is ``at`` that is given.

    Attributes:
        at: Seconds since the epoch.
        after: Seconds from the beginning of the run.
    """

    at: float | None = None
    after: float | None = None

    def to_rfc3339(self, started_at: float) -> str:
        """Return the instant as RFC 3339, for a run that began at another, in seconds since the epoch.

        >>> Deadline(after=60.0).to_rfc3339(0.0)
        '1970-01-01T00:01:00.000+00:00'
        """
        from datetime import UTC, datetime

        instant = started_at + (self.after or 0.0) if self.at is None else self.at
        return datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds")


def make_deadline(value: DeadlineLike) -> Deadline:
    """Return what ``deadline=`` stands for.

    Args:
        value: An instant, in local time where it names no zone; or how long a run may take, as a ``timedelta`` or in
            seconds.

    Raises:
        TypeError: It is nothing of these.
        ValueError: It is no stretch of time from 0 to 100 years, or an instant further away than that.

    >>> make_deadline(90)
    Deadline(at=None, after=90.0)
    """
    seconds: object = value
    if not isinstance(value, int | float):
        # Not above: this is on the path of `import progressbar_tracker`. Who has such an object has imported it.
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
    except (OverflowError, ValueError, OSError):  # it lies at an end of the calendar
        at = -1.0
    if not 0 <= at <= 2 * MAX_DEADLINE_SECONDS:
        raise ValueError(f"deadline must be an instant from 1970 to 2169, not {format_value(value)}")
    return at


def parse_deadline(text: str) -> DeadlineLike:
    """Return the deadline that a person has typed: ``90s``, ``1h30m``, ``2d``, or an instant as ``2026-01-31 18:00``.

    Raises:
        ValueError: It is neither, or out of range.

    >>> parse_deadline("1h30m"), parse_deadline("90"), parse_deadline("2 d")
    (5400.0, 90.0, 172800.0)
    """
    from datetime import datetime

    due: DeadlineLike
    bare = text.strip().replace(" ", "")
    pieces = _DURATION_PIECE.findall(bare)
    if pieces and "".join(number + unit for number, unit in pieces) == bare:
        due = sum(float(number) * _UNIT_SECONDS[unit] for number, unit in pieces)
    else:
        try:
            due = datetime.fromisoformat(text.strip())
        except ValueError:
            raise ValueError(
                f"{text!r} is neither a time such as 90s or 1h30m nor an instant such as 2026-01-31T18:00"
            ) from None
    make_deadline(due)
    return due
