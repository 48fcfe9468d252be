"""The next frame is announced while one is carried: order, places, refusals, lost answers, and what dies with a link.

Method: virtual time, so that what overlaps is seen in seconds that are exact.
"""

import asyncio
from dataclasses import replace

import pytest

from common.core.errors import NotFound, Reason, Refused, TransferFailed
from common.core.ids import ReservationId, TransferId, WorkerId
from common.transfer.limits import TransferLimits
from common.transfer.messages import OutcomeState, PageRun
from common.transfer.outbound import OutboundTransfer
from tests.sim.timeloop import TimeLoop
from tests.transfer.rig import PAGE, REQUEST, Rig, Sink, expect, finale, page_bytes, run_data
from tests.transfer.virtual import in_virtual_time

FRAME_S = 0.1
ANSWER_S = 0.08
"""A control message and its answer."""


def one_page(index: int) -> PageRun:
    return PageRun(first_page=index, num_pages=1)


async def begun(rig: Rig, pages: int, *, name: str = "res-1") -> tuple[Sink, OutboundTransfer]:
    """A transfer whose link is open, before the wires become slow."""
    sink, promised = expect(rig.ends[WorkerId("d")], pages, name=name)
    transfer = rig.ends[WorkerId("p")].start(promised, REQUEST, rig.ends[WorkerId("d")].me)
    await transfer.open()
    return sink, transfer


def slow(rig: Rig, *, frame_s: float = FRAME_S, answer_s: float = ANSWER_S) -> None:
    rig.network.faults.bytes_per_s = PAGE / frame_s
    rig.control.delay_s = answer_s / 2


async def ship_at_once(transfer: OutboundTransfer, pages: int) -> None:
    runs = (one_page(index) for index in range(pages - 1))
    last = one_page(pages - 1)
    await asyncio.gather(
        *(transfer.ship(run, run_data(run)) for run in runs), transfer.finish(finale(pages), last, run_data(last))
    )


@in_virtual_time
async def test_an_answer_is_waited_for_while_the_frame_before_is_carried(rig: Rig, loop: TimeLoop) -> None:
    """One answer, then frames without a gap: each answer comes sooner than the frame before it."""
    await rig.add("p")
    await rig.add("d", staging=8)
    sink, transfer = await begun(rig, 8)
    slow(rig)
    started = loop.time()
    await ship_at_once(transfer, 8)
    assert loop.time() - started == pytest.approx(ANSWER_S + 8 * FRAME_S)
    assert (await transfer.wait_outcome(1.0)).state is OutcomeState.DONE
    assert sink.pages == {index: page_bytes(index) for index in range(8)}


@in_virtual_time
async def test_pieces_of_one_run_overlap_as_runs_do(rig: Rig, loop: TimeLoop) -> None:
    await rig.add("p")
    await rig.add("d", staging=8, pages=1)
    _, transfer = await begun(rig, 6)
    slow(rig)
    started = loop.time()
    run = PageRun(first_page=0, num_pages=6)
    await transfer.finish(finale(6), run, run_data(run))
    assert loop.time() - started == pytest.approx(ANSWER_S + 6 * FRAME_S)
    assert [offer.frame for offer in rig.offers] == list(range(6))


@in_virtual_time
async def test_a_stalled_link_announces_no_more_than_its_places(rig: Rig, loop: TimeLoop) -> None:
    await rig.add("p")
    await rig.add("d", staging=8)
    _, transfer = await begun(rig, 8)
    rig.network.faults.stalled = True
    shipping = asyncio.ensure_future(ship_at_once(transfer, 8))
    await asyncio.sleep(rig.limits.frame_timeout_s / 2)
    assert [offer.frame for offer in rig.offers] == list(range(rig.limits.max_announced))
    with pytest.raises(TransferFailed):
        await shipping


@in_virtual_time
async def test_a_refusal_gives_its_number_to_the_next(rig: Rig, loop: TimeLoop) -> None:
    """Two transfers share a link. One is refused while the other's frame is carried: nobody else notices."""
    prefill, decode = await rig.add("p"), await rig.add("d", staging=8)
    sink, transfer = await begun(rig, 3)
    slow(rig)
    first, run = asyncio.ensure_future(transfer.ship(one_page(0), run_data(one_page(0)))), one_page(1)
    unknown = prefill.start(TransferId(ReservationId("nowhere"), 1), REQUEST, decode.me)
    refused = asyncio.ensure_future(unknown.ship(one_page(0), run_data(one_page(0))))
    second = asyncio.ensure_future(transfer.ship(run, run_data(run)))
    with pytest.raises(NotFound):
        await refused
    await asyncio.gather(first, second)
    last = one_page(2)
    await transfer.finish(finale(3), last, run_data(last))
    assert (await transfer.wait_outcome(1.0)).state is OutcomeState.DONE
    assert sorted(sink.pages) == [0, 1, 2]
    assert [offer.frame for offer in rig.offers] == [0, 1, 1, 2]
    assert prefill.snapshot().sent.incidents["link_opened"] == 1


@in_virtual_time
async def test_what_was_accepted_dies_with_the_link_and_what_was_not_goes_over_the_next(
    rig: Rig, loop: TimeLoop
) -> None:
    """Three transfers: one carried when the link breaks, one accepted behind it, one that waits for a place."""
    prefill, _ = await rig.add("p"), await rig.add("d", staging=8)
    begun_ones = [await begun(rig, 1, name=f"res-{number}") for number in range(3)]
    slow(rig, frame_s=1.0)
    run = one_page(0)
    shipping = [asyncio.ensure_future(transfer.finish(finale(1), run, run_data(run))) for _, transfer in begun_ones]
    await asyncio.sleep(0.5)
    rig.network.kill(WorkerId("p"))
    ends = await asyncio.gather(*shipping, return_exceptions=True)
    assert [type(end) for end in ends] == [TransferFailed, TransferFailed, type(None)]
    outcomes = [await transfer.wait_outcome(5.0) for _, transfer in begun_ones]
    assert [outcome.state for outcome in outcomes] == [OutcomeState.FAILED, OutcomeState.FAILED, OutcomeState.DONE]
    assert [[failure.reason for failure in sink.failures] for sink, _ in begun_ones] == [
        [Reason.CHANNEL_BROKEN],
        [Reason.CHANNEL_BROKEN],
        [],
    ]
    assert prefill.snapshot().sent.incidents["link_opened"] == 2


@in_virtual_time
async def test_a_lost_answer_is_asked_for_again_while_the_frame_before_is_carried(rig: Rig, loop: TimeLoop) -> None:
    _, decode = await rig.add("p"), await rig.add("d", staging=8)
    sink, transfer = await begun(rig, 3)
    slow(rig, frame_s=1.9, answer_s=0.0)
    draws = iter([1.0, 1.0, 1.0, 1.0, 1.0, *(1.0, 1.0, 1.0, 1.0, 0.0)])  # the second call's fifth: its answer is lost
    rig.control.lose_response, rig.control.chance = 0.5, lambda: next(draws, 1.0)
    await ship_at_once(transfer, 3)
    assert (await transfer.wait_outcome(5.0)).state is OutcomeState.DONE
    assert sorted(sink.pages) == [0, 1, 2]
    assert decode.snapshot().received.incidents["duplicate_offer"] == 1
    assert decode.snapshot().received.pages == 3


@in_virtual_time
async def test_a_finale_without_pages_does_not_wait_for_the_bytes_before_it(rig: Rig, loop: TimeLoop) -> None:
    await rig.add("p")
    await rig.add("d", staging=8)
    sink, transfer = await begun(rig, 1)
    slow(rig)
    run, started = one_page(0), loop.time()
    shipping = asyncio.ensure_future(transfer.ship(run, run_data(run)))
    await asyncio.sleep(0)
    await transfer.finish(finale(1))
    assert loop.time() - started == pytest.approx(2 * ANSWER_S)
    await shipping
    assert (await transfer.wait_outcome(1.0)).state is OutcomeState.DONE
    assert sink.finales == [finale(1)]


@in_virtual_time
async def test_a_shipping_that_is_cancelled_returns_when_its_bytes_have_left(rig: Rig, loop: TimeLoop) -> None:
    """Cancelled while it asks: the frame may be accepted, and then is sent."""
    _, decode = await rig.add("p"), await rig.add("d", staging=8)
    _, transfer = await begun(rig, 2)
    slow(rig)
    shipping = asyncio.ensure_future(transfer.ship(one_page(0), run_data(one_page(0))))
    await asyncio.sleep(ANSWER_S / 4)
    started = loop.time()
    shipping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await shipping
    assert loop.time() - started == pytest.approx(ANSWER_S * 3 / 4 + FRAME_S)
    assert decode.snapshot().received.pages == 1


def test_a_frame_is_given_the_time_of_those_before_it() -> None:
    """Four frames are announced at once, each nearly as slow as is served: the last comes after its own time alone."""

    async def story(rig: Rig, loop: TimeLoop) -> None:
        await rig.add("p")
        await rig.add("d", staging=8)
        _, transfer = await begun(rig, 4)
        slow(rig, frame_s=0.95 * rig.limits.frame_timeout_s, answer_s=0.0)
        assert 4 * 0.95 * rig.limits.frame_timeout_s > rig.limits.receive_s(PAGE)
        await ship_at_once(transfer, 4)
        assert (await transfer.wait_outcome(5.0)).state is OutcomeState.DONE

    in_virtual_time(story, TransferLimits(max_announced=4))()


def test_frames_that_do_not_come_take_no_more_than_their_share() -> None:
    """A sender of another window, or a broken one: refused beyond the ceiling, politely, and not at all once they
    came."""

    async def story(rig: Rig, loop: TimeLoop) -> None:
        _, decode = await rig.add("p"), await rig.add("d", staging=8)
        _, transfer = await begun(rig, 5)
        slow(rig, frame_s=0.5, answer_s=0.0)
        shipping = asyncio.ensure_future(ship_at_once(transfer, 5))
        await asyncio.sleep(0.1)
        assert [offer.frame for offer in rig.offers[:2]] == [0, 1]
        with pytest.raises(Refused, match="2 frames were accepted and have not come"):
            await decode.offer(replace(rig.offers[1], frame=2, run=one_page(2)))
        await shipping
        assert (await transfer.wait_outcome(5.0)).state is OutcomeState.DONE
        assert decode.snapshot().received.incidents["refused_offer"] > 1

    in_virtual_time(story, TransferLimits(max_announced=4, max_accepted=2, staging_tries=100))()
