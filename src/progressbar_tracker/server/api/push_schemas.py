"""The shapes of push subscriptions; see :mod:`.schemas`."""

from __future__ import annotations

from typing import Annotated, TypedDict

from msgspec import Meta

from progressbar_tracker.server.access.subscriptions import AUTH_PATTERN, KEY_PATTERN, MAX_ENDPOINT_LENGTH
from progressbar_tracker.server.models import PushEvent  # noqa: TC001  # msgspec evaluates the types

from .schemas import Group, Id, Instant, RunId  # noqa: TC001


class PushKey(TypedDict):
    """The key of the server, for `PushManager.subscribe` in a browser."""

    public_key: Annotated[
        str, Meta(description="An uncompressed point of P-256, in base64url without padding.", examples=["BKd0..."])
    ]


class _RequiredBrowserFields(TypedDict):
    endpoint: Annotated[
        str,
        Meta(
            min_length=9, max_length=MAX_ENDPOINT_LENGTH, pattern=r"^https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[!-~]*)?$",
            description="The `endpoint` of the browser's subscription: an https URL.",
            examples=["https://updates.push.services.mozilla.com/wpush/v2/..."],
        ),
    ]  # fmt: skip
    p256dh: Annotated[str, Meta(pattern=KEY_PATTERN, description="The `p256dh` of its keys.")]
    auth: Annotated[str, Meta(pattern=AUTH_PATTERN, description="The `auth` of its keys.")]


class BrowserFields(_RequiredBrowserFields, total=False):
    """A browser's subscription at its push service."""

    server_key: Annotated[
        Annotated[str, Meta(pattern=KEY_PATTERN)] | None,
        Meta(description="The `public_key` with which the browser subscribed; by default the current one."),
    ]


class _RequiredSubscriptionFields(BrowserFields):
    events: Annotated[
        list[PushEvent],
        Meta(min_length=1, description="`end`: any end; `failure`; `stuck`: no progress, or no sign of life."),
    ]


class SubscriptionOf(_RequiredSubscriptionFields, total=False):
    """A browser's subscription to either an item, or one of its runs, or a group."""

    item: Id | None
    run_id: Annotated[RunId | None, Meta(description="Only this run of the item.")]
    group: Annotated[Group, Meta(min_length=1)] | None


SubscriptionWrite = Annotated[
    SubscriptionOf,
    Meta(
        extra_json_schema={
            "oneOf": [
                {
                    "required": ["group"],
                    "properties": {"group": {"type": "string"}, "item": {"type": "null"}, "run_id": {"type": "null"}},
                },
                {"required": ["item"], "properties": {"item": {"type": "string"}, "group": {"type": "null"}}},
            ]
        }
    ),
]


class Subscription(TypedDict):
    """A push subscription, without its endpoint and its keys."""

    subscription_id: str
    item: Id | None
    run_id: str | None
    group: Group | None
    events: list[PushEvent]
    created_at: Instant
    browser: Annotated[str, Meta(description="The first 16 hex digits of the SHA-256 of the endpoint.")]


class Subscriptions(TypedDict):
    """The push subscriptions of a session or key, oldest first."""

    subscriptions: list[Subscription]
