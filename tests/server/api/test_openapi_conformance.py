"""Conformance of the whole API to its OpenAPI document, tested with generated requests on both stores.

``PROGRESSBAR_TEST_CONTRACT`` is the number of requests of each kind for each operation; 500 take most of an hour.
"""

from __future__ import annotations

import json
import os
import re
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import ignored_auth, negative_data_rejection

from progressbar_tracker.server.http.endpoint import _DEFAULT_HEADERS, _SECURITY_HEADERS
from progressbar_tracker.server.problems import PROBLEM_CODES
from progressbar_tracker.server.routes import ROUTES
from tests.support.access import PUSH_FIELDS
from tests.support.clock import ManualClock
from tests.support.postgres import create_database, drop_database
from tests.support.server import RunningServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schemathesis import APIOperation, BaseSchema, Case, CheckContext, Response

EXAMPLE_COUNT: Final = int(os.environ.get("PROGRESSBAR_TEST_CONTRACT", "4"))
STREAM_CONTENT_TYPE: Final = "text/event-stream"
DOCUMENTED_ROUTES: Final = [row for row in ROUTES if row.doc is not None and row.doc.response != STREAM_CONTENT_TYPE]
OPERATION_MODES: Final = [
    (re.sub(r":\w+}", "}", row.path), row.method, GenerationMode.POSITIVE) for row in DOCUMENTED_ROUTES
] + [
    (re.sub(r":\w+}", "}", row.path), row.method, GenerationMode.NEGATIVE)
    for row in DOCUMENTED_ROUTES
    if row.doc.query or "{id" in row.path or (row.doc.body is not None and row.doc.media_type == "application/json")
]
"""Every operation with valid requests, and with invalid ones unless every request is valid."""

LENIENT_OPERATIONS: Final = {
    ("POST", "/api/v1/items:batch"),  # each operation has its own result
    ("GET", "/api/v1/history.csv"),  # forms send empty fields
    ("GET", "/api/v1/history.json"),
}
"""Operations that accept some undocumented requests."""

COMMON_HEADERS: Final = {name.decode() for name, _ in (*_SECURITY_HEADERS, *_DEFAULT_HEADERS)} | {
    "cache-control", "connection", "content-disposition", "content-encoding", "content-length", "content-type", "date",
    "set-cookie", "transfer-encoding", "vary",
}  # fmt: skip
"""Headers that need no documentation."""


class DocumentedServer:
    """A server with data of every kind, and its document."""

    def __init__(self, served: RunningServer) -> None:
        self.served = served
        self.http = requests.Session()
        # A cookie of one response must not authorize the next request.
        self.http.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.http.headers.clear()
        document = self.http.get(f"{served.background.url}/openapi.json").json()
        self.schema: BaseSchema = schemathesis.openapi.from_dict(document, config=schemathesis.Config())
        self.enforced: set[str] = set()
        admin = served.client("admin")
        for number in range(5):
            admin.put(f"/api/v1/items/{number}", json={"group": "g", "meta": {"host": "h"}, "total": 10})
        for end in ("succeeded", "failed"):
            admin.put(f"/api/v1/items/{end}", json={"status": end})
            admin.delete(f"/api/v1/items/{end}")
        self.admin = admin
        self.known: dict[str, Callable[[], str]] = {
            "id": self._item,
            "key_id": lambda: self._create("keys", {"type": "admin", "name": "to go"})["key_id"],
            "share_id": lambda: self._create("shares", {"item": "1"})["share_id"],
            "subscription_id": self._subscribe,
            "session_id": lambda: served.background.app.services.sessions.begin(served.clock())[1].session_id,
            "token": lambda: self._create("shares", {"group": "g"})["token"],
            "name": lambda: "board.js",
        }

    def _item(self) -> str:
        self.admin.put("/api/v1/items/a/b ü", json={})
        return "a/b ü"

    def _subscribe(self) -> str:
        body = {**PUSH_FIELDS, "events": ["end"], "item": "1"}
        return self.admin.post("/api/v1/push/subscriptions", json=body).json()["subscription_id"]

    def _create(self, collection: str, body: dict[str, str]) -> dict[str, str]:
        return self.admin.post(f"/api/v1/{collection}", json=body).json()

    def path_parameters(self, operation: APIOperation) -> dict[str, str]:
        """Return path parameters of existing objects."""
        if operation.path.startswith("/auth/"):
            return {"token": self.served.background.create_sign_in_url().rpartition("/")[2]}
        names = re.findall(r"{(\w+)}", operation.path)
        return {name: self.known[name]() for name in names if name in self.known}


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def documented_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DocumentedServer]:
    """A server on each kind of store."""
    folder, database = tmp_path_factory.mktemp("contract"), None
    if request.param == "postgres":
        cluster = request.getfixturevalue("postgres_cluster")
        database = create_database(cluster)
    served = RunningServer(folder, ManualClock(), database=database)
    documented = DocumentedServer(served)
    yield documented
    documented.http.close()
    served.stop()
    if database is not None:
        drop_database(cluster, database)


@schemathesis.check
def check_problem(ctx: CheckContext, response: Response, case: Case) -> None:
    """Check that a refusal is a documented problem of the operation."""
    if response.status_code < 400 or "problem+json" not in response.headers["content-type"][0]:
        return
    code = response.json()["type"].removeprefix("/problems/")
    documented = case.operation.definition.raw["responses"][str(response.status_code)]
    assert code in documented["content"]["application/problem+json"]["examples"], f"{code} is not documented for {case}"
    assert PROBLEM_CODES[code][0] == response.json()["status"] == response.status_code


@schemathesis.check
def check_headers(ctx: CheckContext, response: Response, case: Case) -> None:
    """Check that the headers of a response are documented or common."""
    documented = case.operation.definition.raw["responses"].get(str(response.status_code), {})
    names = {name.lower() for name in documented.get("headers", {})} | COMMON_HEADERS
    assert set(response.headers) <= names, f"{set(response.headers) - names} is not documented for {case}"


def integral_to_int(value: Any) -> Any:
    """Replace 1.0 by 1: it is an integer for JSON Schema, but not for the server."""
    if isinstance(value, dict):
        return {name: integral_to_int(one) for name, one in value.items()}
    if isinstance(value, list):
        return [integral_to_int(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53 else value


def make_valid(case: Case) -> None:
    """Correct the parts of a valid request that the schema cannot describe."""
    if isinstance(case.body, dict | list):
        case.body = integral_to_int(case.body)
    if isinstance(case.body, dict):
        if "p256dh" in case.body:
            case.body |= PUSH_FIELDS  # a point of the curve
        for name, text in (("cron", "0 6 * * *"), ("timezone", "Europe/Berlin")):
            if case.body.get(name):
                case.body[name] = text
        for name in ("expires_at", "deadline"):
            if case.body.get(name):
                case.body[name] = "2100-01-01T00:00:00Z"
    if case.query:
        case.query.pop("after", None)
        for name, instant in (("since", "2026-01-01T00:00:00Z"), ("until", "2100-01-01T00:00:00Z")):
            if name in case.query:
                case.query[name] = instant
        if "former_of" in case.query:
            case.query = {"former_of": case.query["former_of"]}


@pytest.mark.parametrize(("path", "method", "mode"), OPERATION_MODES)
def test_every_response_conforms(
    documented_server: DocumentedServer, path: str, method: str, mode: GenerationMode
) -> None:
    operation = documented_server.schema[path][method]
    url = documented_server.served.background.url

    @settings(
        max_examples=EXAMPLE_COUNT, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data(), st.sampled_from(["admin", "admin", "write", "read"]), st.booleans())
    def send_request(data: st.DataObject, key: str, hits: bool) -> None:
        known = documented_server.path_parameters(operation) if hits and mode is GenerationMode.POSITIVE else {}
        case = data.draw(operation.as_strategy(generation_mode=mode, path_parameters=known or None))
        if mode is GenerationMode.POSITIVE:
            make_valid(case)
        excluded = [ignored_auth] if operation.label in documented_server.enforced else []
        excluded += [negative_data_rejection] if (method, path) in LENIENT_OPERATIONS else []
        headers = {"X-API-KEY": documented_server.served.keys[key]}
        kwargs: dict[str, Any] = {"allow_redirects": False, "timeout": 20}
        response = case.call(url, documented_server.http, headers, **kwargs)
        case.validate_response(
            response,
            additional_checks=[check_problem, check_headers],
            excluded_checks=excluded,
            headers=headers,
            transport_kwargs={**kwargs, "base_url": url, "session": documented_server.http, "headers": headers},
        )
        if response.status_code < 300:
            documented_server.enforced.add(operation.label)

    send_request()


def test_protected_operations_were_tried_without_key(documented_server: DocumentedServer) -> None:
    """The test above does this too, except for operations that succeed only by chance."""
    for path, method, _ in OPERATION_MODES:
        raw = documented_server.schema[path][method].definition.raw
        if raw.get("security"):
            target = re.sub(r"{\w+}", "x", path)
            for headers in ({}, {"X-API-KEY": "pbt_a_x"}, {"Cookie": "pbt_session=x"}, {"Authorization": "Bearer x"}):
                reply = documented_server.http.request(
                    method,
                    documented_server.served.background.url + target,
                    headers=headers,
                    allow_redirects=False,
                    timeout=20,
                )
                assert reply.status_code in {303, 401}, (method, path)
                assert str(reply.status_code) in raw["responses"]


def test_streams_conform_while_read(documented_server: DocumentedServer) -> None:
    streams = {
        (path, method)
        for path, methods in documented_server.schema.raw_schema["paths"].items()
        for method, raw in methods.items()
        if STREAM_CONTENT_TYPE in raw["responses"].get("200", {}).get("content", {})
    }
    assert {path for path, _ in streams} >= {"/api/v1/events", "/s/{token}/events"}
    key = {"X-API-KEY": documented_server.served.keys["read"]}
    for path, method in streams:
        operation = documented_server.schema[path][method.upper()]
        target = documented_server.served.background.url + path.format(**documented_server.path_parameters(operation))
        for query in ({}, {"group": "g"}, {"id": "1"}):
            with documented_server.http.request(
                method, target, params=query, headers=key, stream=True, timeout=20
            ) as reply:
                assert (reply.status_code, reply.headers["Content-Type"].partition(";")[0]) == (
                    200,
                    STREAM_CONTENT_TYPE,
                )
                lines = reply.iter_lines()
                assert next(lines).startswith(b"retry: ")
                name = next(line for line in lines if line.startswith(b"event: "))
                assert name == b"event: snapshot"
                data = json.loads(next(line for line in lines if line.startswith(b"data: "))[6:])
                assert {"rev", "time", "items"} <= set(data)
        if operation.definition.raw["security"]:
            assert documented_server.http.request(method, target, timeout=20).status_code == 401
            assert "401" in operation.definition.raw["responses"]


@pytest.mark.parametrize("path", ["/api/v1/items", "/api/v1/history", "/api/v1/history.csv", "/api/v1/events"])
@pytest.mark.parametrize("text", ["\x00", "a\x1fb", "x" * 201], ids=["null", "control", "long"])
def test_unstorable_text_is_not_searched(documented_server: DocumentedServer, path: str, text: str) -> None:
    # PostgreSQL has no texts with NUL.
    key = {"X-API-KEY": documented_server.served.keys["read"]}
    reply = documented_server.http.get(
        documented_server.served.background.url + path, params={"group": text}, headers=key, timeout=20
    )
    assert (reply.status_code, reply.json()["field"]) == (422, "group")
