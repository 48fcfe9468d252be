"""Goal: a certificate opens the services of its roles in its own cluster, and nothing else. Over real sockets."""

import asyncio
import shutil
from pathlib import Path

import pytest

from common.config.loader import load
from common.core.address import EVERYWHERE, join_address
from common.core.errors import Forbidden, StartupError, Unavailable
from common.rpc.bind import Bind, Tls
from common.rpc.client import call, grpc_connect
from common.rpc.identity import ALLOWED, Caller, callers_of, check_caller, read_tls
from common.rpc.options import Surface
from common.rpc.server import serve
from protos.baton.v1 import worker_pb2, worker_pb2_grpc
from tests.architecture.source import ROOT
from tests.observe.test_listener import has_ipv6
from tests.rpc.certificates import Authority
from tests.rpc.process import PickyServicer, worker_service

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")


def name(caller: Caller) -> str:
    return caller.name_in("blue")


async def ask(address: str, tls: Tls) -> str:
    async with grpc_connect(Surface.INTERNAL, tls)(address) as channel:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        return (await call(stub.GetStatus, worker_pb2.GetStatusRequest(), peer="w", timeout_s=5)).state


@needs_openssl
def test_a_worker_serves_routers_and_operators_and_refuses_clients(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    worker = authority.sign(name(Caller.WORKER), cluster="blue")
    callers = {caller: authority.sign(name(caller), cluster="blue") for caller in Caller if caller is not Caller.WORKER}

    async def body() -> None:
        server = await serve([worker_service(PickyServicer())], Bind(tls=worker), surface=Surface.INTERNAL)
        for caller in (Caller.ROUTER, Caller.OPERATOR):
            assert await ask(server.address, callers[caller]) == "ready"
        for caller in (Caller.CLIENT, Caller.GATEWAY):
            with pytest.raises(Forbidden, match=f"is not for {caller}"):
                await ask(server.address, callers[caller])
        await server.stop(0)

    asyncio.run(asyncio.wait_for(body(), 60))


@needs_openssl
def test_who_listens_everywhere_is_met_on_every_address_under_the_same_name(tmp_path: Path) -> None:
    """Loopback too, which is where a port-forward of Kubernetes arrives."""
    authority = Authority(tmp_path / "ca")
    worker, router = (authority.sign(name(caller), cluster="blue") for caller in (Caller.WORKER, Caller.ROUTER))

    async def body() -> None:
        bind = Bind(host=EVERYWHERE, tls=worker)
        server = await serve([worker_service(PickyServicer())], bind, surface=Surface.INTERNAL)
        port = int(server.address.rpartition(":")[2])
        for host in ("127.0.0.1", "127.9.8.7", *(["::1"] if has_ipv6() else [])):
            assert await ask(join_address(host, port), router) == "ready"
        await server.stop(0)

    asyncio.run(asyncio.wait_for(body(), 60))


@needs_openssl
def test_a_router_of_another_cluster_is_refused_even_under_the_same_authority(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    worker = authority.sign(name(Caller.WORKER), cluster="blue")
    # It dials as one of ours would, or it would not even trust the worker.
    stranger = authority.sign(Caller.ROUTER.name_in("green"), cluster="blue")

    async def body() -> None:
        server = await serve([worker_service(PickyServicer())], Bind(tls=worker), surface=Surface.INTERNAL)
        with pytest.raises(Forbidden, match="no role of this cluster"):
            await ask(server.address, stranger)
        await server.stop(0)

    asyncio.run(asyncio.wait_for(body(), 60))


@needs_openssl
def test_a_client_certificate_cannot_play_a_worker(tmp_path: Path) -> None:
    """A listener that shows another role's certificate is not trusted by a router, whatever its address."""
    authority = Authority(tmp_path / "ca")
    impostor = authority.sign(name(Caller.CLIENT), cluster="blue")
    router = authority.sign(name(Caller.ROUTER), cluster="blue")

    async def body() -> None:
        server = await serve([worker_service(PickyServicer())], Bind(tls=impostor), surface=Surface.INTERNAL)
        with pytest.raises(Unavailable):
            await ask(server.address, router)
        await server.stop(0)

    asyncio.run(asyncio.wait_for(body(), 60))


def test_every_service_on_the_wire_says_who_may_call_it() -> None:
    found = {
        f"baton.v1.{line.split()[1]}"
        for proto in (ROOT / "protos/baton/v1").glob("*.proto")
        for line in proto.read_text().splitlines()
        if line.startswith("service ")
    }
    assert found == {service for service in ALLOWED if service.startswith("baton.")}


def test_what_is_not_listed_is_for_nobody() -> None:
    with pytest.raises(Forbidden):
        check_caller("/baton.v1.NewService/Do", [name(Caller.ROUTER).encode()], "blue")


def test_an_operator_may_have_a_link_measured_and_touch_no_page() -> None:
    operator = [name(Caller.OPERATOR).encode()]
    check_caller("/baton.v1.KvService/Probe", operator, "blue")
    for method in ("Offer", "Begin", "probe"):
        with pytest.raises(Forbidden):
            check_caller(f"/baton.v1.KvService/{method}", operator, "blue")


def test_only_whole_names_of_the_own_cluster_count() -> None:
    names = [b"router.green.baton", b"xrouter.blue.baton", b"router.blue.baton.example", b"worker.blue.baton"]
    assert callers_of(names, "blue") == {Caller.WORKER}


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")
def test_the_certificate_comes_from_configured_files_or_is_none(tmp_path: Path) -> None:
    assert read_tls(load().cluster) is None
    files, signed = configured(tmp_path, Authority(tmp_path / "signs"))
    tls = read_tls(load(settings=["cluster.name=blue", *files]).cluster)
    assert tls is not None
    assert (tls.certificate, tls.cluster) == (signed.certificate, "blue")
    with pytest.raises(StartupError, match="tls_key_file is empty"):
        read_tls(load(settings=[files[0], files[2]]).cluster)
    (tmp_path / "key").write_text("junk")
    with pytest.raises(StartupError, match="tls_key_file is not PEM"):
        read_tls(load(settings=files).cluster)
    (tmp_path / "key").unlink()
    with pytest.raises(StartupError, match="tls_key_file cannot be read"):
        read_tls(load(settings=files).cluster)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")
def test_half_a_certificate_another_ones_key_and_no_authority_are_called_so_and_never_taken_over(
    tmp_path: Path,
) -> None:
    """A process that starts says which files are wrong; one that runs keeps what it has until all are right."""
    authority = Authority(tmp_path / "signs")
    files, signed = configured(tmp_path, authority)
    section = load(settings=files).cluster
    tls = read_tls(section)
    assert tls is not None
    other = authority.sign("other")
    for stem, pem, complaint in (
        ("cert", signed.certificate[:200], "tls_cert_file and tls_key_file do not belong together"),
        ("key", other.private_key, "do not belong together: KEY_VALUES_MISMATCH"),
        ("ca", signed.authority[:200], "tls_ca_file is no authority"),
    ):
        before = (tmp_path / stem).read_bytes()
        (tmp_path / stem).write_bytes(pem)
        with pytest.raises(StartupError, match=complaint):
            read_tls(section)
        assert tls.latest() == tls
        (tmp_path / stem).write_bytes(before)
    (tmp_path / "cert").write_bytes(other.certificate)
    (tmp_path / "key").write_bytes(other.private_key)
    assert tls.latest().certificate == other.certificate


def configured(folder: Path, authority: Authority) -> tuple[list[str], Tls]:
    """Settings that name three files, and what is in them."""
    signed = authority.sign("first")
    for stem, pem in (("cert", signed.certificate), ("key", signed.private_key), ("ca", signed.authority)):
        (folder / stem).write_bytes(pem)
    return [f"cluster.tls_{stem}_file={folder / stem}" for stem in ("cert", "key", "ca")], signed
