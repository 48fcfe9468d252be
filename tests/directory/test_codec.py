"""Goal: a value that does not repeat its own key and epoch is not believed, whatever bytes it holds."""

import random
from dataclasses import replace

from common.core.clock import ManualClock
from common.core.ids import Epoch, RouterId, RouterRef, WorkerId, WorkerRef
from common.core.queue import Cause, LimitParts, QueueDepth, QueueReport
from common.core.request import Priority
from common.core.worker import Role
from common.directory.codec import decode_event, decode_member, decode_queue, decode_snapshot
from common.directory.memory_store import MemoryServer, MemoryStore
from common.rpc.convert.directory import event_to_wire, member_to_wire, queue_to_wire, snapshot_to_wire
from protos.baton.v1 import events_pb2
from tests.directory.cluster import Worker, prefix

REF = WorkerRef(worker=WorkerId("decode-0"), epoch=Epoch(7), address="127.0.0.1:1")


def test_a_member_is_read_back_as_written_and_only_under_its_own_key() -> None:
    member = Worker.describe(_worker())
    value = member_to_wire(member, event_sequence=5).SerializeToString()
    record = decode_member(value, WorkerId("decode-0"))
    assert record is not None
    assert (record.member, record.event_sequence) == (member, 5)
    assert decode_member(value, WorkerId("decode-1")) is None


def test_a_snapshot_of_another_incarnation_is_not_believed() -> None:
    value = snapshot_to_wire(REF, sequence=3, joined=prefix(1)[:16]).SerializeToString()
    found = decode_snapshot(value, REF)
    assert found is not None
    assert (found.sequence, found.owned) == (3, (prefix(1)[:16],))
    assert decode_snapshot(value, WorkerRef(worker=REF.worker, epoch=Epoch(8), address=REF.address)) is None
    assert decode_snapshot(value, WorkerRef(worker=WorkerId("x"), epoch=REF.epoch, address=REF.address)) is None


def test_hashes_of_a_wrong_length_are_not_believed() -> None:
    event = event_to_wire(REF, sequence=1, withdrawn=[b"short"])
    assert decode_event(event.SerializeToString()) is None
    event = event_to_wire(REF, sequence=1, published=[[b"x" * 17]])
    assert decode_event(event.SerializeToString()) is None
    snapshot = events_pb2.OwnershipSnapshot(worker_id=REF.worker, epoch=REF.epoch, hashes=b"x" * 33)
    assert decode_snapshot(snapshot.SerializeToString(), REF) is None


def test_queues_are_read_back_as_written_and_only_under_their_own_key() -> None:
    router = RouterRef(router=RouterId("router-0"), epoch=Epoch(2))
    unknown = QueueDepth(role=Role.PREFILL, priority=Priority.BATCH, requests=3, uncached_tokens=999)
    zero = replace(unknown, role=Role.DECODE, queue_s=0.0, oldest_s=0.0, cause=Cause.DECODE_FULL)
    reports = [QueueReport(depths=(unknown, zero)), QueueReport(depths=(), decode_admission_s=0.0)]
    told = (LimitParts(roster=0), LimitParts(roster=2**64 - 1, excess={5: 3, 2**63: 1}))
    for report in reports + [QueueReport(depths=(), parts=parts) for parts in told]:
        value = queue_to_wire(router, report).SerializeToString()
        view = decode_queue(value, router.router)
        assert view is not None
        assert (view.router, view.report) == (router, report)
        assert decode_queue(value, RouterId("router-1")) is None


def test_random_bytes_never_raise() -> None:
    chance = random.Random(20261121)
    good = member_to_wire(Worker.describe(_worker()), event_sequence=5).SerializeToString()
    for _ in range(3000):
        if chance.random() < 0.5:
            value = chance.randbytes(chance.randrange(60))
        else:
            mutable = bytearray(good)
            mutable[chance.randrange(len(good))] = chance.randrange(256)
            value = bytes(mutable)
        decode_member(value, REF.worker)
        decode_event(value)
        decode_snapshot(value, REF)
        decode_queue(value, RouterId("router-0"))


def _worker() -> Worker:
    clock = ManualClock()
    return Worker(MemoryStore(MemoryServer(clock), "w"), clock, epoch=7)
