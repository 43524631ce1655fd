"""The explicit client raises only errors of this package, and TypeError and ValueError for arguments."""

from __future__ import annotations

import contextlib
import os
from unittest import mock

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from progressbar_tracker import ConfigError, ProgressBar, ProgressBarError
from progressbar_tracker._http.event_stream import EventStream

FUZZ_SETTINGS = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
odd_values = st.one_of(
    st.text(), st.text(st.characters(categories=["Cs", "Cc", "Nd"])), st.none(), st.integers(), st.binary()
)
urls = st.one_of(odd_values, st.text("htps:/[]%.@#?:0189abl\\ é", max_size=30).map("http://{}".format))
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["permissions", "type", "api", "server", "items", "gone", "rev", "detail", "field", "id", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)
bodies = st.one_of(
    st.binary(max_size=200),
    json_like.map(lambda value: __import__("json").dumps(value).encode("utf-8", "surrogatepass")),
    st.sampled_from(
        [b"[" * 100_000, b'{"permissions": ' + b"[" * 900 + b"]" * 900 + b"}", b"1" * 5000, b"NaN", b"\xff\xfe["]
    ),
)
header_text = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
CLIENT_CALLS = [
    lambda pb: pb.get_all(),
    lambda pb: pb.get("a"),
    lambda pb: pb.create("a", "t", "d", 0.5),
    lambda pb: pb.update("a", "t", "d", 0.5),
    lambda pb: pb.delete("a"),
    lambda pb: pb.is_admin(),
    lambda pb: pb.can_write(),
    lambda pb: pb.key_info,
]


@FUZZ_SETTINGS
@given(
    st.integers(100, 599),
    bodies,
    st.dictionaries(st.sampled_from(["retry-after", "content-type", "x-request-id"]), header_text),
    st.sampled_from(CLIENT_CALLS),
)
def test_no_reply_raises_foreign_error(status, body, headers, call):
    network = httpx.MockTransport(lambda request: httpx.Response(status, headers=headers, content=iter([body])))
    with ProgressBar("http://h", "key", transport=network) as pb:
        with contextlib.suppress(ProgressBarError):
            call(pb)


@FUZZ_SETTINGS
@given(bodies, st.sampled_from(["snapshot", "change", "x"]), st.text(max_size=5))
def test_no_event_raises_foreign_error(body, name, event_id):
    event = f"id: {event_id}\nevent: {name}\ndata: ".encode("utf-8", "surrogatepass") + body + b"\n\n"
    head = {"content-type": "text/event-stream"}
    network = httpx.MockTransport(lambda request: httpx.Response(200, headers=head, content=iter([event])))
    # Not time.sleep: a thread of another library may sleep meanwhile.
    end = mock.patch.object(EventStream, "next_delay", side_effect=ConfigError("the end"))
    with ProgressBar("http://h", "key", auto_detect=False, transport=network) as pb:
        with contextlib.suppress(ProgressBarError), end:
            for _ in pb.watch():
                pass


@FUZZ_SETTINGS
@given(urls, odd_values, st.sampled_from(CLIENT_CALLS))
def test_no_url_or_key_raises_a_foreign_error(url, key, call):
    network = httpx.MockTransport(lambda request: httpx.Response(200, json=[]))
    with contextlib.suppress(ProgressBarError):
        with ProgressBar(url, key, transport=network) as pb:
            call(pb)


@FUZZ_SETTINGS
@given(odd_values, odd_values, odd_values, st.one_of(odd_values, st.floats()), odd_values)
def test_arguments_raise_only_documented_errors(item_id, title, description, value, weight):
    network = httpx.MockTransport(lambda request: httpx.Response(200, json={}))
    with ProgressBar("http://h", "key", auto_detect=False, transport=network) as pb:
        for call in (
            lambda: pb.create(item_id, title, description, value, weight),
            lambda: pb.update(item_id, "t", "d", 0.5, weight),
            lambda: pb.get(item_id),
            lambda: pb.delete(item_id),
            lambda: pb.watch(group=title, item_id=item_id),
        ):
            with contextlib.suppress(ProgressBarError, TypeError, ValueError):
                call()


# Not SSLKEYLOGFILE: the test would write that file.
PROXY_VARIABLES = ["http_proxy", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"]
values = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20) | st.sampled_from(
    [
        "http://[",
        "socks5://p",
        "http://u:p@127.0.0.1:1",
        "[::1]",
        "fd07::/64",
        "/nonexistent",
        "/dev/null",
        "/",
        "http://p:x",
    ]
)


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.sampled_from(PROXY_VARIABLES), values), st.sampled_from(["http", "https"]))
def test_no_environment_raises_foreign_error(environ, scheme):
    with mock.patch.dict(os.environ, environ):
        for name in PROXY_VARIABLES:
            if name not in environ:
                os.environ.pop(name, None)
        with ProgressBar(f"{scheme}://127.0.0.1:1", "key", auto_detect=False) as pb:
            with pytest.raises(ProgressBarError):
                pb.get_all()


@pytest.mark.parametrize(
    "error", [RuntimeError("x"), KeyError(1), MemoryError(), RecursionError(), OSError(24, "EMFILE")]
)
def test_transport_errors_are_always_converted(error):
    def fail(request):
        raise error

    with ProgressBar("http://h", "key", auto_detect=False, transport=httpx.MockTransport(fail)) as pb:
        with pytest.raises(ProgressBarError):
            pb.get_all()
