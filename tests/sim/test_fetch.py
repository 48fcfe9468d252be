"""Prefill first, without a promise: its pages are kept under a lease, and decode fetches them by ticket.

Production workers over the simulated network. Every story ends with the world's own invariants: nothing is held
anywhere, pages sum, transfers balance.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from common.core.errors import BatonError, Fenced, InvalidRequest, Reason, Refused
from common.core.ids import RequestId, TokenId
from tests.sim.oracle import Ask, answer
from tests.sim.placer import DECODE, PREFILL, Placer
from tests.sim.play import play
from tests.sim.world import CONFIG, World

ASK = Ask(name="fetched", prompt=tuple(range(30)), max_tokens=9)
NUM_PAGES = 8
LEASED = replace(CONFIG, transfer=replace(CONFIG.transfer, ticket_s=2.0))

Deed = Callable[[Placer], Awaitable[None]]


def act(deed: Deed, config: object = LEASED) -> None:
    """A cluster of one prefill and one decode worker, and a deed by hand."""

    async def story(world: World) -> None:
        async with Placer(world) as placer:
            await deed(placer)

    play(story, prefill=1, decode=1, config=config)


@pytest.mark.parametrize(
    "ask",
    [
        ASK,
        replace(ASK, prompt=tuple(range(32))),
        replace(ASK, prompt=(7,)),
        replace(ASK, n=3, temperature=1.0),
        replace(ASK, max_tokens=1),
    ],
)
def test_fetched_pages_continue_the_answer_and_no_prompt_token_is_computed_twice(ask: Ask) -> None:
    async def deed(placer: Placer) -> None:
        work = placer.work(ask)
        ticket = await placer.read(work)
        assert placer.num_held(PREFILL) == ticket.num_pages
        assert placer.heard[work.request].tokens() == (answer(ask)[0].tokens[0],)
        await placer.write(work, ticket)
        heard = await placer.wait_end(work)
        assert heard.failure is None
        for index, expected in enumerate(answer(ask)):
            assert heard.tokens(index) == expected.tokens
        await placer.until(lambda: placer.num_held(PREFILL) == placer.num_held(DECODE) == 0, within_s=0.5)
        decode, prefill = placer.counters(DECODE), placer.counters(PREFILL)
        page_bytes = placer.world.workers[DECODE].engine.layout.page_bytes
        assert decode["local_prompt_tokens"] == 0
        assert decode["landed_bytes"] == prefill["gathered_bytes"] == ticket.num_pages * page_bytes
        assert prefill["kept"] == 1

    act(deed)


def test_what_decode_holds_already_is_not_fetched_again() -> None:
    async def deed(placer: Placer) -> None:
        for name in ("first", "second"):
            work = placer.work(replace(ASK, name=name))
            await placer.write(work, await placer.read(work))
            heard = await placer.wait_end(work)
            assert heard.tokens() == answer(ASK)[0].tokens
        page_bytes = placer.world.workers[DECODE].engine.layout.page_bytes
        # Seven full pages are cache by then on both workers: the second fetch brings the one that is not full.
        assert placer.counters(DECODE)["landed_bytes"] == (NUM_PAGES + 1) * page_bytes
        assert placer.counters(PREFILL)["cached_tokens"] == 28

    act(deed)


def test_pages_that_nobody_fetches_are_free_when_the_lease_ends_and_the_ticket_is_worth_nothing() -> None:
    async def deed(placer: Placer) -> None:
        work = placer.work(ASK)
        ticket = await placer.read(work)
        await asyncio.sleep(1.5)
        assert placer.num_held(PREFILL) == NUM_PAGES
        await asyncio.sleep(1.0)
        assert placer.num_held(PREFILL) == 0
        await refused(placer, work, ticket)

    act(deed)


def test_a_ticket_is_spent_once() -> None:
    async def deed(placer: Placer) -> None:
        work = placer.work(ASK)
        ticket = await placer.read(work)
        await placer.write(work, ticket)
        await placer.wait_end(work)
        again = placer.work(replace(ASK, name="again"))
        await refused(placer, again, ticket)

    act(deed)


@pytest.mark.parametrize("change", ["signature", "nonce", "request"])
def test_a_forged_ticket_brings_nothing_and_costs_no_page(change: str) -> None:
    async def deed(placer: Placer) -> None:
        work = placer.work(ASK)
        ticket = await placer.read(work)
        forged = {
            "signature": replace(ticket, signature=bytes(32)),
            "nonce": replace(ticket, nonce=bytes(16)),
            "request": replace(ticket, request=RequestId("other")),
        }
        await refused(placer, work, forged[change])

    act(deed)


def test_a_ticket_does_not_serve_another_prompt_of_the_same_length() -> None:
    """The pages of one prompt under another would be a wrong answer that nobody notices."""

    async def deed(placer: Placer) -> None:
        work = placer.work(ASK)
        ticket = await placer.read(work)
        other = replace(work, prompt=(*work.prompt[:-1], TokenId(400)))
        await refused(placer, other, ticket)
        await placer.until(lambda: placer.num_held(PREFILL) == 0)

    act(deed)


def test_a_ticket_for_another_number_of_pages_is_an_invalid_request() -> None:
    async def deed(placer: Placer) -> None:
        work = placer.work(ASK)
        ticket = await placer.read(work)
        with pytest.raises(InvalidRequest):
            await placer.write(replace(work, prompt=work.prompt[:9]), ticket)

    act(deed)


def test_a_cancel_gives_kept_pages_back_at_once() -> None:
    async def deed(placer: Placer) -> None:
        work = placer.work(ASK)
        ticket = await placer.read(work)
        await placer.cancel(PREFILL, work)
        await placer.until(lambda: placer.num_held(PREFILL) == 0, within_s=0.2)
        await refused(placer, work, ticket)

    act(deed)


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.01, 0.05])
def test_a_prefill_worker_that_dies_amid_the_fetch_is_told_as_a_failure(after_s: float) -> None:
    async def deed(placer: Placer) -> None:
        work = placer.work(ASK)
        ticket = await placer.read(work)
        writing = asyncio.create_task(placer.write(work, ticket))
        await asyncio.sleep(after_s)
        placer.world.kill(PREFILL)
        (ended,) = await asyncio.gather(writing, return_exceptions=True)
        if ended is None:  # the promise stood before the holder died
            heard = await placer.wait_end(work, within_s=40.0)  # a frame that was announced has thirty seconds
            assert heard.failure is not None or heard.tokens() == answer(ASK)[0].tokens
            await placer.cancel(DECODE, work)
        else:
            assert isinstance(ended, BatonError), ended
        await placer.until(lambda: placer.num_held(DECODE) == 0)
        placer.world.start(PREFILL)
        await placer.world.wait_serving()

    act(deed)


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.01, 0.05])
def test_a_decode_worker_that_dies_amid_the_fetch_costs_the_holder_nothing(after_s: float) -> None:
    async def deed(placer: Placer) -> None:
        work = placer.work(ASK)
        ticket = await placer.read(work)
        writing = asyncio.create_task(placer.write(work, ticket))
        await asyncio.sleep(after_s)
        placer.world.kill(DECODE)
        (ended,) = await asyncio.gather(writing, return_exceptions=True)
        assert ended is None or isinstance(ended, BatonError), ended
        await placer.until(lambda: placer.num_held(PREFILL) == 0)
        placer.world.start(DECODE)
        await placer.world.wait_serving()

    act(deed)


def test_no_more_is_kept_than_the_share_of_the_pool_and_reading_goes_on_beside_it() -> None:
    """Half of 56 pages: three prompts of eight fit, the fourth is refused until one is fetched."""

    async def deed(placer: Placer) -> None:
        works = [placer.work(replace(ASK, name=f"kept-{n}", prompt=tuple(range(n, n + 30)))) for n in range(4)]
        tickets = [await placer.read(work) for work in works[:3]]
        with pytest.raises(Refused) as caught:
            await placer.read(works[3])
        assert caught.value.reason is Reason.NO_PAGES
        await placer.write(works[0], tickets[0])
        await placer.wait_end(works[0])
        await placer.until(lambda: placer.num_held(PREFILL) == 2 * NUM_PAGES)
        await placer.read(works[3])

    act(deed)


def test_a_drain_waits_for_kept_pages_to_be_fetched() -> None:
    async def deed(placer: Placer) -> None:
        work = placer.work(ASK)
        ticket = await placer.read(work)
        leaving = asyncio.create_task(placer.world.retire(PREFILL))
        await asyncio.sleep(0.5)
        await placer.write(work, ticket)
        heard = await placer.wait_end(work)
        assert heard.tokens() == answer(ASK)[0].tokens
        await leaving
        placer.world.start(PREFILL)
        await placer.world.wait_serving()

    act(deed)


async def refused(placer: Placer, work: object, ticket: object) -> None:
    """The holder says no, in the same words for every reason; the promise on decode is released."""
    with pytest.raises(Fenced) as caught:
        await placer.write(work, ticket)  # type: ignore[arg-type]  # works and tickets, changed by tests
    assert caught.value.reason is Reason.TICKET_INVALID
    await placer.until(lambda: placer.num_held(DECODE) == 0, within_s=0.5)
