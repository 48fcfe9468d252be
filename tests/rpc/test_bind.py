"""Plain text stays on this machine."""

import pytest

from common.core.errors import StartupError
from common.rpc.bind import Bind, Tls, is_loopback

TLS = Tls(certificate=b"c", private_key=b"k", authority=b"a")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "*", "10.0.0.1", "example.org", "", "[::]", "127.0.0.1.example.org"])
def test_a_reachable_address_without_tls_is_refused(host: str) -> None:
    with pytest.raises(StartupError, match="TLS"):
        Bind(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_tls(host: str) -> None:
    assert is_loopback(host)
    assert Bind(host=host, port=80).address.endswith(":80")


def test_with_tls_any_address_is_accepted() -> None:
    assert Bind(host="0.0.0.0", port=7, tls=TLS).address == "0.0.0.0:7"
    assert Bind(host="*", port=7, tls=TLS).address == "[::]:7", "which grpc takes for both families"


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(StartupError, match="port"):
        Bind(port=port)
