"""Render pages and problems from templates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import jinja2

from progressbar_tracker.server.access.authorization import GUEST_ID
from progressbar_tracker.server.http.response import Response, problem_response, relative_root

if TYPE_CHECKING:
    from starlette.types import Scope

    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.problems import ProblemError

HTML_CONTENT_TYPE: Final = b"text/html; charset=utf-8"

_templates: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True,
    lstrip_blocks=True, undefined=jinja2.StrictUndefined,
)  # fmt: skip


def render_page(request: Request, template: str, status: int = 200, /, **values: object) -> Response:
    """Return a page as a response.

    Args:
        request: The request.
        template: The file name of the template.
        status: The HTTP status.
        values: The variables of the template, in addition to ``relative_root``, ``is_admin``, ``user_name`` and
            ``event_id``. ``user_name`` is ``None`` for guests.
    """
    principal = request.optional_principal
    if principal is not None and principal.id == GUEST_ID:
        principal = None
    values = {
        "relative_root": relative_root(request.scope),
        "is_admin": principal is not None and principal.type == "admin",
        "user_name": None if principal is None else principal.name,
        "event_id": None,
        **values,
    }
    return Response(status, render_template(template, **values), HTML_CONTENT_TYPE)


def problem_page(scope: Scope, problem: ProblemError) -> Response:
    """Return a problem as a page if the client accepts HTML, else as JSON."""
    response = problem_response(problem)
    if b"text/html" not in dict(scope["headers"]).get(b"accept", b"").lower():
        return response
    document = problem.document()
    detail = document["detail"]
    body = render_template(
        "problem.html",
        relative_root=relative_root(scope),
        event_id=None,
        heading=document["title"],
        detail=f"{detail[:1].upper()}{detail[1:]}.",
    )
    return Response(response.status, body, HTML_CONTENT_TYPE, response.headers)


def render_template(template: str, **values: object) -> bytes:
    """Render a template; values are escaped and never become markup."""
    return _templates.get_template(template).render(**values).encode()


def board_event_id(request: Request) -> str:
    """Return the event id of the current board, so that the script does not apply an older snapshot."""
    return f"{request.services.epoch}-{request.services.rev}"


def build_base_url(request: Request) -> str:
    """Return the public base URL, derived from the Host header of this request."""
    host = request.headers.get(b"host", b"").decode("latin-1")
    return f"{'https' if request.is_secure else 'http'}://{host}{request.services.settings.base_path}"
