"""Goal: a worker is told of under an address that its peers can dial, or does not start."""

import pytest

from common.config.sections.cluster import ListenSection
from common.core.errors import StartupError
from common.worker.boot import reachable_address


@pytest.mark.parametrize(
    ("host", "advertise", "address"),
    [
        ("10.1.2.3", "", "10.1.2.3:7460"),
        ("fd00::2", "", "[fd00::2]:7460"),
        ("*", "10.1.2.3", "10.1.2.3:7460"),
        ("*", "fd00::2", "[fd00::2]:7460"),
        ("127.0.0.1", "10.1.2.3:8", "10.1.2.3:8"),
    ],
)
def test_peers_are_told_where_to_dial(host, advertise, address):
    assert reachable_address(ListenSection(host=host, advertise=advertise), 7460) == address


@pytest.mark.parametrize("host", ["*", "0.0.0.0", "::"])
def test_a_worker_that_listens_everywhere_must_say_where_it_is(host):
    with pytest.raises(StartupError, match=r"listen\.advertise"):
        reachable_address(ListenSection(host=host), 7460)
