"""scikit-learn: a callback that reports a search or another fit, by the callbacks of scikit-learn 1.9.

    from progressbar_tracker.integrations.sklearn import TrackCallback

    GridSearchCV(model, parameters, cv=5).set_callbacks(TrackCallback(id="search")).fit(x, y)

A search counts its fits, with the final refit. Every estimator with ``set_callbacks()`` works: a pipeline counts its
steps, and a solver its iterations. A solver that converges before its limit has succeeded.

Fits in other processes are counted, too: ``n_jobs`` may have any backend.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from ._packages import require_package

with require_package("sklearn", "scikit-learn"):
    import sklearn  # noqa: F401 - the error names the package

try:
    from sklearn.callback import _transport
except ImportError:  # an older or a later version: fits in other processes are not counted
    _transport = None

from ._training import Fit, log_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

    from ._training import FitOptions

__all__ = ["TrackCallback"]


class TrackCallback:
    """Reports the tasks of each fit of the estimator that has it as a callback, without those of inner estimators.

    Args:
        **options: ``id``, ``title``, ``group``, ``weight``, ``keep``, ``notify``, ``deadline``,
            ``stuck_after``, ``interval``, ``client`` and ``display`` of ``track()``. A terminal bar is drawn only if
            ``display`` is true.

    Raises:
        TypeError, ValueError: As in ``track()``.

    Example:
        >>> from sklearn.model_selection import GridSearchCV
        >>> from sklearn.linear_model import LogisticRegression
        >>> search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1, 10]}, cv=2)
        >>> search.set_callbacks(TrackCallback(id="search")).fit([[0], [1], [2], [3]], [0, 0, 1, 1]).n_splits_
        2
    """

    def __init__(self, **options: Unpack[FitOptions]) -> None:
        self._options = options
        Fit(options)  # validates the options
        self._trees: dict[object, _TaskTree] = {}  # by the fit, in its own process
        self._listeners: dict[object, Any] = {}  # by the fit, for the copies in other processes

    def __getstate__(self) -> dict[str, object]:
        return {"_options": self._options, "_listeners": self._listeners.copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._options, self._listeners, self._trees = state["_options"], state["_listeners"], {}

    @log_errors
    def setup(self, estimator: object, context: Any) -> None:
        """Start the item; scikit-learn calls this and the following methods."""
        tree = self._trees[context.root_uuid] = _TaskTree(Fit(self._options))
        unit = "fits" if hasattr(estimator, "_run_search") else "steps"
        tree.bars.start(f"Fit of {context.estimator_name}", None, unit=unit)
        if _transport is not None:
            self._listeners[context.root_uuid] = _transport.open_listener(tree.receive)

    @log_errors
    def on_fit_task_begin(self, estimator: object, context: Any) -> None:  # noqa: ARG002
        """Add the subtasks of a task to the total."""
        if context.max_subtasks != 0:
            self._send(context, has_ended=False)

    @log_errors
    def on_fit_task_end(self, estimator: object, context: Any) -> None:  # noqa: ARG002
        """Count a task without subtasks, unless an exception leaves it."""
        tree = self._trees.get(context.root_uuid)
        outer_error = None if tree is None else tree.outer_error
        if context.max_subtasks == 0 and sys.exception() in (None, outer_error):
            self._send(context, has_ended=True)

    @log_errors
    def teardown(self, estimator: object, context: Any) -> None:  # noqa: ARG002
        """End the item, with the exception that leaves the fit."""
        listener = self._listeners.pop(context.root_uuid, None)
        if listener is not None and _transport is not None:
            _transport.close_listener(listener)
        tree = self._trees.pop(context.root_uuid, None)
        if tree is not None:
            error = sys.exception()
            tree.end(None if error is tree.outer_error else error)

    def _send(self, context: Any, *, has_ended: bool) -> None:
        event = _TaskEvent(tuple(_list_task_ids(context))[::-1], context.max_subtasks, has_ended)
        if (tree := self._trees.get(context.root_uuid)) is not None:
            tree.receive(event)
        elif _transport is not None and context.root_uuid in self._listeners:
            _transport.send(self._listeners[context.root_uuid], event)


class _TaskEvent(NamedTuple):
    """The begin of a task with subtasks, or the end of one without.

    Attributes:
        path: The ids of the enclosing tasks and of the task, from the root.
        max_subtasks: The number of its subtasks; ``None`` if it is unknown.
    """

    path: tuple[int, ...]
    max_subtasks: int | None
    has_ended: bool


class _TaskTree:
    """The tasks of one fit.

    Attributes:
        outer_error: The exception that the program handles around the fit.
    """

    def __init__(self, bars: Fit) -> None:
        self.bars = bars
        self.outer_error = sys.exception()
        self._lock = threading.Lock()  # tasks end in threads, and their events arrive in threads
        self._max_subtasks: dict[tuple[int, ...], int | None] = {}
        self._completed = 0

    def receive(self, event: _TaskEvent) -> None:
        """Count an event, of this process or of another one."""
        with self._lock:
            if event.has_ended:
                self._completed += 1
                self.bars.set_position(self._completed)
            else:
                self._max_subtasks[event.path] = event.max_subtasks
            self.bars.set_total(self._compute_total())

    def _compute_total(self) -> int | None:
        """Return the number of tasks without subtasks. A task that has not begun counts as one."""
        total = 1
        for count in self._max_subtasks.values():
            if count is None:
                return None
            total += count - 1
        return total

    def end(self, error: BaseException | None) -> None:
        """End the item."""
        if error is None:
            self.bars.end(early=not self.bars.is_complete)
        else:
            self.bars.fail(error)


def _list_task_ids(context: Any) -> Iterator[int]:
    while context is not None:
        yield context.task_id
        context = context.parent
