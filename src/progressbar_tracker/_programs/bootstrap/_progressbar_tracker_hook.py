# ruff: noqa: INP001 - a folder for sys.path, and no package
"""Mirrors tqdm's bars as soon as a program imports tqdm. Programs without tqdm pay almost nothing.

``sitecustomize`` imports this before the program starts, so it imports only modules that Python has loaded already.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

WATCHED_PACKAGE = "tqdm"  # the package, not tqdm.std: an import of a submodule imports the package first


class Finder:
    """First finder of ``sys.meta_path``: waits for the import of tqdm, then calls ``install``."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the other finders' spec of tqdm, extended to enable the mirror after the import."""
        if name != WATCHED_PACKAGE:
            return None
        for finder in list(sys.meta_path):
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                self._extend(spec)
                return spec
        return None

    def _extend(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        if loader is None or not hasattr(loader, "exec_module"):
            return
        original = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            loader.__dict__.pop("exec_module", None)
            original(module)
            # A new list: another thread may iterate over the old one and would miss a finder.
            sys.meta_path = [finder for finder in sys.meta_path if finder is not self]
            install()

        try:  # noqa: SIM105 - contextlib is not loaded yet
            # Set on this instance only: the loader's class stays unchanged for other modules.
            loader.exec_module = exec_module  # type: ignore[method-assign]
        except (AttributeError, TypeError):
            pass


def install() -> None:
    """Enable the mirror, or do nothing if this Python lacks the package."""
    try:
        from progressbar_tracker import tqdm

        tqdm.install()
    except Exception:  # noqa: BLE001, S110 - tracking never hurts the tracked program
        pass


def watch() -> None:
    """Enable the mirror now if tqdm is imported, otherwise at its import."""
    if WATCHED_PACKAGE in sys.modules:  # a .pth file can import it earlier
        install()
    else:
        sys.meta_path.insert(0, Finder())
