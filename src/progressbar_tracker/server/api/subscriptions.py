"""Push subscriptions: a browser follows items, runs and groups with its own session or key, and sees only its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from progressbar_tracker._models import FieldError
from progressbar_tracker.server.access import subscriptions
from progressbar_tracker.server.access.subscriptions import Holder
from progressbar_tracker.server.http.response import json_response
from progressbar_tracker.server.models import credential_digest, digest, rfc3339
from progressbar_tracker.server.mutations import AddVapidKey, DropSubscription, SaveSubscription
from progressbar_tracker.server.notifications.web_push import derive_public_key, generate_vapid_key, is_installed
from progressbar_tracker.server.problems import ProblemError, field_problem

from .sessions import find_own_session

if TYPE_CHECKING:
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
        record = subscriptions.new_subscription(body, holder, services.clock(), services.settings.list_push_origins())
    except FieldError as error:
        raise field_problem(error) from None
    before = known.get(record.subscription_id)
    if before is None:
        if len(known.list_of(holder)) >= subscriptions.MAX_SUBSCRIPTIONS:
            most = f"a session or key may have {subscriptions.MAX_SUBSCRIPTIONS} push subscriptions"
            raise ProblemError("too-many-subscriptions", most)
        if len(known) >= subscriptions.MAX_ALL_SUBSCRIPTIONS:
            most = f"the server has {subscriptions.MAX_ALL_SUBSCRIPTIONS} push subscriptions, the most there may be"
            raise ProblemError("too-many-subscriptions", most)
    else:
        record = replace(record, created_at=before.created_at)
    await services.unit_of_work.commit(
        [SaveSubscription(record)], lambda: [] if before is not None else [DropSubscription(record.subscription_id)]
    )
    known.add(record)
    services.notifier.dispatcher.start()
    return json_response(_serialize_subscription(record), 200 if before is not None else 201)


async def delete_subscription(request: Request) -> Response:
    """``DELETE /api/v1/push/subscriptions/{subscription_id}``: its waiting messages are dropped."""
    await request.authorize_with_stored()
    services = request.services
    name, holder = request.parse_path_text("subscription_id"), _find_holder(request)
    own = services.credentials.subscriptions.list_of(holder)
    record = next((record for record in own if record.subscription_id == name), None)
    if record is None:
        raise ProblemError("not-found", "there is no push subscription of yours with this subscription_id")
    await services.unit_of_work.commit([DropSubscription(name)])
    services.credentials.subscriptions.drop(name)
    return json_response(_serialize_subscription(record))


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
                await services.unit_of_work.commit([AddVapidKey(private_key)])
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
