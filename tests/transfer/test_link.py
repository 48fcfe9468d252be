"""Pairs: who may meet, what a new incarnation does to the old one's state, and that trouble stays with its pair."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from common.core.errors import BatonError, Fenced, Mismatch, Reason, Refused, TransferFailed
from common.core.ids import WorkerId
from common.transfer.limits import TransferLimits
from common.transfer.messages import OutcomeState, PageRun
from tests.sim.timeloop import TimeLoop
from tests.transfer.rig import FAST, REQUEST, Rig, Sink, expect, finale, page_bytes, rigged, run_data, ship_all
from tests.transfer.virtual import in_virtual_time


async def deliver(
    rig: Rig, sender: str, receiver: str, *, pages: int = 4, attempt: int = 1, name: str = "res-1"
) -> Any:
    """One whole transfer between two workers of the rig."""
    source, target = rig.ends[WorkerId(sender)], rig.ends[WorkerId(receiver)]
    sink, transfer_id = expect(target, pages, attempt=attempt, name=name)
    transfer = source.start(transfer_id, REQUEST, target.me)
    try:
        await ship_all(transfer, pages)
    except BatonError:
        return transfer.outcome
    outcome = await transfer.wait_outcome(20.0)
    if outcome.state is OutcomeState.DONE:
        assert sink.pages == {index: page_bytes(index) for index in range(pages)}
    return outcome


@in_virtual_time
async def test_the_first_transfer_to_a_restarted_receiver_works(rig: Rig, loop: TimeLoop) -> None:
    await rig.add("p")
    await rig.add("d")
    assert (await deliver(rig, "p", "d")).state is OutcomeState.DONE
    await rig.restart("d")
    assert (await deliver(rig, "p", "d")).state is OutcomeState.DONE
    assert len(rig.ends[WorkerId("p")]._links) == 1


@in_virtual_time
async def test_the_first_transfer_from_a_restarted_sender_works_and_the_old_one_is_fenced(
    rig: Rig, loop: TimeLoop
) -> None:
    zombie = await rig.add("p")
    decode = await rig.add("d")
    assert (await deliver(rig, "p", "d")).state is OutcomeState.DONE
    await rig.restart("p")
    assert (await deliver(rig, "p", "d", attempt=2)).state is OutcomeState.DONE
    _, third = expect(decode, 2, attempt=3)
    with pytest.raises(Fenced):
        await ship_all(zombie.start(third, REQUEST, decode.me), 2)
    assert decode.snapshot().inlets == 1
    assert decode.snapshot().received.incidents["fenced"] == 1


@in_virtual_time
async def test_the_old_incarnations_transfers_fail_at_once_when_the_new_one_meets(rig: Rig, loop: TimeLoop) -> None:
    old = await rig.add("p")
    decode = await rig.add("d")
    sink, first = expect(decode, 4)
    run = PageRun(first_page=0, num_pages=2)
    await old.start(first, REQUEST, decode.me).ship(run, run_data(run))
    await rig.restart("p")
    assert (await deliver(rig, "p", "d", name="res-2")).state is OutcomeState.DONE
    assert [failure.reason for failure in sink.failures] == [Reason.CHANNEL_BROKEN]


@in_virtual_time
async def test_a_transfer_meant_for_an_earlier_incarnation_is_refused(rig: Rig, loop: TimeLoop) -> None:
    prefill = await rig.add("p")
    old = await rig.add("d")
    await rig.restart("d")
    _, promised = expect(rig.ends[WorkerId("d")], 2)
    with pytest.raises(Fenced, match="epoch"):
        await ship_all(prefill.start(promised, REQUEST, old.me), 2)


@in_virtual_time
async def test_a_broken_pair_is_rebuilt_and_its_neighbour_notices_nothing(rig: Rig, loop: TimeLoop) -> None:
    for name in ("p", "d1", "d2"):
        await rig.add(name)
    assert (await deliver(rig, "p", "d1")).state is OutcomeState.DONE
    rig.network.faults.bytes_per_s = 10_000.0
    assert (await deliver(rig, "p", "d2")).state is OutcomeState.DONE
    before = await timed(loop, lambda: deliver(rig, "p", "d2", attempt=2))
    rig.network.faults.cut = {(WorkerId("p"), WorkerId("d1"))}
    stuck = asyncio.ensure_future(deliver(rig, "p", "d1", attempt=2))
    during = await timed(loop, lambda: deliver(rig, "p", "d2", attempt=3))
    outcome = await stuck
    assert outcome.state is OutcomeState.FAILED
    assert 0 < during <= before * 1.2
    rig.network.faults.cut = set()
    assert (await deliver(rig, "p", "d1", attempt=3)).state is OutcomeState.DONE
    assert (await deliver(rig, "p", "d2", attempt=4)).state is OutcomeState.DONE
    assert rig.ends[WorkerId("p")].snapshot().sent.incidents["link_opened"] == 3


@in_virtual_time
async def test_a_black_hole_is_noticed_by_both_sides_at_their_deadline(rig: Rig, loop: TimeLoop) -> None:
    """Bytes and control messages vanish: each side has only its own clock."""
    prefill, decode = await rig.add("p"), await rig.add("d")
    sink, promised = expect(decode, 4)
    transfer = prefill.start(promised, REQUEST, decode.me)
    run = PageRun(first_page=0, num_pages=2)
    await transfer.ship(run, run_data(run))
    rig.network.faults.stalled = True
    rest = PageRun(first_page=2, num_pages=2)
    shipping = asyncio.ensure_future(transfer.ship(rest, run_data(rest)))
    await asyncio.sleep(0.01)
    rig.control.dead = {WorkerId("d")}
    started = loop.time()
    with pytest.raises(TransferFailed):
        await shipping
    assert loop.time() - started <= rig.limits.frame_s(len(run_data(rest))) + 0.1
    while not sink.failures:  # virtual time
        await asyncio.sleep(0.1)
    assert loop.time() - started <= rig.limits.receive_s(len(run_data(rest))) + 0.2


@in_virtual_time
async def test_a_sender_that_falls_silent_between_two_runs_expires(rig: Rig, loop: TimeLoop) -> None:
    prefill, decode = await rig.add("p"), await rig.add("d")
    sink, promised = expect(decode, 4)
    run = PageRun(first_page=0, num_pages=2)
    await prefill.start(promised, REQUEST, decode.me).ship(run, run_data(run))
    await asyncio.sleep(rig.limits.idle_timeout_s - 1)
    assert sink.failures == []
    await asyncio.sleep(2)
    assert [failure.state for failure in sink.failures] == [OutcomeState.EXPIRED]
    assert decode.snapshot().received.expired == 1


@in_virtual_time
async def test_links_beyond_the_cap_close_the_least_recently_used(rig: Rig, loop: TimeLoop) -> None:
    rig.limits = TransferLimits(max_links=2)
    prefill = await rig.add("p")
    for name in ("d1", "d2", "d3"):
        await rig.add(name)
        assert (await deliver(rig, "p", name)).state is OutcomeState.DONE
        await asyncio.sleep(1)
    assert prefill.snapshot().links == 2
    assert prefill.snapshot().sent.incidents["link_evicted"] == 1
    assert set(prefill._links._links) == {WorkerId("d2"), WorkerId("d3")}
    assert (await deliver(rig, "p", "d1", attempt=2)).state is OutcomeState.DONE


@in_virtual_time
async def test_links_in_use_are_not_evicted(rig: Rig, loop: TimeLoop) -> None:
    rig.limits = TransferLimits(max_links=1)
    prefill, decode = await rig.add("p"), await rig.add("d1")
    other = await rig.add("d2")
    _, promised = expect(decode, 4)
    transfer = prefill.start(promised, REQUEST, decode.me)
    await transfer.open()
    _, elsewhere = expect(other, 4)
    with pytest.raises(Refused, match="all 1 links are in use"):
        await prefill.start(elsewhere, REQUEST, other.me).open()
    transfer.abort(Reason.CANCELLED)
    await prefill.start(elsewhere, REQUEST, other.me).open()


@in_virtual_time
async def test_an_inlet_closed_while_idle_costs_a_reopening_and_no_transfer(rig: Rig, loop: TimeLoop) -> None:
    rig.limits = TransferLimits(max_links=1)
    for name in ("p1", "p2", "d"):
        await rig.add(name)
    for attempt in range(1, 6):
        name = "p1" if attempt % 2 else "p2"
        assert (await deliver(rig, name, "d", attempt=attempt)).state is OutcomeState.DONE
    decode = rig.ends[WorkerId("d")].snapshot()
    assert decode.received.incidents["link_evicted"] == 4
    reopened = [rig.ends[WorkerId(name)].snapshot().sent.incidents.get("link_reopened", 0) for name in ("p1", "p2")]
    assert reopened == [2, 1]
    assert decode.received.done == decode.received.started == 5


@in_virtual_time
async def test_a_peer_that_left_is_dropped_and_its_transfers_fail_now(rig: Rig, loop: TimeLoop) -> None:
    prefill, decode = await rig.add("p"), await rig.add("d")
    sink, promised = expect(decode, 4)
    run = PageRun(first_page=0, num_pages=2)
    await prefill.start(promised, REQUEST, decode.me).ship(run, run_data(run))
    await decode.drop_peer(WorkerId("p"), "its lease ended")
    assert [failure.reason for failure in sink.failures] == [Reason.CHANNEL_BROKEN]
    assert decode.snapshot().inlets == 0


@in_virtual_time
async def test_many_transfers_to_one_new_peer_open_one_link(rig: Rig, loop: TimeLoop) -> None:
    await rig.add("p")
    await rig.add("d")
    rig.control.delay_s = 0.1
    outcomes = await asyncio.gather(*(deliver(rig, "p", "d", name=f"res-{index}") for index in range(10)))
    assert {outcome.state for outcome in outcomes} == {OutcomeState.DONE}
    assert rig.ends[WorkerId("p")].snapshot().sent.incidents["link_opened"] == 1


@in_virtual_time
async def test_lost_answers_are_asked_for_again_and_nothing_is_sent_twice(rig: Rig, loop: TimeLoop) -> None:
    prefill, decode = await rig.add("p"), await rig.add("d")
    await deliver(rig, "p", "d")
    losses = iter([0.0, 1.0] * 40)
    rig.control.lose_response = 0.5
    rig.control.chance = lambda: next(losses, 1.0)
    outcome = await deliver(rig, "p", "d", attempt=2)
    assert outcome.state in (OutcomeState.DONE, OutcomeState.FAILED)
    sent, received = prefill.snapshot().sent, decode.snapshot().received
    assert received.pages <= 8
    assert sent.started == sent.done + sent.failed + sent.expired


@in_virtual_time
async def test_a_peer_that_does_not_answer_is_the_transfers_timeout_not_the_requests(rig: Rig, loop: TimeLoop) -> None:
    await rig.add("p")
    await rig.add("d")
    rig.control.dead.add(WorkerId("d"))
    outcome = await deliver(rig, "p", "d")
    assert outcome.reason is Reason.TRANSFER_TIMEOUT


@pytest.mark.parametrize("ticks", range(8))
def test_a_transfer_aborted_while_its_link_is_found_dead_just_fails(ticks: int) -> None:
    """Goal: no moment of the abort is special. Method: the abort comes after every number of turns of the loop."""

    async def story(rig: Rig, loop: TimeLoop) -> None:
        prefill, decode = await rig.add("p"), await rig.add("d")
        _, promised = expect(decode, 4)
        transfer = prefill.start(promised, REQUEST, decode.me)
        await transfer.open()
        await prefill._links._links[WorkerId("d")].kill("idle for too long")
        run = PageRun(first_page=0, num_pages=2)
        shipping = asyncio.create_task(transfer.ship(run, run_data(run)))
        for _ in range(ticks):
            await asyncio.sleep(0)
        transfer.abort(Reason.CANCELLED, "not wanted any more")
        with pytest.raises(TransferFailed):
            await shipping

    in_virtual_time(story)()


@in_virtual_time
async def test_a_late_word_about_an_older_pair_ends_nothing(rig: Rig, loop: TimeLoop) -> None:
    prefill, decode = await rig.add("p"), await rig.add("d")
    await deliver(rig, "p", "d")
    old_pair = prefill._links._links[WorkerId("d")].pair
    await prefill.drop_peer(WorkerId("d"), "test")
    await deliver(rig, "p", "d", attempt=2)
    await decode.leave(old_pair, "late")
    with pytest.raises(Fenced):
        await decode.meet(old_pair, prefill._links._opener._meet)
    assert (await deliver(rig, "p", "d", attempt=3)).state is OutcomeState.DONE
    assert prefill.snapshot().sent.incidents["link_opened"] == 2


@in_virtual_time
async def test_a_late_offer_of_an_older_frame_is_refused(rig: Rig, loop: TimeLoop) -> None:
    _, decode = await rig.add("p"), await rig.add("d")
    await deliver(rig, "p", "d")
    first = rig.offers[0]
    await deliver(rig, "p", "d", attempt=2)
    await decode.offer(first)  # the very same words: answered as before, and nothing is posted
    changed = type(first)(
        pair=first.pair,
        transfer=first.transfer,
        frame=first.frame,
        run=PageRun(first_page=1, num_pages=2),
        num_bytes=first.num_bytes,
        digests=first.digests,
    )
    with pytest.raises(TransferFailed, match="frame 0 is not the next"):
        await decode.offer(changed)
    assert decode.snapshot().received.pages == 8


@in_virtual_time
async def test_ends_that_disagree_about_the_next_frame_begin_a_new_pair(rig: Rig, loop: TimeLoop) -> None:
    prefill, _ = await rig.add("p"), await rig.add("d")
    await deliver(rig, "p", "d")
    prefill._links._links[WorkerId("d")]._next_frame += 1
    assert (await deliver(rig, "p", "d", attempt=2)).state is OutcomeState.DONE
    assert prefill.snapshot().sent.incidents["link_opened"] == 2


@in_virtual_time
async def test_a_finale_without_pages_whose_answer_is_lost_is_taken_once(rig: Rig, loop: TimeLoop) -> None:
    prefill, decode = await rig.add("p"), await rig.add("d")
    sink, promised = expect(decode, 4, held=4)
    transfer = prefill.start(promised, REQUEST, decode.me)
    await transfer.open()
    draws = iter([1.0, 1.0, 1.0, 1.0, 0.0])  # the fifth draw of a call decides whether its answer is lost
    rig.control.lose_response, rig.control.chance = 0.5, lambda: next(draws, 1.0)
    await transfer.finish(finale(4))
    assert (await transfer.wait_outcome(5.0)).state is OutcomeState.DONE
    assert sink.finales == [finale(4)]
    assert decode.snapshot().received.incidents["duplicate_offer"] == 1


@in_virtual_time
async def test_a_scheme_of_another_version_is_refused(rig: Rig, loop: TimeLoop) -> None:
    prefill, decode = await rig.add("p"), await rig.add("d")
    prefill._links._opener._meet = type(prefill._links._opener._meet)(layout=prefill._layout, scheme=b"another")
    _, promised = expect(decode, 2)
    with pytest.raises(Mismatch, match="scheme"):
        await prefill.start(promised, REQUEST, decode.me).open()


@pytest.mark.virtual_time
@pytest.mark.parametrize("landed", [0, 1, 3, 4])
async def test_a_sender_killed_after_some_pages_is_noticed_and_the_next_attempt_completes(landed: int) -> None:
    """The pair of a dead sender breaks at once, not at a deadline."""
    async with rigged(limits=FAST) as rig:
        prefill, decode = await rig.add("p"), await rig.add("d")
        await rig.add("p2")
        sink, promised = expect(decode, 4, sink=Sink(decode))
        transfer = prefill.start(promised, REQUEST, decode.me)
        await transfer.open()
        for index in range(landed):
            run = PageRun(first_page=index, num_pages=1)
            await transfer.ship(run, run_data(run))
        started = asyncio.get_running_loop().time()
        await rig.restart("p")
        await decode.drop_peer(WorkerId("p"), "dead")
        assert len(sink.failures) == (1 if landed else 0)
        assert asyncio.get_running_loop().time() == started
        assert sink.finales == []
        assert (await deliver(rig, "p2", "d", attempt=2)).state is OutcomeState.DONE


async def timed(loop: TimeLoop, work: Callable[[], Any]) -> float:
    started = loop.time()
    assert (await work()).state is OutcomeState.DONE
    return loop.time() - started
