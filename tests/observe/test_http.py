"""Goal: /metrics, /healthz and /readyz answer, and nothing a stranger sends hurts. Method: a real loopback socket."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from common.core.clock import ManualClock
from common.observe import catalogue, http
from common.observe.health import Condition, LoopProgress, Readiness
from common.observe.http import HealthServer, standard_pages
from common.observe.metric import ProcessRole
from common.observe.process import ProcessGauges
from common.observe.registry import Metrics


class Service:
    """The pieces behind the pages, so that a test can turn them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics(ProcessRole.DECODE)
        self.progress = LoopProgress(self.clock, lambda: 0, stall_s=10)
        self.readiness = Readiness([Condition.TOKEN_GENERATED])
        gauges = ProcessGauges(self.metrics, "0.1.0")
        self.server = HealthServer(standard_pages(self.metrics, self.progress, self.readiness, refresh=gauges.refresh))

    async def ask(self, raw: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(raw)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer

    async def get(self, path: str) -> bytes:
        return await self.ask(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())


def with_service(body: Callable[[Service], Awaitable[None]]) -> None:
    """Run `body` while the listener is open."""

    async def run() -> None:
        service = Service()
        async with service.server:
            await body(service)

    asyncio.run(run())


def test_metrics_are_scraped_with_fresh_process_gauges() -> None:
    async def body(service: Service) -> None:
        service.metrics.add(catalogue.GENERATED_TOKENS, 3)
        answer = await service.get("/metrics")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4")
        assert b'baton_generated_tokens_total{role="decode"} 3.0' in answer
        assert service.metrics.value(catalogue.PROCESS_MEMORY_BYTES) > 1e6
        assert b'baton_build_info{python="3.' in answer

    with_service(body)


def test_health_and_readiness_answer_200_or_503() -> None:
    async def body(service: Service) -> None:
        assert (await service.get("/healthz")).startswith(b"HTTP/1.1 200")
        unready = await service.get("/readyz")
        assert unready.startswith(b"HTTP/1.1 503")
        assert unready.endswith(b'{"ready": false, "missing": ["token_generated"]}\n')
        service.readiness.meet(Condition.TOKEN_GENERATED)
        assert (await service.get("/readyz?verbose")).startswith(b"HTTP/1.1 200")
        service.clock.advance(11)
        assert (await service.get("/healthz")).startswith(b"HTTP/1.1 503")

    with_service(body)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"GET /secret HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /../etc/passwd HTTP/1.1\r\n\r\n", b"404"),
        (b"\x16\x03\x01\x00\xee\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 20000 + b"\r\n\r\n", b"400"),
    ],
)
def test_bad_requests_are_answered_and_the_listener_lives(raw: bytes, status: bytes) -> None:
    async def body(service: Service) -> None:
        assert (await service.ask(raw)).startswith(b"HTTP/1.1 " + status)
        assert (await service.get("/healthz")).startswith(b"HTTP/1.1 200")

    with_service(body)


def test_a_head_request_gets_no_body() -> None:
    async def body(service: Service) -> None:
        assert (await service.ask(b"HEAD /healthz HTTP/1.1\r\n\r\n")).endswith(b"\r\n\r\n")

    with_service(body)


def test_silent_connections_are_bounded_and_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "DEADLINE_S", 0.2)

    async def body(service: Service) -> None:
        silent = [await asyncio.open_connection("127.0.0.1", service.server.port) for _ in range(40)]
        for reader, writer in silent:
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await asyncio.wait_for(reader.readexactly(1), 5)
            writer.close()
        assert (await service.get("/healthz")).startswith(b"HTTP/1.1 200")

    with_service(body)


def test_idle_connections_do_not_keep_a_question_waiting() -> None:
    async def body(service: Service) -> None:
        idle = [
            await asyncio.open_connection("127.0.0.1", service.server.port) for _ in range(3 * http.MAX_CONNECTIONS)
        ]
        async with asyncio.timeout(2.0):  # far below the deadline of an idle one
            for _ in range(3):
                assert (await service.get("/healthz")).startswith(b"HTTP/1.1 200")
        for _reader, writer in idle:
            writer.close()

    with_service(body)
