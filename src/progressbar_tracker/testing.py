"""For the tests of programs that use ``track()``: what would have been told to the server, without one.

    >>> from progressbar_tracker import track
    >>> with recording() as recorded:
    ...     for row in track([1, 2, 3], id="import"):
    ...         pass
    >>> recorded["import"].status, recorded["import"].completed
    ('succeeded', 3)

No thread is started and nothing is sent: the state of a run is read when it is asked for, so a test waits for nothing.
Unlike a server, the record also has the runs that are too short to cost a request.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from . import _runtime
from ._sender.sender import Sender

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ._models import Number, Status
    from ._sender.snapshot import Source

__all__ = ["RecordedRun", "Recording", "recording"]


class RecordedRun(NamedTuple):
    """The state of one run when it was asked for. The fields are those of the server's items."""

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


class _RecordingSender(Sender):
    """Takes runs in and sends nothing."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self.sources: list[Source] = []

    def add(self, source: Source) -> None:
        self.sources.append(source)

    def flush(self, timeout: float) -> bool:  # noqa: ARG002 - there is nothing to wait for
        return True


class Recording:
    """What was tracked, in the order in which it began. Index it with an id for the newest run of that id."""

    def __init__(self) -> None:
        self.sender: Sender = _RecordingSender()
        """For ``track(client=recording)``."""

    @property
    def runs(self) -> list[RecordedRun]:
        """Every run so far."""
        assert isinstance(self.sender, _RecordingSender)
        return [_record_run(source) for source in self.sender.sources]

    def __getitem__(self, item_id: str) -> RecordedRun:
        """Return the newest run of an id.

        Raises:
            KeyError: There is none; the message lists what there is.
        """
        runs = self.runs
        for run in reversed(runs):
            if run.id == item_id:
                return run
        raise KeyError(f"{item_id!r} was not tracked; there is {[run.id for run in runs]}")

    def __contains__(self, item_id: object) -> bool:
        return any(run.id == item_id for run in self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[RecordedRun]:
        return iter(self.runs)


def _record_run(source: Source) -> RecordedRun:
    snapshot, setting = source.sample(), source.get_static_fields()
    return RecordedRun(
        id=source.id,
        run_id=source.run_id,
        part=source.part,
        status=snapshot.status,
        completed=snapshot.completed,
        total=snapshot.total,
        unit=setting.unit,
        title=snapshot.title,
        description=snapshot.description,
        weight=snapshot.weight,
        error=snapshot.error,
        group=setting.group,
        parent=setting.parent,
        keep=source.keep,
        notify=setting.notify,
        deadline=setting.deadline,
    )


@contextlib.contextmanager
def recording() -> Iterator[Recording]:
    """Record what ``track()`` tells while the block runs, in place of the configured server.

    Trackers that are bound to a client of their own are not affected.
    """
    made = Recording()
    with _runtime.replace_sender(made.sender):
        yield made
