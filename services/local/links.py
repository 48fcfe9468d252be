"""Every link between workers, measured: the matrix of `baton doctor`."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from common.core.errors import BatonError
from common.core.ids import WorkerRef
from common.rpc.client import Connect, call
from common.rpc.convert.worker import worker_from_wire, worker_to_wire
from protos.baton.v1 import cluster_pb2, kv_pb2, kv_pb2_grpc, types_pb2
from services.local.finding import Finding, fault, note, well

PROBE_BYTES = 4 << 20
PROBE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One direction, prefill to decode. `report` None: broken, and `trouble` says how."""

    sender: WorkerRef
    receiver: WorkerRef
    report: kv_pb2.ProbeResponse | None = None
    trouble: str = ""


async def measure_links(workers: Sequence[cluster_pb2.WorkerView], connect: Connect) -> list[Link]:
    """All pairs, one probe at a time, so that links do not disturb each other."""
    senders = [worker_from_wire(worker.worker) for worker in workers if worker.role == types_pb2.ROLE_PREFILL]
    receivers = [worker_from_wire(worker.worker) for worker in workers if worker.role == types_pb2.ROLE_DECODE]
    return [await _probe(sender, receiver, connect) for sender in senders for receiver in receivers]


def link_findings(links: Sequence[Link]) -> list[Finding]:
    """One line for all that work, one for each that does not."""
    broken = [
        fault(
            f"link {link.sender.worker} > {link.receiver.worker}",
            link.trouble,
            f"can {link.sender.worker} reach {link.receiver.address} and the data ports of transfer.host there?",
        )
        for link in links
        if link.report is None
    ]
    if broken or not links:
        return broken
    whole = well("links", f"{len(links)} of {len(links)} carry pages, every byte verified")
    reasons = {link.report.passed_over for link in links if link.report is not None and link.report.passed_over}
    return [whole, *(note("channels", reason) for reason in sorted(reasons))]


def link_table(links: Sequence[Link]) -> Table:
    """A row per pair: what carries it, control round trip, first use (meeting included), data rate."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("pages from > to", no_wrap=True)
    table.add_column("over", no_wrap=True)
    for name in ("control", "set-up", "4 MiB in", "rate"):
        table.add_column(name, justify="right", no_wrap=True)
    for link in links:
        pair = f"{link.sender.worker} > {link.receiver.worker}"
        if link.report is None:
            table.add_row(pair, "", "[red]broken[/]", "", "", "")
            continue
        report = link.report
        rate = report.num_bytes / max(report.data_seconds, 1e-9) / (1 << 30)
        times = (report.control_seconds, report.setup_seconds, report.data_seconds)
        table.add_row(pair, report.channel, *(f"{seconds * 1000:.1f} ms" for seconds in times), f"{rate:.2f} GiB/s")
    return table


async def _probe(sender: WorkerRef, receiver: WorkerRef, connect: Connect) -> Link:
    channel = connect(sender.address)
    try:
        request = kv_pb2.ProbeRequest(target=worker_to_wire(receiver), num_bytes=PROBE_BYTES)
        report = await call(kv_pb2_grpc.KvServiceStub(channel).Probe, request, peer=sender.worker, timeout_s=PROBE_S)
    except BatonError as error:
        return Link(sender=sender, receiver=receiver, trouble=error.message)
    finally:
        await channel.close(grace=None)
    return Link(sender=sender, receiver=receiver, report=report)
