"""Values of the directory from bytes. Each repeats its own key and epoch, and one that does not fit is not believed.

Every `decode_...` answers None for such a value: the caller counts it and treats the key as absent.
"""

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from common.core.errors import InvalidRequest
from common.core.ids import Epoch, RouterId, RouterRef, WorkerId, WorkerRef
from common.core.queue import QueueReport
from common.core.worker import Member
from common.rpc.convert.directory import (
    SHORT_HASH_BYTES,
    hashes_from_wire,
    member_from_wire,
    report_from_wire,
    router_from_wire,
)
from protos.baton.v1 import events_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRecord:
    """A live worker and the position of its own events when it wrote this; whom it `replaced`, the latest first."""

    member: Member
    event_sequence: int
    replaced: tuple[Epoch, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnershipEvent:
    """What one worker gained and lost, as short hashes one after the other; withdrawn applies first.

    Events count from 1 without gap.
    """

    worker: WorkerId
    epoch: Epoch
    sequence: int
    published: bytes = b""
    withdrawn: bytes = b""
    left: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that a worker owned after its event `sequence`: short hashes, one after the other."""

    sequence: int
    joined: bytes

    @property
    def owned(self) -> tuple[bytes, ...]:
        """One by one: for whoever compares them, not for the mirror."""
        return hashes_from_wire(self.joined)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """The queues of one router."""

    router: RouterRef
    report: QueueReport


def decode_member(value: bytes, worker: WorkerId) -> MemberRecord | None:
    """The record found under the key of `worker`."""
    record = events_pb2.MemberRecord()
    try:
        record.ParseFromString(value)
        member = member_from_wire(record)
    except (DecodeError, InvalidRequest):
        return None
    if member.worker.worker != worker:
        return None
    replaced = tuple(map(Epoch, record.replaced_epochs))
    return MemberRecord(member=member, event_sequence=record.event_sequence, replaced=replaced)


def decode_event(value: bytes) -> OwnershipEvent | None:
    """One entry of the stream."""
    event = events_pb2.DirectoryEvent()
    try:
        event.ParseFromString(value)
    except DecodeError:
        return None
    is_sound = event.worker_id and event.epoch and event.sequence
    is_whole = all(len(run.hashes) % SHORT_HASH_BYTES == 0 for run in event.published)
    if not (is_sound and is_whole and all(len(short) == SHORT_HASH_BYTES for short in event.withdrawn)):
        return None
    return OwnershipEvent(
        worker=WorkerId(event.worker_id),
        epoch=Epoch(event.epoch),
        sequence=event.sequence,
        published=b"".join(run.hashes for run in event.published),
        withdrawn=b"".join(event.withdrawn),
        left=event.left,
    )


def decode_snapshot(value: bytes, worker: WorkerRef) -> Snapshot | None:
    """The snapshot found under the key of `worker`, if it is of this incarnation."""
    snapshot = events_pb2.OwnershipSnapshot()
    try:
        snapshot.ParseFromString(value)
    except DecodeError:
        return None
    if len(snapshot.hashes) % SHORT_HASH_BYTES or (snapshot.worker_id, snapshot.epoch) != (worker.worker, worker.epoch):
        return None
    return Snapshot(sequence=snapshot.sequence, joined=snapshot.hashes)


def decode_queue(value: bytes, router: RouterId) -> QueueView | None:
    """The queues found under the key of `router`."""
    record = events_pb2.QueueRecord()
    try:
        record.ParseFromString(value)
        found, report = router_from_wire(record), report_from_wire(record)
    except (DecodeError, InvalidRequest):
        return None
    return QueueView(router=found, report=report) if found.router == router else None
