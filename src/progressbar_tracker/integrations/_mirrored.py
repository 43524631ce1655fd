"""A run that shows a neighbour's own count, with the labels that the user gave it.

What ``tqdm.py`` does for tqdm's bars, for those of others. Nothing is asked of them but to be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from progressbar_tracker._tracking.mirror import Mirror
from progressbar_tracker._tracking.tracker import create_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from progressbar_tracker._tracking.deadline import DeadlineLike
    from progressbar_tracker._tracking.tracker import HasSender

    class Labels(TypedDict, total=False):
        """The keywords of ``track()`` that say what an item is, and not how far."""

        id: str | None
        title: str | None
        group: str | None
        weight: int
        keep: bool
        notify: str | Sequence[str] | None
        deadline: DeadlineLike | None
        interval: float
        client: HasSender | None


def make_mirror(labels: Labels, *, title: str, unit: str = "it") -> Mirror:
    """Return a run that is not begun yet.

    Args:
        labels: The user's.
        title: What to call it where the user does not say.
        unit: What is counted.

    Raises:
        TypeError, ValueError: As ``track()``.
    """
    known = {"id", "title", "group", "weight", "keep", "notify", "deadline", "interval", "client"}
    if unknown := sorted(set(labels) - known):
        raise TypeError(f"unknown arguments: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    run = create_run(Mirror, unit=unit, **labels)
    run.has_own_title = run.title is not None
    if not run.has_own_title:
        run.title = title
    return run
