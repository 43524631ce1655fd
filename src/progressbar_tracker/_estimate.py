"""When a run will end, and when its silence is suspicious. Pure: instants and former runs are arguments.

Within a run, the elapsed time is taken to grow as a power of the work: an exponent of 1 is a constant speed, a lower
one is a run that gets faster. The exponent is the average speed over the recent one, in which a moment weighs as much
as the time that had passed by then: the memory grows with the run and has no constant of its own. The first steps say
little, because they contain the start of the program. So they extend the elapsed time by a factor of ten at most.

With former runs, two more estimates are combined, see ``_former_runs``.

Only ``math`` and ``typing`` are imported: the display thread of a program uses this module, too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from ._former_runs import FormerRuns

SMOOTHING_SECONDS: Final = 15.0  # after which a former speed has a weight of about a third in the current speed
MIN_RATE_INTERVAL: Final = 0.25  # seconds; positions that are closer in time are one step
RATE_STALE_AFTER: Final = 15.0  # seconds without progress before the current speed decays
MEMORY_POWER: Final = 2.0  # one more than the power by which the weight of the past falls
PRIOR_STEPS: Final = 5.0  # equal steps after which the run counts as much as the caution about its beginning
MAX_PRIOR_FACTOR: Final = 10.0  # by which the first steps extend the elapsed time at most
MAX_WORK_FACTOR: Final = 1e60
MIN_EXPONENT: Final = 0.2
MAX_EXPONENT: Final = 1.3  # a run that slows down is extrapolated with care: most slow phases pass
LOW_EXPONENT_MARGIN: Final = 0.3  # of the 80 % interval: runs rather end later than expected
HIGH_EXPONENT_MARGIN: Final = 0.55
MAX_LOG_HIGH_FACTOR: Final = math.log(2.5)  # of the interval, early in the run
MAX_SLOWDOWN: Final = 1e6
LAST_STEP_FACTOR: Final = 1.05  # of the interval: the last steps are uncertain, too
MIN_STUCK_SECONDS: Final = 60.0  # without progress, below which no run counts as stuck
STUCK_GAP_FACTOR: Final = 10.0
MIN_STUCK_STEPS: Final = 5
START_TOLERANCE_SECONDS: Final = 1.0  # by which the first sign of life is later than the start
MAX_LOG_SECONDS: Final = 25.0  # two thousand years
MAX_DURATION_SECONDS: Final = math.exp(MAX_LOG_SECONDS)
NORMAL_QUANTILE: Final = 1.2816  # nine of ten values of a normal distribution are lower
MIN_FRESH_SECONDS: Final = 0.1


class Progress(NamedTuple):
    """The progress of a run, its speed and its gaps. Instants are of the caller's clock, in seconds.

    Attributes:
        position: The position that the latest step led to.
        at: The instant of the latest step, moved by the pauses since then.
        rate: The current speed: units per second, smoothed; ``None`` if it is unknown.
        seconds: The seconds between the latest two steps.
        size: The size of the latest step.
        mean_rate: The speed of the whole run, in which the past weighs less; ``None`` if it is unknown.
        steps: The number of steps.
        longest_gap: The longest time between two steps in which the run was alive, in seconds.
        idle_since: The instant of the latest progress, moved by the time since then in which the run was not known
            to be alive.
        paused: The seconds in which the run was suspended.
        origin: The position at which the measurement began.
        since: The instant at which the measurement began: the start of the run, if it began at 0.
        squares: The sum of the squares of the seconds between two steps, without the first step.
        startup: The seconds until the first step, which contain the start of the program.
        first_size: The size of the first step.
    """

    position: float = 0.0
    at: float = 0.0
    rate: float | None = None
    seconds: float = 0.0
    size: float = 0.0
    mean_rate: float | None = None
    steps: int = 0
    longest_gap: float = 0.0
    idle_since: float = 0.0
    paused: float = 0.0
    origin: float = 0.0
    since: float = 0.0
    squares: float = 0.0
    startup: float = 0.0
    first_size: float = 0.0


_new_tuple = tuple.__new__


def start_progress(position: float, now: float, started_at: float | None = None) -> Progress:
    """Return the progress of a run that is at ``position`` at the instant ``now``, and has no past.

    Args:
        position: The position.
        now: The instant.
        started_at: The instant of the start, if the time since then counts for the work that begins at 0.
    """
    since = started_at if started_at is not None and started_at < now and position == 0 else now
    return Progress(position, now, idle_since=now, origin=position, since=since)


def update_progress(
    before: Progress, position: float, now: float, seen_at: float, silence: float = math.inf
) -> Progress:
    """Return the progress after a sign of life.

    Args:
        before: The progress before it.
        position: The position now.
        now: The instant.
        seen_at: The instant of the sign of life before.
        silence: Seconds between two signs of life from which the time between them is no gap of the run, but an
            outage or a suspended machine.
    """
    (
        start, at, rate, _, _, mean, steps, longest_gap, idle_since, paused,
        origin, since, squares, startup, first_size,
    ) = before  # fmt: skip
    elapsed = now - at
    if position < start or elapsed < 0 or now < seen_at:
        # A count that falls begins again, and so does the measurement after a clock was set back.
        return start_progress(position, now)
    silent = now - seen_at
    if silent > silence:
        before = _skip_silence(before, position, now, silent)
        at, idle_since, paused = before.at, before.idle_since, before.paused
        elapsed = now - at
    if position == start or elapsed < MIN_RATE_INTERVAL:
        return before
    size = float(position) - start
    latest = size / elapsed
    if not 0 < latest < math.inf:
        return start_progress(position, now)
    age = now - since - paused
    if rate is None or mean is None:
        startup, first_size = max(age, elapsed), size
        rate, mean = latest, size / startup
    else:
        # Divided by the weight of all steps so far: in a young run, the first step counts for its time only.
        weight = math.expm1(-elapsed / SMOOTHING_SECONDS) / math.expm1(-max(age, elapsed) / SMOOTHING_SECONDS)
        rate += weight * (latest - rate)
        age -= startup
        past = (1 - elapsed / age) ** MEMORY_POWER if age > elapsed else 0.0
        mean = latest + past * (mean - latest)
        squares += elapsed * elapsed
    gap = now - idle_since
    if gap < longest_gap:
        gap = longest_gap
    # The class itself would call a Python function for each write.
    return _new_tuple(
        Progress,
        (
            position, now, rate, elapsed, size, mean, steps + 1, gap, now, paused, origin, since, squares, startup,
            first_size,
        ),
    )  # fmt: skip


def _skip_silence(before: Progress, position: float, now: float, silent: float) -> Progress:
    """Return the progress without a silence, in which the run was suspended, or went on behind an outage."""
    went_on = before.mean_rate is not None and position - before.position > before.mean_rate * silent / 2
    if went_on:
        return before._replace(idle_since=now)
    silent = min(silent, now - before.at)
    idle_since = min(before.idle_since + silent, now)
    return before._replace(at=before.at + silent, idle_since=idle_since, paused=before.paused + silent)


def shift_progress(progress: Progress, seconds: float) -> Progress:
    """Return the progress by a clock that was set forward by some seconds."""
    return progress._replace(
        at=progress.at + seconds, idle_since=progress.idle_since + seconds, since=progress.since + seconds
    )


def current_rate(progress: Progress, now: float) -> float | None:
    """Return the current speed in units per second; ``None`` if it is unknown.

    It falls with the time since the latest step once that exceeds the time of the step before.
    """
    if progress.rate is None:
        return None
    tolerated = max(progress.seconds, RATE_STALE_AFTER)
    idle = now - progress.at
    return progress.rate if idle <= tolerated else progress.rate * (tolerated / idle)


class Forecast(NamedTuple):
    """The predicted end of a run. Instants are of the caller's clock, in seconds.

    Attributes:
        finish_at: The predicted instant of the end.
        low_at: The end is later with a probability of 90 %.
        high_at: The end is earlier with a probability of 90 %.
        valid_until: Without a further step, the prediction holds until then.
        former_count: The number of former runs that it rests on; 0 for the run alone.
        is_slower: The run takes longer than former runs make plausible.
        total: The estimated total of a run without one, else ``None``.
        value: The estimated share of a run without a total, 0 to 1, else ``None``.
        usual_duration: The typical duration of the former runs in seconds, ``None`` without them.
    """

    finish_at: float
    low_at: float
    high_at: float
    valid_until: float
    former_count: int = 0
    is_slower: bool = False
    total: float | None = None
    value: float | None = None
    usual_duration: float | None = None


def forecast(
    progress: Progress, total: float | None, now: float, *, started_at: float, former: FormerRuns | None = None
) -> Forecast | None:
    """Return the predicted end of a running run; ``None`` if there is no basis for it.

    Args:
        progress: The progress of the run.
        total: The position of the end; ``None`` if it is unknown.
        now: The instant.
        started_at: The instant of the start.
        former: The former runs.
    """
    estimated_total, has_total = None, total is not None
    if total is not None and progress.position > total:
        total = None  # it was wrong, so it says nothing about the end
    elif total is None and former is not None and progress.position > 0:
        total = estimated_total = former.usual_total
    begin = (progress.since if progress.steps else started_at) + progress.paused
    elapsed = max(now - begin, 0.0)
    if former is None:
        found = _extrapolate(progress, total, elapsed)
        if found is None:
            return None
        startup, rest, factor, slowdown, fresh_for = found
        # A trend may be stronger than it seems: for a power of the work, the recent speed shows half of it.
        low = factor ** (LOW_EXPONENT_MARGIN + max(1 - slowdown, 0.0))
        log_high = math.log(factor) * (HIGH_EXPONENT_MARGIN + max(slowdown - 1, 0.0))
        high = math.exp(min(log_high, MAX_LOG_HIGH_FACTOR)) * LAST_STEP_FACTOR
        return Forecast(
            begin + _clamp(startup + rest, elapsed),
            begin + _clamp(startup + rest / low, elapsed),
            begin + _clamp(startup + rest * high, elapsed),
            now + fresh_for,
        )
    middle, width, fresh_for = _consult(progress, total, elapsed, started_at, former)
    duration = _grow(middle, elapsed)
    low, high = _grow(middle - width, elapsed), _grow(middle + width, elapsed)
    if not progress.steps or duration <= elapsed:
        duration, latest, fresh_for = _outlast(middle, width, elapsed)
        high = max(high, latest)
    else:
        fresh_for = min(fresh_for, duration - elapsed)
    return Forecast(
        begin + duration,
        begin + low,
        begin + high,
        now + fresh_for,
        former.count,
        begin - started_at - progress.paused + low > former.slow_duration,
        estimated_total,
        min(elapsed / duration, 0.99) if duration and not has_total else None,
        former.usual_duration,
    )


def _clamp(duration: float, elapsed: float) -> float:
    """Return a duration that is not over before now, nor absurdly long."""
    return max(min(duration, MAX_DURATION_SECONDS), elapsed)


def _grow(log_duration: float, elapsed: float) -> float:
    """Return the duration of a logarithm, in the same bounds."""
    return _clamp(math.exp(min(log_duration, MAX_LOG_SECONDS)), elapsed)


def _outlast(middle: float, width: float, elapsed: float) -> tuple[float, float, float]:
    """Return the expected duration of a run that still runs, one that it hardly exceeds, and for how long these hold.

    They are about the median and the 90 % quantile of the durations longer than ``elapsed``, if their logarithms are
    normal.
    """
    deviation = width / NORMAL_QUANTILE
    behind = (math.log(elapsed) - middle) / deviation if elapsed > 0 else -math.inf
    if behind <= 0:
        duration = math.exp(min(middle, MAX_LOG_SECONDS))
        return duration, duration, max(duration - elapsed, 1.0)
    duration, latest = (
        _grow(middle + deviation * (behind + math.sqrt(behind * behind + square)) / 2, elapsed)
        for square in (1.8, 10.8)
    )
    return duration, latest, 1.0


def _extrapolate(
    progress: Progress, total: float | None, elapsed: float
) -> tuple[float, float, float, float, float] | None:
    """Extrapolate the progress of a run, from its second step on without the first one.

    While no step ends, nothing changes until the next one is due; then it counts as if it ended now.

    Returns:
        The seconds until the first step if they count separately, and the seconds from then to the end. The total over
        the work done in them, and the average over the recent speed. The seconds for which these hold without a step.
        ``None`` if there is no basis for it.
    """
    rate, size, startup = progress.mean_rate, progress.size, progress.startup
    if rate is None or total is None or rate <= 0 or startup <= 0:
        return None
    total -= progress.origin
    if progress.steps < 2:
        factor = _limit_factor(total, size)
        duration = _extend(startup, 1.0, 0.0, factor)
        idle, fresh_for = elapsed - startup, 2 * startup - elapsed
        if fresh_for > 0:
            return 0.0, duration, factor, 1.0, fresh_for
        late = startup + _extend(idle, 1.0, 0.0, _limit_factor(total - size, size))
        return 0.0, max(duration, late), factor, 1.0, 1.0
    total -= progress.first_size
    work = progress.position - progress.origin - progress.first_size
    spent = progress.at - progress.since - progress.paused - startup
    if work <= 0 or spent <= 0:
        return None
    elapsed -= startup
    factor, slowdown = _limit_factor(total, work), min(work / spent / rate, MAX_SLOWDOWN)
    rest = _extend(spent, slowdown, progress.squares, factor)
    idle, fresh_for = elapsed - spent, spent + size / rate - elapsed
    if fresh_for > 0 or idle <= 0:
        return startup, rest, factor, slowdown, max(fresh_for, MIN_FRESH_SECONDS)
    past = (spent / elapsed) ** MEMORY_POWER
    rate = size / idle * (1 - past) + past * rate
    squares, work = progress.squares + idle * idle, work + size
    late = _extend(elapsed, work / elapsed / rate, squares, _limit_factor(total, work))
    return startup, max(rest, late), factor, slowdown, 1.0


def _limit_factor(total: float, work: float) -> float:
    """Return the total over the work done, at least 1."""
    return min(max(total / work, 1.0), MAX_WORK_FACTOR)


def _extend(spent: float, exponent: float, squares: float, factor: float) -> float:
    """Return the duration of a run whose total is ``factor`` times the work done in the time spent."""
    prior = 1.0 if factor <= MAX_PRIOR_FACTOR else math.log(MAX_PRIOR_FACTOR) / math.log(factor)
    steps = spent * spent / squares if squares > 0 else 1.0
    trust = steps / (steps + PRIOR_STEPS)
    exponent = trust * min(max(exponent, MIN_EXPONENT), MAX_EXPONENT) + (1 - trust) * prior
    return spent * math.pow(factor, exponent)


def _consult(
    progress: Progress, total: float | None, elapsed: float, started_at: float, former: FormerRuns
) -> tuple[float, float, float]:
    """Return the logarithm of the duration of a run, half its interval, and for how many seconds that holds."""
    spent = progress.at - progress.since - progress.paused
    if total is not None and total <= 0:
        total = None  # no share of it can be compared with former runs
    if (
        not total
        or not progress.steps
        or progress.position <= progress.origin
        or spent <= 0
        or total <= progress.origin
    ):
        middle, width = former.combine(None, 0.0, 0.0, total)
        return middle, width, max(math.exp(min(middle, MAX_LOG_SECONDS)) - elapsed, 1.0)
    share = min(max(progress.position / total, 0.0), 1.0)
    if not former.has_curves:
        found = _extrapolate(progress, total, elapsed)
        if found is None:
            middle, width = former.combine(None, 0.0, 0.0, total)
            return middle, width, 1.0
        startup, rest, factor, _, fresh_for = found
        deviation = HIGH_EXPONENT_MARGIN / 2 * math.log(factor) + LAST_STEP_FACTOR - 1
        middle, width = former.combine(math.log(startup + rest), deviation * deviation, share, total)
        return middle, width, fresh_for
    share_after = min(max((progress.position + progress.size) / total, 0.0), 1.0)
    passed, passed_after = former.log_share(share), former.log_share(share_after)
    skipped = 0.0
    if progress.origin > 0 or progress.since > started_at + START_TOLERANCE_SECONDS:
        # The measurement began later: former runs are compared from the same share of their work.
        begun = math.exp(former.log_share(max(progress.origin / total, 0.0)))
        skipped = math.log1p(-min(begun, 0.99))
        passed, passed_after = (math.log(max(math.exp(log) - begun, 1e-3)) - skipped for log in (passed, passed_after))
    extrapolated = math.log(spent) - passed
    fresh_for = math.exp(min(extrapolated + passed_after, MAX_LOG_SECONDS)) - elapsed
    if fresh_for <= 0:
        # The running step takes longer than it usually does: as if it ended now.
        extrapolated, fresh_for = max(math.log(elapsed) - passed_after, extrapolated), 1.0
    middle, width = former.combine(extrapolated - skipped, former.share_variance(share), share, total)
    return middle + skipped, width, fresh_for


def stuck_limit(progress: Progress, share: float | None, former: FormerRuns | None = None) -> float | None:
    """Return the seconds without progress from which a run counts as stuck; ``None`` if it never does.

    Args:
        progress: The progress of the run.
        share: The share of the work that is done, 0 to 1; ``None`` if it is unknown.
        former: The former runs.
    """
    usual = former.usual_pause(share) if former is not None else 0.0
    if progress.steps < MIN_STUCK_STEPS and not usual:
        return None
    return max(MIN_STUCK_SECONDS, STUCK_GAP_FACTOR * progress.longest_gap, usual)
