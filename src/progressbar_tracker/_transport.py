"""HTTP: the only importer of httpx. One pooled client each, time-outs on everything, errors of our own.

An exchange of ``_wire`` goes in, its result comes out. httpx is imported when the first client is built, and the pool
is built when the first request is sent: a client that is never used costs nothing, and one that was made before a
fork never shares its sockets with the child.

The body of an answer is one phase of a request, and has to be there within the time-out and a size that makes sense: a
server that streams without end would fill the memory, and one whose bytes trickle in would hold the thread for as long
as it likes, for httpx's own time-out begins anew with each. Of an answer's head httpx takes 100 KiB at most.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, TypeVar

from ._errors import ConfigError, TransportError
from ._events import SILENCE
from ._models import shown
from ._wire import Exchange, Reply, Request, base_url, check_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    import httpx

    from ._events import Follower
    from ._models import Change

T = TypeVar("T")

CONNECT_TIMEOUT = 3.0  # seconds; no server worth waiting for takes longer to accept
LEAST_RATE = 1 << 20  # bytes a second at which a long list may go on beyond the time-out


def check_timeout(timeout: object) -> float:
    """Return a time-out in seconds, more than 0 and at most an hour.

    Raises:
        ConfigError: It is not such a number. There is no "wait for ever".
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 3600:
        raise ConfigError(f"timeout must be a number of seconds, more than 0 and at most 3600, not {shown(timeout)}")
    return float(timeout)


class _Address:
    """What both shells share: where to, with which key, how long to wait. ``repr`` shows no key."""

    def __init__(self, api_url: str, api_key: str, timeout: float) -> None:
        self.url = base_url(api_url)
        # Nothing is to be compressed: a few bytes could be a gigabyte.
        self.headers = {
            "X-API-KEY": check_key(api_key),
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        }
        self.timeout = check_timeout(timeout)
        # Loading the certificates takes longer than all the rest, and plain HTTP needs none: no redirect is followed.
        self.verify = not self.url.lower().startswith("http:")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def build(self, client: httpx.Client | httpx.AsyncClient, request: Request, timeout: float | None) -> httpx.Request:
        """Return httpx's form of a request."""
        return client.build_request(
            request.method,
            self.url + request.path,
            content=request.body,
            headers={"Content-Type": "application/json"} if request.body is not None else None,
            timeout=self.limits(self.timeout if timeout is None else timeout),
        )

    def build_stream(self, client: httpx.Client | httpx.AsyncClient, follower: Follower) -> httpx.Request:
        """Return httpx's form of the next request of a follower; silence may last longer than a usual answer."""
        limits = self.limits(self.timeout)
        limits.read = SILENCE
        return client.build_request("GET", self.url + follower.request.path, headers=follower.headers, timeout=limits)

    def body(self, response: httpx.Response, request: Request, timeout: float | None) -> _Body:
        """Return what gathers the body of an answer."""
        return _Body(response, request.limit, self.timeout if timeout is None else timeout)

    @staticmethod
    def limits(timeout: float) -> httpx.Timeout:
        """Return time-outs for each phase of a request."""
        import httpx

        return httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT))

    def failure(self, error: Exception, request: Request) -> TransportError:
        """Return our error for one of httpx's, with method and URL and without the key.

        A host name that no name server could be asked for is a ``UnicodeError`` of the resolver.
        """
        import httpx

        url = self.url + request.path.partition("?")[0]
        if isinstance(error, httpx.RequestError):
            # Ours has it as its cause, and what sends errors to another process or to a log may take the cause along.
            error.request = httpx.Request(request.method, url)
        reason = str(error) or type(error).__name__
        return TransportError(f"no answer to {request.method} {url}: {reason}", method=request.method, url=url)


@contextlib.contextmanager
def _set_up() -> Iterator[None]:
    """Name what the environment asks for in vain: a SOCKS proxy, certificates in a file that is not there."""
    try:
        yield
    except (ImportError, OSError, ValueError) as error:
        reason = f"the HTTP client cannot be set up, see the variables for proxies and SSL_CERT_FILE: {error}"
        raise ConfigError(reason) from error


class _UnfitError(Exception):
    """The body of an answer is not worth waiting for."""


class _Body:
    """Gathers the body of an answer, within limits."""

    def __init__(self, response: httpx.Response, limit: int, timeout: float) -> None:
        self._response = response
        self._limit = limit
        self._timeout = timeout
        self._begun = time.monotonic()
        self._chunks: list[bytes] = []
        self._size = 0
        encoding = response.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise _UnfitError(f"its body is encoded as {shown(encoding)}, which was not asked for")

    def add(self, chunk: bytes) -> None:
        """Take a piece in.

        Raises:
            _UnfitError: It is too much, or too late.
        """
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._size > self._limit:
            raise _UnfitError(f"its body has more than {self._limit >> 20} MiB")
        if time.monotonic() > self._begun + self._timeout + self._size / LEAST_RATE:
            raise _UnfitError(f"its body was not complete after {self._timeout:g} seconds")

    def reply(self) -> Reply:
        """Return the whole answer."""
        headers = {name.lower(): text for name, text in self._response.headers.items()}
        return Reply(self._response.status_code, headers, b"".join(self._chunks))


class HttpTransport(_Address):
    """Drives exchanges over a pool of connections. Safe to use from several threads.

    Args:
        api_url: The server's base URL; a path is kept.
        api_key: The key, sent as ``X-API-KEY``.
        timeout: Seconds for each phase of a request.
        transport: An httpx transport to use in place of the network.
    """

    def __init__(
        self, api_url: str, api_key: str, *, timeout: float, transport: httpx.BaseTransport | None = None
    ) -> None:
        super().__init__(api_url, api_key, timeout)
        self._transport = transport
        self._clients: dict[int, httpx.Client] = {}  # by process id
        self._closed = False

    def run(self, exchange: Exchange[T], timeout: float | None = None) -> T:
        """Carry out an exchange and return its result. ``timeout`` replaces the usual one, in seconds."""
        try:
            request = next(exchange)
            while True:
                request = exchange.send(self._send(request, timeout))
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _send(self, request: Request, timeout: float | None) -> Reply:
        import httpx

        client = self.open()
        try:
            with self._answer(client, self.build(client, request, timeout)) as response:
                return self._whole(response, request, timeout)
        except (_UnfitError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            raise self.failure(error, request) from error

    @contextlib.contextmanager
    def _answer(self, client: httpx.Client, request: httpx.Request) -> Iterator[httpx.Response]:
        response = client.send(request, stream=True)
        try:
            yield response
        finally:
            response.close()
            # A pool that is closed while a connection is being made knows nothing of it then.
            if self._closed and (connection := response.extensions.get("network_stream")) is not None:
                connection.close()

    def _whole(self, response: httpx.Response, request: Request, timeout: float | None) -> Reply:
        body = self.body(response, request, timeout)
        for chunk in response.iter_bytes():
            body.add(chunk)
        return body.reply()

    def follow(self, follower: Follower) -> Iterator[Change]:
        """Yield what a server tells over one connection, until it ends.

        Raises:
            ResponseError: The answer is no stream.
            TransportError: There was no answer, or the connection broke.
        """
        import httpx

        client, request = self.open(), follower.request
        try:
            with self._answer(client, self.build_stream(client, follower)) as response:
                if not follower.begin(response.status_code, response.headers.get("content-type", "")):
                    raise follower.refused(self._whole(response, request, None))
                for chunk in response.iter_bytes():
                    yield from follower.feed(chunk)
        except (_UnfitError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            raise self.failure(error, request) from error

    def open(self) -> httpx.Client:
        """Return the client, built now if it was not. No request is made.

        Raises:
            ConfigError: The environment asks for what httpx cannot do.
            RuntimeError: The transport is closed.
        """
        if self._closed:
            raise RuntimeError("this client is closed")
        client = self._clients.get(os.getpid())
        return self._build() if client is None else client

    def _build(self) -> httpx.Client:
        import httpx

        # After a fork the parent's pool is left alone, never closed: its sockets are the parent's. setdefault is one
        # atomic step, so no lock is needed, which a fork could leave locked.
        with _set_up():
            fresh = httpx.Client(
                headers=self.headers,
                transport=self._transport,
                timeout=self.limits(self.timeout),
                verify=self.verify,
            )
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


class AsyncHttpTransport(_Address):
    """The same for asyncio."""

    def __init__(
        self, api_url: str, api_key: str, *, timeout: float, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        super().__init__(api_url, api_key, timeout)
        self._transport = transport
        self._client: httpx.AsyncClient | None = None
        self._closed = False

    async def run(self, exchange: Exchange[T]) -> T:
        """Carry out an exchange and return its result."""
        try:
            request = next(exchange)
            while True:
                request = exchange.send(await self._send(request))
        except StopIteration as stop:
            result: T = stop.value
            return result

    @contextlib.asynccontextmanager
    async def _answer(self, client: httpx.AsyncClient, request: httpx.Request) -> AsyncIterator[httpx.Response]:
        response = await client.send(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()
            # As in `HttpTransport`.
            if self._closed and (connection := response.extensions.get("network_stream")) is not None:
                await connection.aclose()

    async def _whole(self, response: httpx.Response, request: Request) -> Reply:
        body = self.body(response, request, None)
        async for chunk in response.aiter_bytes():
            body.add(chunk)
        return body.reply()

    async def follow(self, follower: Follower) -> AsyncIterator[Change]:
        """As ``HttpTransport.follow``."""
        import httpx

        client, request = self._open(), follower.request
        try:
            async with self._answer(client, self.build_stream(client, follower)) as response:
                if not follower.begin(response.status_code, response.headers.get("content-type", "")):
                    raise follower.refused(await self._whole(response, request))
                async for chunk in response.aiter_bytes():
                    for change in follower.feed(chunk):
                        yield change
        except (_UnfitError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            raise self.failure(error, request) from error

    def _open(self) -> httpx.AsyncClient:
        import httpx

        if self._closed:
            raise RuntimeError("this client is closed")
        if self._client is None:
            with _set_up():
                self._client = httpx.AsyncClient(
                    headers=self.headers,
                    transport=self._transport,
                    timeout=self.limits(self.timeout),
                    verify=self.verify,
                )
        return self._client

    async def _send(self, request: Request) -> Reply:
        import httpx

        client = self._open()
        try:
            async with self._answer(client, self.build(client, request, None)) as response:
                return await self._whole(response, request)
        except (_UnfitError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError) as error:
            raise self.failure(error, request) from error

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
