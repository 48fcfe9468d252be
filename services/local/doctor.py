"""`baton doctor`: is every part of a cluster there, do the parts fit, and how fast is every link?"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from common.config.config import Config
from common.core.errors import BatonError
from common.core.ids import WorkerRef
from common.directory.probe import ping
from common.model.description import describe
from common.rpc.client import call, grpc_connect
from common.rpc.convert.worker import worker_from_wire, worker_to_wire
from common.rpc.options import Surface
from protos.baton.v1 import cluster_pb2, kv_pb2, kv_pb2_grpc, types_pb2, worker_pb2, worker_pb2_grpc
from services.local.client import router_client
from services.local.roles import ROLE_NAMES

PROBE_BYTES = 4 << 20
ASK_S = 3.0
PROBE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check. `fix` says what to do when it failed."""

    what: str
    is_well: bool
    detail: str
    fix: str = ""


async def doctor(config: Config, router: str, *, console: Console) -> bool:
    """Print every finding and the link matrix. True when all is well."""
    findings = [await _check_model(config), await _check_redis(config)]
    view, router_finding = await _check_router(router)
    findings.append(router_finding)
    matrix: Table | None = None
    if view is not None:
        statuses = await asyncio.gather(*(_check_worker(worker) for worker in view.workers))
        findings += [finding for _, finding in statuses]
        findings += _check_layouts([status for status, _ in statuses if status is not None])
        matrix, links = await _check_links(view.workers)
        findings += links
    console.print(_table(findings))
    if matrix is not None:
        console.print("\nlinks, prefill to decode (control round trip, first use, data)")
        console.print(matrix)
    return all(finding.is_well for finding in findings)


async def _check_model(config: Config) -> Finding:
    folder = Path(config.model.path)
    try:
        found = await asyncio.to_thread(describe, folder, verify_manifest=config.model.verify_manifest)
    except BatonError as error:
        return Finding(what="model files", is_well=False, detail=error.message, fix="set model.path to a good folder")
    manifest = "manifest matches" if found.has_manifest else "no manifest: a flipped bit would go unnoticed"
    return Finding(what="model files", is_well=True, detail=f"{found.name}, {manifest}")


async def _check_redis(config: Config) -> Finding:
    url = config.cluster.redis_url
    try:
        seconds = await ping(url, timeout_s=config.liveness.redis_timeout_s)
    except BatonError as error:
        fix = "start it, or set cluster.redis_url; `baton up` uses a server of its own: ignore this line then"
        return Finding(what="redis", is_well=True, detail=f"{error.message} (a hint only)", fix=fix)
    return Finding(what="redis", is_well=True, detail=f"answers in {seconds * 1000:.1f} ms")


async def _check_router(address: str) -> tuple[cluster_pb2.GetClusterResponse | None, Finding]:
    try:
        async with router_client(address) as client:
            view = await client.cluster()
    except BatonError as error:
        fix = "is `baton up` running? else give its address with --router"
        return None, Finding(what=f"router {address}", is_well=False, detail=error.message, fix=fix)
    stale = ", its view of Redis is stale" if view.directory_is_stale else ""
    finding = Finding(
        what=f"router {address}",
        is_well=bool(view.workers),
        detail=f"{view.router.router_id} sees {len(view.workers)} workers{stale}",
        fix="" if view.workers else "start workers with the same cluster.name and Redis",
    )
    return view, finding


async def _check_worker(
    worker: cluster_pb2.WorkerView,
) -> tuple[worker_pb2.GetStatusResponse | None, Finding]:
    ref = worker.worker
    name = f"{ROLE_NAMES[worker.role]} {ref.worker_id}"
    channel = grpc_connect(Surface.INTERNAL)(ref.address)
    try:
        stub = worker_pb2_grpc.WorkerServiceStub(channel)
        status = await call(stub.GetStatus, worker_pb2.GetStatusRequest(), peer=ref.worker_id, timeout_s=ASK_S)
    except BatonError as error:
        fix = f"is {ref.address} reachable from here?"
        return None, Finding(what=name, is_well=False, detail=error.message, fix=fix)
    finally:
        await channel.close(grace=None)
    is_same = status.worker.epoch == ref.epoch
    return status, Finding(
        what=name,
        is_well=is_same,
        detail=f"{ref.address} {status.state}, {status.load.total_pages} pages",
        fix="" if is_same else "another incarnation answers at this address: wait a lease, or look for two processes",
    )


def _check_layouts(statuses: Sequence[worker_pb2.GetStatusResponse]) -> list[Finding]:
    """Every worker against the first: pages of unequal layouts never travel."""
    if not statuses:
        return []
    first = statuses[0]
    wrong = [
        f"{status.worker.worker_id} differs from {first.worker.worker_id}: {_difference(first.layout, status.layout)}"
        for status in statuses[1:]
        if status.layout != first.layout
    ]
    detail = "; ".join(wrong) or f"{len(statuses)} workers agree, a page is {first.layout.page_bytes} bytes"
    fix = "start every worker with the same model folder and [engine] section" if wrong else ""
    return [Finding(what="layout", is_well=not wrong, detail=detail, fix=fix)]


def _difference(one: types_pb2.PageLayout, other: types_pb2.PageLayout) -> str:
    names = [field.name for field in one.DESCRIPTOR.fields if getattr(one, field.name) != getattr(other, field.name)]
    return ", ".join(names)


async def _check_links(workers: Sequence[cluster_pb2.WorkerView]) -> tuple[Table, list[Finding]]:
    """One probe at a time, so that links do not disturb each other."""
    prefill = [worker_from_wire(worker.worker) for worker in workers if worker.role == types_pb2.ROLE_PREFILL]
    decode = [worker_from_wire(worker.worker) for worker in workers if worker.role == types_pb2.ROLE_DECODE]
    table = Table("", *(worker.worker for worker in decode), box=None, pad_edge=False)
    findings: list[Finding] = []
    for sender in prefill:
        cells = [await _probe(sender, receiver, findings) for receiver in decode]
        table.add_row(sender.worker, *cells)
    return table, findings


async def _probe(sender: WorkerRef, receiver: WorkerRef, findings: list[Finding]) -> str:
    channel = grpc_connect(Surface.INTERNAL)(sender.address)
    try:
        request = kv_pb2.ProbeRequest(target=worker_to_wire(receiver), num_bytes=PROBE_BYTES)
        report = await call(kv_pb2_grpc.KvServiceStub(channel).Probe, request, peer=sender.worker, timeout_s=PROBE_S)
    except BatonError as error:
        fix = f"can {sender.worker} reach {receiver.address}, and the data ports of transfer.host?"
        findings.append(
            Finding(what=f"link {sender.worker} to {receiver.worker}", is_well=False, detail=error.message, fix=fix)
        )
        return "[red]broken[/]"
    finally:
        await channel.close(grace=None)
    rate = report.num_bytes / max(report.data_seconds, 1e-9) / (1 << 30)
    return f"{report.control_seconds * 1000:.1f} ms, {report.setup_seconds * 1000:.0f} ms, {rate:.2f} GiB/s"


def _table(findings: Sequence[Finding]) -> Table:
    table = Table("", "check", "found", "what to do", box=None, pad_edge=False)
    for finding in findings:
        mark = "[green]ok[/]" if finding.is_well else "[red]FAULT[/]"
        table.add_row(mark, finding.what, finding.detail, finding.fix)
    return table
