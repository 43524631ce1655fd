"""Record traces of real jobs: ``python tests/benchmarks/eta_replay/record.py OUT.jsonl [--kinds A,B] [--runs 8]``.

A trace has the seconds at which each item of a job ended. Each kind does real work: it hashes files, downloads from a
local server, compiles, trains, writes a database. Runs of one kind differ as runs of a real job do: by their data, by
their order, and by the state of the caches.
"""

from __future__ import annotations

import argparse
import bz2
import concurrent.futures
import gzip
import hashlib
import http.server
import json
import lzma
import math
import multiprocessing
import os
import random
import re
import shutil
import socketserver
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
from traces import PACKED_PATH, Trace, pack_traces, read_traces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Job: TypeAlias = "Iterator[object]"
MIN_SECONDS, MAX_SECONDS = 10, 120
LIBRARY_FOLDER: Final = Path(sysconfig.get_paths()["stdlib"])
PACKAGES_FOLDER: Final = Path(sysconfig.get_paths()["purelib"])


def find_files(chance: random.Random, root: Path, pattern: str, count: int, *, shuffle: bool = True) -> list[Path]:
    """Return some files of a folder: a random part, in random order or as a walk meets them."""
    found = [path for path in sorted(root.rglob(pattern)) if path.is_file() and not path.is_symlink()]
    chosen = chance.sample(found, min(count, len(found)))
    return chosen if shuffle else sorted(chosen)


def hash_files(chance: random.Random, folder: Path) -> Job:
    """Hash files as a walk meets them, many times each, as a check of backups does."""
    for path in find_files(chance, PACKAGES_FOLDER, "*", chance.randint(1000, 1400), shuffle=False):
        body = path.read_bytes()
        for _ in range(1150):
            hashlib.sha256(body).digest()
        yield


def copy_files(chance: random.Random, folder: Path) -> Job:
    """Copy files and write each to the disk before the next."""
    for number, path in enumerate(find_files(chance, PACKAGES_FOLDER, "*", chance.randint(500, 800))):
        target = folder / str(number)
        for _ in range(28):
            shutil.copyfile(path, target)
            with target.open("rb") as file:
                os.fsync(file.fileno())
        yield


class JitteryHandler(http.server.BaseHTTPRequestHandler):
    """A server of files whose latency and bandwidth wander, and that stalls now and then."""

    chance = random.Random(0)
    level = 0.0

    def do_GET(self) -> None:
        """Answer with as many bytes as the path says."""
        size = int(self.path.strip("/"))
        cls = type(self)
        cls.level = 0.97 * cls.level + 0.25 * cls.chance.gauss(0, 1)
        rate = 6e6 * math.exp(0.5 * cls.level)
        time.sleep(
            cls.chance.expovariate(1 / 0.02) + (cls.chance.uniform(0.5, 3) if cls.chance.random() < 0.004 else 0)
        )
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        sent = 0
        while sent < size:
            piece = min(65536, size - sent)
            self.wfile.write(bytes(piece))
            sent += piece
            time.sleep(piece / rate)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve_jitter(chance: random.Random) -> socketserver.ThreadingTCPServer:
    """Start such a server."""
    handler = type(
        "Handler", (JitteryHandler,), {"chance": random.Random(chance.random()), "level": chance.gauss(0, 1)}
    )
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def fetch(port: int, size: int) -> int:
    """Download one file and return its size."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{size}") as reply:
        return len(reply.read())


def download_files(chance: random.Random, folder: Path) -> Job:
    """Download files of very different sizes, one after the other."""
    server = serve_jitter(chance)
    for _ in range(chance.randint(180, 260)):
        fetch(server.server_address[1], int(min(chance.lognormvariate(12, 1.3), 6e6)))
        yield
    server.shutdown()


def download_parts(chance: random.Random, folder: Path) -> Job:
    """Download one large file in parts of one size."""
    server = serve_jitter(chance)
    for _ in range(chance.randint(130, 200)):
        fetch(server.server_address[1], 400_000)
        yield
    server.shutdown()


def download_pool(chance: random.Random, folder: Path) -> Job:
    """Download with six threads; items end as they end."""
    server = serve_jitter(chance)
    sizes = [int(min(chance.lognormvariate(13, 1.2), 2e7)) for _ in range(chance.randint(250, 400))]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        for _ in concurrent.futures.as_completed(
            [pool.submit(fetch, server.server_address[1], size) for size in sizes]
        ):
            yield
    server.shutdown()


def compile_modules(chance: random.Random, folder: Path) -> Job:
    """Compile modules of the standard library, in the order of the folder."""
    for path in find_files(chance, LIBRARY_FOLDER, "*.py", chance.randint(700, 900), shuffle=False):
        source = path.read_bytes()
        for _ in range(8):
            try:
                compile(source, str(path), "exec", dont_inherit=True, optimize=1)
            except (SyntaxError, ValueError):
                break
        yield


def compile_c(chance: random.Random, folder: Path) -> Job:
    """Compile C files of very different lengths, as a build does, and link at the end."""
    names = []
    for number in range(chance.randint(48, 70)):
        functions = int(min(chance.lognormvariate(3.2, 0.9), 400))
        body = "\n".join(
            f"double f{number}_{k}(double *a, int n) {{ double s = {k}; for (int i = 0; i < n; i++) "
            f"s += a[i] * {chance.random():.6f} + (i % {k + 2} ? a[n - i - 1] : s / {k + 3}); return s; }}"
            for k in range(functions)
        )
        source = folder / f"{number}.c"
        source.write_text(body)
        names.append(source.with_suffix(".o"))
        subprocess.run(["cc", "-O2", "-c", str(source), "-o", str(names[-1])], check=True)
        yield
    subprocess.run(["ar", "rc", str(folder / "all.a"), *map(str, names)], check=True)
    yield


def train_model(chance: random.Random, folder: Path) -> Job:
    """Train a small network; every tenth step evaluates, every epoch saves."""
    draw = np.random.default_rng(chance.randrange(2**32))
    width = chance.choice([192, 224, 256])
    weights = draw.normal(size=(width, width)) / 16
    steps = chance.randint(400, 600)
    for step in range(steps):
        data = draw.normal(size=(384, width))
        for _ in range(10):
            hidden = np.tanh(data @ weights)
            weights -= 1e-4 * data.T @ (hidden - data)
        if step % 20 == 19:
            for _ in range(60):
                np.tanh(draw.normal(size=(384, width)) @ weights).mean()
        if step % 100 == 99:
            np.save(folder / f"{step}.npy", np.tile(weights, (100, 1)))
        yield


def search_parameters(chance: random.Random, folder: Path) -> Job:
    """Fit models whose size is drawn at random, as a search of parameters does."""
    draw = np.random.default_rng(chance.randrange(2**32))
    for _ in range(chance.randint(90, 130)):
        size, rounds = chance.choice([100, 200, 400, 800]), chance.randint(4, 20)
        for _ in range(rounds):
            matrix = draw.normal(size=(size, size))
            np.linalg.solve(matrix @ matrix.T + np.eye(size), draw.normal(size=size))
        yield


def insert_batches(chance: random.Random, folder: Path) -> Job:
    """Insert batches into a table with indexes that grow."""
    base = sqlite3.connect(folder / "batches.db")
    base.executescript(
        "CREATE TABLE t (a TEXT, b REAL, c TEXT); CREATE INDEX ta ON t (a); CREATE INDEX tc ON t (c, b);"
    )
    for _ in range(chance.randint(150, 220)):
        rows = [(f"{chance.getrandbits(64):x}", chance.random(), f"{chance.getrandbits(40):x}") for _ in range(3000)]
        with base:
            base.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
        yield


def query_reports(chance: random.Random, folder: Path) -> Job:
    """Run reports over a database: most are quick, some scan everything."""
    base = sqlite3.connect(":memory:")
    base.execute("CREATE TABLE t (k INTEGER, v REAL, s TEXT)")
    base.executemany(
        "INSERT INTO t VALUES (?, ?, ?)", ((i % 997, chance.random(), f"{i * 7919 % 100003}") for i in range(200_000))
    )
    base.execute("CREATE INDEX tk ON t (k)")
    for _ in range(chance.randint(380, 540)):
        if chance.random() < 0.3:
            base.execute("SELECT k, sum(v), count(DISTINCT s) FROM t GROUP BY k").fetchall()
        else:
            for _ in range(20):
                base.execute("SELECT sum(v) FROM t WHERE k = ?", (chance.randrange(997),)).fetchone()
        yield


def pool_task(seconds: float) -> float:
    """Compute for some seconds."""
    until, total = time.process_time() + seconds, 0.0
    while time.process_time() < until:
        total += math.sqrt(total + 1)
    return total


def pool_long_tail(chance: random.Random, folder: Path) -> Job:
    """Give tasks with a long tail to two processes; the last ones run alone."""
    tasks = [min(chance.lognormvariate(-3, 1.2), 6.0) for _ in range(chance.randint(250, 350))]
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
        for _ in concurrent.futures.as_completed([pool.submit(pool_task, seconds) for seconds in tasks]):
            yield


def phases(chance: random.Random, folder: Path) -> Job:
    """Read, then parse, then write: three phases whose items cost differently."""
    files = find_files(chance, LIBRARY_FOLDER, "*.py", chance.randint(220, 280))
    texts = []
    for path in files:
        texts.append(path.read_text("utf-8", "replace"))
        time.sleep(0.024)
        yield
    repeated = 0
    for text in texts:
        for _ in range(8):
            repeated += len(re.findall(r"\b(\w+)\b(?=[^\n]*\b\1\b)", text[:60_000]))
        yield
    for number, text in enumerate(texts):
        for _ in range(13):
            (folder / str(number)).write_bytes(gzip.compress(text.encode(), 9))
        yield


def warm_cache(chance: random.Random, folder: Path) -> Job:
    """Look names up whose results are kept: the longer it runs, the more are known."""
    known: dict[int, bytes] = {}
    size = chance.randint(900, 1300)
    for _ in range(chance.randint(700, 900)):
        for _ in range(4):
            name = int(size * chance.paretovariate(1) % size) if chance.random() < 0.4 else chance.randrange(size)
            if name not in known:
                known[name] = hashlib.pbkdf2_hmac("sha256", str(name).encode(), b"salt", 66_000)
        yield


def cold_start(chance: random.Random, folder: Path) -> Job:
    """Warm up first: the first items cost ten times as much."""
    count = chance.randint(300, 450)
    for number in range(count):
        pool_task(0.035 * (1 + 9 * math.exp(-number / (count * 0.03))) * chance.uniform(0.9, 1.1))
        yield


def compare_pairs(chance: random.Random, folder: Path) -> Job:
    """Compare each text with all before it: the cost grows with the count."""
    texts: list[set[str]] = []
    for path in find_files(chance, LIBRARY_FOLDER, "*.py", chance.randint(830, 1000)):
        words = set(path.read_text("utf-8", "replace").split())
        max((len(words & other) / (len(words | other) or 1) for other in texts), default=0)
        texts.append(words)
        yield


def eliminate(chance: random.Random, folder: Path) -> Job:
    """Eliminate the rows of a matrix: the cost shrinks with what is left."""
    size = chance.randint(1150, 1350)
    matrix = np.random.default_rng(chance.randrange(2**32)).normal(size=(size, size))
    for row in range(size - 1):
        for _ in range(22):
            factors = matrix[row + 1 :, row : row + 1] / (matrix[row, row] or 1)
            update = factors * matrix[row : row + 1, row:]
        matrix[row + 1 :, row:] -= update
        if row % 3 == 0:
            yield


def compress_files(chance: random.Random, folder: Path) -> Job:
    """Compress files with one of three methods by their kind."""
    for path in find_files(chance, PACKAGES_FOLDER, "*", chance.randint(250, 350)):
        body = path.read_bytes()[:1_500_000]
        for _ in range(28):
            if path.suffix == ".py":
                lzma.compress(body)
            elif path.suffix in (".so", ".pyc"):
                bz2.compress(body)
            else:
                gzip.compress(body)
        yield


def render_rows(chance: random.Random, folder: Path) -> Job:
    """Render a fractal by rows: those in the middle take longest."""
    height, centre = chance.randint(260, 340), chance.uniform(-0.3, 0.3)
    xs = np.linspace(-2, 0.6, 18000)
    for row in range(height):
        c = xs + 1j * (centre + 2.4 * (row / height - 0.5))
        z = np.zeros_like(c)
        for _ in range(900):
            inside = np.abs(z) < 2
            if not inside.any():
                break
            z[inside] = z[inside] ** 2 + c[inside]
        yield


def rate_limited(chance: random.Random, folder: Path) -> Job:
    """Ask an interface that lets a burst pass, then makes the client wait."""
    tokens, last = 40.0, time.monotonic()
    for _ in range(chance.randint(120, 170)):
        now = time.monotonic()
        tokens = min(40.0, tokens + 6 * (now - last))
        last = now
        if tokens < 1:
            time.sleep(chance.choice([1.0, 2.0, 4.0]))
        tokens -= 1
        time.sleep(chance.expovariate(1 / 0.03))
        yield


def simulate(chance: random.Random, folder: Path) -> Job:
    """Simulate queues whose load varies by the hour of the day."""
    for hour in range(chance.randint(330, 420)):
        load = 0.5 + 0.45 * math.sin(hour / 24 * 2 * math.pi)
        queue, events = 0, int(330_000 * (0.2 + load))
        for _ in range(events):
            queue = max(queue + (1 if chance.random() < load else -1), 0)
        yield


def import_checks(chance: random.Random, folder: Path) -> Job:
    """Import modules in processes of their own, as a test of a package does."""
    names = [
        "json",
        "asyncio",
        "email",
        "http.server",
        "sqlite3",
        "unittest.mock",
        "numpy",
        "xml.dom.minidom",
        "ssl",
        "multiprocessing.pool",
    ]
    for _ in range(chance.randint(260, 360)):
        subprocess.run([sys.executable, "-c", f"import {chance.choice(names)}"], check=True)
        yield


JOBS_BY_KIND: Final[dict[str, Callable[[random.Random, Path], Any]]] = {
    function.__name__: function
    for function in (
        hash_files, copy_files, download_files, download_parts, download_pool, compile_modules, compile_c, train_model,
        search_parameters, insert_batches, query_reports, pool_long_tail, phases, warm_cache, cold_start, compare_pairs,
        eliminate, compress_files, render_rows, rate_limited, simulate, import_checks,
    )
}  # fmt: skip


def record(kind: str, run: int, seed: int) -> dict[str, object]:
    """Do a job once and return its trace."""
    chance = random.Random(f"{kind} {run} {seed}")
    with tempfile.TemporaryDirectory(prefix="eta-") as folder:
        begun = time.monotonic()
        ended = [round(time.monotonic() - begun, 4) for _ in JOBS_BY_KIND[kind](chance, Path(folder))]
    return {"job": kind, "run": run, "n": len(ended), "t": ended}


def is_packable(trace: Trace) -> bool:
    """Return whether a run lasts long enough for a benchmark, and not too long."""
    return MIN_SECONDS <= trace.duration <= MAX_SECONDS


def main() -> None:
    """Record the traces that are asked for, one line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kinds", default=",".join(JOBS_BY_KIND))
    parser.add_argument("--first", type=int, default=1, help="number of the first run")
    parser.add_argument("--runs", type=int, default=8, help="number of the last run")
    parser.add_argument("--pack", action="store_true", help="record nothing: pack the runs of OUT for the benchmark")
    parser.add_argument("--seed", type=int, default=1)
    found = parser.parse_args()
    if found.pack:
        jobs = read_traces(found.out.read_text().splitlines())
        PACKED_PATH.write_bytes(pack_traces(run for runs in jobs.values() for run in runs if is_packable(run)))
        return
    with found.out.open("a") as out:
        for run in range(found.first, found.runs + 1):
            for kind in found.kinds.split(","):
                trace = record(kind, run, found.seed)
                out.write(json.dumps(trace) + "\n")
                out.flush()
                print(kind, run, trace["n"], trace["t"][-1], file=sys.stderr)  # type: ignore[index]


if __name__ == "__main__":
    main()
