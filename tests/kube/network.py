"""Addresses of one cluster under test: a /16 of the loopback range.

Every process of a pod listens on 127.N.x.y. The API takes no loopback address for an endpoint, so pods are said to be
at 10.N.x.y, where nobody is: `reachable` goes back. Services have theirs in the upper half, from the API server.
"""

import socket
from dataclasses import dataclass, field
from itertools import count
from random import SystemRandom


@dataclass(slots=True)
class Network:
    """Addresses for one control plane, its pods and services. Two on one machine have different numbers."""

    number: int
    _pods: count = field(default_factory=lambda: count(256))

    @property
    def host(self) -> str:
        """Of the control plane itself."""
        return f"127.{self.number}.0.1"

    @property
    def services(self) -> str:
        return f"127.{self.number}.128.0/17"

    def new_pod(self) -> str:
        """The address that the API is told for a new pod. None is given twice."""
        number = next(self._pods)
        assert number < 128 * 256, "out of addresses"
        return f"10.{self.number}.{number // 256}.{number % 256}"


def reachable(told: str) -> str:
    """Where the processes of a pod listen, from the address in its status."""
    return "127." + told.split(".", 1)[1]


def free_network(*, port: int) -> Network:
    """A network whose host's `port` nobody listens on."""
    chance = SystemRandom()
    for _ in range(50):
        network = Network(chance.randrange(16, 250))
        with socket.socket() as probe:
            if probe.connect_ex((network.host, port)):
                return network
    raise OSError("no loopback network is free")
