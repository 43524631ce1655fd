"""The transports: run exchanges over httpx, with one deadline each, and map httpx's errors to the library's.

This module is the only importer of httpx. httpx is imported with the first client, and the pool is built for the first
request. An unused client therefore costs nothing, and a client never shares its sockets with the child of a fork.

The timeout of a call bounds all of its work: connecting, writing, the head of each reply, interim replies, the body.
``network`` gives synchronous exchanges their deadline; anyio cancels asynchronous ones. Only silence in an event stream
has a separate limit. The size of a body is bounded, because an endless reply would fill the memory. httpx reads at
most 100 KiB of a reply's head.

The asynchronous client runs on asyncio and on trio. Connections belong to the event loop that opened them, so each loop
has its own pool, which is closed when the loop ends.

httpx is a requirement of the project and has had no release since December 2024. Candidates to replace it: httpx2 of
pydantic, a fork with the same interface; or urllib3, for the synchronous client only, with ``Timeout(total=...)`` in
place of ``network``. The replacement changes this module and ``network`` only: exchanges use no HTTP library, ``proxy``
selects proxies, and no error of httpx leaves this module. Elsewhere httpx is only the type of ``transport=``.
``tests/http/test_deadline.py`` checks that for all of ``src``, except the server's webhooks with their own client.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
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

CONNECT_TIMEOUT: Final = 3.0  # seconds; a working server accepts sooner
MAX_CONNECTIONS: Final = 100  # of one client; further threads wait for a free one
CERTIFICATE_VARIABLES: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")
RESOURCE_ERRNOS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)  # not caused by a setting
QUOTED_HEADERS: Final = ("location", "content-type")  # of a reply, that an error quotes


def check_timeout(timeout: object) -> float:
    """Return a timeout in seconds, more than 0 and at most an hour.

    Raises:
        ConfigError: The value is not such a number. An unlimited timeout is not supported.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 3600:
        raise ConfigError(
            f"timeout must be a number of seconds, more than 0 and at most 3600, not {format_value(timeout)}"
        )
    return float(timeout)


class _BaseTransport:
    """URL, headers and timeout of a transport. ``repr`` hides the key."""

    def __init__(self, api_url: str, api_key: str, timeout: float) -> None:
        self.url = parse_base_url(api_url)
        # No compression: a few bytes could expand to a gigabyte.
        self.headers = {
            "X-API-KEY": check_key(api_key),
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        self.timeout = check_timeout(timeout)
        # Loading certificates is slow. Plain HTTP needs none, because redirects are not followed.
        self.verify_tls = not self.url.lower().startswith("http:")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def build_request(
        self, client: httpx.Client | httpx.AsyncClient, request: Request, deadline: Deadline, **headers: str
    ) -> httpx.Request:
        import httpx

        from .network import Deadline

        if request.body is not None:
            headers["Content-Type"] = "application/json"
        connect_deadline = Deadline(min(deadline.at, time.monotonic() + CONNECT_TIMEOUT))
        return client.build_request(
            request.method,
            self.url + request.path,
            content=request.body,
            headers=headers,
            timeout=httpx.Timeout(deadline, connect=connect_deadline),
        )

    def client_options(self, *, network: bool) -> dict[str, Any]:
        """Return the arguments for httpx's clients; ``network`` adds proxy, certificates and limits.

        Raises:
            ConfigError: A variable for proxies or certificates is invalid.
        """
        import httpx

        options: dict[str, Any] = {"headers": self.headers, "trust_env": False}
        if network:
            proxy = find_proxy(self.url, os.environ)
            options["proxy"] = None if proxy is None else _to_httpx_proxy(proxy)
            options["verify"] = _load_certificates() if self.verify_tls else httpx.create_ssl_context(verify=False)
            # All connections may stay open. The pool closes surplus idle ones, and counts a connection that it has just
            # assigned to another thread as idle until that thread writes.
            options["limits"] = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS)
        return options

    def transport_error(self, error: Exception, request: Request, deadline: Deadline) -> TransportError:
        """Convert an error of httpx or of the system. The result has method and URL, but not the key."""
        import httpx

        url = self.url + request.path.partition("?")[0]
        if isinstance(error, httpx.RequestError):
            # The original error stays the cause, which may be pickled or logged: remove its headers with the key.
            error.request = httpx.Request(request.method, url)
        if time.monotonic() >= deadline.at and not isinstance(error, _UnusableReplyError):
            reason = f"it was not complete after {float(deadline):.3g} seconds"
        else:
            reason = clean_detail(_error_text(error)).replace(self.headers["X-API-KEY"], "<key>")
        return TransportError(f"no answer to {request.method} {url}: {reason}", method=request.method, url=url)


def _error_text(error: Exception) -> str:
    return str(error) or type(error).__name__


def _to_httpx_proxy(proxy: Proxy) -> httpx.Proxy:
    """Convert a proxy for httpx. No error shows its URL, which may have a password."""
    import importlib.util

    import httpx

    try:
        converted = httpx.Proxy(proxy.url)
    except (httpx.InvalidURL, ValueError):
        raise ConfigError(f"{proxy.variable} is not the URL of a proxy, such as http://proxy:3128") from None
    if converted.url.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ConfigError(
            f"{proxy.variable} names a SOCKS proxy, for which the package socksio is missing: install httpx[socks], or "
            "name the server in no_proxy"
        )
    return converted


def _load_certificates() -> ssl.SSLContext:
    """Load the trusted certificates; ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` replace the default ones."""
    import httpx

    try:
        return httpx.create_ssl_context()
    except (OSError, ValueError) as error:
        variables = [name for name in CERTIFICATE_VARIABLES if os.environ.get(name)]
        if not variables or (type(error) is OSError and error.errno in RESOURCE_ERRNOS):
            raise
        raise ConfigError(f"the certificates cannot be loaded, see {' and '.join(variables)}: {error}") from error


class ClosedError(TransportError, RuntimeError):
    """A call on a client that is closed."""


def _deadline_after(timeout: float) -> Deadline:
    from .network import Deadline

    return Deadline(time.monotonic() + timeout)


class _UnusableReplyError(Exception):
    """The body of a reply is too large or encoded."""


class _ReplyReader:
    """Collects the body of a reply, within limits of size and time."""

    def __init__(self, response: httpx.Response, limit: int, deadline: Deadline) -> None:
        self._response = response
        self._limit = limit
        self._deadline = deadline
        self._chunks: list[bytes] = []
        self._size = 0
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise _UnusableReplyError(f"its body is encoded as {format_value(encoding)}, which was not requested")

    def feed(self, chunk: bytes) -> None:
        """Add a chunk.

        Raises:
            _UnusableReplyError: The body is too large.
            TimeoutError: The deadline has passed.
        """
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > self._limit:
            raise _UnusableReplyError(f"its body has more than {self._limit >> 20} MiB")
        if time.monotonic() >= self._deadline.at:
            raise TimeoutError

    def build_reply(self) -> Reply:
        headers = {name.lower(): text for name, text in self._response.headers.items()}
        body = b"".join(self._chunks)
        key = self._response.request.headers.get("X-API-KEY")
        if key:
            # Another program may repeat the key in what an error quotes. Host names are quoted in lower case.
            for name in QUOTED_HEADERS:
                if name in headers:
                    headers[name] = re.sub(re.escape(key), "<key>", headers[name], flags=re.IGNORECASE)
            if not 200 <= self._response.status_code < 300:
                body = re.sub(re.escape(key.encode()), b"<key>", body, flags=re.IGNORECASE)
        return Reply(self._response.status_code, headers, body)


class HttpTransport(_BaseTransport):
    """Runs exchanges over a connection pool. Thread-safe.

    Args:
        api_url: The server's base URL, which may have a path.
        api_key: The key, sent as ``X-API-KEY``.
        timeout: Seconds for each exchange.
        transport: An httpx transport that replaces the network.
    """

    def __init__(
        self, api_url: str, api_key: str, *, timeout: float, transport: httpx.BaseTransport | None = None
    ) -> None:
        super().__init__(api_url, api_key, timeout)
        self._transport = transport
        self._clients: dict[int, httpx.Client] = {}  # by process id
        self._closed = False

    def run(self, exchange: Exchange[T], timeout: float | None = None, *, per_request: bool = False) -> T:
        """Run an exchange and return its result.

        Args:
            exchange: The generator of requests.
            timeout: Seconds for the exchange, in place of the transport's timeout.
            per_request: Whether the timeout applies to each request instead.

        Raises:
            TransportError: No usable reply arrived in time.
            ProgressBarError: The exchange raised it.
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
            # A pool that was closed during the connect does not close the new connection.
            if self._closed and (connection := response.extensions.get("network_stream")) is not None:
                connection.close()

    @staticmethod
    def _read_reply(response: httpx.Response, request: Request, deadline: Deadline) -> Reply:
        body = _ReplyReader(response, request.limit, deadline)
        for chunk in response.iter_bytes():
            body.feed(chunk)
        return body.build_reply()

    def follow(self, event_stream: EventStream) -> Iterator[Change]:
        """Yield the changes of one connection until it ends.

        Raises:
            ResponseError: The reply is not a stream.
            TransportError: No reply arrived, or the connection broke.
        """
        request, deadline = event_stream.request, _deadline_after(self.timeout)
        try:
            client = self.open()
            stream_request = self.build_request(client, request, deadline, **event_stream.headers)
            with self._open_response(client, stream_request) as response:
                if not event_stream.accept_response(response.status_code, response.headers.get("content-type", "")):
                    raise event_stream.response_error(self._read_reply(response, request, deadline))
                # From here on only silence is limited. httpx reads this dictionary again before the body.
                stream_request.extensions["timeout"]["read"] = STREAM_READ_TIMEOUT
                for chunk in response.iter_bytes():
                    deadline = _deadline_after(STREAM_READ_TIMEOUT)
                    yield from event_stream.feed(chunk)
        except ProgressBarError:
            raise
        except Exception as error:
            raise self.transport_error(error, request, deadline) from error

    def open(self) -> httpx.Client:
        """Return the httpx client and build it if needed. Sends no request.

        Raises:
            ConfigError: A variable for proxies or certificates is invalid.
            ClosedError: The transport is closed.
        """
        if self._closed:
            raise ClosedError("this client is closed", url=self.url)
        client = self._clients.get(os.getpid())
        return self._build_client() if client is None else client

    def _build_client(self) -> httpx.Client:
        import httpx

        # After a fork the child never closes the parent's pool, because the sockets belong to the parent. setdefault is
        # atomic and replaces a lock, which a fork could leave locked.
        network = self._transport
        if network is None:
            network = _make_deadline_transport(**self.client_options(network=True))
        new_client = httpx.Client(transport=network, **self.client_options(network=False))
        client = self._clients.setdefault(os.getpid(), new_client)
        if client is not new_client:
            new_client.close()
        if self._closed:  # by another thread, before the client existed
            client.close()
        return client

    def close(self) -> None:
        """Close the connections of this process. Idempotent."""
        self._closed = True
        if (client := self._clients.pop(os.getpid(), None)) is not None:
            client.close()


def _make_deadline_transport(
    *, verify: ssl.SSLContext, proxy: httpx.Proxy | None, limits: httpx.Limits, **_: object
) -> httpx.HTTPTransport:
    import httpx

    from .network import DeadlineBackend

    transport = httpx.HTTPTransport(verify=verify, proxy=proxy, limits=limits, trust_env=False)
    # httpx has no argument for the backend. tests/http/test_deadline.py fails if these names change.
    transport._pool._network_backend = DeadlineBackend()  # noqa: SLF001
    return transport


class AsyncHttpTransport(_BaseTransport):
    """Runs exchanges on asyncio and trio. Arguments as ``HttpTransport``."""

    def __init__(
        self, api_url: str, api_key: str, *, timeout: float, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        super().__init__(api_url, api_key, timeout)
        self._transport = transport
        # By event loop. The generator closes the client when the loop ends or the transport is closed.
        self._clients: weakref.WeakKeyDictionary[object, tuple[httpx.AsyncClient, AsyncGenerator[None, None]]]
        self._clients = weakref.WeakKeyDictionary()
        self._closed = False

    async def run(self, exchange: Exchange[T]) -> T:
        """Run an exchange and return its result, as ``HttpTransport.run``."""
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
            assert request is not None  # the first wait comes after it
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
            # As in HttpTransport._open_response.
            if self._closed and (connection := response.extensions.get("network_stream")) is not None:
                await connection.aclose()

    @staticmethod
    async def _read_reply(response: httpx.Response, request: Request, deadline: Deadline) -> Reply:
        body = _ReplyReader(response, request.limit, deadline)
        async for chunk in response.aiter_bytes():
            body.feed(chunk)
        return body.build_reply()

    async def follow(self, event_stream: EventStream) -> AsyncGenerator[Change, None]:
        """Yield the changes of one connection until it ends, as ``HttpTransport.follow``."""
        import anyio

        request, deadline = event_stream.request, _deadline_after(self.timeout)
        async with contextlib.AsyncExitStack() as stack:
            try:
                # No yield inside: a cancel scope belongs to the task that entered it.
                with anyio.fail_after(self.timeout):
                    client = await self._open()
                    stream_request = self.build_request(client, request, deadline, **event_stream.headers)
                    response = await stack.enter_async_context(self._open_response(client, stream_request))
                    if not event_stream.accept_response(response.status_code, response.headers.get("content-type", "")):
                        raise event_stream.response_error(await self._read_reply(response, request, deadline))
                stream_request.extensions["timeout"]["read"] = STREAM_READ_TIMEOUT
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
        """Close the connections of this event loop; other loops close theirs at their end. Idempotent."""
        self._closed = True
        entry = self._clients.pop(_running_loop(), None)
        if entry is not None:
            await entry[1].aclose()


async def _client_lifetime(client: httpx.AsyncClient) -> AsyncGenerator[None, None]:
    """Close the client when this generator is closed: by ``close()`` or at the end of the event loop."""
    try:
        yield
    finally:
        await client.aclose()


def _running_loop() -> object:
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token()
