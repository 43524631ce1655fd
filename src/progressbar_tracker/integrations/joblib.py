"""joblib: ``Parallel`` with a bar of completed tasks.

    from joblib import delayed
    from progressbar_tracker.integrations.joblib import Parallel

    results = Parallel(n_jobs=4, id="squares", total=1000)(delayed(square)(n) for n in range(1000))

A ``Parallel`` that returns a generator works with ``track()``:

    for result in track(joblib.Parallel(n_jobs=4, return_as="generator_unordered")(tasks), total=1000):
        ...
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Sized
from typing import TYPE_CHECKING, Any

from ._packages import require_package

with require_package("joblib"):
    import joblib

from progressbar_tracker._models import format_value
from progressbar_tracker._tracking.mirror import Reading, start_mirror
from progressbar_tracker._tracking.run import classify_error

from ._mirrored import make_mirror

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from progressbar_tracker._models import Number
    from progressbar_tracker._tracking.deadline import DeadlineLike
    from progressbar_tracker._tracking.tracker import HasSender

    from ._mirrored import Labels

__all__ = ["Parallel"]


class Parallel(joblib.Parallel):
    """``joblib.Parallel`` with one bar for each call.

    The bar counts completed tasks, not dispatched ones, and each task of a batch.

    Args:
        *args: Arguments of ``joblib.Parallel``.
        total: Number of tasks; by default ``len()`` of the iterable. A generator has no length.
        id: The item's id; see ``track()`` for this and the following arguments.
        title: By default ``"Parallel"``.
        group: Heading on the dashboard.
        weight: Items with a higher weight are shown first.
        keep: Keep the item on the board after it has succeeded or stopped.
        notify: Names of the channels to notify.
        deadline: Instant after which the item is late.
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
            "deadline": deadline, "interval": interval, "client": client,
        }  # fmt: skip
        self._completed = 0
        make_mirror(self._labels, title="Parallel")  # validates the labels

    def __call__(self, iterable: Iterable[Any]) -> Any:
        """Run the tasks and return the list of their results."""
        total: Number | None = self._total
        if total is None and isinstance(iterable, Sized):
            total = len(iterable)
        run = make_mirror(self._labels, title="Parallel")
        self._completed = 0
        self_reference = weakref.ref(self)

        def read() -> Reading | None:
            parallel = self_reference()
            return None if parallel is None else Reading(parallel._completed, total, None, "", unit="tasks")  # noqa: SLF001

        start_mirror(run, sys._getframe(1), read)  # noqa: SLF001
        try:
            results = super().__call__(iterable)
        except BaseException as error:
            run.end(*classify_error(error))
            raise
        self._completed = len(results)  # joblib returns before it counts the last results
        run.end("succeeded")
        return results

    def print_progress(self) -> None:
        """Update the count; joblib calls this after each completed batch."""
        self._completed = self.n_completed_tasks
        super().print_progress()
