"""The cost of estimates on the server: ``python tests/benchmarks/estimator.py [--quick]``.

10,000 running items, each with three former runs, 500 updates a second and one viewer of the stream. The figure is the
CPU time of the server. The peer is the same server without estimates: it keeps no progress and makes no forecast. The
servers take turns, and each is measured several times.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
from harness import ADMIN_KEY, format_ratio, parse_options, print_table, run_rounds, start_process
from viewers import cpu_seconds, follow_stream, server_pid

UPDATES_PER_SECOND = 500
FORMER_RUNS = 3
BATCH_SIZE = 250
RUN_SERVER = "from progressbar_tracker.__main__ import main; import sys; sys.exit(main())"
WITHOUT_ESTIMATES = (
    "from progressbar_tracker.server.items import forecast, transition\n"
    "transition.update_progress = lambda before, *_: before\n"
    "forecast.forecast = lambda *_, **__: None\n"
)


def send_batches(client, ops):
    for start in range(0, len(ops), BATCH_SIZE):
        client.post("/api/v1/items:batch", json={"ops": ops[start : start + BATCH_SIZE]}).raise_for_status()


def create_items(client, count):
    """Create running items with former runs."""
    for run in range(FORMER_RUNS + 1):
        common = {"op": "put", "run_id": f"r{run}", "total": 1000, "heartbeat_timeout": 3600.0}
        send_batches(client, [{**common, "id": f"job-{n}", "completed": 0} for n in range(count)])
        if run < FORMER_RUNS:
            end = {"op": "patch", "status": "succeeded", "completed": 1000, "duration_seconds": 600.0 + run}
            send_batches(client, [{**end, "id": f"job-{n}"} for n in range(count)])


def send_updates(client, count, done):
    """Update 500 items a second, in ten batches."""
    seq, at, first = 0, time.monotonic(), 0
    size = UPDATES_PER_SECOND // 10
    while not done.is_set():
        ids = [(first + n) % count for n in range(size)]
        first = (first + size) % count
        seq += first < size
        ops = [{"op": "patch", "id": f"job-{n}", "completed": seq + n % 7, "age_seconds": 30.0 + seq} for n in ids]
        client.post("/api/v1/items:batch", json={"ops": ops}).raise_for_status()
        at += 0.1
        done.wait(max(at - time.monotonic(), 0))


def measure_cpu(prelude, count, seconds):
    """Return the share of a core that a server takes."""
    with tempfile.TemporaryDirectory(prefix="progressbar-benchmark-") as folder:
        environ = {
            "PROGRESSBAR_CONFIG": str(Path(folder) / "config.toml"),
            "PROGRESSBAR_DATABASE": str(Path(folder) / "progress.db"),
            "PROGRESSBAR_ADMIN_KEY": ADMIN_KEY,
            "PROGRESSBAR_MAX_ITEMS": "100000",
        }
        command = [sys.executable, "-c", prelude + RUN_SERVER, "serve", "--port", "0", "--no-local-key"]
        with start_process(command, r"Serving on (\S+) ", environ) as match:
            pid = server_pid()
            with httpx.Client(base_url=match[1], headers={"X-API-KEY": ADMIN_KEY}, timeout=60) as client:
                create_items(client, count)
                done = threading.Event()
                writer = threading.Thread(target=send_updates, args=(client, count, done))
                writer.start()
                try:
                    return asyncio.run(watch_server(match[1], pid, seconds))
                finally:
                    done.set()
                    writer.join()


async def watch_server(url, pid, seconds):
    done, opened = asyncio.Event(), asyncio.Semaphore(0)
    viewer = asyncio.create_task(follow_stream(url, False, [], opened, done))
    await opened.acquire()
    await asyncio.sleep(40 if seconds > 5 else 1)  # until all former runs are loaded
    cpu, started = cpu_seconds(pid), time.monotonic()
    await asyncio.sleep(seconds)
    used = (cpu_seconds(pid) - cpu) / (time.monotonic() - started)
    done.set()
    viewer.cancel()
    await asyncio.gather(viewer, return_exceptions=True)
    return used


def main():
    quick = parse_options(__doc__).quick
    count, seconds, rounds = (500, 2.0, 1) if quick else (10_000, 20.0, 3)
    used = run_rounds(
        {
            "with estimates": lambda: measure_cpu("", count, seconds),
            "without": lambda: measure_cpu(WITHOUT_ESTIMATES, count, seconds),
        },
        rounds,
        pick=lambda values: sorted(values)[len(values) // 2],
    )
    base = used["without"]
    print_table(
        f"{UPDATES_PER_SECOND} updates a second of {count} items, one viewer",
        ["server", "of a core", "ratio"],
        [[name, f"{share:.1%}", format_ratio(share, base)] for name, share in used.items()],
    )


if __name__ == "__main__":
    main()
