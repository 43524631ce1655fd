"""Which replies are not from a progress server, and what each user of that judgement does."""

from __future__ import annotations

import json

import httpx
import pytest

from progressbar_tracker import ProgressBar
from progressbar_tracker._errors import (
    ItemNotFoundError,
    PermissionError,
    RateLimitedError,
    ResponseError,
    ServerError,
    ValidationError,
)
from progressbar_tracker._http.foreign_replies import describe_foreign_reply
from progressbar_tracker._http.messages import Reply, Request, error_from_reply

LIST_REQUEST, KEY_INFO_REQUEST = Request("GET", "progress"), Request("GET", "api/key-info")
HTML_HEADERS = {"content-type": "text/html; charset=utf-8"}
JSON_HEADERS = {"content-type": "application/json"}
PROBLEM_BODY = json.dumps({"type": "/problems/forbidden", "title": "x", "status": 403, "detail": "no"}).encode()

FOREIGN_REPLIES = [
    (LIST_REQUEST, Reply(404, HTML_HEADERS, b"<html>")),
    (LIST_REQUEST, Reply(403, HTML_HEADERS, b"")),
    (LIST_REQUEST, Reply(500, {}, b"  <!doctype html>")),
    (LIST_REQUEST, Reply(502, HTML_HEADERS, b"<html>")),
    (LIST_REQUEST, Reply(302, {"location": "https://login.example/?token=secret"}, b"")),
    (LIST_REQUEST, Reply(404, JSON_HEADERS, b'{"message": "Not Found"}')),
    (LIST_REQUEST, Reply(400, JSON_HEADERS, b'["wrong"]')),
    (KEY_INFO_REQUEST, Reply(404, JSON_HEADERS, b'{"detail": "Not Found"}')),
    (KEY_INFO_REQUEST, Reply(405, {}, b"")),
]
OWN_REPLIES = [
    (LIST_REQUEST, Reply(403, JSON_HEADERS, PROBLEM_BODY)),
    (LIST_REQUEST, Reply(404, JSON_HEADERS, b'{"error": "unknown id"}')),
    (LIST_REQUEST, Reply(404, JSON_HEADERS, b'{"detail": "unknown id"}')),
    (LIST_REQUEST, Reply(404, {}, b"404 page not found")),
    (LIST_REQUEST, Reply(404, JSON_HEADERS, b"{}")),
    (LIST_REQUEST, Reply(503, {}, b"")),
    (KEY_INFO_REQUEST, Reply(401, JSON_HEADERS, b'{"error": "unknown key"}')),
    (LIST_REQUEST, Reply(200, HTML_HEADERS, b"<html>")),  # judged by its reader
]


@pytest.mark.parametrize(("request_", "reply"), FOREIGN_REPLIES)
def test_foreign_reply_is_described(request_, reply):
    text = describe_foreign_reply(reply, request_)
    assert text is not None
    assert f"{reply.status}" in text
    assert "progress server" in text
    assert "<" not in text
    assert "secret" not in text


@pytest.mark.parametrize(("request_", "reply"), OWN_REPLIES)
def test_possible_reply_of_a_server_is_not_judged(request_, reply):
    assert describe_foreign_reply(reply, request_) is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, PermissionError),
        (403, PermissionError),
        (404, ResponseError),
        (409, ResponseError),
        (413, ValidationError),
        (429, RateLimitedError),
        (502, ServerError),
    ],
)
def test_error_of_a_foreign_reply_keeps_its_meaning_for_clients(status, kind):
    """A 404 of another program says nothing about an item."""
    error = error_from_reply(Reply(status, HTML_HEADERS, b"<html>"), LIST_REQUEST)
    assert type(error) is kind
    assert error.code == "unexpected-answer"
    assert not isinstance(error, ItemNotFoundError)


def test_delete_on_another_server_is_an_error():
    network = httpx.MockTransport(lambda request: httpx.Response(404, html="<html>"))
    with ProgressBar("http://other", "key", auto_detect=False, transport=network) as pb:
        with pytest.raises(ResponseError, match="not from a progress server"):
            pb.delete("x")


def test_key_that_another_program_repeats_is_hidden():
    body = {"error": "unknown key pbt_w_secret"}
    network = httpx.MockTransport(lambda request: httpx.Response(401, json=body))
    with ProgressBar("http://other", "pbt_w_secret", auto_detect=False, transport=network) as pb:
        with pytest.raises(PermissionError, match="unknown key <key>"):
            pb.get_all()


@pytest.mark.parametrize("name", ["location", "content-type"])
def test_key_in_a_header_of_another_program_is_hidden(name):
    headers = {"location": "http://pbt_w_SECRET.example/", "content-type": "text/pbt_w_Secret"}
    network = httpx.MockTransport(lambda request: httpx.Response(302, headers={name: headers[name]}))
    with ProgressBar("http://other", "pbt_w_secret", auto_detect=False, transport=network) as pb:
        with pytest.raises(ResponseError, match="<key>") as caught:
            pb.get_all()
    assert "secret" not in str(caught.value).lower()
