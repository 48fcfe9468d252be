"""The workers of a cluster, asked one by one: the checks of `baton doctor` that concern them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from common.core.errors import BatonError
from common.rpc.client import Connect, call
from common.rpc.errors import ORIGIN_FACT, TRANSPORT
from protos.baton.v1 import cluster_pb2, types_pb2, worker_pb2, worker_pb2_grpc
from services.local.duration import duration
from services.local.finding import Finding, fault, note, well

ASK_S = 3.0
ROLE_NAMES = {
    types_pb2.ROLE_UNSPECIFIED: "worker",
    types_pb2.ROLE_PREFILL: "prefill",
    types_pb2.ROLE_DECODE: "decode",
    types_pb2.ROLE_ROUTER: "router",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a worker said of itself, if it said something."""

    finding: Finding
    status: worker_pb2.GetStatusResponse | None = None


async def ask_workers(workers: Sequence[cluster_pb2.WorkerView], connect: Connect) -> list[Asked]:
    """All at once, in the order of their names."""
    ordered = sorted(workers, key=lambda worker: (worker.role, worker.worker.worker_id))
    return list(await asyncio.gather(*(_ask(worker, connect) for worker in ordered)))


def check_roles(workers: Sequence[cluster_pb2.WorkerView]) -> list[Finding]:
    """Who is missing for the relay."""
    roles = {worker.role for worker in workers}
    if types_pb2.ROLE_DECODE not in roles:
        return [fault("roles", "no decode worker: nothing can be answered", "start one with the same cluster.name")]
    if types_pb2.ROLE_PREFILL not in roles:
        return [note("roles", "no prefill worker: decode workers read every prompt themselves")]
    return []


def check_missing(missing: Sequence[cluster_pb2.MissingWorker]) -> list[Finding]:
    """Who went without a word, as far as the router that was asked has seen it."""
    return [_missing(each) for each in missing]


def check_layouts(statuses: Sequence[worker_pb2.GetStatusResponse]) -> list[Finding]:
    """Every worker against the first: pages of unequal layouts never travel."""
    if not statuses:
        return []
    first = statuses[0]
    wrong = [
        f"{status.worker.worker_id} differs from {first.worker.worker_id} in {_difference(first.layout, status.layout)}"
        for status in statuses[1:]
        if status.layout != first.layout
    ]
    if wrong:
        fix = "start every worker with the same model folder and the same engine.page_size and model.dtype"
        return [fault("page layout", "; ".join(wrong), fix)]
    layout = first.layout
    agreed = f"{len(statuses)} workers agree" if len(statuses) > 1 else f"only {first.worker.worker_id} told its own"
    return [well("page layout", f"{agreed}: {layout.page_size} tokens, {layout.page_bytes:,} bytes, {layout.dtype}")]


def _missing(missing: cluster_pb2.MissingWorker) -> Finding:
    role, address = ROLE_NAMES.get(missing.role, "worker"), missing.worker.address
    detail = (
        f"{role} at {address}: gone {duration(missing.silent_s)} ago without a goodbye, and nobody came in its place"
    )
    fix = "its last log lines say why, or its machine is gone or frozen: start it again, or another one of its role"
    return fault(missing.worker.worker_id, detail, fix)


async def _ask(worker: cluster_pb2.WorkerView, connect: Connect) -> Asked:
    ref = worker.worker
    name = ref.worker_id
    channel = connect(ref.address)
    try:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        status = await call(stub.GetStatus, worker_pb2.GetStatusRequest(), peer=name, timeout_s=ASK_S)
    except BatonError as error:
        fix = "is it frozen, or out of reach from here? A dead worker leaves the list within liveness.lease_s"
        is_silent = error.facts.get(ORIGIN_FACT) == TRANSPORT
        detail = f"no answer at {ref.address} within {ASK_S:g} s" if is_silent else error.message
        return Asked(finding=fault(name, detail, fix))
    finally:
        await channel.close(grace=None)
    if status.worker.epoch != ref.epoch:
        fix = "it was restarted: ask again after liveness.lease_s; if it persists, two processes share a name"
        return Asked(finding=fault(name, f"another incarnation answers at {ref.address}", fix), status=status)
    role = ROLE_NAMES.get(worker.role, "worker")
    detail = f"{role} at {ref.address}, {status.state}, {status.load.total_pages:,} pages"
    if worker.state != "ready":
        return Asked(finding=note(name, f"{detail}; the router calls it {worker.state}"), status=status)
    return Asked(finding=well(name, detail), status=status)


def _difference(one: types_pb2.PageLayout, other: types_pb2.PageLayout) -> str:
    names = [field.name for field in one.DESCRIPTOR.fields if getattr(one, field.name) != getattr(other, field.name)]
    return ", ".join(names)
