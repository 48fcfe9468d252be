"""A socket to listen on, for what speaks HTTP. gRPC makes its own."""

import socket

from common.core.address import EVERYWHERE, join_address
from common.core.errors import StartupError


def listen(host: str, port: int, *, backlog: int) -> socket.socket:
    """Whoever is told the address may connect at once. Raises StartupError when it cannot be had."""
    bare = host.strip("[]")
    try:
        listener = _dual() if bare == EVERYWHERE else _single(bare)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("" if bare == EVERYWHERE else bare, port))
            listener.listen(backlog)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise StartupError(message=f"{join_address(host, port)} cannot be listened on: {error.strerror}") from error
    listener.setblocking(False)
    return listener


def address_of(listener: socket.socket) -> str:
    """Where it really listens: host:port."""
    host, port = listener.getsockname()[:2]
    return join_address(host, port)


def _single(host: str) -> socket.socket:
    return socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)


def _dual() -> socket.socket:
    """Of both families; of IPv4 where the kernel has no other."""
    try:
        both = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    except OSError:
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    both.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return both
