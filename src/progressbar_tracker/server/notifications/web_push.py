"""Send messages to browsers by Web Push: encrypted for the browser, signed for its push service.

The push service sees the host that sends, the size and the time of a message, and a topic that only this server can
derive. Encryption: RFC 8291, with ``http_ece``. Signature (VAPID): RFC 8292, with ``py-vapid``. Both belong to the
extra ``notify`` and are imported on first use.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib.util
import re
from collections import OrderedDict
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from progressbar_tracker.server.clock import is_superseded

from . import messages
from .webhooks import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from progressbar_tracker.server.models import Notice, PushSubscription

    from .followers import Followers
    from .webhooks import Webhooks

MESSAGE_TTL: Final = 86400
"""Seconds for which a push service keeps a message for a browser that is offline; less what has passed already."""

MIN_MESSAGE_TTL: Final = 60

TOKEN_SECONDS: Final = 12 * 3600
"""Seconds for which a signature is valid; push services accept a day at most."""

MAX_VAPID_KEYS: Final = 3
"""The newest keys of the server that are kept."""

MAX_CONCURRENT_PUSHES: Final = 64
MAX_PUSHES_OF_OWNER: Final = 8
"""Requests to push services at a time. The endpoints of one key may hang, and do not delay those of others."""

MAX_REMEMBERED_ITEMS: Final = 10_000
"""The most items whose latest delivered message is remembered."""

URGENT_EVENTS: Final = frozenset({"failed", "stuck", "stalled"})

DEFAULT_SUBJECT: Final = "mailto:progressbar-tracker@localhost"
"""The contact in signatures of a server without a public ``https`` URL."""

_SUBJECT_PATTERN: Final = re.compile(r"https://(localhost|[\w-]+(\.[\w-]+)+)(?=[:/]|$)", re.ASCII)


@cache
def is_installed() -> bool:
    """Return whether the packages of Web Push are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("http_ece", "py_vapid"))


def generate_vapid_key() -> str:
    """Return a new private key, as unpadded base64url."""
    from cryptography.hazmat.primitives.asymmetric import ec

    number = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
    return _encode_base64(number.to_bytes(32, "big"))


@lru_cache(maxsize=2 * MAX_VAPID_KEYS)
def derive_public_key(private_key: str) -> str:
    """Return the public key that browsers subscribe with: an uncompressed point, as unpadded base64url."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from py_vapid import Vapid02

    public_key = Vapid02.from_raw(private_key.encode()).public_key
    return _encode_base64(public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def rotate_vapid_keys(private_keys: Sequence[str]) -> tuple[str, ...]:
    """Return the keys after a new one has replaced the first.

    The former ones sign the messages to browsers that have not subscribed with the new one yet.
    """
    return (generate_vapid_key(), *private_keys)[:MAX_VAPID_KEYS]


def find_private_key(private_keys: Sequence[str], public_key: str) -> str | None:
    """Return the key whose public part a browser has subscribed with; the oldest one if that is empty."""
    if not public_key:
        return private_keys[-1] if private_keys else None
    return next((key for key in private_keys if derive_public_key(key) == public_key), None)


def find_subject(public_url: str) -> str:
    """Return the contact in signatures: the origin of the public URL, without its port.

    >>> find_subject("https://progress.example.org:8443/p"), find_subject("http://nas")
    ('https://progress.example.org', 'mailto:progressbar-tracker@localhost')
    """
    match = _SUBJECT_PATTERN.match(public_url)
    return DEFAULT_SUBJECT if match is None else match[0]


class HolderCheck(Protocol):
    """The credentials in force; see :class:`~.access.credentials.CredentialCache`."""

    vapid_keys: tuple[str, ...]

    @property
    def is_stale(self) -> bool:
        """Whether the database does not answer, so that no credential counts."""

    def has_ended(self, subscription: PushSubscription, /) -> bool:
        """Return whether the credential of a subscription has ended, or may not read items."""


class EndpointGoneError(DeliveryError):
    """The push service, or this server, does not know a subscription any more.

    Attributes:
        endpoint: The endpoint that has ended; ``None`` for the whole subscription.
    """

    def __init__(self, reason: str, endpoint: str | None = None) -> None:
        super().__init__(reason, is_gone=True)
        self.endpoint = endpoint


class WebPush:
    """Sends messages to subscribed browsers.

    Args:
        webhooks: Sends the requests, with its checks of addresses.
        subscriptions: The subscriptions.
        get_holders: Returns what knows whether the holder of a subscription may read.
        on_gone: Is called with the id and the endpoint of a subscription that its push service has ended.
        public_url: See :func:`find_subject`.
        private_origins: Push services that may be in a private network.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        webhooks: Webhooks,
        subscriptions: Followers,
        get_holders: Callable[[], HolderCheck],
        *,
        on_gone: Callable[[str, str | None], object],
        public_url: str = "",
        private_origins: frozenset[str] = frozenset(),
        clock: Callable[[], float],
    ) -> None:
        self.subscriptions = subscriptions
        self._webhooks = webhooks
        self._get_holders = get_holders
        self._on_gone = on_gone
        self._subject = find_subject(public_url)
        self._private_origins = private_origins
        self._clock = clock
        self._all_turns = asyncio.Semaphore(MAX_CONCURRENT_PUSHES)
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._delivered: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._signer: tuple[str, Any] | None = None

    def find_refusal(self, notice: Notice) -> str | None:
        """Return why a message must not be sent any more, or ``None``."""
        subscription = self._find_subscription(notice)
        if subscription is None:
            return "the subscription has ended"
        if self._has_ended(subscription):
            return "the session or key of the subscription has ended"
        delivered_at = self._delivered.get((notice.channel, notice.item_id))
        if delivered_at is not None and is_superseded(notice.at, delivered_at, self._clock()):
            return "a later message about the item was delivered"
        return None

    async def send(self, notice: Notice) -> None:
        """Make one attempt.

        Raises:
            DeliveryError: The message was refused, or its outcome is unknown.
        """
        subscription = self._find_subscription(notice)
        owner_id = "" if subscription is None else subscription.owner_id
        turns = self._turns.setdefault(owner_id, asyncio.Semaphore(MAX_PUSHES_OF_OWNER))
        async with turns, self._all_turns:
            # Read after the wait: the subscription or its credential may have ended.
            subscription = self._find_subscription(notice)
            if subscription is None or self._has_ended(subscription):
                raise EndpointGoneError("the subscription has ended")
            await self._post(subscription, notice)
        self._delivered[notice.channel, notice.item_id] = notice.at
        while len(self._delivered) > MAX_REMEMBERED_ITEMS:
            self._delivered.popitem(last=False)

    def end(self, channel: str, error: EndpointGoneError) -> None:
        """End a subscription, unless its browser has got another endpoint meanwhile."""
        self._on_gone(channel.partition(":")[2], error.endpoint)

    def _find_subscription(self, notice: Notice) -> PushSubscription | None:
        return self.subscriptions.get(notice.channel.partition(":")[2])

    def _has_ended(self, subscription: PushSubscription) -> bool:
        holders = self._get_holders()
        return not holders.is_stale and holders.has_ended(subscription)

    async def _post(self, subscription: PushSubscription, notice: Notice) -> None:
        holders = self._get_holders()
        if holders.is_stale:
            raise DeliveryError("the database does not answer: whether the reader may still read is not known")
        if not is_installed():
            raise DeliveryError("this server cannot sign: pip install 'progressbar-tracker[notify]'")
        private_key = find_private_key(holders.vapid_keys, subscription.server_key)
        if private_key is None:
            raise DeliveryError("this server has no longer the key with which the browser subscribed")
        parts = urlsplit(subscription.endpoint)
        origin = f"{parts.scheme}://{parts.netloc}".lower()
        topic = hashlib.sha256(f"{subscription.auth}\0{notice.item_id}".encode()).digest()
        headers = {
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
            "ttl": str(max(MESSAGE_TTL - max(int(self._clock() - notice.at), 0), MIN_MESSAGE_TTL)),
            "topic": _encode_base64(topic)[:32],
            "urgency": "high" if notice.event in URGENT_EVENTS else "normal",
            "authorization": self._sign(private_key, origin),
        }
        is_former = private_key != holders.vapid_keys[0]
        body = encrypt(messages.render_push(notice, is_key_former=is_former), subscription)
        status = await self._webhooks.post(
            subscription.endpoint, headers, body, allow_private=origin in self._private_origins
        )
        if status in (404, 410):
            reason = f"{parts.hostname} does not know the subscription any more ({status})"
            raise EndpointGoneError(reason, subscription.endpoint)
        if not 200 <= status < 300:
            raise DeliveryError(f"{parts.hostname} answered {status}")

    def _sign(self, private_key: str, origin: str) -> str:
        from py_vapid import Vapid02

        if self._signer is None or self._signer[0] != private_key:
            self._signer = private_key, Vapid02.from_raw(private_key.encode())
        claims = {"aud": origin, "exp": int(self._clock()) + TOKEN_SECONDS, "sub": self._subject}
        return str(self._signer[1].sign(claims)["Authorization"])


def encrypt(text: bytes, subscription: PushSubscription) -> bytes:
    """Return a message that only the browser of a subscription can read."""
    import http_ece
    from cryptography.hazmat.primitives.asymmetric import ec

    encrypted: bytes = http_ece.encrypt(
        text,
        private_key=ec.generate_private_key(ec.SECP256R1()),
        dh=_decode_base64(subscription.p256dh),
        auth_secret=_decode_base64(subscription.auth),
        version="aes128gcm",
    )
    return encrypted


def _encode_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode_base64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
