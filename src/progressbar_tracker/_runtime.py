"""The process's sender and display, and the hooks for flush, exit and fork.

Everything is lazy: the import starts nothing, and a program that tracks nothing has no hook. The sender's thread reads
the configuration before the first request.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final

from . import _config
from ._endings import map_fatal_errors
from ._environments.place import describe_place
from ._errors import FOREIGN_REPLY_CODE, ConfigError, PermissionError, ProgressBarError
from ._fork import importing, reset_after_fork
from ._log import DEBUG, INFO, log, silence_httpx
from ._models import MAX_META_ENTRIES, MAX_META_LENGTH
from ._sender.reconciler import Reconciler
from ._sender.sender import EXIT_TIMEOUT, REQUEST_TIMEOUT, Sender
from ._terminal.display import Display
from ._terminal.failure_lines import FailureLines, Reporter
from ._text import clean_text, get_script_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ._http.transport import HttpTransport
    from ._models import Op, OpResult
    from ._sender.failure_log import Scope
    from ._sender.sender import Connector, Delivery
    from ._sender.snapshot import Source
    from ._sender.stats import Stats

FLUSH_TIMEOUT: Final = 5.0  # seconds
INTERRUPT_GRACE_SECONDS: Final = 1.0  # from Ctrl-C to the exit hooks; the traceback is printed meanwhile


class _Settings:
    """The arguments of ``configure()``."""

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
_failure_lines: FailureLines | None = None
_hooks_registered = False
_child_hook_pid = 0
_is_exiting = False  # the exit hook was registered by another exit hook, and will not run


def configure(
    *,
    url: str | None = None,
    api_key: str | None = None,
    path: Path | None = None,
    on_error: Callable[[ProgressBarError], None] | None = None,
) -> None:
    """Set the server that ``track()`` reports to. Overrides the environment and the config file.

    Running trackers stay with their server.

    Args:
        url: The server's base URL.
        api_key: The key.
        path: A config file in place of the user's.
        on_error: Called in the background thread with each error that keeps a state from its server, including those of
            a ``ProgressBar``. An exception that it raises is ignored.

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


def override_url(url: str) -> None:
    """Set the server as :func:`configure` does, but let the sender report a URL that cannot be used."""
    configure()
    _settings.url = url


def get_sender() -> Sender:
    """Return the sender of the configured server."""
    global _default_sender
    if _default_sender is None:
        _default_sender = create_sender(_connect_default)
    return _default_sender


@contextlib.contextmanager
def replace_sender(replacement: Sender) -> Iterator[None]:
    """Replace the sender of the configured server while the block runs."""
    global _default_sender
    earlier, _default_sender = _default_sender, replacement
    try:
        yield
    finally:
        _default_sender = earlier


def get_sender_at(url: str | None) -> Sender:
    """Return the sender of the server at ``url``, or of the configured one.

    A forked process uses the sender and key of the parent's client. Without one, the configuration needs a key for
    exactly this URL.
    """
    if url is None:
        return get_sender()
    for sender in list(_senders):
        if sender.url == url and not sender.closed:
            return sender
    return create_sender(lambda: _connect_to(url), url)


def create_sender(connect: Connector, url: str | None = None) -> Sender:
    """Return a sender that is flushed, closed and reset with the others."""
    _register_hooks()
    sender = Sender(
        connect,
        url=url,
        find_url=_find_default_url,
        on_start=_register_child_exit,
        on_fork=_reset_after_fork,
        on_error=_report_error,
        announce=lambda cause, text, scope: _show_failure(url, cause, text, scope),
        make_reconciler=lambda: Reconciler(collect_meta=_collect_meta),
        is_exiting=_is_exiting,
    )
    _senders.add(sender)
    return sender


def get_display() -> Display:
    """Return the terminal display of the process."""
    global _display
    if _display is None:
        _register_hooks()
        _display = Display()
    return _display


def get_failure_lines() -> FailureLines:
    """Return the lines about failures that this process shows on stderr."""
    global _failure_lines
    if _failure_lines is None:
        _failure_lines = FailureLines(get_display, Reporter.from_environ(os.environ))
    return _failure_lines


def _show_failure(url: str | None, cause: str, text: str, scope: Scope) -> None:
    lines = get_failure_lines()
    is_configured = url is None and (_settings.url is None or lines.is_command)
    is_of_configured_server = scope == "server" and is_configured
    lines.show(f"{cause} {url or _settings.url or ''}", text, is_of_configured_server=is_of_configured_server)


class HttpDelivery:
    """Delivers operations over HTTP.

    A key that the server has refused is never sent again. Each later delivery first reads the key from its source
    again, and fails without a request while the key is the same.

    Args:
        transport: The transport of the requests.
        owns_transport: Closing the delivery closes the transport too.
        key_source: Where the key comes from, for a log line.
        reload_transport: Receives the present transport. Returns one with the key that is configured now, and the
            source of that key; ``None`` if the key is the same.
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
        self._protocol = ServerProtocol()
        self._reload_transport = reload_transport
        self._permission_error: PermissionError | None = None
        self.key_source = key_source
        transport.open()  # with all that it imports
        silence_httpx()

    def __call__(self, ops: Sequence[Op], timeout: float, /) -> Sequence[OpResult]:
        """Deliver operations; see ``_sender.sender.Delivery``."""
        if self._permission_error is not None and not self._reload_key():
            raise self._permission_error.with_traceback(None)
        while True:
            try:
                return self._transport.run(self._protocol.deliver(ops), timeout, per_request=self._protocol.unbatched)
            except PermissionError as error:
                if error.code == FOREIGN_REPLY_CODE:
                    raise
                if not self._reload_key():
                    self._permission_error = error
                    raise

    def _reload_key(self) -> bool:
        """Use the key that is configured now. Return whether it has changed."""
        try:
            reloaded = self._reload_transport(self._transport)
        except (ConfigError, OSError):  # for example, the file is being replaced
            return False
        if reloaded is None:
            return False
        if self._owns_transport:
            self._transport.close()
        (self._transport, self.key_source), self._owns_transport = reloaded, True
        self._protocol.key_info_cache = self._permission_error = None
        return True

    @property
    def unbatched(self) -> bool:
        """Whether each operation is a request."""
        return self._protocol.unbatched

    @property
    def boot_id(self) -> str:
        """Changes when the server restarts; ``""`` if it is not known."""
        return self._protocol.boot_id

    def close(self) -> None:
        """Close the transport, if the delivery owns it."""
        if self._owns_transport:
            self._transport.close()


def flush(timeout: float = FLUSH_TIMEOUT) -> bool:
    """Wait until every server has the states that were reached by now.

    Args:
        timeout: Seconds to wait at most, for all servers together.

    Returns:
        Whether the servers have them; false also if something was tracked without a configured server.

    Example:
        >>> flush(timeout=1.0)
        True
    """
    end = time.monotonic() + timeout
    reached = True
    for sender in list(_senders):
        if sender.is_busy and not sender.closed:
            reached = sender.flush(max(end - time.monotonic(), 0.0)) and reached
    return reached


def stats() -> Stats:
    """Return the counts of the sender of the configured server.

    Example:
        >>> stats().dropped
        0
    """
    return get_sender().stats()


def is_disabled() -> bool:
    """Return whether ``PROGRESSBAR_DISABLE`` turns tracking off."""
    return _config.is_disabled(os.environ)


@functools.cache
def are_loops_stoppable() -> bool:
    """Return whether outermost loops are stoppable by default. The environment is read once, for short loops."""
    return _config.are_loops_stoppable(os.environ)


def get_fatal_exception() -> BaseException | None:
    """Return the exception that ends the process, whose traceback Python has printed, or ``None``."""
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)  # the latter before 3.12
    return error if isinstance(error, BaseException) else None  # a program may have assigned anything


def shutdown() -> None:
    """Send the last states within 1.5 seconds. Runs at the end of the process."""
    started_at = time.monotonic()
    fatal_error = get_fatal_exception()
    fatal_errors = map_fatal_errors(fatal_error)

    def finalize(source: Source) -> None:
        source.finalize(fatal_errors)

    if _display is not None:
        _display.close()
    open_senders = [sender for sender in list(_senders) if not sender.closed]
    end = started_at + EXIT_TIMEOUT
    with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C ends the wait
        for sender in open_senders:
            left = end - time.monotonic()
            sender.shut_down(finalize, None if len(open_senders) == 1 else max(left, 0.0))
        if _display is not None:
            _display.close()  # it may have got a line about a failure
    if (
        isinstance(fatal_error, KeyboardInterrupt)
        and importing.was_active_since(started_at - INTERRUPT_GRACE_SECONDS)
        and not hasattr(sys, "ps1")
    ):
        _restore_interrupt_flag()


def _restore_interrupt_flag() -> None:
    """Set the flag again by which the interpreter ends with SIGINT after an interrupt, so that a shell script ends too.

    Every execution of source text in any thread resets the flag. Modules that are imported execute source text for
    their named tuples and dataclasses.
    """
    with contextlib.suppress(KeyboardInterrupt):
        exec("raise KeyboardInterrupt")  # noqa: S102


def _register_hooks() -> None:
    global _hooks_registered, _is_exiting
    if not _hooks_registered:
        _hooks_registered = True
        # There is no public way to know that the exit hooks are running.
        _is_exiting = getattr(threading, "_SHUTTING_DOWN", False)
        atexit.register(shutdown)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_reset_after_fork)


def _report_error(error: ProgressBarError) -> None:
    if _settings.on_error is not None:
        _settings.on_error(error)


def _register_child_exit() -> None:
    """Register the exit hook of a multiprocessing child: with fork and forkserver it skips atexit."""
    global _child_hook_pid
    try:
        is_child = sys.modules["multiprocessing.process"].parent_process() is not None
    except (KeyError, AttributeError, NameError):
        is_child = False  # a child has imported it. Elsewhere a thread may be importing it, as that of the display does
    if not is_child or _child_hook_pid == os.getpid():
        return
    _child_hook_pid = os.getpid()
    try:
        from multiprocessing.util import Finalize
    except (ImportError, OSError):  # no file descriptor is left for the import
        return
    Finalize(None, shutdown, exitpriority=0)


def _reset_after_fork() -> None:
    reset_after_fork()
    for sender in list(_senders):
        sender.reset()
    if _display is not None:
        _display.reset()


def _discover_default() -> _config.Config | None:
    return _config.discover(os.environ, url=_settings.url, api_key=_settings.api_key, path=_settings.path)


def _find_default_url() -> str | None:
    try:
        config = _discover_default()
    except (ConfigError, OSError):  # reported by the sender
        return None
    return None if config is None else config.url


def _connect_default() -> Delivery | None:
    return _connect_to(_settings.url, _settings.api_key)


def find_server(url: str | None, api_key: str | None) -> tuple[str, str]:
    """Return the URL and the key of an explicit client: the configured ones if both are missing.

    A single one is never combined with the configuration: the key would be sent to a server that was not meant.

    Raises:
        ConfigError: One of them is missing, or no server is configured.
    """
    if url is not None and api_key is not None:
        return url, api_key
    if url is not None or api_key is not None:
        raise ConfigError(f"{'api_key' if api_key is None else 'api_url'} is missing: pass both, or none of them")
    config = _discover_default()
    if config is None:
        raise ConfigError("no server is configured: pass api_url and api_key, or run: progressbar-tracker login URL")
    return config.url, config.api_key


def _connect_to(url: str | None, api_key: str | None = None) -> Delivery | None:
    path = _settings.path

    def discover() -> _config.Config | None:
        return _config.discover(os.environ, url=url, api_key=api_key, path=path)

    config = discover()
    if config is None:
        log(
            INFO,
            "Progress is shown here only: run 'progressbar-tracker serve', or set %s and %s",
            _config.URL_VARIABLE,
            _config.API_KEY_VARIABLE,
        )
        return None
    from ._http.transport import HttpTransport

    log(DEBUG, "Progress is reported to %s, from %s", config.url, config.source)

    def reload_transport(present: HttpTransport) -> tuple[HttpTransport, str] | None:
        new = discover()
        if new is None or not _config.is_same_server(new.url, present.url):  # a key is never sent to another server
            return None
        transport = HttpTransport(new.url, new.api_key, timeout=REQUEST_TIMEOUT)
        if transport.headers == present.headers:
            return None
        log(INFO, "The key is read again, from %s", new.key_source)
        return transport, new.key_source

    try:
        return HttpDelivery(
            HttpTransport(config.url, config.api_key, timeout=REQUEST_TIMEOUT),
            owns_transport=True,
            key_source=config.key_source,
            reload_transport=reload_transport,
        )
    except ConfigError as error:
        raise _config.add_error_source(config, error) from error


_extra_meta: dict[str, str] = {}


def set_meta(**entries: str) -> None:
    """Add or replace entries of the ``meta`` field of the items that are created from now on."""
    _extra_meta.update(entries)


def _collect_meta() -> dict[str, str]:
    try:
        with importing:
            import socket
        host = socket.gethostname()
    except (ImportError, OSError, ValueError):  # no free file descriptor, or an undecodable name
        host = ""
    script = os.path.basename(get_script_path())  # noqa: PTH119
    program = "python" if script in ("", "-", "-c") else script
    place = describe_place(os.environ)
    entries = {"host": host, "pid": str(os.getpid()), "program": program, **_extra_meta, **place.meta}
    clean = {
        clean_text(name, MAX_META_LENGTH): clean_text(text, MAX_META_LENGTH) for name, text in entries.items() if name
    }
    return dict(list(clean.items())[:MAX_META_ENTRIES])
