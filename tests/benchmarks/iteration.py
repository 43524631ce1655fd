"""The cost of a tracked loop: ``python tests/benchmarks/iteration.py [--quick]``.

* Nanoseconds an item that ``track()``, tqdm and ``rich.progress.track`` add to the bare loop ``for _ in source: pass``:
  the best time of the wrapped loop minus the best of the bare one, divided by the items. The start and the end of the
  bar are included. tqdm and rich draw to the null device, ``track`` draws nothing. "stoppable" is a loop that accepts
  stop requests; it may cost at most 15 ns an item more.
* ``advance()`` and ``tqdm.update(1)``: a call with the loop around it, whose share an empty function shows.
* A complete bar around a loop of ten items. "in the loop" is the time of the program's thread; "with the sender's work"
  waits until the sender has reported all bars.

* The drop-in beside stock tqdm, both drawing to the null device: an item, ``update(1)``, a bar around ten items; and a
  bar that ``disable=None`` hides, which stock tqdm does not count at all.
* A task of rich that ``install()`` shows beside one that is not shown: ``advance()``, ``update(advance=1)``, and a
  progress with one task of ten items.

Meanwhile the sender reports another live bar every 50 ms to a real server in another process. Rounds are interleaved,
and the best of each is kept. The peer is tqdm.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import time
from collections import deque
from pathlib import Path

import rich.console
import rich.progress
from harness import ADMIN_KEY, format_ratio, parse_options, print_table, run_rounds, run_server
from tqdm import tqdm

import progressbar_tracker
from progressbar_tracker import track
from progressbar_tracker.integrations import rich as rich_integration
from progressbar_tracker.tqdm import tqdm as dropin


def make_sources(items, folder):
    """Return a factory of each source; every loop calls it once."""
    numbers = list(range(items))
    pairs = dict.fromkeys(numbers)
    unique, queue = set(numbers), deque(numbers)
    path = Path(folder) / "lines.txt"
    path.write_text("a line of a file\n" * items)
    return {
        "list": lambda: numbers,
        "range": lambda: range(items),
        "generator": lambda: (None for _ in itertools.repeat(None, items)),
        "file lines": lambda: path.open(),
        "dict items": pairs.items,
        "set": lambda: unique,
        "deque": lambda: queue,
    }


def time_loop(make, wrap):
    """Return the seconds of a loop over a fresh source in a wrapper."""
    source = make()
    started = time.perf_counter()
    for _ in wrap(source):
        pass
    took = time.perf_counter() - started
    if hasattr(source, "close"):
        source.close()
    return took


def time_calls(call, number):
    started = time.perf_counter()
    for _ in itertools.repeat(None, number):
        call()
    return time.perf_counter() - started


def do_nothing():
    pass


def measure_per_item(items, number, null, console):
    wrappers = {
        "bare": lambda source: source,
        "track": lambda source: track(source, display=False),
        "stoppable": lambda source: track(source, display=False, stoppable=True),
        "tqdm": lambda source: tqdm(source, file=null),
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, make in make_sources(items, folder).items():
            took = run_rounds({w: lambda m=make, f=f: time_loop(m, f) for w, f in wrappers.items()}, number)
            bare, ours, stoppable, theirs = (took[w] / items * 1e9 for w in wrappers)
            # rich is slow: a tenth of the items and a few rounds are enough.
            few = list(itertools.islice(make(), items // 10))
            drawn = run_rounds(
                {
                    "bare": lambda few=few: time_loop(lambda: few, wrappers["bare"]),
                    "rich": lambda few=few: time_loop(
                        lambda: few, lambda s: rich.progress.track(s, console=console, total=len(few))
                    ),
                },
                3,
            )
            richs = (drawn["rich"] - drawn["bare"]) / len(few) * 1e9
            added, stoppable, peer = ours - bare, stoppable - bare, theirs - bare
            ratios = (format_ratio(added, peer), format_ratio(stoppable, peer), f"{stoppable - added:.1f}")
            rows.append([name, *(f"{ns:.1f}" for ns in (bare, added, stoppable, peer, richs)), *ratios])
    print_table(
        "Added to the bare loop, ns an item",
        ["source", "bare", "track", "stoppable", "tqdm", "rich", "track/tqdm", "stoppable/tqdm", "stoppable - track"],
        rows,
    )


def measure_per_call(items, number, null):
    with track(display=False) as bar, tqdm(file=null) as peer:
        took = run_rounds(
            {
                "bare": lambda: time_calls(do_nothing, items),
                "advance": lambda: time_calls(bar.advance, items),
                "update": lambda: time_calls(peer.update, items),
            },
            number,
        )
        exact = bar.completed == number * items
    ours, theirs = (took[name] / items * 1e9 for name in ("advance", "update"))
    empty = took["bare"] / items * 1e9
    print_table(
        f"A call, ns (an empty function takes {empty:.1f}; the count was {'' if exact else 'NOT '}exact)",
        ["call", "ns", "advance/update"],
        [["advance()", f"{ours:.1f}", format_ratio(ours, theirs)], ["tqdm.update(1)", f"{theirs:.1f}", ""]],
    )


def measure_short_loops(loops, number, null):
    def ours():
        started = time.perf_counter()
        for _ in itertools.repeat(None, loops):
            for _ in track(range(10), display=False):
                pass
        took = time.perf_counter() - started
        progressbar_tracker.flush(10)
        totals.append(time.perf_counter() - started)
        return took

    def theirs():
        started = time.perf_counter()
        for _ in itertools.repeat(None, loops):
            for _ in tqdm(range(10), file=null):
                pass
        return time.perf_counter() - started

    totals = []
    took = run_rounds({"track": ours, "tqdm": theirs}, number)
    took["sent"] = min(totals)
    track_, peer, sent = (took[name] / loops * 1e6 for name in ("track", "tqdm", "sent"))
    print_table(
        "A bar around ten items, all of it, microseconds",
        ["bar", "us", "ratio to tqdm"],
        [
            ["track, in the loop", f"{track_:.1f}", format_ratio(track_, peer)],
            ["track, with the sender's work", f"{sent:.1f}", format_ratio(sent, peer)],
            ["tqdm", f"{peer:.1f}", ""],
        ],
    )


def compare_with_stock(items, number, null):
    bars = items // 1000
    kinds = {"tqdm": tqdm, "drop-in": dropin}

    def looped(kind, **options):
        return lambda: time_loop(lambda: range(items), lambda source: kind(source, file=null, **options))

    def updated(kind):
        def run():
            with kind(file=null) as bar:
                return time_calls(bar.update, items)

        return run

    def short(kind):
        def run():
            started = time.perf_counter()
            for _ in itertools.repeat(None, bars):
                for _ in kind(range(10), file=null):
                    pass
            return time.perf_counter() - started

        return run

    rows = []
    for subject, contenders, each, unit in (
        ("an item of a loop", {name: looped(kind) for name, kind in kinds.items()}, items, 1e9),
        ("an item, hidden by disable=None", {n: looped(kind, disable=None) for n, kind in kinds.items()}, items, 1e9),
        ("update(1)", {name: updated(kind) for name, kind in kinds.items()}, items, 1e9),
        ("a bar around ten items", {name: short(kind) for name, kind in kinds.items()}, bars, 1e9),
    ):
        took = run_rounds(contenders, number)
        stock, ours = (took[name] / each * unit for name in ("tqdm", "drop-in"))
        rows.append([subject, f"{stock:.1f}", f"{ours:.1f}", f"{ours - stock:+.1f}", format_ratio(ours, stock)])
    print_table("The drop-in beside stock tqdm, ns", ["what", "tqdm", "drop-in", "more", "ratio"], rows)


def compare_with_rich(items, number, console):
    def open_task():
        progress = rich.progress.Progress(console=console, auto_refresh=False)
        return progress, progress.add_task("rows", total=items * number * 2)

    def short():
        started = time.perf_counter()
        for _ in itertools.repeat(None, bars):
            with rich.progress.Progress(console=console, auto_refresh=False) as progress:
                task = progress.add_task("rows", total=10)
                for _ in range(10):
                    progress.advance(task)
        return time.perf_counter() - started

    def short_shown():
        rich_integration.install()
        try:
            return short()
        finally:
            rich_integration.uninstall()

    bars = items // 1000
    bare, task = open_task()
    rich_integration.install()
    shown, shown_task = open_task()
    rich_integration.uninstall()
    rows = []
    for subject, contenders, each in (
        (
            "advance()",
            {
                "bare": lambda: time_calls(lambda: bare.advance(task), items),
                "shown": lambda: time_calls(lambda: shown.advance(shown_task), items),
            },
            items,
        ),
        (
            "update(advance=1)",
            {
                "bare": lambda: time_calls(lambda: bare.update(task, advance=1), items),
                "shown": lambda: time_calls(lambda: shown.update(shown_task, advance=1), items),
            },
            items,
        ),
        ("a progress with ten items", {"bare": short, "shown": short_shown}, bars),
    ):
        took = run_rounds(contenders, number)
        stock, ours = (took[name] / each * 1e9 for name in ("bare", "shown"))
        rows.append([subject, f"{stock:.1f}", f"{ours:.1f}", f"{ours - stock:+.1f}", format_ratio(ours, stock)])
    print_table("A shown task of rich beside a bare one, ns", ["what", "rich", "shown", "more", "ratio"], rows)


def main():
    quick = parse_options(__doc__).quick
    items, number = (50_000, 3) if quick else (1_000_000, 15)
    with run_server() as url, open(os.devnull, "w") as null:  # noqa: PTH123
        progressbar_tracker.configure(url=url, api_key=ADMIN_KEY)
        console = rich.console.Console(file=null)
        done = threading.Event()
        with track(id="another", interval=0.05, display=False) as live:

            def move():
                while not done.wait(0.02):
                    live.advance()

            mover = threading.Thread(target=move)
            mover.start()
            try:
                measure_per_item(items, number, null, console)
                measure_per_call(items, number, null)
                measure_short_loops(items // 200, number, null)
                compare_with_stock(items, number, null)
                compare_with_rich(items // 10, number, console)
            finally:
                done.set()
                mover.join()
        sent = progressbar_tracker.stats()
        print(f"\nMeanwhile the sender made {sent.requests} requests; {sent.failed} failed, {sent.dropped} dropped.")
        progressbar_tracker.configure()


if __name__ == "__main__":
    main()
