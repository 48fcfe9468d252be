"""What a handler's outcome looks like to the caller, over real sockets."""

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
import structlog

from common.core.errors import (
    BatonError,
    Cancelled,
    ContextLengthExceeded,
    DeadlineExceeded,
    InternalError,
    Reason,
    Refused,
    Unsupported,
)
from common.observe import catalogue
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.rpc.bind import Bind
from common.rpc.client import call, grpc_connect, stream
from common.rpc.deadline import DEADLINE_KEY, DeadlinePolicy
from common.rpc.errors import ORIGIN_FACT, TRANSPORT
from common.rpc.options import LIMITS, Surface
from common.rpc.server import serve
from common.rpc.status import PUSHBACK_KEY
from protos.baton.v1 import worker_pb2, worker_pb2_grpc
from tests.rpc.process import PickyServicer, worker_service

STATUS = "/baton.v1.WorkerService/GetStatus"


class Rig:
    """A served PickyServicer and a channel to it."""

    def __init__(self, servicer: PickyServicer, channel: grpc.aio.Channel, address: str) -> None:
        self.servicer = servicer
        self.channel = channel
        self.address = address
        self.stub = worker_pb2_grpc.WorkerServiceStub(channel)

    async def fail(self, reason: str) -> BatonError:
        request = worker_pb2.CancelWorkRequest(items=[worker_pb2.CancelItem(reason=reason)])
        with pytest.raises(BatonError) as caught:
            await call(self.stub.CancelWork, request, peer="worker w0", timeout_s=5)
        return caught.value


@asynccontextmanager
async def rig(
    surface: Surface = Surface.INTERNAL, deadlines: DeadlinePolicy | None = None, metrics: Metrics | None = None
) -> AsyncIterator[Rig]:
    servicer = PickyServicer()
    server = await serve([worker_service(servicer)], Bind(), surface=surface, deadlines=deadlines, metrics=metrics)
    async with grpc_connect(surface)(server.address) as channel:
        yield Rig(servicer, channel, server.address)
    await server.stop(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def test_a_baton_error_arrives_as_itself_with_retry_quota_and_pushback() -> None:
    async def body() -> None:
        async with rig() as it:
            error = await it.fail("refused")
            assert isinstance(error, Refused)
            assert (error.message, error.reason) == ("queue is full", Reason.QUEUE_FULL)
            assert (error.retry_after_s, error.quota_subject) == (2.5, "tenant:a")
            assert error.facts == {"queue": "9"}
            with pytest.raises(grpc.aio.AioRpcError) as raw:
                await it.stub.CancelWork(worker_pb2.CancelWorkRequest(items=[worker_pb2.CancelItem(reason="refused")]))
            assert raw.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (PUSHBACK_KEY, "2500") in tuple(raw.value.trailing_metadata())
            assert DEADLINE_KEY in dict(raw.value.trailing_metadata())

    run(body)


def test_an_error_from_a_handlers_task_group_arrives_as_itself() -> None:
    async def body() -> None:
        async with rig() as it:
            assert isinstance(await it.fail("group"), Refused)

    run(body)


def test_a_hundred_long_violations_still_arrive_as_a_rich_status() -> None:
    async def body() -> None:
        async with rig() as it:
            error = await it.fail("invalid")
            assert isinstance(error, ContextLengthExceeded)
            assert error.violations[0].field == "field0"
            assert "more violations" in error.violations[-1].description

    run(body)


@pytest.mark.parametrize("reason", ["bug", "self-cancel", "timeout"])
def test_an_unexpected_exception_is_internal_with_an_id_and_is_logged_once(reason: str) -> None:
    async def body() -> None:
        async with rig() as it:
            error = await it.fail(reason)
            assert isinstance(error, InternalError)
            assert "secret" not in str(error)
            assert "KeyError" not in str(error)
            assert len(lines) == 1
            assert (lines[0]["event"], lines[0]["error_id"]) == ("rpc_failed", error.facts["error_id"])

    with structlog.testing.capture_logs() as lines:
        run(body)


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xff\xff", b"\x0a\x05\x0a\x03\xff\xfe\xfd", b"\x0a" * 3, b"\x0b" * 101 + b"\x0c" * 101],
    ids=["not protobuf", "invalid UTF-8", "cut short", "nested 101 deep"],
)
def test_bytes_that_do_not_decode_are_an_invalid_argument_without_python_names(raw: bytes) -> None:
    async def body() -> None:
        async with rig() as it:
            method = it.channel.unary_unary("/baton.v1.WorkerService/CancelWork")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(raw, timeout=5)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "CancelWork" in (caught.value.details() or "")
            for name in ("google", "Decode", "Error", "pb2", "Traceback"):
                assert name not in (caught.value.details() or "")

    run(body)


def test_an_unknown_method_is_unimplemented_with_details() -> None:
    """Whatever its name and however it would stream; made-up names fill no label."""

    async def body() -> None:
        metrics = Metrics(ProcessRole.DECODE)
        async with rig(metrics=metrics) as it:
            for number in range(60):
                name = f"/baton.v1.Nothing/Made{number}"
                with pytest.raises(Unsupported, match=name) as caught:
                    await call(it.channel.unary_unary(name), b"", peer="w0", timeout_s=5)  # type: ignore[arg-type]
                assert ORIGIN_FACT not in caught.value.facts
            with pytest.raises(Unsupported):
                async with stream(it.channel.unary_stream("/x/Y"), b"", peer="w0", timeout_s=5) as answers:  # type: ignore[arg-type]
                    await anext(answers)
        assert metrics.value(catalogue.RPCS, method="other", code="UNIMPLEMENTED") == 61

    run(body)


def test_a_caller_that_is_gone_is_no_fault_of_the_handler() -> None:
    async def body() -> None:
        async with rig() as it:
            assert isinstance(await it.fail("gone"), Cancelled)

    with structlog.testing.capture_logs() as lines:
        run(body)
    assert not lines


@pytest.mark.parametrize("method", ["GetStatus", "Subscribe"])
def test_a_client_whose_request_does_not_arrive_is_told_so(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """grpc waits for ever, and what has arrived stays in memory: 915 MiB of a router for 4 connections of 200 calls."""
    monkeypatch.setattr("common.rpc.server.UPLOAD_S", 0.2)

    async def body() -> None:
        metrics = Metrics(ProcessRole.DECODE)
        async with rig(Surface.CLIENT, metrics=metrics) as it:
            path = f"/baton.v1.WorkerService/{method}"
            open_call: Any = it.channel.stream_stream(path)
            with pytest.raises(grpc.aio.AioRpcError, match=r"did not arrive within 0\.2 s") as caught:
                await anext(aiter(open_call()))
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            empty = open_call()
            await empty.done_writing()
            with pytest.raises(grpc.aio.AioRpcError, match="ended without a request") as caught:
                await anext(aiter(empty))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert metrics.value(catalogue.RPCS, method=path, code="DEADLINE_EXCEEDED") == 1
            await it.stub.GetStatus(worker_pb2.GetStatusRequest(), timeout=5)
            async with stream(it.stub.Subscribe, worker_pb2.SubscribeRequest(), peer="w0", timeout_s=5) as answers:
                await anext(answers)

    run(body)


def test_calls_are_counted_by_how_they_ended() -> None:
    async def body() -> None:
        metrics = Metrics(ProcessRole.DECODE)
        async with rig(metrics=metrics) as it:
            await it.stub.GetStatus(worker_pb2.GetStatusRequest(), timeout=5)
            await it.fail("refused")
            await it.fail("bug")
            with pytest.raises(grpc.aio.AioRpcError):  # the health servicer aborts by itself
                await it.channel.unary_unary("/grpc.health.v1.Health/Check")(b"\x0a\x01x", timeout=5)
        counted = {
            (method.rpartition("/")[2], code): metrics.value(catalogue.RPCS, method=method, code=code)
            for method in (STATUS, "/baton.v1.WorkerService/CancelWork", "/grpc.health.v1.Health/Check")
            for code in ("OK", "RESOURCE_EXHAUSTED", "INTERNAL", "NOT_FOUND")
        }
        assert {key for key, count in counted.items() if count} == {
            ("GetStatus", "OK"),
            ("CancelWork", "RESOURCE_EXHAUSTED"),
            ("CancelWork", "INTERNAL"),
            ("Check", "NOT_FOUND"),
        }

    run(body)


def test_an_oversized_message_and_oversized_metadata_are_refused_and_the_server_lives_on() -> None:
    async def body() -> None:
        async with rig(Surface.CLIENT) as it, grpc.aio.insecure_channel(it.address) as bare:
            limit = LIMITS[Surface.CLIENT].max_message_bytes
            method = bare.unary_unary(STATUS)
            with pytest.raises(Refused) as caught:
                await call(method, b"x" * (limit + 1), peer="w", timeout_s=5)
            assert caught.value.facts[ORIGIN_FACT] == TRANSPORT
            with pytest.raises(grpc.aio.AioRpcError) as heavy:
                await method(b"", metadata=(("x-heavy", "v" * (20 << 10)),), timeout=5)
            assert heavy.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await call(it.stub.GetStatus, worker_pb2.GetStatusRequest(), peer="w", timeout_s=5)

    run(body)


def test_a_call_without_a_deadline_gets_the_default_and_is_told_so() -> None:
    async def body() -> None:
        async with rig(deadlines=DeadlinePolicy(default_s=7.0, max_s=20.0)) as it:
            running = it.stub.GetStatus(worker_pb2.GetStatusRequest())
            answer = await running
            assert 6.5 < answer.counters["remaining_s"] <= 7.0
            assert (DEADLINE_KEY, "7000") in tuple(await running.trailing_metadata())
            capped = await it.stub.GetStatus(worker_pb2.GetStatusRequest(), timeout=1000)
            assert capped.counters["remaining_s"] <= 20.0

    run(body)


def test_the_default_deadline_is_enforced_on_a_handler_that_never_returns() -> None:
    async def body() -> None:
        async with rig(deadlines=DeadlinePolicy(default_s=0.2)) as it:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await it.stub.Drain(worker_pb2.DrainRequest())
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert it.servicer.seen == ["drain over"]

    run(body)


@pytest.mark.parametrize("timeout_s", [0.001, 0.0, -1.0])
def test_a_deadline_in_the_past_never_succeeds(timeout_s: float) -> None:
    async def body() -> None:
        async with rig() as it:
            with pytest.raises(DeadlineExceeded):
                await call(it.stub.Drain, worker_pb2.DrainRequest(), peer="w", timeout_s=timeout_s)

    run(body)


def test_a_callers_deadline_ends_the_handler() -> None:
    async def body() -> None:
        async with rig() as it:
            with pytest.raises(DeadlineExceeded):
                await call(it.stub.Drain, worker_pb2.DrainRequest(), peer="w", timeout_s=0.2)
            await asyncio.wait_for(it.servicer.over.wait(), 1)

    run(body)


def test_leaving_a_stream_early_closes_the_handler() -> None:
    async def body() -> None:
        async with rig() as it:
            received = 0
            async with stream(it.stub.Subscribe, worker_pb2.SubscribeRequest(), peer="w", timeout_s=None) as responses:
                async for _ in responses:
                    received += 1
                    if received == 3:
                        break
            await asyncio.wait_for(it.servicer.over.wait(), 1)
            assert it.servicer.seen == ["subscribe over"]

    run(body)


@pytest.mark.parametrize(("router", "outcome"), [("fails", Refused), ("ends", None)])
def test_a_stream_ends_with_the_handlers_outcome(router: str, outcome: type[BatonError] | None) -> None:
    async def body() -> None:
        async with rig() as it:
            request = worker_pb2.SubscribeRequest(router={"router_id": router})
            sequences: list[int] = []
            raised: Any = None
            try:
                async with stream(it.stub.Subscribe, request, peer="w", timeout_s=5) as responses:
                    async for response in responses:
                        sequences.append(response.sequence)  # noqa: PERF401 - kept when the stream fails
            except BatonError as error:
                raised = type(error)
            assert sequences == [1, 2, 3]
            assert raised is outcome
            assert it.servicer.seen == ["subscribe over"]

    run(body)


@pytest.mark.parametrize(
    ("surface", "fault", "within_s"),
    [
        (Surface.INTERNAL, signal.SIGKILL, 0.5),
        (Surface.INTERNAL, signal.SIGSTOP, 3.5),
        (Surface.CLIENT, signal.SIGSTOP, 5.0),
    ],
)
def test_the_handler_ends_when_its_client_process_is_killed_or_frozen(
    surface: Surface, fault: signal.Signals, within_s: float
) -> None:
    async def body() -> None:
        async with rig(surface) as it:
            client = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.rpc.process", "subscribe", it.address, stdout=asyncio.subprocess.PIPE
            )
            assert client.stdout is not None
            await asyncio.wait_for(client.stdout.readline(), 20)
            client.send_signal(fault)
            try:
                await asyncio.wait_for(it.servicer.over.wait(), within_s)
            finally:
                with suppress(ProcessLookupError):
                    client.kill()
                await client.wait()

    run(body)


def test_a_reader_that_reads_nothing_does_not_outlive_the_servers_deadline(caplog: pytest.LogCaptureFixture) -> None:
    async def body() -> None:
        async with rig(deadlines=DeadlinePolicy(default_s=0.5, endless=frozenset())) as it:
            request = worker_pb2.SubscribeRequest(router={"router_id": "floods"})
            running = it.stub.Subscribe(request)
            await asyncio.wait_for(it.servicer.over.wait(), 2)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                async for _ in running:
                    pass
            assert caught.value.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}

    run(body)
    assert not [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


NOBODY_THERE = "ExecuteBatchError raised in core"
"""grpc's own line, behind our handler: the caller left in the moment its answer was written."""


def test_calls_that_end_at_awkward_moments_leave_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    """Cancels and deadlines at random times, while handlers answer, fail and stream."""
    seed = 11
    print(f"seed={seed}")
    chance = random.Random(seed)

    async def one(it: Rig) -> None:
        timeout_s = chance.choice([0.0005, 0.002, 0.005, 0.02])
        reason = chance.choice(["refused", "group", "bug", ""])
        try:
            match chance.randrange(3):
                case 0:
                    request = worker_pb2.CancelWorkRequest(items=[worker_pb2.CancelItem(reason=reason)])
                    await call(it.stub.CancelWork, request, peer="w", timeout_s=timeout_s)
                case 1:
                    await asyncio.wait_for(it.stub.Drain(worker_pb2.DrainRequest()), timeout_s)
                case _:
                    router = {"router_id": chance.choice(["fails", "ends", ""])}
                    request = worker_pb2.SubscribeRequest(router=router)
                    async with stream(it.stub.Subscribe, request, peer="w", timeout_s=timeout_s) as responses:
                        async for _ in responses:
                            if chance.random() < 0.3:
                                return
        except (BatonError, TimeoutError):
            return

    async def body() -> None:
        async with rig() as it:
            for _ in range(30):
                await asyncio.gather(*(one(it) for _ in range(10)))
            await call(it.stub.GetStatus, worker_pb2.GetStatusRequest(), peer="w", timeout_s=5)

    with structlog.testing.capture_logs() as lines:
        run(body)
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert not [error for error in errors if not error.startswith(NOBODY_THERE)]
    assert all(line["event"] == "rpc_failed" and isinstance(line["exc_info"], KeyError) for line in lines)
