"""Ports of the local routers and gateways: the usual ones where they are free."""

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from common.core.errors import StartupError

LOOPBACK_S = 2.0
"""Chosen: a thousand times what a machine needs to reach itself."""

FIRST_ROUTER_PORT = 7450  # Chosen: unassigned, easy to remember; `baton generate` looks here first.
FIRST_GATEWAY_PORT = 8000  # Chosen: where OpenAI clients of a local server look by habit.


@contextmanager
def choose_ports(first: int, count: int, host: str = "127.0.0.1") -> Iterator[Sequence[int]]:
    """`count` ports from `first` on, each replaced by a free one when somebody else has it, and ours inside the block.

    Processes listen seconds after their ports were chosen: another cluster that chooses meanwhile sees them as taken.
    """
    with ExitStack() as claims:
        yield [
            port if is_free(port, host) and _claim(port, claims) else free_port(host)
            for port in range(first, first + count)
        ]


def _claim(port: int, claims: ExitStack) -> bool:
    """Whether no other cluster of this machine has chosen it. Ends with the process at the latest."""
    claim = claims.enter_context(socket.socket(socket.AF_UNIX))
    try:
        claim.bind(f"\0baton-port-{port}")
    except OSError as error:  # where the system has no such names, nobody claims
        return error.errno != errno.EADDRINUSE
    return True


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def free_port(host: str = "127.0.0.1") -> int:
    """A port that was free a moment ago."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def check_loopback(host: str = "127.0.0.1") -> None:
    """Raises StartupError where this machine does not reach itself: processes would wait for one another in vain."""
    with socket.socket(_family(host)) as listening, socket.socket(_family(host)) as calling:
        calling.settimeout(LOOPBACK_S)
        try:
            listening.bind((host, 0))
            listening.listen(1)
            calling.connect(listening.getsockname())
        except OSError as error:
            why = error.strerror or str(error)
            message = f"this machine does not reach itself at {host} ({why}): is its loopback up (`ip link set lo up`)?"
            raise StartupError(message=message) from error


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
