"""Results as a picture: bars of medians with their ranges. The door to matplotlib, which is optional."""

from collections.abc import Sequence
from pathlib import Path

from common.core.errors import StartupError
from services.local.bench.results import Summary
from services.local.bench.tables import family_of

DRAWN = {
    "prefill": ("tok_s",),
    "decode": ("tok_s", "itl_ms_p50"),
    "e2e": ("tok_s", "ttft_ms_p50", "itl_ms_p50"),
    "interference": ("itl_ms_p50", "itl_ms_p99", "ttft_ms_p50", "goodput_tok_s"),
    "prefix": ("cold_ttft_ms", "warm_ttft_ms"),
    "transfer": ("handoff_ms", "itl_ms_p50_landing"),
}
TITLES = {
    "tok_s": "tokens per second",
    "itl_ms_p50": "time between tokens, p50, ms",
    "itl_ms_p99": "time between tokens, p99, ms",
    "ttft_ms_p50": "time to first token, p50, ms",
    "goodput_tok_s": "tokens per second within the limits",
    "cold_ttft_ms": "time to first token, nothing cached, ms",
    "warm_ttft_ms": "time to first token, beginning cached, ms",
    "handoff_ms": "hand-off after the first token, ms",
    "itl_ms_p50_landing": "time between tokens while pages land, p50, ms",
}


def draw(summaries: Sequence[Summary], file: Path, *, subtitle: str) -> None:
    """A panel per figure, a group of bars per workload, a colour per contender.

    Raises StartupError without the library.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise StartupError(message="plots need matplotlib: pip install 'baton[plots]'") from error
    workloads = list(dict.fromkeys(summary.workload for summary in summaries))
    families = list(dict.fromkeys(family_of(workload) for workload in workloads))
    contenders = list(dict.fromkeys(summary.contender for summary in summaries))
    panels = [(family, figure) for family in families for figure in DRAWN[family]]
    picture = Figure(figsize=(10, 0.8 + 2.7 * len(panels)), layout="constrained")
    picture.suptitle(subtitle, fontsize=9)
    for number, (family, figure) in enumerate(panels):
        axes = picture.add_subplot(len(panels), 1, number + 1)
        groups = [workload for workload in workloads if family_of(workload) == family]
        width = 0.8 / len(contenders)
        for place, contender in enumerate(contenders):
            found = {s.workload: s for s in summaries if s.contender == contender and s.figure == figure}
            shown = [(index, found[group]) for index, group in enumerate(groups) if group in found]
            if not shown:
                continue
            spots = [index + (place - (len(contenders) - 1) / 2) * width for index, _ in shown]
            heights = [summary.median for _, summary in shown]
            errors = [[s.median - s.low for _, s in shown], [s.high - s.median for _, s in shown]]
            bars = axes.bar(spots, heights, width, yerr=errors, label=contender, color=f"C{place}", capsize=2)
            axes.bar_label(bars, fmt="%.4g", fontsize=7)
        axes.set_xticks(range(len(groups)), groups)
        axes.set_title(TITLES[figure], fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0.15)
        if number == 0:
            axes.legend(fontsize=8, frameon=False, ncols=len(contenders))
    picture.savefig(file, dpi=110)
