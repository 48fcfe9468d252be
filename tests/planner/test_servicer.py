"""Goal: KEDA gets what the outlook knows, an error for what it does not, and news at once. Method: real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest

from common.core.clock import ManualClock
from common.observe.metric import ProcessRole
from common.observe.registry import Metrics
from common.rpc.bind import Bind
from common.rpc.deadline import DeadlinePolicy
from common.rpc.options import Surface
from common.rpc.server import serve
from protos.externalscaler import externalscaler_pb2 as pb
from protos.externalscaler import externalscaler_pb2_grpc
from services.planner.decide import decide
from services.planner.load import Crew, Load, Signals
from services.planner.outlook import Outlook
from services.planner.servicer import ENDLESS, ScalerServicer, scaler_service
from services.planner.settings import Bounds
from tests.planner.loads import SETTINGS, load

PAIR = replace(SETTINGS, prefill=Bounds(least=0, most=8), decode=Bounds(least=0, most=8), idle_s=5.0)
NOBODY = load(prefill=Crew(), decode=Crew())
Stub = Any
See = Callable[[Load | None], None]


@asynccontextmanager
async def keda() -> AsyncIterator[tuple[Stub, See]]:
    clock = ManualClock(1000.0)
    outlook = Outlook(clock, interval_s=1.0)

    def see(seen: Load | None) -> None:
        clock.advance(1.0)
        signals = Signals(at=clock.monotonic(), load=seen)
        outlook.note(signals, decide(signals, outlook.state, PAIR))

    server = await serve(
        [scaler_service(ScalerServicer(outlook, metrics=Metrics(ProcessRole.PLANNER), clock=clock))],
        Bind(),
        surface=Surface.CLIENT,
        deadlines=DeadlinePolicy(endless=ENDLESS),
    )
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield externalscaler_pb2_grpc.ExternalScalerStub(channel), see
    await server.stop(0.0)


def ref(metric: str, **metadata: str) -> pb.ScaledObjectRef:
    return pb.ScaledObjectRef(name="demo-prefill", namespace="ns", scalerMetadata={"metric": metric, **metadata})


async def test_a_trigger_gets_its_target_and_its_value() -> None:
    async with keda() as (stub, see):
        see(load(backlog_s=2.0, pages_used=3, pages_each=4, sequences=1))
        wanted = ref("decode-kv-usage", target="0.75")
        (spec,) = (await stub.GetMetricSpec(wanted, timeout=5)).metricSpecs
        assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == ("decode-kv-usage", 1, 0.75)
        asked = pb.GetMetricsRequest(scaledObjectRef=wanted, metricName="s0-decode-kv-usage")
        (value,) = (await stub.GetMetrics(asked, timeout=5)).metricValues
        assert (value.metricName, value.metricValue, value.metricValueFloat) == ("s0-decode-kv-usage", 1, 0.75)


async def test_what_is_not_known_is_an_error_and_never_zero() -> None:
    async with keda() as (stub, see):
        for call in (stub.IsActive(ref("prefill-queued-tokens")), stub.GetMetrics(_asked("prefill-queued-tokens"))):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        see(load())
        see(None)
        assert (await stub.IsActive(ref("prefill-queued-tokens"), timeout=5)).result
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetMetrics(_asked("prefill-queued-tokens"), timeout=5)
        (held,) = (await stub.GetMetrics(_asked("prefill-desired-replicas"), timeout=5)).metricValues
        assert held.metricValueFloat == 1


async def test_somebody_who_waits_wakes_both_roles_at_once() -> None:
    async with keda() as (stub, see):
        for _ in range(8):
            see(NOBODY)
        streams = [stub.StreamIsActive(ref(f"{role}-desired-replicas")) for role in ("prefill", "decode")]
        said = [aiter(stream) for stream in streams]
        assert [(await asyncio.wait_for(anext(each), 5)).result for each in said] == [False, False]
        see(load(sequences=1, queued=1, prefill=Crew(), decode=Crew()))
        assert [(await asyncio.wait_for(anext(each), 5)).result for each in said] == [True, True]
        for stream in streams:
            stream.cancel()


@pytest.mark.parametrize("metadata", [{"metric": "nonsense"}, {"metric": "decode-kv-usage", "target": "0"}, {}])
async def test_a_trigger_that_means_nothing_is_refused(metadata: dict[str, str]) -> None:
    async with keda() as (stub, _see):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetMetricSpec(pb.ScaledObjectRef(name="x", scalerMetadata=metadata), timeout=5)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def _asked(metric: str) -> pb.GetMetricsRequest:
    return pb.GetMetricsRequest(scaledObjectRef=ref(metric), metricName=metric)
