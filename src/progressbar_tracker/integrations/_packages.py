"""Imports of optional packages."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def require_package(name: str) -> Iterator[None]:
    """Name the install command if the import in the block fails.

    Args:
        name: The package. Errors about other modules, such as a missing backend, are unchanged.

    Raises:
        ImportError: The package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(f"{name} is not installed: pip install {name}", name=name) from error
