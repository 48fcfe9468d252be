"""Results as a person reads them: a row per figure, a column per contender, ratios against the first."""

from collections.abc import Sequence

from rich.table import Table

from services.local.bench.results import Summary


def bounded(name: str) -> tuple[str, str, str]:
    """What can be no less, what was, and its share: as `bounds.beside` names them."""
    return f"{name}_bound_ms", f"{name}_ms", f"{name}_share_of_bound"


SHOWN = {
    "prefill": (*bounded("ttft"), "tok_s"),
    "decode": (*bounded("run"), *bounded("step"), "tok_s", "steady_tok_s", "itl_ms_p50", "itl_ms_p99"),
    "e2e": (
        *bounded("run"),
        *bounded("step"),
        "tok_s",
        "steady_tok_s",
        "ttft_ms_p50",
        "ttft_ms_p99",
        "itl_ms_p50",
        "itl_ms_p99",
    ),
    "interference": (
        *bounded("quiet_step"),
        *bounded("alone_prompt"),
        "quiet_itl_ms_p50",
        "quiet_itl_ms_p99",
        "itl_ms_p50",
        "itl_ms_p99",
        "itl_ms_max",
        "itl_p99_ratio",
        "rate_left",
        "alone_ttft_ms_p50",
        "ttft_ms_p50",
        "ttft_p50_ratio",
        "goodput_tok_s",
        "good_arrivals_share",
        "arrivals_unfinished",
    ),
    "prefix": (*bounded("cold_ttft"), *bounded("warm_ttft"), "speedup"),
    "transfer": (
        "kv_mib",
        "link_gib_s",
        *bounded("link"),
        *bounded("ttft"),
        "handoff_ms",
        "handoff_share",
        "itl_ms_p50_quiet",
        "itl_ms_p50_landing",
        "itl_ms_p99_landing",
        "landing_ratio",
    ),
}
"""Workload family -> figures that a table shows, in this order; the file has all of them."""


def family_of(workload: str) -> str:
    return workload.partition("_")[0]


def results_table(summaries: Sequence[Summary], workload: str) -> Table:
    """Medians with ranges; a number in brackets says how many of the samples were clean, where not all were."""
    rows = [summary for summary in summaries if summary.workload == workload]
    contenders = list(dict.fromkeys(summary.contender for summary in rows))
    cells = {(summary.figure, summary.contender): summary for summary in rows}
    table = Table(title=workload, title_justify="left", box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for contender in contenders:
        table.add_column(contender, justify="right")
    for figure in SHOWN[family_of(workload)]:
        if any((figure, contender) in cells for contender in contenders):
            table.add_row(figure, *(_cell(cells.get((figure, contender))) for contender in contenders))
    return table


def _cell(summary: Summary | None) -> str:
    if summary is None:
        return "-"
    text = f"{summary.median:.4g}"
    if summary.count > 1:
        text += f" \\[{summary.low:.4g}..{summary.high:.4g}]"
    return text if summary.num_clean >= summary.count else f"{text} ({summary.num_clean} clean)"
