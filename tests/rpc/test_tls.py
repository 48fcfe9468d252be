"""Mutual TLS: both sides show a certificate of the same authority, or nothing is said."""

import asyncio
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from common.config.loader import load
from common.core.errors import Unavailable
from common.rpc.bind import Bind, Tls
from common.rpc.client import call, grpc_connect
from common.rpc.identity import read_tls
from common.rpc.options import Surface
from common.rpc.server import serve
from protos.baton.v1 import worker_pb2, worker_pb2_grpc
from tests.rpc.process import PickyServicer, worker_service

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")


def openssl(*arguments: str, folder: Path) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30)


def make_identity(folder: Path) -> Tls:
    """An authority of its own and one certificate for localhost."""
    folder.mkdir()
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1")
    openssl("req", "-x509", *curve, "-subj", "/CN=ca", "-keyout", "ca.key", "-out", "ca.pem", folder=folder)
    openssl("req", *curve[:-2], "-subj", "/CN=w", "-keyout", "key.pem", "-out", "w.csr", folder=folder)
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    sign = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile", "names")
    openssl("x509", "-req", "-in", "w.csr", *sign, "-out", "w.pem", folder=folder)
    return Tls(
        certificate=(folder / "w.pem").read_bytes(),
        private_key=(folder / "key.pem").read_bytes(),
        authority=(folder / "ca.pem").read_bytes(),
    )


async def ask(address: str, tls: Tls | None) -> str:
    async with grpc_connect(Surface.INTERNAL, tls)(address) as channel:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        return (await call(stub.GetStatus, worker_pb2.GetStatusRequest(), peer="w", timeout_s=5)).state


def test_a_certificate_of_the_authority_is_let_in_and_nobody_else(tmp_path: Path) -> None:
    ours, foreign = make_identity(tmp_path / "ours"), make_identity(tmp_path / "foreign")

    async def body() -> None:
        server = await serve([worker_service(PickyServicer())], Bind(tls=ours), surface=Surface.INTERNAL)
        assert await ask(server.address, ours) == "ready"
        for stranger in (None, foreign):
            with pytest.raises(Unavailable):
                await ask(server.address, stranger)
        await server.stop(0)

    asyncio.run(asyncio.wait_for(body(), 60))


def test_a_renewed_certificate_is_shown_without_a_restart_and_half_a_one_is_not(tmp_path: Path) -> None:
    before, after = make_identity(tmp_path / "before"), make_identity(tmp_path / "after")
    files = {"cert": tmp_path / "tls.crt", "key": tmp_path / "tls.key", "ca": tmp_path / "ca.crt"}

    def mount(tls: Tls) -> None:
        for name, pem in (("cert", tls.certificate), ("key", tls.private_key), ("ca", tls.authority)):
            files[name].write_bytes(pem)

    mount(before)
    found = read_tls(load(settings=[f"cluster.tls_{name}_file={path}" for name, path in files.items()]).cluster)
    assert found is not None
    own = replace(found, cluster="")  # these certificates name addresses, not roles

    async def body() -> None:
        server = await serve([worker_service(PickyServicer())], Bind(tls=own), surface=Surface.INTERNAL)
        assert await ask(server.address, before) == "ready"
        files["key"].unlink()
        assert await ask(server.address, before) == "ready"
        mount(after)
        assert await ask(server.address, after) == "ready"
        with pytest.raises(Unavailable):
            await ask(server.address, before)
        # A caller with the same files dials with what they hold by then.
        assert await ask(server.address, replace(own, certificate=b"", private_key=b"")) == "ready"
        await server.stop(0)

    asyncio.run(asyncio.wait_for(body(), 60))
