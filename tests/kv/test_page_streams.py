"""Pages move beside the steps and still in their order, on a device that is as late as it may be.

Each test but the last fails when the wait that it is named after is left out of PageStreams.
"""

import random
from collections.abc import Iterator

import pytest
import torch

from common.core.ids import PageId
from common.kv.cuda_stream import page_streams
from common.kv.layout import LayerSpan, PageLayout
from common.kv.span import DeviceSpan
from common.kv.torch_storage import TorchStorage
from kernels.dispatch import interpreted
from tests.kv.lazy_streams import LazyDevice

LAYOUT = PageLayout(num_layers=2, num_kv_heads=2, head_dim=8, page_size=4, dtype="bfloat16")
PAGE = PageId(1)


@pytest.fixture(autouse=True)
def on_a_device() -> Iterator[None]:
    torch.set_num_threads(1)
    with interpreted():
        yield


class Rig:
    """A storage on a late device, and steps that write or read one of its pages."""

    def __init__(self) -> None:
        self.device = LazyDevice()
        self.streams = self.device.streams()
        self.storage = TorchStorage(LAYOUT, 3, has_scratch=True, streams=self.streams)
        self.bytes_PB = self.storage.kv_PL2HSD.view(torch.uint8).view(4, LAYOUT.page_bytes)
        self.read: list[bytes] = []

    def write(self, value: int, page: PageId = PAGE) -> None:
        """A step's kernel."""
        self.device.steps.run(lambda: self.bytes_PB[page].fill_(value))

    def look(self) -> None:
        """A step's kernel that reads the page."""
        self.device.steps.run(lambda: self.read.append(bytes(self.bytes_PB[PAGE].tolist())))

    def gathered(self) -> bytes:
        out = bytearray(LAYOUT.page_bytes)
        self.storage.gather([PAGE], memoryview(out))
        return bytes(out)


def test_a_gather_comes_behind_the_step_that_wrote_its_pages() -> None:
    rig = Rig()
    rig.streams.begin_step()
    rig.write(7)
    rig.streams.settle(rig.streams.end_step())
    assert rig.gathered() == bytes([7]) * LAYOUT.page_bytes


def test_a_gather_does_not_wait_for_the_step_in_flight() -> None:
    rig = Rig()
    rig.write(7)
    rig.streams.settle(rig.streams.end_step())
    rig.streams.begin_step()
    rig.write(8, PageId(2))
    end = rig.streams.end_step()
    assert rig.gathered() == bytes([7]) * LAYOUT.page_bytes
    assert not rig.bytes_PB[2].any(), "the step in flight was waited for"
    end.finish()
    assert rig.bytes_PB[2].eq(8).all()


def test_a_step_comes_behind_what_landed_before_it_began() -> None:
    rig = Rig()
    data = random.Random(5).randbytes(LAYOUT.page_bytes)
    rig.storage.scatter([PAGE], memoryview(bytearray(data)))
    assert not rig.bytes_PB[PAGE].any(), "the host waited for more than its buffer"
    rig.streams.begin_step()
    rig.look()
    rig.streams.end_step().finish()
    assert rig.read == [data]


def test_a_buffer_is_not_read_any_more_when_a_scatter_returns() -> None:
    rig = Rig()
    buffer = bytearray([3]) * LAYOUT.page_bytes
    rig.storage.scatter([PAGE], memoryview(buffer))
    buffer[:] = bytes([9]) * LAYOUT.page_bytes
    assert rig.gathered() == bytes([3]) * LAYOUT.page_bytes


def test_a_scatter_comes_behind_the_steps_that_were_collected() -> None:
    """A page that was another's: its last writer comes first. The second scatter brings the first about."""
    rig = Rig()
    rig.write(7)
    rig.streams.settle(rig.streams.end_step())
    for page in (PAGE, PageId(2)):
        rig.storage.scatter([page], memoryview(bytearray([3]) * LAYOUT.page_bytes))
    rig.streams.begin_step()
    rig.look()
    rig.streams.end_step().finish()
    assert rig.read == [bytes([3]) * LAYOUT.page_bytes]


def test_zeroes_come_before_moves_that_begin_later() -> None:
    """So does what lies before them on their stream, by which it shows."""
    rig = Rig()
    rig.write(7)
    rig.storage.zero(PageId(2))
    assert rig.gathered() == bytes([7]) * LAYOUT.page_bytes


@pytest.mark.parametrize("seed", range(6))
def test_steps_and_moves_in_any_order_leave_what_they_leave_one_by_one(seed: int) -> None:
    """Random steps, one in flight at most, with gathers and scatters of pages that it does not touch, whole and by
    layers; the reference is a bytearray. The device does its work as late as it may."""
    rig, chance, model = Rig(), random.Random(seed), [bytearray(LAYOUT.page_bytes) for _ in range(3)]
    flight = None
    for turn in range(30):
        match chance.randrange(3):
            case 0:
                if flight is not None:
                    rig.streams.settle(flight[1])
                page, value = PageId(chance.randrange(3)), chance.randrange(1, 256)
                rig.streams.begin_step()
                rig.write(value, page)
                flight = page, rig.streams.end_step()
                model[page][:] = bytes([value]) * LAYOUT.page_bytes
            case move:
                page = PageId(chance.choice([p for p in range(3) if flight is None or p != flight[0]]))
                layers = chance.choice([None, LayerSpan(first=0, num=1), LayerSpan(first=1, num=1)])
                size = LAYOUT.part_bytes(layers)
                part = slice(0, size) if layers is None else slice(layers.first * size, layers.end * size)
                if move == 1:
                    data = chance.randbytes(size)
                    rig.storage.scatter([page], memoryview(bytearray(data)), layers)
                    model[page][part] = data
                else:
                    out = bytearray(size)
                    rig.storage.gather([page], memoryview(out), layers)
                    assert out == model[page][part], f"seed {seed}, turn {turn}"


def test_a_host_has_one_order() -> None:
    streams, order = page_streams(torch.device("cpu")), list[str]()
    streams.begin_step()
    streams.settle(streams.end_step())
    streams.put(lambda: order.append("bring"), lambda: order.append("place"))
    streams.take(lambda: order.append("gather"))
    assert order == ["bring", "place", "gather"]


def test_what_was_lifted_is_finished_before_its_memory_goes_and_then_forgotten() -> None:
    """Also where it comes behind a step, and though nobody reads it."""
    device = LazyDevice()
    streams, done = device.streams(), []
    out = DeviceSpan(address=4096, num_bytes=64, device=0)
    device.steps.run(lambda: done.append("step"))
    streams.settle(streams.end_step())
    streams.lift(lambda: done.append("lift"), out)
    assert done == []
    streams.finish_lift(out)
    assert done == ["step", "lift"]
    assert not streams._lifted
    streams.finish_lift(out)
