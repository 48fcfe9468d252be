"""The planner's study as a picture: hours against attainment, every seed a dot, settings joined at their means."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from matplotlib.figure import Figure

from tests.bench.planner_study import Line

FAMILIES = {
    "HPAs, chart": ("the chart's HPAs, targets x 0.5 to 2.5", "tab:blue"),
    "HPAs": ("HPAs on waiting requests, 0.5 to 1.75 each", "tab:orange"),
    "planner,": ("planner, 5 to 20 % late", "tab:green"),
    "planner and HPAs": ("planner behind HPAs, its default", "black"),
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
        for family, (label, colour) in FAMILIES.items():
            members = [line for line in mine if family_of(line.contender) == family]
            axes.plot(
                [line.worker_hours for line in members],
                [100 * line.met_share for line in members],
                ".",
                color=colour,
                alpha=0.35,
            )
            means = sorted(_mean(members, name) for name in {line.contender for line in members})
            axes.plot(*zip(*means, strict=True), "o-", color=colour, label=label)
        axes.set_title(workload)
        axes.set_xlabel("worker-hours")
        axes.set_ylabel("in time, %")
        axes.grid(visible=True, alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
    picture.savefig(file)


def _mean(lines: Sequence[Line], contender: str) -> tuple[float, float]:
    mine = [line for line in lines if line.contender == contender]
    return fmean(line.worker_hours for line in mine), 100 * fmean(line.met_share for line in mine)
