"""Isolation of the tests from the user's home, configuration and data, and from a server on the default port.

This process and its children get a temporary home. In a run without coverage, an audit hook records each access to the
user's folders or to the default port, and the test fails.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile

import platformdirs

GUARDED_VARIABLE = "PROGRESSBAR_TEST_GUARDED"  # for the workers of pytest-xdist, which already have the temporary home
DEFAULT_PORT = 8989
_FILE_EVENTS = frozenset({"open", "sqlite3.connect", "os.mkdir", "os.listdir", "os.remove", "os.rename"})
_SOCKET_EVENTS = frozenset({"socket.bind", "socket.connect"})

violations: list[str] = []
"""Recorded accesses to the user's folders or to the default port."""

_guarded_folders: tuple[str, ...] = ()


def isolate_process() -> None:
    """Give this process a temporary home. Call it once, at the start."""
    global _guarded_folders
    if GUARDED_VARIABLE not in os.environ:
        name = "progressbar-tracker"
        folders = (
            platformdirs.user_config_dir(name, appauthor=False),
            platformdirs.user_data_dir(name, appauthor=False),
        )
        os.environ[GUARDED_VARIABLE] = os.pathsep.join(folders)
    _guarded_folders = tuple(os.environ[GUARDED_VARIABLE].split(os.pathsep))
    for name in list(os.environ):
        if name.startswith(("PROGRESSBAR_", "ADMIN_", "XDG_")) and not name.startswith("PROGRESSBAR_TEST_"):
            del os.environ[name]
    home = tempfile.mkdtemp(prefix="progressbar-tests-")
    owner = os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(home, ignore_errors=True))
    os.environ["HOME"] = home


def watch_accesses(*, coverage: bool) -> bool:
    """Install the audit hook, and return whether it could be installed.

    Before Python 3.12, threads that start together fail with "Cannot install a trace function while another trace
    function is being installed" if there are a tracer and a hook: the hook lets another thread run within the install.
    """
    if coverage and sys.version_info < (3, 12):
        return False
    sys.addaudithook(_audit_hook)
    return True


def _audit_hook(event: str, arguments: tuple[object, ...]) -> None:
    if event in _FILE_EVENTS:
        path = arguments[0]
        text = path.decode("utf-8", "replace") if isinstance(path, bytes) else str(path)
        if any(folder in text for folder in _guarded_folders):
            violations.append(f"{event} {text}")
    elif event in _SOCKET_EVENTS:
        address = arguments[1]
        if isinstance(address, tuple) and address[1:2] == (DEFAULT_PORT,):
            violations.append(f"{event} {address}")
