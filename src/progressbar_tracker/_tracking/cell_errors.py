"""The end of the runs of a notebook's cell.

A loop that is left early ends tentatively: a wrapper cannot distinguish ``break`` from an exception. After each cell,
the shell reports its exception, so the loops that it came through have failed.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from progressbar_tracker._endings import map_fatal_errors

if TYPE_CHECKING:
    from .run import Run

MAX_ENDED_RUNS: Final = 1000  # that are kept during a cell

_runs: list[Run] = []
_watched_shells: WeakSet[Any] = WeakSet()


def watch_cell(run: Run) -> None:
    """Let a run fail if the cell that started it does. Raises nothing."""
    with contextlib.suppress(Exception):  # a kernel of another kind
        shell = sys.modules["IPython"].get_ipython()
        if shell is None or getattr(shell, "kernel", None) is None:
            return
        if len(_runs) > MAX_ENDED_RUNS:
            _runs[:] = [run for run in _runs if run.status == "running" or run.is_tentative]
        _runs.append(run)
        if shell not in _watched_shells:
            shell.events.register("post_run_cell", _settle_runs)
            _watched_shells.add(shell)


def _settle_runs(result: Any) -> None:
    """Process the end of a cell; the name of the parameter is that of the shell's documentation."""
    with contextlib.suppress(Exception):
        error = getattr(result, "error_in_exec", None)
        fatal_errors = map_fatal_errors(error if isinstance(error, BaseException) else None)
        for run in _runs:
            run.settle(fatal_errors)
        _runs[:] = [run for run in _runs if run.status == "running"]
