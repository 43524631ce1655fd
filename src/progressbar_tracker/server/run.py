"""Running a server: in the foreground for the command line, in a thread for the demo and the tests."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import signal
import socket
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, Self
from urllib.parse import urlsplit

import uvicorn

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._version import VERSION

from . import capacity, logs
from .access import keys
from .app import App, create_app
from .clock import SystemClock
from .http.connection import Connection, ConnectionRegistry
from .models import KeyRecord, digest
from .mutations import SaveKey, Write
from .stores.open import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType

    from progressbar_tracker._models import KeyType

    from .settings import Settings

logger = logging.getLogger("progressbar_tracker.server")

SHUTDOWN_NOTICE_SECONDS: Final = 0.25
"""Seconds between a signal and the end of listening: who asks in them is answered, and told to connect anew."""

SHUTDOWN_TIMEOUT: Final = 2
"""Seconds that requests in flight have at the end; with messages under way and all the rest it is over within five."""

TCP_USER_TIMEOUT: Final = 30_000
"""Milliseconds in which the other end of a connection has to acknowledge what it was sent."""

UNSENT_BYTES: Final = 128 * 1024
"""How much the system takes for a connection beyond what is on its way to the client."""

KEEP_ALIVE_TIMEOUT: Final = 30
"""Seconds for which a connection with nothing to ask is kept open."""

LOCAL_KEY_NAME: Final = "local"
"""The name of the key in the user's config file."""


def _discard_message(_sentence: str) -> None:
    """Tell nobody."""


class LocalConfig(Protocol):
    """The user's config file, as far as a server is concerned with it."""

    def read(self) -> tuple[str, str] | None:
        """Return URL and key, or ``None`` where there are none."""

    def write(self, url: str, api_key: str) -> None:
        """Replace URL and key; the file is the user's alone."""


class Server:
    """A server with everything it holds: database, socket, application.

    Made, it listens already, but answers only while :meth:`run` runs.

    Args:
        settings: See :class:`~.settings.MeterSettings`.
        say: Told what a person should see, a sentence at a time; some of them hold secrets and are said once.
        local_config: The user's config file, to be given a working URL and key; ``None`` leaves it alone.
        clock: Seconds since the epoch; see :mod:`~.clock`. By default the machine's.

    Raises:
        ConfigError: The database or the port cannot be used, in one sentence.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        print_line: Callable[[str], None] = _discard_message,
        local_config: LocalConfig | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.settings = settings
        self._print_line = print_line
        self._clock = clock = clock or SystemClock()
        self._socket = _bind_socket(settings.host, settings.port)
        self._port: int = self._socket.getsockname()[1]
        try:
            self.store = open_store(settings.database, now=clock)
        except BaseException:
            self._socket.close()
            raise
        try:
            self.app: App = create_app(settings, self.store, clock=clock)
            self._uvicorn = _Uvicorn(
                uvicorn.Config(
                    self.app,
                    http=partial(Connection, registry=ConnectionRegistry(self.app.services.budget)),  # type: ignore[arg-type]
                    ws="none",
                    lifespan="on",
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    # Whoever can reach the port can write X-Forwarded-For.
                    proxy_headers=False,
                    timeout_keep_alive=KEEP_ALIVE_TIMEOUT,
                    timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
                ),
                at_shutdown=self.app.services.stop,
            )
            shared = self.store.shared
            with contextlib.nullcontext() if shared is None else shared.exclusive():
                # Another server may have made the first keys a moment ago.
                self.app.services.credentials.load()
                self._set_up_access(local_config)
            self.app.services.credentials.end_stale_sessions()
        except BaseException:
            self.close()
            raise

    @property
    def port(self) -> int:
        """The port, also where the system chose it."""
        return self._port

    @property
    def url(self) -> str:
        """The base URL for clients on this machine, without a final slash."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.settings.host, self.settings.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}{self.settings.base_path}"

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT or SIGTERM, then finish what is in flight, write what waits and return.

        Args:
            on_ready: Called when a signal ends it in good order and requests are taken, from here on.
        """
        capacity.raise_open_file_limit()
        try:
            with self._uvicorn.handle_signals():
                on_ready()
                logs.log_event(
                    "server started", url=self.url, database=self.settings.redacted_database, version=VERSION
                )
                self._serve()
        finally:
            self.close()
            logs.log_event("server stopped")

    def _serve(self) -> None:
        with asyncio.Runner(loop_factory=self._uvicorn.config.get_loop_factory()) as runner:
            runner.run(self._uvicorn.serve(sockets=[self._socket]))

    def create_sign_in_url(self) -> str:
        """Return a new one-time sign-in link for the dashboard."""
        services = self.app.services
        token = services.sign_in_links.create(services.monotonic())
        return f"{self.settings.public_url or self.url}/auth/{token}"

    def create_key(self, type: KeyType, name: str, *, expires_at: float | None = None, group: str | None = None) -> str:
        """Make a key and return its secret, which nothing will tell again.

        Raises:
            FieldError: A field breaks a rule.
            StoreError: It could not be written.
        """
        made = keys.new_key(type, name, self._clock(), expires_at=expires_at, group=group)
        self._save_key(made.record)
        return made.secret

    def close(self) -> None:
        """Write what waits and let go of the database and the port. Idempotent."""
        self.store.close()
        self._socket.close()

    def _save_key(self, record: KeyRecord) -> None:
        writes: list[Write] = [SaveKey(record)]
        services = self.app.services
        with services.credentials.keyring_lock:
            self.store.commit(writes).result(10.0)
            services.keyring.add(record)

    def _set_up_access(self, local_config: LocalConfig | None) -> None:
        self._ensure_admin_key()
        if self.settings.local_key and local_config is not None:
            self._ensure_local_key(local_config)
        if self.settings.admin_username is None:
            self._print_line(f"Sign in to the dashboard, once: {self.create_sign_in_url()}")

    def _ensure_admin_key(self) -> None:
        ring, now = self.app.services.keyring, self._clock()
        given = self.settings.admin_key
        if given is not None:
            known = ring.find(given, now)
            if known is not None and keys.is_usable(known, now) and known.type == "admin":
                return
            if (why := self._refusal_reason(given, now)) is not None:
                variables = "PROGRESSBAR_ADMIN_KEY or PROGRESSBAR_ADMIN_KEY_FILE"
                logger.error("the key in %s %s and is refused: give another one", variables, why)
                return
            former = next((record for record in ring.all() if record.imported), None)
            self._save_key(keys.import_key(given, now, former))
        elif not any(record.type == "admin" and keys.is_usable(record, now) for record in ring.all()):
            self._print_line(f"The admin key, shown this once: {self.create_key('admin', 'admin')}")

    def _refusal_reason(self, secret: str, now: float) -> str | None:
        """Return why a secret may not become an admin key: it was one of a key before. ``None`` if it may."""
        record = self.app.services.keyring.find_any(secret)
        if record is None:
            return "has ended" if self.store.is_secret_retired(digest(secret)) else None
        if record.revoked_at is not None:
            return "was revoked"
        if not keys.is_usable(record, now):
            return "has expired"
        return "was replaced" if record.type == "admin" else f"is a {record.type} key"

    def _ensure_local_key(self, config: LocalConfig) -> None:
        ring, now = self.app.services.keyring, self._clock()
        found = config.read()
        if found is not None:
            url, secret = found
            if not _is_loopback(url):
                self._print_line(f"Your config file names another server, {url}, and was left alone.")
                return
            record = ring.find(secret, now)
            if record is not None and keys.is_usable(record, now) and record.type != "read":
                if url.rstrip("/") != self.url:
                    config.write(self.url, secret)
                return
        former = next(
            (record for record in ring.all() if record.name == LOCAL_KEY_NAME and keys.is_usable(record, now)), None
        )
        # A new secret for the old identity: it goes on owning its items.
        made = keys.new_key("write", LOCAL_KEY_NAME, now) if former is None else keys.rotate_key(former, now)
        self._save_key(made.record)
        config.write(self.url, made.secret)


class BackgroundServer(Server):
    """A server in a thread of its own: serves from when it is made until :meth:`close`.

    Port 0 takes a free port. Usable as a context manager.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        print_line: Callable[[str], None] = _discard_message,
        local_config: LocalConfig | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._thread: threading.Thread | None = None
        super().__init__(settings, print_line=print_line, local_config=local_config, clock=clock)
        self._thread = threading.Thread(target=self._serve_in_thread, name="progressbar-server", daemon=True)
        self._thread.start()
        self._uvicorn.ready.wait(30.0)
        if not self._uvicorn.started:
            self.close()
            raise ConfigError("the server did not start; the log says why")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Wait until it is closed by another thread."""
        on_ready()
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Stop serving, write what waits and let go of everything. Idempotent."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._uvicorn.should_exit = True
            self._thread.join(SHUTDOWN_TIMEOUT + 2)
        super().close()

    def _serve_in_thread(self) -> None:
        try:
            self._serve()
        except BaseException:  # the thread is ours, and nobody else would hear of it
            logger.exception("the server stopped")
        finally:
            self._uvicorn.ready.set()


class _Uvicorn(uvicorn.Server):
    """uvicorn, told by us when to stop: its own signal handlers end the process before what waits is written."""

    def __init__(self, config: uvicorn.Config, *, at_shutdown: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._at_shutdown = at_shutdown
        self._is_signalled = False
        logging.getLogger("uvicorn.error").addFilter(_drop_stream_errors)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._at_shutdown()  # or it would wait for streams that never end by themselves
        if self._is_signalled and not self.force_exit:
            # A balancer sees that it is to ask elsewhere, and who has just sent something is answered.
            await asyncio.sleep(SHUTDOWN_NOTICE_SECONDS)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            # Only the main thread may hear signals; whoever runs this elsewhere has their own way to stop it.
            yield
            return
        former = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        # Told twice, do not wait for anyone.
        self.force_exit = self.should_exit
        self.should_exit = self._is_signalled = True


def _drop_stream_errors(record: logging.LogRecord) -> bool:
    """Drop uvicorn's word on a stream whose reader took nothing, and which is cut off on purpose."""
    return not record.getMessage().startswith("ASGI callable returned without completing response")


def _bind_socket(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot listen on {host}: it is not an address of this machine ({error})") from error
    try:
        if sys.platform != "win32":
            # Or a restart would have to wait for the connections of the former life.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # A connection inherits it: one whose other end takes nothing is closed, whatever waits to be sent.
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            # Inherited too: of what a client does not read, the system holds little, and so can a revoked key read.
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        bound.bind(address)
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return bound


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
