"""The planner against queue-depth HPAs, over paired seeds. The command is in planner_report.py.

Every contender plays every seed of every workload; a line of JSON each is kept, and what is there already is not played
again. About 10 s of one core per line.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from services.planner.record import DECIDER
from services.planner.settings import PlannerSettings
from services.simulator.scaling import ScalingStudy, run_one
from tests.bench.planner_workloads import WORKLOADS

CHART_FACTORS = (1.0, 1.5)
"""The chart's default targets, and how an operator may turn them: all by one factor."""

DEPTHS = (0.5, 1.0)
"""Of HPAs on waiting requests, per replica: with more they are later than any planner."""

DEFAULT = PlannerSettings().miss_share


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One play. `decider`: which version of the planner's decisions; empty for HPAs."""

    workload: str
    seed: int
    contender: str
    decider: str
    worker_hours: float
    met_share: float
    turns: int
    num_requests: int

    @property
    def is_planner(self) -> bool:
        return self.contender.startswith("planner")

    @property
    def family(self) -> str:
        """The contender without its setting."""
        return self.contender.partition(",")[0]


def read_lines(folder: Path) -> list[Line]:
    """What is kept, of this version's planner and of HPAs."""
    kept = [
        Line(**json.loads(text))
        for file in sorted(folder.glob("planner-*.jsonl"))
        for text in file.read_text(encoding="utf-8").splitlines()
    ]
    return [line for line in kept if line.decider in ("", DECIDER)]


def play(workload: str, traces: Path, seed: int, known: Sequence[Line]) -> Iterator[Line]:
    """Every contender that has no line yet."""
    loaded = WORKLOADS[workload](traces, seed)
    study = ScalingStudy(
        trace=loaded.trace,
        most=loaded.most,
        depths=DEPTHS,
        chart_factors=CHART_FACTORS,
        miss_shares=(DEFAULT,),
        followed_shares=(DEFAULT,),
    )
    done = {line.contender for line in known if (line.workload, line.seed) == (workload, seed)}
    for name, scaler in study.contenders().items():
        if name in done or name.startswith("static"):
            continue
        summary = run_one(study, name, scaler)
        yield Line(
            workload=workload,
            seed=seed,
            contender=name,
            decider=DECIDER if name.startswith("planner") else "",
            worker_hours=round(summary.worker_hours, 4),
            met_share=round(summary.met_share, 5),
            turns=summary.turns,
            num_requests=summary.num_requests,
        )


def play_missing(traces: Path, folder: Path, workloads: Sequence[str], num_seeds: int) -> None:
    """Seed by seed, so that what there is after an interruption is paired."""
    for seed in range(num_seeds):
        for workload in workloads:
            with (folder / f"planner-{workload}.jsonl").open("a", encoding="utf-8") as kept:
                for line in play(workload, traces, seed, read_lines(folder)):
                    kept.write(json.dumps(asdict(line)) + "\n")
                    kept.flush()
                    print(f"{workload} {seed} {line.contender}: {line.worker_hours:.2f} h, {line.met_share:.1%}")
