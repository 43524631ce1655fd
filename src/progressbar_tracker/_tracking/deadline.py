"""When an item is late: an instant, or so many seconds after its run has begun."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from progressbar_tracker._models import shown

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    Due: TypeAlias = datetime | timedelta | float

LONGEST: Final = 100 * 365.25 * 86400.0  # seconds: what is later than that is a mistake

_PIECE: Final = re.compile(r"(\d+(?:\.\d+)?)(s|min|m|h|d|w)?", re.ASCII)
_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


class Deadline(NamedTuple):
    """A point in time that is not known before a run begins, unless it is ``at`` that is given.

    Attributes:
        at: Seconds since the epoch.
        after: Seconds from the beginning of the run.
    """

    at: float | None = None
    after: float | None = None

    def told(self, began_at: float) -> str:
        """Return the instant as RFC 3339, for a run that began at another, in seconds since the epoch.

        >>> Deadline(after=60.0).told(0.0)
        '1970-01-01T00:01:00.000+00:00'
        """
        from datetime import UTC, datetime

        instant = began_at + (self.after or 0.0) if self.at is None else self.at
        return datetime.fromtimestamp(instant, UTC).isoformat(timespec="milliseconds")


def deadline_of(value: Due) -> Deadline:
    """Return what ``deadline=`` stands for.

    Args:
        value: An instant, in local time where it names no zone; or how long a run may take, as a ``timedelta`` or in
            seconds.

    Raises:
        TypeError: It is nothing of these.
        ValueError: It is no stretch of time from 0 to 100 years, or an instant further away than that.

    >>> deadline_of(90)
    Deadline(at=None, after=90.0)
    """
    seconds: object = value
    if not isinstance(value, int | float):
        # Not above: this is on the path of `import progressbar_tracker`. Who has such an object has imported it.
        from datetime import datetime, timedelta

        if isinstance(value, datetime):
            return Deadline(at=_instant(value))
        seconds = value.total_seconds() if isinstance(value, timedelta) else None  # type: ignore[redundant-expr]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"deadline must be a datetime, a timedelta or a number of seconds, not {shown(value)}")
    if not 0 <= seconds <= LONGEST:
        raise ValueError(f"deadline must be from 0 seconds to 100 years after the beginning, not {shown(value)}")
    return Deadline(after=float(seconds))


def _instant(value: datetime) -> float:
    try:
        at = value.timestamp()
    except (OverflowError, ValueError, OSError):  # it lies at an end of the calendar
        at = -1.0
    if not 0 <= at <= 2 * LONGEST:
        raise ValueError(f"deadline must be an instant from 1970 to 2169, not {shown(value)}")
    return at


def typed(text: str) -> Due:
    """Return the deadline that a person has typed: ``90s``, ``1h30m``, ``2d``, or an instant as ``2026-01-31 18:00``.

    Raises:
        ValueError: It is neither, or out of range.

    >>> typed("1h30m"), typed("90"), typed("2 d")
    (5400.0, 90.0, 172800.0)
    """
    from datetime import datetime

    due: Due
    bare = text.strip().replace(" ", "")
    pieces = _PIECE.findall(bare)
    if pieces and "".join(number + unit for number, unit in pieces) == bare:
        due = sum(float(number) * _UNITS[unit] for number, unit in pieces)
    else:
        try:
            due = datetime.fromisoformat(text.strip())
        except ValueError:
            raise ValueError(
                f"{text!r} is neither a time such as 90s or 1h30m nor an instant such as 2026-01-31T18:00"
            ) from None
    deadline_of(due)
    return due
