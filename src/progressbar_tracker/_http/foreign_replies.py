"""Recognizes replies that are not from a progress server: of a proxy, a sign-in page or another program. Pure.

The doctor, the explicit client and the sender get this judgement with the error of a reply.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from progressbar_tracker._text import clean_detail

if TYPE_CHECKING:
    from .messages import Reply, Request

KEY_INFO_PATH: Final = "api/key-info"
GATEWAY_STATUSES: Final = (502, 503, 504)
PROBLEM_FIELDS: Final = ("type", "title", "detail", "error")
"""Fields of an error; a server of version 1.0.0 has at least one of the last two."""


def describe_foreign_reply(reply: Reply, request: Request) -> str | None:
    """Return a sentence if a reply is not from a progress server; ``None`` if it may be from one.

    A reply with a 2xx status is judged by the reader of its document, which knows the expected shape.

    >>> from progressbar_tracker._http.messages import Reply, Request
    >>> page = Reply(404, {"content-type": "text/html"}, b"<html>")
    >>> describe_foreign_reply(page, Request("GET", "progress"))
    'GET /progress returned 404 with text/html, which is not from a progress server: is the URL right?'
    """
    if 300 <= reply.status < 400:
        return f"{_summarize(reply, request)}, which is not from a progress server: {_describe_redirect(reply)}"
    if 200 <= reply.status < 300 or not _is_foreign_error(reply, request):
        return None
    if reply.status in GATEWAY_STATUSES:
        return f"{_summarize(reply, request)}: a proxy answers, and not the progress server behind it"
    return describe_foreign_document(reply, request)


def describe_foreign_document(reply: Reply, request: Request) -> str:
    """Return the sentence for a reply whose document is not of the protocol."""
    return f"{_summarize(reply, request)}, which is not from a progress server: is the URL right?"


def _summarize(reply: Reply, request: Request) -> str:
    kind = clean_detail(reply.headers.get("content-type", "")).partition(";")[0].strip()[:100] or "no content type"
    return f"{request.method} /{request.path.partition('?')[0]} returned {reply.status} with {kind}"


def _describe_redirect(reply: Reply) -> str:
    try:
        parts = urlsplit(reply.headers.get("location", ""))
        host = parts.hostname
    except ValueError:
        host = None
    # The rest of the address may contain a token.
    target = f"it redirects to {parts.scheme or 'http'}://{host}" if host else "it redirects"
    return f"{clean_detail(target)}; is the URL right?"


def _is_foreign_error(reply: Reply, request: Request) -> bool:
    if request.path == KEY_INFO_PATH and reply.status in (404, 405, 410):
        return True  # every version of the server has this path
    if "html" in reply.headers.get("content-type", "").lower() or reply.body.lstrip()[:1] == b"<":
        return True
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        return False  # empty, or a plain text
    if not isinstance(document, dict):
        return True
    return bool(document) and not any(name in document for name in PROBLEM_FIELDS)
