"""A run that shows a neighbour's own count: made, begun where the user's code is, and read by the sender.

What ``tqdm.py`` does for tqdm's bars, for those of others. Nothing is asked of them but to be read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from progressbar_tracker._mirror import Mirror
from progressbar_tracker._tracker import labelled_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from progressbar_tracker._mirror import Reading
    from progressbar_tracker._run import Run
    from progressbar_tracker._tracker import HasSender

    class Labels(TypedDict, total=False):
        """The keywords of ``track()`` that say what an item is, and not how far."""

        id: str | None
        title: str | None
        group: str | None
        weight: int
        keep: bool
        interval: float
        client: HasSender | None


def mirrored(labels: Labels, *, title: str, unit: str = "it") -> Mirror:
    """Return a run that is not begun yet.

    Args:
        labels: The user's.
        title: What to call it where the user does not say.
        unit: What is counted.

    Raises:
        TypeError, ValueError: As ``track()``.
    """
    known = {"id", "title", "group", "weight", "keep", "interval", "client"}
    if unknown := sorted(set(labels) - known):
        raise TypeError(f"unknown arguments: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    given: Labels = {"id": None, "title": None, "group": None, "weight": 0, "keep": False, "client": None, **labels}
    run = labelled_run(Mirror, unit=unit, **given)
    run.named = run.title is not None
    if not run.named:
        run.title = title
    return run


def begin(run: Mirror, frame: FrameType, read: Callable[[], Reading | None], *, parent: Run | None = None) -> None:
    """Show what ``read`` returns from now on.

    Args:
        run: A run that is not begun yet.
        frame: A frame of the user's code.
        read: See ``Mirror.read``. Called in the sender's thread: it takes no lock that anybody works under.
        parent: The run it is inside of, where that is another than this thread's.
    """
    run.read = read
    run.look()
    run.begin(frame, in_block=False)
    if parent is not None:
        run.parent = parent
    if run.sender is not None:
        run.sender.add(run)


def users(frame: FrameType | None, *packages: str) -> FrameType:
    """Return the innermost frame that is neither of these packages' nor of this one's."""
    here = frame
    while here is not None and here.f_back is not None:
        if here.f_globals.get("__name__", "").partition(".")[0] not in (*packages, "progressbar_tracker"):
            break
        here = here.f_back
    assert here is not None
    return here
