"""The state of a tracked run at an instant: how the sender reads it, and the fields of an operation that carry it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from progressbar_tracker._models import MAX_AGE_SECONDS

if TYPE_CHECKING:
    from progressbar_tracker._endings import FatalErrors
    from progressbar_tracker._models import Number, Op, Status, StuckAfter
    from progressbar_tracker._output_tail import OutputTail

    class Source(Protocol):
        """A tracked run, read from the sender's thread."""

        record: object  # the reconciler's book-keeping of the run
        started_at: float  # seconds of read_clock(), as the end
        ended_at: float | None
        tail: OutputTail | None  # the last lines of the output, if they are sent

        @property
        def parent(self) -> Source | None:
            """The run of this process that encloses it."""

        @property
        def id(self) -> str:
            """The item's id."""

        @property
        def is_anonymous(self) -> bool:
            """Whether the item has no id yet; its first use generates a unique one."""

        @property
        def run_id(self) -> str:
            """Unique to this run, in any process."""

        @property
        def part(self) -> str | None:
            """The name of this process's part of the item, or ``None`` for the item itself."""

        @property
        def interval(self) -> float:
            """Least seconds between two sends."""

        @property
        def keep(self) -> bool:
            """Whether the item stays listed after its end."""

        @property
        def is_tentative(self) -> bool:
            """Whether the end state may still change to failed."""

        @property
        def first_send_delay(self) -> float:
            """Seconds from the start of the run to its first send."""

        @property
        def is_hidden(self) -> bool:
            """Whether a run that was never sent is not sent for now."""

        @property
        def is_skippable(self) -> bool:
            """Whether an ended run that was never sent can be skipped."""

        def sample(self, before: Snapshot | None = None) -> Snapshot:
            """Return the state now, or ``before`` itself if it is unchanged."""

        def get_static_fields(self) -> StaticFields:
            """Return the fields that are sent once."""

        def receive_stop(self, requested_by: str) -> None:
            """Stop the run if it is stoppable, because the server passes on a request for it.

            Args:
                requested_by: The name of the requester.
            """

        def finalize(self, fatal_errors: FatalErrors) -> None:
            """Make the end state final, because the process ends now.

            Args:
                fatal_errors: The failure of each code object that a fatal exception came through; empty without one.
            """


class Snapshot(NamedTuple):
    """The state of a run at one instant: absolute, immutable, with the field names of the protocol.

    Attributes:
        unit: The name of a unit if the run learns it after its start; ``None`` for that of its ``StaticFields``.
        is_counted: Whether ``completed`` is known; the measurement of the speed starts when it becomes true.
    """

    title: str
    description: str
    completed: Number
    total: Number | None
    weight: int
    status: Status
    error: str | None
    unit: str | None = None
    is_counted: bool = True


class StaticFields(NamedTuple):
    """The fields of an item that are sent once, when it is created."""

    unit: str
    group: str | None
    parent: str | None
    notify: tuple[str, ...] = ()
    deadline: str | None = None
    stuck_after: StuckAfter = "auto"
    stoppable: bool = False


HEARTBEAT_TIMEOUT: Final = 60.0  # seconds of silence after which the server shows an item as stalled: four heartbeats

EMPTY_SNAPSHOT: Final = Snapshot("", "", 0, None, 0, "running", None)  # the server's defaults


def add_static_fields(op: Op, fields: StaticFields, interval: float) -> None:
    """Put the fields of a new item into ``op``; ``interval`` is that of its run, in seconds."""
    op["unit"] = fields.unit
    op["heartbeat_timeout"] = max(HEARTBEAT_TIMEOUT, 4 * interval)
    if fields.group is not None:
        op["group"] = fields.group
    if fields.parent is not None:
        op["parent"] = fields.parent
    if fields.notify:
        op["notify"] = list(fields.notify)
    if fields.deadline is not None:
        op["deadline"] = fields.deadline
    if fields.stuck_after != "auto":
        op["stuck_after"] = fields.stuck_after
    if fields.stoppable:
        op["stoppable"] = True


def add_times(op: Op, source: Source, snapshot: Snapshot, now: float) -> None:
    """Put the age of a run into ``op``, and its duration if it has ended, both from the clock of runs.

    Ages are durations, so the server needs no clock of the client. A part has an age of its own, and no duration.
    """
    started_at = source.started_at
    op["age_seconds"] = _clean_seconds(now - started_at)
    if snapshot.status != "running" and "part" not in op:
        ended_at = source.ended_at
        op["duration_seconds"] = _clean_seconds((now if ended_at is None else ended_at) - started_at)


def _clean_seconds(seconds: float) -> float:
    return round(min(max(seconds, 0.0), MAX_AGE_SECONDS), 3)


def add_changes(op: Op, new: Snapshot, old: Snapshot) -> None:
    """Put the fields into ``op`` that ``new`` changes. Unrolled, because it runs for each item at each send."""
    if new.completed != old.completed:
        op["completed"] = new.completed
    if new[:2] == old[:2] and new[3:] == old[3:]:
        return  # the common case
    if new.description != old.description:
        op["description"] = new.description
    if new.total != old.total:
        op["total"] = new.total
    if new.title != old.title:
        op["title"] = new.title
    if new.weight != old.weight:
        op["weight"] = new.weight
    if new.status != old.status:
        op["status"] = new.status
    if new.error != old.error:
        op["error"] = new.error
    if new.unit != old.unit:
        op["unit"] = new.unit
    if new.is_counted is not old.is_counted:
        op["completed"] = new.completed if new.is_counted else None


def make_name(source: Source) -> str:
    """Return the name of an item, or of a part of it, by which the sender knows it."""
    # An id has no control character, so this is not the name of another item.
    return source.id if source.part is None else f"{source.id}\n{source.part}"


def is_source_running(source: Source) -> bool:
    """Return whether a run has not ended, as far as it can be read."""
    try:
        return source.sample().status == "running"
    except BaseException:  # noqa: BLE001 - a program's own objects may raise anything
        return True
