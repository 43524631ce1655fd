"""Keys: admins manage them, and each key reads its own permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from progressbar_tracker._models import FieldError, check_text, format_value
from progressbar_tracker._version import VERSION
from progressbar_tracker.server.access import keys
from progressbar_tracker.server.http.response import Response, json_response
from progressbar_tracker.server.items.validation import parse_instant
from progressbar_tracker.server.mutations import DropKey, SaveKey
from progressbar_tracker.server.problems import ProblemError, field_problem, missing_field

from . import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.models import KeyRecord
    from progressbar_tracker.server.mutations import Write
    from progressbar_tracker.server.services import Services


async def get_key_info(request: Request) -> Response:
    """``GET /api/key-info``: the permissions of the key, and the server's version and limits."""
    principal = request.principal
    return json_response(
        {
            "type": principal.type,
            "permissions": principal.permissions,
            "name": principal.name,
            "api": ["v1"],
            "server": {"version": VERSION, "boot_id": request.services.epoch},
            "limits": limits.serialize_limits(request.services.settings),
        }
    )


async def list_keys(request: Request) -> Response:
    """``GET /api/v1/keys``."""
    if not await request.services.reload_credentials():
        request.services.credentials.refresh_keys()
    return json_response({"keys": [keys.serialize_key(record) for record in request.services.keyring.all()]})


async def create_key(request: Request) -> Response:
    """``POST /api/v1/keys``: only this response contains the key."""
    body = await request.read_json()
    for field in ("type", "name"):
        if body.get(field) is None:
            raise missing_field(field)
    try:
        group, cell = body.get("group"), body.get("cell")
        created = keys.new_key(
            keys.check_type(body["type"]),
            keys.check_name(body["name"]),
            request.services.clock(),
            expires_at=parse_instant("expires_at", body.get("expires_at")),
            group=None if group is None else check_text("group", group, 200),
            cell=None if cell is None else keys.check_cell(cell),
            reads_tails=_check_flag(body, "read_tail"),
        )
    except FieldError as error:
        raise field_problem(error) from None
    async with request.services.keys_lock:
        await request.services.unit_of_work.wait_for_undo()
        request.reauthorize()  # the credential may have ended during the wait
        if len(request.services.keyring) >= keys.MAX_KEYS:
            raise ProblemError("too-many-keys", f"there are {keys.MAX_KEYS} keys, the most there may be")
        await _save_key(request.services, created.record, lambda: [DropKey(created.record.key_id)])
    return json_response({**keys.serialize_key(created.record), "key": created.secret}, 201)


def _check_flag(body: Mapping[str, object], field: str) -> bool:
    value = body.get(field)
    if value is not None and not isinstance(value, bool):
        raise FieldError(field, f"{field} must be true or false, not {format_value(value)}")
    return value is True


async def revoke_key(request: Request) -> Response:
    """``DELETE /api/v1/keys/{key_id}``: the key ends at once; its items stay."""
    # One at a time: two concurrent requests could revoke the last two admin keys.
    async with request.services.keys_lock:
        record = await _require_key(request)
        now = request.services.clock()
        if request.services.keyring.is_last_admin(record.key_id, now):
            raise ProblemError("last-admin-key", "this is the last admin key that works: make another one first")
        record = keys.revoke_key(record, now)
        await _save_key(request.services, record)
    return json_response(keys.serialize_key(record))


async def rotate_key(request: Request) -> Response:
    """``POST /api/v1/keys/{key_id}/rotate``: issue a new secret for the same identity."""
    async with request.services.keys_lock:
        record = await _require_key(request)
        now = request.services.clock()
        if not keys.is_usable(record, now):
            raise ProblemError("invalid-field", "the key works no more: make a new one", field="key_id")
        rotated = keys.rotate_key(record, now)
        await _save_key(
            request.services, rotated.record, lambda: _undo_rotation(request.services, record, rotated.record)
        )
    return json_response({**keys.serialize_key(rotated.record), "key": rotated.secret})


def _undo_rotation(services: Services, before: KeyRecord, after: KeyRecord) -> list[Write]:
    """Return the writes that undo a rotation whose secret was never shown, unless the key has changed since."""
    services.credentials.refresh_keys()
    current = services.keyring.get(after.key_id)
    is_unchanged = current is not None and current.hash == after.hash and current.revoked_at is None
    return [SaveKey(before)] if is_unchanged else []


async def _require_key(request: Request) -> KeyRecord:
    await request.services.unit_of_work.wait_for_undo()
    # Do not overwrite a change that the command line or another server has just made.
    await request.reauthorize_with_stored()
    record = request.services.keyring.get(request.parse_path_text("key_id"))
    if record is None:
        raise ProblemError("not-found", "there is no key with this key_id")
    return record


async def _save_key(services: Services, record: KeyRecord, undo_writes: Callable[[], Sequence[Write]] = list) -> None:
    await services.unit_of_work.commit([SaveKey(record)], undo_writes)
    services.keyring.add(record)
    services.credentials.apply_key_changes()
