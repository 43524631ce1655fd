"""Calls ``install()`` of an integration as soon as the program imports its library.

``run`` loads this file before the program starts, and without the package. So it imports only modules that Python has
loaded already, and works in a Python that lacks the package.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

INTEGRATION_MODULES = {
    "alive_progress.core.progress": "progressbar_tracker.integrations.alive_progress",
    "atpbar.main": "progressbar_tracker.integrations.atpbar",
    "click._termui_impl": "progressbar_tracker.integrations.click",  # imported for bars, pagers and editors only
    "enlighten.manager": "progressbar_tracker.integrations.enlighten",
    "fastprogress.fastprogress": "progressbar_tracker.integrations.fastprogress",
    "progressbar.bar": "progressbar_tracker.integrations.progressbar2",
    "keras": "progressbar_tracker.integrations.keras",
    "lightning.pytorch": "progressbar_tracker.integrations.lightning",
    "optuna": "progressbar_tracker.integrations.optuna",
    "pip._vendor.rich.progress": "progressbar_tracker.integrations._pip",
    "ray.experimental.tqdm_ray": "progressbar_tracker.integrations._ray",
    "pytorch_lightning": "progressbar_tracker.integrations.lightning",
    "rich.progress": "progressbar_tracker.integrations.rich",
    "typer._click._termui_impl": "progressbar_tracker.integrations._typer",
    "tqdm": "progressbar_tracker.tqdm",  # not tqdm.std: an import of a submodule imports the package first
    "transformers.trainer": "progressbar_tracker.integrations.transformers",
}
"""The integration of each module. It has ``install()`` and ``uninstall()``, which are idempotent.

The module is one that only programs with bars import: an installation costs the import of this package.
"""

_watched = set[str]() if sys.version_info >= (3, 9) else set()
"""The modules whose integration is not installed yet."""


class Finder:
    """First finder of ``sys.meta_path``: waits for the imports of the watched modules."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the other finders' spec of a watched module, extended to install its integration after the import."""
        if name not in _watched:
            return None
        for finder in list(sys.meta_path):
            if isinstance(finder, Finder) or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                _extend(spec, name)
                return spec
        return None


def _extend(spec: ModuleSpec, name: str) -> None:
    loader = spec.loader
    if loader is None or not hasattr(loader, "exec_module"):
        return
    original = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        loader.__dict__.pop("exec_module", None)
        original(module)
        if name in _watched:
            _watched.discard(name)
            _remove_idle_finder()
            _call(name, "install")

    try:  # noqa: SIM105 - contextlib is not loaded yet
        # Set on this instance only: the loader's class stays unchanged for other modules.
        loader.exec_module = exec_module  # type: ignore[method-assign]
    except (AttributeError, TypeError):
        pass


def _remove_idle_finder() -> None:
    if not _watched:
        # A new list: another thread may iterate over the old one and would miss a finder.
        sys.meta_path = [finder for finder in sys.meta_path if not isinstance(finder, Finder)]


def _call(name: str, function: str) -> None:
    """Call a function of an integration, or do nothing if this Python lacks the package."""
    try:
        __import__(INTEGRATION_MODULES[name])
        getattr(sys.modules[INTEGRATION_MODULES[name]], function)()
    except Exception:  # noqa: BLE001, S110 - tracking never hurts the tracked program
        pass


def watch() -> None:
    """Install the integrations of the imported modules now, and those of others when they are imported. Idempotent."""
    for name in INTEGRATION_MODULES:
        if name in sys.modules:  # a .pth file can import it before the program starts
            _call(name, "install")
        else:
            _watched.add(name)
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())


def unwatch() -> None:
    """Uninstall the installed integrations, and watch no imports. Idempotent."""
    _watched.clear()
    _remove_idle_finder()
    for name in INTEGRATION_MODULES:
        if INTEGRATION_MODULES[name] in sys.modules:
            _call(name, "uninstall")
