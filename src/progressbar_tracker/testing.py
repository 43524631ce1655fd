"""Test programs that use ``track()``: record the runs that would be sent, without a server.

    >>> from progressbar_tracker import track
    >>> with recording() as recorded:
    ...     for row in track([1, 2, 3], id="import"):
    ...         pass
    >>> recorded["import"].status, recorded["import"].completed
    ('succeeded', 3)

No thread is started and no request is sent. The state of a run is read on access, so a test never waits. The record
also has runs that are too short to be sent to a server.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from . import _runtime
from ._sender.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._models import Number, Status, StuckAfter
    from ._sender.snapshot import Source

__all__ = ["RecordedRun", "Recording", "recording"]


class RecordedRun(NamedTuple):
    """The state of a run at the time of access. The fields are those of the server's items."""

    id: str
    run_id: str
    part: str | None
    status: Status
    completed: Number
    total: Number | None
    unit: str
    title: str
    description: str
    weight: int
    error: str | None
    group: str | None
    parent: str | None
    keep: bool
    notify: tuple[str, ...] = ()
    deadline: str | None = None
    stuck_after: StuckAfter = "auto"
    stoppable: bool = False
    duration_seconds: float | None = None  # None while the run is running


class _RecordingSender(Sender):
    """Collects runs and sends nothing."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.sources: list[Source] = []

    def add(self, source: Source) -> None:
        source.sample()  # the run of a short loop keeps no count unless it was read
        self.sources.append(source)

    def flush(self, timeout: float) -> bool:  # noqa: ARG002 - nothing is pending
        return True


class Recording:
    """The recorded runs in order of their start. Index it with an id to get the newest run of that id."""

    def __init__(self) -> None:
        self.sender: Sender = _RecordingSender()
        """For ``track(client=recording)``."""

    @property
    def runs(self) -> list[RecordedRun]:
        """All runs so far."""
        assert isinstance(self.sender, _RecordingSender)
        return [_record_run(source) for source in self.sender.sources]

    def __getitem__(self, item_id: str) -> RecordedRun:
        """Return the newest run of an id.

        Raises:
            KeyError: No run has this id; the message lists the ids.
        """
        runs = self.runs
        for run in reversed(runs):
            if run.id == item_id:
                return run
        raise KeyError(f"{item_id!r} was not tracked; tracked: {[run.id for run in runs]}")

    def request_stop(self, item_id: str, requested_by: str = "test") -> None:
        """Request the stop of the newest run of an id, as a server does. It has no effect unless the run is stoppable.

        Raises:
            KeyError: No run has this id.
        """
        assert isinstance(self.sender, _RecordingSender)
        source = next((source for source in reversed(self.sender.sources) if source.id == item_id), None)
        if source is None:
            raise KeyError(f"{item_id!r} was not tracked")
        source.receive_stop(requested_by)

    def __contains__(self, item_id: object) -> bool:
        return any(run.id == item_id for run in self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[RecordedRun]:
        return iter(self.runs)


def _record_run(source: Source) -> RecordedRun:
    snapshot, static_fields = source.sample(), source.get_static_fields()
    return RecordedRun(
        id=source.id,
        run_id=source.run_id,
        part=source.part,
        status=snapshot.status,
        completed=snapshot.completed,
        total=snapshot.total,
        unit=static_fields.unit if snapshot.unit is None else snapshot.unit,
        title=snapshot.title,
        description=snapshot.description,
        weight=snapshot.weight,
        error=snapshot.error,
        group=static_fields.group,
        parent=static_fields.parent,
        keep=source.keep,
        notify=static_fields.notify,
        deadline=static_fields.deadline,
        stuck_after=static_fields.stuck_after,
        stoppable=static_fields.stoppable,
        duration_seconds=None if source.ended_at is None else max(source.ended_at - source.started_at, 0.0),
    )


@contextlib.contextmanager
def recording() -> Iterator[Recording]:
    """Record the runs of ``track()`` while the block runs, instead of sending them to the configured server.

    Trackers with an explicit client are not affected.
    """
    record = Recording()
    with _runtime.replace_sender(record.sender):
        yield record
