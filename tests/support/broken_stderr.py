"""Runs small programs with a broken stderr or environment, each in a forked process, with and without tracking.

As a script it reads cases from a file and prints the stdout and the exit code of each. A fork is cheaper
than a start, and the process still exits as a real program does.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import errno
import gc
import io
import json
import logging
import os
import pty
import resource
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from progressbar_tracker import _runtime, track
from progressbar_tracker._terminal import display
from progressbar_tracker._tracking import counter
from progressbar_tracker._tracking import run as run_module

KILL_SECONDS = 60.0
MAX_PROCESSES = 6


class BareTracker:
    """A replacement for ``track`` that does nothing, for comparison."""

    def __init__(self, iterable=None, **options):
        self._iterable = iterable

    def __iter__(self):
        return iter(self._iterable)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def advance(self, n=1):
        pass

    def share(self):
        return self

    def track(self, iterable=None, **options):
        return BareTracker(iterable)


class FailingStderr(io.StringIO):
    """A stderr whose method fails at its n-th call and at all later ones."""

    def __init__(self, case):
        super().__init__()
        self._case = case
        self._calls = 0
        self.called = threading.Event()

    def isatty(self):
        self._fail("isatty")
        return True

    def write(self, text):
        if self._case.get("partial") and self._calls + 1 >= self._case["call"]:
            super().write(text[: len(text) // 2])
        self._fail("write")
        return super().write(text)

    def flush(self):
        self._fail("flush")

    def _fail(self, method):
        if method != self._case["method"]:
            return
        if method == "flush" and threading.current_thread() is threading.main_thread():
            return  # the interpreter's own flush at exit, without tracking too
        self._calls += 1
        if self._calls < self._case["call"]:
            return
        self.called.set()
        how = self._case["how"]
        if how == "block":
            threading.Event().wait()
        if how.startswith("E"):
            raise OSError(getattr(errno, how), "stand-in")
        raise ERROR_CLASSES[how]("stand-in")


class OddError(BaseException):
    """An error that is not an ``Exception``."""


ERROR_CLASSES = {**vars(builtins), "Odd": OddError}


class PartialStderr:
    """A stderr that lacks some methods."""

    def __init__(self, *missing):
        self._missing = missing

    def __getattr__(self, name):
        if name.startswith("_") or name in self._missing:
            raise AttributeError(name)
        return getattr(FailingStderr({"method": "", "call": 1, "how": ""}), name)


def fill_pipe(descriptor):
    os.set_blocking(descriptor, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(descriptor, b"x")


def replace_stderr(case):
    """Replace stderr as the case says."""
    kind = case.get("stderr", "null")
    if kind == "stand-in":
        sys.stderr = FailingStderr(case)
    elif kind == "without":
        sys.stderr = PartialStderr(*case["missing"])
    elif kind == "none":
        sys.stderr = None
    elif kind == "deleted":
        del sys.stderr
    elif kind == "object":
        sys.stderr = object()
    elif kind == "string":
        sys.stderr = io.StringIO()
    elif kind == "latin-1":
        sys.stderr = io.TextIOWrapper(io.BytesIO(), "latin-1")
    elif kind == "closed object":
        sys.stderr.close()
    elif kind == "closed string":
        sys.stderr = io.StringIO()
        sys.stderr.close()
    elif kind == "closed descriptor":
        os.close(2)
    elif kind == "reused descriptor":
        os.close(2)
        os.open(case["path"], os.O_RDWR | os.O_CREAT)
    elif kind == "gone":
        reader, writer = os.pipe()
        os.dup2(writer, 2)
        os.close(reader)
        os.close(writer)
    elif kind in ("gone, default action", "tee, gone"):
        replace_stderr({"stderr": "gone"})
        if kind.startswith("gone"):
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        else:
            sys.stderr = TeeStream()
    elif kind == "/dev/full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
    elif kind in ("blocked", "non-blocking", "tee, blocked"):
        _, writer = os.pipe()
        fill_pipe(writer)
        os.set_blocking(writer, kind != "non-blocking")
        os.dup2(writer, 2)
        if kind.startswith("tee"):
            sys.stderr = TeeStream()
    elif kind == "terminal gone":
        master, slave = pty.openpty()
        os.dup2(slave, 2)
        os.close(slave)
        os.close(master)
    elif kind == "terminal stopped":
        _, slave = pty.openpty()
        fill_pipe(slave)
        os.set_blocking(slave, True)
        os.dup2(slave, 2)
    elif kind == "read-only":
        os.dup2(os.open("/dev/null", os.O_RDONLY), 2)
    else:
        assert kind == "null"


def tqdm_lock():
    from tqdm import tqdm

    return tqdm.get_lock()


LOCK_GETTERS = {
    "counters": lambda: counter._lock,
    "numbers": lambda: run_module._run_numbers_lock,
    "display": lambda: _runtime.get_display()._lock,
    "display's worker": lambda: _runtime.get_display()._worker._lock,
    "sender's worker": lambda: _runtime.get_sender()._worker._lock,
    "tqdm": tqdm_lock,
}


def hold_lock(lock):
    """Acquire a lock in a thread that never releases it."""
    held = threading.Event()

    def holder():
        lock.acquire()
        held.set()
        threading.Event().wait()

    threading.Thread(target=holder, daemon=True).start()
    held.wait()


def limit_resource(kind):
    """Exhaust a resource that a thread or an import needs."""
    if kind in LOCK_GETTERS:
        hold_lock(LOCK_GETTERS[kind]())
    elif kind == "descriptors":
        with contextlib.suppress(OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            while True:
                os.open("/dev/null", os.O_RDONLY)
    elif kind == "threads":

        def refuse(*args, **options):
            raise RuntimeError("can't start new thread")

        threading._start_new_thread = threading._start_joinable_thread = refuse
    elif kind == "memory":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (6 << 20)  # less than a thread's stack
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


class TeeStream:
    """A replacement for stderr as some programs have it: it writes to stderr and elsewhere."""

    def write(self, text):
        sys.__stderr__.write(text)

    def flush(self):
        sys.__stderr__.flush()

    def isatty(self):
        return True


def wait_for_draw():
    """Wait until the failing stderr was called, else for some frames."""
    called = getattr(sys.stderr, "called", None) if hasattr(sys, "stderr") else None
    if isinstance(called, threading.Event):
        called.wait(0.1)
    else:
        time.sleep(0.02)


def loop(track):
    for n in range(3):
        for x in track(range(3), id=f"loop {n} \u65e5\u672c", display=True):
            wait_for_draw() if x == 1 else None
            print(n, x)


def default(track):
    for x in track(range(3), id="default"):
        wait_for_draw()
        print(x)


def block(track):
    for n in range(2):
        with track(total=3, id=f"block {n}", display=True) as bar:
            for x in range(3):
                bar.advance()
                bar.advance(0.5)
                wait_for_draw() if x == 1 else None
                print(x)


def error(track):
    try:
        with track(total=3, id="error", display=True) as bar:
            bar.advance()
            wait_for_draw()
            raise ValueError("bad row")
    except ValueError as error:
        print(error)


def nested(track):
    for n in track(range(2), id="outer", display=True):
        for x in track(range(3), id="inner", display=True):
            wait_for_draw() if x == 1 else None
            print(n, x)
            if n == 1:
                break


def share(track):
    with track(total=3, id="shared", display=True) as bar:
        handle = bar.share()
        for x in handle.track(range(3), part="one", display=True):
            wait_for_draw() if x == 1 else None
            print(x)


def threads(track):
    def work(n):
        for x in track(range(3), id=f"thread {n}", display=True):
            wait_for_draw() if x == 1 else None

    workers = [threading.Thread(target=work, args=(n,)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print("joined")


def leave(track):
    """Exit during the first draw."""
    bar = track(total=3, id="leave", display=True)
    bar.advance()
    print("leaving")
    sys.exit(3)


def die(track):
    for x in track(range(3), id="die", display=True):
        wait_for_draw()
        raise SystemExit(x + 4)


def labelled(track):
    """Use every option that is processed in the program's thread."""
    for options in ({"id": "x" * 1000}, {"deadline": 5}, {"group": "g", "notify": ["n"]}, {"interval": 0.05}):
        for x in track(range(2), display=True, **options):
            print(x)
    with track(total=2, keep=True) as bar:
        bar.advance(2)


def atexit_hook(track):
    """Track in exit hooks: no thread can start there, and one hook has no Python frame."""
    atexit.register(print, "hook")
    atexit.register(list, track(range(3), id="hook", display=True))
    atexit.register(lambda: loop(track))


def logged(track):
    """Log to the same stderr."""
    logging.basicConfig(level=logging.WARNING, handlers=[logging.StreamHandler()])
    loop(track)


TEST_PROGRAMS = (loop, default, block, error, nested, share, threads, leave, die, labelled, atexit_hook, logged)
PROGRAMS_BY_NAME = {program.__name__: program for program in TEST_PROGRAMS}


def run_case(case, output):
    """Run the program of a case in this process, and exit as it does."""
    os.environ.update(case.get("environ", {}))
    os.environ.setdefault("PROGRESSBAR_DISABLE", "")
    os.dup2(output, 1)
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", write_through=True)
    replace_stderr(case)
    _runtime.get_failure_lines().is_command = bool(case.get("reports"))
    limit_resource(case.get("limit"))
    PROGRAMS_BY_NAME[case["scenario"]](track if case["tracked"] else BareTracker)
    sys.exit(0)


def main(path):
    cases = json.loads(Path(path).read_text("utf-8"))
    display.FRAME_INTERVAL = 0.01
    if not any("environ" in case for case in cases):
        import tqdm  # noqa: F401  # import it once for all cases
    gc.freeze()  # otherwise the collection at the exit of a case copies all pages of this process
    waiting, running, results = list(enumerate(cases)), {}, {}
    while waiting or running:
        while waiting and len(running) < MAX_PROCESSES:
            number, case = waiting.pop(0)
            output = tempfile.TemporaryFile()  # noqa: SIM115
            pid = os.fork()
            if pid == 0:
                run_case(case, output.fileno())
            running[pid] = (number, output, time.monotonic())
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            number, output, _ = running.pop(pid)
            output.seek(0)
            results[number] = {
                "stdout": output.read().decode(),
                "code": os.waitstatus_to_exitcode(status),
            }
            continue
        for pid, (_, _, started_at) in running.items():
            if time.monotonic() > started_at + KILL_SECONDS:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    json.dump([results[number] for number in sorted(results)], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
