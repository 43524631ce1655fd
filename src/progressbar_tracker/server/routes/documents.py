"""The interface told: ``/openapi.json`` for programs, ``/docs`` for people. Both are made of the table of routes."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from progressbar_tracker._version import VERSION
from progressbar_tracker.server.metrics import METRICS
from progressbar_tracker.server.problems import CODES, CURES, ProblemError

from . import limits
from .html import page
from .reply import Reply, encode, up

if TYPE_CHECKING:
    from .call import Call
    from .openapi import Document

PAGES: Final = 10
"""The most renderings of ``/docs`` that are kept: one for each base path that a proxy adds."""

_A_WHILE: Final = ((b"cache-control", b"max-age=300"),)


async def openapi(_: Call) -> Reply:
    """``GET /openapi.json``."""
    return Reply(200, _encoded_document(), headers=_A_WHILE)


async def docs(call: Call) -> Reply:
    """``GET /docs``: every route, what it takes and gives, and every problem."""
    principal = call.principal
    seen_by = up(call.scope), None if principal is None else principal.name
    kept = call.services.documents.get(seen_by)
    if kept is None:
        kept = _docs(call)
        if len(call.services.documents) < PAGES:  # it takes a while, and whoever reaches the port may ask for it
            call.services.documents[seen_by] = kept
    return kept


def _docs(call: Call) -> Reply:
    told = _document()
    operations = [
        {"method": method.upper(), "path": path, **operation}
        for path, methods in told["paths"].items()
        for method, operation in methods.items()
    ]
    return page(
        call,
        "docs.html",
        operations=[one for one in operations if one["tags"] != ["pages"]],
        schemas=told["components"]["schemas"],
        problems=[(code, status, title, CURES[code]) for code, (status, title) in CODES.items()],
        metrics=METRICS,
        limits=limits.limits(call.services.settings),
        codes=CODES,
        version=told["info"]["version"],
    )


async def problem(call: Call) -> Reply:
    """``GET /problems/{code}``: what the ``type`` of a problem leads to."""
    found = next((code for code in CODES if code == call.path["code"]), None)
    if found is None:
        raise ProblemError("not-found", "there is no problem of this name")
    status, meaning = CODES[found]
    routes = [
        f"{method.upper()} {path}"
        for path, methods in _document()["paths"].items()
        for method, operation in methods.items()
        if any(found in content.get("examples", ()) for answer in operation["responses"].values()
               for content in answer.get("content", {}).values())
    ]  # fmt: skip
    return page(call, "problem_type.html", code=found, status=status, meaning=meaning, cure=CURES[found], routes=routes)


@cache
def _encoded_document() -> bytes:
    return encode(_document())


@cache
def _document() -> Document:
    from . import openapi
    from .table import TABLE  # the table names this module

    return openapi.document(TABLE, VERSION)
