"""Goal: the doctor says what is wrong where the first thing that it asks does not answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from typing import Any

import grpc
import pytest
from rich.console import Console

from common.config.config import Config
from services.local.doctor import doctor


class Mute(grpc.GenericRpcHandler):
    """Every call is taken, and waits until its caller leaves."""

    def service(self, _details: grpc.HandlerCallDetails) -> Any:
        async def wait(_request: bytes, _context: Any) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError("nobody wakes it")

        return grpc.unary_unary_rpc_method_handler(wait)


@asynccontextmanager
async def stuck_router() -> AsyncIterator[str]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Mute(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def test_a_router_that_does_not_answer_is_a_finding_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.local.client.ASK_S", 0.5)
    written = StringIO()
    async with stuck_router() as address:
        is_healthy = await asyncio.wait_for(doctor(Config(), address, console=Console(file=written, width=200)), 20.0)
    assert not is_healthy
    assert "the port is taken, but no router answers" in written.getvalue()
    assert "model files" in written.getvalue()
