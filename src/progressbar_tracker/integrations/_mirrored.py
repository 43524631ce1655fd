"""Runs that read the count of a third-party object, with the user's labels.

``tqdm.py`` does the same for tqdm's bars. The object is only read, never changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, TypeVar

from progressbar_tracker._tracking.creation import create_run
from progressbar_tracker._tracking.mirror import Mirror

M = TypeVar("M", bound=Mirror)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from progressbar_tracker._models import StuckAfter
    from progressbar_tracker._tracking.creation import HasSender
    from progressbar_tracker._tracking.deadline import DeadlineLike

    class TaskLabels(TypedDict, total=False):
        """The keywords of ``track()`` that describe the items of all tasks."""

        group: str | None
        weight: int
        keep: bool
        notify: str | Sequence[str] | None
        deadline: DeadlineLike | None
        stuck_after: StuckAfter
        interval: float
        client: HasSender | None

    class Labels(TaskLabels, total=False):
        """The keywords of ``track()`` that describe an item, not its progress."""

        id: str | None
        title: str | None


def make_mirror(labels: Labels, *, title: str, unit: str = "it") -> Mirror:
    """Return a run that has not started. Arguments and errors are those of ``make_run``."""
    return make_run(Mirror, labels, title=title, unit=unit)


def make_run(kind: type[M], labels: Labels, *, title: str | None, unit: str = "it") -> M:
    """Return a run of a class that has not started.

    Args:
        kind: The class.
        labels: The user's labels.
        title: Default title; ``None`` for the place in the program.
        unit: Unit of the counts.

    Raises:
        TypeError, ValueError: As in ``track()``.
    """
    known_labels = {"id", "title", "group", "weight", "keep", "notify", "deadline", "stuck_after", "interval", "client"}
    if unknown := sorted(set(labels) - known_labels):
        raise TypeError(f"unknown arguments: {', '.join(unknown)}; known: {', '.join(sorted(known_labels))}")
    run = create_run(kind, unit=unit, **labels)
    run.has_own_title = run.title is not None
    if not run.has_own_title:
        run.title = title
    return run
