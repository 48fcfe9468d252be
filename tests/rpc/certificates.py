"""Certificates for tests, made with openssl: one authority, and identities that name roles of a cluster."""

import subprocess
from pathlib import Path

from common.rpc.bind import Tls

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Authority:
    """Signs into `folder`, which it makes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self._openssl("req", "-x509", *CURVE, "-days", "1", "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.crt")

    def sign(self, *names: str, cluster: str = "") -> Tls:
        """A certificate with these DNS names and addresses, and its files under the first of them."""
        stem = names[0]
        self._openssl("req", *CURVE, "-subj", "/CN=x", "-keyout", f"{stem}.key", "-out", f"{stem}.csr")
        (self.folder / "names").write_text("subjectAltName=" + ",".join(map(_alternative, names)))
        sign = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "names")
        self._openssl("x509", "-req", "-in", f"{stem}.csr", *sign, "-out", f"{stem}.crt")
        return Tls(
            certificate=(self.folder / f"{stem}.crt").read_bytes(),
            private_key=(self.folder / f"{stem}.key").read_bytes(),
            authority=(self.folder / "ca.crt").read_bytes(),
            cluster=cluster,
        )

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True, timeout=30)


def _alternative(name: str) -> str:
    return f"IP:{name}" if name.replace(".", "").isdigit() else f"DNS:{name}"
