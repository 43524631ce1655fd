"""Send webhooks after the Standard Webhooks specification: signed, with an id that all attempts share.

DNS rebinding could point the operator's host name at an internal address. So each name is resolved once, every address
of it is checked, and the connection uses a checked address, with the name in TLS and ``Host``. Redirects and proxies
from the environment are not followed. Only the status of a response is read, and of a chat service the beginning of
the body.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
import socket
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from urllib.parse import unquote

import httpx

from progressbar_tracker._text import summarize_error
from progressbar_tracker.server.threads import run_in_daemon_thread

from .addresses import AddressScope, classify_address

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

    from .channels import Channel

    Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

WEBHOOK_TIMEOUT: Final = 10.0
"""Seconds for one attempt: name resolution, connection and response head."""


class DeliveryError(Exception):
    """A message was not delivered. The text gives the reason and contains no secret.

    Attributes:
        is_gone: The receiver unsubscribed.
        retry_after: Seconds for which the receiver wants no request.
    """

    def __init__(self, reason: str, *, is_gone: bool = False, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.is_gone = is_gone
        self.retry_after = retry_after


class WebhookResponse(NamedTuple):
    """A response: its status, its headers in lower case, and the beginning of its body."""

    status: int
    headers: dict[str, str]
    body: bytes


def sign_headers(notice_id: str, at: int, body: bytes, secret: bytes | None) -> dict[str, str]:
    """Return the headers of a message.

    Args:
        notice_id: The same for all attempts.
        at: The instant of this attempt, in whole seconds since the epoch.
        body: The signed body.
        secret: The signing key; without one, the message is not signed.
    """
    headers = {"webhook-id": notice_id, "webhook-timestamp": str(at)}
    if secret is not None:
        digest = hmac.digest(secret, b"%s.%d.%s" % (notice_id.encode(), at, body), hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def is_permitted(text: str, *, allow_private: bool) -> bool:
    """Return whether a webhook may connect to an address.

    Args:
        text: The address.
        allow_private: Permit this machine and private networks. Link-local addresses remain refused: clouds serve
            credentials there.

    >>> [is_permitted(text, allow_private=False) for text in ("1.1.1.1", "127.0.0.1", "::ffff:10.0.0.1")]
    [True, False, False]
    >>> [is_permitted(text, allow_private=True) for text in ("192.168.0.7", "::1", "169.254.169.254", "0.0.0.0")]
    [True, True, False, False]
    """
    return classify_address(text) >= (AddressScope.PRIVATE if allow_private else AddressScope.PUBLIC)


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name.

    Raises:
        OSError: There are none.
    """
    entries = await run_in_daemon_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return list(dict.fromkeys(str(entry[4][0]) for entry in entries))


@functools.cache
def _get_ssl_context() -> ssl.SSLContext:
    """Return the context of all requests: to read the certificates of the authorities takes 40 ms."""
    return httpx.create_ssl_context(trust_env=False)


class Webhooks:
    """Sends webhooks.

    Args:
        resolve: Returns the addresses of a name.
        transport: Sends the requests; the network by default.
        timeout: Seconds for one attempt.
    """

    def __init__(
        self,
        *,
        resolve: Resolver = resolve_host,
        transport: httpx.AsyncBaseTransport | None = None,
        timeout: float = WEBHOOK_TIMEOUT,
    ) -> None:
        self._resolve = resolve
        self._transport = transport
        self._timeout = timeout

    async def send(self, channel: Channel, notice_id: str, at: int, body: bytes) -> None:
        """Make one attempt.

        Raises:
            DeliveryError: The message was refused, or its outcome is unknown.
        """
        headers = sign_headers(notice_id, at, body, channel.secret) | {"content-type": "application/json"}
        status = await self.post(channel.url, headers, body, allow_private=channel.allow_private)
        self._check_status(channel.url, status)

    async def ping(self, channel: Channel) -> None:
        """Request the URL of a channel by GET.

        Raises:
            DeliveryError: It did not answer with success.
        """
        response = await self._request("GET", channel.url, {}, b"", allow_private=channel.allow_private)
        self._check_status(channel.url, response.status)

    @staticmethod
    def _check_status(address: str, status: int) -> None:
        host = httpx.URL(address).raw_host.decode("ascii")
        if status == 410:
            raise DeliveryError(f"{host} wants no more (410)", is_gone=True)
        if not 200 <= status < 300:
            hint = ", and redirects are not followed" if 300 <= status < 400 else ""
            raise DeliveryError(f"{host} answered {status}{hint}")

    async def post(self, address: str, headers: dict[str, str], body: bytes, *, allow_private: bool) -> int:
        """Send one request, and return the status of the response.

        Args:
            address: The URL; a secret.
            headers: The headers of the request, in lower case.
            body: The body.
            allow_private: Permit this machine and private networks.

        Raises:
            DeliveryError: The address is not permitted, or there is no response. The text has only the host.
        """
        return (await self._request("POST", address, headers, body, allow_private=allow_private)).status

    async def exchange(
        self, method: str, address: str, headers: dict[str, str], body: bytes, *, allow_private: bool
    ) -> WebhookResponse:
        """Send one request, and return the response with its body; else like :meth:`post`."""
        return await self._request(
            method, address, headers, body, allow_private=allow_private, max_bytes=MAX_RESPONSE_BYTES
        )

    async def _request(
        self,
        method: str,
        address: str,
        headers: dict[str, str],
        body: bytes,
        *,
        allow_private: bool,
        max_bytes: int = 0,
    ) -> WebhookResponse:
        url = httpx.URL(address)
        host = url.raw_host.decode("ascii")
        try:
            async with asyncio.timeout(self._timeout):
                return await self._exchange(
                    method, url, host, headers, body, allow_private=allow_private, max_bytes=max_bytes
                )
        except (TimeoutError, httpx.TimeoutException):
            raise DeliveryError(f"{host} did not answer within {self._timeout:.0f} s") from None
        except (OSError, httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise DeliveryError(f"{host}: {summarize_error(error)[:200]}") from None

    async def _exchange(
        self,
        method: str,
        url: httpx.URL,
        host: str,
        headers: dict[str, str],
        body: bytes,
        *,
        allow_private: bool,
        max_bytes: int,
    ) -> WebhookResponse:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await self._resolve(host.strip("[]"), port)
        for address in addresses:
            if not is_permitted(address, allow_private=allow_private):
                hint = "" if allow_private else "; allow_private = true permits addresses of your own network"
                raise DeliveryError(f"{host} is {address}, which a webhook may not lead to{hint}")
        headers = headers | {"host": url.netloc.decode("ascii"), "user-agent": USER_AGENT}
        if url.userinfo:
            headers["authorization"] = "Basic " + base64.b64encode(unquote(url.userinfo.decode()).encode()).decode()
        # A client would log the URL, which may contain a secret. It would also reuse the connection for another name at
        # the same address, without checking that name's certificate.
        transport = self._transport or httpx.AsyncHTTPTransport(verify=_get_ssl_context(), trust_env=False, retries=0)
        try:
            candidates = addresses[:MAX_ADDRESSES_TRIED]
            for n, address in enumerate(candidates):
                step = (deadline - loop.time()) * STEP_FRACTION
                # TCP and TLS each use the connect timeout once per address.
                timeout = httpx.Timeout(step, connect=step / (2 * (len(candidates) - n)))
                target = url.copy_with(host=address.partition("%")[0], port=port, userinfo=b"", fragment=None)
                request = httpx.Request(
                    method, target, headers=headers, content=body,
                    extensions={"sni_hostname": host, "timeout": timeout.as_dict()},
                )  # fmt: skip
                try:
                    response = await transport.handle_async_request(request)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    if n + 1 == len(candidates):
                        raise
                    continue
                try:
                    text = await _read_start(response, max_bytes)
                finally:
                    await response.aclose()
                return WebhookResponse(response.status_code, dict(response.headers), text)
            raise DeliveryError(f"{host} stands for no address")
        finally:
            if self._transport is None:
                await transport.aclose()


async def _read_start(response: httpx.Response, max_bytes: int) -> bytes:
    data = b""
    if max_bytes:
        async for chunk in response.aiter_raw():
            data += chunk
            if len(data) >= max_bytes:
                break
    return data[:max_bytes]


MAX_RESPONSE_BYTES: Final = 65536
"""Of the body of a chat service."""

STEP_FRACTION: Final = 0.8
"""Part of the remaining time for the steps of a connection. A step that times out closes its connection; a cancelled
step leaves it to the garbage collector."""

USER_AGENT: Final = "progressbar-tracker"

MAX_ADDRESSES_TRIED: Final = 3
