"""A full disk, a read-only file, and a database that another process has locked, on a real server.

Writes get 503 with Retry-After, reads are served from memory, and writes resume when the fault has passed. A tracked
program is unaffected.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.connections import open_client
from tests.support.server_process import ADMIN_KEY, ServerProcess
from tests.support.waiting import wait_until

# A loop with one step for each line of its input.
STEP_PROGRAM = (
    "import sys\nfrom progressbar_tracker import track\nfor _ in track(sys.stdin, id=sys.argv[1], keep=True): pass"
)


class TrackedProgram:
    """A tracked program with one step for each line of its input."""

    def __init__(self, server_process, name):
        self.name = name
        self.steps = 0
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", STEP_PROGRAM, name],
            env={**os.environ, "PROGRESSBAR_URL": server_process.url, "PROGRESSBAR_API_KEY": ADMIN_KEY},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def feed(self, steps=5):
        self._process.stdin.write("line\n" * steps)
        self._process.stdin.flush()
        self.steps += steps

    def finish(self):
        """Close its input; return its exit code, its output, and the seconds until its end."""
        started = time.monotonic()
        output = "".join(self._process.communicate(timeout=60))
        return self._process.returncode, output, time.monotonic() - started

    def close(self):
        self._process.kill()
        self._process.communicate()


# The faults


@contextlib.contextmanager
def limit_file_size(server_process, size):
    """Limit the size of the files that the server writes, including its open files."""
    _, hard = resource.prlimit(server_process.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server_process.process.pid, resource.RLIMIT_FSIZE, (size, hard))
    yield
    resource.prlimit(server_process.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextlib.contextmanager
def fill_disk(server_process, database):
    """Fill the disk of the test, or limit file sizes to the current end of the log if the test may not mount."""
    if database.parent.is_mount():
        filler = database.with_name("filler")
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        yield
        filler.unlink()
    else:
        with limit_file_size(server_process, database.with_name(database.name + "-wal").stat().st_size):
            yield


@contextlib.contextmanager
def make_read_only(server_process, _database):
    """Refuse every write to a file.

    A read-only mount or a file mode does not affect files that are already open for writing.
    """
    with limit_file_size(server_process, 0):
        yield


@contextlib.contextmanager
def lock_database(_server_process, database):
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.close()


@pytest.fixture
def disk(tmp_path):
    """A folder on a disk of 8 MB if the test may mount one, else a folder."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with contextlib.suppress(OSError):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder], capture_output=True)
    yield folder
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def start_program():
    """Start programs that track an item; they are killed at the end."""
    programs = []

    def start(server_process, name):
        programs.append(TrackedProgram(server_process, name))
        return programs[-1]

    yield start
    for program in programs:
        program.close()


def send_write(http, method, path, **body):
    reply = http.request(method, path, json=body or None)
    return reply.status_code, int(reply.headers.get("Retry-After", 0)), reply.headers["Content-Type"]


@pytest.mark.parametrize("fault", [fill_disk, make_read_only, lock_database])
def test_storage_fault_refuses_only_writes_until_it_passes(fault, disk, tmp_path, start_program):
    database = disk / "progress.db"
    server_process = ServerProcess(tmp_path, PROGRESSBAR_DATABASE=str(database))
    try:
        with server_process.http() as http:
            key = http.post("/api/v1/keys", json={"type": "write", "name": "ci"}).raise_for_status().json()["key"]
            for name in ("moving", "kept"):
                http.put(f"/api/v1/items/{name}", json={"run_id": "r", "seq": 0, "total": 9}).raise_for_status()
            job = start_program(server_process, "job")
            job.feed()
            wait_until(lambda: get_completed(http, "job") == job.steps - 1)  # the last step is under way
            # Listed states may not be on disk yet. Commits keep their order, so the probe's commit is after theirs.
            http.get("/readyz").raise_for_status()

            with fault(server_process, database):
                check_refused_but_readable(server_process, http, key)
                # The server still accepts progress.
                assert send_write(http, "PATCH", "/api/v1/items/moving", run_id="r", seq=1, completed=5)[0] == 200
                job.feed()
                wait_until(lambda: get_completed(http, "job") == job.steps - 1)
                late = start_program(server_process, "late")
                late.feed()
                if fault is fill_disk:
                    # A program exits although the server cannot persist its end.
                    short = start_program(server_process, "short")
                    short.feed()
                    code, output, seconds = short.finish()
                    assert (code, output) == (0, "")
                    assert seconds < 15

            wait_until(lambda: send_write(http, "PUT", "/api/v1/items/new", total=9)[0] in (200, 201))
            assert http.get("/readyz").status_code == 200
            for program in (job, late):
                program.feed()
                # Reporting resumes. A run that ends before the sender has reconnected may be lost.
                wait_until(lambda program=program: get_completed(http, program.name) == program.steps - 1)
                assert program.finish()[:2] == (0, "")
                wait_until(lambda program=program: get_completed(http, program.name) == program.steps)
                assert http.get(f"/api/v1/items/{program.name}").json()["status"] == "succeeded"
            wait_until(lambda: is_on_disk(database, "moving"))

        assert server_process.stop(signal.SIGKILL)[0] == -signal.SIGKILL
        server_process.start()
        with server_process.http() as http:
            items = {item["id"]: (item["status"], item["completed"]) for item in http.get("/progress").json()}
            assert http.get("/api/v1/history").json()["items"] == []
        items.pop("short", None)  # listed only if the fault passed before its exit
        assert items == {
            "moving": ("running", 5), "kept": ("running", None), "new": ("running", None),
            "job": ("succeeded", job.steps), "late": ("succeeded", late.steps),
        }  # fmt: skip
    finally:
        server_process.close()


def check_refused_but_readable(server_process, http, key):
    """Check that durable writes are refused and reads are served."""
    # Each write waits for a lock for three seconds, and five reads that wait take longer. A busy machine may need
    # several tries.
    wait_until(lambda: measure_reads_beside_refused_writes(server_process, http, key) < 10)
    assert http.get("/api/v1/items/refused").status_code == 404
    assert http.get("/api/v1/items/kept").status_code == 200


def measure_reads_beside_refused_writes(server_process, http, key):
    """Read while writes are refused; return the seconds until the last response."""
    with ThreadPoolExecutor(5) as pool:
        writes = [
            pool.submit(send_write, http, *request)
            for request in (
                ("DELETE", "/api/v1/items/kept"),
                ("GET", "/readyz"),
            )
        ]
        writes.append(pool.submit(send_write, http, "PUT", "/api/v1/items/refused", total=9))
        writes.append(pool.submit(send_write, http, "POST", "/api/v1/shares", group="g"))
        writes.append(pool.submit(send_write, http, "POST", "/api/v1/keys", type="read", name="refused"))
        started = time.monotonic()
        with open_client(server_process.url, key) as reader:
            assert {item["id"] for item in reader.get("/progress").json()} >= {"moving", "job"}
            assert reader.get("/api/v1/items/moving").status_code == 200
            assert reader.get("/api/key-info").json()["type"] == "write"
            assert reader.get("/healthz").status_code == 200
            with reader.stream("GET", "/api/v1/events") as stream:
                assert stream.status_code == 200
                assert any(line == "event: snapshot" for line in stream.iter_lines())
        seconds = time.monotonic() - started
        for write in writes:
            assert write.result(60) == (503, 5, "application/problem+json")
    return seconds


def get_completed(http, item_id):
    reply = http.get(f"/api/v1/items/{item_id}")
    return reply.json()["completed"] if reply.status_code == 200 else None


def is_on_disk(database, item_id):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (state,) = connection.execute("SELECT state FROM items WHERE id = ?", (item_id,)).fetchone()
    return '"completed":5' in state


def test_read_only_folder_is_refused_at_the_start(disk):
    if disk.is_mount():
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    elif os.geteuid() == 0:
        disk = Path("/proc")  # root ignores file modes
    else:
        disk.chmod(0o500)
    done = subprocess.run(
        [sys.executable, "-m", "progressbar_tracker", "serve", "--port", "0", "--database", disk / "progress.db"],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot be used" in done.stderr
    assert "progress.db" in done.stderr
