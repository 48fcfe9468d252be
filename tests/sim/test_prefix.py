"""Cached pages fetched from another holder before a prompt is read: whatever goes wrong, the answer is the same.

Production workers over the simulated network. Every story ends with the world's own invariants: nothing is held
anywhere, pages sum, transfers balance.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

import pytest

from common.core.errors import BatonError
from common.core.request import Work
from common.core.ticket import PrefixTicket
from tests.sim.oracle import Ask, answer
from tests.sim.placer import DECODE, PREFILL, Heard, Placer
from tests.sim.play import play
from tests.sim.world import CONFIG, OFFLOAD_S, World

FIRST = Ask(name="first", prompt=tuple(range(30)), max_tokens=9)
NEXT = Ask(name="next", prompt=(*range(30), 99, 98, 97), max_tokens=9)
CACHED_PAGES = 7
LEASED = replace(CONFIG, transfer=replace(CONFIG.transfer, ticket_s=2.0))

Deed = Callable[[Placer], Awaitable[None]]


def act(deed: Deed, offload_s: float = OFFLOAD_S) -> None:
    """A cluster of one prefill and one decode worker, and a deed by hand."""

    async def story(world: World) -> None:
        async with Placer(world) as placer:
            await deed(placer)

    play(story, prefill=1, decode=1, config=LEASED, offload_s=offload_s)


async def cached_on(placer: Placer, name: str, ask: Ask = FIRST) -> None:
    """One worker has read the prompt before, the other one has not."""
    work = placer.work(ask)
    if name == PREFILL:
        await placer.read(work)
        await placer.cancel(PREFILL, work)
    else:
        await placer.start_local(work, None)
        await placer.wait_end(work)
    await placer.until(lambda: placer.num_held(name) == 0)


async def borrowed(placer: Placer, name: str, work: Work, patience_s: float = 1.0) -> PrefixTicket:
    ticket = await placer.keep(name, work)
    assert ticket is not None
    assert ticket.num_pages == CACHED_PAGES
    return PrefixTicket(ticket=ticket, patience_s=patience_s)


async def is_exact(placer: Placer, work: Work, ask: Ask = NEXT) -> Heard:
    heard = await placer.wait_end(work)
    assert heard.failure is None
    assert heard.tokens() == answer(ask)[0].tokens
    await placer.until(lambda: placer.num_held(PREFILL) == placer.num_held(DECODE) == 0, within_s=3.0)
    return heard


def test_decode_reads_only_what_the_holder_did_not_have() -> None:
    async def deed(placer: Placer) -> None:
        await cached_on(placer, PREFILL)
        work = placer.work(NEXT)
        await placer.start_local(work, await borrowed(placer, PREFILL, work))
        await is_exact(placer, work)
        decode = placer.counters(DECODE)
        assert decode["fetched_pages"] == CACHED_PAGES
        assert decode["fetches_whole"] == 1
        assert decode["local_prompt_tokens"] == len(NEXT.prompt) - CACHED_PAGES * 4

    act(deed)


def test_prefill_reads_only_what_decode_did_not_have_and_hands_the_rest_over() -> None:
    async def deed(placer: Placer) -> None:
        await cached_on(placer, DECODE)
        work = placer.work(NEXT)
        await placer.hand_off(work, await borrowed(placer, DECODE, work))
        await is_exact(placer, work)
        prefill = placer.counters(PREFILL)
        assert prefill["fetched_pages"] == CACHED_PAGES
        assert prefill["computed_tokens"] == len(NEXT.prompt) - CACHED_PAGES * 4

    act(deed)


@pytest.mark.parametrize("reader", [DECODE, PREFILL])
def test_who_comes_while_its_beginning_is_on_its_way_waits_for_it_as_well(reader: str) -> None:
    """A second prompt that begins alike, sent where the pages will be: it reads its own rest."""
    holder = PREFILL if reader == DECODE else DECODE
    also = Ask(name="also", prompt=(*range(30), 77, 76), max_tokens=9)

    async def deed(placer: Placer) -> None:
        await cached_on(placer, holder)
        first, second = placer.work(NEXT), placer.work(also)
        ticket = await borrowed(placer, holder, first)
        if reader == DECODE:
            await placer.start_local(first, ticket)
            await placer.start_local(second, None)
        else:
            await placer.hand_off(first, ticket)
            await placer.hand_off(second, None)
        await is_exact(placer, first)
        await is_exact(placer, second, also)
        counters = placer.counters(reader)
        assert counters["fetched_pages"] == CACHED_PAGES
        num_read = counters["local_prompt_tokens" if reader == DECODE else "computed_tokens"]
        assert num_read == len(NEXT.prompt) + len(also.prompt) - 2 * CACHED_PAGES * 4

    act(deed)


def test_only_missing_pages_travel() -> None:
    """Decode has read a shorter beginning itself: four pages of it."""

    async def deed(placer: Placer) -> None:
        await cached_on(placer, PREFILL)
        await cached_on(placer, DECODE, replace(FIRST, name="short", prompt=FIRST.prompt[:18]))
        work = placer.work(NEXT)
        await placer.start_local(work, await borrowed(placer, PREFILL, work))
        await is_exact(placer, work)
        assert placer.counters(DECODE)["fetched_pages"] == CACHED_PAGES - 4

    act(deed)


def test_nothing_cached_is_no_ticket() -> None:
    async def deed(placer: Placer) -> None:
        assert await placer.keep(PREFILL, placer.work(NEXT)) is None

    act(deed)


def test_another_tenant_is_lent_nothing() -> None:
    async def deed(placer: Placer) -> None:
        await cached_on(placer, PREFILL)
        assert await placer.keep(PREFILL, replace(placer.work(NEXT), cache_scope=bytes(32))) is None

    act(deed)


def test_pages_of_another_context_are_not_taken() -> None:
    """A ticket that got to the wrong prompt: the holder compares digests, and the prompt is read."""

    async def deed(placer: Placer) -> None:
        await cached_on(placer, PREFILL)
        prefix = await borrowed(placer, PREFILL, placer.work(NEXT))
        other = replace(NEXT, name="other", prompt=(*range(1, 31), 5, 6))
        work = placer.work(other)
        await placer.start_local(work, prefix)
        await is_exact(placer, work, other)
        decode = placer.counters(DECODE)
        assert decode["fetches_void"] == 1
        assert decode["local_prompt_tokens"] == len(other.prompt)

    act(deed)


def test_a_lease_that_ended_costs_a_reading_and_nothing_else() -> None:
    async def deed(placer: Placer) -> None:
        await cached_on(placer, PREFILL)
        work = placer.work(NEXT)
        ticket = await placer.keep(PREFILL, work, lease_s=0.2)
        assert ticket is not None
        await placer.until(lambda: placer.num_held(PREFILL) == 0, within_s=2.0)
        await placer.start_local(work, PrefixTicket(ticket=ticket, patience_s=1.0))
        await is_exact(placer, work)
        assert placer.counters(DECODE)["fetches_void"] == 1

    act(deed)


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.005, 0.02])
def test_a_holder_that_dies_amid_the_fetch_costs_a_reading_and_nothing_else(after_s: float) -> None:
    async def deed(placer: Placer) -> None:
        await cached_on(placer, PREFILL)
        work = placer.work(NEXT)
        prefix = await borrowed(placer, PREFILL, work, patience_s=0.5)
        began = placer.world.loop.time()
        starting = asyncio.create_task(placer.start_local(work, prefix))
        await asyncio.sleep(after_s)
        placer.world.kill(PREFILL)
        await starting
        heard = await placer.wait_end(work)
        assert heard.failure is None
        assert heard.tokens() == answer(NEXT)[0].tokens
        assert placer.world.loop.time() - began < 0.5 + 2.0, "longer than patience and reading"
        placer.world.start(PREFILL)
        await placer.world.wait_serving()

    act(deed)


def test_a_holder_that_is_frozen_is_waited_for_no_longer_than_told() -> None:
    async def deed(placer: Placer) -> None:
        await cached_on(placer, PREFILL)
        work = placer.work(NEXT)
        prefix = await borrowed(placer, PREFILL, work, patience_s=0.3)
        placer.world.workers[PREFILL].freeze()
        began = placer.world.loop.time()
        await placer.start_local(work, prefix)
        assert placer.world.loop.time() - began < 0.4
        heard = await placer.wait_end(work)
        assert heard.tokens() == answer(NEXT)[0].tokens
        placer.world.workers[PREFILL].thaw()
        await placer.until(lambda: placer.num_held(DECODE) == 0)

    act(deed)


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.005, 0.02])
def test_a_cancel_amid_the_fetch_leaves_nothing_behind(after_s: float) -> None:
    async def deed(placer: Placer) -> None:
        await cached_on(placer, PREFILL)
        work = placer.work(NEXT)
        starting = asyncio.create_task(placer.start_local(work, await borrowed(placer, PREFILL, work)))
        await asyncio.sleep(after_s)
        await placer.cancel(DECODE, work)
        (ended,) = await asyncio.gather(starting, return_exceptions=True)
        assert ended is None or isinstance(ended, BatonError), ended
        await placer.until(lambda: placer.num_held(PREFILL) == placer.num_held(DECODE) == 0, within_s=3.0)

    act(deed)


AMID_COPIES_S = (0.01, 0.03, 0.05, 0.07)


def stop_amid_copies() -> None:
    """The holder hears that the request is over while it copies the pages out, in one moment of it and another."""
    for after_s in AMID_COPIES_S:
        stop_amid_a_copy(after_s)


def stop_amid_a_copy(after_s: float) -> None:
    async def deed(placer: Placer) -> None:
        await cached_on(placer, PREFILL)
        work = placer.work(NEXT)
        starting = asyncio.create_task(placer.start_local(work, await borrowed(placer, PREFILL, work)))
        await asyncio.sleep(after_s)
        await placer.cancel(PREFILL, work)
        await starting
        await is_exact(placer, work)

    act(deed, offload_s=0.08)


def test_a_holder_that_is_stopped_amid_a_copy_keeps_no_page_and_sends_no_wrong_one() -> None:
    stop_amid_copies()


AMID_LANDING_S = (0.16, 0.2, 0.24, 0.28, 0.32, 0.36, 0.4)
BIG = replace(FIRST, name="big", prompt=tuple(range(100, 208)))
"""As many pages as prefill keeps of one prompt: those that were given back last are among them."""


def stop_amid_landing(reader: str) -> None:
    """Its reader hears that the request is over while pages land, in one moment of it and another, and at once a big
    prompt wants pages."""
    for after_s in AMID_LANDING_S:
        act(partial(_stop_amid_landing, reader, after_s), offload_s=0.08)


async def _stop_amid_landing(reader: str, after_s: float, placer: Placer) -> None:
    holder = PREFILL if reader == DECODE else DECODE
    start = placer.start_local if reader == DECODE else placer.hand_off
    await cached_on(placer, holder)
    work, big = placer.work(NEXT), placer.work(BIG)
    starting = asyncio.create_task(start(work, await borrowed(placer, holder, work)))
    await asyncio.sleep(after_s)
    assert placer.counters(reader)["fetched_pages"] == 0, "it is amid the landing"
    for name in (PREFILL, DECODE):
        await placer.cancel(name, work)
    await asyncio.gather(starting, return_exceptions=True)
    if reader == DECODE:
        await placer.start_local(big, None)
    else:
        await placer.write(big, await placer.read(big))
    await is_exact(placer, big, BIG)


@pytest.mark.parametrize("reader", [DECODE, PREFILL])
def test_a_reader_that_is_stopped_amid_landing_lends_nobody_a_page_that_is_written_still(reader: str) -> None:
    stop_amid_landing(reader)


@pytest.mark.parametrize("patience_s", AMID_LANDING_S)
@pytest.mark.parametrize("reader", [DECODE, PREFILL])
def test_who_is_out_of_patience_amid_landing_begins_with_what_is_here(reader: str, patience_s: float) -> None:
    holder = PREFILL if reader == DECODE else DECODE

    async def deed(placer: Placer) -> None:
        await cached_on(placer, holder)
        work = placer.work(NEXT)
        prefix = await borrowed(placer, holder, work, patience_s=patience_s)
        start = placer.start_local if reader == DECODE else placer.hand_off
        await start(work, prefix)
        await is_exact(placer, work)
        counters = placer.counters(reader)
        assert counters["fetches_part"] + counters["fetches_void"] == 1

    act(deed, offload_s=0.08)


def test_a_prompt_whose_pages_do_not_fit_is_read_as_it_is() -> None:
    """Another answer holds most of decode's pages."""

    async def deed(placer: Placer) -> None:
        await cached_on(placer, PREFILL)
        big = replace(FIRST, name="big", prompt=tuple(range(100, 300)), max_tokens=9)
        holding = placer.work(big)
        await placer.start_local(holding, None)
        await placer.until(lambda: placer.num_held(DECODE) > 49)
        work = placer.work(NEXT)
        await placer.start_local(work, await borrowed(placer, PREFILL, work))
        await is_exact(placer, work)
        await placer.wait_end(holding)
        assert placer.counters(DECODE)["fetched_pages"] == 0

    act(deed)


@pytest.mark.parametrize("after_s", [0.0005, 0.001, 0.002, 0.004, 0.008])
def test_a_caller_that_hangs_up_amid_the_placement_leaves_no_prompt_waiting(after_s: float) -> None:
    """No cancel follows, and decode is amid a step: the work begins, though nobody is left to fetch its pages."""

    async def deed(placer: Placer) -> None:
        await cached_on(placer, PREFILL)
        busy = placer.work(replace(FIRST, name="busy", prompt=tuple(range(100, 150)), max_tokens=60))
        await placer.start_local(busy, None)
        await asyncio.sleep(0.01)
        work = placer.work(NEXT)
        placing = asyncio.create_task(placer.start_local(work, await borrowed(placer, PREFILL, work)))
        await asyncio.sleep(after_s)
        placing.cancel()
        await asyncio.gather(placing, return_exceptions=True)
        await placer.until(lambda: placer.num_held(PREFILL) == placer.num_held(DECODE) == 0, within_s=20.0)

    act(deed)
