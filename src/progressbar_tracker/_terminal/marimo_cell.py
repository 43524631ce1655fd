"""Bars in the output of a marimo cell.

marimo collects the outputs of a running cell in a list, and sends them again when the list is flushed. A flush needs
the context of the cell, which only threads of marimo's own class have. So a cell with bars has such a thread. It
flushes after each change that the display thread made to the list.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Final

IDLE_SECONDS: Final = 5.0  # after which the thread of a former cell ends

_latest: MarimoCell | None = None


def find_marimo_cell() -> MarimoCell | None:
    """Return the marimo cell that runs in the calling thread, or ``None`` outside of one. Raises nothing."""
    global _latest
    marimo, runtime = sys.modules.get("marimo"), sys.modules.get("marimo._runtime.context")
    if marimo is None or runtime is None:
        return None
    try:
        if not marimo.running_in_notebook():
            return None
        execution = runtime.get_context().execution_context
        if execution is None:
            return None
        cell = _latest
        if cell is None or not cell.belongs_to(execution):
            cell = _latest = MarimoCell(marimo, execution)
    except Exception:  # noqa: BLE001 - outside of a cell, or another version of marimo
        return None
    return cell


class MarimoCell:
    """One execution of a cell. See ``cell.Cell`` for the interface.

    Args:
        marimo: The package.
        execution: Its context of the execution.
    """

    accepts_updates = True
    reports_errors = False  # marimo has no public hook for the exception of a cell

    def __init__(self, marimo: Any, execution: Any) -> None:
        self._execution = execution
        self._outputs = execution.output
        self._flush = sys.modules["marimo._runtime.output._output"].flush
        self._make_html = marimo.Html
        self._html_by_id: dict[str, Any] = {}
        self._has_changed = threading.Event()
        # It takes the context of the calling thread.
        self._thread = marimo.Thread(target=self._flush_changes, name="progressbar-marimo", daemon=True)
        self.key = id(execution)

    def belongs_to(self, execution: object) -> bool:
        """Whether this is the cell of an execution, and can still publish."""
        return self._execution is execution and (self._thread.ident is None or self._thread.is_alive())

    def publish(self, output_id: str, text: str, html: str, *, is_update: bool) -> None:  # noqa: ARG002
        """Create or replace an output. Any exception of marimo is raised."""
        if is_update:
            # The list has this object, and each flush reads its text. The program may have moved it in the list.
            self._html_by_id[output_id]._text = html  # noqa: SLF001
        else:
            self._html_by_id[output_id] = self._make_html(html)
            self._outputs.append(self._html_by_id[output_id])
        self._has_changed.set()
        if self._thread.ident is None:
            self._thread.start()

    def _flush_changes(self) -> None:
        while not self._thread.should_exit:
            if self._has_changed.wait(IDLE_SECONDS):
                self._has_changed.clear()
                self._flush()
            elif _latest is not self:
                return
