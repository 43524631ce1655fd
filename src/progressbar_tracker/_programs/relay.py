"""What a program writes, carried to one of our streams and seen on the way.

Byte for byte, and as soon as it comes: through a pipe, or through a terminal where ours is one, so that the program
draws as ever. That terminal translates nothing, for ours does.

A pager reads its keys from the terminal that is its stderr. So where a program puts that terminal into the mode for
single keys, the keys of ours are lent to it until it puts it back.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CHUNK_BYTES: Final = 65536  # bytes
QUIET_TIMEOUT: Final = (
    0.1  # seconds without output after the program's end, when something it left behind holds the stream
)
DRAIN_TIMEOUT: Final = 1.0  # seconds that is read for at most
TERMINAL_POLL_INTERVAL: Final = 0.1  # seconds between looks at the terminal's mode: nothing tells of a change


class Relay:
    """Carries what a program writes to one of our streams, in a thread, and lets it be seen on the way.

    Args:
        target: Our stream's descriptor, 1 or 2.
        seers: Called with each piece after it was written.
    """

    def __init__(self, target: int, observers: Sequence[Callable[[bytes], None]]) -> None:
        self._target = target
        self._observers = observers
        self._is_terminal = False
        self._source, self.child_descriptor = self._open_pair()
        self._stop_reader, self._stop_writer = os.pipe()
        self._thread = threading.Thread(target=self._run, name="progressbar-relay", daemon=True)

    def _open_pair(self) -> tuple[int, int]:
        if os.isatty(self._target) and hasattr(os, "openpty"):
            with contextlib.suppress(OSError):  # there may be none left, or none in a container
                source, child = os.openpty()
                self._source, self._is_terminal = source, True
                self._copy_terminal_mode(child)
                self.resize()
                return source, child
        return os.pipe()

    def _copy_terminal_mode(self, child: int) -> None:
        """Have the program's terminal be as ours is, but for what would be done twice."""
        import termios

        with contextlib.suppress(OSError, termios.error):
            attributes = termios.tcgetattr(self._target)
            attributes[1] &= ~termios.OPOST
            attributes[3] = (attributes[3] | termios.ICANON) & ~termios.ECHO
            termios.tcsetattr(child, termios.TCSANOW, attributes)

    def resize(self) -> bool:
        """Give the program's terminal the size of ours. Return whether it has one."""
        if not self._is_terminal:
            return False
        import termios

        with contextlib.suppress(OSError, termios.error):
            termios.tcsetwinsize(self._source, termios.tcgetwinsize(self._target))
        return True

    def start(self) -> None:
        """Begin; the program has its end of the stream."""
        os.close(self.child_descriptor)
        self._thread.start()

    def close(self) -> None:
        """Close everything; there is no program."""
        for one in (self._source, self.child_descriptor, self._stop_reader, self._stop_writer):
            os.close(one)

    def finish(self) -> None:
        """Wait until all that the program wrote has been passed on; it has ended."""
        os.close(self._stop_writer)
        self._thread.join()
        os.close(self._stop_reader)

    def _run(self) -> None:
        keyboard = _Keyboard(self._source) if self._is_terminal and self._target == 2 else None
        with selectors.DefaultSelector() as selector:
            selector.register(self._source, selectors.EVENT_READ)
            selector.register(self._stop_reader, selectors.EVENT_READ)
            deadline: float | None = None
            while deadline is None or time.monotonic() < deadline:
                pause = (
                    QUIET_TIMEOUT if deadline is not None else TERMINAL_POLL_INTERVAL if keyboard is not None else None
                )
                ready = {key.fd for key, _ in selector.select(pause)}
                if self._source in ready:
                    if not self._relay_chunk():
                        break
                elif deadline is not None:
                    break
                if self._stop_reader in ready:
                    selector.unregister(self._stop_reader)
                    deadline = time.monotonic() + DRAIN_TIMEOUT
                elif keyboard is not None:
                    keyboard.forward_input(ready)
                    keyboard.update(selector)
            if keyboard is not None:
                keyboard.release(selector)
        # The program, where it still writes, hears now that nobody reads: as it would of the stream itself.
        self._is_terminal = False
        os.close(self._source)

    def _relay_chunk(self) -> bool:
        try:
            data = os.read(self._source, CHUNK_BYTES)
            write_all(self._target, data)
        except OSError:
            return False  # a terminal's end of file; or our reader is gone
        for see in self._observers:
            with contextlib.suppress(Exception):  # what is seen must never hinder what is passed on
                see(data)
        return bool(data)


class _Keyboard:
    """Lends the keys of our terminal to a program that wants them from another."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._terminal: int | None = None
        self._saved_attributes: list[int | list[bytes | int]] = []

    def update(self, selector: selectors.BaseSelector) -> None:
        """Begin or end, as the program's terminal is set now."""
        import termios

        try:
            wanted = not termios.tcgetattr(self._master)[3] & termios.ICANON
            if wanted and self._terminal is None and in_foreground():
                self._terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
                selector.register(self._terminal, selectors.EVENT_READ)
                self._saved_attributes = termios.tcgetattr(self._terminal)
                attributes = termios.tcgetattr(self._terminal)
                attributes[3] &= ~(termios.ICANON | termios.ECHO)
                attributes[6][termios.VMIN], attributes[6][termios.VTIME] = 1, 0
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, attributes)
            elif not wanted:
                self.release(selector)
        except (OSError, termios.error):
            self.release(selector)

    def forward_input(self, ready: set[int]) -> None:
        """Hand on what was typed."""
        if self._terminal in ready:
            os.write(self._master, os.read(self._terminal, CHUNK_BYTES))

    def release(self, selector: selectors.BaseSelector) -> None:
        """Leave our terminal as it was. Idempotent."""
        import termios

        if self._terminal is not None:
            selector.unregister(self._terminal)
            with contextlib.suppress(OSError, termios.error):
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._saved_attributes)
            os.close(self._terminal)
            self._terminal = None


def in_foreground() -> bool:
    """Say whether the terminal's Ctrl-C goes to our process group."""
    if sys.platform == "win32":
        return True
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def write_all(target: int, data: bytes | memoryview) -> None:
    """Write everything, waiting where the descriptor does not.

    Raises:
        OSError: It cannot be written.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:
            wait_ready(target, selectors.EVENT_WRITE)


def wait_ready(descriptor: int, event: int) -> None:
    """Wait until a descriptor that does not block can be read or written."""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, event)
        selector.select()
