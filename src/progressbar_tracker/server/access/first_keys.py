"""Create the keys that a server needs at its start: an admin key, and a write key for the user's config file."""

from __future__ import annotations

import ipaddress
import logging
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from progressbar_tracker.server.models import digest

from . import keys

if TYPE_CHECKING:
    from progressbar_tracker.server.stores.base import Store

    from .credentials import CredentialCache

logger = logging.getLogger("progressbar_tracker.server")

LOCAL_KEY_NAME: Final = "local"
"""The name of the key in the user's config file."""


class LocalConfig(Protocol):
    """The server's entry in the user's config file."""

    def read(self) -> tuple[str, str] | None:
        """Return URL and key, or ``None`` if there are none."""

    def write(self, url: str, api_key: str) -> None:
        """Replace URL and key; only the user can read the file."""


def ensure_admin_key(credentials: CredentialCache, store: Store, imported: str | None, now: float) -> str | None:
    """Import the admin key of the settings, or create one if no admin key is usable.

    Args:
        credentials: The keys.
        store: Knows the secrets of deleted keys.
        imported: The secret in the settings.
        now: The current instant.

    Returns:
        The secret of a created key, to be shown once.
    """
    keyring = credentials.keyring
    if imported is None:
        if any(record.type == "admin" and keys.is_usable(record, now) for record in keyring.all()):
            return None
        created = keys.new_key("admin", "admin", now)
        credentials.save_key(created.record)
        return created.secret
    record = keyring.find(imported, now)
    if record is not None and keys.is_usable(record, now) and record.type == "admin":
        return None
    if (why := _refusal_reason(credentials, store, imported, now)) is not None:
        variables = "PROGRESSBAR_ADMIN_KEY or PROGRESSBAR_ADMIN_KEY_FILE"
        logger.error("the key in %s %s and is refused: set another one", variables, why)
        return None
    former = next((record for record in keyring.all() if record.imported), None)
    credentials.save_key(keys.import_key(imported, now, former))
    return None


def _refusal_reason(credentials: CredentialCache, store: Store, secret: str, now: float) -> str | None:
    """Return why a secret cannot be imported: a key had it before. ``None`` if it can."""
    record = credentials.keyring.find_any(secret)
    if record is None:
        return "has ended" if store.is_secret_retired(digest(secret)) else None
    if record.revoked_at is not None:
        return "was revoked"
    if not keys.is_usable(record, now):
        return "has expired"
    return "was replaced" if record.type == "admin" else f"is a {record.type} key"


def ensure_local_key(credentials: CredentialCache, config: LocalConfig, server_url: str, now: float) -> str | None:
    """Write a usable key into the user's config file, unless that names a server on another machine.

    Returns:
        The URL of that other server.
    """
    entry = config.read()
    if entry is not None:
        url, secret = entry
        if not _is_loopback(url):
            return url
        record = credentials.keyring.find(secret, now)
        if record is not None and keys.is_usable(record, now) and record.type != "read":
            if url.rstrip("/") != server_url:
                config.write(server_url, secret)
            return None
    former = next(
        (
            record
            for record in credentials.keyring.all()
            if record.name == LOCAL_KEY_NAME and keys.is_usable(record, now)
        ),
        None,
    )
    # A new secret for the former key: it continues to own its items.
    created = keys.new_key("write", LOCAL_KEY_NAME, now) if former is None else keys.rotate_key(former, now)
    credentials.save_key(created.record)
    config.write(server_url, created.secret)
    return None


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
