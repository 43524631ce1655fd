"""A background thread with a defined lifecycle: lazy, daemon, ends when idle, survives a fork, never raises.

It calls a ``step`` repeatedly and does not depend on the work of the step. The sender and the terminal display have one
thread each: a server that hangs must not freeze the display.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING, Final

from progressbar_tracker._fork import add_background_thread, importing
from progressbar_tracker._log import ERROR, WARNING, log

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_TIMEOUT: Final = 5.0  # seconds without work after which the thread ends
IDLE_POLL_DELAY: Final = 0.1  # seconds from the last work to the last poll; producers do not wake the thread meanwhile
STEP_RETRY_DELAY: Final = 1.0  # seconds after a step that raised, doubled with each further failure
MAX_STEP_RETRY_DELAY: Final = 60.0  # seconds; also the least time between two log lines about failures
MAX_START_FAILURES: Final = 3  # failures after which no further start is tried
LOCK_TIMEOUT: Final = 1.0  # seconds; longer than any live thread holds the lock
THREADED_UWSGI_VERSION: Final = (2, 0, 27)  # the first version of uWSGI that always runs threads


def is_threadless() -> bool:
    """Return whether this is a uWSGI that runs no threads: one before 2.0.27, unless an option enables them."""
    uwsgi = sys.modules.get("uwsgi")
    options = getattr(uwsgi, "opt", None)
    if not isinstance(options, dict):
        return False
    import re

    version = tuple(map(int, re.findall(r"\d+", _to_text(getattr(uwsgi, "version", "")))))
    texts = {_to_text(name): _to_text(value) for name, value in options.items()}
    is_enabled = texts.get("enable-threads", "").lower() not in ("", "0", "false", "no", "off")
    return version < THREADED_UWSGI_VERSION and "threads" not in texts and not is_enabled


def _to_text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _block_signals() -> None:
    """Block the signals by which a write of this thread could end or stop the program.

    A program may have restored the default action of SIGPIPE, and a terminal may stop a process that writes from the
    background.
    """
    with contextlib.suppress(Exception):
        with importing:
            import signal

        names = [name for name in ("SIGPIPE", "SIGTTOU") if hasattr(signal, name)]
        signal.pthread_sigmask(signal.SIG_BLOCK, [getattr(signal, name) for name in names])


class WakeEvent:
    """An event for one waiter. Signal handlers and finalizers may set it: that is one step of C."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held until the event is set
        self._lock.acquire()

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is set already
            self._lock.release()

    def wait(self, timeout: float) -> bool:
        """Wait until it is set, and clear it. Return whether it was set."""
        return self._lock.acquire(timeout=timeout)


class Worker:
    """Calls ``step`` on a thread of its own while there is work.

    Args:
        name: The thread's name.
        step: Does the work that is due. Returns the seconds until the next call, or ``None`` if no work is left.
        has_work: Returns whether there is input that no step has seen yet.
    """

    def __init__(self, name: str, step: Callable[[], float | None], has_work: Callable[[], bool]) -> None:
        self._name = name
        self._step = step
        self._has_work = has_work
        self.thread: threading.Thread | None = None  # read without the lock
        self.reset()

    def reset(self) -> None:
        """Forget the thread and its locks. The child of a fork may do no more than these plain assignments."""
        self.thread = None
        self._start_failures = 0
        self.start_error = ""  # the latest one
        self._step_failures = 0  # in a row
        self._lock = threading.Lock()
        self._wake_event = WakeEvent()
        self._is_idle = False

    @property
    def is_broken(self) -> bool:
        """Whether the thread failed to start ``MAX_START_FAILURES`` times."""
        return self._start_failures >= MAX_START_FAILURES

    @property
    def needs_start(self) -> bool:
        """Whether new input needs a call of ``start``, because there is no thread or an idle one."""
        return self.thread is None or self._is_idle

    def start(self, *, quiet: bool = False) -> bool:
        """Start or wake the thread. Return whether it runs; log a failure unless ``quiet``."""
        if self.thread is not None:  # before the lock: a signal handler may run here while its thread holds it
            if self._is_idle:
                self._wake_event.set()
            return True
        lock = self._lock
        if not lock.acquire(timeout=LOCK_TIMEOUT):
            self._lock = threading.Lock()  # its holder is gone: spare the next caller the wait
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
            add_background_thread(thread)
        except Exception as error:  # noqa: BLE001 - tracking stops, the program continues
            # The interpreter is shutting down or allows no daemon threads, the system has no threads or memory left, or
            # there is no sys.stderr, which a new thread needs.
            self.thread = None
            self._start_failures += 1
            self.start_error = str(error) or type(error).__name__
            if self._start_failures == 1 and not quiet:
                log(WARNING, "Progress is not reported, because no thread can be started: %s", error)
            return False
        return True

    def wake(self) -> None:
        """Run the next step at once."""
        self._wake_event.set()

    def stop(self, timeout: float) -> None:
        """End the thread after its current step, and wait at most ``timeout`` seconds for it."""
        thread, self.thread = self.thread, None
        self._wake_event.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        me = threading.current_thread()
        _block_signals()
        while self.thread is me:
            # The thread survives every exception, also one that a debugger injects at any point: work is left.
            with contextlib.suppress(BaseException):
                try:
                    self._run_steps(me)
                except BaseException:  # noqa: BLE001
                    if self.thread is me:  # else a close has taken away the objects that the step used
                        self._recover()

    def _recover(self) -> None:
        self._is_idle = False
        pause = min(STEP_RETRY_DELAY * 2.0 ** min(self._step_failures, 10), MAX_STEP_RETRY_DELAY)
        self._step_failures += 1
        if self._step_failures == 1 or pause >= MAX_STEP_RETRY_DELAY:
            log(ERROR, "The thread %s failed, and continues", self._name, exc_info=True)
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
            if self._has_work() or self.thread is not me:  # stop() has used up its one wake-up
                continue
            # A producer appends first and reads `_is_idle` second; this thread works in the opposite order. An idle
            # thread costs nothing.
            self._is_idle = True
            was_woken = self._has_work() or wake.wait(IDLE_TIMEOUT)
            self._is_idle = False
            if not was_woken and self._try_exit(me):
                return

    def _try_exit(self, me: threading.Thread) -> bool:
        # A producer appends first and reads `thread` second; this thread works in the opposite order. So either the
        # producer sees that the thread is gone, or the thread sees the new input.
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
