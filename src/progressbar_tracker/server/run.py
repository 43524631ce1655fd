"""Run a server: in the foreground for the command line, in a thread for the demo and the tests."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import uvicorn

from progressbar_tracker._errors import ConfigError
from progressbar_tracker._version import VERSION

from . import capacity, logs
from .access import first_keys, keys
from .app import App, create_app
from .clock import SystemClock
from .hosts import find_own_address
from .http.connection import Connection, ConnectionRegistry
from .http.uvicorn_server import SHUTDOWN_TIMEOUT, UvicornServer, open_listening_socket
from .stores.open import open_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from progressbar_tracker._models import KeyType

    from .access.first_keys import LocalConfig
    from .settings import Settings

logger = logging.getLogger("progressbar_tracker.server")

KEEP_ALIVE_TIMEOUT: Final = 30
"""Seconds for which an idle connection is kept open."""

CLOSE_TIMEOUT: Final = 60.0
"""Seconds until :meth:`BackgroundServer.close` gives up a thread that hangs. A shutdown takes five, or more on a busy
machine, and the database may not be closed before its end."""


def _discard_line(_line: str) -> None:
    pass


class Server:
    """A server with its database, socket and application.

    It listens once it is constructed, and answers while :meth:`run` runs.

    Args:
        settings: See :class:`~.settings.Settings`.
        print_line: Is called with each line for the user. Some lines hold secrets and are printed once.
        local_config: Receives the URL and a working key; ``None`` leaves the user's config file alone.
        clock: Returns seconds since the epoch; see :mod:`~.clock`. The machine's clock by default.

    Raises:
        ConfigError: The database or the port cannot be used, in one sentence.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        print_line: Callable[[str], None] = _discard_line,
        local_config: LocalConfig | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.settings = settings
        self._print_line = print_line
        self._clock = clock = clock or SystemClock()
        self._socket = open_listening_socket(settings.host, settings.port)
        self._port: int = self._socket.getsockname()[1]
        try:
            self.store = open_store(settings.database)
        except BaseException:
            self._socket.close()
            raise
        try:
            self.app: App = create_app(settings, self.store, clock=clock)
            self._uvicorn = UvicornServer(
                uvicorn.Config(
                    self.app,
                    http=partial(Connection, registry=ConnectionRegistry(self.app.services.budget)),  # type: ignore[arg-type]
                    ws="none",
                    lifespan="on",
                    log_config=None,
                    access_log=False,
                    server_header=False,
                    # Every client can send X-Forwarded-For.
                    proxy_headers=False,
                    timeout_keep_alive=KEEP_ALIVE_TIMEOUT,
                    timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
                ),
                at_shutdown=self.app.services.stop,
                drain_seconds=settings.drain,
                at_drain=self.app.services.drain,
            )
            shared = self.store.shared
            with contextlib.nullcontext() if shared is None else shared.exclusive():
                # Another server may have created the first keys a moment ago.
                self.app.services.credentials.load()
                self._set_up_access(local_config)
            self.app.services.credentials.end_stale_sessions()
        except BaseException:
            self.close()
            raise

    @property
    def port(self) -> int:
        """The port, also if the system chose it."""
        return self._port

    @property
    def url(self) -> str:
        """The base URL for clients on this machine, without a final slash."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.settings.host, self.settings.host)  # noqa: S104
        return self._build_url(host)

    @property
    def network_url(self) -> str | None:
        """The base URL for clients on other machines, if the server listens on all addresses and one is known."""
        if self.settings.host not in ("0.0.0.0", "::"):  # noqa: S104
            return None
        if self.settings.public_url:
            return self.settings.public_url
        address = find_own_address()
        return None if address is None else self._build_url(address)

    def _build_url(self, host: str) -> str:
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}{self.settings.base_path}"

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until SIGINT or SIGTERM, then finish requests in flight, flush queued writes and return.

        Args:
            on_ready: Is called once signals are handled and connections are accepted.
        """
        capacity.raise_open_file_limit()
        # Otherwise each full garbage collection visits all loaded items, and delays requests meanwhile.
        gc.freeze()
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
        """Create a key and return its secret, which cannot be read again.

        Raises:
            FieldError: A field breaks a rule.
            StoreError: The store cannot write the key.
        """
        created = keys.new_key(type, name, self._clock(), expires_at=expires_at, group=group)
        self.app.services.credentials.save_key(created.record)
        return created.secret

    def close(self) -> None:
        """Flush queued writes, and close the database and the port. Idempotent."""
        self.store.close()
        self._socket.close()

    def _set_up_access(self, local_config: LocalConfig | None) -> None:
        credentials, settings = self.app.services.credentials, self.settings
        secret = first_keys.ensure_admin_key(credentials, self.store, settings.admin_key, self._clock())
        if secret is not None:
            self._print_line(f"The admin key, shown this once: {secret}")
        if settings.local_key and local_config is not None:
            url = first_keys.ensure_local_key(credentials, local_config, self.url, self._clock())
            if url is not None:
                self._print_line(f"Your config file names another server, {url}, and was left alone.")
        if settings.admin_username is None:
            self._print_line(f"Sign in to the dashboard, once: {self.create_sign_in_url()}")


class BackgroundServer(Server):
    """A server in a thread of its own: it serves from its construction until :meth:`close`.

    Port 0 takes a free port. Usable as a context manager.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        print_line: Callable[[str], None] = _discard_line,
        local_config: LocalConfig | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._thread: threading.Thread | None = None
        super().__init__(settings, print_line=print_line, local_config=local_config, clock=clock)
        self._thread = threading.Thread(target=self._serve_in_thread, name="progressbar-server", daemon=True)
        self._thread.start()
        self._uvicorn.ready.wait(60.0)
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
        """Wait until another thread closes the server."""
        on_ready()
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Stop serving, flush queued writes, and close the database and the port. Idempotent."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._uvicorn.should_exit = True
            self._thread.join(CLOSE_TIMEOUT)
        super().close()

    def _serve_in_thread(self) -> None:
        try:
            self._serve()
        except BaseException:  # no caller would see it
            logger.exception("the server stopped")
        finally:
            self._uvicorn.ready.set()
