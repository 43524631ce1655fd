"""Keeps the tests away from what is the user's own: home, configuration, data, and a server on the usual port.

The environment of this process, and so of all that it starts, names a home of the tests' own. What opens the user's
folders all the same, or the usual port, is noted by an audit hook, and fails the test.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile

import platformdirs

GUARDED = "PROGRESSBAR_TEST_GUARDED"  # tells the workers of pytest-xdist, whose home is the tests' already
USUAL_PORT = 8989
_FILES = frozenset({"open", "sqlite3.connect", "os.mkdir", "os.listdir", "os.remove", "os.rename"})
_PORTS = frozenset({"socket.bind", "socket.connect"})

seen: list[str] = []
"""What was touched that is none of the tests'."""

_guarded: tuple[str, ...] = ()


def begin() -> None:
    """Give this process a home of its own, and watch. Once, before anything else is imported."""
    global _guarded
    if GUARDED not in os.environ:
        name = "progressbar-tracker"
        folders = (
            platformdirs.user_config_dir(name, appauthor=False),
            platformdirs.user_data_dir(name, appauthor=False),
        )
        os.environ[GUARDED] = os.pathsep.join(folders)
    _guarded = tuple(os.environ[GUARDED].split(os.pathsep))
    for name in list(os.environ):
        if name.startswith(("PROGRESSBAR_", "ADMIN_", "XDG_")) and not name.startswith("PROGRESSBAR_TEST_"):
            del os.environ[name]
    home = tempfile.mkdtemp(prefix="progressbar-tests-")
    owner = os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(home, ignore_errors=True))
    os.environ["HOME"] = home
    sys.addaudithook(_watch)


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event in _FILES:
        path = arguments[0]
        text = path.decode("utf-8", "replace") if isinstance(path, bytes) else str(path)
        if any(folder in text for folder in _guarded):
            seen.append(f"{event} {text}")
    elif event in _PORTS:
        address = arguments[1]
        if isinstance(address, tuple) and address[1:2] == (USUAL_PORT,):
            seen.append(f"{event} {address}")
