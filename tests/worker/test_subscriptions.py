"""Streams, leases and slow routers, in virtual time."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from common.core.errors import Fenced, Reason, Refused
from common.core.events import EventMessage, PromptScored, TokensEmitted, WorkEvent, weight_of
from common.core.ids import Epoch, RequestId, RouterId, RouterRef, TokenId, WorkerId, WorkerRef
from common.core.logprobs import TokenLogprobs
from common.core.request import FinishReason
from common.core.worker import LoadReport, PageCounts
from common.worker.subscriptions import MAX_MESSAGE_EVENTS, SubscriptionLimits, Subscriptions
from tests.sim.timeloop import TimeLoop, simulate

WORKER = WorkerRef(worker=WorkerId("w"), epoch=Epoch(1), address="127.0.0.1:1")
LIMITS = SubscriptionLimits(lease_s=3.0, heartbeat_s=0.5, max_events=10, max_routers=3)


def router(name: str, epoch: int = 1) -> RouterRef:
    return RouterRef(router=RouterId(name), epoch=Epoch(epoch))


def tokens(*values: int) -> tuple[WorkEvent, ...]:
    return tuple(
        TokensEmitted(request=RequestId("r"), attempt=1, choice=0, first_index=value, tokens=(TokenId(value),))
        for value in values
    )


def indexes(message: EventMessage) -> list[int]:
    return [event.first_index for event in message.events if isinstance(event, TokensEmitted)]


class Fixture:
    """Subscriptions, and the routers that were given up, with the time of it."""

    def __init__(self, loop: TimeLoop, limits: SubscriptionLimits = LIMITS) -> None:
        self.loop = loop
        self.lost: list[tuple[float, RouterRef]] = []
        self.subscriptions = Subscriptions(
            WORKER,
            load=lambda: LoadReport(pages=PageCounts(total=0, free=0, promised=0, referenced=0, cached=0)),
            on_router_lost=lambda ref: self.lost.append((round(loop.time(), 3), ref)),
            limits=limits,
        )

    def publish(self, ref: RouterRef, *values: int) -> None:
        self.subscriptions.publish({ref: tokens(*values)})


def play(act: Callable[[Fixture], Awaitable[None]], limits: SubscriptionLimits = LIMITS) -> None:
    async def program(loop: TimeLoop) -> None:
        await act(Fixture(loop, limits))

    simulate(program)


async def take(stream: AsyncGenerator[EventMessage, None]) -> EventMessage:
    return await anext(stream)


def test_the_first_message_comes_at_once_and_steps_follow_with_consecutive_numbers() -> None:
    async def act(it: Fixture) -> None:
        stream = it.subscriptions.stream(router("a"))
        first = await take(stream)
        assert (first.sequence, first.events, it.loop.time()) == (1, (), 0.0)
        it.publish(router("a"), 1, 2)
        second = await take(stream)
        it.publish(router("a"), 3)
        third = await take(stream)
        assert [(message.sequence, indexes(message)) for message in (second, third)] == [(2, [1, 2]), (3, [3])]
        await stream.aclose()

    play(act)


def test_steps_that_a_router_has_not_read_yet_share_one_message() -> None:
    async def act(it: Fixture) -> None:
        stream = it.subscriptions.stream(router("a"))
        await take(stream)
        it.publish(router("a"), 1)
        it.publish(router("a"), 2)
        assert indexes(await take(stream)) == [1, 2]
        await stream.aclose()

    play(act)


def test_a_quiet_stream_carries_a_load_report_every_heartbeat() -> None:
    async def act(it: Fixture) -> None:
        stream = it.subscriptions.stream(router("a"))
        times = []
        for _ in range(3):
            await take(stream)
            times.append(round(it.loop.time(), 3))
        assert times == [0.0, 0.5, 1.0]
        await stream.aclose()

    play(act)


def test_tokens_amid_answers_bring_a_load_report_once_in_a_while_and_all_else_brings_one_always() -> None:
    async def act(it: Fixture) -> None:
        stream = it.subscriptions.stream(router("a"), load_may_be_absent=True)
        assert (await take(stream)).load is not None
        told = []
        for index in range(6):
            await asyncio.sleep(0.04)
            it.publish(router("a"), index)
            told.append((await take(stream)).load is not None)
        assert told == [False, False, True, False, False, True]
        it.publish(router("a"), 6)
        end = TokensEmitted(
            request=RequestId("r"), attempt=1, choice=0, first_index=7, tokens=(TokenId(7),), finish=FinishReason.LENGTH
        )
        it.subscriptions.publish({router("a"): (end,)})
        last = await take(stream)
        assert indexes(last) == [6, 7]
        assert last.load is not None
        await stream.aclose()

    play(act)


def test_a_router_of_an_older_version_gets_a_load_report_with_every_message() -> None:
    async def act(it: Fixture) -> None:
        stream = it.subscriptions.stream(router("a"))
        for index in range(4):
            assert (await take(stream)).load is not None
            await asyncio.sleep(0.01)
            it.publish(router("a"), index)
        await stream.aclose()

    play(act)


def test_routers_do_not_see_each_others_events() -> None:
    async def act(it: Fixture) -> None:
        streams = [it.subscriptions.stream(router(name)) for name in "ab"]
        for stream in streams:
            await take(stream)
        it.subscriptions.publish({router("a"): tokens(1), router("b"): tokens(2)})
        assert [indexes(await take(stream)) for stream in streams] == [[1], [2]]
        for stream in streams:
            await stream.aclose()

    play(act)


def test_a_router_that_does_not_come_back_is_lost_after_the_lease() -> None:
    async def act(it: Fixture) -> None:
        stream = it.subscriptions.stream(router("a"))
        await take(stream)
        await asyncio.sleep(1)
        await stream.aclose()
        await asyncio.sleep(10)
        assert it.lost == [(4.0, router("a"))]
        assert it.subscriptions.num_live == 0

    play(act)


def test_a_router_that_comes_back_within_the_lease_finds_what_waited() -> None:
    async def act(it: Fixture) -> None:
        stream = it.subscriptions.stream(router("a"))
        await take(stream)
        await stream.aclose()
        it.publish(router("a"), 7)
        await asyncio.sleep(2.9)
        again = it.subscriptions.stream(router("a"))
        message = await take(again)
        assert (message.sequence, indexes(message)) == (1, [7])
        await asyncio.sleep(10)
        assert it.lost == []
        await again.aclose()

    play(act)


def test_work_of_a_router_that_never_subscribed_is_lost_after_the_lease() -> None:
    async def act(it: Fixture) -> None:
        it.publish(router("a"), 1)
        await asyncio.sleep(10)
        assert it.lost == [(3.0, router("a"))]

    play(act)


def test_a_slow_router_is_lost_at_once_and_its_stream_says_why() -> None:
    async def act(it: Fixture) -> None:
        stream = it.subscriptions.stream(router("a"))
        await take(stream)
        it.publish(router("a"), *range(10))
        assert it.lost == []
        it.publish(router("a"), 10)
        assert it.lost == [(0.0, router("a"))]
        with pytest.raises(Refused) as caught:
            await take(stream)
        assert caught.value.reason is Reason.SLOW_READER
        await asyncio.sleep(10)
        assert it.lost == [(0.0, router("a"))]

    play(act)


def test_a_new_incarnation_ends_the_old_one_at_once() -> None:
    async def act(it: Fixture) -> None:
        old = it.subscriptions.stream(router("a", 1))
        await take(old)
        new = it.subscriptions.stream(router("a", 2))
        await take(new)
        assert it.lost == [(0.0, router("a", 1))]
        with pytest.raises(Refused):
            await take(old)
        assert it.subscriptions.num_live == 1
        with pytest.raises(Fenced):
            await take(it.subscriptions.stream(router("a", 1)))
        it.publish(router("a", 1), 1)
        assert it.subscriptions.num_live == 1
        await new.aclose()

    play(act)


def test_a_second_stream_of_the_same_router_takes_over_without_losing_work() -> None:
    async def act(it: Fixture) -> None:
        old = it.subscriptions.stream(router("a"))
        await take(old)
        new = it.subscriptions.stream(router("a"))
        await take(new)
        it.publish(router("a"), 1)
        with pytest.raises(Fenced):
            await take(old)
        assert indexes(await take(new)) == [1]
        await asyncio.sleep(10)
        assert it.lost == []
        await new.aclose()

    play(act)


def test_the_number_of_routers_is_bounded() -> None:
    async def act(it: Fixture) -> None:
        streams = [it.subscriptions.stream(router(name)) for name in "abc"]
        for stream in streams:
            await take(stream)
        with pytest.raises(Refused):
            await take(it.subscriptions.stream(router("d")))
        it.publish(router("e"), 1)
        assert (0.0, router("e")) in it.lost
        for stream in streams:
            await stream.aclose()

    play(act)


def test_a_message_is_bounded_and_the_rest_follows() -> None:
    async def act(it: Fixture) -> None:
        stream = it.subscriptions.stream(router("a"))
        await take(stream)
        it.publish(router("a"), *range(MAX_MESSAGE_EVENTS + 5))
        sizes = [len((await take(stream)).events) for _ in range(2)]
        assert sizes == [MAX_MESSAGE_EVENTS, 5]
        await stream.aclose()

    play(act, SubscriptionLimits(max_events=10_000))


def test_after_closing_nobody_is_lost_any_more() -> None:
    async def act(it: Fixture) -> None:
        stream = it.subscriptions.stream(router("a"))
        await take(stream)
        it.publish(router("b"), 1)
        it.subscriptions.close()
        await stream.aclose()
        it.publish(router("c"), 1)
        await asyncio.sleep(10)
        assert it.lost == []

    play(act)


def test_log_probabilities_of_long_prompts_count_by_their_size() -> None:
    """A message stays far below its limit, however many prompts were scored in one step."""
    own = TokenLogprobs(logprob=-1.0, rank=1, top_ids=(TokenId(1),) * 20, top_logprobs=(-1.0,) * 20)
    piece = PromptScored(request=RequestId("r"), attempt=1, first_position=1, logprobs=(own,) * 256)
    assert weight_of(piece) == 1 + 256 * 22 // 64
    fitting = MAX_MESSAGE_EVENTS // weight_of(piece)

    async def act(scene: Fixture) -> None:
        ref = router("r")
        stream = scene.subscriptions.stream(ref)
        await take(stream)
        scene.subscriptions.publish({ref: [piece] * (fitting + 3)})
        assert [len((await take(stream)).events) for _ in range(2)] == [fitting, 3]
        assert not scene.lost
        scene.subscriptions.publish({ref: [piece] * 1000})
        assert [ref for _at, ref in scene.lost] == [ref]
        await stream.aclose()

    play(act, SubscriptionLimits(max_events=2 * MAX_MESSAGE_EVENTS))
