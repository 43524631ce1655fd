"""A program that hangs is stuck; one that is suspended, or whose server is, is not."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.support.server_process import ADMIN_KEY
from tests.support.waiting import wait_until

LOOP_CODE = """
from progressbar_tracker import track
import sys, time

def read_rows():
    for row in range(10_000):
        yield row
        if row == 49 and "hang" in sys.argv:
            sys.stdin.read()
        time.sleep(0.1)

for _ in track(read_rows(), total=10_000 if "hang" in sys.argv else None, id="job", stuck_after=4):
    pass
"""

NESTED_CODE = """
from progressbar_tracker import track
import sys, time

def read_rows():
    for row in range(90):
        yield row
        if row == 89:
            sys.stdin.read()
        time.sleep(0.1)

for _ in track(range(8), id="job", stuck_after=4):
    for _ in track(read_rows(), total=90, id="inner"):
        pass
    break
"""


@pytest.fixture
def start_loop(server_process):
    """Start the loop as a process; it is killed at the end."""
    processes = []

    def start(*arguments, code=LOOP_CODE):
        environ = {"PROGRESSBAR_URL": server_process.url, "PROGRESSBAR_API_KEY": ADMIN_KEY}
        command = [sys.executable, "-c", code, *arguments]
        process = subprocess.Popen(
            command, env={**os.environ, **environ}, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdin.close()


def read_item(server, item_id="job"):
    with server.http() as http:
        return http.get(f"/api/v1/items/{item_id}").json()


def watch_for(server, seconds):
    """Return whether the item was ever stuck in some seconds."""
    end = time.monotonic() + seconds
    states = set()
    while time.monotonic() < end:
        states.add(read_item(server)["stuck"])
        time.sleep(0.1)
    return True in states


def test_loop_that_hangs_is_stuck_until_it_goes_on(server_process, start_loop):
    program = start_loop("hang")
    wait_until(lambda: read_item(server_process).get("completed") == 49)
    wait_until(lambda: read_item(server_process)["stuck"])
    item = read_item(server_process)
    assert (item["status"], item["stalled"], item["eta"], item["finish_at"]) == ("running", False, None, None)
    program.stdin.close()
    wait_until(lambda: not read_item(server_process)["stuck"])
    assert read_item(server_process)["status"] == "running"


def test_outer_loop_is_stuck_only_if_its_inner_bar_hangs(server_process, start_loop):
    program = start_loop(code=NESTED_CODE)
    states = set()

    def is_inner_hanging():
        states.add(read_item(server_process).get("stuck"))
        return read_item(server_process, "inner").get("completed") == 89

    wait_until(is_inner_hanging)
    assert True not in states
    wait_until(lambda: read_item(server_process)["stuck"])
    program.stdin.close()
    assert program.wait(60) == 0


def test_suspended_program_is_not_stuck(server_process, start_loop):
    program = start_loop()
    wait_until(lambda: read_item(server_process).get("completed", 0) > 10)
    program.send_signal(signal.SIGSTOP)
    assert not watch_for(server_process, 9)
    program.send_signal(signal.SIGCONT)
    assert not watch_for(server_process, 2)


def test_suspended_server_finds_no_item_stuck(server_process, start_loop):
    start_loop()
    wait_until(lambda: read_item(server_process).get("completed", 0) > 10)
    with server_process.http() as http:  # last, as the start of the loop may take longer than these seconds
        http.put("/api/v1/items/rest", json={"stuck_after": 8}).raise_for_status()
    server_process.process.send_signal(signal.SIGSTOP)
    time.sleep(11)
    server_process.process.send_signal(signal.SIGCONT)
    assert read_item(server_process, "rest")["stuck"] is False
    assert not watch_for(server_process, 2)
    wait_until(lambda: read_item(server_process, "rest")["stuck"])
