"""Programs that are stopped through a real server: loops, ``exec``, ``run``, restarts, and a second server."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios

import pytest

from tests.support.cli import PATIENT_CLI_COMMAND
from tests.support.postgres import create_database
from tests.support.programs import PATIENT_EXIT_PRELUDE
from tests.support.server import ServerGroup
from tests.support.server_process import ADMIN_KEY, ServerProcess
from tests.support.waiting import wait_until

LOOP_CODE = f"""{PATIENT_EXIT_PRELUDE}
import itertools, sys, time
from progressbar_tracker import track

def read_rows():
    try:
        yield from itertools.count()
    finally:
        print("closed")

with track(read_rows(), id="job", stoppable=True, keep=True, display=False, interval=0.05) as bar:
    for row in bar:
        time.sleep(0.01)
    print("after", bar.stop_requested, bar.completed == row + 1)
"""

TQDM_CODE = """
import itertools, sys, time
from tqdm import tqdm

for outer in tqdm(itertools.count(), desc=sys.argv[1]):
    for inner in tqdm(range(20), desc=f"Part of {sys.argv[1]}", leave=False):
        time.sleep(0.05)
print("after")
"""

EXEC_COMMAND = [*PATIENT_CLI_COMMAND, "exec", "--stuck-after", "4s"]
"""With a heartbeat each second."""

# A shell that waits for its child. Without a group of its own, the child would get no signal.
FAMILY_SCRIPT = """trap 'echo "shell got TERM"; wait; exit 7' TERM
sh -c 'trap "echo child got TERM; exit 3" TERM; echo ready; while :; do sleep 0.05; done' &
wait"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    process = ServerProcess(tmp_path_factory.mktemp("server"))
    yield process
    process.close()


@pytest.fixture
def start():
    """Start a process that reports to a server; it is killed at the end."""
    processes = []

    def start(url, *command, **options):
        environ = {**os.environ, "PROGRESSBAR_URL": url, "PROGRESSBAR_API_KEY": options.pop("key", ADMIN_KEY)}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        processes.append(subprocess.Popen(command, env=environ, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def find_item(http, **fields):
    items = http.get("/api/v1/items").json()["items"]
    return next((item for item in items if fields.items() <= item.items()), None)


def wait_for_item(http, **fields):
    """Return the first state of an item with these fields: it may change or end at once."""
    found = []
    wait_until(lambda: found.append(find_item(http, **fields)) or found[-1] is not None)
    return found[-1]


def request_stop(http, item_id="job"):
    reply = http.post(f"/api/v1/items/{item_id}:stop", json={})
    assert reply.status_code == 200, reply.text
    return reply.json()


def read_end(http, item_id):
    runs = http.get("/api/v1/history", params={"id": item_id}).json()["items"]
    return runs[0] if runs else None


def test_loop_of_a_program_ends_and_its_generator_is_closed(server, start):
    with server.http() as http:
        program = start(server.url, sys.executable, "-c", LOOP_CODE)
        wait_for_item(http, id="job", stoppable=True, status="running")
        name = request_stop(http)["stop_requested_by"]
        out, err = program.communicate(timeout=60)
        assert (program.returncode, out, err) == (0, "closed\nafter True True\n", "")
        item = http.get("/api/v1/items/job").json()
        assert (item["status"], item["error"], item["stop_requested_by"]) == ("stopped", None, name)
        http.delete("/api/v1/items/job")


def test_stop_survives_kill_9_of_the_server(tmp_path, start):
    server = ServerProcess(tmp_path)
    try:
        with server.http() as http:
            program = start(server.url, sys.executable, "-c", LOOP_CODE)
            wait_for_item(http, id="job", stoppable=True)
            program.send_signal(signal.SIGSTOP)  # it does not get the request from this server
            request_stop(http)
        server.stop(signal.SIGKILL)
        server.start()
        program.send_signal(signal.SIGCONT)
        program.communicate(timeout=100)
        with server.http() as http:
            assert http.get("/api/v1/items/job").json()["status"] == "stopped"
    finally:
        server.close()


def test_stop_reaches_a_program_through_another_server(postgres_cluster, tmp_path, start):
    group = ServerGroup(tmp_path, create_database(postgres_cluster))
    try:
        first, second = group.start(), group.start()
        program = start(first.url, sys.executable, "-c", LOOP_CODE, key=first.keys["write"])
        http = second.client("admin")
        wait_until(lambda: http.get("/api/v1/items/job").status_code == 200, timeout=60)
        request_stop(http)
        program.communicate(timeout=60)
        wait_until(lambda: http.get("/api/v1/items/job").json()["status"] == "stopped", timeout=60)
    finally:
        group.stop()


def test_run_stops_the_outermost_bar_of_an_unchanged_program(server, start, tmp_path):
    script = tmp_path / "work.py"
    script.write_text(TQDM_CODE)
    with server.http() as http:
        program = start(server.url, *PATIENT_CLI_COMMAND, "run", "--stoppable", str(script), "Work")
        outer = wait_for_item(http, title="Work", status="running")
        inner = wait_for_item(http, title="Part of Work")
        assert (outer["stoppable"], inner["stoppable"]) == (True, False)
        request_stop(http, outer["id"])
        out, _ = program.communicate(timeout=60)
        assert (program.returncode, out) == (0, "after\n")
        wait_until(lambda: read_end(http, outer["id"]) is not None, timeout=60)
        assert read_end(http, outer["id"])["status"] == "stopped"


def test_run_without_the_option_is_not_stoppable(server, start, tmp_path):
    script = tmp_path / "work.py"
    script.write_text(TQDM_CODE)
    with server.http() as http:
        start(server.url, *PATIENT_CLI_COMMAND, "run", str(script), "Fixed")
        outer = wait_for_item(http, title="Fixed", status="running")
        assert http.post(f"/api/v1/items/{outer['id']}:stop", json={}).json()["type"] == "/problems/not-stoppable"


@pytest.mark.parametrize("has_own_session", [True, False])
def test_exec_sends_the_signal_once_to_the_whole_group(server, start, has_own_session):
    item_id = f"group-{has_own_session}"
    with server.http() as http:
        program = start(
            server.url, *EXEC_COMMAND, "--stoppable", "--id", item_id, "--", "sh", "-c", FAMILY_SCRIPT,
            start_new_session=has_own_session,
        )  # fmt: skip
        assert program.stdout.readline() == "ready\n"
        wait_for_item(http, id=item_id, stoppable=True)
        request_stop(http, item_id)
        out, _ = program.communicate(timeout=60)
        assert sorted(out.splitlines()) == ["child got TERM", "shell got TERM"]
        assert program.returncode == 7
        wait_until(lambda: read_end(http, item_id) is not None, timeout=60)
        end = read_end(http, item_id)
        assert (end["status"], end["error"]) == ("stopped", None)
        assert end["description"].startswith("exit code 7 after")


def test_exec_in_a_terminal_signals_the_job_of_the_shell(server, start):
    master, slave = pty.openpty()
    with server.http() as http, os.fdopen(master, "rb", buffering=0), os.fdopen(slave, "rb") as terminal:
        program = start(
            server.url, *EXEC_COMMAND, "--stoppable", "--id", "terminal", "--", "sh", "-c", FAMILY_SCRIPT,
            stdin=terminal, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        assert program.stdout.readline() == "ready\n"
        wait_for_item(http, id="terminal", stoppable=True)
        request_stop(http, "terminal")
        out, _ = program.communicate(timeout=60)
    # The shell is not signalled again by the supervisor, which is in the group too.
    assert sorted(out.splitlines()) == ["child got TERM", "shell got TERM"]
    assert program.returncode == 7


def test_exec_sends_the_given_signal_and_never_another(server, start):
    script = "trap 'echo INT' INT; trap 'echo TERM; exit 9' TERM; echo ready; read line; echo $line"
    with server.http() as http:
        program = start(
            server.url, *EXEC_COMMAND, "--stoppable=sigint", "--id", "patient", "--", "bash", "-c",
            f"{script} || read line; echo $line", stdin=subprocess.PIPE,
        )  # fmt: skip
        assert program.stdout.readline() == "ready\n"
        wait_for_item(http, id="patient")
        request_stop(http, "patient")
        assert program.stdout.readline() == "INT\n"
        request_stop(http, "patient")
        out, _ = program.communicate("done\n", timeout=60)
        assert "TERM" not in out
        assert "INT" not in out
        wait_until(lambda: read_end(http, "patient") is not None, timeout=60)
        assert read_end(http, "patient")["status"] == "stopped"


def test_exec_of_a_program_that_the_signal_kills_is_stopped(server, start):
    with server.http() as http:
        program = start(server.url, *EXEC_COMMAND, "--stoppable=TERM", "--id", "killed", "sleep", "600")
        wait_for_item(http, id="killed", status="running")
        request_stop(http, "killed")
        program.communicate(timeout=60)
        assert program.returncode == -signal.SIGTERM
        wait_until(lambda: find_item(http, id="killed") is None, timeout=60)
        end = read_end(http, "killed")
        assert (end["status"], end["error"]) == ("stopped", None)
        assert end["description"].startswith("killed by SIGTERM")
