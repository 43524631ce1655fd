"""The pages of documentation: ``/docs``, and ``/problems/{code}``. Both are made of the OpenAPI document."""

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
"""How many renderings of ``/docs`` are kept: one for each base path that a proxy adds."""


async def show_docs(request: Request) -> Response:
    """``GET /docs``: every route, what it takes and gives, and every problem."""
    principal = request.optional_principal
    seen_by = relative_root(request.scope), None if principal is None else principal.name
    body = request.services.rendered_docs.get(seen_by)
    if body is None:
        body = _render_docs(request)
        if len(request.services.rendered_docs) < MAX_RENDERED_DOCS:  # rendering takes a while, and the page is public
            request.services.rendered_docs[seen_by] = body
    return Response(200, body, HTML_CONTENT_TYPE)


def _render_docs(call: Request) -> bytes:
    document = call.services.openapi()
    operations = [
        {"method": method.upper(), "path": path, **operation}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return render_page(
        call,
        "docs.html",
        operations=[one for one in operations if one["tags"] != ["pages"]],
        schemas=document["components"]["schemas"],
        problems=[(code, status, title, PROBLEM_REMEDIES[code]) for code, (status, title) in PROBLEM_CODES.items()],
        metrics=METRIC_DEFINITIONS,
        limits=limits.list_limits(call.services.settings),
        codes=PROBLEM_CODES,
        version=document["info"]["version"],
    ).body


async def show_problem(request: Request) -> Response:
    """``GET /problems/{code}``: what the ``type`` of a problem leads to."""
    found = next((code for code in PROBLEM_CODES if code == request.path_params["code"]), None)
    if found is None:
        raise ProblemError("not-found", "there is no problem of this name")
    status, meaning = PROBLEM_CODES[found]
    routes = [
        f"{method.upper()} {path}"
        for path, methods in request.services.openapi()["paths"].items()
        for method, operation in methods.items()
        if any(found in content.get("examples", ()) for answer in operation["responses"].values()
               for content in answer.get("content", {}).values())
    ]  # fmt: skip
    return render_page(
        request,
        "problem_type.html",
        code=found,
        status=status,
        meaning=meaning,
        remedy=PROBLEM_REMEDIES[found],
        routes=routes,
    )
