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
    from progressbar_tracker.server.models import KeyRecord, SessionRecord

Action: TypeAlias = Literal["public", "any", "read", "create", "update", "delete", "stop", "manage", "read_tail"]
"""The action of a request: ``public`` needs no key, ``any`` a valid key, ``manage`` an admin key.

``stop`` needs the permission of ``update``, and ``read_tail`` an admin key or one with this option.
"""

Scope: TypeAlias = Literal["all", "own", "none"]

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
        reads_tails: Whether the principal reads the output of runs.
    """

    id: str
    name: str
    type: KeyType
    group: str | None = None
    reads_tails: bool = False

    @property
    def permissions(self) -> tuple[Permission, ...]:
        """The permissions of the principal's type, and that to read tails."""
        return (*KEY_PERMISSIONS[self.type], *(("read_tail",) if self.reads_tails else ()))


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
    if action == "read_tail":
        if not principal.reads_tails:
            raise ProblemError("forbidden", "the output of runs needs an admin key, or a key created with read_tail")
        return
    scope = _ACTION_SCOPES.get((principal.type, action), "none")
    if scope == "all" or (scope == "own" and (owner is None or owner == principal.id)):
        return
    if action == "manage":
        raise ProblemError("forbidden", f"this needs an admin key, not a {principal.type} key")
    if scope == "none":
        raise ProblemError("forbidden", f"a {principal.type} key may not {action} items")
    raise ProblemError("forbidden", f"the item belongs to another key, and this one may only {action} its own")


def find_scope(principal: Principal, action: Action) -> Scope:
    """Return on which items a principal may perform an action: all, its own, or none."""
    return "none" if principal.id == GUEST_ID and action != "read" else _ACTION_SCOPES[principal.type, action]


def _action_scope(type: KeyType, action: Action) -> Scope:
    permissions: tuple[str, ...] = KEY_PERMISSIONS[type]
    if action in {"public", "any"} or (action == "manage" and type == "admin"):
        return "all"
    needed = "update" if action == "stop" else action
    if needed in permissions or f"{needed}_all" in permissions:
        return "all"
    return "own" if f"{needed}_own" in permissions else "none"


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
    return _make_key_principal(record)


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
        return (
            Principal(OPERATOR_ID, OPERATOR_ID, "admin", reads_tails=True)
            if session.credential == operator_credential
            else None
        )
    record = keyring.get(session.key_id)
    if record is None or now >= compute_credential_end(record, session.credential):
        return None
    return _make_key_principal(record)


def _make_key_principal(record: KeyRecord) -> Principal:
    return Principal(
        record.key_id, record.name, record.type, record.group, reads_tails=record.type == "admin" or record.reads_tails
    )
