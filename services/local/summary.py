"""A cluster and a request's waterfall as a person reads them."""

from collections.abc import Sequence

from rich.table import Table

from common.observe.lifetime import Mark
from common.observe.waterfall import render_waterfall
from protos.baton.v1 import cluster_pb2, types_pb2


def cluster_table(view: cluster_pb2.GetClusterResponse) -> Table:
    """Workers, a row each: state, queue, batch, pages, progress."""
    table = Table(title=None, box=None, pad_edge=False)
    for column in ("worker", "state", "waiting", "running", "pages", "cached", "free", "last step", "steps"):
        table.add_column(column, justify="left" if column in ("worker", "state") else "right", no_wrap=True)
    for worker in view.workers:
        load = worker.load
        table.add_row(
            worker.worker.worker_id,
            worker.state,
            str(load.waiting_requests),
            str(load.running_sequences),
            str(load.promised_pages + load.referenced_pages),
            str(load.cached_pages),
            str(load.free_pages),
            f"{load.step_seconds * 1000:.1f} ms",
            str(load.steps),
        )
    return table


def figures_line(view: cluster_pb2.GetClusterResponse) -> str:
    """The numbers of the whole cluster on one line."""
    parts = [f"{view.active_requests} active", f"{view.queued_requests} queued"]
    for name, value in sorted(view.figures.items()):
        parts.append(f"{name.replace('_', ' ')} {value:.4g}")
    if view.directory_is_stale:
        parts.append("Redis does not answer: routing by load alone")
    return ", ".join(parts)


def waterfall_text(request_id: str, stations: Sequence[types_pb2.Station]) -> str:
    """The stations of one request, one line each."""
    marks = [
        Mark(station=station.name, at=station.at_s, where=station.where, facts=dict(station.facts))
        for station in stations
    ]
    return render_waterfall(request_id, marks, width=24)
