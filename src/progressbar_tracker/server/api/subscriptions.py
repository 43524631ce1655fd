"""Push subscriptions: a browser follows items, runs and groups with its own session or key, and sees only its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from progressbar_tracker._models import FieldError
from progressbar_tracker.server.access import subscriptions
from progressbar_tracker.server.access.subscriptions import Holder
from progressbar_tracker.server.http.response import json_response
from progressbar_tracker.server.models import credential_digest, digest, rfc3339
from progressbar_tracker.server.mutations import AddVapidKeys, DropSubscription, SaveSubscription
from progressbar_tracker.server.notifications.web_push import derive_public_key, generate_vapid_key, is_installed
from progressbar_tracker.server.problems import ProblemError, field_problem

from .sessions import find_own_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from progressbar_tracker.server.access.subscriptions import BrowserFields
    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.http.response import Response
    from progressbar_tracker.server.models import PushSubscription
    from progressbar_tracker.server.services import Services

_NOT_INSTALLED: Final = "this server sends no push messages: its operator installs progressbar-tracker[notify]"


async def get_push_key(request: Request) -> Response:
    """``GET /api/v1/push/key``: the first request creates the key."""
    _require_packages()
    private_key = await _ensure_vapid_key(request.services)
    return json_response({"public_key": derive_public_key(private_key)})


async def list_subscriptions(request: Request) -> Response:
    """``GET /api/v1/push/subscriptions``: those of the session or key of the request."""
    own = request.services.credentials.subscriptions.list_of(_find_holder(request))
    return json_response({"subscriptions": [_serialize_subscription(record) for record in own]})


async def create_subscription(request: Request) -> Response:
    """``POST /api/v1/push/subscriptions``: a repeated request replaces the events and the keys of the browser."""
    await request.authorize_with_stored()  # the effects outlast the credential
    body = await request.read_json()
    _require_packages()
    services, holder = request.services, _find_holder(request)
    known = services.credentials.subscriptions
    try:
        own = known.list_of(holder)
        browser = _parse_browser(body, services, own)
        record = subscriptions.new_subscription(body, browser, holder, services.clock())
    except FieldError as error:
        raise field_problem(error) from None
    record, before = subscriptions.identify_subscription(record, own)
    if before is None:
        if len(own) >= subscriptions.MAX_SUBSCRIPTIONS:
            most = f"a session or key may have {subscriptions.MAX_SUBSCRIPTIONS} push subscriptions"
            raise ProblemError("too-many-subscriptions", most)
        if len(known) >= subscriptions.MAX_ALL_SUBSCRIPTIONS:
            most = f"the server has {subscriptions.MAX_ALL_SUBSCRIPTIONS} push subscriptions, the most there may be"
            raise ProblemError("too-many-subscriptions", most)
    await services.unit_of_work.commit(
        [SaveSubscription(record)], lambda: [] if before is not None else [DropSubscription(record.subscription_id)]
    )
    known.add(record)
    services.notifier.dispatcher.start()
    return json_response(_serialize_subscription(record), 200 if before is not None else 201)


async def move_subscription(request: Request) -> Response:
    """``PATCH /api/v1/push/subscriptions/{subscription_id}``: its waiting messages go to the new endpoint."""
    await request.authorize_with_stored()
    body = await request.read_json()
    _require_packages()
    services, (record, own) = request.services, _find_own(request)
    try:
        moved = replace(record, **_parse_browser(body, services, own)._asdict())
    except FieldError as error:
        raise field_problem(error) from None
    # The browser may have subscribed to the same with its new endpoint before.
    doubles = [one.subscription_id for one in own if one.subject == moved.subject and one is not record]
    await services.unit_of_work.commit([SaveSubscription(moved), *map(DropSubscription, doubles)])
    known = services.credentials.subscriptions
    known.add(moved)
    for name in doubles:
        known.drop(name)
    return json_response(_serialize_subscription(moved))


async def delete_subscription(request: Request) -> Response:
    """``DELETE /api/v1/push/subscriptions/{subscription_id}``: its waiting messages are dropped."""
    await request.authorize_with_stored()
    services, (record, _) = request.services, _find_own(request)
    await services.unit_of_work.commit([DropSubscription(record.subscription_id)])
    services.credentials.subscriptions.drop(record.subscription_id)
    return json_response(_serialize_subscription(record))


def _find_own(request: Request) -> tuple[PushSubscription, list[PushSubscription]]:
    """Return the subscription of the path, and all of its holder."""
    own = request.services.credentials.subscriptions.list_of(_find_holder(request))
    name = request.parse_path_text("subscription_id")
    record = next((one for one in own if one.subscription_id == name), None)
    if record is None:
        raise ProblemError("not-found", "there is no push subscription of yours with this subscription_id")
    return record, own


def _parse_browser(body: Mapping[str, object], services: Services, own: Sequence[PushSubscription]) -> BrowserFields:
    private_key = services.credentials.vapid_key
    server_key = "" if private_key is None else derive_public_key(private_key)
    for record in own:
        if record.endpoint == body.get("endpoint"):
            server_key = record.server_key  # an endpoint keeps its key
    return subscriptions.parse_browser(body, services.settings.list_push_origins(), server_key)


def _require_packages() -> None:
    if not is_installed():
        raise ProblemError("push-unavailable", _NOT_INSTALLED)


async def _ensure_vapid_key(services: Services) -> str:
    """Return the private key that signs messages; the first of several servers creates it for all."""
    credentials = services.credentials
    if credentials.vapid_key is None:
        async with services.keys_lock:
            if credentials.vapid_key is None:
                private_key = generate_vapid_key()
                await services.unit_of_work.commit([AddVapidKeys((private_key,))])
                return credentials.adopt_vapid_key(private_key)
    return credentials.vapid_key


def _find_holder(request: Request) -> Holder:
    principal, secret = request.principal, request.get_key_secret()
    if secret is not None:
        return Holder(principal.id, None, principal.id, credential_digest(principal.type, digest(secret)))
    session = find_own_session(request)
    if session is None:
        raise ProblemError("unauthorized", "the session has ended")
    return Holder(principal.id, session.hash, None, None)


def _serialize_subscription(record: PushSubscription) -> dict[str, object]:
    return {
        "subscription_id": record.subscription_id,
        "item": record.item,
        "run_id": record.run_id,
        "group": record.group,
        "events": list(record.events),
        "created_at": rfc3339(record.created_at),
        "browser": digest(record.endpoint)[:16],
    }
