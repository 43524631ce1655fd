"""Ping tokens: secrets in the URLs of pings, which report the runs of one group and nothing else."""

from __future__ import annotations

from typing import Final

from progressbar_tracker._models import MAX_GROUP_LENGTH, check_text
from progressbar_tracker.server.models import PingTokenRecord

from .tokens import check_expiry, new_token

MAX_PING_TOKENS: Final = 1000
"""The most ping tokens."""

MAX_NAME_LENGTH: Final = 100

PINGS_PER_SECOND: Final = 5
"""The average number of pings a second of a token; ten seconds' worth may arrive at once."""


def new_ping_token(
    now: float, *, name: object, group: object, expires_at: float | None = None
) -> tuple[PingTokenRecord, str]:
    """Create a ping token of a group.

    Args:
        now: The current instant.
        name: Its display name, 1 to 100 characters: the owner of the runs that it reports.
        group: The group whose items it reports.
        expires_at: The instant at which it expires, or ``None``.

    Returns:
        The record of the token, and the token.

    Raises:
        FieldError: A field breaks a rule.
    """
    token = new_token()
    record = PingTokenRecord(
        token_id=token.id,
        hash=token.hash,
        name=check_text("name", name, MAX_NAME_LENGTH, min_length=1),
        group=check_text("group", group, MAX_GROUP_LENGTH, min_length=1),
        created_at=now,
        expires_at=check_expiry(expires_at, now),
    )
    return record, token.token
