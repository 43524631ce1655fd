"""The estimator of the server, driven as the server drives it.

The server sees a run through updates that are at least half a second apart, and a former run through the positions that
it stored at equal distances in time.
"""

from __future__ import annotations

import functools
from bisect import bisect_right
from typing import TYPE_CHECKING

from progressbar_tracker._estimate import Progress, forecast, start_progress, update_progress
from progressbar_tracker._former_runs import FormerRun, FormerRuns
from progressbar_tracker.server.items.curves import _RunState
from progressbar_tracker.server.items.former_runs import resample

from .peers import Estimate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .traces import Trace

UPDATE_INTERVAL_SECONDS = 0.5
HEARTBEAT_SECONDS = 15.0
"""A running program gives a sign of life at least this often."""


def list_updates(trace: Trace, interval: float = UPDATE_INTERVAL_SECONDS) -> list[tuple[float, int]]:
    """Return the instants at which the sender reports progress, with the items that had ended by then."""
    updates: list[tuple[float, int]] = []
    at, done = -interval, 0
    while done < trace.total:
        at = max(trace.ends[done], at + interval)
        done = bisect_right(trace.ends, at)
        updates.append((at, done))
    return updates


def follow_run(trace: Trace, interval: float = UPDATE_INTERVAL_SECONDS) -> Iterator[tuple[float, Progress]]:
    """Yield the instant of each update and the progress from then on, beginning at the start."""
    progress, seen_at = start_progress(0.0, 0.0, 0.0), 0.0
    yield 0.0, progress
    for at, done in list_updates(trace, interval):
        seen_at = max(seen_at, at - HEARTBEAT_SECONDS)
        progress = update_progress(progress, float(done), at, seen_at=seen_at)
        yield at, progress
        seen_at = at


@functools.lru_cache(maxsize=4096)
def make_former_run(trace: Trace) -> FormerRun:
    """Return a former run as the server stores it and reads it."""
    recorded, longest_gap = _RunState("", 0.0, is_count=True), 0.0
    for at, progress in follow_run(trace):
        recorded.add(at, progress.position)
        longest_gap = progress.longest_gap
    total = float(trace.total)
    curve = recorded.get_curve()
    positions = resample(curve, trace.duration, total) if curve else []
    return FormerRun(trace.duration, total, positions, longest_gap)


def predict_ours(trace: Trace, former: Sequence[Trace], moments: Sequence[float]) -> list[Estimate | None]:
    """Return what the server shows at the moments."""
    runs = FormerRuns.build([make_former_run(run) for run in former])
    updates, found = list(follow_run(trace)), []
    instants = [at for at, _ in updates]
    for now in moments:
        progress = updates[bisect_right(instants, now) - 1][1]
        shown = forecast(progress, float(trace.total), now, started_at=0.0, former=runs)
        found.append(Estimate(shown.finish_at, shown.low_at, shown.high_at) if shown else None)
    return found
