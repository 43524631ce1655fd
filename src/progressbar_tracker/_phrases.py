"""Phrases about the time of an item: when it ends, how long it has been silent, and whether it is slower than usual.

Pure: the item, the current instant and the clock of the reader are arguments. ``phrases.js`` of the pages has the
same functions, and both pass the same table of cases. Items may come from an older or a foreign server,
so a missing or invalid field omits its phrase and never raises.

An estimate never flickers. Its clock times come from ``finish_at``, which is constant until there is new evidence. The
remaining time is rounded to a step that follows the width of the interval. The step becomes smaller only at a multiple
of both steps, so the remaining time never grows while time passes.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from ._models import floor_percent
from ._reader_clock import UTC_CLOCK, format_clock_time
from ._text import format_age, format_duration, format_steps, round_to_step

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._reader_clock import Clock

MIN_SILENCE_SECONDS: Final = 60.0
"""The youngest last write that is mentioned: the earliest age at which an item is called stuck."""

SILENCE_FACTOR: Final = 10.0
"""Usual gaps without a write after which the last write is mentioned; an item that writes hourly is not silent."""

MIN_CLOCK_SECONDS: Final = 60.0
"""The smallest remaining time, or half interval, for which a clock time adds something."""

OVERDUE_SECONDS: Final = 10.0
"""Seconds after the predicted finish at which the estimate is given as passed."""

MAX_OVERDUE_SECONDS: Final = 7 * 86400.0
"""Seconds after the predicted finish at which the estimate is dropped."""

MAX_REMAINING_SECONDS: Final = 730 * 86400.0
"""Remaining seconds above which only ``years`` are given."""

USUAL_START_STEP: Final = 300
"""Seconds to which the usual start of the runs is rounded."""

WIDE_INTERVAL_SECONDS: Final = 6 * 3600.0
"""The width of an interval from which clock times are rounded to a quarter of an hour."""

_STEPS_SECONDS: Final = (
    10, 30, 60, 120, 300, 600, 1800, 3600, 10800, 21600, 43200, 86400, 172800, 432000, 864000, 2592000,
)  # fmt: skip

# Seconds from which a step is the smallest one. Each is a multiple of its step and of all smaller steps.
_SMALLEST_STEPS: Final = (
    (60 * 86400, 864000), (7 * 86400, 86400), (3 * 86400, 21600), (86400, 3600), (36000, 1800), (10800, 600),
    (3600, 300), (600, 60), (0, 10),
)  # fmt: skip

_BYTE_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


class Estimate(NamedTuple):
    """The estimate of an item at an instant.

    Attributes:
        remaining: Seconds left; negative after the predicted finish.
        finish_at: The predicted finish, in seconds since the epoch; ``None`` if only the remaining time is known.
        low_at: The start of the interval; ``None`` without an interval.
        high_at: The end of the interval; ``None`` without an interval.
    """

    remaining: float
    finish_at: float | None = None
    low_at: float | None = None
    high_at: float | None = None

    @property
    def width(self) -> float:
        """Seconds that bound the rounding; 0 without an interval.

        The lower half is not used: a server cuts it off at its present, so it would shrink while time passes.
        """
        return 0.0 if self.high_at is None or self.finish_at is None else 2 * (self.high_at - self.finish_at)

    @property
    def clock_step(self) -> int:
        """Seconds to which clock times are rounded."""
        return 900 if self.width >= WIDE_INTERVAL_SECONDS else 60


class EstimateTexts(NamedTuple):
    """The parts of an estimate, for a template that marks up the clock times.

    Attributes:
        remaining: Such as ``~30 min left``, or ``expected`` after the predicted finish.
        finish: Such as ``17:24``; empty if a clock time adds nothing.
        low: Such as ``17:18``; empty without an interval, or if it has begun.
        high: Such as ``17:40``; empty without an interval.
    """

    remaining: str
    finish: str = ""
    low: str = ""
    high: str = ""


def read_estimate(item: Mapping[str, object], now: float) -> Estimate | None:
    """Return the estimate of a serialized item, or ``None`` without a plausible one.

    Args:
        item: A serialized item; any field may be absent or invalid.
        now: Seconds since the epoch, by the server's clock.
    """
    # The estimate of an item that does not move would move with the clock.
    if item.get("status", "running") != "running" or item.get("stalled") or item.get("stuck"):
        return None
    eta, finish_at = read_number(item, "eta"), read_instant(item, "finish_at")
    if finish_at is None:
        return None if eta is None or eta < 0 else Estimate(eta)
    remaining = finish_at - now
    if remaining < -MAX_OVERDUE_SECONDS:
        return None
    low, high = read_number(item, "eta_low"), read_number(item, "eta_high")
    # An ETA of 0 may be cut off, and then the interval has no known position.
    if eta is None or low is None or high is None or eta <= 0 or not low <= eta <= high < MAX_REMAINING_SECONDS:
        return Estimate(remaining, finish_at)
    return Estimate(remaining, finish_at, finish_at - (eta - low), finish_at + (high - eta))


def describe_estimate(item: Mapping[str, object], now: float, clock: Clock) -> EstimateTexts | None:
    """Return the parts of :func:`format_estimate`, or ``None`` without an estimate. Arguments as there."""
    estimate = read_estimate(item, now)
    if estimate is None:
        return None
    finish, low, high = _format_clocks(estimate, now, clock)
    if _is_overdue(estimate):
        return EstimateTexts("expected", finish, low, high) if finish else None
    return EstimateTexts(f"{_format_remaining(estimate) or 'a few seconds'} left", finish, low, high)


def format_estimate(item: Mapping[str, object], now: float, clock: Clock = UTC_CLOCK) -> str:
    """Return when an item ends, as a phrase; ``""`` without an estimate.

    Args:
        item: A serialized item; any field may be absent or invalid.
        now: Seconds since the epoch, by the server's clock.
        clock: The clock of the reader.

    >>> item = {"eta": 1860.0, "eta_low": 1500.0, "eta_high": 2820.0, "finish_at": "1970-01-01T17:24:00Z"}
    >>> format_estimate(item, 17 * 3600 - 420)
    '~30 min left, about 17:24 UTC (17:18 to 17:40 UTC)'
    """
    texts = describe_estimate(item, now, clock)
    if texts is None:
        return ""
    if not texts.finish:
        return texts.remaining
    comma = "" if texts.remaining == "expected" else ","
    interval = f" ({f'{texts.low} to' if texts.low else 'until'} {texts.high})" if texts.high else ""
    return f"{texts.remaining}{comma} about {texts.finish}{interval}"


def format_short_estimate(item: Mapping[str, object], now: float, clock: Clock = UTC_CLOCK) -> str:
    """Return when an item ends, for a column of a table; ``""`` without an estimate. Arguments as before.

    >>> format_short_estimate({"eta": 1860.0, "finish_at": "1970-01-01T17:24:00Z"}, 17 * 3600 - 420)
    '~31 min, 17:24 UTC'
    """
    estimate = read_estimate(item, now)
    if estimate is None:
        return ""
    finish, _, _ = _format_clocks(estimate, now, clock)
    if _is_overdue(estimate):
        return f"due {finish}" if finish else ""
    remaining = _format_remaining(estimate) or "<10 s"
    return f"{remaining}, {finish}" if finish else remaining


def format_basis(item: Mapping[str, object]) -> str:
    """Return the basis of the estimate; ``""`` without one.

    >>> format_basis({"basis": "6 former runs"}), format_basis({"basis": None})
    ('from 6 former runs', '')
    """
    basis = item.get("basis")
    return f"from {basis}" if isinstance(basis, str) and basis else ""


def format_stop(item: Mapping[str, object]) -> str:
    """Return who has requested to stop a run; ``""`` without a request, or if the run has ended in another way.

    >>> item = {"stop_requested_by": "ci"}
    >>> format_stop(item), format_stop({**item, "status": "stopped"}), format_stop({**item, "status": "failed"})
    ('stop requested by ci, waiting for the program', 'stop requested by ci', '')
    """
    name, status = item.get("stop_requested_by"), item.get("status", "running")
    if not isinstance(name, str) or not name or status not in ("running", "stopped"):
        return ""
    return f"stop requested by {name}{', waiting for the program' if status == 'running' else ''}"


def format_silence(item: Mapping[str, object], now: float) -> str:
    """Return for how long a running item has been silent; ``""`` if it has not.

    The first that applies: a stalled item's last sign of life, a stuck item's last progress, or the last write of an
    item without a ``heartbeat_timeout`` if that write is old.

    >>> item = {"stuck": True, "progressed_at": "1970-01-01T00:00:00Z", "usual_gap_seconds": 2.1}
    >>> format_silence(item, 365.0)
    'no progress for 6 min, usually every 2 s'
    """
    if item.get("status", "running") != "running":
        return ""
    updated_at, gap = read_instant(item, "updated_at"), read_number(item, "usual_gap_seconds")
    if item.get("stalled"):
        return "" if updated_at is None else f"last heard from {format_age(now - updated_at)} ago"
    if item.get("stuck"):
        progressed_at = read_instant(item, "progressed_at")
        if progressed_at is None:
            return "no progress"
        age = now - progressed_at
        return f"no progress for {format_age(age)}{_format_gap(gap, age)}"
    if updated_at is None or item.get("heartbeat_timeout") is not None:
        return ""
    is_silent = now - updated_at >= max(MIN_SILENCE_SECONDS, SILENCE_FACTOR * (gap or 0.0))
    return f"no update for {format_age(now - updated_at)}" if is_silent else ""


def _format_gap(gap: float | None, age: float) -> str:
    if gap is None or not 0 < gap < age:
        return ""
    if gap < 1.5:
        return ", usually every second" if gap >= 0.75 else ", usually several a second"
    return f", usually every {format_rough_duration(gap)}"


def format_progress_age(item: Mapping[str, object], now: float) -> str:
    """Return when a running item made progress; ``""`` if that is unknown.

    >>> format_progress_age({"progressed_at": "1970-01-01T00:00:00Z"}, 365.0)
    'progress 6 min ago'
    """
    progressed_at = read_instant(item, "progressed_at")
    if progressed_at is None or item.get("status", "running") != "running":
        return ""
    return f"progress {format_age(now - progressed_at)} ago"


def format_slowness(item: Mapping[str, object], now: float) -> str:
    """Return how slow an item is that is slower than usual; ``""`` for any other.

    >>> item = {"slower": True, "started_at": "1970-01-01T00:00:00Z", "usual_duration_seconds": 1500.0}
    >>> format_slowness({**item, "finish_at": "1970-01-01T00:40:00Z", "eta": 600.0}, 1800.0)
    'slower than usual: ~40 min, usually 25 min'
    """
    if not item.get("slower") or item.get("status", "running") != "running":
        return ""
    started_at, usual = get_start(item), read_number(item, "usual_duration_seconds")
    if usual is None or not 0 < usual < MAX_REMAINING_SECONDS:
        return "slower than usual"
    usually = format_rough_duration(usual)
    estimate = read_estimate(item, now)
    if started_at is not None:
        if estimate is not None and estimate.finish_at is not None and estimate.remaining >= 0:
            duration = estimate.finish_at - started_at
            text = format_steps(round_to_step(duration, _choose_step(duration, estimate.width)))
            if usual < duration < MAX_REMAINING_SECONDS and text != usually:
                return f"slower than usual: ~{text}, usually {usually}"
        elapsed = now - started_at
        if usual < elapsed < MAX_REMAINING_SECONDS and (text := format_rough_duration(elapsed)) != usually:
            return f"slower than usual: {text} so far, usually {usually}"
    return f"slower than usual, usually {usually}"


def format_lateness(item: Mapping[str, object], now: float) -> str:
    """Return for how long a late item has been late; ``""`` for any other.

    >>> format_lateness({"late": True, "deadline": "1970-01-01T00:00:00Z"}, 720.0)
    '12 min late'
    """
    if not item.get("late"):
        return ""
    deadline_at = read_instant(item, "deadline")
    return "late" if deadline_at is None else f"{format_age(now - deadline_at)} late"


def format_usual_duration(item: Mapping[str, object]) -> str:
    """Return the typical duration of the former runs; ``""`` without any.

    >>> format_usual_duration({"usual_duration_seconds": 1512.0})
    'usual duration 25 min'
    """
    usual = read_number(item, "usual_duration_seconds")
    if usual is None or not 0 < usual < MAX_REMAINING_SECONDS:
        return ""
    return f"usual duration {format_rough_duration(usual)}"


def format_success_rate(statistics: Mapping[str, object]) -> str:
    """Return the share of the runs that succeeded; ``""`` without ended runs.

    Args:
        statistics: The statistics of the runs of an id; any field may be absent or invalid.

    >>> format_success_rate({"run_count": 50, "success_rate": 0.969})
    '96 % of 50 runs succeeded'
    """
    count, rate = read_number(statistics, "run_count"), read_number(statistics, "success_rate")
    if count is None or rate is None or not (1 <= count < 1e15 and 0 <= rate <= 1):
        return ""
    return f"{floor_percent(rate)} % of {count:,.0f} run{'s' if count > 1 else ''} succeeded"


def format_usual_range(statistics: Mapping[str, object]) -> str:
    """Return the median duration of the succeeded runs, and the range of most of them; ``""`` without any.

    >>> durations = {"low_duration_seconds": 1300.0, "high_duration_seconds": 1900.0}
    >>> format_usual_range({"median_duration_seconds": 1512.0, **durations})
    'usually 25 min (22 min to 32 min)'
    """
    median = read_number(statistics, "median_duration_seconds")
    low, high = read_number(statistics, "low_duration_seconds"), read_number(statistics, "high_duration_seconds")
    if median is None or not 0 <= median < MAX_REMAINING_SECONDS:
        return ""
    if low == median == high:
        return f"usually {format_duration(median)}"  # a single run, whose exact duration is shown beside
    text = f"usually {format_rough_duration(median)}"
    if low is None or high is None or not 0 <= low <= median <= high < MAX_REMAINING_SECONDS:
        return text
    first, last = format_rough_duration(low), format_rough_duration(high)
    return text if first == last else f"{text} ({first} to {last})"


def format_usual_start(statistics: Mapping[str, object], now: float, clock: Clock = UTC_CLOCK) -> str:
    """Return the time of day at which the runs usually begin; ``""`` if they begin at any time.

    Args:
        statistics: The statistics of the runs of an id.
        now: Seconds since the epoch; the offset of the zone at that instant counts.
        clock: The clock of the reader.

    >>> format_usual_start({"usual_start_seconds": 9010.0}, 0.0)
    'usually starts about 02:30 UTC'
    """
    start = read_number(statistics, "usual_start_seconds")
    if start is None or not 0 <= start <= 86400:
        return ""
    at = round_to_step(now // 86400 * 86400 + start, USUAL_START_STEP)
    text = format_clock_time(at, at, clock)
    return f"usually starts about {clock.add_suffix(text)}" if text else ""


def format_estimated_total(item: Mapping[str, object]) -> str:
    """Return the estimated total of an item without a total, in two digits; ``""`` without one.

    >>> format_estimated_total({"estimated_total": 1187.4, "unit": "rows"})
    'about 1,200 rows in total, estimated'
    """
    amount = format_estimated_amount(item)
    return f"about {amount} in total, estimated" if amount else ""


def format_estimated_amount(item: Mapping[str, object]) -> str:
    """Return the number and the unit of :func:`format_estimated_total`.

    >>> format_estimated_amount({"estimated_total": 48_123_456_789, "unit": "B"})
    '48 GB'
    """
    total, estimated = read_number(item, "total"), read_number(item, "estimated_total")
    if estimated is None or not 1 <= estimated < 1e15 or (total is not None and total > 0):
        return ""
    if (read_number(item, "completed") or 0.0) > estimated:
        return ""  # the run is larger than the former ones
    unit = item.get("unit")
    step = 1
    while estimated >= 100 * step:
        step *= 10
    rounded = math.floor(estimated / step + 0.5) * step
    if unit != "B":
        return f"{rounded:,} {unit}" if isinstance(unit, str) and unit else f"{rounded:,}"
    power = 0
    while rounded >= 1000 ** (power + 1):
        power += 1
    return f"{rounded / 1000**power:g} {_BYTE_UNITS[power]}"


def format_rough_duration(seconds: float) -> str:
    """Return a duration that is not exact anyway, without seconds above ten minutes.

    >>> [format_rough_duration(seconds) for seconds in (2.4, 1512, 4000, 200_000)]
    ['2 s', '25 min', '1 h 5 min', '2 days 8 h']
    """
    return format_steps(round_to_step(max(seconds, 0.0), 1 if seconds < 60 else _choose_step(seconds, 0.0)))


def get_start(item: Mapping[str, object]) -> float | None:
    """Return the instant at which the run of an item began, in seconds since the epoch; ``None`` if it is unknown."""
    started_at = read_instant(item, "started_at")
    return read_instant(item, "created_at") if started_at is None else started_at


def _is_overdue(estimate: Estimate) -> bool:
    return estimate.finish_at is not None and estimate.remaining < -OVERDUE_SECONDS


def _format_remaining(estimate: Estimate) -> str:
    """Return the rounded time that is left; ``""`` for a few seconds."""
    if estimate.remaining >= MAX_REMAINING_SECONDS:
        return "years"
    seconds = max(estimate.remaining, 0.0)
    rounded = round_to_step(seconds, _choose_step(seconds, estimate.width))
    return f"~{format_steps(rounded)}" if rounded else ""


def _choose_step(seconds: float, width: float) -> int:
    """Return the step of rounding: an eighth to a quarter of the width, but at most half of the duration."""
    smallest = next((step for limit, step in _SMALLEST_STEPS if seconds >= limit), _STEPS_SECONDS[0])
    limit = min(width / 4, seconds / 2)
    return max(smallest, max((step for step in _STEPS_SECONDS if step <= limit), default=0))


def _format_clocks(estimate: Estimate, now: float, clock: Clock) -> tuple[str, str, str]:
    """Return the predicted finish and its interval; empty texts where they add nothing."""
    remaining, finish_at, low_at, high_at = estimate
    if finish_at is None or remaining >= MAX_REMAINING_SECONDS:
        return "", "", ""
    if max(remaining, estimate.width / 2) < MIN_CLOCK_SECONDS and not _is_overdue(estimate):
        return "", "", ""
    step = estimate.clock_step
    finish = format_clock_time(finish_at, now, clock, step=step)
    low = high = ""
    if low_at is not None and high_at is not None and high_at > now and estimate.width >= MIN_CLOCK_SECONDS:
        has_begun = low_at <= now
        low = "" if has_begun else format_clock_time(low_at, now, clock, step=step, near=finish_at)
        high = format_clock_time(high_at, now, clock, step=step, near=finish_at if has_begun else low_at)
        if high in (finish, low):
            low = high = ""
    return clock.add_suffix(finish), low, clock.add_suffix(high)


def read_number(item: Mapping[str, object], name: str) -> float | None:
    """Return a number of an item; ``None`` if it is absent or invalid."""
    value = item.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -1e300 <= value <= 1e300 else None


def read_instant(item: Mapping[str, object], name: str) -> float | None:
    """Return an instant of an item in seconds since the epoch; ``None`` if it is absent or invalid."""
    value = item.get(name)
    if not isinstance(value, str):
        return None
    try:
        instant = datetime.fromisoformat(value)
        return instant.timestamp() if instant.tzinfo is not None else None
    except (ValueError, OverflowError, OSError):
        return None
