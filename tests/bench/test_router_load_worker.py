"""The worker that only writes tells what a router can read."""

from common.core.events import EventMessage, TokensEmitted
from common.core.ids import Epoch, WorkerId, WorkerRef
from common.core.request import FinishReason
from common.core.worker import LoadReport, PageCounts
from common.rpc.convert.columns import ColumnsReader
from common.rpc.convert.worker import load_to_wire, worker_to_wire
from protos.baton.v1 import types_pb2, worker_pb2
from tests.bench.router_load_worker import Lane

WORKER = WorkerRef(worker=WorkerId("decode-0"), epoch=Epoch(1), address="127.0.0.1:1")
NO_PAGES = PageCounts(total=0, free=0, promised=0, referenced=0, cached=0)


def _work(name: str, max_tokens: int) -> types_pb2.Work:
    return types_pb2.Work(request_id=name, attempt=1, sampling=types_pb2.TokenSampling(max_tokens=max_tokens))


def _told(lane: Lane, reader: ColumnsReader) -> EventMessage:
    response = worker_pb2.SubscribeResponse(worker=worker_to_wire(WORKER), sequence=1)
    response.load.CopyFrom(load_to_wire(LoadReport(pages=NO_PAGES)))
    lane.step(response)
    read = worker_pb2.SubscribeResponse.FromString(response.SerializeToString())
    return reader.message(read, now=0.0)


def test_every_work_gets_one_token_a_step_and_ends_at_its_last() -> None:
    """Two works, one of which comes later and is continued from its second token."""
    lane, reader = Lane(), ColumnsReader()
    lane.begin(_work("a", 3))
    seen = [_told(lane, reader)]
    late = _work("b", 4)
    late.emitted_token_ids.extend([7, 8])
    lane.begin(late)
    seen += [_told(lane, reader) for _ in range(3)]
    tokens = [event for message in seen for event in message.events if isinstance(event, TokensEmitted)]
    of = {name: [event for event in tokens if event.request == name] for name in ("a", "b")}
    assert [event.first_index for event in of["a"]] == [0, 1, 2]
    assert [event.first_index for event in of["b"]] == [2, 3]
    for events in of.values():
        assert [event.finish for event in events] == [None] * (len(events) - 1) + [FinishReason.LENGTH]
    assert seen[-1].events == ()
