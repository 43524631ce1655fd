"""What to tell the server next: a pure state machine over snapshots, with the clock passed in.

There is no queue of operations. Each run has a *desired* state, sampled from its tracker the moment it is sent, and an
*acknowledged* one; the next operation is the difference. A newer state replaces an older one that was never sent, a
lost answer is mended by sampling anew, and nothing grows while the server is away: at most one record for a run.

    add -> [absent] --put--> [present] --patch...--> ended --delete--> gone
              |                  |  404: created again, at most 3 times
              |                  |  409: another run has taken the id over: silent for good
              ended unseen: elided, no request

A vanished item: a server that was started anew, as its ``epoch`` tells, gets everything back, always; a person who
deletes an item again and again gets the last word.

The back-off is exponential with full jitter: ``uniform(0, min(cap, base * 2**failures))``, one line in ``lost()``. A
library's strategy would be no shorter here: tenacity's wants a retry state of its own kind to read the number of
failures from, and draws from the global ``random``. Tests could not inject theirs, and a program that has seeded it
for its own results would find its numbers changed.

Everything here runs in the sender's thread. Trackers reach it through two deques of the sender only.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from progressbar_tracker._models import format_value
from progressbar_tracker._text import clean_detail

from .schedule import NO_BUCKET, URGENT_DUE, Record, Schedule
from .snapshot import EMPTY_SNAPSHOT, Snapshot, add_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from progressbar_tracker._models import Op, OpResult

    from .snapshot import Source


MAX_BATCH_SIZE: Final = 500  # operations in one request
HEARTBEAT_INTERVAL: Final = 15.0  # seconds without a change after which a live run says that it lives
HEARTBEAT_TIMEOUT: Final = 60.0  # seconds of silence after which the server calls it stalled: four missed beats
SETTLE_DELAY: Final = 0.5  # seconds in which a loop that was left early may yet turn out to have died of an exception
RESOURCE_RETRY_DELAY: Final = (
    1.0  # seconds until a run is looked at again for which there was no memory or no file descriptor
)
MAX_RECREATIONS: Final = 3  # times an item that vanished is created again; after that a person deleted it
RECREATION_DELAY: Final = 5.0  # seconds between them
RECREATION_JITTER: Final = 0.5  # seconds over which the first are spread: who lost one item has lost them all
PART_RETRY_DELAY: Final = 0.25  # seconds until a part asks again for an item that is not there yet
PART_RETRY_TIMEOUT: Final = (
    10.0  # seconds in which it does so after its end; the item's own process may be busy importing
)
MAX_RUNS_PER_PLAN: Final = 500  # runs looked at in one go; between two the program has the interpreter to itself
BACKOFF_BASE: Final = 0.5  # seconds
BACKOFF_CAP: Final = 60.0
MAX_BACKOFF_EXPONENT: Final = 10  # 0.5 * 2**10 is beyond the cap; a larger exponent would overflow one day
INTERVAL_RECOVERY_SECONDS: Final = 60.0  # seconds of success after which intervals that were doubled shrink by a tenth
MAX_INTERVAL_FACTOR: Final = 64.0
MAX_SUPERSEDED_RUNS: Final = 4  # runs of one id that have ended without the server knowing
MAX_ITEMS: Final = 100_000
MAX_UNBATCHED_REQUESTS: Final = 10  # requests in a row, and about as many a second, where each operation is one
MAX_FULL_RATE_RUNS: Final = (
    5000  # runs; beyond these the interval of all grows, so that the sender's share of a core does not
)

Verb: TypeAlias = Literal["put", "patch", "delete"]


class Step(NamedTuple):
    """One operation that is under way."""

    record: Record
    verb: Verb
    snapshot: Snapshot | None
    op: Op
    sampled_at: float


class WarningMessage(NamedTuple):
    """Something that a person should be told of. One kind is told once a minute."""

    kind: str
    text: str


class Stats:
    """Counts since the start of a sender.

    Attributes:
        sent: Operations that the server acknowledged.
        coalesced: States that got no answer, and were replaced by a newer one.
        elided: Runs that began and ended without a request.
        dropped: Runs that were not tracked, for there were too many, and those given up.
        failed: Requests that had no usable answer.
        requests: Requests made.
        last_error: The latest failure in words, or ``None``.
    """

    __slots__ = ("coalesced", "dropped", "elided", "failed", "last_error", "requests", "sent")

    def __init__(self) -> None:
        self.sent = self.coalesced = self.elided = self.dropped = self.failed = self.requests = 0
        self.last_error: str | None = None

    def __repr__(self) -> str:
        return f"Stats({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


class Reconciler:
    """Decides what is sent when.

    Args:
        uniform: A source of randomness with the arguments of ``random.uniform``.
        max_items: Runs known at once; more are not tracked, and counted.
        meta: Where the program runs; told to the server with each new item.
    """

    def __init__(
        self,
        *,
        uniform: Callable[[float, float], float] | None = None,
        max_items: int = MAX_ITEMS,
        meta: Callable[[], dict[str, str]] = dict,
    ) -> None:
        self.stats = Stats()
        self.not_before = 0.0  # a monotonic instant: the back-off of the whole client
        self.failure_count = 0  # in a row
        self.unbatched = False  # each operation is a request
        self.disabled_reason: str | None = None  # the server does not want this client: why
        self.warnings: list[WarningMessage] = []  # whoever logs them takes them out
        self._boot_id = ""  # which life of the server answers
        self._interval_factor = 1.0  # how much longer the intervals are than they were asked to be
        self._factor_changed_at = 0.0
        self._uniform = _draw_uniform if uniform is None else uniform
        self._max_items = max_items
        self._meta = meta
        self._newest: dict[str, Record] = {}  # the newest run of each id, and of each part
        # Runs whose id a newer one has, and whose end the server was not told yet: by that id, the oldest first.
        self._superseded: dict[str, list[Record]] = {}
        self._schedule = Schedule()
        self._batch_limit = MAX_BATCH_SIZE
        self._suspect: Record | None = None  # the run in whose sampling the thread was last interrupted

    def __len__(self) -> int:
        return len(self._newest) + len(self._superseded)

    def add(self, source: Source, now: float) -> None:
        """Take a run in. It is first sent when its patience is over, unless it has ended by then."""
        if self.disabled_reason is not None or len(self) >= self._max_items:
            self.stats.dropped += 1
            return
        record = Record(source, now)
        try:
            name, patience, fleeting = _make_name(source), source.first_send_delay, source.is_skippable
        except BaseException as error:  # noqa: BLE001 - of whatever a program has made its bar of: SystemExit, too
            self.stats.dropped += 1
            self._warn_unserializable(error)
            return
        earlier = self._newest.get(name)
        if earlier is None and fleeting:
            self.stats.elided += 1  # over before it was looked at: a short loop costs next to nothing
            return
        # The same id again before the server was told of the end of the run before. What the server never saw is
        # dropped; what it saw is ended first, in the same request.
        if earlier is not None and earlier.acknowledged is None and not earlier.create_sent:
            self.stats.elided += 1
            self._forget(earlier)
        elif earlier is not None and _is_running(earlier.source):
            self._drop(earlier)
            self._warn("twice", f"item {source.id!r} is tracked twice at the same time: the newer run is shown")
        elif earlier is not None:
            former = self._superseded.setdefault(name, [])
            former.append(earlier)
            if len(former) > MAX_SUPERSEDED_RUNS:
                self._drop(former[0])
            earlier.hold_until = earlier.ended_at = now  # now or never, see _eldest()
            self._schedule.put(earlier, URGENT_DUE)
        if source.part is not None:
            # Who does a killed worker's share again has to be believed before it.
            record.seq = time.time_ns() // 1_000_000
            record.acknowledged = EMPTY_SNAPSHOT
        source.record = record
        self._newest[name] = record
        self._schedule.put(record, now + patience)

    def mark_ended(self, source: Source, now: float) -> None:
        """Note that a run has ended: its end goes before everything else."""
        record = source.record
        if isinstance(record, Record) and record.ended_at is None:
            record.ended_at = now
            self._schedule.put(record, now + SETTLE_DELAY if source.is_tentative else URGENT_DUE)

    def finalize_all(self, finalize: Callable[[Source], None], now: float) -> None:
        """Let ``finalize`` decide the end of every run: the program is ending."""
        for record in self._list_records():
            try:
                finalize(record.source)
            except BaseException as error:  # noqa: BLE001 - see add()
                self._drop(record)
                self._warn_unserializable(error)
            else:
                self.mark_ended(record.source, now)

    def make_due(self, now: float, *, is_final: bool = False) -> None:
        """Make everything due that is not held back by a back-off of its own: a flush.

        Args:
            now: The instant.
            is_final: Nothing comes after it: what is held back is tried once more, and so is the server.
        """
        if is_final:
            self.not_before = min(self.not_before, now)
        for record in self._list_records():
            if is_final:
                record.hold_until = min(record.hold_until, now)
            if record.hold_until <= now:
                self._schedule.put(record, now if record.ended_at is None else URGENT_DUE)

    def plan(self, now: float) -> list[Step]:
        """Return the operations to send now, ended runs first; empty when nothing is due."""
        steps: list[Step] = []
        # Many live runs share what the sender may cost, and a server that takes one operation a request what it may be
        # asked: each is looked at less often.
        stretch = max(1.0, len(self) / (MAX_UNBATCHED_REQUESTS if self.unbatched else MAX_FULL_RATE_RUNS))
        limit = MAX_UNBATCHED_REQUESTS if self.unbatched else self._batch_limit - 1
        under_way: set[Record] = set()
        for _ in range(MAX_RUNS_PER_PLAN):
            if len(steps) >= limit or (record := self._schedule.pop_due(now)) is None:
                break
            if record.hold_until > now:
                self._schedule.put(record, record.hold_until)
                continue
            if self._superseded:
                record = self._select_oldest(record, under_way)
                under_way.add(record)
            try:
                self._plan_record(record, steps, now)
            except BaseException as error:  # noqa: BLE001 - see add()
                # A want of memory or of file descriptors passes, and so does what a debugger throws into the thread.
                thrown = not isinstance(error, Exception) and self._suspect is not record
                if thrown or isinstance(error, OSError | MemoryError):
                    self._suspect = record
                    self._schedule.put(record, now + RESOURCE_RETRY_DELAY)
                    continue
                self._drop(record)
                self._warn_unserializable(error)
            if record.ended_at is None and record.source.record is record:
                interval = record.source.interval
                wait = interval * stretch
                if stretch < self._interval_factor:
                    wait = max(wait, min(interval * self._interval_factor, HEARTBEAT_INTERVAL))
                self._schedule.put(record, now + wait)
        return steps

    def _select_oldest(self, record: Record, under_way: set[Record]) -> Record:
        """Return the eldest run of the id that is not under way; ``record`` itself is due again after it.

        Whatever has become of the order in the agenda: the server would take a late run for the newest.
        """
        for former in self._superseded.get(_make_name(record.source), ()):
            if former is record:
                break
            if former not in under_way:
                former.bucket = NO_BUCKET
                self._schedule.put(record, URGENT_DUE)
                return former
        return record

    def _plan_record(self, record: Record, steps: list[Step], now: float) -> None:
        """Add what the server lacks of ``record`` to ``steps``."""
        source = record.source
        snapshot = source.sample(record.acknowledged)
        ended = snapshot.status != "running"
        if snapshot is record.acknowledged and not ended and now < record.answered_at + HEARTBEAT_INTERVAL:
            record.synced_at = now  # as nearly always: nothing has changed
            return
        if ended and record.ended_at is None:
            record.ended_at = now
            if source.is_tentative:
                self._schedule.put(record, now + SETTLE_DELAY)
                return
        lasting = source.keep or snapshot.status == "failed" or source.part is not None
        if record.acknowledged is None:
            if ended and source.is_skippable and not record.create_sent:
                self.stats.elided += 1
                self._forget(record)
                return
            record.create_sent = True
            steps.append(self._make_step(record, "put", snapshot, now))
        elif (snapshot is not record.acknowledged and snapshot != record.acknowledged) or (
            not ended and now >= record.answered_at + HEARTBEAT_INTERVAL
        ):
            steps.append(self._make_step(record, "patch", snapshot, now))
        elif ended and lasting:
            self._forget(record)
        elif not ended:
            record.synced_at = now
        if ended and not lasting:
            steps.append(self._make_step(record, "delete", None, now))

    def _make_step(self, record: Record, verb: Verb, snapshot: Snapshot | None, now: float) -> Step:
        source = record.source
        record.seq += 1
        op: Op = {"op": verb, "id": source.id, "run_id": source.run_id}
        if snapshot is None:
            return Step(record, verb, None, op, now)
        op["seq"] = record.seq
        if source.part is not None:
            op["part"] = source.part
            op["completed"] = snapshot.completed
        elif verb == "put":
            unit, group, parent, notify, deadline = source.get_static_fields()
            op["title"], op["completed"], op["unit"] = snapshot.title, snapshot.completed, unit
            op["heartbeat_timeout"] = max(HEARTBEAT_TIMEOUT, 4 * source.interval)
            op["meta"] = self._meta()
            if group is not None:
                op["group"] = group
            if parent is not None:
                op["parent"] = parent
            if notify:
                op["notify"] = list(notify)
            if deadline is not None:
                op["deadline"] = deadline
            add_changes(op, snapshot, EMPTY_SNAPSHOT)
        elif record.acknowledged is not None:
            add_changes(op, snapshot, record.acknowledged)
        return Step(record, verb, snapshot, op, now)

    def _list_records(self) -> list[Record]:
        return [*itertools.chain.from_iterable(self._superseded.values()), *self._newest.values()]

    def apply(self, steps: Sequence[Step], results: Iterable[OpResult], now: float, *, boot_id: str = "") -> None:
        """Take the server's answer in.

        Args:
            steps: What was under way.
            results: One for each step.
            now: The instant.
            boot_id: Which life of the server it is, where that is known.
        """
        if boot_id and boot_id != self._boot_id:
            if self._boot_id:  # it was another one before: whatever vanished, no person has deleted it
                for record in self._list_records():
                    record.recreations = 0
            self._boot_id = boot_id
        self.failure_count = 0
        self.not_before = 0.0
        self._batch_limit = MAX_BATCH_SIZE
        self.stats.requests += 1
        if self._interval_factor > 1.0 and now >= self._factor_changed_at + INTERVAL_RECOVERY_SECONDS:
            self._interval_factor, self._factor_changed_at = max(1.0, 0.9 * self._interval_factor), now
        put_off: set[Record] = set()
        for step, result in zip(steps, results, strict=True):
            record, status = step.record, result["status"]
            if record.is_forgotten or (step.verb == "delete" and status in (404, 410) and record in put_off):
                continue  # not gone from the server, but not there yet
            record.answered_at = now
            if 200 <= status < 300 or (step.verb == "delete" and status in (404, 410)):
                self.stats.sent += 1
                self._acknowledge(step)
                continue
            detail = clean_detail((result.get("problem") or {}).get("detail"))
            name = f"item {record.source.id!r}"
            if record.source.part is not None and status == 404:
                # The item's own process has not been heard yet. It will be; or else it was never to be.
                if record.ended_at is not None and now > record.ended_at + PART_RETRY_TIMEOUT:
                    self._drop(record)
                else:
                    self._hold(record, now + PART_RETRY_DELAY)
            elif status in (404, 410):
                record.acknowledged = None
                record.recreations += 1
                if record.recreations > MAX_RECREATIONS:
                    self._drop(record)
                    self._warn("vanished", f"{name} keeps vanishing from the server: it is left alone from here on")
                elif record.recreations > 1:
                    self._hold(record, now + RECREATION_DELAY)
                else:
                    # Soon, for the server was most likely started anew. An end, which is told now or never, at once.
                    live = record.ended_at is None
                    self._hold(record, now + self._uniform(0.0, RECREATION_JITTER) if live else now)
            elif status == 409:
                self._drop(record)
                self._warn("taken over", f"{name} is no longer ours: {detail or 'another run has taken it over'}")
            elif status in (408, 429) or status >= 500:
                put_off.add(record)
                self._hold(record, now + self._uniform(0.5, 1.5) * RECREATION_DELAY)
                self._warn("put off", f"{name} was put off ({status}): {detail or 'no reason given'}")
            else:
                self._drop(record)
                self._warn("refused", f"{name} was refused ({status}): {detail or 'no reason given'}")

    def reschedule(self, steps: Sequence[Step], now: float) -> None:
        """Take back steps that were not sent: their runs are due, and sampled anew."""
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
        """Take in that there was no usable answer: back off, and sample anew at the next attempt.

        Args:
            steps: What was under way.
            now: The instant.
            reason: Why, in words.
            retry_after: Seconds in which nothing at all is sent.
            slow_down: Whether the server asked for fewer requests: the intervals are doubled.
        """
        if slow_down:
            self._interval_factor, self._factor_changed_at = min(2 * self._interval_factor, MAX_INTERVAL_FACTOR), now
        self.stats.failed += 1
        self.stats.requests += 1
        self.stats.coalesced += len(steps)
        self.stats.last_error = reason
        self.failure_count += 1
        delay = self._uniform(
            0.0, min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(self.failure_count, MAX_BACKOFF_EXPONENT))
        )
        self.not_before = now + max(delay, retry_after or 0.0)
        # One request probes whether the server is back; what failed is due again when it may go.
        self.reschedule(steps, now)

    def halve_batch(self, steps: Sequence[Step], reason: str) -> None:
        """Take in that a request was refused as a whole, for its size or for one of its operations.

        Half as much is sent at once, until the operation that is refused is alone. Then it is given up.
        """
        self.stats.requests += 1
        if len({step.record for step in steps}) > 1:
            self._batch_limit = max(2, len(steps) // 2)
            for step in steps:
                self._schedule.put(step.record, URGENT_DUE)
            return
        for step in steps:
            if not step.record.is_forgotten:
                self._drop(step.record)
        if steps:
            self._warn("refused", f"item {steps[0].record.source.id!r} was given up: {reason}")

    def pause(self, steps: Sequence[Step], until: float, reason: str) -> None:
        """Take in that the server refuses the key: nothing is sent until the instant ``until``, when it is looked for.

        That is no back-off, which would grow with every look.
        """
        if not self.failure_count:
            self.stats.failed += 1
            self.stats.requests += 1
            self.stats.coalesced += len(steps)
        self.stats.last_error = reason
        self.failure_count = max(self.failure_count, 1)
        self.not_before = until
        self.reschedule(steps, until)

    def disable(self, reason: str) -> None:
        """Take in that the server does not want this client at all: nothing is sent any more."""
        self.disabled_reason = self.stats.last_error = reason
        self.stats.dropped += len(self)
        self.forget_all()

    def forget_all(self) -> None:
        """Forget all runs, and let them know it: what becomes of them is no longer told."""
        for record in self._list_records():
            record.source.record = None
        self._newest.clear()
        self._superseded.clear()
        self._schedule = Schedule()

    def is_behind(self, since: float) -> bool:
        """Say whether the server may lack a state that was reached before the instant ``since``."""
        return any(record.synced_at < since for record in self._list_records())

    def get_wake_at(self) -> float | None:
        """Return the monotonic instant at which something is due, or ``None``."""
        due = self._schedule.peek()
        return None if due is None or not len(self) else max(self.not_before, due)

    def _warn_unserializable(self, error: BaseException) -> None:
        self._warn("unfit", f"an item was given up, for its state cannot be told: {format_value(error)}")

    def _warn(self, kind: str, text: str) -> None:
        self.warnings.append(WarningMessage(kind, text))

    def _acknowledge(self, step: Step) -> None:
        record = step.record
        if step.verb == "delete":
            self._forget(record)
            return
        record.acknowledged = step.snapshot
        record.synced_at = step.sampled_at
        snapshot, source = step.snapshot, record.source
        if snapshot is None or snapshot.status == "running":
            return
        if source.keep or snapshot.status == "failed" or source.part is not None:
            self._forget(record)

    def _hold(self, record: Record, until: float) -> None:
        if self._newest.get(_make_name(record.source)) is not record:
            self._drop(record)  # a newer run has the id, and the server would take this one for the newest
            return
        record.hold_until = until
        self._schedule.put(record, until)

    def _drop(self, record: Record) -> None:
        self.stats.dropped += 1
        self._forget(record)

    def _forget(self, record: Record) -> None:
        if record.source.record is record:
            record.source.record = None
        name = _make_name(record.source)
        if self._newest.get(name) is record:
            del self._newest[name]
        elif record in (former := self._superseded.get(name, [])):
            former.remove(record)
            if not former:
                del self._superseded[name]


def _draw_uniform(low: float, high: float) -> float:
    # Without the module random, which takes long to import. It is made in the program's thread, which may have no
    # descriptor left for an import, or have seeded a generator of its own.
    return low + (high - low) * int.from_bytes(os.urandom(7), "big") / (1 << 56)


def _is_running(source: Source) -> bool:
    try:
        return source.sample().status == "running"
    except BaseException:  # noqa: BLE001 - see Reconciler.add()
        return True


def _make_name(source: Source) -> str:
    # No id has a control character, so this cannot be the name of another item.
    return source.id if source.part is None else f"{source.id}\n{source.part}"
