"""How much is left of what is limited, told in the header fields ``RateLimit-Policy`` and ``RateLimit``.

They are those of the IETF's draft "RateLimit header fields for HTTP": lists of structured fields, a policy by its name.
"""

from __future__ import annotations

import msgspec


class Quota(msgspec.Struct, frozen=True):
    """One policy, and where one client is with it.

    Attributes:
        name: Of the policy.
        limit: How much there may be.
        remaining: How much of it is left.
        window: The seconds in which there may be as much, where it comes back by itself.
        reset: The seconds until there is more.
        unit: What is counted, if not requests.
    """

    name: str
    limit: int
    remaining: int
    window: int | None = None
    reset: int | None = None
    unit: str | None = None

    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Return the two fields.

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
