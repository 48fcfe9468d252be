"""A torch executor says where its steps begin, end and are collected: pages that move beside them rely on it."""

from collections.abc import Callable

from common.core.ids import PageId
from common.core.step import PageCopy, Step
from common.engine.torch_executor import TorchExecutor
from common.kv.page_streams import HostMark, HostStream, Mark, PageStreams
from common.kv.torch_storage import TorchStorage
from tests.engine.torch_rig import TorchRig


class ToldStream(HostStream):
    """Tells what it was told."""

    def __init__(self, order: list[str]) -> None:
        self._order = order

    def mark(self) -> HostMark:
        self._order.append("mark")
        return HostMark()

    def follow(self, mark: Mark) -> None:
        self._order.append("follow")


class ToldStreams(PageStreams):
    """Tells what was settled."""

    def __init__(self, order: list[str]) -> None:
        self.settled: list[Mark] = []
        super().__init__(steps=ToldStream(order), moves=HostStream(), reads=HostStream())

    def settle(self, mark: Mark) -> None:
        self.settled.append(mark)


class ToldStorage(TorchStorage):
    """Tells when a step copies a page."""

    tell: Callable[[str], None]

    def copy(self, source: PageId, destination: PageId) -> None:
        self.tell("step")


def test_a_step_follows_what_landed_is_marked_when_launched_and_settled_when_collected() -> None:
    order = list[str]()
    rig, streams = TorchRig(num_pages=4), ToldStreams(order)
    storage = ToldStorage(rig.storage.layout, 4, streams=streams)
    storage.tell = order.append
    executor = TorchExecutor(rig.executor._decoder, storage, clock=rig.executor._clock, num_threads=1)
    streams.put(lambda: None, lambda: None)
    del order[:], streams.settled[:]
    flight = executor.launch(Step(rows=(), copies=(PageCopy(source=PageId(0), destination=PageId(1)),)))
    assert order == ["follow", "step", "mark"]
    assert not streams.settled
    flight.collect()
    assert streams.settled == [flight.end]
