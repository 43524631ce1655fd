"""The page to return to after a sign-in: the ``next`` of the sign-in page.

It is a URL relative to the dashboard's root, so that it is valid under any base path and proxy. It comes from a link,
and so from an attacker: it must lead to a page of this server and nowhere else, whatever browser reads it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_to_bytes

from .response import relative_root

if TYPE_CHECKING:
    from starlette.types import Scope

MAX_RETURN_PATH_LENGTH: Final = 3000
"""The most characters of a path; an id of 200 characters takes up to 2,400, percent-encoded."""

_SAFE_CHARACTERS: Final = "-._~!$&'()*+,;=:@/?"
"""The characters of a path and a query that need no escape, beside letters and digits."""

_PATH_PATTERN: Final = re.compile(rf"(?:[\w{re.escape(_SAFE_CHARACTERS)}]|%[0-9A-Fa-f]{{2}})*", re.ASCII)
_DOT_SEGMENT_PATTERN: Final = re.compile(r"(?:\.|%2e){1,2}(?:;.*)?", re.IGNORECASE)
_CONTROL_PATTERN: Final = re.compile(rb"[\x00-\x1f\x7f]")
_SIGN_IN_SEGMENTS: Final = frozenset({"login", "logout", "auth"})


def parse_return_path(text: str | None) -> str | None:
    """Return a path that is safe to redirect to, relative to the root; ``None`` for the board or anything else.

    >>> parse_return_path("items/a%2Fb?run=7"), parse_return_path("//evil.example"), parse_return_path("../other")
    ('items/a%2Fb?run=7', None, None)
    """
    if not text or len(text) > MAX_RETURN_PATH_LENGTH or _PATH_PATTERN.fullmatch(text) is None:
        return None
    segments = text.partition("?")[0].split("/")
    first = segments[0]
    if (not first and len(segments) > 1) or ":" in first or first in _SIGN_IN_SEGMENTS:
        return None
    # Browsers resolve dots, encoded or not: a path would leave the base path of this server. Some proxies first
    # drop the part of a segment after a semicolon.
    if any(_DOT_SEGMENT_PATTERN.fullmatch(segment) for segment in segments):
        return None
    decoded = unquote_to_bytes(text)
    try:
        decoded.decode()
    except UnicodeDecodeError:
        return None
    return None if _CONTROL_PATTERN.search(decoded) else text


def build_sign_in_url(scope: Scope) -> str:
    """Return the relative URL of the sign-in page, which returns to the requested page."""
    url = f"{relative_root(scope)}login"
    query: bytes = scope["query_string"]
    requested = scope["path"][1:].encode("latin-1") + (b"?" + query if query else b"")
    return_path = parse_return_path(quote(requested, safe=f"{_SAFE_CHARACTERS}%"))
    return url if return_path is None else f"{url}?next={quote(return_path, safe='/?:=')}"
