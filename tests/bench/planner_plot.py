"""The planner's study as a picture: hours against attainment. Settings are joined for the first seed, which all played;
the other seeds are dots."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from tests.bench.planner_study import Line

FAMILIES = {
    "HPAs, chart": ("the chart's HPAs, targets times a factor", "tab:blue"),
    "HPAs": ("HPAs on waiting requests", "tab:orange"),
    "planner,": ("planner, its default", "tab:green"),
    "planner and HPAs": ("planner behind HPAs", "black"),
}


def family_of(contender: str) -> str:
    """The longest name that begins it."""
    return max((name for name in FAMILIES if contender.startswith(name)), key=len)


def draw(lines: Sequence[Line], file: Path) -> None:
    """One panel per workload."""
    workloads = list(dict.fromkeys(line.workload for line in lines))
    picture = Figure(figsize=(5 * len(workloads), 4.6), layout="constrained")
    for axes, workload in zip(picture.subplots(1, len(workloads), squeeze=False)[0], workloads, strict=True):
        mine = [line for line in lines if line.workload == workload]
        first = min(line.seed for line in mine)
        for family, (label, colour) in FAMILIES.items():
            members = [line for line in mine if family_of(line.contender) == family]
            others = [_point(line) for line in members if line.seed != first]
            joined = sorted(_point(line) for line in members if line.seed == first)
            axes.plot([at for at, _ in others], [met for _, met in others], ".", color=colour, alpha=0.5)
            if joined:
                axes.plot([at for at, _ in joined], [met for _, met in joined], "o-", color=colour, label=label)
        axes.set_title(workload)
        axes.set_xlabel("worker-hours")
        axes.set_ylabel("in time, %")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
    picture.savefig(file)


def _point(line: Line) -> tuple[float, float]:
    return line.worker_hours, 100 * line.met_share
