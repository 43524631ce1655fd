"""Hangs injected into replays, and the runs that the server's rule reports as stuck.

A replay is a run that lasts about 1 min, 10 min or 1 h, with its items in their own order, in shuffled blocks, or
shuffled. Its history is a number of earlier runs, treated in the same way. Each replay is followed twice. In the first,
it goes on to its end, and any report is a false alarm. In the second, a random item never returns, and a report is due
when ten times the longest gap of the complete run have passed, or 60 s if that is more.

The server sees gaps between updates that are half a second apart at least, and judges a run at its signs of life only.
So a report may be one update and one heartbeat later than it is due.
"""

from __future__ import annotations

import math
import random
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, NamedTuple

from progressbar_tracker._estimate import stuck_limit
from progressbar_tracker._former_runs import FormerRuns

from .ours import HEARTBEAT_SECONDS, UPDATE_INTERVAL_SECONDS, follow_run, make_former_run
from .traces import scale_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from progressbar_tracker._estimate import Progress

    from .traces import Trace

MIN_REPORT_SECONDS = 60.0
GAP_FACTOR = 10.0
BLOCK_COUNT = 20
ITEM_ORDERS = ("own", "blocks", "items")


class HangResult(NamedTuple):
    """Counts of replays; each one is followed without and with a hang."""

    replays: int
    false_alarms: int
    in_time: int


def shuffle_items(trace: Trace, order: str, chance: random.Random) -> Trace:
    """Return the run with its items in another order: their ``own``, ``blocks`` of neighbours, or single ``items``."""
    gaps = [late - early for early, late in pairwise((0.0, *trace.ends))]
    size = {"own": len(gaps), "blocks": max(len(gaps) // BLOCK_COUNT, 1), "items": 1}[order]
    blocks = [gaps[place : place + size] for place in range(0, len(gaps), size)]
    chance.shuffle(blocks)
    return trace._replace(ends=tuple(accumulate(gap for block in blocks for gap in block)))


def find_alarm(states: Sequence[tuple[float, Progress]], total: int, former: FormerRuns | None) -> float | None:
    """Return the instant at which the run is reported as stuck before the last of its states, or after it.

    Heartbeats keep on after the last state, so a run that hangs is alive.
    """
    instants = [at for at, _ in states[1:]] + [math.inf]
    for (at, progress), following in zip(states, instants, strict=True):
        limit = stuck_limit(progress, progress.position / total, former)
        if limit is not None:
            heartbeats = math.ceil((progress.idle_since + limit - at) / HEARTBEAT_SECONDS)
            reported = at + HEARTBEAT_SECONDS * heartbeats
            if reported < following:
                return reported
    return None


def follow_hang(trace: Trace, done: int) -> list[tuple[float, Progress]]:
    """Return the states of a run that ends no item after the first ``done`` ones."""
    if not done:
        return list(follow_run(trace))[:1]
    return list(follow_run(trace._replace(ends=trace.ends[:done])))


def find_upper_bound(count: int, of: int) -> float:
    """Return the upper 95 % bound of a share, if ``count`` of ``of`` cases were seen (Clopper, Pearson, one-sided)."""
    if count >= of:
        return 1.0
    logs = [math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1) for k in range(count + 1)]
    low, high = count / of, 1.0
    for _ in range(60):
        share = (low + high) / 2
        if not 0 < share < 1:
            break
        seen = sum(math.exp(log + k * math.log(share) + (of - k) * math.log1p(-share)) for k, log in enumerate(logs))
        low, high = (share, high) if seen > 0.05 else (low, share)
    return high


def replay_hangs(
    jobs: Mapping[str, Sequence[Trace]], mean_seconds: float, former_count: int, number: int, seed: int = 1
) -> HangResult:
    """Replay the runs of the jobs that have ``former_count`` earlier runs, in turn, ``number`` times in all."""
    chance = random.Random(f"{seed} {former_count} {mean_seconds}")
    scaled = [scale_runs(runs, mean_seconds) for runs in jobs.values()]
    places = [(runs, place) for runs in scaled for place in range(former_count, len(runs))]
    false_alarms = in_time = 0
    for turn in range(number if places else 0):
        runs, place = places[turn % len(places)]
        order = ITEM_ORDERS[turn // len(places) % len(ITEM_ORDERS)]
        permutation = chance.random()
        *former, trace = (
            shuffle_items(run, order, random.Random(permutation + run.run))
            for run in runs[place - former_count : place + 1]
        )
        history = FormerRuns.build([make_former_run(run) for run in former])
        states = list(follow_run(trace))
        alarm = find_alarm(states, trace.total, history)
        false_alarms += alarm is not None and alarm < states[-1][0]
        done = chance.randrange(trace.total)
        hung_at = trace.ends[done - 1] if done else 0.0
        seen_at = hung_at + UPDATE_INTERVAL_SECONDS
        due = seen_at + max(MIN_REPORT_SECONDS, GAP_FACTOR * states[-1][1].longest_gap) + HEARTBEAT_SECONDS
        reported = find_alarm(follow_hang(trace, done), trace.total, history)
        in_time += reported is not None and reported <= due
    return HangResult(number if places else 0, false_alarms, in_time)
