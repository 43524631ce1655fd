"""Less common ends of a program, in a separate process with a time limit."""

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
from tests.tracking.test_exit import WAIT_CODE

BAR_CODE = "bar = track(total=9, id='job', keep=True, interval=0.05); bar.advance(3)\n"


def interrupt_program(faults, process, *signals):
    """Send each signal when the program prints "ready". Return the seconds after the last one, and how it ended."""
    try:
        for number in signals:
            assert process.stdout.readline() == "ready\n"
            faults.wait_for(lambda: faults.requests)
            signaled_at = time.perf_counter()
            process.send_signal(number)
        out, err = process.communicate(timeout=PROGRAM_TIMEOUT)
    except BaseException:
        process.kill()
        raise
    return time.perf_counter() - signaled_at, process.returncode, out, err


FIRST_AT_EXIT = (
    "import atexit\n@atexit.register\ndef last():\n"
    "    started_at = time.monotonic()\n"
    "    for _ in track(range(3), id='job', keep=True): pass\n"
    "    with track(total=2, id='block', keep=True) as bar: bar.advance()\n"
    "    print(time.monotonic() - started_at)\n"
)


def test_bars_first_made_in_an_atexit_handler_are_sent(faults, tmp_path):
    exit_code, _, err = run_program(faults.url, FIRST_AT_EXIT, tmp_path)
    assert (exit_code, err) == (0, "")
    assert (faults.items["job"]["status"], faults.items["job"]["completed"]) == ("succeeded", 3)
    assert (faults.items["block"]["status"], faults.items["block"]["completed"]) == ("succeeded", 1)


@pytest.mark.parametrize("fault", ["hangs", "refuses"])
def test_bars_made_at_exit_do_not_wait_for_a_missing_server(faults, tmp_path, fault):
    faults.default_fault = HANG
    url = faults.url if fault == "hangs" else f"http://127.0.0.1:{find_free_port()}"
    exit_code, out, err = run_program(url, LONG_TIMEOUT_PRELUDE + FIRST_AT_EXIT, tmp_path)
    assert (exit_code, err) == (0, "")
    assert float(out) < MAX_EXIT_SECONDS  # 1.5 seconds for both, plus the imports if no thread can be started


def test_bar_first_made_at_exit_is_sent_by_a_flush(faults, tmp_path):
    code = (
        "import atexit\n@atexit.register\ndef last():\n"
        "    for _ in track(range(3), id='job', keep=True): pass\n    print(flush(20))\n"
    )
    assert run_program(faults.url, code, tmp_path) == (0, "True\n", "")
    assert faults.items["job"]["completed"] == 3


def test_bar_made_after_the_last_flush_is_harmless(faults, tmp_path):
    code = (
        "import atexit\n@atexit.register\ndef last():\n"
        "    for _ in track(range(3), id='late', keep=True): pass\n    print(flush(1))\n"
        + BAR_CODE
        + "flush(20); bar.close()"
    )
    exit_code, _, err = run_program(faults.url, code, tmp_path)
    assert (exit_code, err) == (0, "")
    assert faults.items["job"]["status"] == "succeeded"


def test_generator_held_until_the_exit_is_stopped(faults, tmp_path):
    code = (
        "def numbers():\n    for i in track(range(9), id='job', keep=True): yield i\n"
        "loop = numbers(); next(loop); next(loop)\nflush(20)"
    )
    assert run_program(faults.url, code, tmp_path) == (0, "", "")
    assert (get_final_item(faults)["status"], get_final_item(faults)["completed"]) == ("stopped", 1)


def test_loop_of_a_daemon_thread_is_stopped_at_the_exit(faults, tmp_path):
    code = (
        "is_running = threading.Event()\n"
        "def work():\n"
        "    for i in track(range(10**9), id='job', keep=True, interval=0.05):\n"
        "        is_running.set(); time.sleep(0.001)\n"
        "threading.Thread(target=work, daemon=True).start(); is_running.wait(); flush(20)\n"
    )
    assert run_program(faults.url, code, tmp_path) == (0, "", "")
    assert (get_final_item(faults)["status"], get_final_item(faults)["completed"] < 10**6) == ("stopped", True)


def test_bar_of_a_thread_that_outlives_the_main_is_reported(faults, tmp_path):
    code = (
        "def work():\n"
        "    with track(total=2, id='job', keep=True) as bar: flush(20); bar.advance(2)\n"
        "thread = threading.Thread(target=work); thread.start()\n"
    )
    assert run_program(faults.url, code, tmp_path) == (0, "", "")
    assert (get_final_item(faults)["status"], get_final_item(faults)["completed"]) == ("succeeded", 2)


# The last flush has a long timeout, and prints "ready" when it starts.
ENDLESS_CLOSE = LONG_TIMEOUT_PRELUDE + (
    "sender.EXIT_TIMEOUT, shut_down = 90.0, sender.Sender.shut_down\n"
    "def announce(self, *arguments):\n    print('ready', flush=True)\n    return shut_down(self, *arguments)\n"
    "sender.Sender.shut_down = announce\n"
)


@pytest.mark.parametrize("during", ["the loop", "the last flush"])
def test_ctrl_c_with_a_hanging_server_ends_the_program_at_once(faults, tmp_path, during):
    faults.default_fault = HANG
    if during == "the loop":
        code = "for i in track(range(9), id='job', keep=True):\n    print('ready', flush=True)\n    " + WAIT_CODE
        signals = [signal.SIGINT, signal.SIGINT]  # the second one comes during the last flush
    else:
        code = BAR_CODE
        signals = [signal.SIGINT]
    seconds, exit_code, _, err = interrupt_program(
        faults, start_program(faults.url, ENDLESS_CLOSE + code, tmp_path), *signals
    )
    assert seconds < MAX_EXIT_SECONDS, err
    assert exit_code == (-signal.SIGINT if during == "the loop" else 0)


def test_ctrl_c_in_another_thread_ends_the_last_flush(faults, tmp_path):
    faults.default_fault = HANG
    code = BAR_CODE + "flush(0.1)  # starts the thread\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
    seconds, exit_code, _, err = interrupt_program(
        faults, start_program(faults.url, ENDLESS_CLOSE + code, tmp_path), signal.SIGINT
    )
    assert seconds < MAX_EXIT_SECONDS, err
    assert exit_code == 0


def test_single_ctrl_c_with_a_hanging_server_ends_in_time(faults, tmp_path):
    faults.default_fault = HANG
    code = "for i in track(range(9), id='job', keep=True):\n    print('ready', flush=True)\n    " + WAIT_CODE
    seconds, exit_code, _, err = interrupt_program(
        faults, start_program(faults.url, LONG_TIMEOUT_PRELUDE + code, tmp_path), signal.SIGINT
    )
    assert seconds < MAX_EXIT_SECONDS
    assert exit_code == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert err.count("Traceback") == 1


def test_ctrl_c_during_an_import_still_ends_by_the_signal(faults, tmp_path):
    (tmp_path / "httpx.py").write_text(
        "import collections, os, signal, threading, time\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.main_thread().interrupted.wait(10)\n"
        "time.sleep(0.05)\n"  # the interpreter sets its flag a moment after the program sees the interrupt
        "collections.namedtuple('Executed', 'as a text')\n"
        "raise ImportError('only a stand-in')\n"
    )
    code = (
        "threading.main_thread().interrupted = threading.Event()\n"
        "try:\n    for i in track(range(9), id='job', keep=True):\n        "
        + WAIT_CODE
        + "finally: threading.main_thread().interrupted.set()\n"
    )
    process = start_program(faults.url, code, tmp_path)
    try:
        _, err = process.communicate(timeout=PROGRAM_TIMEOUT)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_program_that_handles_ctrl_c_keeps_its_exit_code(faults, tmp_path):
    code = (
        "try:\n    for i in track([1], id='job', keep=True): raise KeyboardInterrupt\nexcept KeyboardInterrupt: pass\n"
    )
    assert run_program(faults.url, code, tmp_path)[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_program_leaves_a_running_item(faults, tmp_path, number):
    code = BAR_CODE + "flush(20)\nprint('ready', flush=True)\ntime.sleep(300)\n"
    seconds, exit_code, _, err = interrupt_program(faults, start_program(faults.url, code, tmp_path), number)
    assert (exit_code, err, seconds < MAX_EXIT_SECONDS) == (
        -number,
        "",
        True,
    )  # the program would have slept for minutes
    assert (get_final_item(faults)["status"], get_final_item(faults)["completed"]) == ("running", 3)
    assert faults.items["job"]["heartbeat_timeout"] > 0


def test_os_exit_skips_the_exit_hook(faults, tmp_path):
    assert run_program(faults.url, BAR_CODE + "flush(20)\nbar.advance()\nos._exit(7)\n", tmp_path) == (7, "", "")
    assert (get_final_item(faults)["status"], get_final_item(faults)["completed"]) == ("running", 3)


def test_sigterm_turned_into_sys_exit_is_stopped(faults, tmp_path):
    code = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "with track(total=9, id='job', keep=True) as bar:\n"
        "    bar.advance(3); flush(20); print('ready', flush=True)\n    " + WAIT_CODE
    )
    _, exit_code, _, err = interrupt_program(faults, start_program(faults.url, code, tmp_path), signal.SIGTERM)
    assert (exit_code, err) == (0, "")
    assert (get_final_item(faults)["status"], get_final_item(faults)["completed"]) == ("stopped", 3)


def test_exit_with_many_bars_reports_every_end(faults, tmp_path):
    code = (
        "bars = [track(total=2, id=f'job{n}', keep=True) for n in range(1500)]\n"
        "for bar in bars: bar.advance()\n"
        "flush(20)\n"
    )
    assert run_program(faults.url, code, tmp_path) == (0, "", "")
    assert len(faults.items) == 1500
    assert {item["status"] for item in faults.items.values()} == {"stopped"}


def test_repeated_close_and_flush_are_harmless(faults, tmp_path):
    code = (
        "from progressbar_tracker import ProgressBar\n"
        "pb = ProgressBar(os.environ['PROGRESSBAR_URL'], os.environ['PROGRESSBAR_API_KEY'])\n"
        "for _ in pb.track(range(3), id='job', keep=True): pass\n"
        "for _ in range(3): flush(20); pb.close()\n"
        "for _ in pb.track(range(3), id='after', keep=True): pass\n"
    )
    assert run_program(faults.url, code, tmp_path, PYTHONDEVMODE="1") == (0, "", "")
    assert set(faults.items) == {"job"}
