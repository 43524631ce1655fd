"""Render pages and problems from templates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import jinja2
from markupsafe import Markup
from msgspec.structs import replace

from progressbar_tracker.server.access.authorization import GUEST_ID
from progressbar_tracker.server.http.response import Response, problem_response, relative_root

from .static_files import STATIC_DIGEST, find_imports

if TYPE_CHECKING:
    from starlette.types import Scope

    from progressbar_tracker.server.http.request import Request
    from progressbar_tracker.server.problems import ProblemError

_TV_PATTERN: Final = re.compile(rb"(?:^|&)tv(?:[=&]|$)")
"""The parameter of wall screens."""

HTML_CONTENT_TYPE: Final = b"text/html; charset=utf-8"

_templates: Final = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True,
    lstrip_blocks=True, undefined=jinja2.StrictUndefined,
)  # fmt: skip


@jinja2.pass_context
def _link_module_scripts(context: jinja2.runtime.Context, *names: str) -> Markup:
    """Return the elements that run modules, and those that load what they import at the same time."""
    prefix = context["static"]
    imported = dict.fromkeys(found for name in names for found in find_imports(name))
    return Markup("\n  ").join(
        [Markup('<link rel="modulepreload" href="{}{}">').format(prefix, name) for name in imported]
        + [Markup('<script type="module" src="{}{}"></script>').format(prefix, name) for name in names]
    )


_templates.globals["module_scripts"] = _link_module_scripts


def render_page(request: Request, template: str, status: int = 200, /, **values: object) -> Response:
    """Return a page as a response.

    Args:
        request: The request.
        template: The file name of the template.
        status: The HTTP status.
        values: The variables of the template, in addition to ``relative_root``, ``is_admin``, ``has_schedules``
            and ``user_name``, which is ``None`` for guests.
    """
    principal = request.optional_principal
    if principal is not None and principal.id == GUEST_ID:
        principal = None
    values = {
        **_build_url_prefixes(request.scope),
        "is_admin": principal is not None and principal.type == "admin",
        "user_name": None if principal is None else principal.name,
        "has_schedules": request.optional_principal is not None and len(request.services.schedules) > 0,
        **values,
    }
    return Response(status, render_template(template, **values), HTML_CONTENT_TYPE)


def is_for_wall(request: Request) -> bool:
    """Return whether the query asks for the layout of wall screens. Pages that have it pass ``is_tv``."""
    return _TV_PATTERN.search(request.scope["query_string"]) is not None


def problem_page(request: Request, problem: ProblemError) -> Response:
    """Return a problem as a page if the client accepts HTML, else as JSON."""
    response = problem_response(problem)
    if b"text/html" not in request.headers.get(b"accept", b"").lower():
        return response
    request.identify_viewer()
    document = problem.document()
    detail = document["detail"]
    page = render_page(
        request,
        "problem.html",
        response.status,
        heading=document["title"],
        detail=f"{detail[:1].upper()}{detail[1:]}.",
    )
    return replace(page, headers=response.headers)


def _build_url_prefixes(scope: Scope) -> dict[str, str]:
    root = relative_root(scope)
    return {"relative_root": root, "static": f"{root}static/{STATIC_DIGEST}/"}


def render_template(template: str, **values: object) -> bytes:
    """Render a template; values are escaped and never become markup."""
    return _templates.get_template(template).render(**values).encode()


def build_base_url(request: Request) -> str:
    """Return the public base URL, derived from the Host header of this request."""
    host = request.headers.get(b"host", b"").decode("latin-1")
    return f"{'https' if request.is_secure else 'http'}://{host}{request.services.settings.base_path}"
