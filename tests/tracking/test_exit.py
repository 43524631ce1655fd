"""The end of a program, in a separate process with a time limit, and its final item on the server."""

from __future__ import annotations

import signal
import time

import pytest

from tests.support.connections import find_free_port
from tests.support.fault_server import HANG
from tests.support.programs import (
    LONG_TIMEOUT_PRELUDE,
    MAX_EXIT_SECONDS,
    PROGRAM_TIMEOUT,
    get_final_item,
    run_program,
    start_program,
)

# Waits for a signal, in short sleeps: a signal just before a sleep does not end it.
WAIT_CODE = "while True: time.sleep(0.1)\n"

LOOP_START_CODE = "first = True\n"
LOOP_BODY_CODE = "    if first:\n        first = False\n        flush(20)\n"  # the item exists before the loop ends


@pytest.mark.parametrize(
    ("code", "status", "completed", "error", "exit_code"),
    [
        pytest.param("for i in track(range(5), id='job'):\n{body}", "succeeded", 5, None, 0, id="exhausted"),
        pytest.param(
            "for i in track(range(5), id='job'):\n{body}    if i == 2: break", "stopped", 2, None, 0, id="break"
        ),
        pytest.param(
            "for i in track(range(5), id='job'):\n{body}    if i == 4: break", "stopped", 4, None, 0, id="break on last"
        ),
        pytest.param(
            "for i in track(range(5), id='job'):\n{body}    if i == 2: raise ValueError('bad row')",
            "failed", 2, "ValueError: bad row", 1, id="dies of an exception",
        ),
        pytest.param(
            "try:\n for i in track(range(5), id='job'):\n    flush(20)\n    if i == 2: raise ValueError('bad row')\n"
            "except ValueError: pass",
            "stopped", 2, None, 0, id="exception caught",
        ),
        pytest.param(
            "try:\n for i in track(range(5), id='job'):\n    flush(20)\n    if i == 2: raise ValueError('bad row')\n"
            "except ValueError: pass\ndef other(): raise KeyError('unrelated')\n",
            "stopped", 2, None, 0, id="exception caught and forgotten",
        ),
        pytest.param(
            "for i in track(range(5), id='job'):\n{body}    if i == 2: sys.exit(3)",
            "stopped", 2, None, 3, id="sys.exit",
        ),
        pytest.param(
            "with track(total=5, id='job') as bar:\n    bar.advance(2)\n    flush(20)\n    raise KeyboardInterrupt",
            "failed", 2, "KeyboardInterrupt", -2, id="block, KeyboardInterrupt",
        ),
        pytest.param(
            "with track(total=5, id='job') as bar:\n    bar.advance(2)\n    flush(20)\n    sys.exit(0)",
            "stopped", 2, None, 0, id="block, sys.exit(0)",
        ),
        pytest.param(
            "with track(total=5, id='job') as bar:\n    bar.advance(2)\n    flush(20)\n    sys.exit('no disk')",
            "failed", 2, "SystemExit: no disk", 1, id="block, sys.exit with a reason",
        ),
        pytest.param(
            "it = iter(track(range(5), id='job'))\nnext(it); next(it)\nflush(20)",
            "stopped", 1, None, 0, id="held globally",
        ),
        pytest.param(
            "def numbers():\n    for i in track(range(5), id='job'):\n        yield i\n"
            "g = numbers(); next(g); next(g); flush(20); g.close()",
            "stopped", 1, None, 0, id="generator closed",
        ),
        pytest.param(
            "def source():\n    yield 1\n    raise OSError('line dropped')\n"
            "for i in track(source(), id='job'): flush(20)",
            "failed", 0, "OSError: line dropped", 1, id="exception in the source",
        ),
    ],
)  # fmt: skip
def test_end_of_a_program_is_reported(faults, tmp_path, code, status, completed, error, exit_code):
    actual_code, _, err = run_program(faults.url, LOOP_START_CODE + code.replace("{body}", LOOP_BODY_CODE), tmp_path)
    assert actual_code == exit_code, err
    item = get_final_item(faults)
    assert (item["status"], item["completed"], item.get("error")) == (status, completed, error)


def test_later_unrelated_exception_does_not_fail_a_stopped_loop(faults, tmp_path):
    code = "def search():\n    for i in track(range(5), id='job'):\n        flush(20)\n        if i == 2: break\n"
    exit_code, _, err = run_program(faults.url, code + "search()\nraise RuntimeError('unrelated')", tmp_path)
    assert exit_code == 1
    assert err.endswith("RuntimeError: unrelated\n")
    assert get_final_item(faults)["status"] == "stopped"


def test_short_program_reports_its_exact_count(faults, tmp_path):
    code = "with track(total=20000, id='job', keep=True) as bar:\n    for i in range(20000): bar.advance()"
    exit_code, out, err = run_program(faults.url, code, tmp_path)
    assert (exit_code, out, err) == (0, "", "")
    assert (faults.items["job"]["completed"], faults.items["job"]["status"]) == (20000, "succeeded")
    assert len(faults.requests) <= 3


@pytest.mark.parametrize("server", ["refuses", "hangs"])
def test_program_with_an_unusable_server_ends_in_time_silently(faults, tmp_path, server):
    faults.default_fault = HANG
    url = faults.url if server == "hangs" else f"http://127.0.0.1:{find_free_port()}"
    code = LONG_TIMEOUT_PRELUDE + (
        "started_at = time.perf_counter()\n"
        "for i in track(range(20), id='job'): time.sleep(0.02)\n"
        "print(time.perf_counter() - started_at)"
    )
    started_at = time.perf_counter()
    exit_code, loop_seconds, err = run_program(url, code, tmp_path)
    assert (exit_code, err) == (0, "")
    assert float(loop_seconds) < MAX_EXIT_SECONDS
    assert time.perf_counter() - started_at < MAX_EXIT_SECONDS


def test_program_without_a_configuration_runs_unchanged(tmp_path):
    exit_code, out, err = run_program("", "print(sum(track(range(10), id='job')))", tmp_path)
    assert (exit_code, out, err) == (0, "45\n", "")


def test_interrupted_bare_loop_is_failed(faults, tmp_path):
    code = "for i in track(range(5), id='job'):\n    flush(20)\n    print('ready', flush=True)\n    " + WAIT_CODE
    process = start_program(faults.url, code, tmp_path)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PROGRAM_TIMEOUT)
    assert (get_final_item(faults)["status"], get_final_item(faults)["error"]) == ("failed", "KeyboardInterrupt")


def test_forked_child_has_its_own_bar_and_not_its_parents(faults, tmp_path):
    code = (
        "bar = track(total=10, id='job', keep=True)\nbar.advance(3)\nflush(20)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    bar.advance(4)\n"
        "    with track(total=1, id='child', keep=True) as own: own.advance()\n"
        "    ok = flush(20)\n"
        "    os._exit(0 if ok else 1)\n"
        "_, status = os.waitpid(pid, 0)\n"
        "bar.advance(2)\nbar.close()\nsys.exit(os.waitstatus_to_exitcode(status))"
    )
    exit_code, _, err = run_program(faults.url, code, tmp_path)
    assert (exit_code, err) == (0, "")
    assert (faults.items["job"]["completed"], faults.items["job"]["status"]) == (5, "succeeded")
    assert (faults.items["child"]["completed"], faults.items["child"]["status"]) == (1, "succeeded")
    assert faults.items["job"]["meta"]["pid"] != faults.items["child"]["meta"]["pid"]


def test_fork_during_an_import_lets_the_child_import_again(faults, tmp_path):
    code = (
        "bar = track(total=10, id='job', keep=True)\nbar.advance(3)\n"
        "while 'httpx' not in sys.modules: pass\n"  # the sender's thread is importing it
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    signal.alarm(60)\n"
        "    import httpx\n"
        "    with track(total=1, id='child', keep=True) as own: own.advance()\n"
        "    os._exit(0 if httpx.Client and flush(20) else 1)\n"
        "_, status = os.waitpid(pid, 0)\n"
        "bar.close()\nsys.exit(os.waitstatus_to_exitcode(status))"
    )
    exit_code, _, err = run_program(faults.url, code, tmp_path)
    assert (exit_code, err) == (0, "")
    assert faults.items["child"]["status"] == faults.items["job"]["status"] == "succeeded"
