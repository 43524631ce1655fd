"""HTTP: the only importer of httpx. One pooled client each, one deadline for each exchange, errors of our own.

An exchange of ``_wire`` goes in, its result comes out. httpx is imported when the first client is built, and the pool
is built when the first request is sent: a client that is never used costs nothing, and one that was made before a
fork never shares its sockets with the child.

All that a call does has to be over within its timeout: connecting, writing, the head of each answer, interim answers,
the body. Synchronous exchanges have their deadline from ``_network``, asynchronous ones are cancelled by anyio. Only
the silence in a stream of events has a limit of its own. The size of a body is bounded, for a server that streams
without end would fill the memory; of an answer's head httpx takes 100 KiB at most.

The asynchronous client runs on asyncio and on trio. Connections belong to the event loop in which they were made, so
each loop has a pool of its own, which is closed when the loop ends.

httpx was asked for, and has had no release since December 2024. What could replace it: httpx2 of pydantic, a fork with
the same interface, in which this module and ``_network`` change their imports; or urllib3, for the synchronous client
only, with its pool in the place of ``_Transport`` and ``urllib3.Timeout(total=...)`` in that of ``_network``. That it
stays a change of this one file and ``_network`` is kept by these: exchanges know requests and replies of ``_wire`` and
no HTTP library; ``_proxy`` decides about proxies; no error of httpx leaves this module; and httpx is named elsewhere
only as the type of ``transport=`` (``tests/http/test_deadline.py`` holds all of ``src`` to it, but for the server's
webhooks, which are a client of their own).
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar

from progressbar_tracker._errors import ConfigError, ProgressBarError, TransportError
from progressbar_tracker._models import format_value
from progressbar_tracker._text import clean_detail

from .event_stream import STREAM_READ_TIMEOUT
from .messages import Reply, Request, check_key, parse_base_url
from .proxy import find_proxy

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator

    import httpx

    from progressbar_tracker._models import Change

    from .event_stream import EventStream
    from .exchanges import Exchange
    from .network import Deadline
    from .proxy import Proxy

T = TypeVar("T")

CONNECT_TIMEOUT: Final = 3.0  # seconds; no server worth waiting for takes longer to accept
MAX_CONNECTIONS: Final = 100  # of one client; a thread that finds all of them in use waits
CERTIFICATE_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
RESOURCE_ERRNOS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)  # no fault of a setting


def check_timeout(timeout: object) -> float:
    """Return a time-out in seconds, more than 0 and at most an hour.

    Raises:
        ConfigError: It is not such a number. There is no "wait for ever".
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 3600:
        raise ConfigError(
            f"timeout must be a number of seconds, more than 0 and at most 3600, not {format_value(timeout)}"
        )
    return float(timeout)


class _BaseTransport:
    """What both shells share: where to, with which key, how long to wait. ``repr`` shows no key."""

    def __init__(self, api_url: str, api_key: str, timeout: float) -> None:
        self.url = parse_base_url(api_url)
        # Nothing is to be compressed: a few bytes could be a gigabyte.
        self.headers = {
            "X-API-KEY": check_key(api_key),
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        self.timeout = check_timeout(timeout)
        # Loading the certificates takes longer than all the rest, and plain HTTP needs none: no redirect is followed.
        self.verify_tls = not self.url.lower().startswith("http:")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def build_request(
        self, client: httpx.Client | httpx.AsyncClient, request: Request, deadline: Deadline, **headers: str
    ) -> httpx.Request:
        """Return httpx's form of a request."""
        import httpx

        from .network import Deadline

        if request.body is not None:
            headers["Content-Type"] = "application/json"
        connecting = Deadline(min(deadline.at, time.monotonic() + CONNECT_TIMEOUT))
        return client.build_request(
            request.method,
            self.url + request.path,
            content=request.body,
            headers=headers,
            timeout=httpx.Timeout(deadline, connect=connecting),
        )

    def client_options(self, *, network: bool) -> dict[str, Any]:
        """Return what the clients are made with; ``network`` is whether they use the network at all.

        Raises:
            ConfigError: A variable for proxies or certificates cannot be used.
        """
        import httpx

        made: dict[str, Any] = {"headers": self.headers, "trust_env": False}
        if network:
            proxy = find_proxy(self.url, os.environ)
            made["proxy"] = None if proxy is None else _to_httpx_proxy(proxy)
            made["verify"] = _load_certificates() if self.verify_tls else httpx.create_ssl_context(verify=False)
            # As many may stay open as there may be: the pool closes surplus idle connections, and takes one that it has
            # just given to another thread for idle until that thread begins to write.
            made["limits"] = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
        return made

    def transport_error(self, error: Exception, request: Request, deadline: Deadline) -> TransportError:
        """Return our error for one of httpx's or of the system's, with method and URL and without the key."""
        import httpx

        url = self.url + request.path.partition("?")[0]
        if isinstance(error, httpx.RequestError):
            # Ours has it as its cause, and what sends errors to another process or to a log may take the cause along.
            error.request = httpx.Request(request.method, url)
        if time.monotonic() >= deadline.at and not isinstance(error, _UnusableReplyError):
            reason = f"it was not complete after {float(deadline):.3g} seconds"
        else:
            reason = clean_detail(_error_text(error)).replace(self.headers["X-API-KEY"], "<key>")
        return TransportError(f"no answer to {request.method} {url}: {reason}", method=request.method, url=url)


def _error_text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _to_httpx_proxy(proxy: Proxy) -> httpx.Proxy:
    """Return httpx's form of a proxy. No error shows its URL, which may have a password."""
    import importlib.util

    import httpx

    try:
        made = httpx.Proxy(proxy.url)
    except (httpx.InvalidURL, ValueError):
        raise ConfigError(f"{proxy.variable} is not the URL of a proxy, such as http://proxy:3128") from None
    if made.url.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ConfigError(
            f"{proxy.variable} names a SOCKS proxy, for which the package socksio is missing: install httpx[socks], or "
            "name the server in no_proxy"
        )
    return made


def _load_certificates() -> ssl.SSLContext:
    """Load the certificates that servers are checked by: those that ``SSL_CERT_FILE`` or ``SSL_CERT_DIR`` name."""
    import httpx

    try:
        return httpx.create_ssl_context()
    except (OSError, ValueError) as error:
        named = [name for name in CERTIFICATE_VARIABLES if os.environ.get(name)]
        if not named or (type(error) is OSError and error.errno in RESOURCE_ERRNOS):
            raise
        raise ConfigError(f"the certificates cannot be loaded, see {' and '.join(named)}: {error}") from error


class ClosedError(TransportError, RuntimeError):
    """The client was closed before this call."""


def _deadline_after(timeout: float) -> Deadline:
    from .network import Deadline

    return Deadline(time.monotonic() + timeout)


class _UnusableReplyError(Exception):
    """The body of an answer is not worth waiting for."""


class _ReplyReader:
    """Gathers the body of an answer, within limits."""

    def __init__(self, response: httpx.Response, limit: int, deadline: Deadline) -> None:
        self._response = response
        self._limit = limit
        self._deadline = deadline
        self._chunks: list[bytes] = []
        self._size = 0
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise _UnusableReplyError(f"its body is encoded as {format_value(encoding)}, which was not asked for")

    def feed(self, chunk: bytes) -> None:
        """Take a piece in.

        Raises:
            _UnfitError: It is too much.
            TimeoutError: It is too late.
        """
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > self._limit:
            raise _UnusableReplyError(f"its body has more than {self._limit >> 20} MiB")
        if time.monotonic() >= self._deadline.at:
            raise TimeoutError

    def build_reply(self) -> Reply:
        """Return the whole answer."""
        headers = {name.lower(): text for name, text in self._response.headers.items()}
        return Reply(self._response.status_code, headers, b"".join(self._chunks))


class HttpTransport(_BaseTransport):
    """Drives exchanges over a pool of connections. Safe to use from several threads.

    Args:
        api_url: The server's base URL; a path is kept.
        api_key: The key, sent as ``X-API-KEY``.
        timeout: Seconds for each exchange.
        transport: An httpx transport to use in place of the network.
    """

    def __init__(
        self, api_url: str, api_key: str, *, timeout: float, transport: httpx.BaseTransport | None = None
    ) -> None:
        super().__init__(api_url, api_key, timeout)
        self._transport = transport
        self._clients: dict[int, httpx.Client] = {}  # by process id
        self._closed = False

    def run(self, exchange: Exchange[T], timeout: float | None = None, *, per_request: bool = False) -> T:
        """Carry out an exchange and return its result.

        Args:
            exchange: The requests.
            timeout: Seconds for all of it, in place of the usual ones.
            per_request: Whether each request has that time for itself.

        Raises:
            TransportError: There was no usable answer in time.
            ProgressBarError: What the exchange raises.
        """
        seconds = self.timeout if timeout is None else timeout
        deadline = _deadline_after(seconds)
        try:
            request = next(exchange)
            while True:
                request = exchange.send(self._send(request, deadline))
                if per_request:
                    deadline = _deadline_after(seconds)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _send(self, request: Request, deadline: Deadline) -> Reply:
        try:
            client = self.open()
            with self._open_response(client, self.build_request(client, request, deadline)) as response:
                return self._read_reply(response, request, deadline)
        except ProgressBarError:
            raise
        except Exception as error:
            raise self.transport_error(error, request, deadline) from error

    @contextlib.contextmanager
    def _open_response(self, client: httpx.Client, request: httpx.Request) -> Iterator[httpx.Response]:
        response = client.send(request, stream=True)
        try:
            yield response
        finally:
            response.close()
            # A pool that is closed while a connection is being made knows nothing of it then.
            if self._closed and (connection := response.extensions.get("network_stream")) is not None:
                connection.close()

    @staticmethod
    def _read_reply(response: httpx.Response, request: Request, deadline: Deadline) -> Reply:
        body = _ReplyReader(response, request.limit, deadline)
        for chunk in response.iter_bytes():
            body.feed(chunk)
        return body.build_reply()

    def follow(self, event_stream: EventStream) -> Iterator[Change]:
        """Yield what a server tells over one connection, until it ends.

        Raises:
            ResponseError: The answer is no stream.
            TransportError: There was no answer, or the connection broke.
        """
        request, deadline = event_stream.request, _deadline_after(self.timeout)
        try:
            client = self.open()
            asked = self.build_request(client, request, deadline, **event_stream.headers)
            with self._open_response(client, asked) as response:
                if not event_stream.accept_response(response.status_code, response.headers.get("content-type", "")):
                    raise event_stream.response_error(self._read_reply(response, request, deadline))
                # From here on only silence has an end. The dictionary is the one that is read before the body is.
                asked.extensions["timeout"]["read"] = STREAM_READ_TIMEOUT
                for chunk in response.iter_bytes():
                    deadline = _deadline_after(STREAM_READ_TIMEOUT)
                    yield from event_stream.feed(chunk)
        except ProgressBarError:
            raise
        except Exception as error:
            raise self.transport_error(error, request, deadline) from error

    def open(self) -> httpx.Client:
        """Return the client, built now if it was not. No request is made.

        Raises:
            ConfigError: The environment asks for what httpx cannot do.
            ClosedError: The transport is closed.
        """
        if self._closed:
            raise ClosedError("this client is closed", url=self.url)
        client = self._clients.get(os.getpid())
        return self._build_client() if client is None else client

    def _build_client(self) -> httpx.Client:
        import httpx

        # After a fork the parent's pool is left alone, never closed: its sockets are the parent's. setdefault is one
        # atomic step, so no lock is needed, which a fork could leave locked.
        network = self._transport
        if network is None:
            network = _make_deadline_transport(**self.client_options(network=True))
        fresh = httpx.Client(transport=network, **self.client_options(network=False))
        client = self._clients.setdefault(os.getpid(), fresh)
        if client is not fresh:
            fresh.close()
        if self._closed:  # meanwhile, when there was nothing to close yet
            client.close()
        return client

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._closed = True
        if (client := self._clients.pop(os.getpid(), None)) is not None:
            client.close()


def _make_deadline_transport(
    *, verify: ssl.SSLContext, proxy: httpx.Proxy | None, limits: httpx.Limits, **_: object
) -> httpx.HTTPTransport:
    import httpx

    from .network import DeadlineBackend

    made = httpx.HTTPTransport(verify=verify, proxy=proxy, limits=limits, trust_env=False)
    # httpx has no argument for it. If that name ever changes, tests/http/test_deadline.py fails.
    made._pool._network_backend = DeadlineBackend()  # noqa: SLF001
    return made


class AsyncHttpTransport(_BaseTransport):
    """The same for asyncio and trio."""

    def __init__(
        self, api_url: str, api_key: str, *, timeout: float, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        super().__init__(api_url, api_key, timeout)
        self._transport = transport
        # By event loop. The generator closes the client when the loop ends, or when this is closed.
        self._clients: weakref.WeakKeyDictionary[object, tuple[httpx.AsyncClient, AsyncGenerator[None, None]]]
        self._clients = weakref.WeakKeyDictionary()
        self._closed = False

    async def run(self, exchange: Exchange[T]) -> T:
        """Carry out an exchange and return its result. As ``HttpTransport.run``."""
        import anyio

        deadline = _deadline_after(self.timeout)
        request: Request | None = None
        reply: Reply | None = None
        try:
            with anyio.fail_after(self.timeout):
                while True:
                    try:
                        request = next(exchange) if reply is None else exchange.send(reply)
                    except StopIteration as stop:
                        result: T = stop.value
                        return result
                    reply = await self._send(request, deadline)
        except TimeoutError as error:
            assert request is not None  # there is nothing to wait for before it
            raise self.transport_error(error, request, deadline) from error

    async def _send(self, request: Request, deadline: Deadline) -> Reply:
        try:
            client = await self._open()
            async with self._open_response(client, self.build_request(client, request, deadline)) as response:
                return await self._read_reply(response, request, deadline)
        except ProgressBarError:
            raise
        except Exception as error:
            raise self.transport_error(error, request, deadline) from error

    @contextlib.asynccontextmanager
    async def _open_response(self, client: httpx.AsyncClient, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        response = await client.send(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()
            # As in `HttpTransport`.
            if self._closed and (connection := response.extensions.get("network_stream")) is not None:
                await connection.aclose()

    @staticmethod
    async def _read_reply(response: httpx.Response, request: Request, deadline: Deadline) -> Reply:
        body = _ReplyReader(response, request.limit, deadline)
        async for chunk in response.aiter_bytes():
            body.feed(chunk)
        return body.build_reply()

    async def follow(self, event_stream: EventStream) -> AsyncGenerator[Change, None]:
        """As ``HttpTransport.follow``."""
        import anyio

        request, deadline = event_stream.request, _deadline_after(self.timeout)
        async with contextlib.AsyncExitStack() as stack:
            try:
                # No yield in here: a cancel scope belongs to the task that entered it.
                with anyio.fail_after(self.timeout):
                    client = await self._open()
                    asked = self.build_request(client, request, deadline, **event_stream.headers)
                    response = await stack.enter_async_context(self._open_response(client, asked))
                    if not event_stream.accept_response(response.status_code, response.headers.get("content-type", "")):
                        raise event_stream.response_error(await self._read_reply(response, request, deadline))
                asked.extensions["timeout"]["read"] = STREAM_READ_TIMEOUT
                async for chunk in response.aiter_bytes():
                    deadline = _deadline_after(STREAM_READ_TIMEOUT)
                    for change in event_stream.feed(chunk):
                        yield change
            except ProgressBarError:
                raise
            except Exception as error:
                raise self.transport_error(error, request, deadline) from error

    async def _open(self) -> httpx.AsyncClient:
        import httpx

        if self._closed:
            raise ClosedError("this client is closed", url=self.url)
        loop = _running_loop()
        if (entry := self._clients.get(loop)) is not None:
            return entry[0]
        client = httpx.AsyncClient(transport=self._transport, **self.client_options(network=self._transport is None))
        guard = _client_lifetime(client)
        self._clients[loop] = client, guard
        await anext(guard)
        return client

    async def close(self) -> None:
        """Close the connections of this event loop. Idempotent. Those of another one are closed when it ends."""
        self._closed = True
        entry = self._clients.pop(_running_loop(), None)
        if entry is not None:
            await entry[1].aclose()


async def _client_lifetime(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    """Close a client when this is closed: by ``close()``, or by an event loop that ends its generators."""
    try:
        yield
    finally:
        await client.aclose()


def _running_loop() -> object:
    """Return what stands for the running event loop."""
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token()
