"""Ports of the local routers: the usual ones where they are free."""

import socket
from collections.abc import Sequence


def choose_ports(first: int, count: int, host: str = "127.0.0.1") -> Sequence[int]:
    """`count` ports from `first` on, each taken or replaced by a free one when somebody else has it."""
    return [port if is_free(port, host) else free_port(host) for port in range(first, first + count)]


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
