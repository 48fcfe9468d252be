"""A cluster as a person reads it, on 80 columns."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from protos.baton.v1 import cluster_pb2, worker_pb2
from services.local.duration import duration

BAR_WIDTH = 10
LATENCIES = (
    ("TTFT", "ttft_seconds"),
    ("ITL", "itl_seconds"),
    ("queue", "queue_seconds"),
    ("end to end", "e2e_seconds"),
)
ENDS = ("finished", "failed", "cancelled", "refused")
BUSY_STATES = {"ready": "green", "draining": "yellow", "suspect": "red"}


def cluster_view(view: cluster_pb2.GetClusterResponse, *, tokens_per_s: float | None = None) -> RenderableType:
    """Everything `baton top` shows: requests, latencies, workers. The rate of tokens is seen between two looks."""
    parts: list[RenderableType] = [requests_lines(view, tokens_per_s), latency_table(view), "", worker_table(view)]
    if view.directory_is_stale:
        parts.insert(0, Text("Redis does not answer: routing by load alone", style="red"))
    if not view.workers:
        parts.append(Text("no worker is known to this router", style="red"))
    for missing in view.missing:
        gone = f"{missing.worker.worker_id} is gone since {duration(missing.silent_s)}, without a goodbye"
        parts.append(Text(gone, style="red"))
    return Group(*parts)


def requests_lines(view: cluster_pb2.GetClusterResponse, tokens_per_s: float | None) -> Text:
    """What is in flight, how fast, and how requests ended since the router started."""
    figures = view.figures
    lines = Text(f"now   {view.queued_requests} queued, {view.active_requests} active")
    if tokens_per_s is not None:
        lines.append(f", {tokens_per_s:.0f} tokens/s", style="bold")
    ends = ", ".join(f"{figures.get(f'requests_{end}', 0.0):.0f} {end}" for end in ENDS)
    lines.append(f"\never  {figures.get('generated_tokens', 0.0):.0f} tokens; {ends}")
    lines.append(f"; {figures.get('retries', 0.0):.0f} retries\n")
    return lines


def latency_table(view: cluster_pb2.GetClusterResponse) -> Table:
    """Percentiles since the router started; a bucket's upper edge, so the truth is at most this."""
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column("")
    for name, _ in LATENCIES:
        table.add_column(name, justify="right")
    for share in ("p50", "p99"):
        table.add_row(share, *(_seconds(view.figures.get(f"{figure}_{share}")) for _, figure in LATENCIES))
    return table


def worker_table(view: cluster_pb2.GetClusterResponse) -> Table:
    """Workers, a row each: state, queue, batch, share of pages in use, cached pages, last step."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("worker", "state", "wait", "run", "pages in use", "cached", "free", "batch", "step"):
        is_word = column in ("worker", "state", "pages in use")
        table.add_column(column, justify="left" if is_word else "right", no_wrap=True)
    for worker in sorted(view.workers, key=lambda each: each.worker.worker_id):
        load = worker.load
        table.add_row(
            worker.worker.worker_id,
            Text(worker.state, style=BUSY_STATES.get(worker.state, "")),
            str(load.waiting_requests),
            str(load.running_sequences),
            _page_bar(load),
            str(load.cached_pages),
            str(load.free_pages),
            str(load.step_batch),
            f"{load.step_seconds * 1000:.1f} ms",
        )
    return table


def _page_bar(load: worker_pb2.LoadReport) -> str:
    used = load.promised_pages + load.referenced_pages
    share = used / max(load.total_pages, 1)
    filled = min(BAR_WIDTH, -int(-share * BAR_WIDTH // 1))
    return f"{'■' * filled}{'·' * (BAR_WIDTH - filled)} {share:4.0%}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"≤ {value * 1000:g} ms" if value < 1 else f"≤ {value:g} s"
