"""What lives in Redis: member records, ownership events and snapshots, queue depths."""

import math
from collections.abc import Sequence

from common.core.ids import Epoch, RouterId, RouterRef, WorkerRef
from common.core.queue import MAX_EXCESS, Cause, LimitParts, QueueDepth, QueueReport
from common.core.worker import Member, WorkerState
from common.rpc.convert.fields import PRIORITIES, ROLES, priority_from_wire, require, role_from_wire
from common.rpc.convert.worker import load_from_wire, load_to_wire, worker_from_wire, worker_to_wire
from protos.baton.v1 import events_pb2

SHORT_HASH_BYTES = 16
"""Half of a prefix hash: enough for a hint. A worker compares whole hashes and token ids before it believes a hit."""

PUBLISHED_STATES = frozenset({WorkerState.STARTING, WorkerState.READY, WorkerState.DRAINING})


def member_to_wire(member: Member, *, event_sequence: int, replaced: Sequence[Epoch] = ()) -> events_pb2.MemberRecord:
    """`replaced` are the incarnations before this one, the latest first."""
    return events_pb2.MemberRecord(
        worker=worker_to_wire(member.worker),
        role=ROLES[member.role],
        state=member.state.value,
        load=load_to_wire(member.load),
        event_sequence=event_sequence,
        metrics_address=member.metrics_address,
        layout_fingerprint=member.layout_fingerprint,
        pool=member.pool,
        page_bytes=member.page_bytes,
        model_digest=member.model_digest,
        replaced_epochs=replaced,
    )


def member_from_wire(record: events_pb2.MemberRecord) -> Member:
    """Raises InvalidRequest."""
    require(record.state in PUBLISHED_STATES, "member.state", "not a state that workers publish")
    return Member(
        worker=worker_from_wire(record.worker),
        role=role_from_wire(record.role),
        state=WorkerState(record.state),
        load=load_from_wire(record.load),
        layout_fingerprint=record.layout_fingerprint,
        metrics_address=record.metrics_address,
        pool=record.pool,
        page_bytes=record.page_bytes,
        model_digest=record.model_digest,
    )


def event_to_wire(
    worker: WorkerRef,
    *,
    sequence: int,
    published: Sequence[Sequence[bytes]] = (),
    withdrawn: Sequence[bytes] = (),
    left: bool = False,
) -> events_pb2.DirectoryEvent:
    """`published` and `withdrawn` are short hashes."""
    return events_pb2.DirectoryEvent(
        worker_id=worker.worker,
        epoch=worker.epoch,
        sequence=sequence,
        published=[events_pb2.PrefixRun(hashes=b"".join(run)) for run in published],
        withdrawn=withdrawn,
        left=left,
    )


def snapshot_to_wire(worker: WorkerRef, *, sequence: int, joined: bytes) -> events_pb2.OwnershipSnapshot:
    """`joined`: short hashes, one after the other."""
    return events_pb2.OwnershipSnapshot(worker_id=worker.worker, epoch=worker.epoch, sequence=sequence, hashes=joined)


def hashes_from_wire(joined: bytes) -> tuple[bytes, ...]:
    """Raises InvalidRequest when the bytes are no whole number of short hashes."""
    require(len(joined) % SHORT_HASH_BYTES == 0, "hashes", f"{len(joined)} bytes are no whole number of hashes")
    return tuple(joined[at : at + SHORT_HASH_BYTES] for at in range(0, len(joined), SHORT_HASH_BYTES))


def queue_to_wire(router: RouterRef, report: QueueReport) -> events_pb2.QueueRecord:
    return events_pb2.QueueRecord(
        router_id=router.router,
        epoch=router.epoch,
        depths=[
            events_pb2.QueueDepth(
                role=ROLES[depth.role],
                priority=PRIORITIES[depth.priority],
                requests=depth.requests,
                uncached_tokens=depth.uncached_tokens,
                queue_seconds=depth.queue_s,
                oldest_seconds=depth.oldest_s,
                cause=depth.cause or "",
            )
            for depth in report.depths
        ],
        decode_admission_seconds=report.decode_admission_s,
        limit_parts=None if report.parts is None else _parts_to_wire(report.parts),
    )


def router_from_wire(record: events_pb2.QueueRecord) -> RouterRef:
    """Who wrote a queue record. Raises InvalidRequest."""
    require(record.router_id != "", "queue.router_id", "missing")
    require(record.epoch != 0, "queue.epoch", "missing")
    return RouterRef(router=RouterId(record.router_id), epoch=Epoch(record.epoch))


def report_from_wire(record: events_pb2.QueueRecord) -> QueueReport:
    """A cause of a later release is taken for none. Raises InvalidRequest."""
    return QueueReport(
        depths=tuple(
            QueueDepth(
                role=role_from_wire(depth.role),
                priority=priority_from_wire(depth.priority),
                requests=depth.requests,
                uncached_tokens=depth.uncached_tokens,
                queue_s=_seconds(depth, "queue_seconds"),
                oldest_s=_seconds(depth, "oldest_seconds"),
                cause=Cause(depth.cause) if depth.cause in set(Cause) else None,
            )
            for depth in record.depths
        ),
        decode_admission_s=_seconds(record, "decode_admission_seconds"),
        parts=_parts_from_wire(record.limit_parts) if record.HasField("limit_parts") else None,
    )


def _parts_to_wire(parts: LimitParts) -> events_pb2.LimitParts:
    excess = [events_pb2.TenantExcess(tenant=tenant, streams=streams) for tenant, streams in parts.excess.items()]
    return events_pb2.LimitParts(roster=parts.roster, excess=excess)


def _parts_from_wire(message: events_pb2.LimitParts) -> LimitParts:
    excess = {each.tenant: each.streams for each in message.excess[:MAX_EXCESS]}
    return LimitParts(roster=message.roster, excess=excess)


def _seconds(message: events_pb2.QueueRecord | events_pb2.QueueDepth, name: str) -> float | None:
    """An optional duration: None where it is absent. Raises InvalidRequest for what is no duration."""
    if not message.HasField(name):  # type: ignore[arg-type]  # the stubs know each message's names only
        return None
    value = float(getattr(message, name))
    require(0.0 <= value < math.inf, f"queue.{name}", f"{value} is no duration")
    return value
