"""The page of the HTTP interface, from the OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from progressbar_tracker.server.app import openapi_document

from .markdown import end_sentence, render_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

PAGE_HEAD: Final = """\
# HTTP interface

This page lists every route for programs, with its parameters, bodies and problems. `/openapi.json` of a server is the
same as an OpenAPI document, and `/docs` the same as a page. A key travels in the header `X-API-KEY`, or as
`Authorization: Bearer`; never in a URL.

```sh
curl -sf -H "X-API-KEY: your-api-key" http://localhost:8989/api/v1/items
```

Every response has an `X-Request-ID`: that of the request if it is valid, else a new one. Limited routes have
`RateLimit` and `RateLimit-Policy`. Instants are RFC 3339 texts in UTC, durations are seconds. A list in pages has a
`Link` to the next page. [Errors](errors.md#problems-of-the-server) lists the problems, and [Limits](limits.md) the
limits.

Every route may answer with {common}. A route that needs a key may also answer with {with_key}. A route with a body may
answer with {with_body}. Each route lists its other problems.

"""
KEY_PROBLEMS: Final = ("unauthorized", "forbidden", "rate-limited")
BODY_PROBLEMS: Final = (
    "bad-request", "malformed-json", "body-too-large", "unsupported-media-type", "invalid-field",
)  # fmt: skip
SKIPPED_TAGS: Final = frozenset({"pages"})
"""Routes for browsers."""


def render_page() -> str:
    document = openapi_document()
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not SKIPPED_TAGS.intersection(operation["tags"])
    ]
    common = {"internal-error", "misdirected"}
    head = PAGE_HEAD.format(
        common=_link_problems(sorted(common)),
        with_key=_link_problems(KEY_PROBLEMS),
        with_body=_link_problems(BODY_PROBLEMS),
    )
    parts = [head + "## Routes\n"]
    for name, operation in operations:
        parts += _render_operation(name, operation, common)
    parts.append("## Shapes\n")
    parts.append("The fields of bodies and responses. A field with `null` may be null.\n")
    for name, schema in document["components"]["schemas"].items():
        parts += _render_schema(name, schema)
    return "\n".join(parts)


def _render_operation(name: str, operation: Mapping[str, Any], common: set[str]) -> Iterator[str]:
    yield f"### {name}\n"
    yield f"{end_sentence(operation['summary'])}\n"
    parameters = operation.get("parameters", ())
    if parameters:
        rows = [
            (
                f"`{each['name']}`",
                each["in"],
                _describe(each.get("description", ""), each["schema"], each.get("required")),
            )
            for each in parameters
        ]
        yield render_table(("Parameter", "In", "Meaning"), rows) + "\n"
    if "requestBody" in operation:
        bodies = [
            f"{_name_type(content['schema'])} as `{media_type}`"
            for media_type, content in operation["requestBody"]["content"].items()
        ]
        yield f"Body: {' or '.join(bodies)}.\n"
    yield f"Response: {'; '.join(_describe_responses(operation))}.\n"
    known = {*common, *(KEY_PROBLEMS if "unauthorized" in _list_problems(operation) else ())}
    if "requestBody" in operation:
        known.update(BODY_PROBLEMS)
    problems = [code for code in _list_problems(operation) if code not in known]
    if problems:
        yield f"Problems: {_link_problems(problems)}.\n"


def _describe_responses(operation: Mapping[str, Any]) -> Iterator[str]:
    for status, response in operation["responses"].items():
        if status >= "400":
            continue
        contents = [
            _name_type(content["schema"])
            if media_type == "application/json" and content.get("schema")
            else f"`{media_type}`"
            for media_type, content in response.get("content", {}).items()
        ]
        yield f"{status} {' or '.join(contents)}".strip()


def _list_problems(operation: Mapping[str, Any]) -> list[str]:
    return [
        code
        for status, response in operation["responses"].items()
        if status >= "400"
        for code in response["content"]["application/problem+json"].get("examples", ())
    ]


def _link_problems(codes: Iterable[str]) -> str:
    return ", ".join(f"[`{code}`](errors.md#{code})" for code in codes)


def _render_schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    yield f"{end_sentence(schema.get('description', ''))}\n"
    properties = schema.get("properties", {})
    required = schema.get("required", ())
    has_few_optional = 2 * len(required) >= len(properties)
    rows = [
        (
            f"`{field}`",
            _name_type(type_schema),
            _describe(type_schema.get("description", ""), {}, field in required and not has_few_optional)
            + (" It may be absent." if has_few_optional and field not in required else ""),
        )
        for field, type_schema in properties.items()
    ]
    if rows:
        yield render_table(("Field", "Type", "Meaning"), rows) + "\n"


def _describe(description: str, schema: Mapping[str, Any], is_required: bool | None) -> str:
    parts = [end_sentence(description)] if description else []
    if schema:
        parts.append(end_sentence(_name_type(schema)))
    if is_required:
        parts.append("Required.")
    return " ".join(parts)


def _name_type(schema: Mapping[str, Any]) -> str:
    """Return the type of a schema in words, with its bounds."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_name_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "any value")
    if kind == "array":
        return f"list of {_name_type(schema['items'])}"
    if kind == "null":
        return "`null`"
    return f"{kind}{_describe_bounds(schema)}"


def _describe_bounds(schema: Mapping[str, Any]) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    bounds = []
    if low is not None and high is not None and high < 1e15:
        bounds.append(f"{low:g} to {high:g}")
    elif low is not None and low > -1e15:
        bounds.append(f"{low:g} or more")
    if "maxLength" in schema:
        bounds.append(f"up to {schema['maxLength']} characters")
    return f", {', '.join(bounds)}" if bounds else ""
