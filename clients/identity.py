"""How a client shows who it is to a cluster with TLS, and knows that a router answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

Options = tuple[tuple[str, int | str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """PEM bytes: a certificate for `client.<cluster>.baton`, its key, and the authority that signed the routers'."""

    cluster: str
    certificate: bytes
    private_key: bytes
    authority: bytes

    @classmethod
    def read(cls, folder: Path | str, *, cluster: str) -> Self:
        """tls.crt, tls.key and ca.crt, as Kubernetes mounts a Secret. Raises OSError."""
        files = Path(folder)
        return cls(
            cluster=cluster,
            certificate=(files / "tls.crt").read_bytes(),
            private_key=(files / "tls.key").read_bytes(),
            authority=(files / "ca.crt").read_bytes(),
        )

    @property
    def credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            root_certificates=self.authority, private_key=self.private_key, certificate_chain=self.certificate
        )

    @property
    def options(self) -> Options:
        """Routers' certificates name what they are, not where: addresses of pods are not known beforehand."""
        return (("grpc.ssl_target_name_override", f"router.{self.cluster}.baton"),)
