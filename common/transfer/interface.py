"""Which network interface an address belongs to: for libraries that are told interfaces, not addresses."""

import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

SIOCGIFADDR = 0x8915
REQUEST = struct.Struct("16s2x2x4s232x")
"""struct ifreq around a sockaddr_in: name, family, port, address."""
IPV6_TABLE = Path("/proc/net/if_inet6")


def find_interface(address: str) -> str | None:
    """Its name; None where no interface of this machine has this address, or it is no numeric one."""
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:
        return None
    return _find_v4(wanted) if isinstance(wanted, ipaddress.IPv4Address) else _find_v6(wanted)


def _find_v4(wanted: ipaddress.IPv4Address) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            try:
                request = REQUEST.pack(name.encode()[:15], b"\0" * 4)
                answer = fcntl.ioctl(any_socket.fileno(), SIOCGIFADDR, request)
            except OSError:  # an interface without an address
                continue
            if REQUEST.unpack(answer)[1] == wanted.packed:
                return name
    return None


def _find_v6(wanted: ipaddress.IPv6Address) -> str | None:
    """Lines of the table: address in hex, index, prefix, scope, flags, name."""
    if not IPV6_TABLE.exists():
        return None
    for line in IPV6_TABLE.read_text().splitlines():
        digits, *_, name = line.split()
        if digits == wanted.packed.hex():
            return name
    return None
