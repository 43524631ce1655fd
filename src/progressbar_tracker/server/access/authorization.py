"""Who is asking, and whether they may.

:func:`authorize` is the one place that decides; every route and every operation of a batch asks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import msgspec

from progressbar_tracker._models import KEY_PERMISSIONS, KEY_TYPES, KeyType, Permission
from progressbar_tracker.server.problems import ProblemError

from .keys import Keyring, credential_ends_at, is_usable

if TYPE_CHECKING:
    from progressbar_tracker.server.models import SessionRecord

Action: TypeAlias = Literal["public", "any", "read", "create", "update", "delete", "manage"]
"""What a request wants: ``public`` needs nothing, ``any`` a valid key, ``manage`` an admin (keys)."""

OPERATOR_ID: Final = "operator"
"""The identity of who is signed in to the dashboard by password or link; no key can have this id."""


GUEST_ID: Final = "guest"
"""The identity of who is not signed in, where the operator lets everybody read; no key can have this id."""


class Principal(msgspec.Struct, frozen=True):
    """Who asks: a key, the operator at a browser, or a guest.

    Attributes:
        id: The identity that owns items.
        name: What is shown for it.
        type: The permissions it has.
        group: The group of items it writes without naming one.
    """

    id: str
    name: str
    type: KeyType
    group: str | None = None

    @property
    def permissions(self) -> tuple[Permission, ...]:
        """What it may do."""
        return KEY_PERMISSIONS[self.type]


def authorize(principal: Principal | None, action: Action, owner: str | None = None) -> None:
    """Return if ``principal`` may do ``action``, to an item of ``owner`` where there is one.

    Args:
        principal: Who asks, or ``None`` for nobody known.
        action: What they want.
        owner: The identity that owns the item; ``None`` where there is no item (yet).

    Raises:
        ProblemError: ``unauthorized`` or ``forbidden``.
    """
    if action == "public":
        return
    if principal is None or (principal.id == GUEST_ID and action != "read"):
        raise ProblemError("unauthorized", "send a valid key in the X-API-KEY header")
    reach = _ACTION_SCOPES.get((principal.type, action), "none")
    if reach == "all" or (reach == "own" and (owner is None or owner == principal.id)):
        return
    if action == "manage":
        raise ProblemError("forbidden", f"this takes an admin key, not a {principal.type} key")
    if reach == "none":
        raise ProblemError("forbidden", f"a {principal.type} key may not {action} items")
    raise ProblemError("forbidden", f"the item belongs to another key, and this one may only {action} its own")


def _action_scope(type: KeyType, action: Action) -> Literal["all", "own", "none"]:
    held: tuple[str, ...] = KEY_PERMISSIONS[type]
    if action in {"public", "any"} or (action == "manage" and type == "admin"):
        return "all"
    if action in held or f"{action}_all" in held:
        return "all"
    return "own" if f"{action}_own" in held else "none"


# Asked once or twice for every write.
_ACTION_SCOPES: Final = {
    (type, action): _action_scope(type, action) for type in KEY_TYPES for action in get_args(Action)
}


def identify(keyring: Keyring, secret: str, now: float) -> Principal:
    """Return whom a key stands for.

    Raises:
        ProblemError: ``unauthorized``; whoever holds a revoked or expired key is told so.
    """
    record = keyring.find(secret, now)
    if record is None:
        raise ProblemError("unauthorized", "the key is not known here")
    if not is_usable(record, now):
        why = "has expired" if record.revoked_at is None else "was revoked"
        raise ProblemError("unauthorized", f"the key {why}")
    return Principal(record.key_id, record.name, record.type, record.group)


def principal_of_session(
    keyring: Keyring, session: SessionRecord, now: float, operator_credential: str
) -> Principal | None:
    """Return the principal of a session; ``None`` if the credential that it was signed in with has ended.

    Args:
        keyring: The keys.
        session: The session.
        now: The instant.
        operator_credential: The credential of sessions that were signed in by password or link.
    """
    if session.key_id is None:
        return Principal(OPERATOR_ID, OPERATOR_ID, "admin") if session.credential == operator_credential else None
    record = keyring.get(session.key_id)
    if record is None or now >= credential_ends_at(record, session.credential):
        return None
    return Principal(record.key_id, record.name, record.type, record.group)
