"""The planner against HPAs, in one command: `python -m tests.bench.planner_report --traces FOLDER [--plot FILE]`.

Plays what is not kept yet (planner_study.py; minutes per seed); without `--traces` it says what is kept. Per workload
and seed, for the planner at its default as it sets scales itself and behind HPAs:

- against the chart's HPAs at their default targets: hours, and attainment in points
- at its own attainment: its hours against those of the frontier of all HPAs tried
- at the chart's attainment: hours of the frontier of its settings against those of the frontier of all HPAs

Then means over seeds of these differences within pairs, with 95 %. "In bounds": at least 10 % fewer hours and at most
half a point less in time than the chart's default.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.planner_frontier import Interval, Point, hours_at
from tests.bench.planner_study import DEFAULT, Line, play_missing, read_lines
from tests.bench.planner_workloads import WORKLOADS

CHART = "HPAs, chart x 1"
PLANNERS = (f"planner, {DEFAULT:.0%} late", f"planner and HPAs, {DEFAULT:.0%} late")
FEWER, WITHIN = -0.10, -0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """One seed. Shares of hours, negative: the planner needs fewer; `met` in shares of requests. `at_own`: frontiers at
    the planner's attainment; None: no HPAs tried get there, at any hours, or only the chart's were. `at_chart`: at the
    chart's; None: no setting of the planner gets there."""

    seed: int
    planner: Point
    chart: Point
    at_own: float | None
    at_chart: float | None
    turns: int

    @property
    def hours(self) -> float:
        return self.planner.hours / self.chart.hours - 1.0

    @property
    def met(self) -> float:
        return self.planner.met - self.chart.met

    @property
    def is_in_bounds(self) -> bool:
        return self.hours <= FEWER and self.met >= WITHIN


def pairings(lines: Iterable[Line], workload: str, planner: str) -> list[Pairing]:
    """One per seed that has both and at least one more HPA."""
    found = []
    mine = [line for line in lines if line.workload == workload]
    for seed in sorted({line.seed for line in mine}):
        by_name = {line.contender: line for line in mine if line.seed == seed}
        if planner not in by_name or CHART not in by_name:
            continue
        own, chart = point_of(by_name[planner]), point_of(by_name[CHART])
        hpas = [point_of(line) for line in by_name.values() if not line.is_planner]
        family = [point_of(line) for line in by_name.values() if line.family == by_name[planner].family]
        own_edge = hours_at(hpas, own.met) if len(hpas) > 1 else None
        found.append(
            Pairing(
                seed=seed,
                planner=own,
                chart=chart,
                at_own=_fewer(own.hours, own_edge),
                at_chart=_fewer(hours_at(family, chart.met), hours_at(hpas, chart.met)),
                turns=by_name[planner].turns,
            )
        )
    return found


def point_of(line: Line) -> Point:
    return Point(hours=line.worker_hours, met=line.met_share)


def describe(found: Sequence[Pairing]) -> list[str]:
    """Rows of a table, one per seed, and their means."""
    rows = [
        "| seed | planner | chart's HPAs | hours | in time | at its attainment | at the chart's | turns | in bounds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found:
        own, chart = each.planner, each.chart
        rows.append(
            f"| {each.seed} | {own.hours:.2f} h, {own.met:.1%} | {chart.hours:.2f} h, {chart.met:.1%} "
            f"| {each.hours:+.0%} | {100 * each.met:+.1f} | {_share(each.at_own)} | {_share(each.at_chart)} "
            f"| {each.turns} | {'yes' if each.is_in_bounds else 'no'} |"
        )
    num = sum(each.is_in_bounds for each in found)
    rows.append(
        f"| mean | | | {_spread([each.hours for each in found], ' %')} | {_spread([each.met for each in found], '')} "
        f"| {_spread([each.at_own for each in found], ' %')} | {_spread([each.at_chart for each in found], ' %')} "
        f"| {max(each.turns for each in found)} | {num} of {len(found)} |"
    )
    return rows


def _fewer(mine: float | None, theirs: float | None) -> float | None:
    return None if mine is None or theirs is None else mine / theirs - 1.0


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:+.0%}"


def _spread(values: Sequence[float | None], unit: str) -> str:
    """In hundredths, of the seeds that have one."""
    known = [100 * value for value in values if value is not None]
    if not known:
        return "none"
    interval = Interval.of(known)
    half = "" if interval.half is None else f" ± {interval.half:.1f}"
    few = "" if len(known) == len(values) else f", {len(known)} seeds"
    return f"{interval.mean:+.1f}{half}{unit}{few}"


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tests.bench.planner_report", description=__doc__)
    arguments.add_argument("--kept", type=Path, default=Path(__file__).parent / "results")
    arguments.add_argument("--traces", type=Path, help="where azure2023_code.csv and mooncake_conversation.jsonl lie")
    arguments.add_argument("--workload", choices=list(WORKLOADS), action="append")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--plot", type=Path)
    asked = arguments.parse_args()
    if asked.traces is not None:
        play_missing(asked.traces, asked.kept, asked.workload or list(WORKLOADS), asked.seeds)
    lines = read_lines(asked.kept)
    for workload in dict.fromkeys(line.workload for line in lines):
        for planner in PLANNERS:
            found = pairings(lines, workload, planner)
            if found:
                print(f"\n{workload}: {planner}\n", *describe(found), sep="\n")
    if asked.plot is not None:
        from tests.bench.planner_plot import draw

        draw(lines, asked.plot)


if __name__ == "__main__":
    main()
