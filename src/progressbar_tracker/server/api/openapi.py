"""Build the OpenAPI 3.1 document from the table of routes. Pure."""

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
    303: {"Location": "The next URL, relative."},
    401: {"WWW-Authenticate": "How to send a key."},
    429: {"Retry-After": "Seconds to wait."},
    503: {"Retry-After": "Seconds to wait."},
}
"""Headers of every response with a status."""

QUOTA_HEADERS: Final = {
    "RateLimit-Policy": "The policy, as in the IETF draft: `items`, `streams`, `sign-in` or `requests`.",
    "RateLimit": "The remaining quota.",
}
"""Optional headers of every response."""

COMMON_HEADERS: Final = {"X-Request-ID": "The id of the request if it is valid, else a new one."}
"""Headers of every response."""

_PATH_PARAMETER_PATTERN: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_REF_TEMPLATE: Final = "#/components/schemas/{name}"


def build_document(routes: Iterable[Route], version: str) -> Document:
    """Return the document of a table of routes.

    Args:
        routes: The table.
        version: The server's version.
    """
    documented = [(route, route.doc) for route in routes if route.doc is not None]
    shapes: list[object] = [Problem]
    for _, doc in documented:
        shapes += [doc.body] if doc.body is not None else []
        shapes += [doc.response] if not isinstance(doc.response, str) else []
        shapes += [parameter.type for parameter in doc.query]
    shapes.append(Id)
    references, components = msgspec.json.schema_components(shapes, ref_template=_REF_TEMPLATE)
    schemas = dict(zip(map(id, shapes), references, strict=False))
    paths: Document = {}
    for route, doc in documented:
        paths.setdefault(_PATH_PARAMETER_PATTERN.sub(r"{\1}", route.path), {})[route.method.lower()] = _build_operation(
            route, doc, schemas
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Progress Bar Tracker",
            "version": version,
            "description": "Programs report their progress; people watch it.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": ".", "description": "The server of this document."}],
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
                    "description": "The session of a signed-in browser. The name continues with an underscore and 8 "
                    "digits of the server, and begins with `__Host-` over TLS.",
                },
            },
        },
    }


def list_problem_codes(route: Route, doc: RouteDoc) -> tuple[ProblemCode, ...]:
    """Return the codes of the problems that a route may respond with."""
    codes = list(COMMON_PROBLEMS)
    if route.path not in HEALTH_PATHS:
        codes.append("misdirected")
    if route.path not in EXEMPT_PATHS and route.method in SAFE_METHODS:
        codes.append("too-many-bytes")
    if route.action != "public":
        codes += (
            AUTH_PROBLEMS if not route.is_page else ["forbidden", "rate-limited"]
        )  # a page redirects to the sign-in page instead
    if doc.body is not None:
        codes += BODY_PROBLEMS
        codes += JSON_PROBLEMS if doc.media_type == JSON_MEDIA_TYPE else []
    if doc.query or "{" in route.path:
        codes.append("bad-request")
    if "{id" in route.path:
        codes.append("invalid-field")
    if route.method != "GET" and "unavailable" in doc.problems:
        codes.append("outcome-unknown")
    return tuple(dict.fromkeys([*codes, *doc.problems]))


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
            "required": parameter.is_required,
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
    responses: Document = {}
    for status in doc.status:
        responses[str(status)] = {"description": doc.summary} if status == 303 else {
            "description": doc.summary, "headers": own, "content": content,
        }  # fmt: skip
    if any(name == "ETag" for name, _ in doc.headers):
        responses["304"] = {"description": "Not modified.", "headers": own}
    if route.is_page and route.action != "public":
        responses["303"] = {"description": "Not signed in: the sign-in page."}
    by_status: dict[int, list[ProblemCode]] = {}
    for code in list_problem_codes(route, doc):
        by_status.setdefault(PROBLEM_CODES[code][0], []).append(code)
    for number, codes in sorted(by_status.items()):
        examples = {
            code: {"value": {"type": f"/problems/{code}", "title": PROBLEM_CODES[code][1], "status": number}}
            for code in codes
        }
        # Browsers get the problem as a page.
        page = {HTML_MEDIA_TYPE: {"schema": {"type": "string"}}} if route.is_page else {}
        responses[str(number)] = {
            "description": "; ".join(f"`{code}`: {PROBLEM_CODES[code][1]}" for code in codes),
            "content": {PROBLEM_MEDIA_TYPE: {"schema": schemas[id(Problem)], "examples": examples}, **page},
        }
    for status_text, response in responses.items():
        names = COMMON_HEADERS | STATUS_HEADERS.get(int(status_text), {})
        required = {name: {"required": True, **_build_header(text)} for name, text in names.items()}
        response["headers"] = (
            response.get("headers", {}) | required | {name: _build_header(text) for name, text in QUOTA_HEADERS.items()}
        )
    return responses


def _build_header(text: str) -> Document:
    return {"description": text, "schema": {"type": "string"}}
