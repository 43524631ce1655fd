"""The measures of an estimate, taken at 5, 10, ... 95 % of the elapsed time of a run.

All are shares of the run's true duration, so that jobs of all lengths count the same.
"""

from __future__ import annotations

import math
import statistics
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from .peers import Estimate, predict_elapsed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .peers import Contender
    from .traces import Trace

SCORED_SHARES = tuple(step / 20 for step in range(1, 20))
EARLY_ERROR_SHARE = 0.1
"""An estimate counts as good from the moment after which its error stays below this share of the run."""


class Score(NamedTuple):
    """The measures of one run, or their mean over many runs. Shares, except for the coverage, are of the run."""

    error: float
    """Mean absolute error of the predicted finish."""
    jump: float
    """Mean movement of the predicted finish between two moments."""
    coverage: float
    """Share of the moments whose interval contains the true finish. NaN without intervals."""
    width: float
    """Mean width of the interval. NaN without intervals."""
    earliness: float
    """First share of the time from which the error stays below ``EARLY_ERROR_SHARE``; 1 if there is none."""
    missing: float
    """Share of the moments without an estimate."""


def score_run(trace: Trace, estimates: Sequence[Estimate | None]) -> Score:
    """Score the estimates of one run.

    A missing estimate scores as elapsed/n, and before the first item as twice the run.
    """
    moments = [share * trace.duration for share in SCORED_SHARES]
    substitutes = predict_elapsed(trace, (), moments)
    finishes, inside, widths, missing = [], [], [], 0
    for estimate, substitute in zip(estimates, substitutes, strict=True):
        if estimate is None or not math.isfinite(estimate.finish):
            missing += 1
            finishes.append(substitute.finish if substitute else 2 * trace.duration)
            continue
        finishes.append(estimate.finish)
        if estimate.low is not None and estimate.high is not None:
            inside.append(estimate.low <= trace.duration <= estimate.high)
            widths.append((estimate.high - estimate.low) / trace.duration)
    errors = [abs(finish / trace.duration - 1) for finish in finishes]
    good = len(errors)
    while good and errors[good - 1] < EARLY_ERROR_SHARE:
        good -= 1
    return Score(
        statistics.fmean(errors),
        statistics.fmean(abs(late - early) / trace.duration for early, late in pairwise(finishes)),
        statistics.fmean(inside) if inside else math.nan,
        statistics.fmean(widths) if widths else math.nan,
        SCORED_SHARES[good] if good < len(errors) else 1.0,
        missing / len(errors),
    )


def mean_score(scores: Sequence[Score]) -> Score:
    """Return the mean of each measure; a run without intervals does not count for coverage and width."""
    columns = [[value for value in column if not math.isnan(value)] for column in zip(*scores, strict=True)]
    return Score(*(statistics.fmean(column) if column else math.nan for column in columns))


def score_contender(contender: Contender, runs: Sequence[Trace], former_count: int) -> list[Score]:
    """Score each run of a job that has that many earlier runs; only the latest of these are the history."""
    scores = []
    for place in range(former_count, len(runs)):
        moments = [share * runs[place].duration for share in SCORED_SHARES]
        former = runs[place - former_count : place]
        scores.append(score_run(runs[place], contender(runs[place], former, moments)))
    return scores
