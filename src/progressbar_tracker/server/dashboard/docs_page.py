"""The documentation pages ``/docs`` and ``/problems/{code}``, rendered from the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.api import limits
from progressbar_tracker.server.http.response import Response, relative_root
from progressbar_tracker.server.metrics import METRIC_DEFINITIONS
from progressbar_tracker.server.problems import PROBLEM_CODES, PROBLEM_REMEDIES, ProblemError

from .templates import HTML_CONTENT_TYPE, render_page

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Request

MAX_RENDERED_DOCS: Final = 10
"""Renderings of ``/docs`` that are cached: one for each signed-in user and for each base path of a proxy."""


async def show_docs(request: Request) -> Response:
    """``GET /docs``: every route with its parameters, bodies and problems, metrics, limits and shapes."""
    request.identify_viewer()
    principal = request.optional_principal
    viewer = None if principal is None else (principal.name, principal.type)
    cache_key = relative_root(request.scope), viewer
    body = request.services.rendered_docs.get(cache_key)
    if body is None:
        body = _render_docs(request)
        if len(request.services.rendered_docs) < MAX_RENDERED_DOCS:  # rendering takes a while, and the page is public
            request.services.rendered_docs[cache_key] = body
    return Response(200, body, HTML_CONTENT_TYPE)


def _render_docs(request: Request) -> bytes:
    document = request.services.openapi()
    operations = [
        {"method": method.upper(), "path": path, **operation}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return render_page(
        request,
        "docs.html",
        operations=[operation for operation in operations if operation["tags"] != ["pages"]],
        schemas=document["components"]["schemas"],
        problems=[(code, status, title, PROBLEM_REMEDIES[code]) for code, (status, title) in PROBLEM_CODES.items()],
        metrics=METRIC_DEFINITIONS,
        limits=limits.list_limits(request.services.settings),
        codes=PROBLEM_CODES,
        version=document["info"]["version"],
    ).body


async def show_problem(request: Request) -> Response:
    """``GET /problems/{code}``: the page that the ``type`` of a problem links to."""
    request.identify_viewer()
    code = next((known for known in PROBLEM_CODES if known == request.path_params["code"]), None)
    if code is None:
        raise ProblemError("not-found", "there is no problem of this name")
    status, meaning = PROBLEM_CODES[code]
    routes = [
        f"{method.upper()} {path}"
        for path, methods in request.services.openapi()["paths"].items()
        for method, operation in methods.items()
        if any(code in content.get("examples", ()) for response in operation["responses"].values()
               for content in response.get("content", {}).values())
    ]  # fmt: skip
    return render_page(
        request,
        "problem_type.html",
        code=code,
        status=status,
        meaning=meaning,
        remedy=PROBLEM_REMEDIES[code],
        routes=routes,
    )
