"""Imports of optional packages."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def require_package(name: str, distribution: str | None = None) -> Iterator[None]:
    """Name the install command if the import in the block fails.

    Args:
        name: The package. Errors about other modules, such as a missing backend, are unchanged.
        distribution: The name by which it is installed, if it differs.

    Raises:
        ImportError: The package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(f"{name} is not installed: pip install {distribution or name}", name=name) from error
