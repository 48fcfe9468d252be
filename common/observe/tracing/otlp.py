"""Spans to a collector over OTLP. The door to OpenTelemetry: its SDK batches and sends, on a thread of its own."""

import logging
from threading import Thread

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from common.core.clock import Clock
from common.core.entropy import Entropy
from common.observe.tracing.context import TraceContext, current_trace, enter_trace, new_trace
from common.observe.tracing.spans import Span, spans_of
from common.observe.tracing.story import Attributes, Story, Traced

SCOPE = InstrumentationScope("baton")
MAX_WAITING = 8192
"""Chosen: spans that wait for the collector; about a second of a busy router. What comes on top is dropped."""

BATCH = 512
FLUSH_MS = 2000
EXPORT_S = 5.0
CLOSE_S = 3.0
"""Chosen: how long a process that ends waits for its collector, twice at most."""


class OtlpTracer:
    """Writer: the event loop's thread; OpenTelemetry's own thread sends. `role` is this process's."""

    def __init__(
        self, exporter: SpanExporter, *, role: str, cluster: str, sample_ratio: float, clock: Clock, entropy: Entropy
    ) -> None:
        self._role = role
        self._cluster = cluster
        self._sample_ratio = sample_ratio
        self._clock = clock
        self._entropy = entropy
        self._resources: dict[str, Resource] = {}
        self._exporter = exporter
        self._processor = BatchSpanProcessor(
            exporter,
            max_queue_size=MAX_WAITING,
            max_export_batch_size=BATCH,
            schedule_delay_millis=FLUSH_MS,
            export_timeout_millis=EXPORT_S * 1000,
        )

    def begin(self) -> Traced:
        parent = current_trace()
        own = (
            new_trace(self._entropy, sample_ratio=self._sample_ratio) if parent is None else parent.child(self._entropy)
        )
        enter_trace(own)
        return Traced(own=own, parent=parent)

    def end(self, traced: Traced | None, story: Story) -> None:
        if traced is None or not traced.own.is_sampled:
            return
        root = Span(name=story.name, where=story.where, start=story.start, end=story.end)
        self._send(root, traced.own, traced.parent, SpanKind.SERVER, story.attributes, story.error)
        for span in spans_of(story.marks):
            self._send(span, traced.own.child(self._entropy), traced.own, SpanKind.INTERNAL, span.attributes, "")

    def close(self) -> None:
        """A collector that is not there would be tried once per batch: after a while it is given up."""
        sending = Thread(target=self._processor.shutdown, name="last spans", daemon=True)
        sending.start()
        sending.join(CLOSE_S)
        if sending.is_alive():
            self._exporter.shutdown()
            sending.join(CLOSE_S)

    def _send(
        self,
        span: Span,
        own: TraceContext,
        parent: TraceContext | None,
        kind: SpanKind,
        attributes: Attributes,
        error: str,
    ) -> None:
        offset = self._clock.wall() - self._clock.monotonic()

        def nanoseconds(at: float) -> int:
            return int((at + offset) * 1e9)

        self._processor.on_end(
            ReadableSpan(
                name=span.name,
                context=_told(own),
                parent=None if parent is None else _told(parent),
                resource=self._resource(span.where),
                attributes=dict(attributes),
                events=[Event(mark.station, dict(mark.facts), nanoseconds(mark.at)) for mark in span.events],
                kind=kind,
                status=Status(StatusCode.ERROR, error) if error else Status(StatusCode.OK),
                start_time=nanoseconds(span.start),
                end_time=nanoseconds(max(span.end, span.start)),
                instrumentation_scope=SCOPE,
            )
        )

    def _resource(self, where: str) -> Resource:
        """Of the process that did it: `prefill-0` is an instance of the service baton-prefill."""
        if where not in self._resources:
            if len(self._resources) >= MAX_WAITING:  # names of workers that are long gone
                self._resources.clear()
            role = next((role for role in ("prefill", "decode") if role in where), self._role)
            self._resources[where] = Resource(
                {"service.name": f"baton-{role}", "service.namespace": self._cluster, "service.instance.id": where}
            )
        return self._resources[where]


def otlp_exporter(endpoint: str) -> SpanExporter:
    """http:// speaks plain text, https:// trusts the system's authorities. It retries by itself, within EXPORT_S."""
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)  # one line per batch that was lost, not per attempt
    return OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=EXPORT_S)


def _told(context: TraceContext) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if context.is_sampled else TraceFlags.DEFAULT)
    return SpanContext(context.trace, context.span, is_remote=False, trace_flags=flags)
