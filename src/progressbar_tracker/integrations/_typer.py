"""typer: show each ``typer.progressbar()``, which its own copy of click draws. Older versions use click itself."""

from __future__ import annotations

from ._click_hooks import ClickHooks

_hooks = ClickHooks("typer._click._termui_impl")
_bars = _hooks.bars
install = _hooks.install
uninstall = _bars.uninstall
