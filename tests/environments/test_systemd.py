"""The messages to systemd, on a real socket."""

from __future__ import annotations

import socket
import sys

import pytest

from progressbar_tracker._environments.systemd import Notifier, Progress, format_message, start_notifier

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no systemd")


@pytest.fixture
def listener(tmp_path):
    """The socket of systemd, and its address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(20)
        yield receiver


def test_first_message_has_the_status_only(listener):
    notifier = start_notifier({"NOTIFY_SOCKET": listener.getsockname()}, lambda: Progress("backup", 1, 4))
    notifier.stop()
    assert listener.recv(4096) == b"STATUS=backup: 25 %"


def test_progress_extends_the_timeout(listener):
    states = [Progress("backup", 1, 4), Progress("backup", 1, 4), Progress("backup", 3, 4)]
    notifier = Notifier(listener.getsockname(), lambda: states.pop(0))
    for _ in range(3):
        notifier.notify()
    notifier.stop()
    assert listener.recv(4096) == b"STATUS=backup: 25 %"
    assert listener.recv(4096) == b"STATUS=backup: 75 %\nEXTEND_TIMEOUT_USEC=300000000"


def test_status_stays_one_line():
    assert format_message(Progress("a\nREADY=1", 1, None), has_moved=False) == "STATUS=a READY=1"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract addresses")
def test_abstract_address_is_used():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("")
        receiver.settimeout(20)
        address = receiver.getsockname().decode().replace("\0", "@")
        notifier = start_notifier({"NOTIFY_SOCKET": address}, lambda: Progress("x", 0, None))
        notifier.stop()
        assert receiver.recv(4096) == b"STATUS=x"


@pytest.mark.parametrize("address", ["", "/nonexistent/socket", "x" * 500, "nul\0byte"])
def test_missing_socket_is_ignored(address):
    assert start_notifier({"NOTIFY_SOCKET": address}, lambda: Progress("x", 0, None)) is None


def test_variable_turns_messages_off(listener):
    environ = {"NOTIFY_SOCKET": listener.getsockname(), "PROGRESSBAR_ENVIRONMENT": "0"}
    assert start_notifier(environ, lambda: Progress("x", 0, None)) is None


def test_failing_reader_is_ignored(listener):
    def fail():
        raise RuntimeError

    notifier = Notifier(listener.getsockname(), fail)
    notifier.notify()
    notifier.stop()
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.recv(4096)
