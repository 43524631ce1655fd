# ruff: noqa: INP001 - a folder for sys.path, and no package
"""Mirrors tqdm's bars from the moment that a program imports tqdm, and costs one that does not next to nothing.

Found through ``sitecustomize``, before the program begins: it imports nothing that Python has not imported by then.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

NAME = "tqdm"  # the package, not tqdm.std: every import of a part of it has the whole package imported first


class Finder:
    """Stands before the other finders, waits for one import, and has ``installed`` called when that is done."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what the other finders find for tqdm, with the mirror to be switched on after it."""
        if name != NAME:
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
            # A new list, for another thread may be walking along the old one and would miss a finder.
            sys.meta_path = [finder for finder in sys.meta_path if finder is not self]
            install()

        try:  # noqa: SIM105 - contextlib is not there yet
            # On this one object, so that the module's loader stays what it is for everybody else.
            loader.exec_module = exec_module  # type: ignore[method-assign]
        except (AttributeError, TypeError):
            pass


def install() -> None:
    """Switch the mirror on, where this Python has the package; in silence where it has not."""
    try:
        from progressbar_tracker import tqdm

        tqdm.install()
    except Exception:  # noqa: BLE001, S110 - tracking never hurts the tracked program
        pass


def watch() -> None:
    """Begin to wait for tqdm."""
    if NAME in sys.modules:  # a .pth file may have imported it
        install()
    else:
        sys.meta_path.insert(0, Finder())
