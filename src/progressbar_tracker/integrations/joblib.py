"""joblib: ``Parallel`` with a bar of completed tasks.

    from joblib import delayed
    from progressbar_tracker.integrations.joblib import Parallel

    results = Parallel(n_jobs=4, id="squares")(delayed(square)(n) for n in range(1000))

A ``Parallel`` that returns a generator works with ``track()``:

    for result in track(joblib.Parallel(n_jobs=4, return_as="generator_unordered")(tasks), total=1000):
        ...
"""

from __future__ import annotations

import dis
import inspect
import operator
import sys
import weakref
from collections.abc import Sized
from types import GeneratorType
from typing import TYPE_CHECKING, Any, Final

from ._packages import require_package

with require_package("joblib"):
    import joblib

from progressbar_tracker._models import format_value
from progressbar_tracker._tracking.mirror import Reading, start_mirror
from progressbar_tracker._tracking.run import classify_error

from ._mirrored import make_mirror

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from progressbar_tracker._models import Number, StuckAfter
    from progressbar_tracker._tracking.creation import HasSender
    from progressbar_tracker._tracking.deadline import DeadlineLike

    from ._mirrored import Labels

__all__ = ["Parallel"]


class Parallel(joblib.Parallel):
    """``joblib.Parallel`` with one bar for each call.

    The bar counts completed tasks, not dispatched ones, and each task of a batch.

    Args:
        *args: Arguments of ``joblib.Parallel``.
        total: Number of tasks; by default ``len()`` of the iterable. A generator expression has that of its source if
            it has one loop without a condition. Otherwise the total is known when joblib has dispatched the last task.
        id: The item's id; see ``track()`` for this and the following arguments.
        title: By default ``"Parallel"``.
        group: Heading on the dashboard.
        weight: Items with a higher weight are shown first.
        keep: Keep the item on the board after it has succeeded or stopped.
        notify: Names of the channels to notify.
        deadline: Instant after which the item is late.
        stuck_after: Seconds without progress after which the item is stuck.
        interval: Minimum seconds between two requests.
        client: A ``ProgressBar`` that replaces the configured server and key.
        **options: Options of ``joblib.Parallel``.

    Raises:
        TypeError, ValueError: As in ``track()``, or ``return_as`` is not ``"list"``.

    Example:
        >>> Parallel(n_jobs=1, id="absolute")([joblib.delayed(abs)(-2), joblib.delayed(abs)(1)])
        [2, 1]
    """

    def __init__(
        self,
        *args: Any,
        total: Number | None = None,
        id: str | None = None,
        title: str | None = None,
        group: str | None = None,
        weight: int = 0,
        keep: bool = False,
        notify: str | Sequence[str] | None = None,
        deadline: DeadlineLike | None = None,
        stuck_after: StuckAfter = "auto",
        interval: float = 0.5,
        client: HasSender | None = None,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        if self.return_generator:
            raise ValueError(
                f"return_as must be 'list', not {format_value(self.return_as)}: loop over "
                f"track(joblib.Parallel(...)(...))"
            )
        if total is not None and (isinstance(total, bool) or not isinstance(total, int | float)):
            raise TypeError(f"total must be a number, not {format_value(total)}")
        self._total = total
        self._labels: Labels = {
            "id": id, "title": title, "group": group, "weight": weight, "keep": keep, "notify": notify,
            "deadline": deadline, "stuck_after": stuck_after, "interval": interval, "client": client,
        }  # fmt: skip
        self._completed = 0
        make_mirror(self._labels, title="Parallel")  # validates the labels

    def __call__(self, iterable: Iterable[Any]) -> Any:
        """Run the tasks and return the list of their results."""
        total: Number | None = self._total
        if total is None:
            total = _count_tasks(iterable)
        run = make_mirror(self._labels, title="Parallel")
        self._completed = 0
        self_reference = weakref.ref(self)

        def read() -> Reading | None:
            parallel = self_reference()
            if parallel is None:
                return None
            count = parallel._count_dispatched() if total is None else total
            return Reading(parallel._completed, count, None, "", unit="tasks")

        start_mirror(run, sys._getframe(1), read)
        try:
            results = super().__call__(iterable)
        except BaseException as error:
            run.end(*classify_error(error))
            raise
        self._completed = len(results)  # joblib returns before it counts the last results
        run.end("succeeded")
        return results

    def _count_dispatched(self) -> int | None:
        """Return the number of all tasks once joblib has dispatched the last one."""
        is_known = getattr(self, "_original_iterator", self) is None and not getattr(self, "_iterating", True)
        return self.n_dispatched_tasks if is_known else None

    def print_progress(self) -> None:
        """Update the count; joblib calls this after each completed batch."""
        self._completed = self.n_completed_tasks
        super().print_progress()


def _count_tasks(iterable: Iterable[Any]) -> int | None:
    """Return the number of tasks if it is known without running the program's code.

    >>> _count_tasks([1, 2]), _count_tasks(n for n in range(3)), _count_tasks(n for n in range(3) if n)
    (2, 3, None)
    """
    if isinstance(iterable, Sized):
        return len(iterable)
    if not isinstance(iterable, GeneratorType) or inspect.getgeneratorstate(iterable) != inspect.GEN_CREATED:
        return None
    code = iterable.gi_code
    operations = [instruction.opname for instruction in dis.get_instructions(code)]
    has_condition = any("_IF_" in operation for operation in operations)  # also of the task's own arguments
    if code.co_name != "<genexpr>" or operations.count("FOR_ITER") != 1 or has_condition:
        return None
    assert iterable.gi_frame is not None  # it has not started
    source = iterable.gi_frame.f_locals[".0"]
    return operator.length_hint(source, -1) if type(source) in _SIZED_ITERATORS else None


_SIZED_ITERATORS: Final = frozenset(map(type, (
    iter([]), iter(()), iter(range(0)), iter(range(2**80)), iter({}), iter({}.values()), iter({}.items()), iter(set()),
    reversed([]),
)))  # fmt: skip
"""Iterators of Python's own collections, whose length hint is exact and runs no other code."""
