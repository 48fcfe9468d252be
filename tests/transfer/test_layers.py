"""Runs of some layers of their pages: a page is there when all of its layers are, whatever comes late, twice or never.

Method: a model beside the claims; offers against the inbound table; whole transfers between two endpoints.
"""

import asyncio
import random
from dataclasses import replace

import pytest

from common.core.errors import BatonError, InvalidRequest, Reason, TransferFailed
from common.core.ids import TransferId
from common.kv.layout import LayerSpan, PageLayout
from common.transfer.claims import LayerClaims
from common.transfer.endpoint import KvEndpoint
from common.transfer.expectation import Arrival, Expectation
from common.transfer.messages import Meet, Met, Offer, OutcomeState, PageRun, Pair
from common.transfer.plan import digest_index, run_bytes, split, split_layers
from tests.transfer.rig import PAGE, REQUEST, Rig, Sink, expect, finale, page_bytes, rigged, run_data

pytestmark = pytest.mark.virtual_time

NUM_LAYERS = 4
LAYERED = PageLayout(num_layers=NUM_LAYERS, num_kv_heads=1, head_dim=1, page_size=PAGE // 8, dtype="sim")
PART = PAGE // NUM_LAYERS


class LayeredSink(Sink):
    """Pages in parts: a page is told of when it is whole."""

    def __init__(self, end: KvEndpoint, *, lands_at_once: bool = True) -> None:
        super().__init__(end, lands_at_once=lands_at_once)
        self.landed = LayerClaims(NUM_LAYERS)

    def land(self, arrival: Arrival) -> None:
        span = arrival.run.layers or LayerSpan(first=0, num=NUM_LAYERS)
        assert not self.landed.overlaps(arrival.run), f"{arrival.run} landed before"
        self.landed.add(arrival.run)
        size = span.num * PART
        for offset, index in enumerate(range(arrival.run.first_page, arrival.run.end)):
            page = bytearray(self.pages.get(index, bytes(PAGE)))
            page[span.first * PART : span.end * PART] = arrival.data[offset * size : (offset + 1) * size]
            self.pages[index] = bytes(page)
        self.end.inbound.landed(arrival)


def layered(end: KvEndpoint, total_pages: int, *, lands_at_once: bool = True) -> tuple[LayeredSink, TransferId]:
    sink = LayeredSink(end, lands_at_once=lands_at_once)
    _, transfer = expect(end, total_pages, sink=sink, num_layers=NUM_LAYERS)
    return sink, transfer


def part_data(run: PageRun) -> memoryview:
    whole = run_data(run)
    if run.layers is None:
        return whole
    first, end = run.layers.first * PART, run.layers.end * PART
    parts = [bytes(whole[page * PAGE + first : page * PAGE + end]) for page in range(run.num_pages)]
    return memoryview(bytearray(b"".join(parts)))


def run_of(first: int, count: int, *layers: int) -> PageRun:
    span = LayerSpan(first=layers[0], num=layers[1]) if layers else None
    return PageRun(first_page=first, num_pages=count, layers=span)


@pytest.mark.parametrize("seed", range(10))
def test_claims_are_a_set_of_layers_of_pages(seed: int) -> None:
    print(f"seed {seed}")
    draw, claims, model = random.Random(seed), LayerClaims(NUM_LAYERS), set[tuple[int, int]]()
    added: list[PageRun] = []
    for _ in range(200):
        spans = ((), (0, 2), (2, 2), (0, 1), (1, 1), (2, 1), (3, 1))
        run = run_of(draw.randrange(12), draw.randrange(1, 5), *draw.choice(spans))
        span = run.layers or LayerSpan(first=0, num=NUM_LAYERS)
        cells = {(page, layer) for page in range(run.first_page, run.end) for layer in range(span.first, span.end)}
        assert claims.overlaps(run) == bool(cells & model)
        if not cells & model:
            claims.add(run)
            model |= cells
            added.append(run)
        elif draw.random() < 0.3:
            gone = added.pop(draw.randrange(len(added)))
            span = gone.layers or LayerSpan(first=0, num=NUM_LAYERS)
            claims.remove(gone)
            model -= {(page, k) for page in range(gone.first_page, gone.end) for k in range(span.first, span.end)}
        assert claims.num == len(model)


def test_whoever_states_a_huge_run_makes_nobody_count_to_its_end() -> None:
    claims = LayerClaims(NUM_LAYERS)
    claims.add(run_of(7, 1, 0, 2))
    assert claims.overlaps(run_of(0, 1 << 31))
    assert not claims.overlaps(run_of(0, 1 << 31, 2, 2))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_groups_of_layers_bring_every_byte_once_under_indexes_of_their_own(groups: int) -> None:
    run = run_of(3, 5)
    parts = split_layers(run, num_layers=NUM_LAYERS, num_groups=groups)
    assert sum(run_bytes(part, PAGE, NUM_LAYERS) for part in parts) == run_bytes(run, PAGE, NUM_LAYERS)
    claims = LayerClaims(NUM_LAYERS)
    for part in parts:
        assert not claims.overlaps(part)
        claims.add(part)
    assert claims.num == run.num_pages * NUM_LAYERS
    indexes = [digest_index(part) + page for part in parts for page in range(part.num_pages)]
    assert len(set(indexes)) == len(indexes)
    assert max(indexes) < 2**32
    assert [piece.layers for piece in split(parts[-1], 2)] == [parts[-1].layers] * 3


@pytest.mark.parametrize("groups", [2, 4])
async def test_pages_that_come_layer_by_layer_are_whole_at_the_end(groups: int) -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p", layout=LAYERED), await rig.add("d", layout=LAYERED)
        sink, transfer_id = layered(decode, 5)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        await transfer.open()
        assert transfer.takes_layers
        *first, last = split_layers(run_of(0, 4), num_layers=NUM_LAYERS, num_groups=groups)
        for run in first:
            await transfer.ship(run, part_data(run))
        assert sink.finales == []
        await transfer.ship(last, part_data(last))
        await transfer.finish(finale(5), run_of(4, 1), part_data(run_of(4, 1)))
        outcome = await transfer.wait_outcome(1.0)
        assert (outcome.state, outcome.landed_pages) == (OutcomeState.DONE, 5)
        assert sink.pages == {index: page_bytes(index) for index in range(5)}
        assert len(sink.finales) == 1


async def test_done_means_that_every_layer_has_landed() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p", layout=LAYERED), await rig.add("d", layout=LAYERED)
        sink, transfer_id = layered(decode, 2, lands_at_once=False)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        low, high = split_layers(run_of(0, 2), num_layers=NUM_LAYERS, num_groups=2)
        await transfer.ship(low, part_data(low))
        await transfer.finish(finale(2), high, part_data(high))
        async with asyncio.timeout(1.0):
            while len(sink.waiting) < 2:
                await asyncio.sleep(0)
        sink.land(sink.waiting.pop())
        assert (await decode.outcome(transfer.ref, 0.0, None)).state is OutcomeState.PENDING
        sink.land_all()
        assert (await transfer.wait_outcome(1.0)).state is OutcomeState.DONE


@pytest.mark.parametrize(
    "run",
    [run_of(0, 2, 0, 2), run_of(0, 2), run_of(1, 1, 1, 1), run_of(0, 1, 0, 4)],
    ids=["the same", "whole pages", "one of its layers", "all layers of a page"],
)
async def test_a_layer_that_was_offered_is_not_taken_again(run: PageRun) -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p", layout=LAYERED), await rig.add("d", layout=LAYERED)
        sink, transfer_id = layered(decode, 4)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        await transfer.ship(run_of(0, 2, 0, 2), part_data(run_of(0, 2, 0, 2)))
        with pytest.raises(InvalidRequest):
            await transfer.ship(run, part_data(run))
        assert sink.finales == []
        assert decode.snapshot().received.done == 0


@pytest.mark.parametrize("layers", [(0, 3), (1, 2), (2, 4), (4, 1), (0, 5)])
async def test_uneven_layers_are_refused(layers: tuple[int, int]) -> None:
    """Neither first nor number may break the division into equal parts, or leave the page."""
    async with rigged() as rig:
        prefill, decode = await rig.add("p", layout=LAYERED), await rig.add("d", layout=LAYERED)
        _, transfer_id = layered(decode, 4)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        run = run_of(0, 1, *layers)
        with pytest.raises(InvalidRequest):
            await transfer.ship(run, memoryview(bytearray(LAYERED.part_bytes(run.layers))))


async def test_a_finale_while_a_layer_is_missing_is_refused_and_half_a_page_is_never_done() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p", layout=LAYERED), await rig.add("d", layout=LAYERED)
        sink, transfer_id = layered(decode, 2)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        run = run_of(0, 2, 0, 2)
        await transfer.ship(run, part_data(run))
        with pytest.raises(InvalidRequest, match="4 of 8 layers"):
            await transfer.finish(finale(2))
        assert sink.finales == []


async def test_an_abort_amid_the_layers_fails_the_attempt_and_the_next_one_starts_over() -> None:
    async with rigged() as rig:
        prefill, decode = await rig.add("p", layout=LAYERED), await rig.add("d", layout=LAYERED)
        sink, transfer_id = layered(decode, 2)
        low, high = split_layers(run_of(0, 2), num_layers=NUM_LAYERS, num_groups=2)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        await transfer.ship(low, part_data(low))
        transfer.abort(Reason.CANCELLED)
        async with asyncio.timeout(1.0):
            while not sink.failures:
                await asyncio.sleep(0.01)
        again = LayeredSink(decode)
        _, second = expect(decode, 2, attempt=2, sink=again, num_layers=NUM_LAYERS)
        transfer = prefill.start(second, REQUEST, decode.me)
        with pytest.raises(BatonError):
            await transfer.finish(finale(2), high, part_data(high))
        third = LayeredSink(decode)
        _, last = expect(decode, 2, attempt=3, sink=third, num_layers=NUM_LAYERS)
        transfer = prefill.start(last, REQUEST, decode.me)
        for run in (low, high):
            await transfer.ship(run, part_data(run))
        await transfer.finish(finale(2))
        assert (await transfer.wait_outcome(1.0)).state is OutcomeState.DONE
        assert third.pages == {index: page_bytes(index) for index in range(2)}


async def test_a_flipped_bit_and_the_right_bytes_of_another_layer_are_both_seen() -> None:
    for harm in ("bit", "layer"):
        async with rigged() as rig:
            prefill, decode = await rig.add("p", layout=LAYERED), await rig.add("d", layout=LAYERED)
            sink, transfer_id = layered(decode, 2)
            transfer = prefill.start(transfer_id, REQUEST, decode.me)
            low, high = split_layers(run_of(0, 2), num_layers=NUM_LAYERS, num_groups=2)
            if harm == "bit":
                rig.network.faults.flip = 1.0
                await transfer.ship(low, part_data(low))
            else:
                _swap_layers(rig, low)
                await transfer.ship(high, part_data(high))
            async with asyncio.timeout(1.0):
                while not sink.failures:
                    await asyncio.sleep(0.01)
            assert sink.failures[0].reason is Reason.DIGEST_MISMATCH
            transfer.abort(Reason.CANCELLED)


def _swap_layers(rig: Rig, claimed: PageRun) -> None:
    """The offer says other layers than its digests were made for."""
    decode = next(end for end in rig.ends.values() if end.me.worker == "d")
    inner = decode._reception

    original = inner.offer

    async def offer(given: Offer) -> None:
        await original(replace(given, run=claimed))

    inner.offer = offer  # type: ignore[method-assign, assignment]


async def test_a_receiver_that_takes_whole_pages_is_sent_no_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An older release: its answer to the meeting lacks the word."""
    original = KvEndpoint.meet

    async def meet(self: KvEndpoint, pair: Pair, given: Meet) -> Met:
        return replace(await original(self, pair, given), takes_layers=False)

    monkeypatch.setattr(KvEndpoint, "meet", meet)
    async with rigged() as rig:
        prefill, decode = await rig.add("p", layout=LAYERED), await rig.add("d", layout=LAYERED)
        sink, transfer_id = expect(decode, 2)
        transfer = prefill.start(transfer_id, REQUEST, decode.me)
        await transfer.open()
        assert not transfer.takes_layers
        with pytest.raises(TransferFailed) as refused:
            await transfer.ship(run_of(0, 2, 0, 2), part_data(run_of(0, 2, 0, 2)))
        assert refused.value.reason is Reason.LAYOUT_MISMATCH
        assert rig.offers == []
        assert sink.pages == {}


def test_an_expectation_of_whole_pages_counts_them_as_one_layer_each() -> None:
    expected = Expectation(
        transfer=TransferId("r", 1),  # type: ignore[arg-type]
        request=REQUEST,
        total_pages=5,
        held_pages=2,
        page_bytes=PAGE,
    )
    assert (expected.num_wanted, expected.num_wanted_layers) == (3, 3)
