"""Integrations with third-party libraries, one module each. No other module imports the library.

``install()`` shows the bars of every supported library that the program uses, as ``progressbar-tracker run`` does.
"""

from __future__ import annotations

from . import _imports

__all__ = ["install", "uninstall"]


def install() -> None:
    """Show every new bar of each supported library in this process, in any order of imports. Idempotent.

    A library is hooked when the program imports it. The program's output does not change.

    Example:
        >>> install()
        >>> uninstall()
    """
    _imports.watch()


def uninstall() -> None:
    """Stop showing new bars, and remove all hooks. Idempotent.

    Bars that are shown already stay on the server; their result is then derived from their counts.
    """
    _imports.unwatch()
