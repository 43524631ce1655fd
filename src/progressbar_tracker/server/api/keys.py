"""Keys: for admins, and what a key says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker._models import FieldError, check_text
from progressbar_tracker._version import VERSION
from progressbar_tracker.server.access import keys
from progressbar_tracker.server.http.request import Call, decoded
from progressbar_tracker.server.http.response import Reply, answer
from progressbar_tracker.server.items.validation import instant
from progressbar_tracker.server.models import DropKey, SaveKey, told
from progressbar_tracker.server.problems import ProblemError, missing, of_field

from . import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from progressbar_tracker.server.models import KeyRecord, Write
    from progressbar_tracker.server.services import Services


async def info(call: Call) -> Reply:
    """``GET /api/key-info``: what the key may do, and whom it talks to."""
    asker = call.asker
    return answer(
        {
            "type": asker.type,
            "permissions": asker.permissions,
            "name": asker.name,
            "api": ["v1"],
            "server": {"version": VERSION, "boot_id": call.services.boot_id},
            "limits": limits.told(call.services.settings),
        }
    )


async def listed(call: Call) -> Reply:
    """``GET /api/v1/keys``."""
    if not await call.services.look_again():
        call.services.refresh_keys()
    return answer({"keys": [told(record) for record in call.services.ring.all()]})


async def create(call: Call) -> Reply:
    """``POST /api/v1/keys``: the answer shows the key this once."""
    body = await call.json()
    for field in ("type", "name"):
        if body.get(field) is None:
            raise missing(field)
    try:
        group = body.get("group")
        made = keys.new_key(
            keys.check_type(body["type"]),
            keys.check_name(body["name"]),
            call.services.clock(),
            expires_at=instant("expires_at", body.get("expires_at")),
            group=None if group is None else check_text("group", group, 200),
        )
    except FieldError as error:
        raise of_field(error) from None
    async with call.services.changing_keys:
        await call.services.credentials_settled()
        call.reauthorize()  # there may have been a queue
        if len(call.services.ring) >= keys.KEYS:
            raise ProblemError("too-many-keys", f"there are {keys.KEYS} keys, the most there may be")
        await _keep(call.services, made.record, lambda: [DropKey(made.record.key_id)])
    return answer({**told(made.record), "key": made.secret}, 201)


async def revoke(call: Call) -> Reply:
    """``DELETE /api/v1/keys/{key_id}``: works no more, at once; what it owns stays."""
    # One at a time: two that each leave the other as the last would leave none.
    async with call.services.changing_keys:
        record = await _need(call)
        now = call.services.clock()
        if call.services.ring.last_admin(record.key_id, now):
            raise ProblemError("last-admin-key", "this is the last admin key that works: make another one first")
        record = keys.revoked(record, now)
        await _keep(call.services, record)
    return answer(told(record))


async def rotate(call: Call) -> Reply:
    """``POST /api/v1/keys/{key_id}/rotate``: a new secret for the same identity."""
    async with call.services.changing_keys:
        record = await _need(call)
        now = call.services.clock()
        if not keys.usable(record, now):
            raise ProblemError("invalid-field", "the key works no more: make a new one", field="key_id")
        made = keys.rotated(record, now)
        await _keep(call.services, made.record, lambda: _unrotated(call.services, record, made.record))
    return answer({**told(made.record), "key": made.secret})


def _unrotated(services: Services, before: KeyRecord, after: KeyRecord) -> list[Write]:
    """Return what takes back a rotation whose secret was never shown, unless the key has changed since."""
    services.refresh_keys()
    known = services.ring.get(after.key_id)
    return [SaveKey(before)] if known is not None and known.hash == after.hash and known.revoked_at is None else []


async def _need(call: Call) -> KeyRecord:
    await call.services.credentials_settled()
    # The command line or another server may have changed it a moment ago; that must not be written over.
    await call.reauthorize_with_stored()
    record = call.services.ring.get(decoded(call.path["key_id"].encode("latin-1")))
    if record is None:
        raise ProblemError("not-found", "there is no key with this key_id")
    return record


async def _keep(services: Services, record: KeyRecord, undo: Callable[[], Sequence[Write]] = list) -> None:
    await services.commit([SaveKey(record)], undo)
    services.ring.add(record)
    services.keys_changed()
