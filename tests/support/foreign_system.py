"""Makes this process look like one on a system that cannot be run here: its name, and what its Python lacks.

A program calls ``simulate()`` first. It imports all modules of the package once, so that other packages are loaded as
on this system, and forgets those of this package. A later import of them runs on the simulated system.

As a program, it prints the errors of the modules of the package by system, as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
import threading
import time
import urllib.request  # noqa: F401 - loads a module of macOS if it is imported there

POSIX_MODULES = ("fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty", "uvloop")
POSIX_OS_NAMES = (
    "chown", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid", "getgid", "getpgid", "getpgrp", "getuid",
    "killpg", "mkfifo", "nice", "openpty", "posix_spawn", "readv", "register_at_fork", "sched_getaffinity", "setpgid",
    "setsid", "splice", "statvfs", "sysconf", "tcgetpgrp", "tcsetpgrp", "uname", "wait4", "WNOHANG",
)  # fmt: skip
POSIX_SIGNAL_NAMES = (
    "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGTSTP", "SIGTTIN",
    "SIGTTOU", "SIGUSR1", "SIGUSR2", "SIGWINCH", "alarm", "pthread_sigmask", "setitimer",
)  # fmt: skip
SERVER_PARTS = ("cli", "demo", "integrations", "pytest", "server")
LINUX_OS_NAMES = ("sched_getaffinity", "splice")
SYSTEM_NAMES = ("windows", "macos", "pyodide")


def simulate(system: str) -> None:
    """Turn this process into one of ``windows``, ``macos`` or ``pyodide``."""
    _import_package(with_server=False)
    _become(system)


def collect_errors() -> dict[str, dict[str, str]]:
    """Return by system the error of each module that cannot be imported there, in a process for each system.

    The processes are forks, as the first import of all modules takes longer than everything else.
    """
    names = _import_package(with_server=True)
    assert len(names) > 200, names
    errors_by_system = {}
    for system in SYSTEM_NAMES:
        reader, writer = os.pipe()
        if os.fork() == 0:
            _become(system)
            with os.fdopen(writer, "w") as answer:
                json.dump(import_all(names), answer)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as answer:
            errors_by_system[system] = json.load(answer)
        os.wait()
    return errors_by_system


def _become(system: str) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == "progressbar_tracker":
            del sys.modules[name]
    sys.platform = {"windows": "win32", "macos": "darwin", "pyodide": "emscripten"}[system]
    _remove(time, ("CLOCK_BOOTTIME",))
    if system == "macos":
        _remove(os, LINUX_OS_NAMES)
        return
    for name in POSIX_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # an import raises
    _remove(os, POSIX_OS_NAMES)
    _remove(signal, POSIX_SIGNAL_NAMES)
    _remove(socket, ("AF_UNIX", "SCM_RIGHTS", "SO_REUSEPORT"))
    if system == "windows":
        os.name = "simulated"  # neither posix, nor nt: pathlib would make paths of Windows
    else:
        threading.Thread.start = _raise(RuntimeError("can't start new thread"))  # type: ignore[method-assign]
        socket.socket.connect = _raise(OSError("no sockets"))  # type: ignore[method-assign]


def import_all(names: list[str]) -> dict[str, str]:
    """Import modules; return the error of each that fails."""
    errors = {}
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            errors[name] = repr(error)
    return errors


def _import_package(*, with_server: bool) -> list[str]:
    """Import the modules of the package, and return their names, apart from those of absent integrations.

    Args:
        with_server: Import also the server, the commands and the integrations, which takes seconds.
    """
    import progressbar_tracker

    names = [
        module.name
        for module in pkgutil.walk_packages(
            progressbar_tracker.__path__, "progressbar_tracker.", onerror=lambda _: None
        )
        if not module.name.endswith("__main__") and ".bootstrap" not in module.name
        if with_server or module.name.split(".")[1] not in SERVER_PARTS
    ]
    errors = import_all(names)
    return [name for name in names if name not in errors]


def _remove(module: object, names: tuple[str, ...]) -> None:
    for name in names:
        if hasattr(module, name):
            delattr(module, name)


def _raise(error: Exception):
    def fail(*_arguments: object) -> None:
        raise error

    return fail


if __name__ == "__main__":
    print(json.dumps(collect_errors()))
