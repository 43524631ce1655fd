"""pip: show its downloads, which its own copy of rich draws."""

from __future__ import annotations

from ._rich_hooks import RichHooks

_hooks = RichHooks("pip._vendor.rich.progress")
install = _hooks.install
uninstall = _hooks.uninstall
