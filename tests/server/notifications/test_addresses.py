"""Scopes of addresses, compared with the IANA registries of special-purpose addresses."""

from __future__ import annotations

import ipaddress
from itertools import product
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from progressbar_tracker.server.notifications.addresses import AddressScope, classify_address
from progressbar_tracker.server.notifications.webhooks import is_permitted

SPECIAL_BLOCKS: Final = """
0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29
192.0.0.8/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24
203.0.113.0/24 240.0.0.0/4 255.255.255.255/32
::1/128 ::/128 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:2::/48 2001:10::/28 2001:db8::/32
3fff::/20 5f00::/16 fc00::/7 fe80::/10
"""
"""Blocks that are not globally reachable or are deprecated, except for those with an embedded address."""

OTHER_BLOCKS: Final = (
    "224.0.0.0/4 ff00::/8 fec0::/10 ::/96 ::ffff:0:0:0/96 4000::/2 8000::/1 1000::/4 0200::/7 0400::/6"
)
"""Multicast, site-local, obsolete and unassigned blocks."""

METADATA_ADDRESSES: Final = [
    "169.254.169.254", "169.254.170.2", "169.254.0.23", "100.100.100.200", "192.0.0.192", "168.63.129.16",
    "fd00:ec2::254", "fd00:ec2::23", "fd00:ec2::253", "fd20:ce::254",
    "fd00:c1::a9fe:a9fe", "fd00:42::42", "fe80::a9fe:a9fe",
]  # fmt: skip
"""Addresses at which clouds serve credentials of the machine."""

PRIVATE_ADDRESSES: Final = [
    "10.0.0.1", "172.31.255.255", "192.168.0.1", "127.0.0.1", "100.64.0.1", "198.19.255.255", "::1", "fd12:3456::1",
]  # fmt: skip
PUBLIC_ADDRESSES: Final = [
    "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
    "169.253.255.255", "172.32.0.0", "168.63.129.15", "168.63.129.17", "191.255.255.255", "192.0.1.0",
    "198.17.255.255", "198.20.0.0", "223.255.255.255", "2606:4700:4700::1111", "2001:200::1", "2001:4860:4860::8888",
    "2a00:1450::1", "3ffe:ffff::1", "3fff:1000::1", "2003::1",
]  # fmt: skip

EMBEDDED_FORMS: Final = {
    "mapped": "::ffff:{hex}", "mapped as text": "::ffff:{text}", "nat64": "64:ff9b::{hex}", "6to4": "2002:{hex}::1",
    "isatap": "2606:4700::5efe:{hex}", "isatap, universal": "2606:4700::200:5efe:{hex}",
    "isatap, group": "2606:4700::100:5efe:{hex}",
    "isatap, universal group": "2606:4700::300:5efe:{hex}",
}  # fmt: skip
"""IPv6 forms with an embedded IPv4 address."""

REFUSED_FORMS: Final = {
    "compatible": "::{hex}", "translated": "::ffff:0:{hex}", "local nat64": "64:ff9b:1::{hex}",
    "teredo server": "2001:0:{hex}::1", "isatap of a link": "fe80::5efe:{hex}", "teredo": "2001:0:101:101::{inverted}",
    "isatap of a site": "fec0::5efe:{hex}",
}  # fmt: skip
"""IPv6 forms that are refused for any embedded address."""


def embed_address(form: str, text: str) -> str:
    number = int(ipaddress.IPv4Address(text))
    inverted = number ^ 0xFFFFFFFF
    return form.format(
        hex=f"{number >> 16:x}:{number & 0xFFFF:x}", inverted=f"{inverted >> 16:x}:{inverted & 0xFFFF:x}", text=text
    )


@pytest.mark.parametrize("block", [*SPECIAL_BLOCKS.split(), *OTHER_BLOCKS.split()])
def test_address_of_a_special_block_is_not_public(block: str) -> None:
    network = ipaddress.ip_network(block)
    step = max(network.num_addresses // 1009, 1)
    for n in range(0, network.num_addresses, step):
        assert classify_address(str(network[n])) < AddressScope.PUBLIC
    assert classify_address(str(network[-1])) < AddressScope.PUBLIC


@pytest.mark.parametrize(
    "block", [*OTHER_BLOCKS.split(), "169.254.0.0/16", "fe80::/10", "192.0.2.0/24", "2001:db8::/32"]
)
def test_allow_private_permits_no_special_block(block: str) -> None:
    network = ipaddress.ip_network(block)
    scopes = {classify_address(str(network[n])) for n in (0, 2, network.num_addresses // 2, network.num_addresses - 1)}
    assert scopes == {AddressScope.NEVER}


@pytest.mark.parametrize("address", METADATA_ADDRESSES)
def test_metadata_address_is_never_permitted(address: str) -> None:
    forms = [address]
    if ":" not in address:
        forms += [embed_address(form, address) for form in (EMBEDDED_FORMS | REFUSED_FORMS).values()]
    for form in forms:
        assert not is_permitted(form, allow_private=True), form
        assert not is_permitted(f"{form}%eth0", allow_private=True), form


@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_private_address_needs_allow_private(address: str) -> None:
    assert (is_permitted(address, allow_private=False), is_permitted(address, allow_private=True)) == (False, True)


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_neighbours_of_special_blocks_are_public(address: str) -> None:
    assert classify_address(address) is AddressScope.PUBLIC


@pytest.mark.parametrize(
    ("form", "address"), list(product(EMBEDDED_FORMS, [*PRIVATE_ADDRESSES[:6], "1.1.1.1", "0.0.0.0", "224.0.0.1"]))
)
def test_embedded_ipv4_address_determines_the_scope(form: str, address: str) -> None:
    assert classify_address(embed_address(EMBEDDED_FORMS[form], address)) is classify_address(address)


@pytest.mark.parametrize(("form", "address"), list(product(REFUSED_FORMS, ["1.1.1.1", "10.0.0.1", "127.0.0.1"])))
def test_obsolete_embedded_form_is_refused(form: str, address: str) -> None:
    assert classify_address(embed_address(REFUSED_FORMS[form], address)) is AddressScope.NEVER


def test_isatap_in_a_private_network_is_not_public() -> None:
    assert classify_address("fd00::5efe:101:101") is AddressScope.PRIVATE
    assert classify_address("fd00::5efe:a9fe:a9fe") is AddressScope.NEVER


@given(st.ip_addresses())
def test_public_address_is_global_for_python(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if classify_address(str(address)) is AddressScope.PUBLIC and not str(address).startswith(
        ("::ffff:", "2002:", "64:ff9b:")
    ):
        assert address.is_global
        assert not address.is_multicast
