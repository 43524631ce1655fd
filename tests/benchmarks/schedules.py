"""The cost of schedules and push subscriptions: ``python tests/benchmarks/schedules.py [--seconds N] [--quick]``.

A real server has 10,000 hourly schedules, spread over the minutes of an hour, and 1,000 push subscriptions at a local
push service. Of each minute's jobs, 19 of 20 report a run that starts and ends; the other starts are missed, and a
webhook is notified. The peer is a server that gets the same writes without schedules and subscriptions.

The figures are the processor time of the server and of PostgreSQL in percent of a core, database writes included. All
servers run at the same time, so a busy machine affects them alike. *overhead* is the difference to the peer; the goal
is at most 5 %. The messages that were delivered show that the work was done.

The script starts a PostgreSQL for each of two servers, with default durability in a temporary folder.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import quote

import httpx
from harness import ADMIN_KEY, parse_options, print_table, run_server
from writers import read_children_seconds

sys.path.insert(0, str(Path(__file__).parents[2]))

from progressbar_tracker.server.models import ScheduleRecord
from progressbar_tracker.server.mutations import SaveSchedule
from progressbar_tracker.server.stores.open import open_store
from tests.support.postgres import Cluster, create_database
from tests.support.push_service import PushService
from tests.support.webhook_receiver import WebhookReceiver

GRACE_SECONDS = 60
MISSED_SHARE = 0.05
HOUR_MINUTES = 60
SUBSCRIPTIONS_PER_KEY = 20
STRIDE_COUNT = 7919
"""From one followed job to the next: a prime number, so the jobs of every minute are followed."""


def open_client(url, key=ADMIN_KEY):
    return httpx.Client(base_url=url, headers={"X-API-KEY": key}, timeout=60)


def send(http, method, path, body=None):
    """Send a request until the server accepts it: on a busy machine, a commit may time out."""
    while (reply := http.request(method, path, json=body)).status_code == 503:
        time.sleep(1)
    return reply.raise_for_status()


def name_job(number):
    return f"team/job-{number:05}"


def find_server(url):
    """Return the process that listens at a URL: a child of this one."""
    port = int(url.rpartition(":")[2])
    rows = Path("/proc/net/tcp").read_text().splitlines()[1:]
    (inode,) = {row.split()[9] for row in rows if row.split()[1].endswith(f":{port:04X}") and row.split()[3] == "0A"}
    for task in Path("/proc/self/task").iterdir():
        for pid in (task / "children").read_text().split():
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if link.readlink().name == f"socket:[{inode}]":
                        return pid
    raise SystemExit(f"no process serves {url}")


class Contender:
    """A server with its database, and the numbers of a measurement."""

    def __init__(self, name, stack, cluster, schedule_count, **environ):
        self.name = name
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="progressbar-benchmark-")))
        database = folder / "progress.db" if cluster is None else create_database(cluster)
        store_schedules(database, schedule_count)
        self.url = stack.enter_context(run_server(**environ, PROGRESSBAR_DATABASE=str(database)))
        self.pids = {"server": find_server(self.url)} | ({} if cluster is None else {"database": cluster.pid})
        self.cpu = dict.fromkeys(self.pids, 0.0)

    def read(self):
        return {part: read_children_seconds(pid) for part, pid in self.pids.items()}


def store_schedules(database, count):
    """Write schedules to a database that no server uses: by requests, a busy machine would need minutes."""
    now = time.time()
    records = [
        ScheduleRecord(
            id=name_job(number), owner_id="benchmark", owner="benchmark", created_at=now, updated_at=now, since=now,
            cron=f"{number % HOUR_MINUTES} * * * *", grace=GRACE_SECONDS, notify=("hook",),
        )
        for number in range(count)
    ]  # fmt: skip
    store = open_store(database)
    try:
        store.commit([SaveSchedule(record) for record in records]).result(300)
    finally:
        store.close()


def subscribe(url, service, job_count, count):
    """Follow the ends of jobs of all minutes, with as many keys as needed."""
    with open_client(url) as admin:
        for start in range(0, count, SUBSCRIPTIONS_PER_KEY):
            created = send(admin, "POST", "/api/v1/keys", {"type": "read", "name": f"reader {start}"})
            with open_client(url, created.json()["key"]) as http:
                send(http, "GET", "/api/v1/push/key")
                for number in range(start, min(start + SUBSCRIPTIONS_PER_KEY, count)):
                    browser = service.subscribe()
                    body = {**browser.fields, "events": ["end"], "item": name_job(number * STRIDE_COUNT % job_count)}
                    send(http, "POST", "/api/v1/push/subscriptions", body)


def report_runs(url, job_count, done):
    """Report a run of each job that is expected in this minute, spread over most of the minute, except some."""
    chosen = random.Random(1)  # the same jobs for each server
    with open_client(url) as http:
        for minute in itertools.count(int(time.time() // 60)):
            if done.wait(max(minute * 60 - time.time(), 0)):
                return
            jobs = range(minute % HOUR_MINUTES, job_count, HOUR_MINUTES)
            jobs = [number for number in jobs if chosen.random() >= MISSED_SHARE]
            for place, number in enumerate(jobs):
                if done.wait(max(minute * 60 + 1 + place * 45 / len(jobs) - time.time(), 0)):
                    return
                path = f"/api/v1/items/{quote(name_job(number), safe='')}"
                send(http, "PUT", path, {"run_id": str(minute), "total": 10})
                send(http, "PATCH", path, {"run_id": str(minute), "status": "succeeded"})


def main():
    options = parse_options(
        __doc__,
        lambda parser: parser.add_argument("--seconds", type=int, default=180, help="length of the measurement"),
    )
    job_count, push_count = (600, 40) if options.quick else (10_000, 1_000)
    seconds, warm_up = (5, 0) if options.quick else (options.seconds, 60 + GRACE_SECONDS + 10)
    with contextlib.ExitStack() as stack:
        service, receiver = stack.enter_context(PushService()), stack.enter_context(WebhookReceiver())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        channels = Path(folder) / "channels.toml"
        channels.write_text(f'[channels.hook]\nurl = "{receiver.url}"\nallow_private = true\non = ["missed"]\n')
        environ = {"PROGRESSBAR_PUSH_ORIGINS": service.origin, "PROGRESSBAR_CHANNELS": str(channels)}
        clusters = []
        for _ in range(2):
            clusters.append(Cluster(fsync="on"))
            stack.callback(clusters[-1].stop)
        contenders = [
            Contender(f"{store}, {name}", stack, cluster, count, **environ)
            for store, pair in (("SQLite", (None, None)), ("PostgreSQL", clusters))
            for (name, count), cluster in zip((("writes only", 0), ("with schedules", job_count)), pair, strict=True)
        ]
        for contender in contenders[1::2]:
            subscribe(contender.url, service, job_count, push_count)
        print(f"{job_count} schedules and {push_count} subscriptions on each of two servers", flush=True)
        done = threading.Event()
        writers = [
            threading.Thread(target=report_runs, args=(contender.url, job_count, done)) for contender in contenders
        ]
        for writer in writers:
            writer.start()
        time.sleep(warm_up)
        counts, started_at = (len(receiver.received), len(service.received)), time.monotonic()
        before = [contender.read() for contender in contenders]
        time.sleep(seconds)
        after, elapsed = [contender.read() for contender in contenders], time.monotonic() - started_at
        counts = len(receiver.received) - counts[0], len(service.received) - counts[1]
        done.set()
        for writer in writers:
            writer.join()
    used = [
        {part: 100 * (last[part] - first[part]) / elapsed for part in first}
        for first, last in zip(before, after, strict=True)
    ]
    rows = []
    for number, (contender, parts) in enumerate(zip(contenders, used, strict=True)):
        peer = used[number - number % 2]
        overhead = "" if number % 2 == 0 else f"{sum(parts.values()) - sum(peer.values()):.1f} %"
        rows.append(
            (contender.name, f"{parts['server']:.1f} %", f"{parts['database']:.1f} %" if "database" in parts else "-",
             overhead)
        )  # fmt: skip
    print_table(f"percent of a core over {elapsed:.0f} s", ("", "server", "database", "overhead"), rows)
    print(f"\nmissed starts that a webhook received: {counts[0]}; push messages: {counts[1]}, of both servers")


if __name__ == "__main__":
    main()
