"""Staging in the memory of the GPU that holds the pages: bytes, digests and their order beside steps, over a device
that is as late as it may be and whose memory is the host's. Not a word about streams, events or speed of a GPU.
"""

import ctypes
import random
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from common.core.errors import TransferFailed
from common.core.ids import PageId
from common.kv.device_keys import DeviceKeys
from common.kv.digest import DigestKey, digest_pages
from common.kv.layout import LayerSpan, PageLayout
from common.kv.page_device import MAX_KEYS, key_bytes
from common.kv.seal import Seal
from common.kv.span import DeviceSpan
from common.kv.torch_device import TorchPageDevice
from common.kv.torch_storage import TorchStorage
from kernels.dispatch import interpreted
from tests.kv.lazy_streams import LazyDevice

LAYOUT = PageLayout(num_layers=2, num_kv_heads=2, head_dim=8, page_size=4, dtype="bfloat16")
SIZE, NUM_PAGES = LAYOUT.page_bytes, 4
KEY = DigestKey(bytes(range(32)))
ORDER = [PageId(2), PageId(0)]


@pytest.fixture(autouse=True)
def on_a_device() -> Iterator[None]:
    torch.set_num_threads(1)
    with interpreted():
        yield


class Rig:
    """Pages of random bytes on a late device, and buffers beside them."""

    def __init__(self, seed: int = 1) -> None:
        self.late = LazyDevice()
        self.storage = TorchStorage(LAYOUT, NUM_PAGES, has_scratch=True, streams=self.late.streams())
        self.device = TorchPageDevice(self.storage.device, self.storage.streams, self.storage.keys)
        self.bytes_PB = self.storage.kv_PL2HSD.view(torch.uint8).view(-1, SIZE)
        self.contents = [random.Random(seed + page).randbytes(SIZE) for page in range(NUM_PAGES)]
        for page, content in enumerate(self.contents):
            self.bytes_PB[page] = torch.frombuffer(bytearray(content), dtype=torch.uint8)

    def write(self, page: PageId, value: int) -> None:
        """A step's kernel."""
        self.late.steps.run(lambda: self.bytes_PB[page].fill_(value))

    def copied(self, span: DeviceSpan) -> bytes:
        out = bytearray(len(span))
        self.device.copy_out(span, memoryview(out))
        return bytes(out)


def raw(span: DeviceSpan) -> bytes:
    """What lies there now, whatever was launched."""
    return ctypes.string_at(span.address, span.num_bytes)


def fill(span: DeviceSpan, data: bytes) -> None:
    """As another process does that maps this memory."""
    ctypes.memmove(span.address, data, len(data))


def test_a_gather_is_launched_and_not_waited_for() -> None:
    rig = Rig()
    span = rig.device.make_buffer(2 * SIZE)
    fill(span, bytes(2 * SIZE))
    rig.storage.gather(ORDER, span)
    assert raw(span) == bytes(2 * SIZE), "somebody waited"
    assert rig.copied(span) == rig.contents[2] + rig.contents[0]


@pytest.mark.parametrize("num_pages", [1, 2, 3])
def test_digests_are_those_that_the_cpu_computes(num_pages: int) -> None:
    rig = Rig()
    pages = [PageId(3), PageId(1), PageId(0)][:num_pages]
    span = rig.device.make_buffer(3 * SIZE)[: num_pages * SIZE]
    rig.storage.gather(pages, span)
    found = rig.device.digests(span, SIZE, KEY, first_index=7)
    expected = digest_pages(memoryview(b"".join(rig.contents[page] for page in pages)), SIZE, KEY, first_index=7)
    assert found == b"".join(expected)


def test_parts_of_pages_have_digests_of_their_own_size() -> None:
    rig, layers = Rig(), LayerSpan(first=1, num=1)
    half = SIZE // 2
    span = rig.device.make_buffer(2 * half)
    rig.storage.gather(ORDER, span, layers)
    data = rig.contents[2][half:] + rig.contents[0][half:]
    assert rig.copied(span) == data
    expected = digest_pages(memoryview(data), half, KEY, first_index=1)
    assert rig.device.digests(span, half, KEY, first_index=1) == b"".join(expected)


def test_keys_of_every_pair_are_told_apart_and_few_are_kept() -> None:
    rig = Rig()
    span = rig.device.make_buffer(SIZE)
    rig.storage.gather([PageId(1)], span)
    pairs = [DigestKey(bytes([number]) * 32) for number in range(MAX_KEYS + 2)]
    for key in (*pairs, *pairs):
        expected = digest_pages(memoryview(rig.contents[1]), SIZE, key)
        assert rig.device.digests(span, SIZE, key, first_index=0) == b"".join(expected)
    assert len(rig.device._keys) == MAX_KEYS
    assert {each.words.words_W.nbytes for each in rig.device._keys.sets() if each.words} == {key_bytes(SIZE)}


def test_a_first_digest_makes_its_keys_beside_the_step_in_flight() -> None:
    """Keys and digest are work of the readers' stream, and nothing of the steps' is waited for."""
    rig = Rig()
    span = rig.device.make_buffer(SIZE)
    rig.storage.gather([PageId(1)], span)
    rig.storage.streams.begin_step()
    rig.write(PageId(2), 8)
    rig.storage.streams.end_step()
    for _ in range(2):
        found = rig.device.digests(span, SIZE, KEY, first_index=0)
        assert found == b"".join(digest_pages(memoryview(rig.contents[1]), SIZE, KEY))
    assert raw_page(rig, PageId(2)) == rig.contents[2], "the step in flight was waited for"


def test_a_read_waits_for_lifts_into_its_own_bytes_alone() -> None:
    """A slot of a ring above a staging buffer, whose lift comes behind a step: nobody waits for that."""
    rig = Rig()
    both = rig.device.make_buffer(4 * SIZE)
    below, above = both[: 2 * SIZE], both[2 * SIZE :]
    fill(above, bytes([4]) * 2 * SIZE)
    rig.write(PageId(1), 7)
    rig.storage.streams.settle(rig.storage.streams.end_step())
    rig.storage.gather([PageId(1)], below[:SIZE])
    assert rig.copied(above) == bytes([4]) * 2 * SIZE
    assert raw_page(rig, PageId(1)) == rig.contents[1], "another buffer's lift was waited for"
    assert rig.copied(both[SIZE - 1 : SIZE + 1])[:1] == bytes([7])


def test_what_a_longer_lift_left_behind_a_shorter_one_is_waited_for() -> None:
    rig = Rig()
    span = rig.device.make_buffer(2 * SIZE)
    fill(span, bytes(2 * SIZE))
    rig.storage.gather(ORDER, span)
    rig.storage.gather([PageId(1)], span[:SIZE])
    assert rig.copied(span[SIZE:]) == rig.contents[0]


def test_a_lifted_page_may_be_given_back_at_once_the_next_step_writes_it_later() -> None:
    rig = Rig()
    span = rig.device.make_buffer(SIZE)
    rig.storage.gather([PageId(1)], span)
    rig.storage.streams.begin_step()
    rig.write(PageId(1), 9)
    rig.storage.streams.end_step().finish()
    assert rig.copied(span) == rig.contents[1]


def test_a_gather_comes_behind_the_step_that_was_settled_and_not_behind_the_one_in_flight() -> None:
    rig = Rig()
    span = rig.device.make_buffer(SIZE)
    rig.write(PageId(1), 7)
    rig.storage.streams.settle(rig.storage.streams.end_step())
    rig.storage.streams.begin_step()
    rig.write(PageId(2), 8)
    rig.storage.streams.end_step()
    rig.storage.gather([PageId(1)], span)
    assert rig.copied(span) == bytes([7]) * SIZE
    assert raw_page(rig, PageId(2)) == rig.contents[2], "the step in flight was waited for"


def test_what_a_step_in_flight_has_reached_leaves_while_it_goes_on() -> None:
    """Its first layers, gathered and digested; those behind them are lifted in the same breath and not waited for."""
    rig, first, second = Rig(), LayerSpan(first=0, num=1), LayerSpan(first=1, num=1)
    early, late, half = rig.device.make_buffer(SIZE // 2), rig.device.make_buffer(SIZE // 2), SIZE // 2
    streams, parts_UB = rig.storage.streams, rig.bytes_PB.view(-1, half)
    streams.begin_step()
    for layers, span, value in ((first, early, 5), (second, late, 6)):
        rig.late.steps.run(partial(parts_UB[2 + layers.first].fill_, value))
        streams.reach()
        rig.storage.gather([PageId(1)], span, layers)
    end = streams.end_step()
    found = rig.device.digests(early, half, KEY, first_index=1)
    assert found == b"".join(digest_pages(memoryview(bytes([5]) * half), half, KEY, first_index=1))
    assert raw_page(rig, PageId(1))[half:] == rig.contents[1][half:], "the rest of the step was waited for"
    assert rig.copied(late) == bytes([6]) * half
    streams.settle(end)


def test_what_was_reached_stays_so_when_the_step_before_is_collected() -> None:
    """Steps are launched ahead: a run that found no staging amid its step is gathered behind it, not before."""
    rig = Rig()
    streams, span = rig.storage.streams, rig.device.make_buffer(SIZE)
    streams.begin_step()
    before = streams.end_step()
    streams.begin_step()
    rig.write(PageId(1), 7)
    streams.reach()
    streams.end_step()
    streams.settle(before)
    rig.storage.gather([PageId(1)], span)
    assert rig.copied(span) == bytes([7]) * SIZE


def test_a_part_of_a_buffer_is_read_behind_what_was_lifted_into_it() -> None:
    rig = Rig()
    spans = [rig.device.make_buffer(2 * SIZE) for _ in range(3)]
    for span in spans:
        fill(span, bytes(2 * SIZE))
        rig.storage.gather(ORDER, span)
    for span in reversed(spans):
        assert rig.copied(span[SIZE:]) == rig.contents[0]


def raw_page(rig: Rig, page: PageId) -> bytes:
    return bytes(rig.bytes_PB[page].tolist())


def test_what_lies_on_the_device_lands_and_is_free_when_the_scatter_returns() -> None:
    rig = Rig()
    span, data = rig.device.make_buffer(2 * SIZE), random.Random(9).randbytes(2 * SIZE)
    fill(span, data)
    rig.storage.scatter(ORDER, span)
    fill(span, bytes(2 * SIZE))
    rig.storage.streams.begin_step()
    read: list[bytes] = []
    rig.late.steps.run(lambda: read.extend(raw_page(rig, page) for page in ORDER))
    rig.storage.streams.end_step().finish()
    assert read == [data[:SIZE], data[SIZE:]]
    assert raw_page(rig, PageId(3)) == rig.contents[3]


def test_a_landing_comes_behind_the_steps_that_were_collected() -> None:
    rig = Rig()
    span = rig.device.make_buffer(SIZE)
    fill(span, bytes([3]) * SIZE)
    rig.write(PageId(1), 7)
    rig.storage.streams.settle(rig.storage.streams.end_step())
    rig.storage.scatter([PageId(1)], span)
    rig.storage.streams.begin_step()
    rig.storage.streams.end_step().finish()
    assert raw_page(rig, PageId(1)) == bytes([3]) * SIZE


def test_a_sealed_gather_is_launched_with_its_digests_and_not_waited_for() -> None:
    """Behind the step that was settled and the making of its keys, which nobody waits for either."""
    rig = Rig()
    span = rig.device.make_buffer(2 * SIZE)
    fill(span, bytes(2 * SIZE))
    rig.write(PageId(2), 7)
    rig.storage.streams.settle(rig.storage.streams.end_step())
    rig.storage.streams.begin_step()
    rig.write(PageId(3), 8)
    rig.storage.streams.end_step()
    sealing = rig.storage.gather_sealed(ORDER, span, KEY, first_index=4)
    assert not sealing.is_made
    assert raw(span) == bytes(2 * SIZE), "somebody waited"
    expected = bytes([7]) * SIZE + rig.contents[0]
    assert sealing.finish() == b"".join(digest_pages(memoryview(expected), SIZE, KEY, first_index=4))
    assert raw(span) == expected
    assert raw_page(rig, PageId(3)) == rig.contents[3], "the step in flight was waited for"


def test_the_next_step_comes_behind_a_sealed_gather() -> None:
    rig = Rig()
    span = rig.device.make_buffer(SIZE)
    sealing = rig.storage.gather_sealed([PageId(1)], span, KEY, first_index=0)
    rig.storage.streams.begin_step()
    rig.write(PageId(1), 9)
    rig.storage.streams.end_step().finish()
    assert sealing.finish() == b"".join(digest_pages(memoryview(rig.contents[1]), SIZE, KEY))
    rig.device.finish_lift(span)
    assert raw(span) == rig.contents[1]


def test_keys_that_were_made_beforehand_are_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever launches steps computes none: that is ms of a processor."""
    rig = Rig()
    rig.device.make_keys(SIZE, KEY)
    monkeypatch.setattr(DigestKey, "stream", lambda *_: pytest.fail("keys are expanded where pages are gathered"))
    span = rig.device.make_buffer(SIZE)
    rig.storage.gather_sealed([PageId(1)], span, KEY, first_index=0).finish()


@pytest.mark.parametrize("flipped", [None, 5, SIZE + 1])
def test_what_lands_is_verified_in_the_same_pass(flipped: int | None) -> None:
    rig = Rig()
    span, data = rig.device.make_buffer(2 * SIZE), random.Random(9).randbytes(2 * SIZE)
    seal = Seal(key=KEY, first_index=3, digests=b"".join(digest_pages(memoryview(data), SIZE, KEY, first_index=3)))
    fill(span, data)
    if flipped is not None:
        fill(span[flipped : flipped + 1], bytes([data[flipped] ^ 4]))
    assert rig.storage.scatter_sealed(ORDER, span, seal) == (flipped is None)
    fill(span, bytes(2 * SIZE))
    rig.storage.streams.begin_step()
    rig.storage.streams.end_step().finish()
    is_landed = raw_page(rig, ORDER[0]) + raw_page(rig, ORDER[1]) == data
    assert is_landed == (flipped is None)
    assert raw_page(rig, PageId(3)) == rig.contents[3]


def test_no_pages_are_no_work() -> None:
    rig = Rig()
    span = rig.device.make_buffer(SIZE)
    rig.storage.gather([], span[:0])
    rig.storage.scatter([], span[:0])
    assert not rig.late.moves.queue


@pytest.mark.parametrize("seed", range(6))
def test_in_any_order_everything_is_as_if_it_had_been_done_one_by_one(seed: int) -> None:
    """Steps, one in flight at most, with gathers into buffers, digests, copies and landings; pages that were gathered
    are written by the next step. The reference is a list of bytes."""
    rig, chance = Rig(), random.Random(seed)
    model, buffers = [*rig.contents], [rig.device.make_buffer(SIZE) for _ in range(2)]
    held: list[bytes | None] = [None, None]
    flight = None
    for turn in range(40):
        free = [PageId(p) for p in range(NUM_PAGES) if flight is None or p != flight[0]]
        page, place = chance.choice(free), chance.randrange(2)
        span = buffers[place]
        match chance.randrange(5):
            case 0:
                if flight is not None:
                    rig.storage.streams.settle(flight[1])
                value = chance.randrange(256)
                rig.storage.streams.begin_step()
                rig.write(page, value)
                flight = page, rig.storage.streams.end_step()
                model[page] = bytes([value]) * SIZE
            case 1:
                rig.storage.gather([page], span)
                held[place] = model[page]
            case 2 if (known := held[place]) is not None:
                expected = b"".join(digest_pages(memoryview(known), SIZE, KEY, first_index=turn))
                found = rig.device.digests(span, SIZE, KEY, first_index=turn)
                assert found == expected, f"seed {seed}, turn {turn}"
            case 3 if (known := held[place]) is not None:
                assert rig.copied(span) == known, f"seed {seed}, turn {turn}"
            case _ if (known := held[place]) is not None:
                rig.storage.scatter([page], span)
                model[page] = known


def test_a_span_is_sliced_as_a_buffer_is() -> None:
    span = DeviceSpan(address=1000, num_bytes=10, device=1)
    assert span[2:5] == DeviceSpan(address=1002, num_bytes=3, device=1)
    assert (len(span[:]), len(span[8:20]), len(span[5:2]), span.nbytes) == (10, 2, 0, 10)
    with pytest.raises(AssertionError, match="every 2th"):
        span[::2]


def test_a_full_device_fails_the_transfer_that_wanted_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of a pair are made at its first digest, beside pages that fill the device."""
    rig = Rig()
    span = rig.device.make_buffer(SIZE)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DeviceKeys, "of", full)
    with pytest.raises(TransferFailed, match=r"no memory for digests of \d+ bytes: lower engine.memory_fraction"):
        rig.device.digests(span, SIZE, KEY, first_index=0)
