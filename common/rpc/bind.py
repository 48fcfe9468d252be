"""Where a listener may listen, and with which credentials. Plain text leaves the machine under no circumstances."""

import ipaddress
from dataclasses import dataclass

import grpc

from common.core.errors import StartupError


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """PEM bytes of one identity and of the authority that the other side must be signed by.

    With a `cluster`, certificates name roles of it (see identity.py), and both sides check the other's. Without one,
    the other side's certificate must name the host that was dialled, and every caller may call everything.
    """

    certificate: bytes
    private_key: bytes
    authority: bytes
    cluster: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A listener's address. Port 0 takes a free one. Raises StartupError (see `check`) when made."""

    host: str = "127.0.0.1"
    port: int = 0
    tls: Tls | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise StartupError(message=f"port {self.port} of {self.host} is not between 0 and 65535")
        if self.tls is None and not is_loopback(self.host):
            raise StartupError(
                message=f"refusing to listen on {self.host} without TLS: anyone on that network could read and send "
                f"requests; bind 127.0.0.1 or configure certificates"
            )

    @property
    def address(self) -> str:
        return join_address(self.host, self.port)


def is_loopback(host: str) -> bool:
    """True for addresses that cannot be reached from another machine. A name other than localhost proves nothing."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def join_address(host: str, port: int) -> str:
    """host:port, with IPv6 hosts in brackets."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def server_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Mutual TLS: a caller without a certificate of the authority is not let in."""
    return grpc.ssl_server_credentials(
        [(tls.private_key, tls.certificate)], root_certificates=tls.authority, require_client_auth=True
    )


def channel_credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Mutual TLS, seen from the caller."""
    return grpc.ssl_channel_credentials(
        root_certificates=tls.authority, private_key=tls.private_key, certificate_chain=tls.certificate
    )
