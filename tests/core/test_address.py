"""Goal: addresses are written and read so that IPv6 survives it."""

import pytest

from common.core.address import is_everywhere, join_address, split_host, with_port


@pytest.mark.parametrize(
    ("host", "address"), [("10.1.2.3", "10.1.2.3:5"), ("::1", "[::1]:5"), ("[::1]", "[::1]:5"), ("pod.ns", "pod.ns:5")]
)
def test_an_ipv6_host_is_bracketed_once_and_comes_back(host, address):
    assert join_address(host, 5) == address
    assert split_host(address) == host.strip("[]")


@pytest.mark.parametrize(
    ("said", "address"),
    [
        *(("10.1.2.3", "10.1.2.3:7"), ("10.1.2.3:9", "10.1.2.3:9"), ("pod.ns", "pod.ns:7"), ("pod.ns:9", "pod.ns:9")),
        *(("fd00::2", "[fd00::2]:7"), ("fd00::9:9", "[fd00::9:9]:7"), ("[fd00::2]", "[fd00::2]:7")),
        ("[fd00::2]:9", "[fd00::2]:9"),
    ],
)
def test_a_port_is_added_where_none_is_said(said, address):
    assert with_port(said, 7) == address


def test_wildcards_are_no_addresses_to_dial():
    assert all(is_everywhere(host) for host in ("*", "", "0.0.0.0", "::", "[::]"))
    assert not any(is_everywhere(host) for host in ("127.0.0.1", "::1", "10.0.0.0", "localhost"))
