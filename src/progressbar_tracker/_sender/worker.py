"""A background thread with a life story: lazy, daemon, ends when idle, survives a fork, never raises.

It knows a ``step`` to call again and again, and nothing of what the step does. Both the sender and the terminal
display live on one. They are two threads on purpose: a server that hangs must not freeze the picture.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Final

from progressbar_tracker._fork import importing
from progressbar_tracker._log import ERROR, WARNING, log

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_TIMEOUT: Final = (
    5.0  # seconds without work after which the thread ends, so that a later fork has nothing to warn of
)
IDLE_POLL_DELAY: Final = (
    0.1  # seconds after the last work in which nobody wakes the thread; it looks once more by itself
)
STEP_RETRY_DELAY: Final = 1.0  # seconds after a step that raised, doubled with each that follows
MAX_STEP_RETRY_DELAY: Final = 60.0  # seconds; also the least time between two lines that say so
MAX_START_FAILURES: Final = 3  # a thread that cannot be started this often is not asked for any more
LOCK_TIMEOUT: Final = 1.0  # seconds; longer than any thread that runs has the lock
THREADED_UWSGI_VERSION: Final = (2, 0, 27)  # the version of uWSGI from which on it always runs threads


def is_threadless() -> bool:
    """Say whether this is a uWSGI in which threads do not run: those before 2.0.27, unless they were told to."""
    uwsgi = sys.modules.get("uwsgi")
    options = getattr(uwsgi, "opt", None)
    if not isinstance(options, dict):
        return False
    import re

    version = tuple(map(int, re.findall(r"\d+", _to_text(getattr(uwsgi, "version", "")))))
    told = {_to_text(name): _to_text(value) for name, value in options.items()}
    off = ("", "0", "false", "no", "off")
    return version < THREADED_UWSGI_VERSION and "threads" not in told and told.get("enable-threads", "").lower() in off


def _to_text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _block_signals() -> None:
    """Block the signals that a write of this thread could end or stop the program with.

    A program may have given SIGPIPE its default action again, and a terminal may stop what writes from the background.
    """
    with contextlib.suppress(Exception):
        with importing:
            import signal

        names = [name for name in ("SIGPIPE", "SIGTTOU") if hasattr(signal, name)]
        signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in names])


class WakeEvent:
    """An event for one waiter, which may be set from a signal handler and from a finalizer: one step of C."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held until somebody sets the signal
        self._lock.acquire()

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is set
            self._lock.release()

    def wait(self, timeout: float) -> bool:
        """Wait until it is set, and unset it. Return whether it was."""
        return self._lock.acquire(timeout=timeout)


class Worker:
    """Calls ``step`` on a thread of its own while there is work.

    Args:
        name: The thread's name.
        step: Does what is to be done and returns the seconds until it wants to be called again, or ``None`` when
            there is nothing to do.
        pending: Says whether something was handed in that no step has seen yet.
    """

    def __init__(self, name: str, step: Callable[[], float | None], has_work: Callable[[], bool]) -> None:
        self._name = name
        self._step = step
        self._has_work = has_work
        self.thread: threading.Thread | None = None  # read without the lock: "is a start needed?"
        self.reset()

    def reset(self) -> None:
        """Forget the thread and its locks. In the child of a fork this is all that may be done: plain assignments."""
        self.thread = None
        self._start_failures = 0
        self._step_failures = 0  # of steps, in a row
        self._lock = threading.Lock()
        self._wake_event = WakeEvent()
        self._is_idle = False

    @property
    def is_broken(self) -> bool:
        """Whether the worker has given up."""
        return self._start_failures >= MAX_START_FAILURES

    @property
    def needs_start(self) -> bool:
        """Whether ``start`` has to be called for what was handed in: there is no thread, or it rests."""
        return self.thread is None or self._is_idle

    def start(self, *, quiet: bool = False) -> bool:
        """Start the thread if it does not run. Return whether it runs now; a failure is told unless ``quiet``."""
        if self.thread is not None:  # before the lock: a signal handler may come here while its thread holds it
            if self._is_idle:
                self._wake_event.set()
            return True
        lock = self._lock
        if not lock.acquire(timeout=LOCK_TIMEOUT):
            self._lock = threading.Lock()  # its holder is gone: the next caller does not wait for it
            return False
        try:
            return self._has_thread() or self._start(quiet=quiet)
        finally:
            lock.release()

    def _start(self, *, quiet: bool) -> bool:
        if self.is_broken or is_threadless():
            return False
        try:
            self.thread = thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            thread.start()
        except Exception as error:  # noqa: BLE001 - the program goes on without, whatever there is a want of
            # The interpreter is shutting down or allows no daemon threads, the system has no threads or memory left, or
            # there is no sys.stderr, which a thread is made with.
            self.thread = None
            self._start_failures += 1
            if self._start_failures == 1 and not quiet:
                log(WARNING, "Progress is not reported for want of a thread: %s", error)
            return False
        return True

    def wake(self) -> None:
        """Let the next step come at once."""
        self._wake_event.set()

    def stop(self, timeout: float) -> None:
        """Let the thread end after its present step, and wait at most ``timeout`` seconds for that."""
        thread, self.thread = self.thread, None
        self._wake_event.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        me = threading.current_thread()
        _block_signals()
        while self.thread is me:
            # Whatever is raised, or thrown into the thread by a debugger, at whatever point: there is work to do still.
            with contextlib.suppress(BaseException):
                try:
                    self._run_steps(me)
                except BaseException:  # noqa: BLE001
                    if self.thread is me:  # else it was closed meanwhile, with what the step was using
                        self._recover()

    def _recover(self) -> None:
        """Log that a step raised, and wait before the next one."""
        self._is_idle = False
        pause = min(STEP_RETRY_DELAY * 2.0 ** min(self._step_failures, 10), MAX_STEP_RETRY_DELAY)
        self._step_failures += 1
        if self._step_failures == 1 or pause >= MAX_STEP_RETRY_DELAY:
            log(ERROR, "The thread %s failed, and goes on", self._name, exc_info=True)
        self._wake_event.wait(pause)

    def _run_steps(self, me: threading.Thread) -> None:
        wake = self._wake_event
        while self.thread is me:
            delay = self._step()
            self._step_failures = 0
            if delay is not None:
                wake.wait(delay)
                continue
            # Many short bars in a row wake the thread ten times a second, not once each.
            wake.wait(IDLE_POLL_DELAY)
            if self._has_work() or self.thread is not me:  # who has stopped it has woken it once, and that is over
                continue
            # Who hands something in appends first and looks whether the thread rests then; here it is the other way
            # round. A thread that rests costs nothing.
            self._is_idle = True
            woken = self._has_work() or wake.wait(IDLE_TIMEOUT)
            self._is_idle = False
            if not woken and self._try_exit(me):
                return

    def _try_exit(self, me: threading.Thread) -> bool:
        # Who hands something in appends first and looks at `thread` then; here it is the other way round. So either
        # they see that the thread is gone, or it sees what they appended.
        self.thread = None
        if not self._has_work():
            return True
        with self._lock:
            if self._has_thread():
                return True
            self.thread = me
            return False

    def _has_thread(self) -> bool:
        return self.thread is not None  # another thread may have set it since
