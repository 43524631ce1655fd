"""The background sender: asks the reconciler for the operations that the server lacks, and delivers them.

A program's thread never waits for the sender and takes none of its locks: a run and its end are added by
``deque.append``. One request is in flight at a time. The sender does not know HTTP: ``connect`` returns a delivery,
with configuration, connections and TLS. It is called in the sender's thread when there is something to send.

A response that is not from a progress server (a redirect, HTML) backs off for a minute. It does not end the
reporting: a laptop meets the sign-in page of a train or hotel for a few minutes, and its loop may run for days.

The only permanent failure is that no server is configured. An invalid setting is read again at each attempt. A refused
key is not sent again; the delivery reads another one from the same source.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from progressbar_tracker._clock import read_clock
from progressbar_tracker._errors import (
    FOREIGN_REPLY_CODE,
    ConfigError,
    PermissionError,
    ProgressBarError,
    ResponseError,
    TransportError,
)
from progressbar_tracker._fork import importing
from progressbar_tracker._log import ERROR, log
from progressbar_tracker._models import format_value

from .failure_log import FailureLog, add_hint
from .reconciler import MAX_ITEMS, Reconciler
from .snapshot import add_times
from .worker import Worker, is_threadless

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from progressbar_tracker._models import Op, OpResult

    from .failure_log import Scope
    from .snapshot import Source
    from .stats import Stats
    from .step import Step

    Connector: TypeAlias = Callable[[], "Delivery | None"]

    class Delivery(Protocol):
        """Carries operations to the server."""

        def __call__(self, ops: Sequence[Op], timeout: float, /) -> Sequence[OpResult]:
            """Deliver operations and return one result for each; ``timeout`` is in seconds for each phase.

            Raises:
                ProgressBarError: There was no usable response.
            """

        @property
        def unbatched(self) -> bool:
            """Whether each operation is a request, so that there should be few."""

        @property
        def boot_id(self) -> str:
            """Changes when the server restarts; ``""`` if unknown. The server is asked when an item has vanished."""

        @property
        def key_source(self) -> str:
            """Where the key comes from, for a log line."""

        def close(self) -> None:
            """Close the connections that only this delivery uses. Idempotent."""


POLL_INTERVAL: Final = 0.1  # seconds between two checks for ended runs
REQUEST_TIMEOUT: Final = 5.0  # seconds for a phase of a request
EXIT_TIMEOUT: Final = 1.5  # seconds that the end of a program waits at most
STARTUP_TIMEOUT: Final = 5.0  # further seconds for connecting, with all its imports
OFFLINE_EXIT_TIMEOUT: Final = 0.3  # seconds in place of EXIT_TIMEOUT while requests fail
MIN_THREAD_SLEEP: Final = 0.001  # seconds; lets a program thread that waits for the GIL have it
THREAD_JOIN_TIMEOUT: Final = 0.1  # seconds for the thread to end if no request is in flight
WRONG_SERVER_DELAY: Final = 60.0  # seconds between attempts while another kind of server answers
MANY_ITEMS_MESSAGE: Final = f"Some items are not reported: a program may have {MAX_ITEMS} at a time"
KEY_POLL_INTERVAL: Final = 2.0  # seconds between two reads of the key while the server refuses it


class _FlushRequest:
    """A thread waits until the server has the present states."""

    __slots__ = ("done", "finalize", "is_final", "requested_at", "succeeded")

    def __init__(self, finalize: Callable[[Source], None] | None, *, is_final: bool) -> None:
        self.finalize = finalize  # decides the end of each run first
        self.is_final = is_final  # the last one: the server is tried once more in spite of a back-off
        self.done = threading.Event()
        self.succeeded = False
        self.requested_at: float | None = None


class Sender:
    """Keeps one server up to date about the runs of this process.

    Args:
        connect: Returns a delivery, or ``None`` if no server is configured; raises ``ConfigError`` if the configuration
            cannot be used. Called in the sender's thread, until it returns.
        url: The server's URL, if it is known before connecting.
        find_url: Reads it from the configuration, for links.
        on_start: Called in the program's thread after each start of the sender's thread.
        on_fork: Called in a child process that was forked without Python's hooks, as by uWSGI. It has to reset this
            sender and everything else that a fork breaks.
        on_error: Called in the sender's thread with each error that keeps a state from the server.
        announce: Called with the first failure of each cause, see ``FailureLog``.
        clock: Seconds of the clock of runs.
        make_reconciler: Called again in the child of a fork.
        is_exiting: The exit hooks already run and no flush will follow: each end is flushed at once.
    """

    def __init__(
        self,
        connect: Connector,
        *,
        url: str | None = None,
        find_url: Callable[[], str | None] = lambda: None,
        on_start: Callable[[], None] = lambda: None,
        on_fork: Callable[[], None] | None = None,
        on_error: Callable[[ProgressBarError], None] = lambda _: None,
        announce: Callable[[str, str, Scope], None] = lambda *_: None,
        clock: Callable[[], float] = read_clock,
        make_reconciler: Callable[[], Reconciler] = Reconciler,
        is_exiting: bool = False,
    ) -> None:
        self._connect = connect
        self.url = url
        self._find_url = find_url
        self._server_url: str | None = None
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
        # Bounded, because the thread may hang or be gone. A lost entry delays the end by one interval at most.
        self.ended_sources: deque[Source] = deque(maxlen=MAX_ITEMS)
        self._flushes: deque[_FlushRequest] = deque()
        self._is_draining = False  # a source is neither in its queue nor in the reconciler
        self._pending_flushes: list[_FlushRequest] = []
        self._deadline: float | None = None
        self._failures = FailureLog(announce, clock)
        self._has_dropped = False  # runs since the latest step
        self.closed = False
        self.is_exiting = is_exiting
        self._setup_error: str | None = None  # why a setting or the key cannot be used
        self._setup_error_at = 0.0  # the latest instant of that error
        self._is_offline = False  # the last flush of flush_if_online() timed out
        self._worker = Worker("progressbar-sender", self.step, self._has_new_input)

    def __repr__(self) -> str:
        return f"Sender({self._reconciler.stats!r})"

    def add(self, source: Source) -> None:
        """Track a run. Does not wait: one append, and the start of the thread if it does not run."""
        self._check_process()
        if self.closed or self._reconciler.disabled_reason is not None:
            return
        if len(self._added_sources) >= MAX_ITEMS:
            self._reconciler.stats.dropped += 1
            self._has_dropped = True
            return
        self._added_sources.append(source)
        if self._worker.needs_start:
            if self._worker.start(quiet=True):
                self._on_start()
            elif is_threadless():
                self._reconciler.disable("this uWSGI runs no threads")
                self._added_sources.clear()
                self._failures.report(
                    "threads", "Progress is not reported: this uWSGI runs no threads unless it has --enable-threads"
                )
            elif self._worker.start_error and not self.is_exiting:
                self._failures.report(
                    "threads", f"Progress is not reported, because no thread can be started: {self._worker.start_error}"
                )

    @property
    def server_url(self) -> str | None:
        """The base URL of the server, or ``None`` without one. The first access may read the configuration."""
        if self._server_url is None:
            self._server_url = self.url or self._find_url() or ""
        return self._server_url or None

    @property
    def is_busy(self) -> bool:
        """Whether a flush would have work."""
        # In this order: a source is in the queue, then being added, then known.
        return self._has_new_input() or self._is_draining or len(self._reconciler) > 0

    @property
    def is_ready(self) -> bool:
        """Whether connecting is over, with a connection or an error."""
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
            Whether the server has them; false after a timeout or without a server.
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
        request.done.set()  # this thread waits no longer: the sender's thread may drop the request
        with contextlib.suppress(ValueError):
            self._flushes.remove(request)
        return request.succeeded

    def _wait_for_flush(self, request: _FlushRequest, timeout: float) -> None:
        # In short waits. Ctrl-C ends a wait in progress. A Ctrl-C just before a wait, or in another thread, is noticed
        # when the wait is over.
        end = self._clock() + timeout
        while not request.done.is_set() and (left := end - self._clock()) > 0:
            request.done.wait(min(POLL_INTERVAL, left))

    def flush_if_online(self) -> bool:
        """Flush, unless the last such flush timed out or requests fail at present."""
        if self._is_offline or self._reconciler.backoff.failure_count:
            return False
        if self.is_exiting:
            # The deadline bounds the requests too: this thread makes them if no thread can be started.
            self._deadline = self._clock() + EXIT_TIMEOUT
            reached = self._run_flush(_FlushRequest(None, is_final=True), EXIT_TIMEOUT)
        else:
            reached = self.flush(EXIT_TIMEOUT)
            if not reached and not self.is_ready and not self._reconciler.backoff.failure_count:
                reached = self.flush(STARTUP_TIMEOUT)  # a busy machine still imports: no request was made yet
        self._is_offline = not reached
        return reached

    def close(self, timeout: float | None = None) -> bool:
        """Flush, then stop. Idempotent.

        Args:
            timeout: Seconds to wait at most; by default 1.5, or 0.3 while requests fail.

        Returns:
            Whether the server has everything.
        """
        return self.shut_down(None, timeout)

    def shut_down(self, finalize: Callable[[Source], None] | None, timeout: float | None = None) -> bool:
        """Close, after ``finalize`` has decided the end of each run."""
        if self.closed:
            return True
        self._check_process()
        reached = True
        if self.is_busy:
            if timeout is None:
                timeout = OFFLINE_EXIT_TIMEOUT if self._reconciler.backoff.failure_count else EXIT_TIMEOUT
            timeout -= min(THREAD_JOIN_TIMEOUT, timeout / 2)  # reserved for the join below
            self._deadline = self._clock() + timeout
            reached = self._run_flush(_FlushRequest(finalize, is_final=True), timeout)
        self.closed = True
        self._worker.stop(THREAD_JOIN_TIMEOUT)
        if self._delivery is not None:
            self._delivery.close()
        is_complete = reached or self._reconciler.disabled_reason is not None
        self._failures.close(0 if is_complete else max(len(self._reconciler), 1))
        return reached

    def reset(self) -> None:
        """Empty the sender in the child of a fork: the runs, the thread and the connection belong to the parent."""
        self._pid = os.getpid()
        self._added_sources = deque()
        self.ended_sources = deque(maxlen=MAX_ITEMS)
        self._flushes = deque()
        self._pending_flushes = []
        self._is_draining = False
        # Kept, because a finalizer would close the parent's connection, or warn that it is not closed.
        self._inherited_deliveries, self._delivery = (self._inherited_deliveries, self._delivery), None
        self._reconciler.forget_all()
        self._reconciler = self._make_reconciler()
        self._failures.reset()
        self._worker.reset()

    def step(self) -> float | None:
        """Do the work that is due. Return the seconds until the next step, or ``None`` if no work is left."""
        reconciler = self._reconciler
        self._drain_inputs(self._clock())
        now = self._clock()
        if now >= reconciler.backoff.not_before and len(reconciler):
            steps = reconciler.plan(now)
            if steps:
                self._send(steps)
        self._report_items()
        self._complete_flushes()
        if self._added_sources or self.ended_sources or self._flushes:
            return 0.0
        wake_at = reconciler.get_wake_at()
        return None if wake_at is None else min(max(wake_at - self._clock(), MIN_THREAD_SLEEP), POLL_INTERVAL)

    def _report_items(self) -> None:
        reconciler = self._reconciler
        for cause, text in reconciler.warnings:
            self._failures.report(cause, text, "item")
        reconciler.warnings.clear()
        for cause in reconciler.closed_causes:
            self._failures.close_cause(cause)
        reconciler.closed_causes.clear()
        if self._has_dropped:
            self._has_dropped = False
            self._failures.report("many", MANY_ITEMS_MESSAGE, "item")

    def _has_new_input(self) -> bool:
        return bool(self._added_sources or self.ended_sources or self._flushes or self._pending_flushes)

    def _drain_inputs(self, now: float) -> None:
        self._is_draining = True
        try:
            self._add_inputs(now)
        finally:
            self._is_draining = False

    def _add_inputs(self, now: float) -> None:
        reconciler = self._reconciler
        # The flushes first: a flush covers every run that was added before it.
        flushes: list[_FlushRequest] = []
        with contextlib.suppress(IndexError):  # a thread whose wait timed out removes its own request
            while self._flushes:
                flushes.append(self._flushes.popleft())
        # The present lengths, because other threads append meanwhile.
        for _ in range(len(self._added_sources)):
            reconciler.add(self._added_sources.popleft(), now)
        for _ in range(len(self.ended_sources)):
            reconciler.mark_ended(self.ended_sources.popleft(), now)
        for flush in flushes:
            if flush.finalize is not None:
                reconciler.finalize_all(flush.finalize, now)
            flush.requested_at = now
            # A wrong setting may be corrected by now, and reading it again is cheap.
            reconciler.make_due(now, is_final=flush.is_final or self._setup_error is not None)
            self._pending_flushes.append(flush)

    def _complete_flushes(self) -> None:
        reconciler = self._reconciler
        for flush in list(self._pending_flushes):
            at = flush.requested_at or 0.0
            if flush.done.is_set():  # its wait timed out
                self._pending_flushes.remove(flush)
                continue
            reached = reconciler.disabled_reason is None and not reconciler.is_behind(at)
            # The end of a program does not wait for a server that is away. No flush waits after a wrong setting.
            is_offline = (
                flush.is_final
                and reconciler.backoff.failure_count > 0
                and self._clock() >= at + OFFLINE_EXIT_TIMEOUT - THREAD_JOIN_TIMEOUT
            )
            is_misconfigured = self._setup_error is not None and self._setup_error_at >= at
            if reached or is_offline or is_misconfigured or reconciler.disabled_reason is not None:
                self._pending_flushes.remove(flush)
                flush.succeeded = reached
                flush.done.set()

    def _flush_without_thread(self, request: _FlushRequest, timeout: float) -> None:
        # No thread can be started, as at the end of an interpreter: the calling thread does the work.
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
                if self.closed:  # close() ran meanwhile, and had no delivery to close
                    self._delivery.close()
                    return
                # Connecting took a while. Sample again: from a state that is older than its arrival, the server would
                # compute a slow start and a fast loop.
                reconciler.reschedule(steps, self._clock())
                steps = reconciler.plan(self._clock())
                if not steps:
                    return
            now = self._clock()  # one instant for the batch, a new one for each attempt
            for step in steps:
                if step.snapshot is not None:
                    add_times(step.op, step.record.source, step.snapshot, now)
            results = self._delivery([step.op for step in steps], self._compute_timeout())
            if len(results) != len(steps):
                raise TransportError(f"{len(steps)} operations have {len(results)} results")
        except BaseException as error:
            # The steps are kept and tried again, whatever the error is.
            self._process_failure(steps, error if isinstance(error, ProgressBarError) else _wrap_unexpected(error))
            if not isinstance(error, Exception):
                raise
        else:
            self._is_offline, self._setup_error = False, None
            self._failures.record_success()
            reconciler.unbatched = self._delivery.unbatched
            reconciler.apply(steps, results, self._clock(), boot_id=self._delivery.boot_id)

    def _process_failure(self, steps: list[Step], error: ProgressBarError) -> None:
        reconciler, now = self._reconciler, self._clock()
        is_known = self._setup_error == str(error)
        self._setup_error, self._setup_error_at = None, now
        is_transient = isinstance(error, ResponseError) and (
            error.status_code in (408, 429) or error.status_code >= 500
        )
        if isinstance(error, ConfigError):
            # A person may correct the variable or the file while the program runs.
            self._setup_error = str(error)
            reconciler.back_off(steps, now, str(error))
            self._failures.report("config", add_hint(f"Progress is not reported: {error}"))
        elif isinstance(error, ResponseError) and error.code == FOREIGN_REPLY_CODE:
            reconciler.back_off(
                steps, now, str(error), retry_after=error.retry_after if is_transient else WRONG_SERVER_DELAY
            )
            self._failures.report("foreign", add_hint(f"Progress is not reported at the moment: {error}"))
        elif isinstance(error, PermissionError):
            self._setup_error = str(error)
            reconciler.pause(steps, now + KEY_POLL_INTERVAL, str(error))
            source = "" if self._delivery is None else self._delivery.key_source
            text = f"Progress is not reported, the server refuses the key ({source}): {error}"
            self._failures.report("key", add_hint(text))
        elif isinstance(error, ResponseError) and error.status_code in (400, 413, 422):
            reconciler.halve_batch(steps, str(error))
        elif isinstance(error, ResponseError):
            wait = error.retry_after if is_transient else WRONG_SERVER_DELAY
            reconciler.back_off(steps, now, str(error), retry_after=wait, slow_down=error.status_code == 429)
            cause = "outage" if is_transient else "answer"
            self._failures.report(cause, add_hint(f"Progress cannot be reported at the moment: {error}"))
        else:
            reconciler.back_off(steps, now, str(error))
            self._failures.report("outage", add_hint(f"Progress cannot be reported at the moment: {error}"))
        if not is_known:
            with contextlib.suppress(Exception):  # a user's callback may raise anything
                self._on_error(error)

    def _compute_timeout(self) -> float:
        if self._deadline is None:
            return REQUEST_TIMEOUT
        return min(REQUEST_TIMEOUT, max(self._deadline - self._clock(), 0.05))


def _wrap_unexpected(error: BaseException) -> TransportError:
    wrapped = TransportError(f"the request failed: {format_value(error, 300)}")
    wrapped.__cause__ = error
    return wrapped
