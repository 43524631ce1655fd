"""Authorize principals.

:func:`authorize` is the only place that decides; every route and every operation of a batch calls it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import msgspec

from progressbar_tracker._models import KEY_PERMISSIONS, KEY_TYPES, KeyType, Permission
from progressbar_tracker.server.problems import ProblemError

from .keys import Keyring, compute_credential_end, is_usable

if TYPE_CHECKING:
    from progressbar_tracker.server.models import SessionRecord

Action: TypeAlias = Literal["public", "any", "read", "create", "update", "delete", "manage"]
"""The action of a request: ``public`` needs no key, ``any`` a valid key, ``manage`` an admin key."""

OPERATOR_ID: Final = "operator"
"""The id of the principal that signed in by password or link; no key can have it."""


GUEST_ID: Final = "guest"
"""The id of a principal without key and session, if reading is public; no key can have it."""


class Principal(msgspec.Struct, frozen=True):
    """The author of a request: a key, the operator in a browser, or a guest.

    Attributes:
        id: The id that owns items.
        name: The display name.
        type: The type of key with the same permissions.
        group: The group given to an item whose write names no group.
    """

    id: str
    name: str
    type: KeyType
    group: str | None = None

    @property
    def permissions(self) -> tuple[Permission, ...]:
        """The permissions of the principal's type."""
        return KEY_PERMISSIONS[self.type]


def authorize(principal: Principal | None, action: Action, owner: str | None = None) -> None:
    """Check that a principal may perform an action.

    Args:
        principal: The principal, or ``None`` if it is unknown.
        action: The action.
        owner: The id that owns the item; ``None`` if there is no item (yet).

    Raises:
        ProblemError: ``unauthorized`` or ``forbidden``.
    """
    if action == "public":
        return
    if principal is None or (principal.id == GUEST_ID and action != "read"):
        raise ProblemError("unauthorized", "send a valid key in the X-API-KEY header")
    scope = _ACTION_SCOPES.get((principal.type, action), "none")
    if scope == "all" or (scope == "own" and (owner is None or owner == principal.id)):
        return
    if action == "manage":
        raise ProblemError("forbidden", f"this needs an admin key, not a {principal.type} key")
    if scope == "none":
        raise ProblemError("forbidden", f"a {principal.type} key may not {action} items")
    raise ProblemError("forbidden", f"the item belongs to another key, and this one may only {action} its own")


def _action_scope(type: KeyType, action: Action) -> Literal["all", "own", "none"]:
    permissions: tuple[str, ...] = KEY_PERMISSIONS[type]
    if action in {"public", "any"} or (action == "manage" and type == "admin"):
        return "all"
    if action in permissions or f"{action}_all" in permissions:
        return "all"
    return "own" if f"{action}_own" in permissions else "none"


# Precomputed: every write looks up a scope once or twice.
_ACTION_SCOPES: Final = {
    (type, action): _action_scope(type, action) for type in KEY_TYPES for action in get_args(Action)
}


def identify(keyring: Keyring, secret: str, now: float) -> Principal:
    """Return the principal of a key.

    Raises:
        ProblemError: ``unauthorized``; the detail says whether the key was revoked or has expired.
    """
    record = keyring.find(secret, now)
    if record is None:
        raise ProblemError("unauthorized", "this server does not know the key")
    if not is_usable(record, now):
        why = "has expired" if record.revoked_at is None else "was revoked"
        raise ProblemError("unauthorized", f"the key {why}")
    return Principal(record.key_id, record.name, record.type, record.group)


def make_session_principal(
    keyring: Keyring, session: SessionRecord, now: float, operator_credential: str
) -> Principal | None:
    """Return the principal of a session; ``None`` if its credential has ended.

    Args:
        keyring: The keys.
        session: The session.
        now: The current instant.
        operator_credential: The credential of sessions that were signed in by password or link.
    """
    if session.key_id is None:
        return Principal(OPERATOR_ID, OPERATOR_ID, "admin") if session.credential == operator_credential else None
    record = keyring.get(session.key_id)
    if record is None or now >= compute_credential_end(record, session.credential):
        return None
    return Principal(record.key_id, record.name, record.type, record.group)
