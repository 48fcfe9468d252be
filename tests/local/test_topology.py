"""Processes of a local cluster find one another wherever they listen."""

from dataclasses import replace
from pathlib import Path

import pytest

from common.config.loader import load
from common.core.errors import StartupError
from services.local.ports import check_loopback, choose_ports, is_free
from services.local.topology import Kind, Overrides, dialled, service_specs


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.2", "127.0.0.2"),
        ("localhost", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "::1"),
        ("[::1]", "::1"),
        ("::", "::1"),
    ],
)
def test_whoever_listens_is_called_where_it_listens(host: str, found: str) -> None:
    assert dialled(host) == found


@pytest.mark.parametrize(
    ("host", "target"), [("127.0.0.2", "ipv4:127.0.0.2:7450,127.0.0.2:7451"), ("::1", "ipv6:[::1]:7450,[::1]:7451")]
)
def test_gateways_look_for_their_routers_there(host: str, target: str) -> None:
    config = load(None, {})
    specs = service_specs(
        replace(config, listen=replace(config.listen, host=host)),
        Overrides(),
        redis_url="redis://127.0.0.1:1",
        secret_file=Path("secret"),
        router_ports=(7450, 7451),
        gateway_ports=(8000,),
    )
    [gateway] = [spec for spec in specs if spec.kind is Kind.GATEWAY]
    assert f"gateway.routers={target}" in gateway.command


def test_ports_are_looked_for_on_the_address_that_will_be_listened_on() -> None:
    with choose_ports(47000, 1, "127.0.0.2") as (port,):
        assert is_free(port, "127.0.0.2")
    with choose_ports(47000, 1, "::1") as (port,):
        assert is_free(port, "::1")


def test_a_machine_that_does_not_reach_itself_is_told_so() -> None:
    """No machine has 192.0.2.1, as one whose loopback is down has no 127.0.0.1."""
    check_loopback()
    with pytest.raises(StartupError, match=r"does not reach itself at 192\.0\.2\.1 .*ip link set lo up"):
        check_loopback("192.0.2.1")
