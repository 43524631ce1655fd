"""Browsers that the administrator has signed in with before, by a cookie.

The cookie signs nobody in. An attempt that comes with one waits in a queue of its own and is counted apart, so that a
flood of guesses does not keep the administrator out. It is signed and not stored: a change of the password ends all of
them, and each ends by itself.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

DEVICE_COOKIE_PREFIX: Final = "pbt_device"
"""What the name of the cookie begins with."""

DEVICE_SECONDS: Final = 90 * 86400
"""How long a cookie is good."""

MAX_COOKIE_LENGTH: Final = 200


class DeviceCookies:
    """Makes and checks the cookies.

    Args:
        key: What they are signed with.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, now: float) -> str:
        """Return a new cookie."""
        signed = f"{secrets.token_urlsafe(9)}.{int(now) + DEVICE_SECONDS}"
        return f"{signed}.{self._sign(signed)}"

    def verify(self, cookie: str, now: float) -> str | None:
        """Return the id of the browser that a cookie is of, or ``None`` if the cookie is not good."""
        signed, _, signature = cookie.rpartition(".")
        device, _, until = signed.partition(".")
        if len(cookie) > MAX_COOKIE_LENGTH or not cookie.isascii() or not until.isdigit():
            return None
        if not hmac.compare_digest(signature, self._sign(signed)):
            return None
        return device if now < int(until) else None

    def _sign(self, signed: str) -> str:
        return hmac.new(self._key, signed.encode(), hashlib.sha256).hexdigest()
