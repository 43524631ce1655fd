"""Decide what the server lacks: a pure state machine over snapshots, with the clock passed in.

There is no queue of operations. Each run has a *desired* state, sampled from its tracker when it is sent, and an
*acknowledged* state; the next operation is the difference. A newer state replaces an older one that was never sent.
After a lost response the run is sampled again. Memory stays bounded while the server is away: one record per run.

    add -> [absent] --put--> [present] --patch...--> ended --delete--> gone
              |                  |  404: created again, at most 3 times
              |                  |  409: another run has taken the id over: no more requests
              ended before the first send: elided, no request

After a restart, which a new ``boot_id`` shows, the server always gets every item back. An item that vanishes again and
again from a running server was deleted by a person: it stays deleted.

All of this runs in the sender's thread. Trackers reach it only through two deques of the sender.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Final

from progressbar_tracker._models import format_value
from progressbar_tracker._text import clean_detail

from .backoff import Backoff, draw_uniform
from .results import list_notes, pass_stop
from .schedule import HEARTBEAT_INTERVAL, NO_BUCKET, URGENT_DUE, Record, Schedule
from .short_runs import ShortRuns
from .snapshot import EMPTY_SNAPSHOT, is_source_running, make_name
from .stats import Stats
from .step import StepMaker, withdraw_tail
from .tail_budget import TailBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from progressbar_tracker._models import OpResult

    from .snapshot import Source
    from .step import Step


SETTLE_DELAY: Final = 0.5  # seconds until a tentative end is sent: the process may die of an exception meanwhile
RESOURCE_RETRY_DELAY: Final = 1.0  # seconds until the next attempt after a lack of memory or of file descriptors
MAX_RECREATIONS: Final = 3  # times a vanished item is created again; after that a person deleted it
RECREATION_DELAY: Final = 5.0  # seconds between them
RECREATION_JITTER: Final = 0.5  # seconds over which the first are spread: a server that lost one item has lost them all
PART_RETRY_DELAY: Final = 0.25  # seconds until a part is sent again if its item does not exist yet
PART_RETRY_TIMEOUT: Final = 10.0  # seconds of retries after a part's end; the item's own process may be busy importing
MAX_RUNS_PER_PLAN: Final = 500  # runs sampled in one call; between two calls the program has the interpreter to itself
MAX_SUPERSEDED_RUNS: Final = 4  # ended runs of one id whose end is not sent yet
MAX_ITEMS: Final = 100_000
MAX_UNBATCHED_REQUESTS: Final = 10  # requests in a row, and about as many a second, if each operation is a request
MAX_FULL_RATE_RUNS: Final = 5000  # runs; beyond these all intervals grow, so that the sender's CPU time does not

POSTPONED_CAUSE: Final = "postponed"


class Reconciler:
    """Decides what is sent when.

    Args:
        uniform: A source of randomness with the arguments of ``random.uniform``.
        max_items: Runs known at once; the rest is not tracked, and counted as dropped.
        collect_meta: Returns the ``meta`` field of a new item: where the program runs.
    """

    def __init__(
        self,
        *,
        uniform: Callable[[float, float], float] = draw_uniform,
        max_items: int = MAX_ITEMS,
        collect_meta: Callable[[], dict[str, str]] = dict,
    ) -> None:
        self.stats = Stats()
        self.unbatched = False  # each operation is a request
        self.disabled_reason: str | None = None  # why nothing is sent to this server any more
        self.warnings: list[tuple[str, str]] = []  # cause and text; the sender reports and removes them
        self.closed_causes: list[str] = []  # of warnings that do not apply any more; the sender removes them
        self._postponed: set[Record] = set()  # their last write was refused for a while
        self._boot_id = ""
        self._uniform = uniform
        self.backoff = Backoff(uniform)
        self._max_items = max_items
        self._newest: dict[str, Record] = {}  # the newest run of each id, and of each part
        # Earlier runs of an id that a newer run has, whose end is not sent yet: by that id, the oldest first.
        self._superseded: dict[str, list[Record]] = {}
        self._schedule = Schedule()
        self._short_runs = ShortRuns()
        self._tails = TailBudget()
        self._steps = StepMaker(collect_meta, self._short_runs)
        self._suspect: Record | None = None  # the run whose sampling was last interrupted

    def __len__(self) -> int:
        return len(self._newest) + len(self._superseded)

    def add(self, source: Source, now: float) -> None:
        """Track a run. It is first sent after its ``first_send_delay``, unless it has ended by then."""
        if self.disabled_reason is not None:
            self.stats.dropped += 1
            return
        if len(self) >= self._max_items:
            self.stats.dropped += 1
            if not self.warnings or self.warnings[-1][0] != "many":
                self._warn("many", f"Some items are not reported: a program may have {self._max_items} at a time")
            return
        try:
            is_skippable = source.is_skippable
            if is_skippable and source.is_anonymous:  # no earlier run has its id
                self._elide(source)
                return
            name, delay = make_name(source), source.first_send_delay
        except BaseException as error:  # noqa: BLE001 - a program's own objects may raise anything: SystemExit, too
            self.stats.dropped += 1
            self._warn_unserializable(error)
            return
        earlier = self._newest.get(name)
        if earlier is None and is_skippable:
            self._elide(source)  # it ended before the thread saw it: a short loop costs next to nothing
            return
        # The id is used again before the end of the earlier run was sent. A run that needs no request is dropped; any
        # other is ended first, in the same request.
        is_unseen = earlier is not None and earlier.acknowledged is None and not earlier.create_sent
        if earlier is not None and is_unseen and (is_source_running(earlier.source) or earlier.source.is_skippable):
            self._elide(earlier.source)
            self._forget(earlier)
        elif earlier is not None and is_source_running(earlier.source):
            self._drop(earlier)
            self._warn("twice", f"item {source.id!r} is tracked twice at the same time: the newer run is shown")
        elif earlier is not None:
            superseded = self._superseded.setdefault(name, [])
            superseded.append(earlier)
            if len(superseded) > MAX_SUPERSEDED_RUNS:
                self._drop(superseded[0])
            earlier.hold_until = earlier.ended_at = now  # now or never, see _select_oldest()
            self._schedule.put(earlier, URGENT_DUE)
        record = Record(source, now)
        if source.part is not None:
            # A worker that repeats the part of a killed one needs higher sequence numbers than that one had.
            record.seq = time.time_ns() // 1_000_000
            record.acknowledged = EMPTY_SNAPSHOT
        source.record = record
        self._newest[name] = record
        self._schedule.put(record, now + delay)

    def mark_ended(self, source: Source, now: float) -> None:
        """Schedule the end of a run before everything else."""
        record = source.record
        if isinstance(record, Record) and record.ended_at is None:
            record.ended_at = now
            self._schedule.put(record, now + SETTLE_DELAY if source.is_tentative else URGENT_DUE)

    def finalize_all(self, finalize: Callable[[Source], None], now: float) -> None:
        """Decide the end of every run by ``finalize``, because the program ends."""
        for record in self._list_records():
            try:
                finalize(record.source)
            except BaseException as error:  # noqa: BLE001 - see add()
                self._drop(record)
                self._warn_unserializable(error)
            else:
                self.mark_ended(record.source, now)

    def make_due(self, now: float, *, is_final: bool = False) -> None:
        """Make every run due unless it is held, for a flush.

        Args:
            now: The instant.
            is_final: The last flush: held runs and a server in back-off are tried once more.
        """
        if is_final:
            self.backoff.not_before = min(self.backoff.not_before, now)
        for record in self._list_records():
            if is_final:
                record.hold_until = min(record.hold_until, now)
            if record.hold_until <= now:
                self._schedule.put(record, now if record.ended_at is None else URGENT_DUE)

    def plan(self, now: float) -> list[Step]:
        """Return the operations to send now, ended runs first."""
        steps: list[Step] = []
        # Each run is sampled less often if there are many of them, or if each operation is a request: the CPU time of
        # the sender and the number of requests are bounded.
        stretch = max(1.0, len(self) / (MAX_UNBATCHED_REQUESTS if self.unbatched else MAX_FULL_RATE_RUNS))
        limit = MAX_UNBATCHED_REQUESTS if self.unbatched else self.backoff.batch_limit - 1
        interval_factor = self.backoff.interval_factor
        in_flight: set[Record] = set()
        self._tails.start_plan()
        for _ in range(MAX_RUNS_PER_PLAN):
            is_full = len(steps) >= limit or self._tails.is_spent
            if is_full or (record := self._schedule.pop_due(now)) is None:
                break
            if record.hold_until > now:
                self._schedule.put(record, record.hold_until)
                continue
            if self._superseded:
                record = self._select_oldest(record, in_flight)
                in_flight.add(record)
            try:
                self._plan_record(record, steps, now)
            except BaseException as error:  # noqa: BLE001 - see add()
                # A lack of memory or of file descriptors passes, and so does an exception that a debugger injects.
                is_injected = not isinstance(error, Exception) and self._suspect is not record
                if is_injected or isinstance(error, OSError | MemoryError):
                    self._suspect = record
                    self._schedule.put(record, now + RESOURCE_RETRY_DELAY)
                    continue
                self._drop(record)
                self._warn_unserializable(error)
            if record.ended_at is None and record.source.record is record:
                interval = record.source.interval
                wait = interval * stretch
                if stretch < interval_factor:
                    wait = max(wait, min(interval * interval_factor, HEARTBEAT_INTERVAL))
                self._schedule.put(record, now + wait)
        return steps

    def _select_oldest(self, record: Record, in_flight: set[Record]) -> Record:
        """Return the oldest run of the id that is not in flight; ``record`` itself is due again after it.

        The order in the schedule does not matter here: the server would take a run that arrives late for the newest.
        """
        for superseded in self._superseded.get(make_name(record.source), ()):
            if superseded is record:
                break
            if superseded not in in_flight:
                superseded.bucket = NO_BUCKET
                self._schedule.put(record, URGENT_DUE)
                return superseded
        return record

    def _plan_record(self, record: Record, steps: list[Step], now: float) -> None:
        """Append the operations that the server lacks of ``record``."""
        source = record.source
        snapshot = source.sample(record.acknowledged)
        is_running = snapshot.status == "running"
        tail = None if self.unbatched else self._tails.read(record, now, is_running=is_running)
        is_behind = tail is not None or (self._short_runs.is_behind(record) and not self.unbatched)
        if (
            snapshot is record.acknowledged
            and is_running
            and not is_behind
            and now < record.answered_at + record.heartbeat_interval
        ):
            record.synced_at = now  # the common case: nothing has changed
            return
        if not is_running and record.ended_at is None:
            record.ended_at = now
            if source.is_tentative:
                self._schedule.put(record, now + SETTLE_DELAY)
                return
        stays_listed = source.keep or snapshot.status == "failed" or source.part is not None
        if record.acknowledged is None:
            if not is_running and source.is_skippable and not record.create_sent:
                self._elide(source)
                self._forget(record)
                return
            if source.is_hidden and not record.create_sent:
                record.synced_at = now  # a flush does not wait for it
                return
            record.create_sent = True
            steps.append(self._steps.make(record, "put", snapshot, now, tail))
        elif (
            is_behind
            or (snapshot is not record.acknowledged and snapshot != record.acknowledged)
            or (is_running and now >= record.answered_at + record.heartbeat_interval)
        ):
            steps.append(self._steps.make(record, "patch", snapshot, now, tail))
        elif not is_running and stays_listed:
            self._forget(record)
        elif is_running:
            record.synced_at = now
        if not is_running and not stays_listed:
            steps.append(self._steps.make(record, "delete", None, now))

    def _list_records(self) -> list[Record]:
        return [*itertools.chain.from_iterable(self._superseded.values()), *self._newest.values()]

    def apply(self, steps: Sequence[Step], results: Iterable[OpResult], now: float, *, boot_id: str = "") -> None:
        """Process the response of the server.

        Args:
            steps: The operations in flight.
            results: One for each step.
            now: The instant.
            boot_id: Changes when the server restarts; ``""`` if it is not known.
        """
        if boot_id and boot_id != self._boot_id:
            if self._boot_id:  # the server has restarted: items have vanished without being deleted by a person
                for record in self._list_records():
                    record.recreations = 0
            self._boot_id = boot_id
        self.stats.requests += 1
        self.backoff.record_success(now)
        postponed: set[Record] = set()
        for step, result in zip(steps, results, strict=True):
            record, status = step.record, result["status"]
            if record.is_forgotten or (step.verb == "delete" and status in (404, 410) and record in postponed):
                continue  # the item has not vanished: it was not created yet
            record.answered_at = now
            if 200 <= status < 300 or (step.verb == "delete" and status in (404, 410)):
                self.stats.sent += 1
                self._acknowledge(step)
                self._close_postponed(record)
                self._warn_of_result(record, result)
                pass_stop(record, result)
                continue
            detail = clean_detail((result.get("problem") or {}).get("detail"))
            name = f"item {record.source.id!r}"
            if record.source.part is not None and status == 404:
                # The item's own process has not created it yet, or never will.
                if record.ended_at is not None and now > record.ended_at + PART_RETRY_TIMEOUT:
                    self._drop(record)
                else:
                    self._hold(record, now + PART_RETRY_DELAY)
            elif status in (404, 410):
                record.acknowledged = None
                record.tail_version = 0
                record.recreations += 1
                if record.recreations > MAX_RECREATIONS:
                    self._drop(record)
                    self._warn("vanished", f"{name} keeps vanishing from the server: it is not created again")
                elif record.recreations > 1:
                    self._hold(record, now + RECREATION_DELAY)
                else:
                    # Soon, because the server has most likely restarted. An end is sent at once: now or never.
                    is_live = record.ended_at is None
                    self._hold(record, now + self._uniform(0.0, RECREATION_JITTER) if is_live else now)
            elif status == 409:
                self._drop(record)
                self._warn("superseded", f"{name} is not updated any more: {detail or 'another run has taken it over'}")
            elif status in (408, 429) or status >= 500:
                postponed.add(record)
                self._postponed.add(record)
                self._hold(record, now + self._uniform(0.5, 1.5) * RECREATION_DELAY)
                reason = detail or "no reason given"
                self._warn(POSTPONED_CAUSE, f"{name} cannot be reported at the moment ({status}): {reason}")
            elif withdraw_tail(step):  # the run itself may be accepted
                self._hold(record, now)
                self._warn(
                    "refused-tail", f"the output of {name} was refused ({status}): {detail or 'no reason given'}"
                )
            else:
                self._drop(record)
                self._warn(f"refused-{status}", f"{name} was refused ({status}): {detail or 'no reason given'}")

    def _close_postponed(self, record: Record) -> None:
        if record in self._postponed:
            self._postponed.discard(record)
            if not self._postponed:
                self.closed_causes.append(POSTPONED_CAUSE)

    def _warn_of_result(self, record: Record, result: OpResult) -> None:
        """Report what the server has accepted with a reservation, such as the name of an unknown channel."""
        for detail in list_notes(result):
            # One line for each text: two unknown channels are two causes.
            self._warn(f"note-{detail}", f"item {record.source.id!r}: {detail}")

    def reschedule(self, steps: Sequence[Step], now: float) -> None:
        """Make the runs of unsent steps due again; each is sampled again."""
        for step in steps:
            self._schedule.put(step.record, URGENT_DUE if step.record.ended_at is not None else now)

    def back_off(
        self,
        steps: Sequence[Step],
        now: float,
        reason: str,
        *,
        retry_after: float | None = None,
        slow_down: bool = False,
    ) -> None:
        """Delay all requests after one without a usable response. The runs are sampled again at the next attempt.

        Args:
            steps: The operations in flight.
            now: The instant.
            reason: The failure as text.
            retry_after: Least seconds until the next request.
            slow_down: Double the intervals, because the server asked for fewer requests.
        """
        self._count_failure(steps, reason)
        self.backoff.record_failure(now, retry_after=retry_after, slow_down=slow_down)
        # One request probes whether the server is back; the failed runs are due after it.
        self.reschedule(steps, now)

    def _count_failure(self, steps: Sequence[Step], reason: str) -> None:
        self.stats.failed += 1
        self.stats.requests += 1
        self.stats.coalesced += len(steps)
        self.stats.last_error = reason

    def halve_batch(self, steps: Sequence[Step], reason: str) -> None:
        """Send half as much after a request was refused as a whole, for its size or for one of its operations.

        When the refused operation is alone in its request, its run is given up.
        """
        self.stats.requests += 1
        if len({step.record for step in steps}) > 1:
            self.backoff.halve_batch(len(steps))
            for step in steps:
                self._schedule.put(step.record, URGENT_DUE)
            return
        withdrawn = [withdraw_tail(step) for step in steps]
        if any(withdrawn):
            for step in steps:
                self._schedule.put(step.record, URGENT_DUE)
            self._warn("refused-tail", f"the output of item {steps[0].record.source.id!r} is not sent: {reason}")
            return
        for step in steps:
            if not step.record.is_forgotten:
                self._drop(step.record)
        if steps:
            self._warn("refused", f"item {steps[0].record.source.id!r} was given up: {reason}")

    def pause(self, steps: Sequence[Step], until: float, reason: str) -> None:
        """Send nothing until the instant ``until``, because the server refuses the key. Another key is read then."""
        if self.backoff.failure_count:
            self.stats.last_error = reason  # no request was made: the same key is not sent again
        else:
            self._count_failure(steps, reason)
        self.backoff.pause(until)
        self.reschedule(steps, until)

    def disable(self, reason: str) -> None:
        """Forget every run and accept no more, because nothing can be sent."""
        self.disabled_reason = self.stats.last_error = reason
        self.stats.dropped += len(self)
        self.forget_all()

    def forget_all(self) -> None:
        """Forget every run, and clear its ``record``: its further states are not sent."""
        for record in self._list_records():
            record.source.record = None
        self._newest.clear()
        self._superseded.clear()
        self._postponed.clear()
        self._schedule = Schedule()
        self._short_runs.clear()

    def is_behind(self, since: float) -> bool:
        """Return whether the server may lack a state that was reached before the instant ``since``."""
        return any(record.synced_at < since for record in self._list_records())

    def get_wake_at(self) -> float | None:
        """Return the monotonic instant at which a run is due, or ``None``."""
        due = self._schedule.peek()
        return None if due is None or not len(self) else max(self.backoff.not_before, due)

    def _warn_unserializable(self, error: BaseException) -> None:
        self._warn("unserializable", f"an item was given up, its state cannot be serialized: {format_value(error)}")

    def _warn(self, kind: str, text: str) -> None:
        self.warnings.append((kind, text))

    def _acknowledge(self, step: Step) -> None:
        record = step.record
        if step.verb == "delete":
            self._forget(record)
            return
        record.acknowledged = step.snapshot
        record.synced_at = step.sampled_at
        record.tail_version = step.tail_version or record.tail_version
        self._short_runs.acknowledge(step.op, record)
        snapshot, source = step.snapshot, record.source
        if snapshot is None or snapshot.status == "running":
            return
        if source.keep or snapshot.status == "failed" or source.part is not None:
            self._forget(record)

    def _hold(self, record: Record, until: float) -> None:
        if self._newest.get(make_name(record.source)) is not record:
            self._drop(record)  # a newer run has the id; the server would take this one for the newest
            return
        record.hold_until = until
        self._schedule.put(record, until)

    def _elide(self, source: Source) -> None:
        self.stats.elided += 1
        self._short_runs.add(source)

    def _drop(self, record: Record) -> None:
        self.stats.dropped += 1
        self._forget(record)

    def _forget(self, record: Record) -> None:
        self._short_runs.forget(record)
        if record.source.record is record:
            record.source.record = None
        self._postponed.discard(record)
        name = make_name(record.source)
        if self._newest.get(name) is record:
            del self._newest[name]
        elif record in (superseded := self._superseded.get(name, [])):
            superseded.remove(record)
            if not superseded:
                del self._superseded[name]
