"""Push subscriptions: browsers that follow items, runs or groups, until they unsubscribe or their credential ends.

The endpoint of a subscription is a URL that a reader chooses, and the server sends requests to it. So it must be an
``https`` URL of a public host on the usual port, or begin with an origin that the operator has listed. The address is
checked for each request, when its name is resolved.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import threading
from typing import TYPE_CHECKING, Final, NamedTuple, get_args
from urllib.parse import urlsplit

from msgspec.structs import replace

from progressbar_tracker._models import MAX_GROUP_LENGTH, FieldError, check_id, check_text, format_value
from progressbar_tracker.server.models import PushEvent, PushSubscription

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from progressbar_tracker.server.models import Item

MAX_SUBSCRIPTIONS: Final = 20
"""The most subscriptions of one session or key."""

MAX_ALL_SUBSCRIPTIONS: Final = 10_000
"""The most subscriptions of a server: all of them are in memory."""

MAX_ENDPOINT_LENGTH: Final = 1000

PUSH_EVENTS: Final[tuple[PushEvent, ...]] = get_args(PushEvent)

KEY_PATTERN: Final = r"^[A-Za-z0-9_-]{87}=?$"
"""65 bytes in base64url: an uncompressed point of the curve P-256."""
AUTH_PATTERN: Final = r"^[A-Za-z0-9_-]{22}(==)?$"
"""16 bytes in base64url."""

_AUTH_RULE: Final = AUTH_PATTERN, "16 bytes"


class Holder(NamedTuple):
    """The session or the key that a request was authorized with; see :class:`~.models.PushSubscription`."""

    owner_id: str
    session: str | None
    key_id: str | None
    credential: str | None


class BrowserFields(NamedTuple):
    """The fields of a :class:`~.models.PushSubscription` that are those of the browser."""

    endpoint: str
    p256dh: str
    auth: str
    server_key: str


def parse_browser(body: Mapping[str, object], private_origins: frozenset[str], server_key: str) -> BrowserFields:
    """Return the fields of the browser in a request.

    Args:
        body: The fields of the request.
        private_origins: See :func:`check_endpoint`.
        server_key: The public key of the server, unless the request has another one.

    Raises:
        FieldError: A field breaks a rule.
    """
    endpoint = check_endpoint(body.get("endpoint"), private_origins)
    p256dh, auth = _check_point("p256dh", body.get("p256dh")), _check_base64("auth", body.get("auth"), *_AUTH_RULE)
    if body.get("server_key") is not None:
        server_key = _check_point("server_key", body["server_key"])
    return BrowserFields(endpoint, p256dh, auth, server_key)


def new_subscription(
    body: Mapping[str, object], browser: BrowserFields, holder: Holder, now: float
) -> PushSubscription:
    """Return the subscription of a request. The same request of the same holder gives the same id.

    Args:
        body: The fields of the request.
        browser: Those of the browser.
        holder: Holds the subscription.
        now: The current instant.

    Raises:
        FieldError: A field breaks a rule.
    """
    item, run_id, group = (body.get(name) for name in ("item", "run_id", "group"))
    if (item is None) is (group is None):
        raise FieldError("item", "a subscription follows either an item or a group: name one of the two")
    if run_id is not None and item is None:
        raise FieldError("run_id", "run_id is for a subscription to an item")
    subject = (
        None if item is None else check_id(item, "item"),
        None if run_id is None else check_id(run_id, "run_id"),
        None if group is None else check_text("group", group, MAX_GROUP_LENGTH, min_length=1),
    )
    parts = [holder.session or "", holder.key_id or "", browser.endpoint, *(part or "" for part in subject)]
    return PushSubscription(
        subscription_id=_make_id(*parts),
        **browser._asdict(),
        events=_check_events(body.get("events")),
        created_at=now,
        owner_id=holder.owner_id,
        session=holder.session,
        key_id=holder.key_id,
        credential=holder.credential,
        item=subject[0],
        run_id=subject[1],
        group=subject[2],
    )


def identify_subscription(
    record: PushSubscription, own: Collection[PushSubscription]
) -> tuple[PushSubscription, PushSubscription | None]:
    """Return the subscription of a request with its id, and the known subscription that it replaces.

    A subscription keeps its id when its browser gets another endpoint, so its id may not be that of its endpoint.

    Args:
        record: The subscription.
        own: The known ones of the same holder.
    """
    before = next((other for other in own if other.subject == record.subject), None)
    if before is not None:
        return replace(record, subscription_id=before.subscription_id, created_at=before.created_at), before
    names = {other.subscription_id for other in own}
    while record.subscription_id in names:
        record = replace(record, subscription_id=_make_id(record.subscription_id))
    return record, None


def check_endpoint(value: object, private_origins: frozenset[str]) -> str:
    """Return ``value`` if it is the URL of a push service.

    >>> check_endpoint("https://push.example.org/s/1", frozenset())
    'https://push.example.org/s/1'

    Args:
        value: Any object.
        private_origins: Origins that may be private, use another port or lack TLS.

    Raises:
        FieldError: It is not; the message does not contain it.
    """
    text = check_text("endpoint", value, MAX_ENDPOINT_LENGTH, min_length=1)
    try:
        parts = urlsplit(text)
        is_valid = text.isascii() and not any(c.isspace() or c == "\\" for c in text) and not parts.fragment
        is_valid = is_valid and "@" not in parts.netloc and find_origin(text) is not None
        is_public = parts.scheme == "https" and parts.port in (None, 443)
    except ValueError:
        is_valid = is_public = False
    if not is_valid or not (is_public or find_origin(text) in private_origins):
        raise FieldError("endpoint", "endpoint must be an https:// URL of a push service, without a port or a password")
    return text


_ORIGIN_PATTERN: Final = re.compile(r"https?://[a-z0-9.-]+(?::\d{1,5})?(?=[/?]|$)", re.IGNORECASE)


def find_origin(url: str) -> str | None:
    """Return the origin of a URL: scheme, host and port, in lower case; ``None`` if the URL has none."""
    match = _ORIGIN_PATTERN.match(url)
    return None if match is None else match[0].lower()


def decode_base64(text: str) -> bytes:
    """Return the bytes of base64url with or without padding."""
    return base64.urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))


def _make_id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _check_base64(field: str, value: object, pattern: str, size: str) -> str:
    text = check_text(field, value, 200, min_length=1)
    if not re.fullmatch(pattern, text):
        raise FieldError(field, f"{field} must be {size} in base64url")
    return text.rstrip("=")


def _check_point(field: str, value: object) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec

    text = _check_base64(field, value, KEY_PATTERN, "65 bytes")
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decode_base64(text))
    except (ValueError, binascii.Error):
        raise FieldError(field, f"{field} must be a point of the curve P-256") from None
    return text


def _check_events(value: object) -> tuple[PushEvent, ...]:
    if not isinstance(value, list) or not value or not all(event in PUSH_EVENTS for event in value):
        raise FieldError("events", f"events must be a list of {', '.join(PUSH_EVENTS)}, not {format_value(value)}")
    return tuple(event for event in PUSH_EVENTS if event in value)


class Subscriptions:
    """The push subscriptions of the server, in memory.

    Thread-safe: each change replaces the indexes.
    """

    def __init__(self, records: Iterable[PushSubscription] = ()) -> None:
        self._records: dict[str, PushSubscription] = {}
        self._added: set[str] = set()
        self._lock = threading.Lock()
        self.replace_all(records)

    def __len__(self) -> int:
        return len(self._records)

    def replace_all(self, records: Iterable[PushSubscription]) -> None:
        """Replace all subscriptions by the stored ones."""
        with self._lock:
            self._replace({record.subscription_id: record for record in records})

    def _replace(self, records: dict[str, PushSubscription]) -> None:
        self._added |= records.keys() - self._records.keys()
        by_item, by_group = dict[str, list[PushSubscription]](), dict[str, list[PushSubscription]]()
        for record in records.values():
            if record.item is not None:
                by_item.setdefault(record.item, []).append(record)
            elif record.group is not None:
                by_group.setdefault(record.group, []).append(record)
        self._records, self._by_item, self._by_group = records, by_item, by_group

    def add(self, record: PushSubscription) -> None:
        """Add or replace a subscription."""
        with self._lock:
            self._replace(self._records | {record.subscription_id: record})

    def drop(self, subscription_id: str) -> None:
        """Remove a subscription, if it is there."""
        with self._lock:
            self._replace({name: record for name, record in self._records.items() if name != subscription_id})

    def get(self, subscription_id: str) -> PushSubscription | None:
        """Return a subscription by its id."""
        return self._records.get(subscription_id)

    def list_of(self, holder: Holder) -> list[PushSubscription]:
        """Return the subscriptions of a session or key, oldest first."""
        own = [
            record
            for record in self._records.values()
            if record.session == holder.session and record.key_id == holder.key_id
        ]
        return sorted(own, key=_sort_key)

    def find(self, item: Item) -> list[PushSubscription]:
        """Return the subscriptions that follow the run of an item, oldest first: the same order on each server."""
        found = [
            record for record in self._by_item.get(item.id, ()) if record.run_id is None or record.run_id == item.run_id
        ]
        if item.group is not None:
            found += self._by_group.get(item.group, ())
        return sorted(found, key=_sort_key)

    def drain_added(self) -> list[PushSubscription]:
        """Return the subscriptions that were added since the last call."""
        if not self._added:
            return []
        with self._lock:
            added, self._added = self._added, set()
        return [self._records[name] for name in added if name in self._records]

    def all(self) -> list[PushSubscription]:
        """Return all subscriptions."""
        return list(self._records.values())

    def retain(self, is_valid: Callable[[PushSubscription], bool]) -> list[PushSubscription]:
        """Remove the subscriptions that are not valid, and return them."""
        with self._lock:
            ended = [record for record in self._records.values() if not is_valid(record)]
            if ended:
                names = {record.subscription_id for record in ended}
                self._replace({name: record for name, record in self._records.items() if name not in names})
        return ended


def _sort_key(record: PushSubscription) -> tuple[float, str]:
    return record.created_at, record.subscription_id
