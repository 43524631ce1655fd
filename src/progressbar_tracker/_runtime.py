"""The process's own sender and display, and the hooks that end them well: flush, exit, fork.

Everything is lazy: importing this starts nothing, and a program that tracks nothing has no hook. The configuration is
looked for in the sender's thread, when the first run has lived long enough to be worth a request.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final

from . import _config
from ._endings import map_fatal_errors
from ._errors import ConfigError, PermissionError, ProgressBarError
from ._fork import importing, reset_after_fork
from ._log import DEBUG, INFO, log
from ._models import META_ENTRIES, META_LENGTH
from ._sender.reconciler import Reconciler
from ._sender.sender import EXIT_TIMEOUT, REQUEST_TIMEOUT, Sender
from ._terminal.display import Display
from ._text import clean_text, get_script_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from logging import LogRecord
    from pathlib import Path

    from ._http.transport import HttpTransport
    from ._models import Op, OpResult
    from ._sender.reconciler import Stats
    from ._sender.sender import Connector, Delivery
    from ._sender.snapshot import Source

FLUSH_TIMEOUT: Final = 5.0  # seconds
INTERRUPT_GRACE_SECONDS: Final = 1.0  # seconds from Ctrl-C to the hooks of the end, in which its traceback is printed


class _Settings:
    """What ``configure()`` was told."""

    __slots__ = ("api_key", "on_error", "path", "url")

    def __init__(self) -> None:
        self.url: str | None = None
        self.api_key: str | None = None
        self.path: Path | None = None
        self.on_error: Callable[[ProgressBarError], None] | None = None


_settings = _Settings()
_senders: weakref.WeakSet[Sender] = weakref.WeakSet()
_default_sender: Sender | None = None
_display: Display | None = None
_hooks_registered = False
_child_hook_pid = 0
_is_exiting = False  # the hook was made in one of the hooks that run at the end, and will not be called


def configure(
    *,
    url: str | None = None,
    api_key: str | None = None,
    path: Path | None = None,
    on_error: Callable[[ProgressBarError], None] | None = None,
) -> None:
    """Say in code where ``track()`` reports to; goes before the environment and the config file.

    What is tracked already stays with the server it was begun on.

    Args:
        url: The server's base URL.
        api_key: The key.
        path: A config file in place of the user's.
        on_error: Called, in the background thread, with each error that keeps a state from its server, of clients of
            your own too. What it raises is swallowed.

    Raises:
        ConfigError: The URL or the key cannot be used.

    Example:
        >>> configure(url="http://localhost:8989", api_key="key")
        >>> configure()  # back to the environment and the config file
    """
    global _default_sender
    from ._http.messages import check_key, parse_base_url

    if url is not None:
        parse_base_url(url, "url")
    if api_key is not None:
        check_key(api_key)
    _settings.url, _settings.api_key, _settings.path = url, api_key, path
    _settings.on_error = on_error
    earlier, _default_sender = _default_sender, None
    if earlier is not None:
        earlier.close()


def get_sender() -> Sender:
    """Return the sender of the configured server."""
    global _default_sender
    if _default_sender is None:
        _default_sender = create_sender(_connect_default)
    return _default_sender


@contextlib.contextmanager
def replace_sender(replacement: Sender) -> Iterator[None]:
    """Put another sender in the place of the configured server's while the block runs."""
    global _default_sender
    earlier, _default_sender = _default_sender, replacement
    try:
        yield
    finally:
        _default_sender = earlier


def get_sender_at(url: str | None) -> Sender:
    """Return the sender of the server at ``url``, or of the configured one.

    It may be that of a client which the parent of a fork made, with its key; else the configuration must have a key for
    that very URL.
    """
    if url is None:
        return get_sender()
    for one in list(_senders):
        if one.url == url and not one.closed:
            return one
    return create_sender(lambda: _connect_to(url), url)


def create_sender(connect: Connector, url: str | None = None) -> Sender:
    """Return a sender that is flushed, closed and reset with the others."""
    _register_hooks()
    made = Sender(
        connect,
        url=url,
        on_start=_register_child_exit,
        on_fork=_reset_after_fork,
        on_error=_report_error,
        make_reconciler=lambda: Reconciler(meta=_collect_meta),
        is_exiting=_is_exiting,
    )
    _senders.add(made)
    return made


def get_display() -> Display:
    """Return the terminal's display."""
    global _display
    if _display is None:
        _register_hooks()
        _display = Display()
    return _display


class HttpDelivery:
    """Delivers over HTTP.

    A key that the server has refused is never sent again. Each later delivery looks first whether there is another one
    where the key came from, and fails without a request as long as there is none.

    Args:
        transport: What carries the requests.
        owned: Whether closing the delivery closes the transport too.
        key_source: Where the key comes from, in words.
        renew: Returns a transport with the key that is configured now and where that comes from, or ``None`` where it
            is that of the transport in its argument.
    """

    def __init__(
        self,
        transport: HttpTransport,
        *,
        owns_transport: bool,
        key_source: str = "given in code",
        reload_transport: Callable[[HttpTransport], tuple[HttpTransport, str] | None] = lambda _: None,
    ) -> None:
        from ._http.exchanges import ServerProtocol

        self._transport = transport
        self._owns_transport = owns_transport
        self._wire = ServerProtocol()
        self._reload_transport = reload_transport
        self._permission_error: PermissionError | None = None
        self.key_source = key_source
        transport.open()  # with all that it imports
        _silence_httpx()

    def __call__(self, ops: Sequence[Op], timeout: float, /) -> Sequence[OpResult]:
        """Deliver operations; see ``_sender.Delivery``."""
        if self._permission_error is not None and not self._reload_key():
            raise self._permission_error.with_traceback(None)
        while True:
            try:
                return self._transport.run(self._wire.deliver(ops), timeout, per_request=self._wire.unbatched)
            except PermissionError as error:
                if not self._reload_key():
                    self._permission_error = error
                    raise

    def _reload_key(self) -> bool:
        """Take the key that is configured now. Return whether it is another one."""
        try:
            renewed = self._reload_transport(self._transport)
        except (ConfigError, OSError):  # the file is being replaced, for example
            return False
        if renewed is None:
            return False
        if self._owns_transport:
            self._transport.close()
        (self._transport, self.key_source), self._owns_transport = renewed, True
        self._wire.key_info_cache = self._permission_error = None
        return True

    @property
    def unbatched(self) -> bool:
        """Whether each operation is a request of its own."""
        return self._wire.unbatched

    @property
    def boot_id(self) -> str:
        """Which life of the server answered, where that was asked."""
        return self._wire.boot_id

    def close(self) -> None:
        """Close the transport if it is owned."""
        if self._owns_transport:
            self._transport.close()


def flush(timeout: float = FLUSH_TIMEOUT) -> bool:
    """Wait until every server has the states that were reached by now.

    Args:
        timeout: Seconds to wait at most, for all servers together.

    Returns:
        Whether they have; false also when no server is configured and something was tracked.

    Example:
        >>> flush(timeout=1.0)
        True
    """
    end = time.monotonic() + timeout
    reached = True
    for one in list(_senders):
        if one.is_busy and not one.closed:
            reached = one.flush(max(end - time.monotonic(), 0.0)) and reached
    return reached


def stats() -> Stats:
    """Return what the sender of the configured server counted so far.

    Example:
        >>> stats().dropped
        0
    """
    return get_sender().stats()


def is_disabled() -> bool:
    """Return whether ``PROGRESSBAR_DISABLE`` turns everything off."""
    return _config.is_disabled(os.environ)


def get_fatal_exception() -> BaseException | None:
    """Return the exception that the process ends of, if it does: the one whose traceback Python has shown."""
    found = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)  # the latter before 3.12
    return found if isinstance(found, BaseException) else None  # a program may have put anything there


def shutdown() -> None:
    """Send the last states, within 1.5 seconds in all. Runs at the end of the process."""
    begun = time.monotonic()
    fatal = get_fatal_exception()
    found = map_fatal_errors(fatal)

    def conclude(source: Source) -> None:
        source.finalize(found)

    if _display is not None:
        _display.close()
    open_senders = [one for one in list(_senders) if not one.closed]
    end = begun + EXIT_TIMEOUT
    with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C: whoever is in a hurry is not kept waiting
        for one in open_senders:
            left = end - time.monotonic()
            one.shut_down(conclude, None if len(open_senders) == 1 else max(left, 0.0))
    if (
        isinstance(fatal, KeyboardInterrupt)
        and importing.was_active_since(begun - INTERRUPT_GRACE_SECONDS)
        and not hasattr(sys, "ps1")
    ):
        _end_by_interrupt()


def _end_by_interrupt() -> None:
    """Let the interpreter remember that its program was interrupted.

    It notes so in a flag, and when all is done it ends by SIGINT, so that a shell knows to stop its script as well. But
    the flag is of the latest text that was executed, by whatever thread, and modules that are imported have texts of
    their own executed for their named tuples and dataclasses.
    """
    with contextlib.suppress(KeyboardInterrupt):
        exec("raise KeyboardInterrupt")  # noqa: S102


def _register_hooks() -> None:
    global _hooks_registered, _is_exiting
    if not _hooks_registered:
        _hooks_registered = True
        # There is no public way to know that the hooks of the end are being called.
        _is_exiting = getattr(threading, "_SHUTTING_DOWN", False)
        atexit.register(shutdown)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_reset_after_fork)


def _report_error(error: ProgressBarError) -> None:
    if _settings.on_error is not None:
        _settings.on_error(error)


def _register_child_exit() -> None:
    """See to the exit of a child process: those of fork and forkserver skip what atexit knows."""
    global _child_hook_pid
    try:
        child = sys.modules["multiprocessing.process"].parent_process() is not None
    except (KeyError, AttributeError, NameError):
        child = False  # in a child it is imported. Here another thread may be at it, as ours is for the terminal bar
    if not child or _child_hook_pid == os.getpid():
        return
    _child_hook_pid = os.getpid()
    try:
        from multiprocessing.util import Finalize
    except (ImportError, OSError):  # there is no descriptor left to read it with
        return
    Finalize(None, shutdown, exitpriority=0)


def _reset_after_fork() -> None:
    reset_after_fork()
    for one in list(_senders):
        one.reset()
    if _display is not None:
        _display.reset()


def _connect_default() -> Delivery | None:
    return _connect_to(_settings.url, _settings.api_key)


def _connect_to(url: str | None, api_key: str | None = None) -> Delivery | None:
    path = _settings.path

    def discover() -> _config.Config | None:
        return _config.discover(os.environ, url=url, api_key=api_key, path=path)

    found = discover()
    if found is None:
        log(
            INFO,
            "Progress is shown here only: run 'progressbar-tracker serve', or set %s and %s",
            _config.URL_VARIABLE,
            _config.API_KEY_VARIABLE,
        )
        return None
    from ._http.transport import HttpTransport

    log(DEBUG, "Progress is reported to %s, from %s", found.url, found.source)

    def renew(used: HttpTransport) -> tuple[HttpTransport, str] | None:
        now = discover()
        if now is None or not _config.is_same_server(now.url, used.url):  # a key never travels to another server
            return None
        renewed = HttpTransport(now.url, now.api_key, timeout=REQUEST_TIMEOUT)
        if renewed.headers == used.headers:
            return None
        log(INFO, "The key is read again, from %s", now.key_source)
        return renewed, now.key_source

    try:
        transport = HttpTransport(found.url, found.api_key, timeout=REQUEST_TIMEOUT)
        return HttpDelivery(transport, owns_transport=True, key_source=found.key_source, reload_transport=renew)
    except ConfigError as error:
        raise _config.add_error_source(found, error) from error


_extra_meta: dict[str, str] = {}


def set_meta(**entries: str) -> None:
    """Tell this, or tell it otherwise, of the program with each item that is made from now on."""
    _extra_meta.update(entries)


def _collect_meta() -> dict[str, str]:
    try:
        with importing:
            import socket
        host = socket.gethostname()
    except (ImportError, OSError, ValueError):  # no free file descriptor, or a name that cannot be decoded
        host = ""
    script = os.path.basename(get_script_path())  # noqa: PTH119
    program = "python" if script in ("", "-", "-c") else script
    entries = {"host": host, "pid": str(os.getpid()), "program": program, **_extra_meta}
    fit = {clean_text(name, META_LENGTH): clean_text(text, META_LENGTH) for name, text in entries.items() if name}
    return dict(list(fit.items())[:META_ENTRIES])


def _is_foreign_record(record: LogRecord) -> bool:
    """Drop httpx's line for each request that the sender makes; the program's own requests are logged as ever."""
    return record.threadName != "progressbar-sender"


def _silence_httpx() -> None:
    import logging

    for name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy", "httpcore.socks"):
        logging.getLogger(name).addFilter(_is_foreign_record)  # the same filter twice is one filter
