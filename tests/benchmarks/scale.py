"""The cost of an operation by the size of the server: ``python tests/benchmarks/scale.py [--quick] [--runs N]``.

* The same operations on servers with 1,000, 10,000 and 100,000 items: growth from column to column is the cost of the
  stored items, not of the operation. The page is requested all the time in the first seconds of a server: the slowest
  response shows how long anything else delays requests, and the next row is its ratio to the smallest server's. Also
  the resident memory of an item, and the time until the server is ready.
* A server with 100,000 items and a history of 5,000,000 runs (``--runs``): its start, pages of the history by each
  filter, and the longest durable create during the expiry of old runs.

The servers are real ones in processes of their own, with databases that SQL has filled. Requests use one connection,
one at a time, and the table shows the median of each kind. CPU is that of the server process.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
from harness import ADMIN_KEY, format_ratio, parse_options, print_table

from progressbar_tracker._estimate import Progress
from progressbar_tracker.server.models import Item
from progressbar_tracker.server.stores.sqlite.files import connect
from progressbar_tracker.server.stores.sqlite.migrations import FILL_RUNS

GROUP_COUNT = 100
DAY_SECONDS = 86400.0
OLD_RUN_AGE = 91 * DAY_SECONDS
REQUEST_HEADERS = {"X-API-KEY": ADMIN_KEY, "Content-Type": "application/json"}


def make_item(n, now):
    return Item(
        id=f"job-{n:06}", owner_id="someone", owner="ci", run_id=f"{n:016x}", created_at=now - n / 1000, updated_at=now,
        title=f"Encoding video {n}", description=f"frame {n} of it", value=0.5, completed=n, total=2 * n + 1, unit="B",
        group=f"group {n % GROUP_COUNT}", heartbeat_timeout=3600.0, own=n, seq=n, born=n, rev=n,
        progress=Progress(n, now, 1.5, mean_rate=1.5, steps=1), started_at=now - n / 1000, progressed_at=now,
        meta={"host": f"worker-{n % 50}", "pid": str(n), "user": "ci", "command": "encode.py --all"},
    )  # fmt: skip


def make_database(path, items, runs, old):
    """Make a database with items, and with runs of the history; the first ``old`` runs have expired."""
    database = connect(path)
    now = time.time()
    # The data is worthless, and a journal of gigabytes would double the time.
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA cache_size = -500000")
    database.execute("BEGIN")
    encode = msgspec.json.Encoder().encode
    database.executemany(
        "INSERT INTO items (id, state) VALUES (?, ?)",
        ((item.id, encode(item).decode()) for item in (make_item(n, now) for n in range(items))),
    )
    if runs:
        indexes = database.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name IN ('history', 'runs') "
            "AND sql IS NOT NULL"
        ).fetchall()
        for name, _ in indexes:
            database.execute(f"DROP INDEX {name}")
        # 97 of 100 succeed; one group is rare.
        state = encode(msgspec.structs.replace(make_item(1, now), id="@id", run_id="@run", group=None)).decode()
        database.execute(
            """
            WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n + 1 < :runs)
            INSERT INTO history (id, title, "group", status, ended_at, state)
            SELECT 'job-' || (n % 1000003), 'Encoding video ' || n,
                CASE WHEN n % 50000 = 7 THEN 'rare' ELSE 'group ' || (n % :groups) END,
                CASE WHEN n % 100 < 97 THEN 'succeeded' WHEN n % 100 = 97 THEN 'stopped' ELSE 'failed' END,
                CASE WHEN n < :old THEN :now - :age + n / 1000.0 ELSE :now - 80 * 86400.0 + n END,
                replace(replace(:state, '@id', 'job-' || (n % 1000003)), '@run', 'run-' || n)
            FROM c
            """,
            {"runs": runs, "groups": GROUP_COUNT, "old": old, "now": now, "age": OLD_RUN_AGE, "state": state},
        )
        database.execute(FILL_RUNS)
        database.execute(
            """
            WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n + 1 < :old),
                k(at) AS (SELECT 0 UNION ALL SELECT at + 1 FROM k WHERE at < 49)
            INSERT INTO samples SELECT 'job-' || (n % 1000003), 'run-' || n, at, at / 50.0, at FROM c, k
            """,
            {"old": old},
        )
        for _, sql in indexes:
            database.execute(sql)
    database.execute("COMMIT")
    database.execute("PRAGMA journal_mode = WAL")
    database.close()
    with path.open("rb") as file:
        os.fsync(file.fileno())  # otherwise the server's first checkpoint waits for all of it


class ServerProcess:
    """A ``serve`` process on an existing database."""

    def __init__(self, database):
        environ = {
            **os.environ,
            "PROGRESSBAR_CONFIG": str(database.with_name("config.toml")),
            "PROGRESSBAR_DATABASE": str(database),
            "PROGRESSBAR_ADMIN_KEY": ADMIN_KEY,
            "PROGRESSBAR_MAX_ITEMS": "100000000",
        }
        command = [sys.executable, "-m", "progressbar_tracker", "serve", "--port", "0", "--no-local-key"]
        started = time.perf_counter()
        self.process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if match := re.match(r"Serving on http://(\S+):(\d+) ", line):
                break
        else:
            raise SystemExit("the server ended before it was ready")
        self.connection = http.client.HTTPConnection(match[1], int(match[2]), timeout=60)
        self.address = match[1], int(match[2])
        self.request("GET", "/readyz")
        self.started = time.perf_counter() - started

    def request(self, method, path, document=None, headers=()):
        body = None if document is None else json.dumps(document)
        self.connection.request(method, path, body, {**REQUEST_HEADERS, **dict(headers)})
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {content[:200]!r}")
        return answer, content

    def time_request(self, method, path, document=None, headers=()):
        """Return the seconds of a request."""
        started = time.perf_counter()
        self.request(method, path, document, headers)
        return time.perf_counter() - started

    def measure_median(self, calls):
        """Return the median milliseconds of requests; each call is the arguments of one."""
        return 1000 * statistics.median(self.time_request(*call) for call in calls)

    def find_slowest(self, seconds, path):
        """Return the milliseconds of the slowest of the requests in some seconds."""
        end, slowest = time.perf_counter() + seconds, 0.0
        while time.perf_counter() < end:
            slowest = max(slowest, self.time_request("GET", path))
            time.sleep(0.01)
        return 1000 * slowest

    def cpu_seconds(self):
        """Return the CPU seconds of the process."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self):
        """Return the resident bytes of the process."""
        return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) * 1024

    def measure_busy(self, seconds, work=lambda: time.sleep(0.05)):
        """Return the milliseconds of CPU a second while ``work`` is repeated."""
        started, before = time.perf_counter(), self.cpu_seconds()
        while time.perf_counter() - started < seconds:
            work()
        return 1000 * (self.cpu_seconds() - before) / (time.perf_counter() - started)

    @contextlib.contextmanager
    def open_stream(self):
        """Connect a viewer to the stream of all items."""
        viewer = http.client.HTTPConnection(*self.address, timeout=60)
        viewer.request("GET", "/api/v1/events", headers=REQUEST_HEADERS)
        stream = viewer.getresponse()
        while not stream.readline().startswith(b"data:"):
            pass

        def read():
            with contextlib.suppress(Exception):
                while stream.readline():
                    pass

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        try:
            yield
        finally:
            viewer.sock.close()

    def close(self):
        self.connection.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def measure_growth(folder, size, empty, quick):
    """Return the figures of a server with a number of items, and the milliseconds of the slowest page at its start."""
    database = folder / f"{size}.db"
    make_database(database, size, 0, 0)
    server, number, seconds = ServerProcess(database), 20 if quick else 200, 0.6 if quick else 5.0
    try:
        slowest = server.find_slowest(1.5 if quick else 12.0, "/")
        resident = server.resident_bytes()
        count = itertools.count(1)

        def legacy(item_id):
            return {"id": item_id, "title": "t", "description": "d", "value": next(count) % 90 / 100, "weight": 0}

        def one_change():
            server.request("PATCH", "/api/v1/items/job-000007", {"completed": next(count)})

        etag = server.request("GET", "/api/v1/items")[0].headers["ETag"]
        unchanged = server.measure_median([("GET", "/api/v1/items", None, {"If-None-Match": etag})] * number)
        far = f"/api/v1/items?limit=100&after={middle_cursor(server, size)}"
        figures = {
            "page": server.measure_median([("GET", "/")] * number),
            "page, the slowest after the start": slowest,
            "PATCH of an item": server.measure_median(
                [("PATCH", "/api/v1/items/job-000007", {"completed": next(count)}) for _ in range(number)]
            ),
            "durable create": server.measure_median([("POST", "/progress", legacy(f"new {n}")) for n in range(number)]),
            "delete": server.measure_median([("DELETE", f"/progress?id=new+{n}") for n in range(number)]),
            "list, 100 of all": server.measure_median([("GET", "/api/v1/items?limit=100")] * number),
            "list, 100 from the middle": server.measure_median([("GET", far)] * number),
            "list, 10 of a group": server.measure_median([("GET", "/api/v1/items?limit=10&group=group+7")] * number),
            "list, unchanged (304)": unchanged,
        }
        figures = {name: f"{value:.2f} ms" for name, value in figures.items()}
        figures["CPU of an idle second"] = f"{server.measure_busy(seconds):.0f} ms"

        def few_changes():
            one_change()
            time.sleep(0.02)

        with server.open_stream():
            figures["CPU of 40 changes, with a viewer"] = f"{server.measure_busy(seconds, few_changes):.0f} ms"
        figures["ready after"] = f"{server.started:.2f} s"
        figures["resident, per item"] = f"{(resident - empty) / size:,.0f} bytes"
        return figures, slowest
    finally:
        server.close()
        database.unlink()


def middle_cursor(server, size):
    """Return the cursor of the list's middle."""
    link = server.request("GET", f"/api/v1/items?limit={min(size // 2, 10_000)}")[0].headers["Link"]
    return re.search(r"after=([^>&]+)", link)[1]


def measure_history(folder, items, runs, quick):
    """Return the figures of a server with a long history."""
    database = folder / "history.db"
    old = runs // 1000
    started = time.perf_counter()
    make_database(database, items, runs, old)
    print(f"\nMade a history of {runs:,} runs in {time.perf_counter() - started:.0f} s, {database_size(database)}.")
    server, number = ServerProcess(database), 3 if quick else 15
    rows = [["seconds until ready", f"{server.started:.2f} s"]]
    try:
        # Expired runs are deleted from the first half second on: measure the delay of other requests.
        waits, names = [], itertools.count()
        reader = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        started = time.perf_counter()
        while reader.execute("SELECT min(n) FROM history").fetchone()[0] <= old:
            if time.perf_counter() - started > (5 if quick else 120):
                break
            for _ in range(10):
                body = {"id": f"new {next(names)}", "title": "t", "description": "d", "value": 0, "weight": 0}
                waits.append(1000 * server.time_request("POST", "/progress", body))
        seconds = time.perf_counter() - started
        left = reader.execute("SELECT count(*) FROM history WHERE n <= ?", (old,)).fetchone()[0]
        remaining = reader.execute("SELECT count(*) FROM samples WHERE run_id LIKE 'run-%'").fetchone()[0]
        reader.close()
        waits.sort()
        rows.append([f"{old - left:,} old runs deleted in", f"{seconds:.1f} s"])
        if left == 0 and remaining:
            raise SystemExit(f"{remaining} samples of deleted runs remain")
        rows.append(["durable create meanwhile, median", f"{statistics.median(waits):.1f} ms"])
        rows.append(["... 99 of 100", f"{waits[int(len(waits) * 0.99)]:.1f} ms"])
        rows.append(["... the longest", f"{waits[-1]:.1f} ms"])
        path = "/api/v1/history?limit=100"
        after = re.search(r"after=(\d+)", server.request("GET", path)[0].headers["Link"])[1]
        for name, query in {
            "first page": "",
            "next page": f"&after={after}",
            "a page in the middle": f"&after={runs // 2}",
            "of a group": "&group=group+7",
            "of a rare group": "&group=rare",
            "next page of a group": f"&group=group+7&after={runs // 2}",
            "failed": "&status=failed",
            "deleted (none)": "&status=deleted",
            "failed, of a group": "&status=failed&group=group+98",
            "stopped, of a group that has none": "&status=stopped&group=group+7",
            "of one item": "&id=job-77",
            "of one run": "&run_id=run-77",
            "without inner bars, of a rare group": "&inner=false&group=rare",
            "text that is found often": "&q=video",
        }.items():
            rows.append([name, f"{server.measure_median([('GET', path + query)] * number):.1f} ms"])
        ids = "&".join(f"id=job-{n}" for n in range(50))
        for name, path_of_runs in {
            "last 20 runs of 50 ids": f"/api/v1/history:recent?{ids}",
            "statistics of an id": "/api/v1/history:statistics?id=job-77",
            "timeline of 10,000 runs": "/api/v1/timeline?since=1970-01-01T00:00:00Z",
        }.items():
            rows.append([name, f"{server.measure_median([('GET', path_of_runs)] * number):.1f} ms"])
        rows.append(["text that is nowhere", f"{server.measure_median([('GET', path + '&q=nowhere')]):.0f} ms"])
        return rows
    finally:
        server.close()


def database_size(database):
    return f"{database.stat().st_size / 2**30:.2f} GiB"


def main():
    found = parse_options(
        __doc__, lambda parser: parser.add_argument("--runs", type=int, help="of the history (default: 5,000,000)")
    )
    sizes = [100, 1000] if found.quick else [1000, 10_000, 100_000]
    runs = found.runs or (10_000 if found.quick else 5_000_000)
    with tempfile.TemporaryDirectory(prefix="progressbar-benchmark-") as name:
        folder = Path(name)
        make_database(folder / "empty.db", 0, 0, 0)
        server = ServerProcess(folder / "empty.db")
        empty = server.resident_bytes()
        server.close()
        columns = [measure_growth(folder, size, empty, found.quick) for size in sizes]
        rows = [[name, *(figures[name] for figures, _ in columns)] for name in columns[0][0]]
        ratios = ["... ratio to the first column", *(format_ratio(slowest, columns[0][1]) for _, slowest in columns)]
        rows.insert(2, ratios)
        print_table("With so many items", ["what", *(f"{size:,}" for size in sizes)], rows)
        rows = measure_history(folder, sizes[-1], runs, found.quick)
        print_table(f"With {runs:,} runs in the history", ["what", ""], rows)


if __name__ == "__main__":
    main()
