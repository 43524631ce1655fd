"""Branches for Windows and macOS, in modules whose ``sys`` names another system."""

from __future__ import annotations

import errno
import os
import resource
import selectors
import signal
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from progressbar_tracker import _runtime
from progressbar_tracker._errors import ConfigError
from progressbar_tracker._programs import relay, supervisor
from progressbar_tracker.cli import run, streams
from progressbar_tracker.server import capacity
from progressbar_tracker.server.stores.sqlite import backup, locks

CTRL_C_EXIT = 0xC000013A


def name_system(monkeypatch, module, platform):
    """Let a module find another system."""
    monkeypatch.setattr(module, "sys", SimpleNamespace(platform=platform, stdin=sys.stdin))


class SocketSelector(selectors.SelectSelector):
    """A selector of Windows: it knows sockets only."""

    def select(self, timeout=None):
        raise OSError(10038, "an operation was attempted on something that is not a socket")


@pytest.fixture
def socket_selectors(monkeypatch):
    monkeypatch.setattr(relay.selectors, "DefaultSelector", SocketSelector)


def test_relay_of_windows_reads_without_a_selector(monkeypatch, socket_selectors):
    name_system(monkeypatch, relay, "win32")
    source, target = os.pipe()
    seen = []
    stream = relay.Relay(target, [seen.append])
    program = [sys.executable, "-c", "print('first'); print('last')"]
    process = subprocess.Popen(program, stdout=stream.child_descriptor)
    stream.start()
    assert process.wait() == 0
    monkeypatch.setattr(relay, "DRAIN_TIMEOUT", 60.0)
    stream.finish()
    os.close(target)
    with os.fdopen(source, "rb") as relayed:
        assert relayed.read() == b"".join(seen) == b"first\nlast\n"


def test_relay_of_windows_leaves_a_stream_that_stays_open(monkeypatch, socket_selectors):
    name_system(monkeypatch, relay, "win32")
    monkeypatch.setattr(relay, "DRAIN_TIMEOUT", 0.01)
    source, target = os.pipe()
    stream = relay.Relay(target, [])
    leftover = os.dup(stream.child_descriptor)
    stream.start()
    stream.finish()  # returns, although the stream has no end
    os.close(leftover)
    stream._thread.join(60)
    os.close(target)
    os.close(source)


def test_write_of_windows_to_a_closed_pipe_is_a_broken_pipe(monkeypatch):
    def fail(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(relay.os, "write", fail)
    with pytest.raises(OSError, match="Invalid argument"):
        relay.write_all(1, b"text")
    name_system(monkeypatch, relay, "win32")
    with pytest.raises(BrokenPipeError):
        relay.write_all(1, b"text")


def test_macos_waits_for_terminals_without_kqueue(monkeypatch):
    name_system(monkeypatch, relay, "darwin")
    with relay.open_selector() as selector:
        assert type(selector) is selectors.SelectSelector


def test_terminal_that_no_selector_takes_is_closed_again(monkeypatch):
    class RefusingSelector(selectors.SelectSelector):
        def register(self, fileobj, events, data=None):
            raise OSError(errno.EINVAL, "Invalid argument")  # as of kqueue

    master, child = os.openpty()
    name = os.ttyname(child)
    attributes = relay_termios().tcgetattr(child)
    attributes[3] &= ~relay_termios().ICANON
    relay_termios().tcsetattr(child, relay_termios().TCSANOW, attributes)
    opened = []
    real_open = os.open
    monkeypatch.setattr(relay.os, "open", lambda path, flags: opened.append(real_open(name, flags)) or opened[-1])
    monkeypatch.setattr(relay, "in_foreground", lambda: True)
    keyboard = relay._Keyboard(master)
    with RefusingSelector() as selector:
        keyboard.update(selector)
        keyboard.update(selector)
    assert len(opened) == 2
    for descriptor in set(opened):
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
    os.close(master)
    os.close(child)


def relay_termios():
    import termios

    return termios


def test_exit_code_of_windows_is_passed_on(monkeypatch):
    """``sys.exit`` takes signed codes of 32 bits there."""
    assert supervisor.exit_like_child(CTRL_C_EXIT) == CTRL_C_EXIT - 2**32
    assert supervisor.describe_exit(CTRL_C_EXIT) == "exit code 0xC000013A"


def test_interrupted_command_of_windows_returns_a_code(monkeypatch):
    name_system(monkeypatch, supervisor, "win32")
    monkeypatch.setattr(_runtime, "shutdown", lambda: None)
    monkeypatch.setattr(supervisor.os, "kill", lambda *_: pytest.fail("the process would end with code 2"))
    assert supervisor.exit_like_child(-2) == 130


@pytest.mark.parametrize("found", ["/tools/npm.cmd", None])
def test_program_of_windows_is_found_with_its_extension(monkeypatch, found):
    name_system(monkeypatch, supervisor, "win32")
    started = []
    monkeypatch.setattr("shutil.which", lambda name: found)
    monkeypatch.setattr(supervisor.subprocess, "Popen", lambda command, **_: started.append(command))
    supervisor._start_process(["npm", "ci"], {}, {}, has_own_group=False)
    assert started == [[found or "npm", "ci"]]


def test_file_that_windows_cannot_execute_is_not_run_by_a_shell(monkeypatch):
    name_system(monkeypatch, supervisor, "win32")

    def refuse(command, **_):
        raise OSError(errno.ENOEXEC, "%1 is not a valid Win32 application")

    monkeypatch.setattr(supervisor.subprocess, "Popen", refuse)
    with pytest.raises(supervisor.NotStartedError, match="not a valid Win32 application") as raised:
        supervisor._start_process(["data.txt"], {}, {}, has_own_group=False)
    assert raised.value.code == supervisor.EXIT_NOT_EXECUTABLE


def test_run_of_windows_leaves_ctrl_c_to_the_program(monkeypatch):
    former = signal.getsignal(signal.SIGINT)
    try:
        program = "import os, signal; os.kill(os.getppid(), signal.SIGINT); raise SystemExit(3)"
        assert run._run_and_wait([sys.executable, "-c", program], dict(os.environ)) == 3
    finally:
        signal.signal(signal.SIGINT, former)


@pytest.mark.parametrize("has_console", [True, False])
def test_console_of_windows_is_asked_for(monkeypatch, has_console):
    name_system(monkeypatch, streams, "win32")
    monkeypatch.setattr(streams.sys.stdin, "isatty", lambda: False, raising=False)
    opened = []

    def open_console(path, flags):
        opened.append(path)
        if not has_console:
            raise FileNotFoundError(errno.ENOENT, "no console")
        return os.dup(0)

    monkeypatch.setattr(streams.os, "open", open_console)
    assert (streams._has_terminal(), opened) == (has_console, ["CONIN$"])


class ByteLocks(ModuleType):
    """The module ``msvcrt``: a lock belongs to a handle and is refused to others."""

    LK_NBLCK, LK_UNLCK = 2, 0

    def __init__(self):
        super().__init__("msvcrt")
        self.held = {}

    def locking(self, handle, mode, size):
        status = os.fstat(handle)
        holder = self.held.get(status.st_ino)
        if mode == self.LK_UNLCK and holder == handle:
            del self.held[status.st_ino]
        elif holder is not None:
            raise PermissionError(errno.EACCES, "Permission denied")
        else:
            self.held[status.st_ino] = handle


@pytest.fixture
def windows_locks(monkeypatch):
    name_system(monkeypatch, locks, "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", module := ByteLocks())
    monkeypatch.setattr(locks, "LOCK_TIMEOUT", 0.0)
    return module


def test_second_server_on_windows_is_refused(windows_locks, tmp_path):
    first = locks.FileLock(tmp_path / "progress.db")
    with pytest.raises(ConfigError, match="a server is running on the database"):
        locks.FileLock(tmp_path / "progress.db")
    locks.FileLock(tmp_path / "other.db").release()
    first.release()
    locks.FileLock(tmp_path / "progress.db").release()
    assert windows_locks.held == {}


def test_open_files_of_macos_are_raised_to_what_it_grants(monkeypatch):
    """The hard limit is infinite there, and the system still refuses most numbers."""
    limits = {"soft": 256}

    def set_limit(_, pair):
        if pair[0] > 10_240:
            raise ValueError("current limit exceeds maximum limit")
        limits["soft"] = pair[0]

    monkeypatch.setattr(resource, "getrlimit", lambda _: (limits["soft"], resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    capacity.raise_open_file_limit()
    assert limits["soft"] == 10_240
    assert capacity.max_connections() == 10_240 - capacity.RESERVED_FILES


def test_copy_on_macos_reaches_the_disk(monkeypatch, tmp_path):
    import fcntl

    name_system(monkeypatch, backup, "darwin")
    calls = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda _, command: calls.append(command))
    path = tmp_path / "copy.db"
    path.touch()
    backup._sync_file(path, os.O_RDWR)
    assert calls == [51]
