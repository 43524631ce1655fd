"""A limit and its remaining amount, as the header fields ``RateLimit-Policy`` and ``RateLimit``.

They follow the IETF draft "RateLimit header fields for HTTP": lists of structured fields, with a policy's name first.
"""

from __future__ import annotations

import msgspec


class Quota(msgspec.Struct, frozen=True):
    """The state of one policy for one client.

    Attributes:
        name: The name of the policy.
        limit: The most units.
        remaining: The units that are left.
        window: The seconds in which the full limit is restored, if time restores it.
        reset: The seconds until more is available.
        unit: The unit, if it is not a request.
    """

    name: str
    limit: int
    remaining: int
    window: int | None = None
    reset: int | None = None
    unit: str | None = None

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Return both fields, encoded.

        >>> Quota("items", 10, 3).headers()
        ((b'ratelimit-policy', b'"items";q=10'), (b'ratelimit', b'"items";r=3'))
        """
        window = "" if self.window is None else f";w={self.window}"
        unit = "" if self.unit is None else f';qu="{self.unit}"'
        reset = "" if self.reset is None else f";t={self.reset}"
        return (
            (b"ratelimit-policy", f'"{self.name}";q={self.limit}{window}{unit}'.encode()),
            (b"ratelimit", f'"{self.name}";r={max(self.remaining, 0)}{reset}'.encode()),
        )
