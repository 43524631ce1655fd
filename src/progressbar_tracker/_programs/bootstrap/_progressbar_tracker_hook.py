# ruff: noqa: INP001 - a folder for sys.path, and no package
"""Loads ``integrations/_imports.py`` without the package, whose import takes a tenth of a second.

``sitecustomize`` imports this before the program starts, so it imports only modules that Python has loaded already.
"""

from __future__ import annotations

import os
import sys

MODULE_NAME = "progressbar_tracker.integrations._imports"
"""The module has its usual name, so that ``integrations.uninstall()`` finds the same one."""


def watch() -> None:
    """Show the bars of all supported libraries that the program imports."""
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib is not loaded yet
    path = os.path.join(folder, "..", "..", "integrations", "_imports.py")  # noqa: PTH118
    module = type(sys)(MODULE_NAME)
    loader = type(__loader__)(MODULE_NAME, os.path.normpath(path))  # type: ignore[name-defined]
    module.__file__ = loader.path
    loader.exec_module(module)
    sys.modules[MODULE_NAME] = module
    module.watch()
