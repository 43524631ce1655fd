"""Many bars in one process: ``python tests/benchmarks/many.py [--quick]``.

* 10,000 live bars beside a loop with a body of 20 ms, for about 10 s each: the sender's share of a core, by the CPU
  clock of its thread, and the slowdown of the loop. The same loop without tracking runs before and after it. One body
  waits, as for a disk or a network; the other one computes, and shares Python's lock with the sender. Each bar moves
  every ten seconds, or every second.
* Bytes a bar, by tracemalloc: after its start, and after the server's acknowledgement. The user's ids and list of bars
  are not counted, and the ``Tracker``, the handle of the user, has a row of its own. The peer is tqdm. The goal is 600
  without the handle.
* 20,000 calls of ``advance()`` and the end of the program, in a process of its own: its requests, counted at the HTTP
  client, and the item on the server.

The server is a real one in another process. The sender always runs, and no bar is drawn.
"""

from __future__ import annotations

import contextvars
import gc
import itertools
import os
import subprocess
import sys
import threading
import time
import tracemalloc

from harness import ADMIN_KEY, format_ratio, parse_options, print_table, run_server
from tqdm import tqdm

import progressbar_tracker
from progressbar_tracker import ProgressBar, track

BODY_SECONDS = 0.02  # seconds

ADVANCING_PROGRAM = """
import atexit, httpx
calls, send = [], httpx.Client.send
def counted(*args, **kwargs):
    calls.append(args[1].url.path)
    return send(*args, **kwargs)
httpx.Client.send = counted
atexit.register(lambda: print(len(calls)))  # before the tracker's own, so that it runs after it
from progressbar_tracker import track
with track(total=20_000, id="advanced", keep=True, display=False) as bar:
    for _ in range(20_000):
        bar.advance()
"""


def open_bars(ids):
    """Return live bars. Each starts in a context of its own, as in a task or a thread, so that none has a parent."""
    bars = [None] * len(ids)
    for n, item_id in enumerate(ids):
        bars[n] = track(total=1000, id=item_id, display=False)
        contextvars.Context().run(bars[n].advance)
    return bars


def flush():
    if not progressbar_tracker.flush(60):
        raise SystemExit("the server did not get everything")


def close(bars):
    while bars:
        bars.pop().close()
    flush()


def measure_steps(make):
    """Return the allocated bytes after each step of a generator, and the value of its last step."""
    gc.collect()
    tracemalloc.start()
    before, sizes, result = tracemalloc.get_traced_memory()[0], [], None
    for step in make():
        result = step
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0] - before)
    tracemalloc.stop()
    return sizes, result


def measure_memory(ids, null):
    def ours():
        bars = open_bars(ids)
        yield bars
        flush()
        yield bars

    def theirs():
        # Each tqdm visits all other bars when it starts and ends: ten thousand would take minutes.
        yield [tqdm(total=1000, desc=item_id, file=null) for item_id in ids[:1000]]

    first = open_bars(["the first"])
    flush()  # imports and connects: no cost of a bar
    close(first)
    (started, known), bars = measure_steps(ours)
    handle = sys.getsizeof(bars[0])  # with the header for the garbage collector
    close(bars)
    (peer,), bars = measure_steps(theirs)
    for bar in bars:
        bar.close()
    # 8: its pointer in the user's list.
    each = [started / len(ids) - 8, known / len(ids) - 8, peer / min(len(ids), 1000) - 8]
    print_table(
        f"Bytes a bar, of {len(ids):,}",
        ["bar", "bytes", "ratio to tqdm"],
        [
            ["track, started", f"{each[0]:.0f}", format_ratio(each[0], each[2])],
            ["track, known to the server", f"{each[1]:.0f}", format_ratio(each[1], each[2])],
            ["the same beside the user's handle", f"{each[1] - handle:.0f}", format_ratio(each[1] - handle, each[2])],
            ["tqdm", f"{each[2]:.0f}", ""],
        ],
    )


def make_busy_body():
    """Return a loop body that computes for ``BODY_SECONDS``, calibrated in the warm process."""
    turns, best = 1_000_000, 1.0
    for _ in range(20):
        started = time.perf_counter()
        sum(itertools.repeat(1, turns))
        best = min(best, time.perf_counter() - started)
    turns = int(turns * BODY_SECONDS / best)
    return lambda: sum(itertools.repeat(1, turns))


def time_loop(body, times, bars=(), share=0):
    """Return the seconds of a loop; ``share`` of the bars move in each turn."""
    moving = itertools.cycle(bars)
    started = time.perf_counter()
    for _ in track(range(times), display=False) if bars else range(times):
        body()
        for bar in itertools.islice(moving, share):
            bar.advance()
    return time.perf_counter() - started


def sender_cpu_clock():
    thread = next(thread for thread in threading.enumerate() if thread.name == "progressbar-sender")
    return time.pthread_getcpuclockid(thread.ident)


def measure_beside(ids, times):
    rows = []
    for name, body in (("waits", lambda: time.sleep(BODY_SECONDS)), ("computes", make_busy_body())):
        for seconds in (10, 1):
            bare = time_loop(body, times // 2)
            bars = open_bars(ids)
            flush()
            clock, sent = sender_cpu_clock(), progressbar_tracker.stats().sent
            before = time.clock_gettime(clock)
            took = time_loop(body, times, bars, int(len(ids) * BODY_SECONDS / seconds))
            cpu = time.clock_gettime(clock) - before
            sent = progressbar_tracker.stats().sent - sent
            close(bars)
            bare += time_loop(body, times // 2)
            rows.append(
                [f"{name}, bars move every {seconds} s", f"{bare / times * 1e3:.2f}", f"{took / times * 1e3:.2f}",
                 f"{took / bare - 1:+.1%}", f"{cpu / took:.1%}", f"{sent / took:,.0f}"]
            )  # fmt: skip
    heads = ["the body", "bare, ms", "beside, ms", "slower by", "sender's share", "states sent a second"]
    print_table(f"A loop beside {len(ids):,} live bars", heads, rows)


def measure_requests(url):
    environ = {**os.environ, "PROGRESSBAR_URL": url, "PROGRESSBAR_API_KEY": ADMIN_KEY}
    output = subprocess.check_output([sys.executable, "-c", ADVANCING_PROGRAM], env=environ, text=True)
    with ProgressBar(url, ADMIN_KEY) as pb:
        item = pb.get("advanced")
    print(
        f"\n20,000 advance() and the end of the program: {int(output)} requests; "
        f"the server has {item['completed']:,} of {item['total']:,}, {item['status']}."
    )


def main():
    quick = parse_options(__doc__).quick
    number, seconds = (1_000, 1) if quick else (10_000, 10)
    ids = [f"bar {n}" for n in range(number)]
    with run_server(PROGRESSBAR_MAX_ITEMS="100000") as url, open(os.devnull, "w") as null:  # noqa: PTH123
        progressbar_tracker.configure(url=url, api_key=ADMIN_KEY)
        measure_memory(ids, null)
        measure_beside(ids, int(seconds / BODY_SECONDS))
        progressbar_tracker.configure()
        measure_requests(url)


if __name__ == "__main__":
    main()
