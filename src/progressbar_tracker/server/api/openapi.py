"""``/openapi.json`` out of the table of routes: OpenAPI 3.1, pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from progressbar_tracker.server.http.endpoint import EXEMPT_PATHS, HEALTH_PATHS
from progressbar_tracker.server.http.request import SAFE_METHODS
from progressbar_tracker.server.problems import PROBLEM_CODES, ProblemCode

from .schemas import Id, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from progressbar_tracker.server.http.route import Route, RouteDoc

Document = dict[str, Any]
"""A part of a JSON document."""

COMMON_PROBLEMS: Final[tuple[ProblemCode, ...]] = ("internal-error",)
AUTH_PROBLEMS: Final[tuple[ProblemCode, ...]] = ("unauthorized", "forbidden", "rate-limited")
BODY_PROBLEMS: Final[tuple[ProblemCode, ...]] = ("bad-request", "unsupported-media-type", "body-too-large")
JSON_PROBLEMS: Final[tuple[ProblemCode, ...]] = ("malformed-json", "invalid-field")

JSON_MEDIA_TYPE: Final = "application/json"
HTML_MEDIA_TYPE: Final = "text/html"
PROBLEM_MEDIA_TYPE: Final = "application/problem+json"

STATUS_HEADERS: Final[dict[int, dict[str, str]]] = {
    303: {"Location": "Where to go on, relative."},
    401: {"WWW-Authenticate": "How to send a key."},
    429: {"Retry-After": "Seconds to wait."},
    503: {"Retry-After": "Seconds to wait."},
}
"""Headers that every answer with a status has."""

QUOTA_HEADERS: Final = {
    "RateLimit-Policy": "What is limited, as in the draft of the IETF: `items`, `streams`, `sign-in` or `requests`.",
    "RateLimit": "How much of it is left.",
}
"""Headers that an answer may have."""

COMMON_HEADERS: Final = {"X-Request-ID": "The request's own, if it is one for a log, or else a new one."}
"""Headers that every answer has."""

_PATH_PARAMETER_PATTERN: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_REF_TEMPLATE: Final = "#/components/schemas/{name}"


def build_document(routes: Iterable[Route], version: str) -> Document:
    """Return the document of a table of routes.

    Args:
        routes: The table.
        version: The server's.
    """
    told = [(row, row.doc) for row in routes if row.doc is not None]
    shapes: list[object] = [Problem]
    for _, about in told:
        shapes += [about.body] if about.body is not None else []
        shapes += [about.response] if not isinstance(about.response, str) else []
        shapes += [parameter.type for parameter in about.query]
    shapes.append(Id)
    found, components = msgspec.json.schema_components(shapes, ref_template=_REF_TEMPLATE)
    schemas = dict(zip(map(id, shapes), found, strict=False))
    paths: Document = {}
    for row, about in told:
        paths.setdefault(_PATH_PARAMETER_PATTERN.sub(r"{\1}", row.path), {})[row.method.lower()] = _build_operation(
            row, about, schemas
        )
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


def list_problems(route: Route, doc: RouteDoc) -> tuple[ProblemCode, ...]:
    """Return the problems with which a route may answer."""
    found = list(COMMON_PROBLEMS)
    if route.path not in HEALTH_PATHS:
        found.append("misdirected")
    if route.path not in EXEMPT_PATHS and route.method in SAFE_METHODS:
        found.append("too-many-bytes")
    if route.action != "public":
        found += (
            AUTH_PROBLEMS if not route.is_page else ["forbidden", "rate-limited"]
        )  # who is not signed in is sent to the sign-in page
    if doc.body is not None:
        found += BODY_PROBLEMS
        found += JSON_PROBLEMS if doc.media_type == JSON_MEDIA_TYPE else []
    if doc.query or "{" in route.path:
        found.append("bad-request")
    if "{id" in route.path:
        found.append("invalid-field")
    if route.method != "GET" and "unavailable" in doc.problems:
        found.append("outcome-unknown")
    return tuple(dict.fromkeys([*found, *doc.problems]))


def _build_operation(route: Route, doc: RouteDoc, schemas: Mapping[int, Document]) -> Document:
    operation: Document = {
        "summary": doc.summary,
        "operationId": f"{route.method.lower()} {route.path}",
        "tags": ["pages" if route.is_page else route.path.split("/")[1]],
        "responses": _build_responses(route, doc, schemas),
        "security": [] if route.action == "public" else [{"key": []}, {"bearer": []}, {"session": []}],
    }
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": schemas[id(Id)] if name == "id" else {"type": "string", "minLength": 1},
        }
        for name in _PATH_PARAMETER_PATTERN.findall(route.path)
    ]
    parameters += [
        {
            "name": parameter.name,
            "in": "query",
            "description": parameter.description,
            "required": parameter.name == "id" and route.path == "/progress",
            "schema": schemas[id(parameter.type)],
        }
        for parameter in doc.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if doc.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {doc.media_type: {"schema": schemas[id(doc.body)]}},
        }
    return operation


def _build_responses(route: Route, doc: RouteDoc, schemas: Mapping[int, Document]) -> Document:
    if isinstance(doc.response, str):
        content: Document = {doc.response: {"schema": {"type": "string"} if doc.response.startswith("text/") else {}}}
    else:
        content = {JSON_MEDIA_TYPE: {"schema": schemas[id(doc.response)]}}
    own: Document = {name: _build_header(text) for name, text in doc.headers}
    answers: Document = {}
    for status in doc.status:
        answers[str(status)] = {"description": doc.summary} if status == 303 else {
            "description": doc.summary, "headers": own, "content": content,
        }  # fmt: skip
    if any(name == "ETag" for name, _ in doc.headers):
        answers["304"] = {"description": "Nothing has changed.", "headers": own}
    if route.is_page and route.action != "public":
        answers["303"] = {"description": "Nobody is signed in: to the sign-in page."}
    by_status: dict[int, list[ProblemCode]] = {}
    for code in list_problems(route, doc):
        by_status.setdefault(PROBLEM_CODES[code][0], []).append(code)
    for number, codes in sorted(by_status.items()):
        examples = {
            code: {"value": {"type": f"/problems/{code}", "title": PROBLEM_CODES[code][1], "status": number}}
            for code in codes
        }
        # A browser is told on a page.
        page = {HTML_MEDIA_TYPE: {"schema": {"type": "string"}}} if route.is_page else {}
        answers[str(number)] = {
            "description": "; ".join(f"`{code}`: {PROBLEM_CODES[code][1]}" for code in codes),
            "content": {PROBLEM_MEDIA_TYPE: {"schema": schemas[id(Problem)], "examples": examples}, **page},
        }
    for told, answer in answers.items():
        names = COMMON_HEADERS | STATUS_HEADERS.get(int(told), {})
        always = {name: {"required": True, **_build_header(text)} for name, text in names.items()}
        answer["headers"] = (
            answer.get("headers", {}) | always | {name: _build_header(text) for name, text in QUOTA_HEADERS.items()}
        )
    return answers


def _build_header(text: str) -> Document:
    return {"description": text, "schema": {"type": "string"}}
