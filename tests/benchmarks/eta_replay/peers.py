"""The peers: each predicts the finish of a run at given moments, from the items that had ended by then.

tqdm, rich and alive-progress are the real packages with an injected clock. They are driven as their own loops drive
them: tqdm by ``update(1)``, rich by the ticks of ``rich.progress.track``, alive-progress by its frames.
"""

from __future__ import annotations

import io
import statistics
import types
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import alive_progress.core.progress as alive
import rich.console
import rich.progress
import tqdm as tqdm_package
from alive_progress.core.configuration import config_handler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .traces import Trace

TICK_SECONDS = 0.1
"""The update period of ``rich.progress.track``."""
SETTLED_FRAMES = 60
"""After so many frames without an item, the smoothed values of alive-progress no longer move."""


class Estimate(NamedTuple):
    """A predicted finish in seconds since the start of the run, with the bounds of the interval if there is one."""

    finish: float
    low: float | None = None
    high: float | None = None


Contender: TypeAlias = "Callable[[Trace, Sequence[Trace], Sequence[float]], list[Estimate | None]]"
"""Takes a run, its former runs and the moments; returns an estimate for each moment."""


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def estimate_remaining(now: float, remaining: float | None) -> Estimate | None:
    return None if remaining is None else Estimate(now + remaining)


def predict_elapsed(trace: Trace, _: Sequence[Trace], moments: Sequence[float]) -> list[Estimate | None]:
    """Divide the elapsed time by the share of the work that is done."""
    counts = [bisect_right(trace.ends, now) for now in moments]
    return [Estimate(now * trace.total / count) if count else None for now, count in zip(moments, counts, strict=True)]


def predict_median(_: Trace, former: Sequence[Trace], moments: Sequence[float]) -> list[Estimate | None]:
    """Expect the median of the former durations, and the end at once if it has passed."""
    if not former:
        return [None for _ in moments]
    usual = statistics.median(run.duration for run in former)
    return [Estimate(max(usual, now)) for now in moments]


class QuietTqdm(tqdm_package.tqdm):
    """The real bar, without its output and its thread."""

    monitor_interval = 0

    def display(self, *_: object, **__: object) -> None:
        """Draw nothing."""


def predict_tqdm(trace: Trace, _: Sequence[Trace], moments: Sequence[float]) -> list[Estimate | None]:
    """Return what tqdm prints: the rest divided by its smoothed rate."""
    clock, found, done = Clock(), [], 0
    bar = QuietTqdm(total=trace.total, file=io.StringIO())
    bar._time = clock
    bar.start_t = bar.last_print_t = 0.0
    for now in moments:
        while done < trace.total and trace.ends[done] <= now:
            clock.now = trace.ends[done]
            if bar.miniters > 1 and clock.now - bar.last_print_t >= bar.maxinterval:
                bar.miniters = 1  # the thread that watches slow bars does this every ten seconds
            bar.update(1)
            done += 1
        clock.now = now
        shown = bar.format_dict
        rate = shown["rate"] or shown["n"] / shown["elapsed"]
        found.append(estimate_remaining(now, (trace.total - shown["n"]) / rate if rate else None))
    bar.close()
    return found


def predict_rich(trace: Trace, _: Sequence[Trace], moments: Sequence[float]) -> list[Estimate | None]:
    """Return the ``time_remaining`` of rich, whose memory is 30 s by default."""
    clock, found, tick, done = Clock(), [], 0, 0
    console = rich.console.Console(file=io.StringIO())
    progress = rich.progress.Progress(get_time=clock, auto_refresh=False, console=console)
    task_id = progress.add_task("", total=trace.total)
    for now in moments:
        while done < trace.total and trace.ends[done] <= now:
            tick = max(tick + 1, int(trace.ends[done] / TICK_SECONDS) + 1)
            clock.now = tick * TICK_SECONDS
            if clock.now > now:
                tick -= 1
                break
            count = bisect_right(trace.ends, clock.now)
            progress.advance(task_id, count - done)
            done = count
        clock.now = now
        found.append(estimate_remaining(now, progress.tasks[0].time_remaining))
    return found


def open_alive_bar(clock: Clock, total: int) -> Iterator[dict[str, object]]:
    """Yield the inside of an alive bar without a terminal; it reads the injected clock."""
    module_time, alive.time = alive.time, types.SimpleNamespace(perf_counter=clock)
    try:
        config = config_handler(file=io.StringIO(), receipt=False, enrich_print=False)
        with getattr(alive, "__alive_bar")(config, total, _sampling=True) as inside:
            yield inside
    finally:
        alive.time = module_time


def predict_alive(trace: Trace, _: Sequence[Trace], moments: Sequence[float]) -> list[Estimate | None]:
    """Return the ETA of alive-progress before it rounds it to a text."""
    clock, found, done, shown = Clock(), [], 0, None
    for inside in open_alive_bar(clock, trace.total):
        run, bar, update, fps, smoothed = (
            inside[name] for name in ("run", "bar", "main_update_hook", "fps", "gen_eta")
        )
        frame = 1 / fps(run.rate)
        for now in moments:
            while frame <= now:
                count = bisect_right(trace.ends, frame)
                if count > done:
                    bar(count - done)
                    done = count
                clock.now = frame
                update()
                shown = smoothed.send((done, run.rate)) if run.rate else None
                period = 1 / fps(run.rate)
                upcoming = trace.ends[done] if done < trace.total else now
                skipped = int((min(upcoming, now) - frame) / period) - SETTLED_FRAMES
                frame += period * max(skipped, 1)
            found.append(estimate_remaining(now, shown))
    return found


PEERS_BY_NAME: dict[str, Contender] = {
    "tqdm": predict_tqdm,
    "rich": predict_rich,
    "alive-progress": predict_alive,
    "elapsed/n": predict_elapsed,
    "median of former runs": predict_median,
}
