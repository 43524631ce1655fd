"""click: show each ``click.progressbar()`` on the server.

    from progressbar_tracker.integrations.click import install

    install()  # as run does

The label is the title. Off a terminal, click counts nothing in a loop; the loop is then counted as by ``track()``.
"""

from __future__ import annotations

import contextlib
import importlib
from typing import Final

from ._click_hooks import ClickHooks

__all__ = ["install", "uninstall"]

_MODULE_NAME: Final = "click._termui_impl"  # click imports it for the first bar

_hooks = ClickHooks(_MODULE_NAME)
_bars = _hooks.bars


def install() -> None:
    """Show every new bar of click in this process. Idempotent.

    Example:
        >>> install()
        >>> uninstall()
    """
    with contextlib.suppress(ImportError):
        importlib.import_module(_MODULE_NAME)
    _hooks.install()


def uninstall() -> None:
    """Stop showing new bars, and put back click's own functions. Idempotent."""
    _bars.uninstall()
