"""Goal: people's tools work against a cluster with TLS. Real certificates, real processes, the real command line."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

import pytest

from clients.asynchronous import AsyncBaton
from clients.errors import BatonCallError
from clients.identity import Identity
from clients.synchronous import Baton
from common.rpc.identity import Caller
from protos.baton.v1 import generation_pb2, types_pb2
from tests.cluster.house import SIM, House, house
from tests.cluster.mutual import NAME, mount, serve_with
from tests.observe.test_listener import has_ipv6
from tests.rpc.certificates import Authority

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.calm,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates"),
]
REQUEST = generation_pb2.GenerateRequest(
    token_ids=generation_pb2.TokenIds(ids=range(10, 30)),
    sampling=types_pb2.SamplingParams(max_tokens=4, ignore_eos=True),
)


async def baton(*arguments: str) -> tuple[int, str]:
    """The command line, to its end, as somebody types it whose environment says nothing."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.local", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean,
    )
    told, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, told.decode()


async def test_every_command_that_dials_and_the_client_work_with_a_certificate_and_not_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "ca")
    operator = mount(authority, tmp_path / "operator", Caller.OPERATOR)
    client = mount(authority, tmp_path / "client", Caller.CLIENT)
    serve_with(monkeypatch, mount(authority, tmp_path / "ours", Caller.ROUTER, Caller.WORKER, Caller.OPERATOR))
    # Everywhere, told as IPv6 where there is any: as in a pod of Kubernetes.
    host = "::1" if has_ipv6() else "127.0.0.1"
    listen = ("listen.host=*", f"listen.advertise={host}", f"transfer.host={host}", "transfer.channel=gloo")
    async with house(settings=(*SIM, *listen, f"cluster.name={NAME}")) as cluster:
        await check_commands(cluster, operator, client)
        await check_clients(cluster, client)
        await cluster.wait_whole()  # who was drained has a successor


async def check_commands(cluster: House, operator: Path, client: Path) -> None:
    shown = ("--tls", str(operator), "--cluster", NAME)
    router = ("--router", cluster.cluster.router_address())
    tokens = ("--tokens", "1,2,3", "--max-tokens", "4", "--ignore-eos", "--request-id", "mine")
    expected = {
        ("generate", *tokens, *router): "",
        ("top", "--count", "1", *router): "decode-0",
        ("waterfall", "mine", *router): "finished",
        ("explain", "mine", *router): "decode-0",
        ("doctor", *router): "1 of 1 carry pages",
        ("drain", "prefill-0", "--grace", "5", *router): "prefill-0 leaves",
    }
    for command, word in expected.items():
        code, told = await baton(*shown, *command)
        assert code == 0, told
        assert word in told, told
    code, told = await baton("top", "--count", "1", *router)
    assert code != 0, told
    code, told = await baton("--tls", str(client), "--cluster", NAME, "top", "--count", "1", *router)
    assert code != 0, told
    assert "not for client" in told


async def check_clients(cluster: House, folder: Path) -> None:
    address = cluster.cluster.router_address()
    identity = Identity.read(folder, cluster=NAME)
    async with AsyncBaton(address, credentials=identity) as asked:
        assert sum([delta.num_tokens async for each in asked.generate(REQUEST) for delta in each.deltas]) == 4

    def read() -> str:
        with Baton(address, credentials=identity) as asked:
            return asked.model().name

    assert await asyncio.to_thread(read) == "demo"
    async with AsyncBaton(address) as stranger:
        with pytest.raises(BatonCallError):
            await stranger.model(timeout_s=3.0)
