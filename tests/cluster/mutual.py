"""A local cluster with mutual TLS: certificates in folders, and an environment that names them."""

from pathlib import Path

import pytest

from common.rpc.identity import Caller
from tests.rpc.certificates import Authority

NAME = "blue"
"""Of the cluster: who is not named after it is nobody there."""


def mount(authority: Authority, folder: Path, *callers: Caller) -> Path:
    """A folder as Kubernetes mounts a Secret."""
    folder.mkdir()
    tls = authority.sign(*(caller.name_in(NAME) for caller in callers))
    for name, pem in (("tls.crt", tls.certificate), ("tls.key", tls.private_key), ("ca.crt", tls.authority)):
        (folder / name).write_bytes(pem)
    return folder


def serve_with(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Every process that is started from now on, and this test's own client, has this certificate."""
    for part, name in (("CERT", "tls.crt"), ("KEY", "tls.key"), ("CA", "ca.crt")):
        monkeypatch.setenv(f"BATON_CLUSTER__TLS_{part}_FILE", str(folder / name))
    monkeypatch.setenv("BATON_CLUSTER__NAME", NAME)
