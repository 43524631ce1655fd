"""systemd: the status text of a service, and more time while its work goes on. The protocol is that of sd_notify(3).

``READY=1`` is not sent: the program sends it if it knows of systemd.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from progressbar_tracker._config import ENVIRONMENT_VARIABLE, is_turned_off
from progressbar_tracker._text import sanitize_line, truncate

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"
NOTIFY_INTERVAL: Final = 5.0
"""Seconds between two messages."""
EXTENSION_SECONDS: Final = 300
"""The time that each progress adds: systemd waits at least so long from now before it ends a start or a stop."""
MAX_STATUS_LENGTH: Final = 300


class Progress(NamedTuple):
    """The progress of a service.

    Attributes:
        title: The title of the item.
        completed: The count.
        total: Its end, if it is known.
    """

    title: str
    completed: float
    total: float | None


class Notifier:
    """Sends the state of an item to systemd, from a thread of its own.

    Args:
        address: The value of ``NOTIFY_SOCKET``.
        read_progress: Returns the progress; it is called from the thread.
    """

    def __init__(self, address: str, read_progress: Callable[[], Progress]) -> None:
        import socket

        self._socket: socket.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        except BaseException:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._read_progress = read_progress
        self._last: Progress | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progressbar-systemd", daemon=True)

    def start(self) -> None:
        """Send the state now, and from time to time until :meth:`stop`."""
        self.notify()
        self._thread.start()

    def stop(self) -> None:
        """Send nothing more. Idempotent."""
        self._stopped.set()
        if not self._thread.is_alive():
            self._socket.close()

    def notify(self) -> None:
        """Send a message if the progress has changed. systemd may not listen: nothing raises."""
        with contextlib.suppress(Exception):
            progress, last = self._read_progress(), self._last
            if progress != last:
                self._last = progress
                self._socket.send(format_message(progress, has_moved=last is not None).encode("utf-8", "replace"))

    def _run(self) -> None:
        while not self._stopped.wait(NOTIFY_INTERVAL):
            self.notify()
        self._socket.close()


def format_message(progress: Progress, *, has_moved: bool) -> str:
    r"""Return a message for systemd.

    >>> format_message(Progress("backup", 30, 120), has_moved=True)
    'STATUS=backup: 25 %\nEXTEND_TIMEOUT_USEC=300000000'
    """
    share = f": {int(100 * min(progress.completed / progress.total, 1))} %" if progress.total else ""
    lines = [f"STATUS={truncate(sanitize_line(progress.title), MAX_STATUS_LENGTH)}{share}"]
    if has_moved:
        lines.append(f"EXTEND_TIMEOUT_USEC={EXTENSION_SECONDS * 1_000_000}")
    return "\n".join(lines)


def start_notifier(environ: Mapping[str, str], read_progress: Callable[[], Progress]) -> Notifier | None:
    """Start to notify systemd if it has started this process, or return ``None``."""
    address = environ.get(SOCKET_VARIABLE)
    if not address or is_turned_off(environ, ENVIRONMENT_VARIABLE):
        return None
    try:
        notifier = Notifier(address, read_progress)
    except (ImportError, OSError, ValueError, AttributeError):  # no such socket, or a system without them
        return None
    notifier.start()
    return notifier
