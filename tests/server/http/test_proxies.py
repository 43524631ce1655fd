"""The address and scheme of a client behind trusted proxies."""

from __future__ import annotations

import pytest

from progressbar_tracker._errors import ConfigError
from progressbar_tracker.server.proxies import MAX_HOPS, Origin, TrustedProxies

TRUSTED_PROXIES = "loopback, 10.0.0.0/8, 2001:db8:1::/48, ::ffff:172.30.0.1"


def forwarded_headers(*lists: str, proto: str | None = None) -> list[tuple[bytes, bytes]]:
    headers = [(b"x-forwarded-for", text.encode("latin-1")) for text in lists]
    return headers if proto is None else [*headers, (b"x-forwarded-proto", proto.encode("latin-1"))]


@pytest.mark.parametrize(
    ("peer", "lists", "address"),
    [
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("203.0.113.1", ["198.51.100.7"], "203.0.113.1"),  # not a trusted proxy
        ("127.0.0.1", ["198.51.100.7, 203.0.113.9"], "203.0.113.9"),  # the client wrote the first one
        ("127.0.0.1", ["198.51.100.7, 203.0.113.9, 10.1.1.1"], "203.0.113.9"),
        ("127.0.0.1", ["198.51.100.7", "203.0.113.9", "10.1.1.1"], "203.0.113.9"),  # in separate headers
        ("127.0.0.1", ["198.51.100.7", "203.0.113.9,10.1.1.1"], "203.0.113.9"),
        ("127.0.0.1", ["10.2.2.2, 10.1.1.1"], "10.2.2.2"),  # only trusted proxies: the first one
        ("127.0.0.1", [""], "127.0.0.1"),
        ("127.0.0.1", [",, ,"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.9,"], "127.0.0.1"),  # the rightmost entry is from the trusted proxy
        ("127.0.0.1", ["unknown"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.9, unknown, 10.1.1.1"], "10.1.1.1"),
        ("127.0.0.1", ["203.0.113.9, <script>"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("127.0.0.1", ["203.0.113.9:"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.9:port"], "127.0.0.1"),
        ("127.0.0.1", ["[2001:db8:2::7]:4711"], "2001:db8:2::7"),
        ("127.0.0.1", ["[2001:db8:2::7]"], "2001:db8:2::7"),
        ("127.0.0.1", ["[2001:db8:2::7"], "127.0.0.1"),
        ("127.0.0.1", ['"[2001:db8:2::7]:4711"'], "2001:db8:2::7"),
        ("127.0.0.1", ["2001:db8:2::7"], "2001:db8:2::7"),
        ("127.0.0.1", ["fe80::1%eth0"], "fe80::1"),
        ("127.0.0.1", ["::ffff:203.0.113.9"], "203.0.113.9"),
        ("127.0.0.1", ["203.0.113.9, ::ffff:10.1.1.1"], "203.0.113.9"),
        ("127.0.0.1", ["203.0.113.9, 2001:db8:1::5"], "203.0.113.9"),
        ("127.0.0.1", ["0203.0.113.9"], "127.0.0.1"),
        ("127.0.0.1", ["203.0.113.256"], "127.0.0.1"),
        ("127.0.0.1", ["\xb2\xb3"], "127.0.0.1"),
        ("::1", ["203.0.113.9"], "203.0.113.9"),
        ("::ffff:127.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("172.30.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("", ["203.0.113.9"], ""),
    ],
)
def test_address_is_the_rightmost_untrusted_one(peer: str, lists: list[str], address: str) -> None:
    assert TrustedProxies(TRUSTED_PROXIES).find_origin(peer, forwarded_headers(*lists)).address == address


@pytest.mark.parametrize(
    ("peer", "lists", "proto", "scheme"),
    [
        ("127.0.0.1", [], "https", "https"),
        ("127.0.0.1", ["203.0.113.9"], "HTTPS", "https"),
        ("127.0.0.1", ["203.0.113.9"], "http", "http"),
        ("203.0.113.1", ["203.0.113.9"], "https", None),
        ("127.0.0.1", ["203.0.113.9"], "https, http", "http"),  # the client wrote the first one
        ("127.0.0.1", ["203.0.113.9, 10.1.1.1"], "https, http", "https"),  # TLS ends at the outer proxy
        ("127.0.0.1", ["198.51.100.7, 203.0.113.9"], "https, http", "http"),
        ("127.0.0.1", ["203.0.113.9"], "", None),
        ("127.0.0.1", ["203.0.113.9"], "gopher", None),
        ("127.0.0.1", ["203.0.113.9"], None, None),
    ],
)
def test_scheme_is_accepted_from_trusted_proxies_only(
    peer: str, lists: list[str], proto: str | None, scheme: str | None
) -> None:
    assert TrustedProxies(TRUSTED_PROXIES).find_origin(peer, forwarded_headers(*lists, proto=proto)).scheme == scheme


def test_proxy_is_not_trusted_by_default() -> None:
    headers = forwarded_headers("203.0.113.9", proto="https")
    assert TrustedProxies("").find_origin("127.0.0.1", headers) == Origin("127.0.0.1")


def test_long_forwarded_list_is_parsed_up_to_the_hop_limit() -> None:
    trusted = TrustedProxies("loopback")
    chain = ",".join(["203.0.113.9", *["127.0.0.1"] * 10_000])
    assert trusted.find_origin("127.0.0.1", forwarded_headers(chain)).address == "127.0.0.1"
    chain = ",".join(["203.0.113.9", *["127.0.0.1"] * (MAX_HOPS - 1)])
    assert trusted.find_origin("127.0.0.1", forwarded_headers(chain)).address == "203.0.113.9"


@pytest.mark.parametrize("text", ["proxy.example", "10.0.0.0/33", "10.0.0", "http://10.0.0.1", "*", "127.0.0.1:80"])
def test_invalid_proxy_setting_names_the_variable(text: str) -> None:
    with pytest.raises(ConfigError, match="PROGRESSBAR_TRUSTED_PROXIES"):
        TrustedProxies(text)
