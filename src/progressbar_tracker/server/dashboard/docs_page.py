"""The pages of documentation: ``/docs``, and ``/problems/{code}``. Both are made of the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from progressbar_tracker.server.api import limits
from progressbar_tracker.server.http.response import Reply, up
from progressbar_tracker.server.metrics import METRICS
from progressbar_tracker.server.problems import CODES, CURES, ProblemError

from .templates import HTML, page

if TYPE_CHECKING:
    from progressbar_tracker.server.http.request import Call

MAX_RENDERED_DOCS: Final = 10
"""How many renderings of ``/docs`` are kept: one for each base path that a proxy adds."""


async def docs(call: Call) -> Reply:
    """``GET /docs``: every route, what it takes and gives, and every problem."""
    principal = call.principal
    seen_by = up(call.scope), None if principal is None else principal.name
    body = call.services.rendered_docs.get(seen_by)
    if body is None:
        body = _render_docs(call)
        if len(call.services.rendered_docs) < MAX_RENDERED_DOCS:  # rendering takes a while, and the page is public
            call.services.rendered_docs[seen_by] = body
    return Reply(200, body, HTML)


def _render_docs(call: Call) -> bytes:
    document = call.services.openapi()
    operations = [
        {"method": method.upper(), "path": path, **operation}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    return page(
        call,
        "docs.html",
        operations=[one for one in operations if one["tags"] != ["pages"]],
        schemas=document["components"]["schemas"],
        problems=[(code, status, title, CURES[code]) for code, (status, title) in CODES.items()],
        metrics=METRICS,
        limits=limits.limits(call.services.settings),
        codes=CODES,
        version=document["info"]["version"],
    ).body


async def problem(call: Call) -> Reply:
    """``GET /problems/{code}``: what the ``type`` of a problem leads to."""
    found = next((code for code in CODES if code == call.path["code"]), None)
    if found is None:
        raise ProblemError("not-found", "there is no problem of this name")
    status, meaning = CODES[found]
    routes = [
        f"{method.upper()} {path}"
        for path, methods in call.services.openapi()["paths"].items()
        for method, operation in methods.items()
        if any(found in content.get("examples", ()) for answer in operation["responses"].values()
               for content in answer.get("content", {}).values())
    ]  # fmt: skip
    return page(call, "problem_type.html", code=found, status=status, meaning=meaning, cure=CURES[found], routes=routes)
