"""One transfer from end to end over a loopback pair: what arrives, how it ends, and that it ends once."""

import asyncio

import pytest

from common.core.errors import BatonError, Fenced, InvalidRequest, Mismatch, NotFound, Reason, TransferFailed
from common.core.ids import RequestId, ReservationId, TransferId
from common.transfer.messages import OutcomeState, PageRun
from common.transfer.outbound import OutboundState
from tests.transfer.rig import PAGE, REQUEST, Sink, expect, finale, page_bytes, rigged, run_data, ship_all

pytestmark = pytest.mark.virtual_time


async def test_every_page_arrives_once_with_the_finale_behind_it() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d")
        sink, transfer_id = expect(decode, 7)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        await ship_all(transfer, 7)
        outcome = await transfer.wait_outcome(1.0)
        assert outcome.state is OutcomeState.DONE
        assert outcome.landed_pages == 7
        assert sink.pages == {index: page_bytes(index) for index in range(7)}
        assert sink.finales == [finale(7)]
        sent, received = prefill.snapshot().sent, decode.snapshot().received
        assert (sent.started, sent.done, sent.pages, sent.bytes) == (1, 1, 7, 7 * PAGE)
        assert (received.started, received.done, received.pages, received.bytes) == (1, 1, 7, 7 * PAGE)


async def test_held_pages_are_not_sent() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d")
        sink, transfer_id = expect(decode, 5, held=3)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        await ship_all(transfer, 5, held=3)
        assert (await transfer.wait_outcome(1.0)).state is OutcomeState.DONE
        assert sorted(sink.pages) == [3, 4]


async def test_a_prompt_that_decode_holds_whole_needs_the_finale_alone() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d")
        sink, transfer_id = expect(decode, 4, held=4)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        await transfer.finish(finale(4))
        assert (await transfer.wait_outcome(1.0)).state is OutcomeState.DONE
        assert sink.finales == [finale(4)]
        assert prefill.snapshot().sent.bytes == 0


async def test_done_means_landed_not_received() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d")
        sink, transfer_id = expect(decode, 2, sink=Sink(decode, lands_at_once=False))
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        await ship_all(transfer, 2)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await transfer.wait_outcome(5.0)
        sink.land_all()
        assert (await transfer.wait_outcome(1.0)).state is OutcomeState.DONE


async def test_runs_of_one_transfer_may_be_shipped_at_once_and_keep_their_order() -> None:
    async with rigged() as rig:
        rig.network.faults.delay_s = 0.01
        prefill, decode = await rig.add("p"), await rig.add("d", staging=8)
        _, transfer_id = expect(decode, 8)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        runs = [PageRun(first_page=index, num_pages=1) for index in range(8)]
        await asyncio.gather(*(transfer.ship(run, run_data(run)) for run in runs))
        await transfer.finish(finale(8))
        assert (await transfer.wait_outcome(1.0)).state is OutcomeState.DONE
        assert [offer.run.first_page for offer in rig.offers] == [*range(8), 8]


async def test_several_transfers_share_one_link() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d", staging=2)
        promises = [expect(decode, 6, name=f"res-{index}") for index in range(5)]

        async def one(index: int) -> None:
            transfer = prefill.start(promises[index][1], REQUEST, decode.me)
            await ship_all(transfer, 6, salt=str(index))
            assert (await transfer.wait_outcome(2.0)).state is OutcomeState.DONE

        await asyncio.gather(*(one(index) for index in range(5)))
        for index, (sink, _) in enumerate(promises):
            assert sink.pages == {page: page_bytes(page, str(index)) for page in range(6)}
        assert prefill.snapshot().sent.incidents["link_opened"] == 1


async def test_a_flipped_bit_is_found_and_the_reservation_stands() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d")
        sink, transfer_id = expect(decode, 2)
        rig.network.faults.flip = 1.0
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        await ship_all(transfer, 2)
        outcome = await transfer.wait_outcome(1.0)
        assert (outcome.state, outcome.reason) == (OutcomeState.FAILED, Reason.DIGEST_MISMATCH)
        assert sink.pages == {}
        assert sink.finales == []
        assert [failure.reason for failure in sink.failures] == [Reason.DIGEST_MISMATCH]
        assert decode.snapshot().received.incidents["digest_mismatch"] == 1
        rig.network.faults.flip = 0.0
        again, second_id = expect(decode, 2, attempt=2)
        second = prefill.start(second_id, REQUEST, decode.me)
        await ship_all(second, 2)
        assert (await second.wait_outcome(1.0)).state is OutcomeState.DONE
        assert again.pages == {0: page_bytes(0), 1: page_bytes(1)}


async def test_bytes_of_another_page_are_found() -> None:
    """Right bytes under a wrong index: the sender's mistake, not the wire's. The digest covers the index."""
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d")
        sink, transfer_id = expect(decode, 2)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        await transfer.open()
        link = transfer._link
        assert link is not None
        swapped = await transfer._digest(
            PageRun(first_page=1, num_pages=1), run_data(PageRun(first_page=0, num_pages=1)), link, None
        )
        data = run_data(PageRun(first_page=0, num_pages=1))
        await link.carry(transfer.ref, PageRun(first_page=0, num_pages=1), data, digests=swapped)
        transfer._start()
        outcome = await transfer.wait_outcome(1.0)
        assert outcome.reason is Reason.DIGEST_MISMATCH
        assert sink.pages == {}


async def test_an_older_attempt_is_fenced_and_the_newer_one_is_not_disturbed() -> None:
    async with rigged() as rig:
        zombie, fresh, decode = await rig.add("p1"), await rig.add("p2"), await rig.add("d")
        _, first_id = expect(decode, 4)
        old = zombie.start(first_id, REQUEST, decode.me)
        first_run = PageRun(first_page=0, num_pages=2)
        await old.ship(first_run, run_data(first_run, "zombie"))
        sink, second_id = expect(decode, 4, attempt=2)
        new = fresh.start(second_id, REQUEST, decode.me)
        rest = PageRun(first_page=2, num_pages=2)
        with pytest.raises(Fenced):
            await old.finish(finale(4), rest, run_data(rest, "zombie"))
        await ship_all(new, 4)
        assert (await new.wait_outcome(1.0)).state is OutcomeState.DONE
        assert sink.pages == {index: page_bytes(index) for index in range(4)}
        assert old.state is OutboundState.FAILED
        assert decode.snapshot().received.incidents["fenced"] >= 1


async def test_layouts_that_differ_are_refused_when_workers_meet_with_a_readable_difference() -> None:
    async with rigged() as rig:
        prefill = await rig.add("p")
        other = type(prefill._layout)(num_layers=2, num_kv_heads=1, head_dim=8, page_size=8, dtype="sim")
        decode = await rig.add("d", layout=other)
        transfer = prefill.start(TransferId(ReservationId("res-1"), 1), REQUEST, decode.me)
        with pytest.raises(Mismatch, match="page_size 8 here, 4 there"):
            await transfer.open()
        assert transfer.outcome.reason is Reason.LAYOUT_MISMATCH
        assert prefill.snapshot().sent.started == 0


async def test_a_reservation_that_is_not_there_is_named() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d")
        transfer = prefill.start(TransferId(ReservationId("nowhere"), 1), REQUEST, decode.me)
        with pytest.raises(NotFound, match="nowhere"):
            await ship_all(transfer, 2)
        assert transfer.outcome.reason is Reason.RESERVATION_NOT_FOUND


async def test_pages_of_another_request_do_not_enter_a_reservation() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d")
        sink, transfer_id = expect(decode, 2)
        transfer = prefill.start(transfer_id, RequestId("req-2"), decode.me)
        with pytest.raises(Fenced):
            await ship_all(transfer, 2)
        assert sink.pages == {}


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (PageRun(first_page=0, num_pages=1), "outside"),
        (PageRun(first_page=3, num_pages=2), "outside"),
        (PageRun(first_page=1, num_pages=1), "offered before"),
        (PageRun(first_page=2**31, num_pages=1), "outside"),
    ],
)
async def test_runs_that_do_not_fit_the_promise_are_refused(run: PageRun, why: str) -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d")
        sink, transfer_id = expect(decode, 4, held=1)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        good = PageRun(first_page=1, num_pages=1)
        await transfer.ship(good, run_data(good))
        with pytest.raises(InvalidRequest, match=why):
            await transfer.ship(run, run_data(run))
        assert sorted(sink.pages) == [1]


async def test_a_finale_while_pages_are_missing_is_refused() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d")
        sink, transfer_id = expect(decode, 4)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        run = PageRun(first_page=0, num_pages=2)
        with pytest.raises(InvalidRequest, match="2 pages are missing"):
            await transfer.finish(finale(4), run, run_data(run))
        assert sink.finales == []


async def test_abort_reaches_the_receiver_at_once() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d")
        sink, transfer_id = expect(decode, 4)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        run = PageRun(first_page=0, num_pages=2)
        await transfer.ship(run, run_data(run))
        transfer.abort(Reason.CANCELLED)
        transfer.abort(Reason.CANCELLED)
        await asyncio.sleep(0.05)
        assert [failure.reason for failure in sink.failures] == [Reason.CANCELLED]
        assert prefill.snapshot().sent.failed == decode.snapshot().received.failed == 1
        with pytest.raises(TransferFailed):
            await transfer.ship(PageRun(first_page=2, num_pages=1), run_data(PageRun(first_page=2, num_pages=1)))


async def test_a_shipping_task_that_is_cancelled_keeps_its_buffer_until_the_frame_is_gone() -> None:
    async with rigged() as rig:
        rig.network.faults.delay_s = 0.1
        prefill, decode = await rig.add("p"), await rig.add("d")
        expect(decode, 4)
        transfer = prefill.start(TransferId(ReservationId("res-1"), 1), REQUEST, decode.me)
        run = PageRun(first_page=0, num_pages=2)
        await transfer.open()
        task = asyncio.create_task(transfer.ship(run, run_data(run)))
        await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert prefill.snapshot().sent.pages == 2
        assert transfer.outcome.reason is Reason.CANCELLED


async def test_no_outcome_in_time_is_expired_and_said() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d")
        sink, transfer_id = expect(decode, 2, sink=Sink(decode, lands_at_once=False))
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        await ship_all(transfer, 2)
        outcome = await transfer.wait_outcome(0.1)
        assert (outcome.state, outcome.reason) == (OutcomeState.EXPIRED, Reason.TRANSFER_TIMEOUT)
        assert (await transfer.wait_outcome(0.1)) is outcome
        sink.land_all()
        assert prefill.snapshot().sent.expired == 1


async def test_a_receiver_whose_staging_is_full_is_waited_for() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d", staging=1)
        sink, transfer_id = expect(decode, 4, sink=Sink(decode, lands_at_once=False))
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        shipping = asyncio.create_task(ship_all(transfer, 4))
        await asyncio.sleep(0.3)
        assert len(sink.waiting) == 1
        sink.lands_at_once = True
        sink.land_all()
        await shipping
        assert (await transfer.wait_outcome(1.0)).state is OutcomeState.DONE


async def test_errors_of_ship_are_baton_errors_whatever_breaks() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p"), await rig.add("d")
        _, transfer_id = expect(decode, 2)
        del rig.ends[decode.me.worker]
        rig.retired.append(decode)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        with pytest.raises(BatonError):
            await ship_all(transfer, 2)
        assert transfer.outcome.state is OutcomeState.FAILED


async def test_a_run_larger_than_the_receivers_buffer_travels_in_pieces() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p", pages=8), await rig.add("d", pages=3)
        sink, transfer_id = expect(decode, 8)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        run = PageRun(first_page=0, num_pages=8)
        await transfer.finish(finale(8), run, run_data(run))
        assert (await transfer.wait_outcome(1.0)).state is OutcomeState.DONE
        assert sink.pages == {index: page_bytes(index) for index in range(8)}
        assert [offer.run.num_pages for offer in rig.offers] == [3, 3, 2]
        assert [offer.finale is None for offer in rig.offers] == [True, True, False]
