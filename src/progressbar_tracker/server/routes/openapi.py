"""``/openapi.json`` out of the table of routes: OpenAPI 3.1, pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from progressbar_tracker.server.problems import CODES, Code

from .contract import Id, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .contract import About
    from .http import Row

Document = dict[str, Any]
"""A part of a JSON document."""

ANY_ROUTE: Final[tuple[Code, ...]] = ("internal",)
ANY_KEY: Final[tuple[Code, ...]] = ("unauthorized", "forbidden")
ANY_BODY: Final[tuple[Code, ...]] = (
    "bad-request", "malformed-json", "unsupported-media-type", "body-too-large", "invalid-field",
)  # fmt: skip

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
    found, components = msgspec.json.schema_components([*shapes, Id], ref_template=_REF)
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
                "session": {"type": "apiKey", "in": "cookie", "name": "pbt_session"},
            },
        },
    }


def problems_of(row: Row, about: About) -> tuple[Code, ...]:
    """Return the problems with which a route may answer."""
    found = list(ANY_ROUTE)
    if row.action != "public":
        found += ANY_KEY
    if about.takes is not None:
        found += ANY_BODY
    if "{id" in row.path and not row.page:
        found += ["bad-request", "invalid-field"]
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
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
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
            "content": {"application/json": {"schema": schemas[id(about.takes)]}},
        }
    return operation


def _answers(row: Row, about: About, schemas: Mapping[int, Document]) -> Document:
    content: Document
    if isinstance(about.gives, str):
        content = {about.gives: {"schema": {"type": "string"} if about.gives.startswith("text/") else {}}}
    else:
        content = {"application/json": {"schema": schemas[id(about.gives)]}}
    success: Document = {"description": about.text}
    if about.headers:
        success["headers"] = {name: {"description": text, "schema": {"type": "string"}} for name, text in about.headers}
    answers: Document = {}
    for status in about.status:
        answers[str(status)] = success if status == 303 else {**success, "content": content}
    if any(name == "ETag" for name, _ in about.headers):
        answers["304"] = {"description": "Nothing has changed."}
    by_status: dict[int, list[Code]] = {}
    for code in problems_of(row, about):
        by_status.setdefault(CODES[code][0], []).append(code)
    for status, codes in sorted(by_status.items()):
        answers[str(status)] = {
            "description": "; ".join(f"`{code}`: {CODES[code][1]}" for code in codes),
            "content": {
                "application/problem+json": {
                    "schema": schemas[id(Problem)],
                    "examples": {
                        code: {"value": {"type": f"/problems/{code}", "title": CODES[code][1], "status": status}}
                        for code in codes
                    },
                }
            },
        }
    return answers
