"""Which exchanges are spans, and whose: contexts of one request do not reach the next on the same connection."""

import pytest
from starlette.types import Message

from common.core.entropy import SeededEntropy
from common.observe.tracing.context import current_trace, enter_trace, new_trace
from common.observe.tracing.story import Story, Traced
from services.gateway.exchange import Exchange
from services.gateway.tracing import Tracing

ENTROPY = SeededEntropy(1)
COMPLETIONS = "/v1/completions"


class Tracer:
    """Makes a span for whoever asks."""

    def begin(self) -> Traced:
        parent = current_trace()
        own = new_trace(ENTROPY, sample_ratio=1.0) if parent is None else parent.child(ENTROPY)
        return Traced(own=own, parent=parent)

    def end(self, traced: Traced | None, story: Story) -> None:
        return

    def close(self) -> None:
        return


def exchange(method: str, traceparent: str = "") -> Exchange:
    async def receive() -> Message:
        raise AssertionError("nobody reads")

    async def send(message: Message) -> None:
        raise AssertionError("nobody answers")

    headers = [(b"traceparent", traceparent.encode())] if traceparent else []
    scope = {"type": "http", "method": method, "path": COMPLETIONS, "headers": headers}
    return Exchange(scope, receive, send, max_body_bytes=1, body_s=1.0)


@pytest.mark.parametrize(
    ("method", "path", "is_traced"),
    [
        ("POST", COMPLETIONS, True),
        ("POST", "/v1/chat/completions", True),
        ("OPTIONS", "/v1/chat/completions", False),
        ("GET", COMPLETIONS, False),
        ("POST", "/tokenize", False),
        ("GET", "/metrics", False),
    ],
)
def test_what_writes_an_answer_is_a_span(method: str, path: str, is_traced: bool) -> None:
    traced = Tracing(where="gateway-0", tracer=Tracer()).begin(exchange(method), path)
    assert (traced is not None) == is_traced


def test_a_request_without_a_context_does_not_inherit_that_of_the_one_before() -> None:
    """Requests that a client sends at once on one connection may begin in each other's context."""
    tracing = Tracing(where="gateway-0", tracer=Tracer())
    caller = new_trace(ENTROPY, sample_ratio=1.0)
    first = tracing.begin(exchange("POST", caller.header), COMPLETIONS)
    assert first is not None
    assert first.parent == caller
    enter_trace(first.own)
    second = tracing.begin(exchange("POST"), COMPLETIONS)
    assert second is not None
    assert second.parent is None
    assert second.own.trace != caller.trace
    tracing.begin(exchange("GET"), "/metrics")
    assert current_trace() is None
