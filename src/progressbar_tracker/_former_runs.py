"""What former runs say about a run: their durations, their speed at each share of the work, and their pauses. Pure.

The share of their time that had passed at the same share of the work is one estimate of a duration, and their durations
are another (Dong and Luo 2022). Each counts as much as it was precise (König et al., VLDB 2011), and the variance of
their combination gives the interval. It is calibrated by the errors that the same estimate would have made on each of
the runs with the help of the others; from ten runs by their quantile (conformal prediction).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FORMER_GAP_FACTOR: Final = 3.0  # of the usual longest gap of former runs
FORMER_PAUSE_FACTOR: Final = 2.0  # of their longest pause in the same part of the work
SHARE_COUNT: Final = 64  # the shares of the work at which former runs are compared
DURATION_DEVIATION: Final = 0.2  # of the logarithm of the durations of runs, before their history says more
SHARE_DEVIATION: Final = 0.2  # of the logarithm of the time at half of the work, in the same way
MIN_CALIBRATION_RUNS: Final = 3
MIN_CONFORMAL_RUNS: Final = 10  # from which the quantile of their misses says enough
CALIBRATION_COUNT: Final = 10  # equal parts of the work, each with an interval that is calibrated
INTERVAL_FACTOR: Final = 0.95  # the misses of a run left out are those of one former run fewer
MIN_INTERVAL_FACTOR: Final = 0.2
MAX_INTERVAL_FACTOR: Final = 1.35  # from few runs
MAX_SQUARE_MISS: Final = 2.5
BRIDGE_VARIANCES: Final = tuple(SHARE_COUNT / max(number, 1) - 1 for number in range(SHARE_COUNT + 1))
MIDDLE_NUMBERS: Final = range(4, SHARE_COUNT - 3, 4)  # of the shares, without the beginning and the end
NORMAL_QUANTILE: Final = 1.2816  # nine of ten values of a normal distribution are lower


class FormerRun(NamedTuple):
    """A former successful run.

    Attributes:
        duration: Seconds from the start to the end, more than 0.
        total: The position at the end; ``None`` if it is unknown.
        positions: The positions at equal distances in time, from the start to the end; empty if they are unknown.
        longest_gap: The longest time without progress, in seconds.
    """

    duration: float
    total: float | None
    positions: Sequence[float] = ()
    longest_gap: float = 0.0


class FormerRuns:
    """The statistics of former runs.

    Attributes:
        count: The number of runs.
        usual_duration: The typical duration in seconds.
        slow_duration: The duration that one of twenty runs exceeds, in seconds.
        usual_total: The typical position at the end; ``None`` if it is unknown.
    """

    __slots__ = (
        "_interval_factors", "_log_duration", "_log_shares", "_longest_gap", "_part_pauses", "_per_unit",
        "_share_variances", "_variance", "count", "slow_duration", "usual_duration", "usual_total",
    )  # fmt: skip

    def __init__(self, runs: Sequence[FormerRun], curves: Sequence[Sequence[float]], *, calibrate: bool = True) -> None:
        logs = [math.log(run.duration) for run in runs]
        mean, squares = _sum_squares(logs)
        self.count: Final = len(runs)
        self.usual_duration: Final = math.exp(mean)
        self.slow_duration: Final = math.exp(mean + 1.64 * math.sqrt(self._widen(squares, 1.0, DURATION_DEVIATION**2)))
        totals = [run.total for run in runs if run.total is not None and run.total > 0]
        self.usual_total: Final = sorted(totals)[len(totals) // 2] if totals else None
        self._per_unit = False
        if len(totals) == len(runs):
            # The duration of a unit, if that varies less. One former run says neither, but longer work takes longer.
            unit_mean, unit_squares = _sum_squares(
                [log - math.log(total) for log, total in zip(logs, totals, strict=True)]
            )
            if unit_squares <= squares:
                self._per_unit, mean, squares = True, unit_mean, unit_squares
        self._log_duration = mean
        self._variance = self._widen(squares, 1.0, DURATION_DEVIATION**2)
        gaps = sorted(run.longest_gap for run in runs)
        self._longest_gap = gaps[len(gaps) // 2]
        self._part_pauses: Sequence[float] = ()
        known = [curve for curve in curves if curve]
        self._log_shares, self._share_variances = _summarize_curves(known) if known else ([], [])
        self._interval_factors = [INTERVAL_FACTOR] * (CALIBRATION_COUNT + 1)
        if calibrate:
            self._part_pauses = _list_longest_pauses(runs, curves)
            if len(runs) >= MIN_CALIBRATION_RUNS:
                self._interval_factors = self._calibrate(runs, curves)

    @classmethod
    def build(cls, runs: Iterable[FormerRun]) -> FormerRuns | None:
        """Return the statistics; ``None`` without a usable run."""
        usable = [run for run in runs if run.duration > 0 and math.isfinite(run.duration)]
        return cls(usable, [_list_log_shares(run) for run in usable]) if usable else None

    @property
    def has_curves(self) -> bool:
        """Whether it is known how former runs progressed."""
        return bool(self._log_shares)

    def log_share(self, share: float) -> float:
        """Return the logarithm of the share of the time that usually has passed at a share of the work."""
        return _interpolate(self._log_shares, share)

    def share_variance(self, share: float) -> float:
        """Return the variance of that logarithm for one more run."""
        return _interpolate(self._share_variances, share)

    def usual_pause(self, share: float | None) -> float:
        """Return the seconds without progress that former runs make plausible at a share of the work; 0 if unknown."""
        plausible = FORMER_GAP_FACTOR * self._longest_gap
        if share is None or not self._part_pauses:
            return plausible
        index = min(int(share * SHARE_COUNT), SHARE_COUNT - 1)
        return max(plausible, FORMER_PAUSE_FACTOR * max(self._part_pauses[max(index - 1, 0) : index + 2]))

    def combine(
        self, extrapolated: float | None, variance: float, share: float, total: float | None
    ) -> tuple[float, float]:
        """Return the logarithm of the duration of a run and half the width of its 80 % interval.

        Args:
            extrapolated: The logarithm of the duration by the progress of the run; ``None`` if there is none yet.
            variance: The variance of ``extrapolated``.
            share: The share of the work that is done, 0 to 1; 0 without progress.
            total: The position of the end of the run; ``None`` if it is unknown.
        """
        usual, usual_variance = self._log_duration, self._variance
        if self._per_unit:
            usual += math.log(total or self.usual_total or 1.0)
        if extrapolated is None:
            return usual, self._interval_factors[0] * t_quantile(self.count + 2) * math.sqrt(usual_variance)
        # The former durations follow a t distribution. The more the run contradicts them, the less they count.
        freedom = 2.0 * self.count
        surprise = (extrapolated - usual) ** 2 / (usual_variance + variance)
        usual_variance *= max((freedom + surprise) / (freedom + 1), 1.0)
        weight = usual_variance / (usual_variance + variance)
        # The conditional variance of two values that follow a t distribution together.
        freedom = self.count + 2.0
        variance *= weight * (freedom + surprise) / (freedom + 1)
        factor = self._interval_factors[min(int(share * CALIBRATION_COUNT) + 1, CALIBRATION_COUNT)]
        width = factor * t_quantile(freedom) * math.sqrt(variance)
        return weight * extrapolated + (1 - weight) * usual, width

    def _widen(self, squares: float, prior_runs: float, prior: float) -> float:
        """Return the variance of one more value; ``prior`` is a variance that counts as much as some runs."""
        return (prior_runs * prior + squares) / (prior_runs + self.count - 1) * (1 + 1 / self.count)

    @staticmethod
    def _calibrate(runs: Sequence[FormerRun], curves: Sequence[Sequence[float]]) -> list[float]:
        """Return the factors by which the intervals had to be wider to contain four of five of the former runs.

        The first one is for a run without progress, the others are for equal parts of the work.
        """
        misses: list[list[float]] = [[] for _ in range(CALIBRATION_COUNT + 1)]
        for place, (run, curve) in enumerate(zip(runs, curves, strict=True)):
            others = FormerRuns(
                [*runs[:place], *runs[place + 1 :]], [*curves[:place], *curves[place + 1 :]], calibrate=False
            )
            duration = math.log(run.duration)
            middle, width = others.combine(None, 0.0, 0.0, run.total)
            misses[0].append(abs(duration - middle) / width)
            if not curve or not others.has_curves:
                continue
            for part in range(1, CALIBRATION_COUNT + 1):
                share = (part - 0.5) / CALIBRATION_COUNT
                extrapolated = duration + _interpolate(curve, share) - others.log_share(share)
                middle, width = others.combine(extrapolated, others.share_variance(share), share, run.total)
                misses[part].append(abs(duration - middle) / width)
        within = [miss for found in misses[1:] for miss in found]
        return [
            INTERVAL_FACTOR * _find_factor(found, found if part == 0 else within, len(runs))
            for part, found in enumerate(misses)
        ]


def _find_factor(misses: Sequence[float], similar: Sequence[float], run_count: int) -> float:
    """Return the factor for an interval from the misses of former runs, in units of half its width.

    Args:
        misses: The misses of the runs at the same part of the work.
        similar: The misses at all comparable parts, for which too few runs have a quantile.
        run_count: The number of runs.
    """
    if len(misses) >= MIN_CONFORMAL_RUNS:
        return max(sorted(misses)[min(math.ceil(0.8 * (len(misses) + 1)), len(misses)) - 1], MIN_INTERVAL_FACTOR)
    if not similar:
        return 1.0
    # As in the variances above, the expected miss counts as one more run. A single great miss is no rule.
    expected = (1 / NORMAL_QUANTILE) ** 2
    squares = sum(min(miss * miss, MAX_SQUARE_MISS) for miss in similar) / len(similar) / expected
    return min(math.sqrt((1 + run_count * squares) / (1 + run_count)), MAX_INTERVAL_FACTOR)


def _sum_squares(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and the sum of the squared distances from it."""
    mean = sum(values) / len(values)
    return mean, sum([(value - mean) * (value - mean) for value in values])


def _interpolate(values: Sequence[float], share: float) -> float:
    """Return the value at a share of the work, between the values at equal distances."""
    place = share * SHARE_COUNT
    index = min(int(place), SHARE_COUNT - 1)
    return values[index] + (place - index) * (values[index + 1] - values[index])


def _list_log_shares(run: FormerRun) -> list[float]:
    """Return the logarithms of the shares of the time at equal shares of the work; empty if they are unknown."""
    positions = run.positions
    if len(positions) < 2 or not positions[-1] > positions[0] >= 0:
        return []
    end, last = positions[-1], len(positions) - 1
    shares, index = [], 0
    for number in range(SHARE_COUNT + 1):
        target = max(end * number / SHARE_COUNT, end * 1e-9)
        while index < last - 1 and positions[index + 1] < target:
            index += 1
        low, high = positions[index], positions[index + 1]
        part = min(max((target - low) / (high - low), 0.0), 1.0) if high > low else 0.0
        shares.append(math.log(min(max(index + part, 0.5) / last, 1.0)))
    return shares


def _list_longest_pauses(runs: Iterable[FormerRun], curves: Iterable[Sequence[float]]) -> list[float]:
    """Return the longest possible pause of the runs in each equal part of the work; empty if it is unknown.

    A pause is no longer than the time for its part, and no longer than the longest gap of its run.
    """
    longest: list[float] = []
    for run, curve in zip(runs, curves, strict=True):
        if not curve:
            continue
        shares = [math.exp(log) for log in curve]
        pauses = [min((late - early) * run.duration, run.longest_gap) for early, late in pairwise(shares)]
        longest = [max(pair) for pair in zip(longest, pauses, strict=True)] if longest else pauses
    return longest


def _summarize_curves(curves: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    """Return the mean of the logarithms at each share of the work, and their variance for one more run.

    Sums of independent steps would vary as a Brownian bridge: the variance is a factor times (1 - share) / share. The
    factor is that of all shares together; the variance at a share is drawn to it, because a few runs say little.
    """
    count = len(curves)
    means, squares = [], []
    for values in zip(*curves, strict=True):
        mean, sum_squares = _sum_squares(values)
        means.append(mean)
        squares.append(sum_squares)
    factor = sum(squares[number] / BRIDGE_VARIANCES[number] for number in MIDDLE_NUMBERS) / len(MIDDLE_NUMBERS)
    factor = (SHARE_DEVIATION**2 + factor) / count
    variances = [
        (3 * factor * shape + found) / (count + 2) * (1 + 1 / count) + 1e-6
        for shape, found in zip(BRIDGE_VARIANCES, squares, strict=True)
    ]
    return means, variances


def t_quantile(freedom: float) -> float:
    """Return the 90 % quantile of Student's t distribution, for at least 2 degrees of freedom (Fisher's expansion)."""
    return NORMAL_QUANTILE + (0.8466 + (0.5707 + 0.3101 / freedom) / freedom) / freedom
