"""Where a listener may listen, and with which credentials. Plain text leaves the machine under no circumstances."""

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from common.core.address import EVERYWHERE, join_address
from common.core.errors import StartupError

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """PEM bytes of one identity and of the authority that the other side must be signed by.

    With a `cluster`, certificates name roles of it (see identity.py), and both sides check the other's. Without one,
    the other side's certificate must name the host that was dialled, and every caller may call everything.
    `renew` reads them again where they came from; None while they are the same, or cannot be read.
    """

    certificate: bytes
    private_key: bytes
    authority: bytes
    cluster: str = ""
    renew: "Callable[[], Tls | None] | None" = field(default=None, compare=False, repr=False)

    def latest(self) -> "Tls":
        """As it is now where it came from, if that can be read. A few small files: a tenth of a millisecond while they
        are as they were, two where they have to be checked."""
        return (self.renew and self.renew()) or self


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
        """As grpc takes it: its own wildcard is of both families, or of IPv4 where there is no other."""
        return self.at(self.port)

    def at(self, port: int) -> str:
        """The address with the port that was really bound."""
        return join_address("::" if self.host == EVERYWHERE else self.host, port)


def is_loopback(host: str) -> bool:
    """True for addresses that cannot be reached from another machine. A name other than localhost proves nothing."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def server_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Mutual TLS: a caller without a certificate of the authority is not let in.

    Each new connection sees the newest certificate; those that stand are left alone.
    """
    shown = tls

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        """On a thread of grpc's, before a handshake. None: nothing is new."""
        nonlocal shown
        latest = tls.latest()
        if latest == shown:
            return None
        shown = latest
        return _configuration(latest)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(tls),
        renewed,  # type: ignore[arg-type]  # its stub forgot that None means: as before
        require_client_authentication=True,
    )


def _configuration(tls: Tls) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(tls.private_key, tls.certificate)], root_certificates=tls.authority
    )


def channel_credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Mutual TLS, seen from the caller."""
    return grpc.ssl_channel_credentials(
        root_certificates=tls.authority, private_key=tls.private_key, certificate_chain=tls.certificate
    )
