"""Cookies that recognize the browsers in which the administrator signed in before.

Such a cookie does not sign in. An attempt with one has its own queue and counter, so a flood of guesses does not lock
the administrator out. A cookie is signed, not stored. It expires, and a change of the password invalidates all of them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

DEVICE_COOKIE_PREFIX: Final = "pbt_device"
"""The prefix of the cookie's name."""

DEVICE_SECONDS: Final = 90 * 86400
"""Seconds until a cookie expires."""

MAX_COOKIE_LENGTH: Final = 200


class DeviceCookies:
    """Issues and verifies the cookies.

    Args:
        key: The key of the signatures.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, now: float) -> str:
        """Return a new cookie."""
        signed = f"{secrets.token_urlsafe(9)}.{int(now) + DEVICE_SECONDS}"
        return f"{signed}.{self._sign(signed)}"

    def verify(self, cookie: str, now: float) -> str | None:
        """Return the id of a cookie's browser, or ``None`` if the cookie is not valid."""
        signed, _, signature = cookie.rpartition(".")
        device, _, until = signed.partition(".")
        if len(cookie) > MAX_COOKIE_LENGTH or not cookie.isascii() or not until.isdigit():
            return None
        if not hmac.compare_digest(signature, self._sign(signed)):
            return None
        return device if now < int(until) else None

    def _sign(self, signed: str) -> str:
        return hmac.new(self._key, signed.encode(), hashlib.sha256).hexdigest()
