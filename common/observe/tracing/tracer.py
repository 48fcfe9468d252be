"""Who makes spans: nobody, or an exporter that sends them to a collector."""

from typing import Protocol

from common.config.sections.tracing import TracingSection
from common.core.clock import Clock
from common.core.entropy import Entropy
from common.observe.tracing.story import Story, Traced


class Tracer(Protocol):
    """Makes one span per request, and its parts. Never waits, never raises."""

    def begin(self) -> Traced | None:
        """A span for what this task does now: calls that the task makes from here on carry it. None: nobody asks."""
        ...

    def end(self, traced: Traced | None, story: Story) -> None:
        """The span is over; marks become its parts."""
        ...

    def close(self) -> None:
        """Sends what waits; may block for seconds: not for the event loop."""
        ...


class NoTracer:
    """Contexts that come in go on as they are."""

    def begin(self) -> Traced | None:
        return None

    def end(self, traced: Traced | None, story: Story) -> None:
        """Nobody listens."""

    def close(self) -> None:
        """Nothing waits."""


def make_tracer(section: TracingSection, *, role: str, cluster: str, clock: Clock, entropy: Entropy) -> Tracer:
    """Without an endpoint nobody traces. The collector need not be there: spans that it does not take are dropped."""
    if not section.endpoint:
        return NoTracer()
    from common.observe.tracing.otlp import OtlpTracer, otlp_exporter  # 0.2 s that most starts can spare

    return OtlpTracer(
        otlp_exporter(section.endpoint),
        role=role,
        cluster=cluster,
        sample_ratio=section.sample_ratio,
        clock=clock,
        entropy=entropy,
    )
