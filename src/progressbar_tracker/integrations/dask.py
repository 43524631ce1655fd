"""dask: a callback that reports the progress of each ``compute()`` of a local scheduler.

    from progressbar_tracker.integrations.dask import TrackCallback

    with TrackCallback(id="sums"):
        array.sum().compute()

    TrackCallback().register()  # for every later compute()

``dask.distributed`` does not call callbacks: loop over ``track(as_completed(futures), total=len(futures))``. An
alternative is tqdm's callback: ``tqdm.dask.TqdmCallback(tqdm_class=progressbar_tracker.tqdm.tqdm)``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ._packages import require_package

with require_package("dask"):
    from dask.callbacks import Callback

from progressbar_tracker._tracking.mirror import Reading, find_user_frame, start_mirror
from progressbar_tracker._tracking.run import classify_error

from ._mirrored import make_mirror

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from progressbar_tracker._tracking.mirror import Mirror

    from ._mirrored import Labels

__all__ = ["TrackCallback"]


class TrackCallback(Callback):
    """Reports each computation in tasks of its graph. An exception fails the item, with its text.

    Args:
        **labels: ``id``, ``title``, ``group``, ``weight``, ``keep``, ``notify``, ``deadline``,
            ``stuck_after``, ``interval`` and ``client`` of ``track()``. The default title is ``"dask"``.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> import dask
        >>> with TrackCallback(id="sums"):
        ...     dask.delayed(sum)([1, 2]).compute(scheduler="sync")
        3
    """

    def __init__(self, **labels: Unpack[Labels]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._labels = labels
        self._runs: dict[int, Mirror] = {}  # by id() of the computation's state
        make_mirror(labels, title="dask")  # validates the labels

    def _start_state(self, dsk: Mapping[Any, Any], state: Mapping[str, Any]) -> None:  # noqa: ARG002 - dask's signature
        finished = state["finished"]  # a set that dask extends
        total = sum(len(state[name]) for name in ("ready", "waiting", "running", "finished"))
        run = self._runs[id(state)] = make_mirror(self._labels, title="dask")
        frame = find_user_frame(sys._getframe(1), "dask")
        start_mirror(run, frame, lambda: Reading(len(finished), total, None, "", unit="tasks"))

    def _finish(self, dsk: Mapping[Any, Any], state: Mapping[str, Any], errored: bool) -> None:  # noqa: ARG002
        run = self._runs.pop(id(state), None)
        if run is None:
            return  # the computation failed before its start
        error = sys.exception()
        if not errored:
            run.end("succeeded")
        elif error is not None:
            run.end(*classify_error(error))
        else:
            run.end("failed")
