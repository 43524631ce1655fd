"""The default title of a run: the line of the program where it starts.

A library's own line, such as ``progress.py:19``, says nothing to its user. So a bar that a library makes is called by
the library and by the program's line that called it.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

_STANDARD_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - a prefix of file names
_PACKAGE_FOLDERS: Final = ("site-packages", "dist-packages")


def describe_place(frame: FrameType) -> str:
    """Return the line of a frame, such as ``train.py:7``; for a library's frame ``datasets - train.py:7``."""
    library: str | None = ""
    step: FrameType | None = frame
    while step is not None:
        package = _find_package(step.f_code.co_filename)
        if package is None:
            name = _format_line(step)
            return f"{library} - {name}" if library else name
        library = library or package
        step = step.f_back
    return library or _format_line(frame)


def is_program_file(path: str) -> bool:
    """Return whether a file is neither an installed package's nor Python's own."""
    return _find_package(path) is None


def _format_line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename.rpartition(os.sep)[2]}:{frame.f_lineno}"


@functools.lru_cache(maxsize=1024)
def _find_package(path: str) -> str | None:
    """Return the top-level name of an installed module; ``""`` for Python's own files, ``None`` for the program's.

    >>> _find_package(os.path.join("lib", "site-packages", "datasets", "map.py")), _find_package("train.py")
    ('datasets', None)
    """
    for folder in _PACKAGE_FOLDERS:
        _, found, rest = path.rpartition(f"{os.sep}{folder}{os.sep}")
        if found:
            return rest.partition(os.sep)[0].removesuffix(".py")
    # The script of an installed command only calls the command's package.
    is_command = os.path.dirname(path) == os.path.dirname(sys.executable or "")  # noqa: PTH120
    return "" if is_command or path.startswith((_STANDARD_LIBRARY, "<frozen ")) else None
