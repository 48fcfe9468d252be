"""One request through a cluster is one trace at a real collector, under the caller's own context."""

from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from common.observe.tracing.context import TRACEPARENT
from protos.baton.v1 import generation_pb2, generation_pb2_grpc, types_pb2
from tests.cluster.drive import PAGE_SIZE
from tests.cluster.house import SIM, house
from tests.observe.tracing.collector import Collector

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def collector() -> AsyncIterator[Collector]:
    made = Collector()
    await made.start()
    yield made
    await made.stop()


async def test_an_http_request_is_the_parent_of_what_the_router_does(collector: Collector) -> None:
    settings = (*SIM, f"tracing.endpoint={collector.endpoint}", "tracing.sample_ratio=1", "local.gateways=1")
    collector.spans.clear()
    async with house(settings=settings) as cluster:
        body = {"model": "demo", "prompt": [10, 11, 12], "max_tokens": 2, "temperature": 0}
        async with AsyncOpenAI(base_url=f"http://{cluster.cluster.gateway_address()}/v1", api_key="none") as client:
            answer = await client.post("/completions", body=body, cast_to=dict[str, object])
        assert answer["choices"]
    await collector.wait(1)
    told = [(service, span) for service, _instance, span in collector.spans]
    (gateway,) = [span for service, span in told if service == "baton-gateway"]
    mine = [span for _service, span in told if span.trace_id == gateway.trace_id]
    assert gateway.name == "POST /v1/completions"
    assert gateway.parent_span_id == b""
    assert [span.name for span in mine if span.parent_span_id == gateway.span_id] == ["text_completion demo"]


async def test_a_relayed_request_is_one_trace_over_three_processes(collector: Collector) -> None:
    settings = (*SIM, f"tracing.endpoint={collector.endpoint}", "router.local_prompt_tokens=16")
    async with house(settings=settings) as cluster:
        async with grpc.aio.insecure_channel(cluster.cluster.router_address()) as channel:
            ask = generation_pb2.GenerateRequest(
                token_ids=generation_pb2.TokenIds(ids=range(10, 10 + 8 * PAGE_SIZE)),
                sampling=types_pb2.SamplingParams(max_tokens=8, ignore_eos=True),
            )
            metadata = ((TRACEPARENT, f"00-{TRACE}-{CALLER}-01"),)
            calls = generation_pb2_grpc.GenerationServiceStub(channel)
            assert [reply async for reply in calls.Generate(ask, metadata=metadata, timeout=30)]
        await collector.wait(6)
        collector.spans[:] = [each for each in collector.spans if each[2].trace_id.hex() == TRACE]
    told = {span.name: (service, span) for service, _instance, span in collector.spans}
    assert {span.trace_id.hex() for _service, span in told.values()} == {TRACE}
    (root,) = [span for _service, span in told.values() if span.parent_span_id.hex() == CALLER]
    facts = {each.key: each.value for each in root.attributes}
    assert facts["gen_ai.usage.input_tokens"].int_value == 8 * PAGE_SIZE
    assert facts["gen_ai.usage.output_tokens"].int_value == 8
    services = {name: service for name, (service, _span) in told.items()}
    assert services["prefill"] == "baton-prefill"
    assert services["transfer"] == services["decode"] == "baton-decode"
    assert services["queue"] == services["place"] == "baton-router"
