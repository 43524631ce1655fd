"""Ray: show the bars of ``ray.experimental.tqdm_ray`` from the process that counts them.

A worker sends the state of its bar to the driver at most once a second, and not at the end of a loop. The driver draws
that state as a bar of tqdm, which stays incomplete. So the worker's own count is shown, and the driver's bar is not. A
worker that ``run`` does not reach, as in a cluster that runs already, is shown by the driver's bar.
"""

from __future__ import annotations

import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

from progressbar_tracker._tracking.mirror import Reading
from progressbar_tracker._tracking.patches import call_safely
from progressbar_tracker._tracking.tqdm_bar import is_shown_elsewhere

from ._hooked import HookedBars, clean_title, end_explicitly, find_caller

if TYPE_CHECKING:
    from collections.abc import Callable

    from progressbar_tracker._tracking.patches import Wrapper

MODULE_NAME: Final = "ray.experimental.tqdm_ray"
_BOOTSTRAP_FOLDER: Final = os.path.join("_programs", "bootstrap")  # noqa: PTH118 - of ``run``, in PYTHONPATH

_bars = HookedBars("ray")


class _BarReader:
    """Reads a bar, held weakly. Its attributes stay readable: the last count shows how it ended."""

    __slots__ = ("_bar", "_state")

    def __init__(self, bar: Any) -> None:
        self._bar = weakref.ref(bar)
        self._state = vars(bar)

    def __call__(self) -> Reading:
        state = self._state
        return Reading(
            state["_x"],
            state["_total"],
            clean_title(state["_desc"]),
            "",
            unit=clean_title(state["_unit"]) or "it",
            has_ended=self._bar() is None,
        )


def _on_init(_result: None, bar: Any, /, *_args: object, **_options: object) -> None:
    _bars.start(bar, find_caller(), _BarReader(bar), is_current=False)


def _on_close(bar: Any, /) -> None:
    run = _bars.find_run(bar)
    if run is not None:
        end_explicitly(run, is_complete=True)  # as with tqdm


def _wrap_driver_bar(original: Callable[..., Any]) -> Callable[..., Any]:
    def __init__(*args: Any, **options: Any) -> None:  # noqa: N807 - shown in tracebacks
        is_shown = _bars.patches.is_installed and call_safely(_is_shown_by_its_process, *args[1:2])
        token = is_shown_elsewhere.set(bool(is_shown))
        try:
            original(*args, **options)
        finally:
            is_shown_elsewhere.reset(token)

    return __init__


def _is_shown_by_its_process(state: dict[str, Any]) -> bool:
    """Return whether the process of a bar has these hooks: this one, or a worker that inherits them."""
    if state["pid"] == os.getpid():
        return True
    node = getattr(getattr(sys.modules["ray"]._private, "worker", None), "_global_node", None)
    return bool(node is not None and node.head and _BOOTSTRAP_FOLDER in os.environ.get("PYTHONPATH", ""))


def _list_hooks() -> dict[tuple[Any, str], Wrapper]:
    module = sys.modules[MODULE_NAME]
    return {
        (module.tqdm, "__init__"): _bars.patches.call_after(_on_init),
        (module.tqdm, "close"): _bars.patches.call_before(_on_close),
        (module._Bar, "__init__"): _wrap_driver_bar,
    }


def install() -> None:
    """Show every new bar of ``tqdm_ray`` in this process. Idempotent."""
    _bars.install(_list_hooks)


def uninstall() -> None:
    """Stop showing new bars, and put back Ray's own functions. Idempotent."""
    _bars.uninstall()
