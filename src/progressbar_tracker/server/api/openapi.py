"""``/openapi.json`` out of the table of routes: OpenAPI 3.1, pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from progressbar_tracker.server.http.endpoint import EXEMPT_PATHS, HEALTH_PATHS
from progressbar_tracker.server.http.request import SAFE_METHODS
from progressbar_tracker.server.problems import CODES, Code

from .schemas import Id, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from progressbar_tracker.server.http.route import About, Row

Document = dict[str, Any]
"""A part of a JSON document."""

ANY_ROUTE: Final[tuple[Code, ...]] = ("internal",)
ANY_KEY: Final[tuple[Code, ...]] = ("unauthorized", "forbidden", "rate-limited")
ANY_BODY: Final[tuple[Code, ...]] = ("bad-request", "unsupported-media-type", "body-too-large")
ANY_JSON: Final[tuple[Code, ...]] = ("malformed-json", "invalid-field")

JSON: Final = "application/json"
HTML: Final = "text/html"
PROBLEM: Final = "application/problem+json"

HEADERS: Final[dict[int, dict[str, str]]] = {
    303: {"Location": "Where to go on, relative."},
    401: {"WWW-Authenticate": "How to send a key."},
    429: {"Retry-After": "Seconds to wait."},
    503: {"Retry-After": "Seconds to wait."},
}
"""Headers that every answer with a status has."""

QUOTA: Final = {
    "RateLimit-Policy": "What is limited, as in the draft of the IETF: `items`, `streams`, `sign-in` or `requests`.",
    "RateLimit": "How much of it is left.",
}
"""Headers that an answer may have."""

ALWAYS: Final = {"X-Request-ID": "The request's own, if it is one for a log, or else a new one."}
"""Headers that every answer has."""

_PARAMETER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_REF: Final = "#/components/schemas/{name}"


def document(rows: Iterable[Row], version: str) -> Document:
    """Return the document of a table of routes.

    Args:
        rows: The table.
        version: The server's.
    """
    told = [(row, row.about) for row in rows if row.about is not None]
    shapes: list[object] = [Problem]
    for _, about in told:
        shapes += [about.takes] if about.takes is not None else []
        shapes += [about.gives] if not isinstance(about.gives, str) else []
        shapes += [parameter.type for parameter in about.query]
    shapes.append(Id)
    found, components = msgspec.json.schema_components(shapes, ref_template=_REF)
    schemas = dict(zip(map(id, shapes), found, strict=False))
    paths: Document = {}
    for row, about in told:
        paths.setdefault(_PARAMETER.sub(r"{\1}", row.path), {})[row.method.lower()] = _operation(row, about, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Progress Bar Tracker",
            "version": version,
            "description": "Programs tell how far they are; people look.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": ".", "description": "Wherever this document was read."}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-KEY"},
                "bearer": {"type": "http", "scheme": "bearer"},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "pbt_session",
                    "description": "Of browsers that are signed in; an underscore and the server's own 8 digits follow "
                    "in its name, and over TLS it begins with `__Host-`.",
                },
            },
        },
    }


def problems_of(row: Row, about: About) -> tuple[Code, ...]:
    """Return the problems with which a route may answer."""
    found = list(ANY_ROUTE)
    if row.path not in HEALTH_PATHS:
        found.append("misdirected")
    if row.path not in EXEMPT_PATHS and row.method in SAFE_METHODS:
        found.append("too-many-bytes")
    if row.action != "public":
        found += (
            ANY_KEY if not row.page else ["forbidden", "rate-limited"]
        )  # who is not signed in is sent to the sign-in page
    if about.takes is not None:
        found += ANY_BODY
        found += ANY_JSON if about.media == JSON else []
    if about.query or "{" in row.path:
        found.append("bad-request")
    if "{id" in row.path:
        found.append("invalid-field")
    if row.method != "GET" and "unavailable" in about.problems:
        found.append("outcome-unknown")
    return tuple(dict.fromkeys([*found, *about.problems]))


def _operation(row: Row, about: About, schemas: Mapping[int, Document]) -> Document:
    operation: Document = {
        "summary": about.text,
        "operationId": f"{row.method.lower()} {row.path}",
        "tags": ["pages" if row.page else row.path.split("/")[1]],
        "responses": _answers(row, about, schemas),
        "security": [] if row.action == "public" else [{"key": []}, {"bearer": []}, {"session": []}],
    }
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": schemas[id(Id)] if name == "id" else {"type": "string", "minLength": 1},
        }
        for name in _PARAMETER.findall(row.path)
    ]
    parameters += [
        {
            "name": parameter.name,
            "in": "query",
            "description": parameter.text,
            "required": parameter.name == "id" and row.path == "/progress",
            "schema": schemas[id(parameter.type)],
        }
        for parameter in about.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if about.takes is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {about.media: {"schema": schemas[id(about.takes)]}},
        }
    return operation


def _answers(row: Row, about: About, schemas: Mapping[int, Document]) -> Document:
    if isinstance(about.gives, str):
        content: Document = {about.gives: {"schema": {"type": "string"} if about.gives.startswith("text/") else {}}}
    else:
        content = {JSON: {"schema": schemas[id(about.gives)]}}
    own: Document = {name: _header(text) for name, text in about.headers}
    answers: Document = {}
    for status in about.status:
        answers[str(status)] = {"description": about.text} if status == 303 else {
            "description": about.text, "headers": own, "content": content,
        }  # fmt: skip
    if any(name == "ETag" for name, _ in about.headers):
        answers["304"] = {"description": "Nothing has changed.", "headers": own}
    if row.page and row.action != "public":
        answers["303"] = {"description": "Nobody is signed in: to the sign-in page."}
    by_status: dict[int, list[Code]] = {}
    for code in problems_of(row, about):
        by_status.setdefault(CODES[code][0], []).append(code)
    for number, codes in sorted(by_status.items()):
        examples = {
            code: {"value": {"type": f"/problems/{code}", "title": CODES[code][1], "status": number}} for code in codes
        }
        # A browser is told on a page.
        page = {HTML: {"schema": {"type": "string"}}} if row.page else {}
        answers[str(number)] = {
            "description": "; ".join(f"`{code}`: {CODES[code][1]}" for code in codes),
            "content": {PROBLEM: {"schema": schemas[id(Problem)], "examples": examples}, **page},
        }
    for told, answer in answers.items():
        names = ALWAYS | HEADERS.get(int(told), {})
        always = {name: {"required": True, **_header(text)} for name, text in names.items()}
        answer["headers"] = answer.get("headers", {}) | always | {name: _header(text) for name, text in QUOTA.items()}
    return answers


def _header(text: str) -> Document:
    return {"description": text, "schema": {"type": "string"}}
