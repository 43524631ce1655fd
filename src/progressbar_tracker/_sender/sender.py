"""The background sender: samples trackers, asks the reconciler what the server lacks, and delivers it.

A program's thread never waits for it and takes no lock of it: a run is handed in by ``deque.append``, and so is its
end. One request is in flight at a time. The sender knows a ``deliver`` callable and no HTTP; how that is made
(configuration, connections, TLS) is the business of ``connect``, called in the sender's thread when something is to be
sent.

An answer that is no progress server's at all (a redirect, HTML with 200: a hotel's page, a wrong port) backs off for a
minute, instead of ending the reporting for good: a laptop in a train meets such a page for as long as it takes to sign
in, and the loop that it tracks may run for days.

No failure is final but one: that no server is configured. A setting that cannot be used is read again with each
attempt. A key that is refused is not sent again; what delivers looks for another one where that came from.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from progressbar_tracker._errors import (
    ConfigError,
    PermissionError,
    ProgressBarError,
    ResponseError,
    TransportError,
)
from progressbar_tracker._fork import importing
from progressbar_tracker._log import ERROR, INFO, WARNING, log
from progressbar_tracker._models import format_value

from .reconciler import MAX_ITEMS, Reconciler
from .worker import Worker, is_threadless

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from progressbar_tracker._models import Op, OpResult

    from .reconciler import Stats, Step
    from .snapshot import Source

    Connector: TypeAlias = Callable[[], "Delivery | None"]

    class Delivery(Protocol):
        """Carries operations to the server."""

        def __call__(self, ops: Sequence[Op], timeout: float, /) -> Sequence[OpResult]:
            """Deliver operations and return one result for each; ``timeout`` is in seconds for each phase.

            Raises:
                ProgressBarError: There was no usable answer.
            """

        @property
        def unbatched(self) -> bool:
            """Whether each operation is a request of its own, so that there should be few."""

        @property
        def boot_id(self) -> str:
            """Changes when the server starts anew; ``""`` where it is not known. Asked when an item has vanished."""

        @property
        def key_source(self) -> str:
            """Where the key comes from, in words."""

        def close(self) -> None:
            """Give back what belongs to the delivery alone. Idempotent."""


POLL_INTERVAL: Final = 0.1  # seconds between looks at what has ended
REQUEST_TIMEOUT: Final = 5.0  # seconds for a phase of a request
EXIT_TIMEOUT: Final = 1.5  # seconds that the end of a program waits at most
STARTUP_TIMEOUT: Final = 5.0  # seconds that connecting, with all its imports, may take beyond that
OFFLINE_EXIT_TIMEOUT: Final = 0.3  # the same when the server is known to be away
MIN_THREAD_SLEEP: Final = (
    0.001  # seconds the thread rests at least: a loop that waits for the interpreter's lock gets it
)
THREAD_JOIN_TIMEOUT: Final = 0.1  # seconds in which the thread may leave in good order, when it is not in a request
WARNING_INTERVAL: Final = 60.0  # seconds between two warnings of one kind
WRONG_SERVER_DELAY: Final = 60.0  # seconds between attempts when what answers is no progress server
KEY_POLL_INTERVAL: Final = 2.0  # seconds between looks for another key when the server refuses the one there is


class _FlushRequest:
    """Somebody waits until the server has what there is now."""

    __slots__ = ("done", "finalize", "is_final", "requested_at", "succeeded")

    def __init__(self, finalize: Callable[[Source], None] | None, *, is_final: bool) -> None:
        self.finalize = finalize  # has its say about each run first
        self.is_final = is_final  # nothing comes after it: whatever the back-off says, the server is tried once more
        self.done = threading.Event()
        self.succeeded = False
        self.requested_at: float | None = None


class Sender:
    """Keeps one server up to date about the runs of this process.

    Args:
        connect: Returns what delivers operations, or ``None`` when there is no server; raises ``ConfigError`` when
            the configuration cannot be used. Called in the sender's thread, until it returns.
        url: The server's, where it is known before connecting.
        started: Called in the program's thread whenever the sender's thread is started.
        forked: Called in a child process that was forked without Python's hooks, as uWSGI does it: has to reset this
            sender, and all that a fork cuts in half.
        on_error: Told of each error that keeps a state from the server, in the sender's thread.
        clock: Monotonic seconds.
        reconciler: Makes what decides what is sent; called anew in the child of a fork.
        is_exiting: The program is ending, and nobody will flush it any more: each end is delivered before it goes on.
    """

    def __init__(
        self,
        connect: Connector,
        *,
        url: str | None = None,
        on_start: Callable[[], None] = lambda: None,
        on_fork: Callable[[], None] | None = None,
        on_error: Callable[[ProgressBarError], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        make_reconciler: Callable[[], Reconciler] = Reconciler,
        is_exiting: bool = False,
    ) -> None:
        self._connect = connect
        self.url = url
        self._on_start = on_start
        self._on_fork = self.reset if on_fork is None else on_fork
        self._pid = os.getpid()
        self._on_error = on_error
        self._clock = clock
        self._make_reconciler = make_reconciler
        self._reconciler = make_reconciler()
        self._delivery: Delivery | None = None
        self._inherited_deliveries: object = None
        self._added_sources: deque[Source] = deque()
        # Bounded, for the thread may hang or be gone. A mark that is lost costs no more than an interval.
        self.ended_sources: deque[Source] = deque(maxlen=MAX_ITEMS)
        self._flushes: deque[_FlushRequest] = deque()
        self._pending_flushes: list[_FlushRequest] = []
        self._deadline: float | None = None
        self._warned_at: dict[str, float] = {}
        self.closed = False
        self.is_exiting = is_exiting
        self._setup_error: str | None = None  # the setting or the key that cannot be used, in words
        self._setup_error_at = 0.0  # when that was last seen
        self._is_offline = False  # somebody waited for the server in vain
        self._worker = Worker("progressbar-sender", self.step, self._has_new_input)

    def __repr__(self) -> str:
        return f"Sender({self._reconciler.stats!r})"

    def add(self, source: Source) -> None:
        """Take a run in. Returns at once: one append, and the start of the thread if it does not run."""
        self._check_process()
        if self.closed or self._reconciler.disabled_reason is not None:
            return
        if len(self._added_sources) >= MAX_ITEMS:
            self._reconciler.stats.dropped += 1
            return
        self._added_sources.append(source)
        if self._worker.needs_start:
            if self._worker.start(quiet=self.is_exiting):
                self._on_start()
            elif is_threadless():
                self._reconciler.disable("this uWSGI runs no threads")
                self._added_sources.clear()
                log(WARNING, "Progress is not reported: this uWSGI runs no threads unless it has --enable-threads")

    @property
    def is_busy(self) -> bool:
        """Whether there is anything that a flush could be about."""
        return self._has_new_input() or len(self._reconciler) > 0

    @property
    def is_ready(self) -> bool:
        """Whether it has all that it needs to ask the server, or has found that there is none to ask."""
        return (
            self._delivery is not None or self._setup_error is not None or self._reconciler.disabled_reason is not None
        )

    def stats(self) -> Stats:
        """Return the counts so far."""
        return self._reconciler.stats

    def flush(self, timeout: float) -> bool:
        """Wait until the server has every state reached by now.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            Whether it has; false when the time was up or there is no server.
        """
        self._check_process()
        return self._run_flush(_FlushRequest(None, is_final=False), timeout)

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            self._on_fork()

    def _run_flush(self, request: _FlushRequest, timeout: float) -> bool:
        self._flushes.append(request)
        if self._worker.start(quiet=self.is_exiting):
            self._worker.wake()
            self._wait_for_flush(request, timeout)
        else:
            self._flush_without_thread(request, timeout)
        request.done.set()  # nobody waits any more, and the thread may forget it
        with contextlib.suppress(ValueError):
            self._flushes.remove(request)
        return request.succeeded

    def _wait_for_flush(self, request: _FlushRequest, timeout: float) -> None:
        # In short waits. A Ctrl-C ends a wait that it finds in progress, and one that comes in the moment before, or is
        # taken by another thread, is noticed when the wait is over.
        end = self._clock() + timeout
        while not request.done.is_set() and (left := end - self._clock()) > 0:
            request.done.wait(min(POLL_INTERVAL, left))

    def flush_if_online(self) -> bool:
        """Flush, but wait for no server that did not answer the last time it was waited for."""
        if self._is_offline or self._reconciler.backoff.failure_count:
            return False
        if self.is_exiting:
            self._deadline = (
                self._clock() + EXIT_TIMEOUT
            )  # of the requests too, if no thread can be started to make them
            reached = self._run_flush(_FlushRequest(None, is_final=True), EXIT_TIMEOUT)
            self._is_offline = not reached
            return reached
        reached = self.flush(EXIT_TIMEOUT)
        if not reached and not self.is_ready and not self._reconciler.backoff.failure_count:
            reached = self.flush(STARTUP_TIMEOUT)  # on a busy machine; the server has not been asked anything yet
        self._is_offline = not reached
        return reached

    def close(self, timeout: float | None = None) -> bool:
        """Flush, then stop. Idempotent.

        Args:
            timeout: Seconds to wait at most; by default 1.5, or 0.3 when the server is known to be away.

        Returns:
            Whether the server has everything.
        """
        return self.shut_down(None, timeout)

    def shut_down(self, finalize: Callable[[Source], None] | None, timeout: float | None = None) -> bool:
        """Close, after ``finalize`` has had its say about each run."""
        if self.closed:
            return True
        self._check_process()
        reached = True
        if self.is_busy:
            if timeout is None:
                timeout = OFFLINE_EXIT_TIMEOUT if self._reconciler.backoff.failure_count else EXIT_TIMEOUT
            timeout -= min(THREAD_JOIN_TIMEOUT, timeout / 2)  # the thread has that long to leave
            self._deadline = self._clock() + timeout
            reached = self._run_flush(_FlushRequest(finalize, is_final=True), timeout)
        self.closed = True
        self._worker.stop(THREAD_JOIN_TIMEOUT)
        if self._delivery is not None:
            self._delivery.close()
        if not reached and self._setup_error is None and self._reconciler.disabled_reason is None:
            log(WARNING, "The last state of %d items did not reach the server", len(self._reconciler))
        return reached

    def reset(self) -> None:
        """Start empty in the child of a fork: the runs, the thread and the connection are the parent's."""
        self._pid = os.getpid()
        self._added_sources = deque()
        self.ended_sources = deque(maxlen=MAX_ITEMS)
        self._flushes = deque()
        self._pending_flushes = []
        # Out of use, but never finalized: that would close the connection, or complain that nobody had.
        self._inherited_deliveries, self._delivery = (self._inherited_deliveries, self._delivery), None
        self._reconciler.forget_all()
        self._reconciler = self._make_reconciler()
        self._worker.reset()

    def step(self) -> float | None:
        """Do what is due. Return the seconds until the next step, or ``None`` when nothing is left to do."""
        reconciler = self._reconciler
        self._drain_inputs(self._clock())
        now = self._clock()
        if now >= reconciler.backoff.not_before and len(reconciler):
            steps = reconciler.plan(now)
            if steps:
                self._send(steps)
        for warning in reconciler.warnings:
            self._warn(warning.kind, warning.text)
        reconciler.warnings.clear()
        self._complete_flushes()
        if self._added_sources or self.ended_sources or self._flushes:
            return 0.0
        wake_at = reconciler.get_wake_at()
        return None if wake_at is None else min(max(wake_at - self._clock(), MIN_THREAD_SLEEP), POLL_INTERVAL)

    def _has_new_input(self) -> bool:
        return bool(self._added_sources or self.ended_sources or self._flushes or self._pending_flushes)

    def _drain_inputs(self, now: float) -> None:
        reconciler = self._reconciler
        # The flushes first: what was handed in before one of them is there by then, and must be a part of it.
        flushes: list[_FlushRequest] = []
        with contextlib.suppress(IndexError):  # who gave up waiting takes his own out
            while self._flushes:
                flushes.append(self._flushes.popleft())
        # Bounded by what is there now: others append meanwhile.
        for _ in range(len(self._added_sources)):
            reconciler.add(self._added_sources.popleft(), now)
        for _ in range(len(self.ended_sources)):
            reconciler.mark_ended(self.ended_sources.popleft(), now)
        for flush in flushes:
            if flush.finalize is not None:
                reconciler.finalize_all(flush.finalize, now)
            flush.requested_at = now
            # What is wrong may have been mended meanwhile, and a look costs next to nothing.
            reconciler.make_due(now, is_final=flush.is_final or self._setup_error is not None)
            self._pending_flushes.append(flush)

    def _complete_flushes(self) -> None:
        reconciler = self._reconciler
        for flush in list(self._pending_flushes):
            at = flush.requested_at or 0.0
            if flush.done.is_set():  # nobody waited so long
                self._pending_flushes.remove(flush)
                continue
            reached = reconciler.disabled_reason is None and not reconciler.is_behind(at)
            # At the end of a program a server that is away is not waited for, and a setting that is wrong never.
            hopeless = (
                flush.is_final
                and reconciler.backoff.failure_count > 0
                and self._clock() >= at + OFFLINE_EXIT_TIMEOUT - THREAD_JOIN_TIMEOUT
            )
            wrong = self._setup_error is not None and self._setup_error_at >= at
            if reached or hopeless or wrong or reconciler.disabled_reason is not None:
                self._pending_flushes.remove(flush)
                flush.succeeded = reached
                flush.done.set()

    def _flush_without_thread(self, request: _FlushRequest, timeout: float) -> None:
        # No thread can be started, as at the end of an interpreter: the caller does the work itself.
        end = self._clock() + timeout
        while not request.done.is_set() and (left := end - self._clock()) > 0:
            try:
                delay = self.step()
            except Exception as error:  # noqa: BLE001 - not in the program's own thread
                log(ERROR, "Progress cannot be reported: %r", error)
                return
            if not request.done.is_set():
                request.done.wait(min(POLL_INTERVAL if delay is None else delay, left))

    def _send(self, steps: list[Step]) -> None:
        reconciler = self._reconciler
        try:
            if self._delivery is None:
                with importing:
                    self._delivery = self._connect()
                if self._delivery is None:
                    reconciler.disable("no server is configured")
                    return
                if self.closed:  # meanwhile, when there was nothing to close yet
                    self._delivery.close()
                    return
                # Connecting took its time, imports and all. A state that is older than its arrival would look to the
                # server like a slow beginning and a fast loop.
                reconciler.reschedule(steps, self._clock())
                steps = reconciler.plan(self._clock())
                if not steps:
                    return
            results = self._delivery([step.op for step in steps], self._compute_timeout())
            if len(results) != len(steps):
                raise TransportError(f"{len(steps)} operations have {len(results)} results")
        except BaseException as error:
            # Whatever it is, it passes or does not: what was under way is not forgotten, and tried again.
            self._process_failure(steps, error if isinstance(error, ProgressBarError) else _wrap_unexpected(error))
            if not isinstance(error, Exception):
                raise
        else:
            self._is_offline, self._setup_error = False, None
            if reconciler.backoff.failure_count:
                self._warned_at.clear()
                log(INFO, "Progress is reported again")
            reconciler.unbatched = self._delivery.unbatched
            reconciler.apply(steps, results, self._clock(), boot_id=self._delivery.boot_id)

    def _process_failure(self, steps: list[Step], error: ProgressBarError) -> None:
        """Draw the consequences of an answer that was of no use."""
        reconciler, now = self._reconciler, self._clock()
        again, self._setup_error, self._setup_error_at = self._setup_error == str(error), None, now
        if isinstance(error, ConfigError):
            # The variable or the file may be mended while the program runs.
            self._setup_error = str(error)
            reconciler.back_off(steps, now, str(error))
            self._warn("config", f"Progress is not reported: {error}", once=True)
        elif isinstance(error, PermissionError):
            self._setup_error = str(error)
            reconciler.pause(steps, now + KEY_POLL_INTERVAL, str(error))
            source = "" if self._delivery is None else self._delivery.key_source
            self._warn("key", f"Progress is not reported, the server refuses the key ({source}): {error}", once=True)
        elif isinstance(error, ResponseError) and error.status_code in (400, 413, 422):
            reconciler.halve_batch(steps, str(error))
        elif isinstance(error, ResponseError):
            transient = error.status_code in (408, 429) or error.status_code >= 500
            wait, slower = error.retry_after if transient else WRONG_SERVER_DELAY, error.status_code == 429
            reconciler.back_off(steps, now, str(error), retry_after=wait, slow_down=slower)
            self._warn("answer", f"Progress cannot be reported at the moment: {error}")
        else:
            reconciler.back_off(steps, now, str(error))
            self._warn("network", f"Progress cannot be reported at the moment: {error}")
        if not again:
            with contextlib.suppress(Exception):  # a user's callback may raise whatever it likes
                self._on_error(error)

    def _compute_timeout(self) -> float:
        return (
            REQUEST_TIMEOUT
            if self._deadline is None
            else min(REQUEST_TIMEOUT, max(self._deadline - self._clock(), 0.05))
        )

    def _warn(self, kind: str, message: str, *, once: bool = False) -> None:
        # The first of a kind at once, then one a minute: a program that runs for a week with its server away shall
        # not fill the disk. Of a setting that is wrong, another line says nothing new.
        now = self._clock()
        if now >= self._warned_at.get(kind, -WARNING_INTERVAL) + WARNING_INTERVAL:
            self._warned_at[kind] = math.inf if once else now
            log(WARNING, "%s", message)


def _wrap_unexpected(error: BaseException) -> TransportError:
    made = TransportError(f"the request failed: {format_value(error, 300)}")
    made.__cause__ = error
    return made
