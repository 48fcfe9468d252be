"""One request through a cluster is one trace at a real collector, under the caller's own context."""

import random
from contextlib import AsyncExitStack

import pytest
from openai import AsyncOpenAI

from common.observe.tracing.context import TRACEPARENT
from tests.cluster.drive import PAGE_SIZE
from tests.cluster.house import SIM, house
from tests.cluster.ports import stable_port
from tests.cluster.relay import GrpcRelay, Weather
from tests.observe.tracing.collector import Collector

pytestmark = [pytest.mark.cluster, pytest.mark.calm]

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
LISTEN = {name: stable_port() for name in ("prefill-0", "decode-0")}
ADVERTISED = {name: stable_port() for name in LISTEN}


async def test_a_request_is_one_trace_over_four_processes_and_the_workers_are_told_whose() -> None:
    """HTTP with a caller's context, read on prefill and written on decode. Forwarders before the workers see the
    metadata of the router's calls; the collector sees the spans."""
    async with AsyncExitStack() as stack:
        collector = Collector()
        await collector.start()
        stack.push_async_callback(collector.stop)
        relays = {name: GrpcRelay(ADVERTISED[name], LISTEN[name], weather=Weather(random.Random(0))) for name in LISTEN}
        for relay in relays.values():
            await relay.start()
            stack.push_async_callback(relay.stop)
        await ask_over_http(collector.endpoint)
        await collector.wait(7)
    mine = {span.name: (service, span) for service, _, span in collector.spans if span.trace_id.hex() == TRACE}
    parents = {name: span.parent_span_id.hex() for name, (_, span) in mine.items()}
    gateway, router = mine["POST /v1/completions"][1].span_id.hex(), mine["text_completion demo"][1].span_id.hex()
    parts = ("queue", "place", "prefill", "transfer", "decode")
    assert parents == {"POST /v1/completions": CALLER, "text_completion demo": gateway} | dict.fromkeys(parts, router)
    assert {name: service.removeprefix("baton-") for name, (service, _) in mine.items()} == {
        "POST /v1/completions": "gateway",
        "text_completion demo": "router",
        "queue": "router",
        "place": "router",
        "prefill": "prefill",
        "transfer": "decode",
        "decode": "decode",
    }
    theirs = f"00-{TRACE}-{router}-01"
    assert ("Prefill", theirs) in relays["prefill-0"].traced
    assert ("Reserve", theirs) in relays["decode-0"].traced
    facts = {each.key: each.value for each in mine["text_completion demo"][1].attributes}
    assert facts["gen_ai.usage.input_tokens"].int_value == 8 * PAGE_SIZE
    assert facts["gen_ai.usage.output_tokens"].int_value == 8


async def ask_over_http(collector: str) -> None:
    """One request; its spans are sent at the latest when the processes end."""
    settings = (*SIM, f"tracing.endpoint={collector}", "router.local_prompt_tokens=16", "local.gateways=1")
    of_process = {
        name: (f"listen.port={LISTEN[name]}", f"listen.advertise=127.0.0.1:{ADVERTISED[name]}") for name in LISTEN
    }
    body = {"model": "demo", "prompt": list(range(10, 10 + 8 * PAGE_SIZE)), "max_tokens": 8, "ignore_eos": True}
    async with house(settings=settings, of_process=of_process) as cluster:
        address = f"http://{cluster.cluster.gateway_address()}/v1"
        async with AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as client:
            headers = {TRACEPARENT: f"00-{TRACE}-{CALLER}-01"}
            answer = await client.post(
                "/completions", body=body, cast_to=dict[str, object], options={"headers": headers}
            )
        assert answer["choices"]
