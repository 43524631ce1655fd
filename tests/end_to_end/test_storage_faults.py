"""A disk that is full, a file that takes no writes, a database that another process has locked: on a real server.

Writes are refused with 503 and a time to try again, reads go on from memory, and when the fault is gone all goes on by
itself. A tracked program notices none of it.
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

# A loop that goes on for as long as it is fed.
STEP_PROGRAM = (
    "import sys\nfrom progressbar_tracker import track\nfor _ in track(sys.stdin, id=sys.argv[1], keep=True): pass"
)


class TrackedProgram:
    """A tracked program; each line that it gets is one step."""

    def __init__(self, serving, name):
        self.name = name
        self.steps = 0
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", STEP_PROGRAM, name],
            env={**os.environ, "PROGRESSBAR_URL": serving.url, "PROGRESSBAR_API_KEY": ADMIN_KEY},
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
        """Let it end; return its code, what it said, and how long that took."""
        begun = time.monotonic()
        said = "".join(self._process.communicate(timeout=30))
        return self._process.returncode, said, time.monotonic() - begun

    def close(self):
        self._process.kill()
        self._process.communicate()


# The faults


@contextlib.contextmanager
def limit_file_size(serving, size):
    """Let the server's process write no file beyond a size; what it has open is no exception."""
    _, most = resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, (size, most))
    yield
    resource.prlimit(serving.process.pid, resource.RLIMIT_FSIZE, (most, most))


@contextlib.contextmanager
def fill_disk(serving, database):
    """Fill the disk: a small one of the test's own where it may mount one, else by a limit where the log ends now."""
    if database.parent.is_mount():
        filler = database.with_name("filler")
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        yield
        filler.unlink()
    else:
        with limit_file_size(serving, database.with_name(database.name + "-wal").stat().st_size):
            yield


@contextlib.contextmanager
def make_read_only(serving, _database):
    """Refuse every write to a file.

    A mount that is made read-only, or a mode, says nothing to a file that is open for writing already.
    """
    with limit_file_size(serving, 0):
        yield


@contextlib.contextmanager
def lock_database(_serving, database):
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.close()


@pytest.fixture
def disk(tmp_path):
    """A folder on a disk of 8 MB where one may be mounted, else a folder."""
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

    def begin(serving, name):
        programs.append(TrackedProgram(serving, name))
        return programs[-1]

    yield begin
    for program in programs:
        program.close()


def send_write(http, method, path, **body):
    reply = http.request(method, path, json=body or None)
    return reply.status_code, int(reply.headers.get("Retry-After", 0)), reply.headers["Content-Type"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", [fill_disk, make_read_only, lock_database])
def test_a_fault_of_the_storage_refuses_writes_and_nothing_else_and_passes(fault, disk, tmp_path, start_program):
    database = disk / "progress.db"
    serving = ServerProcess(tmp_path, PROGRESSBAR_DATABASE=str(database))
    try:
        with serving.http() as http:
            key = http.post("/api/v1/keys", json={"type": "write", "name": "ci"}).raise_for_status().json()["key"]
            for name in ("moving", "kept"):
                http.put(f"/api/v1/items/{name}", json={"run_id": "r", "seq": 0, "total": 9}).raise_for_status()
            job = start_program(serving, "job")
            job.feed()
            wait_until(lambda: get_completed(http, "job") == job.steps - 1)  # it is at work on the last
            # What is listed may not be on disk yet. Commits keep their order, so after this one it is.
            http.get("/readyz").raise_for_status()

            with fault(serving, database):
                check_refused_but_readable(serving, http, key)
                # Progress is taken all the same, of programs too.
                assert send_write(http, "PATCH", "/api/v1/items/moving", run_id="r", seq=1, completed=5)[0] == 200
                job.feed()
                wait_until(lambda: get_completed(http, "job") == job.steps - 1)
                late = start_program(serving, "late")
                late.feed()
                if fault is fill_disk:
                    # It ends, and does not wait for a server that cannot take its end.
                    short = start_program(serving, "short")
                    short.feed()
                    code, said, seconds = short.finish()
                    assert (code, said) == (0, "")
                    assert seconds < 15

            wait_until(lambda: send_write(http, "PUT", "/api/v1/items/new", total=9)[0] in (200, 201))
            assert http.get("/readyz").status_code == 200
            for program in (job, late):
                program.feed()
                # It goes on by itself; what is over while it has yet to find the server may leave unheard.
                wait_until(lambda program=program: get_completed(http, program.name) == program.steps - 1)
                assert program.finish()[:2] == (0, "")
                wait_until(lambda program=program: get_completed(http, program.name) == program.steps)
                assert http.get(f"/api/v1/items/{program.name}").json()["status"] == "succeeded"
            wait_until(lambda: is_on_disk(database, "moving"))

        assert serving.stop(signal.SIGKILL)[0] == -signal.SIGKILL
        serving.start()
        with serving.http() as http:
            found = {item["id"]: (item["status"], item["completed"]) for item in http.get("/progress").json()}
            assert http.get("/api/v1/history").json()["items"] == []
        found.pop("short", None)  # its end came through if the fault passed in time
        assert found == {
            "moving": ("running", 5), "kept": ("running", None), "new": ("running", None),
            "job": ("succeeded", job.steps), "late": ("succeeded", late.steps),
        }  # fmt: skip
    finally:
        serving.close()


def check_refused_but_readable(serving, http, key):
    """See that what has to be on disk is refused, while all that can be read is."""
    with ThreadPoolExecutor(5) as pool:
        asked = [
            pool.submit(send_write, http, *request)
            for request in (
                ("DELETE", "/api/v1/items/kept"),
                ("GET", "/readyz"),
            )
        ]
        asked.append(pool.submit(send_write, http, "PUT", "/api/v1/items/refused", total=9))
        asked.append(pool.submit(send_write, http, "POST", "/api/v1/shares", group="g"))
        asked.append(pool.submit(send_write, http, "POST", "/api/v1/keys", type="read", name="refused"))
        # While those wait for a lock, nobody else does.
        begun = time.monotonic()
        with open_client(serving.url, key) as reader:
            assert {item["id"] for item in reader.get("/progress").json()} >= {"moving", "job"}
            assert reader.get("/api/v1/items/moving").status_code == 200
            assert reader.get("/api/key-info").json()["type"] == "write"
            assert reader.get("/healthz").status_code == 200
            with reader.stream("GET", "/api/v1/events") as stream:
                assert stream.status_code == 200
                assert any(line == "event: snapshot" for line in stream.iter_lines())
        assert time.monotonic() - begun < 2
        for one in asked:
            assert one.result(30) == (503, 5, "application/problem+json")
    assert http.get("/api/v1/items/refused").status_code == 404
    assert http.get("/api/v1/items/kept").status_code == 200


def get_completed(http, item_id):
    reply = http.get(f"/api/v1/items/{item_id}")
    return reply.json()["completed"] if reply.status_code == 200 else None


def is_on_disk(database, item_id):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        (state,) = connection.execute("SELECT state FROM items WHERE id = ?", (item_id,)).fetchone()
    return '"completed":5' in state


def test_a_folder_that_is_read_only_is_refused_at_the_start_in_one_sentence(disk):
    if disk.is_mount():
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    elif os.geteuid() == 0:
        disk = Path("/proc")  # a mode means nothing to root
    else:
        disk.chmod(0o500)
    done = subprocess.run(
        [sys.executable, "-m", "progressbar_tracker", "serve", "--port", "0", "--database", disk / "progress.db"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot be used" in done.stderr
    assert "progress.db" in done.stderr
