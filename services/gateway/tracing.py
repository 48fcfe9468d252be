"""An exchange as a span: the caller's context comes in by header, and goes on to the router with the call."""

from dataclasses import dataclass

from common.observe.tracing.context import TRACEPARENT, enter_trace, parse_traceparent
from common.observe.tracing.story import Story, Traced
from common.observe.tracing.tracer import Tracer
from services.gateway.exchange import Exchange

TRACED = frozenset({"/v1/completions", "/v1/chat/completions"})
"""What costs something. Health checks, scrapes and what browsers ask before they post would drown them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracing:
    """`where`: this process's name."""

    where: str
    tracer: Tracer

    def begin(self, exchange: Exchange, path: str) -> Traced | None:
        """This task works for the caller's trace from here on, or for a new one."""
        enter_trace(parse_traceparent(exchange.asked.get(TRACEPARENT, "")))
        return self.tracer.begin() if path in TRACED and exchange.method == "POST" else None

    def end(self, traced: Traced | None, exchange: Exchange, path: str, when: tuple[float, float]) -> None:
        """`when`: seconds on the monotonic clock, from and to."""
        failure = exchange.failure
        error = failure.reason.value if failure is not None and exchange.status >= 500 else ""
        facts: dict[str, str | int | float | bool] = {
            "http.request.method": "POST",
            "http.route": path,
            "http.response.status_code": exchange.status,
        }
        if failure is not None:
            facts["error.type"] = failure.reason.value
        began, ended = when
        story = Story(name=f"POST {path}", where=self.where, start=began, end=ended, attributes=facts, error=error)
        self.tracer.end(traced, story)
