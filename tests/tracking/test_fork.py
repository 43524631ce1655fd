"""Forks at the worst moments, in a separate process with a time limit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.fault_server import HANG, LATE, NO_FAULT
from tests.support.programs import LONG_TIMEOUT_PRELUDE, MAX_EXIT_SECONDS, PROGRAM_TIMEOUT, run_program, start_program

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

FORK_PRELUDE = """
def child(work, seconds=60):
    pid = os.fork()
    if pid == 0:
        signal.alarm(seconds)
        code = 1
        try:
            code = 0 if work() in (None, True) else 2
        except BaseException:
            import traceback; traceback.print_exc()
        finally:
            os._exit(code)
    return pid

def wait(*pids):
    for pid in pids:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

def own_bar(name="child"):
    with track(total=2, id=name, keep=True, display=False) as bar:
        bar.advance(); bar.advance(0.5); bar.advance(0.5)
    return flush(20)

def loaded():
    "Connect the sender, with all its imports."
    with track(total=1, id="warm", display=False) as bar:
        bar.advance(); assert flush(20)
"""


def run_forking_program(faults, tmp_path, code):
    exit_code, out, err = run_program(faults.url, FORK_PRELUDE + code, tmp_path)
    assert (exit_code, err) == (0, "")
    return out


LOCK_CODE = {
    "counting": "from progressbar_tracker._tracking import counter; lock = counter._lock",
    "worker": "from progressbar_tracker import _runtime; lock = _runtime.get_sender()._worker._lock",
    "display": "from progressbar_tracker import _runtime; lock = _runtime.get_display()._lock",
}


@pytest.mark.parametrize("lock", LOCK_CODE)
def test_forked_child_gets_no_held_lock_of_its_parent(faults, tmp_path, lock):
    code = (
        "import warnings; warnings.filterwarnings('ignore', 'This process')\n"  # the program has a thread of its own
        "loaded()\n" + LOCK_CODE[lock] + "\n"
        "is_locked, is_forked = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with lock: is_locked.set(); is_forked.wait(10)\n"
        "thread = threading.Thread(target=hold); thread.start(); is_locked.wait()\n"
        "pid = child(own_bar)\n"
        "is_forked.set(); thread.join(); wait(pid)\n"
        "assert own_bar('parent')\n"
    )
    run_forking_program(faults, tmp_path, code)
    assert faults.items["child"]["completed"] == faults.items["parent"]["completed"] == 2


WARNING_PRELUDE = """
import warnings
loaded()
def list_warnings():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        wait(child(lambda: None))
    return [warning.category.__name__ for warning in caught]
"""
warns_of_threads = pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.11 never warns of a fork")


@warns_of_threads
def test_fork_beside_background_threads_does_not_warn(faults, tmp_path):
    code = WARNING_PRELUDE + "print(list_warnings(), threading.active_count())"
    assert run_forking_program(faults, tmp_path, code) == "[] 2\n"


@warns_of_threads
def test_fork_beside_a_thread_of_the_program_warns(faults, tmp_path):
    code = WARNING_PRELUDE + (
        "warnings.simplefilter('always')\n"
        "wait(child(lambda: None))\n"  # hides the warning of this fork only
        "is_ended = threading.Event(); thread = threading.Thread(target=is_ended.wait); thread.start()\n"
        "print(list_warnings())\n"
        "is_ended.set(); thread.join()\n"
    )
    assert run_forking_program(faults, tmp_path, code) == "['DeprecationWarning']\n"


@warns_of_threads
def test_child_has_the_warning_filters_of_the_program(faults, tmp_path):
    code = WARNING_PRELUDE + (
        "filters = list(warnings.filters)\n"
        "def work(): assert warnings.filters == filters, warnings.filters\n"
        "wait(child(work))\n"
    )
    run_forking_program(faults, tmp_path, code)


def test_fork_during_a_request_keeps_the_parents_connection(faults, tmp_path):
    code = (
        "bar = track(total=9, id='job', keep=True, interval=0.05); bar.advance(); assert flush(20)\n"
        "bar.advance(); sys.stdin.readline()\n"
        "wait(child(own_bar))\n"
        "bar.advance(); bar.close(); flush(20)\n"
    )
    faults.script.extend([NO_FAULT, LATE])
    process = start_program(faults.url, FORK_PRELUDE + code, tmp_path, stdin=subprocess.PIPE)
    faults.wait_for(lambda: len(faults.requests) == 2)  # the second has no response yet
    _, err = process.communicate("\n", timeout=PROGRAM_TIMEOUT)
    assert (process.returncode, err) == (0, "")
    assert (faults.items["job"]["completed"], faults.items["job"]["status"]) == (3, "succeeded")
    assert faults.items["child"]["status"] == "succeeded"
    assert faults.connections == 2


@pytest.mark.parametrize("share", ["", "bar.share()\n"], ids=["alone", "shared"])
def test_child_that_ends_its_parents_loop_sends_nothing(faults, tmp_path, share):
    code = (
        "bar = track(total=9, id='job', keep=True); bar.advance(3); " + (share or "\n") + "assert flush(20)\n"
        "def work():\n"
        "    bar.advance(4); bar.fail('in the child')\n"
        "    return own_bar()\n"
        "wait(child(work))\n"
        "bar.advance(2); bar.close(); assert flush(20)\n"
    )
    run_forking_program(faults, tmp_path, code)
    assert (faults.items["job"]["completed"], faults.items["job"]["status"]) == (5, "succeeded")
    assert all("in the child" not in str(request.document) for request in faults.requests)
    assert faults.items["child"]["meta"]["pid"] != faults.items["job"]["meta"]["pid"]


def test_loop_run_by_parent_and_child_is_sent_by_the_parent(faults, tmp_path):
    code = (
        "pids = []\n"
        "for i in track(range(4), id='job', keep=True):\n"
        "    flush(20)\n"
        "    if i == 1:\n"
        "        pid = os.fork()\n"
        "        if pid == 0: signal.alarm(60)\n"
        "        else: pids.append(pid)\n"
        "if not pids: flush(2); sys.exit(0)\n"
        "wait(*pids)\n"
        "assert flush(20)\n"
    )
    run_forking_program(faults, tmp_path, code)
    assert (faults.items["job"]["completed"], faults.items["job"]["status"]) == (4, "succeeded")
    assert len({op["run_id"] for op in faults.ops}) == 1
    assert [op["completed"] for op in faults.ops if "completed" in op] == sorted(
        {op["completed"] for op in faults.ops if "completed" in op}
    )


def test_nested_fork_has_its_own_bars_on_every_level(faults, tmp_path):
    code = (
        "def first():\n"
        "    ok = own_bar('first')\n"
        "    wait(child(lambda: own_bar('second')))\n"
        "    return ok and own_bar('first again')\n"
        "assert own_bar('parent')\n"
        "wait(child(first))\n"
    )
    run_forking_program(faults, tmp_path, code)
    assert {item_id: item["status"] for item_id, item in faults.items.items()} == dict.fromkeys(
        ("parent", "first", "second", "first again"), "succeeded"
    )
    assert len({item["meta"]["pid"] for item in faults.items.values()}) == 3


def test_many_forks_lose_no_bar(faults, tmp_path):
    code = (
        "loaded()\n"
        "bar = track(total=20, id='job', keep=True, interval=0.05)\n"
        "pids = []\n"
        "for number in range(20):\n"
        "    bar.advance(); pids.append(child(lambda: own_bar(f'child-{number}')))\n"
        "wait(*pids)\n"
        "bar.close(); assert flush(20)\n"
    )
    run_forking_program(faults, tmp_path, code)
    assert faults.items["job"]["completed"] == 20
    assert sum(item["status"] == "succeeded" for item in faults.items.values()) == 21


def test_a_generated_id_is_unique_after_a_fork(faults, tmp_path):
    code = (
        "loaded()\n"
        "def work():\n"
        "    for _ in track([1, 2], keep=True): pass\n"
        "    return flush(20)\n"
        "pids = [child(work) for _ in range(4)]\n"
        "work(); wait(*pids)\n"
    )
    run_forking_program(faults, tmp_path, code)
    assert len(faults.items) == 5


def test_child_in_development_mode_has_no_open_connection(faults, tmp_path):
    code = (
        "import gc\n"
        "bar = track(total=2, id='job', keep=True); bar.advance(); assert flush(20)\n"
        "def work():\n"
        "    gc.collect(); ok = own_bar(); gc.collect()\n"
        "    return ok\n"
        "wait(child(work))\n"
        "bar.close(); assert flush(20)\n"
    )
    exit_code, _, err = run_program(faults.url, FORK_PRELUDE + code, tmp_path, PYTHONDEVMODE="1")
    assert (exit_code, err) == (0, "")


def test_terminated_pool_keeps_the_bar_of_the_parent(faults, tmp_path):
    code = (
        "import multiprocessing\n"
        "loaded()\n"
        "started = multiprocessing.get_context('fork').Semaphore(0)\n"
        "def work(number):\n"
        "    with track(total=9, id=f'worker-{number}', interval=0.05) as bar:\n"
        "        bar.advance(); flush(20); started.release(); time.sleep(60)\n"
        "bar = track(total=2, id='job', keep=True); bar.advance()\n"
        "pool = multiprocessing.get_context('fork').Pool(2)\n"
        "pool.map_async(work, range(2))\n"
        "for _ in range(2): assert started.acquire(timeout=100)\n"
        "pool.terminate(); pool.join()\n"
        "bar.advance(); bar.close(); assert flush(20)\n"
    )
    run_forking_program(faults, tmp_path, code)
    assert (faults.items["job"]["completed"], faults.items["job"]["status"]) == (2, "succeeded")
    assert {faults.items[f"worker-{number}"]["status"] for number in range(2)} == {"running"}  # shown as stalled later


def test_a_child_whose_server_hangs_ends_in_time(faults, tmp_path):
    faults.default_fault = HANG
    code = LONG_TIMEOUT_PRELUDE + (
        "import multiprocessing\n"
        "def work():\n"
        "    with track(total=1, id='child', keep=True) as bar: bar.advance()\n"
        "process = multiprocessing.get_context('fork').Process(target=work)\n"
        "started_at = time.monotonic(); process.start(); process.join(60)\n"
        "assert process.exitcode == 0, process.exitcode\n"
        "print(time.monotonic() - started_at)\n"
    )
    assert float(run_forking_program(faults, tmp_path, code)) < MAX_EXIT_SECONDS
