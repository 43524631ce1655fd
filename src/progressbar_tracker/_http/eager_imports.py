"""Import packages that break if all imports are lazy (Python 3.15, ``-X lazy_imports=all``).

httpx 0.28 and httpcore 1.0 set an attribute of each name that they import, and a lazy import has none. Only the imports
within such a package become eager: those of the program and of other packages stay lazy.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def import_eagerly(*packages: str, python: Any = sys) -> None:
    """Import packages now if all imports are lazy, else do nothing."""
    if not hasattr(python, "get_lazy_imports") or python.get_lazy_imports() != "all":
        return
    program_filter: Callable[..., bool] | None = python.get_lazy_imports_filter()

    def is_lazy(importer: str, *arguments: object) -> bool:
        if importer.partition(".")[0] in packages:
            return False
        return program_filter is None or program_filter(importer, *arguments)

    python.set_lazy_imports_filter(is_lazy)
    try:
        for package in packages:
            importlib.import_module(package)
    finally:
        python.set_lazy_imports_filter(program_filter)
