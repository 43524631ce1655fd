"""The documentation of the API: the OpenAPI document, and the page for humans."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args

import jsonschema
import pytest
from openapi_spec_validator import validate

from progressbar_tracker import _models
from progressbar_tracker.server.api import schemas
from progressbar_tracker.server.api.openapi import list_problem_codes
from progressbar_tracker.server.problems import PROBLEM_CODES, PROBLEM_REMEDIES, ProblemCode
from progressbar_tracker.server.routes import ROUTES
from tests.support.server import make_legacy_item

if TYPE_CHECKING:
    from tests.support.server import RunningServer


@pytest.fixture(scope="module")
def document(module_server: RunningServer) -> dict[str, Any]:
    """The OpenAPI document of the server."""
    return module_server.client().get("/openapi.json").json()


def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validate(document)


def test_document_and_routes_agree(document: dict[str, Any]) -> None:
    routed = {(row.method.lower(), re.sub(r":\w+}", "}", row.path)) for row in ROUTES}
    assert routed == {(method, path) for path, methods in document["paths"].items() for method in methods}


def test_every_problem_has_remedy_and_route() -> None:
    assert set(get_args(ProblemCode)) == set(PROBLEM_CODES) == set(PROBLEM_REMEDIES)
    of_routes = {code for row in ROUTES if row.doc is not None for code in list_problem_codes(row, row.doc)}
    assert set(PROBLEM_CODES) - of_routes == {"method-not-allowed"}  # it belongs to no route


@pytest.mark.parametrize("name", ["Item", "ItemWrite", "LegacyItem"])
def test_schema_has_fields_of_shape(name: str) -> None:
    assert set(getattr(schemas, name).__annotations__) == set(getattr(_models, name).__annotations__)


def test_each_response_matches_its_schema(module_server: RunningServer, document: dict[str, Any]) -> None:
    admin, key = module_server.client("admin"), "/api/v1/keys"
    admin.post("/progress", json=make_legacy_item("a"))
    admin.post("/progress", json=make_legacy_item("to go"))
    admin.delete("/progress", params={"id": "to go"})
    created = admin.post(key, json={"type": "read", "name": "n"})
    share = admin.post("/api/v1/shares", json={"item": "a"})
    ops = [{"op": "patch", "id": "a", "completed": 1}, {"op": "delete", "id": "nowhere"}, {"op": "unknown"}]
    replies = {
        ("get", "/progress", 200): admin.get("/progress"),
        ("put", "/progress", 200): admin.put("/progress", json=make_legacy_item("a")),
        ("post", "/progress", 409): admin.post("/progress", json=make_legacy_item("a")),
        ("get", "/api/key-info", 200): admin.get("/api/key-info"),
        ("get", "/api/v1/items", 200): admin.get("/api/v1/items"),
        ("get", "/api/v1/items/{id}", 200): admin.get("/api/v1/items/a"),
        ("get", "/api/v1/items/{id}", 404): admin.get("/api/v1/items/nowhere"),
        ("patch", "/api/v1/items/{id}", 422): admin.patch("/api/v1/items/a", json={"value": 2}),
        ("post", "/api/v1/items:batch", 200): admin.post("/api/v1/items:batch", json={"ops": ops}),
        ("get", "/api/v1/history", 200): admin.get("/api/v1/history"),
        ("get", "/api/v1/keys", 200): admin.get(key),
        ("post", "/api/v1/keys", 201): created,
        ("post", "/api/v1/keys/{key_id}/rotate", 200): admin.post(f"{key}/{created.json()['key_id']}/rotate"),
        ("get", "/api/v1/shares", 200): admin.get("/api/v1/shares"),
        ("post", "/api/v1/shares", 201): share,
        ("get", "/api/v1/sessions", 200): admin.get("/api/v1/sessions"),
        ("get", "/healthz", 200): admin.get("/healthz"),
        ("get", "/readyz", 200): admin.get("/readyz"),
    }
    for (method, path, status), reply in replies.items():
        assert reply.status_code == status, (method, path)
        content = document["paths"][path][method]["responses"][str(status)]["content"]
        schema = content[reply.headers["content-type"]]["schema"] | {"components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(reply.json())


def test_docs_page_lists_every_route_and_problem(module_server: RunningServer) -> None:
    text = module_server.client().get("/docs").text
    for row in ROUTES:
        if not row.is_page:
            path = re.sub(r":\w+}", "}", row.path)
            assert f"{row.method} {path}" in text
    for code in PROBLEM_CODES:
        assert f"/problems/{code}" in text
    assert "style=" not in text
    assert "<script>" not in text
