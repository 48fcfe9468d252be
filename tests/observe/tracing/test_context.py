"""Goal: W3C contexts go in and out as the standard says. Method: its own examples, and everything near them."""

import asyncio

import pytest

from common.core.entropy import SeededEntropy
from common.observe.tracing.context import TraceContext, current_trace, enter_trace, new_trace, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_header_is_read_and_written_again() -> None:
    for flags, is_sampled in (("01", True), ("00", False), ("03", True)):
        context = parse_traceparent(f"00-{TRACE}-{SPAN}-{flags}")
        assert context == TraceContext(trace=int(TRACE, 16), span=int(SPAN, 16), is_sampled=is_sampled)
        assert parse_traceparent(context.header) == context


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        "x" * 100_000,
    ],
)
def test_what_is_malformed_says_nothing(header: str) -> None:
    assert parse_traceparent(header) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-01-what-comes-later") is not None


def test_a_child_has_the_trace_and_another_span() -> None:
    parent = new_trace(SeededEntropy(1), sample_ratio=1.0)
    child = parent.child(SeededEntropy(2))
    assert (child.trace, child.is_sampled) == (parent.trace, True)
    assert child.span != parent.span


def test_so_many_are_sampled_as_the_ratio_says() -> None:
    entropy = SeededEntropy(3)
    for ratio, low, high in ((0.0, 0, 0), (1.0, 1000, 1000), (0.1, 70, 130)):
        sampled = sum(new_trace(entropy, sample_ratio=ratio).is_sampled for _ in range(1000))
        assert low <= sampled <= high, ratio


async def test_tasks_that_a_task_starts_work_for_the_same_span_and_others_do_not() -> None:
    async def look() -> TraceContext | None:
        return current_trace()

    async def serve(seed: int) -> bool:
        own = new_trace(SeededEntropy(seed), sample_ratio=1.0)
        enter_trace(own)
        return await asyncio.create_task(look()) == own

    assert all(await asyncio.gather(*(asyncio.create_task(serve(seed)) for seed in range(5))))
    assert current_trace() is None
