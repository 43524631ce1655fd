"""Loops of other libraries' bars that end before their next item, when the stop of their run is requested.

Under ``run --stoppable`` these are the outermost loops whose source a hook can replace. A bar that the program updates
itself is not stoppable: nothing would end, and the server refuses the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from progressbar_tracker._runtime import are_loops_stoppable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from progressbar_tracker._tracking.mirror import Mirror
    from progressbar_tracker._tracking.stop import StopSwitch


def allow_stop(run: Mirror | None) -> StopSwitch | None:
    """Return the switch of the run of a loop that begins; ``None`` if the loop is not stoppable."""
    if run is None or run.status != "running":
        return None
    if run.stop is None and run.parent is None and are_loops_stoppable():
        from progressbar_tracker._tracking.run import make_switch

        run.stop = make_switch("end")
    return run.stop


def wrap_iterator(run: Mirror | None, source: Iterator[Any]) -> Iterator[Any]:
    """Return the iterator of a loop that begins, which ends when its stop is requested."""
    stop = allow_stop(run)
    if run is None or stop is None:
        return source
    from progressbar_tracker._tracking.stop import is_gate

    return source if is_gate(source) else stop.wrap_iterator(source, run)


def wrap_iterable(run: Mirror | None, source: Any) -> Any:
    """Return the iterable of a bar, whose loops end when the stop of its run is requested."""
    stop = allow_stop(run)
    if run is None or stop is None:
        return source
    from progressbar_tracker._tracking.stop import unwrap_iterable

    return stop.make_stoppable(unwrap_iterable(source), run)
