"""Goal: what a collector gets is one trace per request. Method: the exporter against the real service on a socket."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from threading import Event

import pytest
import pytest_asyncio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from common.config.sections.tracing import TracingSection
from common.core.clock import ManualClock
from common.core.entropy import SeededEntropy
from common.observe.tracing.context import enter_trace, parse_traceparent
from common.observe.tracing.otlp import MAX_WAITING, OtlpTracer
from common.observe.tracing.story import Story
from common.observe.tracing.tracer import NoTracer, Tracer, make_tracer
from tests.observe.tracing.collector import Collector
from tests.observe.tracing.test_spans import REMOTE

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
STORY = Story(
    name="text_completion demo",
    where="router-0",
    start=0.0,
    end=2.0,
    attributes={"gen_ai.usage.output_tokens": 7},
    marks=REMOTE,
)


@pytest_asyncio.fixture
async def collector() -> AsyncIterator[Collector]:
    made = Collector()
    await made.start()
    yield made
    await made.stop()


def tracer(endpoint: str, ratio: float = 1.0) -> Tracer:
    section = TracingSection(endpoint=endpoint, sample_ratio=ratio)
    return make_tracer(section, role="router", cluster="local", clock=ManualClock(), entropy=SeededEntropy(5))


async def test_a_request_is_a_child_of_its_caller_and_its_parts_belong_to_the_workers(collector: Collector) -> None:
    made = tracer(collector.endpoint)
    enter_trace(parse_traceparent(PARENT))
    made.end(made.begin(), STORY)
    await asyncio.to_thread(made.close)
    await collector.wait(6)
    service, instance, root = collector.named("text_completion demo")
    assert (service, instance) == ("baton-router", "router-0")
    assert root.trace_id.hex() == PARENT.split("-")[1]
    assert root.parent_span_id.hex() == PARENT.split("-")[2]
    assert root.end_time_unix_nano - root.start_time_unix_nano == pytest.approx(2e9)
    assert [(each.key, each.value.int_value) for each in root.attributes] == [("gen_ai.usage.output_tokens", 7)]
    assert collector.named("prefill")[:2] == ("baton-prefill", "prefill-0")
    assert collector.named("decode")[:2] == ("baton-decode", "decode-1")
    assert {span.parent_span_id for _service, _instance, span in collector.spans[1:]} == {root.span_id}
    assert [event.name for event in collector.named("transfer")[2].events] == ["chunk_landed"]


async def test_what_failed_is_told_as_an_error(collector: Collector) -> None:
    made = tracer(collector.endpoint)
    made.end(made.begin(), Story(name="x", where="r", start=0, end=1, attributes={}, error="NO_CAPACITY"))
    await asyncio.to_thread(made.close)
    await collector.wait(1)
    (span,) = [span for _service, _instance, span in collector.spans]
    assert (span.status.code, span.status.message) == (2, "NO_CAPACITY")
    assert span.parent_span_id == b""


async def test_what_the_caller_does_not_sample_is_not_sent(collector: Collector) -> None:
    made = tracer(collector.endpoint)
    enter_trace(parse_traceparent(PARENT[:-2] + "00"))
    made.end(made.begin(), STORY)
    enter_trace(None)
    none = tracer(collector.endpoint, ratio=0.0)
    none.end(none.begin(), STORY)
    await asyncio.to_thread(made.close)
    await asyncio.to_thread(none.close)
    assert collector.spans == []


class Stuck(SpanExporter):
    """Sends to a collector that does not answer until the test lets it."""

    def __init__(self) -> None:
        self.has_begun, self.may_end, self.has_ended = Event(), Event(), Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.has_begun.set()
        self.may_end.wait(60.0)
        self.has_ended.set()
        return SpanExportResult.FAILURE


async def test_a_collector_that_does_not_answer_holds_up_nobody() -> None:
    """More requests end while it is asked than may wait for it."""
    exporter = Stuck()
    made = OtlpTracer(
        exporter, role="router", cluster="local", sample_ratio=1.0, clock=ManualClock(), entropy=SeededEntropy(5)
    )
    made.end(made.begin(), STORY)
    assert await asyncio.to_thread(exporter.has_begun.wait, 60.0)
    for _ in range(MAX_WAITING // 3):  # several spans each
        made.end(made.begin(), STORY)
    assert not exporter.has_ended.is_set()
    exporter.may_end.set()
    await asyncio.to_thread(made.close)


async def test_a_process_ends_though_its_collector_is_not_there() -> None:
    made = tracer("http://127.0.0.1:9")
    for _ in range(2000):
        made.end(made.begin(), STORY)
    async with asyncio.timeout(30.0):
        await asyncio.to_thread(made.close)


def test_without_an_endpoint_nobody_traces() -> None:
    made = tracer("")
    assert isinstance(made, NoTracer)
    assert made.begin() is None
    made.end(None, STORY)
