"""Webhooks, as Standard Webhooks has them: signed, with an id that stays the same however often one is sent.

An address is the operator's, and yet it must not lead where he did not mean it to: a name may stand for this machine
today that stood for another yesterday. So a name is resolved once, each address that it stands for is judged, and the
connection is made to an address that was judged, with the name in TLS and in ``Host``. Redirects are not followed, the
environment's proxies are not used, and of the answer nothing is read but its status.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import socket
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote

import httpx

from progressbar_tracker.server.threads import run_in_daemon_thread

from .addresses import AddressScope, classify_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .channels import Channel

    Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

WEBHOOK_TIMEOUT: Final = 10.0
"""Seconds for everything: the name, the connection, the answer's head."""


class DeliveryError(Exception):
    """A message was not delivered; the text says why and holds no secret.

    Attributes:
        is_gone: Whoever it is for wants no more.
    """

    def __init__(self, reason: str, *, is_gone: bool = False) -> None:
        super().__init__(reason)
        self.is_gone = is_gone


def sign_headers(notice_id: str, at: int, body: bytes, secret: bytes | None) -> dict[str, str]:
    """Return the headers of a message.

    Args:
        notice_id: Its id.
        at: When this attempt is made, in whole seconds since the epoch.
        body: The body.
        secret: What it is signed with; without one it is not.
    """
    headers = {"webhook-id": notice_id, "webhook-timestamp": str(at)}
    if secret is not None:
        digest = hmac.digest(secret, b"%s.%d.%s" % (notice_id.encode(), at, body), hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def is_permitted(text: str, *, allow_private: bool) -> bool:
    """Say whether an address may be connected to.

    Args:
        text: The address.
        allow_private: Whether it may be this machine, or one that only a network of its own knows. An address of the
            link
            itself may not: that is where clouds keep a machine's credentials.

    >>> [is_permitted(text, allow_private=False) for text in ("1.1.1.1", "127.0.0.1", "::ffff:10.0.0.1")]
    [True, False, False]
    >>> [is_permitted(text, allow_private=True) for text in ("192.168.0.7", "::1", "169.254.169.254", "0.0.0.0")]
    [True, True, False, False]
    """
    return classify_address(text) >= (AddressScope.PRIVATE if allow_private else AddressScope.PUBLIC)


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """Return the addresses that a name stands for.

    Raises:
        OSError: There are none.
    """
    found = await run_in_daemon_thread(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Webhooks:
    """Sends webhooks.

    Args:
        resolve: Returns the addresses of a name.
        transport: Makes the requests; by default over the network.
        timeout: Seconds for a message.
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
        """Send a message once.

        Raises:
            DeliveryError: It was not taken, or nobody knows.
        """
        url = httpx.URL(channel.url)
        host = url.raw_host.decode("ascii")
        try:
            async with asyncio.timeout(self._timeout):
                status = await self._post(channel, url, host, sign_headers(notice_id, at, body, channel.secret), body)
        except (TimeoutError, httpx.TimeoutException):
            raise DeliveryError(f"{host} did not answer within {self._timeout:.0f} s") from None
        except (OSError, httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise DeliveryError(f"{host}: {_printable_error(error)}") from None
        if status == 410:
            raise DeliveryError(f"{host} wants no more (410)", is_gone=True)
        if not 200 <= status < 300:
            more = ", and redirects are not followed" if 300 <= status < 400 else ""
            raise DeliveryError(f"{host} answered {status}{more}")

    async def _post(self, channel: Channel, url: httpx.URL, host: str, headers: dict[str, str], body: bytes) -> int:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await self._resolve(host.strip("[]"), port)
        for address in addresses:
            if not is_permitted(address, allow_private=channel.allow_private):
                why = "" if channel.allow_private else "; allow_private = true lets it, if it is of your own network"
                raise DeliveryError(f"{host} is {address}, which a webhook may not lead to{why}")
        headers |= {"host": url.netloc.decode("ascii"), "content-type": "application/json", "user-agent": USER_AGENT}
        if url.userinfo:
            headers["authorization"] = "Basic " + base64.b64encode(unquote(url.userinfo.decode()).encode()).decode()
        # A transport, and no client: a client would log the address, which may hold a secret, and keep the connection,
        # on which a later message to another name at the same address would go without a look at its certificate.
        transport = self._transport or httpx.AsyncHTTPTransport(trust_env=False, retries=0)
        try:
            tried = addresses[:MAX_ADDRESSES_TRIED]
            for n, address in enumerate(tried):
                step = (deadline - loop.time()) * STEP_FRACTION
                # TCP and TLS each take one at the most, and so does the next address.
                timeout = httpx.Timeout(step, connect=step / (2 * (len(tried) - n)))
                where = url.copy_with(host=address.partition("%")[0], port=port, userinfo=b"", fragment=None)
                request = httpx.Request(
                    "POST", where, headers=headers, content=body,
                    extensions={"sni_hostname": host, "timeout": timeout.as_dict()},
                )  # fmt: skip
                try:
                    response = await transport.handle_async_request(request)
                except (httpx.ConnectError, httpx.ConnectTimeout):
                    if n + 1 == len(tried):
                        raise
                    continue
                await response.aclose()
                return response.status_code
            raise DeliveryError(f"{host} stands for no address")
        finally:
            if self._transport is None:
                await transport.aclose()


STEP_FRACTION: Final = 0.8
"""What part of the time that is left the steps of a connection may take: one that times out by itself is closed in good
order, one that is cancelled meanwhile is left to the collector."""

USER_AGENT: Final = "progressbar-tracker"

MAX_ADDRESSES_TRIED: Final = 3
"""The most addresses of a name that are tried."""


def _printable_error(error: BaseException) -> str:
    """Return an error in one line, without anything that could colour a terminal."""
    reason = error.strerror if isinstance(error, OSError) else None  # a number tells nobody anything
    text = " ".join((reason or str(error)).split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
