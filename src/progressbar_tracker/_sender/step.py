"""One operation of a run: the difference between what the server has acknowledged and the present state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from .schedule import HEARTBEAT_INTERVAL, Record
from .snapshot import EMPTY_SNAPSHOT, Snapshot, add_changes, add_static_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker._models import Op

    from .short_runs import ShortRuns

MIN_HEARTBEAT_INTERVAL: Final = 1.0  # seconds

Verb: TypeAlias = Literal["put", "patch", "delete"]


class Step(NamedTuple):
    """One operation in flight."""

    record: Record
    verb: Verb
    snapshot: Snapshot | None
    op: Op
    sampled_at: float
    tail_version: int = 0  # of the tail in the operation; 0 without one


class StepMaker:
    """Makes the operations of all runs.

    Args:
        collect_meta: Returns the ``meta`` field of a new item: where the program runs.
        short_runs: The counts that operations carry.
    """

    def __init__(self, collect_meta: Callable[[], dict[str, str]], short_runs: ShortRuns) -> None:
        self._collect_meta = collect_meta
        self._short_runs = short_runs

    def make(self, record: Record, verb: Verb, snapshot: Snapshot | None, now: float, tail: str | None = None) -> Step:
        """Return the next operation of a run.

        Args:
            record: The run; the operation gets its next number.
            verb: The kind of the operation.
            snapshot: The present state; ``None`` for a delete.
            now: The instant of the state.
            tail: The output to send with it.
        """
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
            op["meta"] = self._collect_meta()
            fields = source.get_static_fields()
            add_static_fields(op, fields, source.interval)
            if fields.stuck_after is not None and fields.stuck_after != "auto":
                # The server finds at a heartbeat that the run is stuck.
                record.heartbeat_interval = min(HEARTBEAT_INTERVAL, max(fields.stuck_after / 4, MIN_HEARTBEAT_INTERVAL))
            op["title"], op["completed"] = snapshot.title, snapshot.completed if snapshot.is_counted else None
            add_changes(op, snapshot, EMPTY_SNAPSHOT)
        elif record.acknowledged is not None:
            add_changes(op, snapshot, record.acknowledged)
        self._short_runs.add_count(op, record)
        if tail is None or source.tail is None:
            return Step(record, verb, snapshot, op, now)
        op["tail"] = tail
        return Step(record, verb, snapshot, op, now, source.tail.version)


def withdraw_tail(step: Step) -> bool:
    """Send no more output of the run of a refused operation; return whether the operation had any."""
    if "tail" not in step.op:
        return False
    step.record.source.tail = None
    return True
