"""Modules whose bars are not shown, because an integration reports their work in more detail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .mirror import find_user_frame

if TYPE_CHECKING:
    from types import FrameType

_module_names = set[str]()


def hide_bars(*module_names: str) -> None:
    """Show no new bar that code of these modules makes."""
    _module_names.update(module_names)


def show_bars(*module_names: str) -> None:
    """Show the new bars of these modules again."""
    _module_names.difference_update(module_names)


def is_hidden(frame: FrameType | None, package: str) -> bool:
    """Return whether a bar is hidden.

    Args:
        frame: The frame that makes the bar.
        package: The library of the bar, whose frames are skipped.
    """
    if not _module_names:
        return False
    name: Any = find_user_frame(frame, package).f_globals.get("__name__")
    return name in _module_names
