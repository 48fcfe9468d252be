"""host:port, as it is written; and hosts that stand for every address of a machine."""

import ipaddress

EVERYWHERE = "*"
"""As a host to listen on: every address of this machine, of IPv4 and IPv6, whichever there are."""

_WILDCARDS = frozenset({EVERYWHERE, "", "0.0.0.0", "::"})  # noqa: S104 - they are recognised here, not listened on


def join_address(host: str, port: int) -> str:
    """host:port, with IPv6 hosts in brackets."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def split_host(address: str) -> str:
    """The host of host:port, without brackets."""
    return address.rpartition(":")[0].strip("[]")


def is_everywhere(host: str) -> bool:
    """True for hosts that one can listen on and nobody can dial."""
    return host.strip("[]") in _WILDCARDS


def with_port(address: str, port: int) -> str:
    """`address` if it says a port, else `port` of that host. A bare IPv6 address says none."""
    try:
        ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        if address.rpartition(":")[2].isdigit():
            return address
    return join_address(address, port)
