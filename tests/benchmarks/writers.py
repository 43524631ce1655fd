"""Writers of several servers on one PostgreSQL: ``python tests/benchmarks/writers.py [--against COMMIT] [--quick]``.

With 1, 2, 4 and 8 writers, each the store of a server in a process of its own, without HTTP and without a follower:

* *rows*: states that are stored in a second. Each writer changes its own 4,000 items again and again.
* *CPU*: seconds of all writers and of PostgreSQL for 10,000 rows.

``--against`` runs each round with the store of another commit as well, in turn, and prints the ratios. The script
starts a PostgreSQL with default durability in a temporary folder. Writers and database share the machine's cores.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT_ROOT = Path(__file__).parents[2]
if __name__ == "__main__" and "--writer" not in sys.argv:
    sys.path.insert(0, str(PROJECT_ROOT))

ITEM_COUNT = 4000  # items of each writer
CPU_TICK = os.sysconf("SC_CLK_TCK")


def run_writer(url, place):
    """Change the items of one writer until the standard input has a line; print the rows and the CPU seconds."""
    import threading

    from progressbar_tracker.server.models import Item
    from progressbar_tracker.server.mutations import SaveItem
    from progressbar_tracker.server.stores.postgres import PostgresStore

    def make_items(count):
        return [
            Item(
                id=f"{place} {n}", run_id="r", owner_id="k", owner="ci", total=10**9, completed=count, seq=count,
                own=count, description=f"{count} done", created_at=1.0, started_at=1.0, progressed_at=1.0,
                updated_at=1.0,
            )
            for n in range(ITEM_COUNT)
        ]  # fmt: skip

    store = PostgresStore(url)
    items = make_items(0)
    store.commit([SaveItem(item, None) for item in items]).result(60)
    done = threading.Event()
    print("ready", flush=True)
    sys.stdin.readline()
    threading.Thread(target=lambda: (sys.stdin.readline(), done.set()), daemon=True).start()
    rows, used = 0, time.process_time()
    while not done.is_set():
        changed = make_items(items[0].completed + 1)
        store.enqueue([SaveItem(new, old) for old, new in zip(items, changed, strict=True)])
        if not store.flush(60):
            raise SystemExit("the states could not be written")
        items, rows = changed, rows + ITEM_COUNT
    print(rows, time.process_time() - used, flush=True)
    store.close()


def read_children_seconds(pid):
    """Return the CPU seconds of a process, of its present children, and of those that it has waited for."""
    total = 0.0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for process in (str(pid), *children):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15] if process == str(pid) else fields[11:13])) / CPU_TICK
    return total


def measure(cluster, source, number, seconds):
    """Return the rows a second of some writers, and the CPU seconds for 10,000 rows."""
    from tests.support.postgres import create_database, drop_database

    database = create_database(cluster)
    writers = []
    try:
        for place in range(number):
            command = [sys.executable, __file__, "--writer", database, str(place)]
            writers.append(
                subprocess.Popen(
                    command, env={**os.environ, "PYTHONPATH": str(source / "src")}, text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                )
            )  # fmt: skip
        for writer in writers:
            if writer.stdout.readline() != "ready\n":
                raise SystemExit("a writer could not start")
        used, started = read_children_seconds(cluster.pid), time.monotonic()
        for writer in writers:
            writer.stdin.write("\n")
            writer.stdin.flush()
        time.sleep(seconds)
        for writer in writers:
            writer.stdin.write("\n")
            writer.stdin.flush()
        results = [writer.stdout.readline().split() for writer in writers]
        elapsed = time.monotonic() - started
        used = read_children_seconds(cluster.pid) - used
        rows = sum(int(rows) for rows, _ in results)
        return rows / elapsed, (used + sum(float(cpu) for _, cpu in results)) / rows * 10_000
    finally:
        for writer in writers:
            writer.stdin.close()
            writer.wait(30)
        drop_database(cluster, database)


@contextlib.contextmanager
def check_out(commit):
    """Yield a folder with the files of a commit."""
    with tempfile.TemporaryDirectory(prefix="progressbar-benchmark-") as folder:
        tree = Path(folder) / "tree"
        git = ["git", "-C", str(PROJECT_ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def main():
    from harness import parse_options, print_table

    from tests.support.postgres import Cluster

    options = parse_options(
        __doc__,
        lambda parser: (
            parser.add_argument("--against", metavar="COMMIT", help="also measure the store of this commit, in turn"),
            parser.add_argument("--rounds", type=int, default=3, help="the medians of so many rounds; default 3"),
            parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement; default 6"),
        ),
    )
    seconds, rounds = (1.0, 1) if options.quick else (options.seconds, options.rounds)
    cluster = Cluster(fsync="on", max_connections="200")
    try:
        with contextlib.ExitStack() as stack:
            sources = [PROJECT_ROOT]
            if options.against:
                sources.append(stack.enter_context(check_out(options.against)))
            lines = []
            for number in (1, 2) if options.quick else (1, 2, 4, 8):
                results = [[measure(cluster, source, number, seconds) for source in sources] for _ in range(rounds)]
                medians = [
                    [statistics.median(round_[n][k] for round_ in results) for k in (0, 1)] for n in range(len(sources))
                ]
                ratios = [
                    f"{statistics.median(round_[0][k] / round_[1][k] for round_ in results):.2f}" for k in (0, 1)
                ] if options.against else []  # fmt: skip
                lines.append(
                    [f"{number}"] + [cell for rate, cpu in medians for cell in (f"{rate:,.0f}", f"{cpu:.3f}")] + ratios
                )
    finally:
        cluster.remove()
    heads = ["writers", "rows/s", "CPU s"]
    if options.against:
        heads += ["rows/s before", "CPU s before", "rows/s ratio", "CPU ratio"]
    print_table(f"Writers on one PostgreSQL, {os.cpu_count()} cores for all", heads, lines)


if __name__ == "__main__":
    if "--writer" in sys.argv:
        run_writer(*sys.argv[-2:])
    else:
        main()
